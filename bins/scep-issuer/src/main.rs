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
    if let Err(error) = scep_keys::forbid_core_dumps() {
        // Not worth a refusal: a system that allows no such limit may write none either.
        eprintln!("scep-issuer: core dumps cannot be forbidden: {error}");
    }
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
