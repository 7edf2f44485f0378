//! The SCEP gateway: arguments, configuration, wiring, exit code. What it does is in the libraries.

mod check;
mod cli;
mod clock_reset;
mod config;
mod demo;
mod error;
mod init;
mod logging;
mod revoke;
mod serve;
mod template;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Init(options) => init::run(&options),
        Command::Serve { config } => serve::run(&config),
        Command::CheckConfig { config } => check::run(&config),
        Command::ClockReset(options) => clock_reset::run(&options),
        Command::Revoke(options) => revoke::run(&options),
        Command::ConfirmRevocations(options) => revoke::confirm(&options),
        Command::Crl(options) => revoke::crl(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Completions { shell } => {
            cli::completions(shell);
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("scep-gateway: {error}");
        if let Some(hint) = error.hint() {
            eprintln!("  {hint}");
        }
        error.exit_code()
    })
}
