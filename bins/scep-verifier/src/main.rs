//! The verifier on the command line: arguments, files, a table, an exit code. The checks are in the libraries.

mod cli;
mod error;
mod explain;
mod hook;
mod inputs;
mod serve;
mod webhook;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = scep_keys::forbid_core_dumps() {
        // Not worth a refusal: a system that allows no such limit may write none either.
        eprintln!("scep-verifier: core dumps cannot be forbidden: {error}");
    }
    let done = match Cli::parse().command {
        Command::Explain(options) => explain::run(&options),
        Command::Hook(options) => hook::run(&options),
        Command::Serve(options) => serve::run(&options),
        Command::Completions { shell } => {
            cli::completions(shell);
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("scep-verifier: {error}");
        // Not 0 and not 1: a caller must not take a broken set-up for a verdict.
        ExitCode::from(2)
    })
}
