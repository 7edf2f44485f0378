//! The issuer of challenges on the command line: arguments, configuration, exit code. The work is in scep-issuance.

mod admin;
mod cli;
mod clock;
mod config;
mod error;
mod init;
mod keys;
mod mint;
mod run;
mod serve;
mod store;
mod tls;
mod token;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run::run(cli::Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scep-issuer: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("  {hint}");
            }
            ExitCode::from(2)
        }
    }
}
