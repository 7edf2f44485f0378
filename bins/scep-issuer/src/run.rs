//! Which command is done where.

use crate::cli::{self, Command, KeyCommand, TokenCommand};
use crate::error::IssuerError;
use crate::{admin, init, keys, mint, serve, tls, token};

/// Does what the command line says.
pub(crate) fn run(command: Command) -> Result<(), IssuerError> {
    match command {
        Command::Init(options) => init::run(&options),
        Command::AddGateway(options) => init::add_gateway(&options),
        Command::Mint(options) => mint::run(&options),
        Command::Lint { profile } => mint::lint(&profile),
        Command::Serve(options) => serve::run(&options),
        Command::Fingerprint { config } => tls::fingerprint(&config),
        Command::Key { command } => match command {
            KeyCommand::Rotate(options) => keys::rotate(&options),
            KeyCommand::List(options) => keys::list(&options),
            KeyCommand::Retire(options) => keys::retire(&options),
        },
        Command::Token { command } => match command {
            TokenCommand::Create(options) => token::create(&options),
            TokenCommand::List(options) => token::list(&options),
            TokenCommand::Revoke(options) => token::revoke(&options),
        },
        Command::Admin(command) => admin::run(command),
        Command::Completions { shell } => {
            cli::completions(shell);
            Ok(())
        }
    }
}
