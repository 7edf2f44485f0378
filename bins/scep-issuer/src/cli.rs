//! The command line.

use crate::admin;
use crate::config::KeyKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Makes challenge blobs: what a certificate request must contain, signed and encrypted for one gateway group.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Without a service:
  scep-issuer init --dir issuer --tenant contoso
  scep-gateway init --dir gw --tenant contoso --group main \\
        --issuer-key issuer/issuer.pub.pem --allow-suffix example.org
  scep-issuer add-gateway --config issuer/issuer.toml --group main --public-key gw/challenge.pub.pem
  scep-issuer mint --config issuer/issuer.toml --profile wifi.toml --device 0d0fbd6e \\
        --attribute DeviceName=laptop-1 --format mobileconfig --url https://scep.example.org/scep

As a service, which gateways enrol with and device management asks:
  scep-issuer init --dir issuer --tenant contoso --listen 0.0.0.0:8445 \\
        --public-name issuer.example.org
  scep-issuer token create --config issuer/issuer.toml --scope admin > admin.token
  scep-issuer serve --config issuer/issuer.toml
  export SCEP_ISSUER_URL=https://issuer.example.org:8445
  export SCEP_ISSUER_TOKEN_FILE=admin.token SCEP_ISSUER_CA_FILE=issuer/tls.pem
  scep-issuer gateway token new --group main
  scep-issuer profile add --file wifi.toml
  scep-issuer device add 0d0fbd6e --attribute DeviceName=laptop-1
  scep-issuer assign --profile wifi --device 0d0fbd6e
  scep-issuer challenge new --profile wifi --device 0d0fbd6e --format mobileconfig";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make keys and a configuration in a new folder; with --listen everything that a service needs.
    Init(InitOptions),
    /// Take up a gateway group in the configuration: the public key its challenges are encrypted to.
    AddGateway(AddGatewayOptions),
    /// Make one challenge and print it, without a service.
    Mint(MintOptions),
    /// Read a profile and print what is questionable about it.
    Lint {
        /// The profile file.
        #[arg(long, value_name = "FILE")]
        profile: PathBuf,
    },
    /// Serve the admin API and gateways, until SIGTERM or SIGINT. SIGHUP: read keys and TLS files anew.
    Serve(ServeOptions),
    /// Print the fingerprint of the TLS key, which gateways and administrators pin.
    Fingerprint {
        /// The configuration file, with a section `[service]`.
        #[arg(long, env = "SCEP_ISSUER_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// The issuer's own keys: rotate, list, retire.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Tokens for the admin API. Works on the database itself, also while the service runs.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    #[command(flatten)]
    Admin(admin::Command),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InitOptions {
    /// The folder to make. Refused when it has something in it.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The tenant whose challenges these are.
    #[arg(long)]
    pub(crate) tenant: String,
    /// The signing key: p256, or rsa2048 to rsa4096.
    #[arg(long, default_value = "p256", value_name = "ALGORITHM")]
    pub(crate) key: String,
    /// Make everything that a service needs, which is to listen here: a command key, a CA for gateways, a TLS
    /// certificate that renews itself, a database's name.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// A name or address by which the service is reached, for the TLS certificate; --listen's address when left out.
    /// Repeatable.
    #[arg(long, value_name = "NAME", requires = "listen")]
    pub(crate) public_name: Vec<String>,
    /// A TLS certificate chain of your own instead, PEM, which you renew yourself. Gateways pin its key.
    #[arg(long, value_name = "FILE", requires = "listen", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Keep everything on this PostgreSQL server instead of in an SQLite file: a URL or key=value words.
    #[arg(long, value_name = "CONNECTION", requires = "listen")]
    pub(crate) postgres: Option<String>,
    /// A file with the password of its user.
    #[arg(long, value_name = "FILE", requires = "postgres")]
    pub(crate) postgres_password_file: Option<PathBuf>,
}

/// In which form a command that does not use the API prints.
#[derive(Debug, Args)]
pub(crate) struct OutputOptions {
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
}

impl OutputOptions {
    pub(crate) const fn form(&self) -> admin::table::Form {
        if self.json { admin::table::Form::Json } else { admin::table::Form::People }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a new key. Those before it are valid for the overlap.
    Rotate(KeyRotateOptions),
    /// Show every key and certificate of the issuer's own, with the days that are left.
    List(KeyListOptions),
    /// Take a key out of use at once and destroy it.
    Retire(KeyRetireOptions),
}

#[derive(Debug, Args)]
pub(crate) struct KeyRotateOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_ISSUER_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// What the key signs.
    #[arg(long, value_enum)]
    pub(crate) what: KeyKind,
    /// For how long the keys before it are valid.
    #[arg(long, default_value = "30d", value_name = "TIME")]
    pub(crate) overlap: String,
    /// For how long the new key is valid.
    #[arg(long, default_value = "3652d", value_name = "TIME")]
    pub(crate) life: String,
    /// The new key: p256, or rsa2048 to rsa4096.
    #[arg(long, default_value = "p256", value_name = "ALGORITHM")]
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct KeyListOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_ISSUER_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

#[derive(Debug, Args)]
pub(crate) struct KeyRetireOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_ISSUER_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The key's id, or how it begins.
    #[arg(value_name = "KEY-ID")]
    pub(crate) key_id: String,
    /// Leave its file where it is.
    #[arg(long)]
    pub(crate) keep_file: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AddGatewayOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_ISSUER_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The gateway group.
    #[arg(long)]
    pub(crate) group: String,
    /// Its public challenge key, PEM: challenge.pub.pem of the gateway's folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) public_key: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct MintOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_ISSUER_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The gateway group; may be left out when there is one only.
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// The profile file.
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: PathBuf,
    /// The device.
    #[arg(long, value_name = "ID")]
    pub(crate) device: String,
    /// The user, for profiles of users.
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// What is known of the device and user: a variable of the profile and its value. Repeatable.
    #[arg(long = "attribute", short = 'a', value_name = "NAME=VALUE")]
    pub(crate) attributes: Vec<String>,
    /// A TOML file of such pairs, instead.
    #[arg(long, value_name = "FILE", conflicts_with = "attributes")]
    pub(crate) attributes_file: Option<PathBuf>,
    /// What to print: the challenge alone, or what device management sends to a device.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// The SCEP server's URL, in the payload. Repeatable, best first: Apple's devices use the first.
    #[arg(long = "url", value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// The CA's certificate, PEM: its root for Windows, which needs it; what GetCACert gives for Apple.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_certificate: Option<PathBuf>,
    /// Where Windows keeps the key.
    #[arg(long, value_enum, default_value_t = KeyPlace::Software)]
    pub(crate) windows_key: KeyPlace,
}

/// What `mint` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The challenge alone.
    Text,
    /// Everything that a request must contain, as a JSON object.
    Json,
    /// Apple's configuration profile.
    Mobileconfig,
    /// SyncML for Windows.
    Syncml,
}

/// Where Windows keeps a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum KeyPlace {
    /// In the TPM, or not at all.
    Tpm,
    /// In the TPM where there is one.
    TpmIfPresent,
    /// In software.
    Software,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// The configuration file, with a section `[service]`.
    #[arg(long, env = "SCEP_ISSUER_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, once: the database has its hash alone.
    Create(TokenCreateOptions),
    /// Show the tokens, by what their hashes begin with.
    List(TokenListOptions),
    /// Take a token's rights.
    Revoke(TokenRevokeOptions),
}

#[derive(Debug, Args)]
pub(crate) struct TokenListOptions {
    /// The configuration file, with a section `[service]`.
    #[arg(long, env = "SCEP_ISSUER_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The tenant; that of the configuration when left out.
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRevokeOptions {
    /// The configuration file, with a section `[service]`.
    #[arg(long, env = "SCEP_ISSUER_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The tenant; that of the configuration when left out.
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<String>,
    /// The token's id, as `token list` shows it.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateOptions {
    /// The configuration file, with a section `[service]`.
    #[arg(long, env = "SCEP_ISSUER_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// What it allows: admin, challenges:write or read. Repeatable.
    #[arg(long, required = true, value_name = "SCOPE")]
    pub(crate) scope: Vec<String>,
    /// Its tenant, made when it is new; that of the configuration when left out.
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<String>,
    /// How long it lives.
    #[arg(long, default_value = "365d", value_name = "TIME")]
    pub(crate) expires: String,
}

/// Writes a completion script to standard output.
pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "scep-issuer", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
