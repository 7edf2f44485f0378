//! The issuer of challenges on the command line: arguments, configuration, exit code. The work is in scep-issuance.

mod cli;
mod config;
mod error;
mod init;
mod mint;
mod serve;

use clap::Parser;
use cli::{Cli, Command, TokenCommand};
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Init(options) => init::run(&options),
        Command::AddGateway(options) => init::add_gateway(&options),
        Command::Mint(options) => mint::run(&options),
        Command::Lint { profile } => mint::lint(&profile),
        Command::Serve(options) => serve::run(&options),
        Command::Token { command: TokenCommand::Create(options) } => serve::create_token(&options),
        Command::Completions { shell } => {
            cli::completions(shell);
            Ok(())
        }
    };
    match done {
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
