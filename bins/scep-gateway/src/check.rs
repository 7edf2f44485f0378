//! `check-config`: read everything, say what is there, and stop.

use crate::config::{Challenges, Config};
use crate::error::GatewayError;
use scep_keys::AwsLc;
use scep_server::SystemClock;
use scep_types::{Clock, CryptoProvider};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

pub(crate) fn run(path: &Path) -> Result<ExitCode, GatewayError> {
    let now = SystemClock.now();
    let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
    let config = Config::load(path, now, &provider)?;
    for owned in &config.certificates {
        if owned.certificate.not_after() <= now {
            let ended = owned.certificate.not_after();
            return Err(GatewayError::config(owned.what, format!("expired at {ended}")));
        }
    }
    println!("{} is complete and consistent.", path.display());
    println!("serves SCEP on {}, health and metrics on {}", config.listen, config.admin_listen);
    println!("ledger   {}", config.ledger);
    for endpoint in &config.endpoints {
        println!("endpoint {:30} {} (signer: {:?})", endpoint.path, endpoint.name, endpoint.signer);
    }
    for (role, key) in &config.keys {
        println!("key      {role:30} {} {}", key.algorithm(), key.key_id());
    }
    for (what, when) in &config.expiries {
        let days = when.since(now).as_secs() / 86_400;
        println!("expires  {what:30} {when} ({days} days)");
    }
    if let Challenges::Issuer(link) = &config.challenges {
        let enrolled = match link.state.read()? {
            Some(state) => format!("enrolled as connector {}", state.connector),
            None => "not enrolled yet: run `scep-gateway enroll`".into(),
        };
        println!("issuer   {} ({enrolled})", link.settings.issuer.as_str());
    }
    println!("site rules {}", config.site_rules.digest());
    Ok(ExitCode::SUCCESS)
}
