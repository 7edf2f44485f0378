//! `clock-reset`: mend a clock mark that one forward jump has spoilt.

use crate::cli::OperatorOptions;
use crate::config::Config;
use crate::error::GatewayError;
use scep_keys::AwsLc;
use scep_server::SystemClock;
use scep_types::{Clock, CryptoProvider};
use std::process::ExitCode;
use std::sync::Arc;

pub(crate) fn run(options: &OperatorOptions) -> Result<ExitCode, GatewayError> {
    let now = SystemClock.now();
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let config = Config::load(&options.config, now, &provider)?;
    crate::serve::runtime()?.block_on(async {
        let ledger = config.ledger.open().await?;
        ledger.clock_reset(now, &options.operator).await?;
        println!("the ledger's clock mark is now {now}; the change is in its audit");
        Ok(ExitCode::SUCCESS)
    })
}
