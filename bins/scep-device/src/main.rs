//! A SCEP client on the command line: arguments, key files, progress, exit code. The protocol is in scep-client.

mod ask;
mod cli;
mod error;
mod files;
mod progress;

use clap::Parser;
use cli::{Cli, Command};
use error::DeviceError;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = scep_keys::forbid_core_dumps() {
        // Not worth a refusal: a system that allows no such limit may write none either.
        eprintln!("scep-device: core dumps cannot be forbidden: {error}");
    }
    let cli = Cli::parse();
    if let Command::Completions { shell } = cli.command {
        cli::completions(shell);
        return ExitCode::SUCCESS;
    }
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DeviceError::Runtime)
        .and_then(|runtime| runtime.block_on(ask::run(cli.command)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scep-device: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("  {hint}");
            }
            error.exit_code()
        }
    }
}
