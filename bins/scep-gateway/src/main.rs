//! The SCEP gateway: arguments, configuration, wiring, exit code. What it does is in the libraries.

mod ca;
mod check;
mod cli;
mod clock_reset;
mod config;
mod connector;
mod demo;
mod doctor;
mod enroll;
mod error;
mod export;
mod held;
mod init;
mod keeper;
mod keystore;
mod label;
mod logging;
mod loopback;
#[cfg(feature = "openbao")]
mod openbao;
mod renewal;
mod responder;
mod revoke;
mod rollover;
mod serve;
mod status;
mod template;
mod token;
mod upstream;

use clap::Parser;
use cli::{Cli, Command, ConnectorCommand};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = scep_keys::forbid_core_dumps() {
        // Not worth a refusal: a system that allows no such limit may write none either.
        eprintln!("scep-gateway: core dumps cannot be forbidden: {error}");
    }
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Init(options) => init::run(&options),
        Command::Enroll(options) => enroll::run(&options),
        Command::Connector { command: ConnectorCommand::Export(options) } => {
            export::export(&options)
        }
        Command::Connector { command: ConnectorCommand::Import(options) } => {
            export::import(&options)
        }
        Command::RenewRa(options) => keeper::renew_now(&options),
        Command::TokenKey(options) => token::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Serve { config } => serve::run(&config),
        Command::CheckConfig { config } => check::run(&config),
        Command::Held { command } => held::run(&command),
        Command::ClockReset(options) => clock_reset::run(&options),
        Command::Revoke(options) => revoke::run(&options),
        Command::ConfirmRevocations(options) => revoke::confirm(&options),
        Command::Ca { command } => rollover::run(&command),
        Command::Crl(options) => revoke::crl(&options),
        Command::Doctor(options) => doctor::run(&options),
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
