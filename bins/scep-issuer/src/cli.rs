//! The command line.

use clap::{Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;

/// Makes challenge blobs: what a certificate request must contain, signed and encrypted for one gateway group.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  scep-issuer init --dir issuer --tenant contoso
  scep-gateway init --dir gw --tenant contoso --group main \\
        --issuer-key issuer/issuer.pub.pem --allow-suffix example.org
  scep-issuer add-gateway --config issuer/issuer.toml --group main --public-key gw/challenge.pub.pem
  scep-issuer mint --config issuer/issuer.toml --profile wifi.toml --device 0d0fbd6e \\
        --attribute DeviceName=laptop-1
  scep-issuer mint --config issuer/issuer.toml --profile wifi.toml --device 0d0fbd6e \\
        --attribute DeviceName=laptop-1 --format mobileconfig --url https://scep.example.org/scep";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a signing key and a configuration in a new folder.
    Init(InitOptions),
    /// Take up a gateway group: the public key its challenges are encrypted to.
    AddGateway(AddGatewayOptions),
    /// Make one challenge and print it.
    Mint(MintOptions),
    /// Read a profile and print what is questionable about it.
    Lint {
        /// The profile file.
        #[arg(long, value_name = "FILE")]
        profile: PathBuf,
    },
    /// Serve the admin API, until SIGTERM or SIGINT.
    Serve(ServeOptions),
    /// Tokens for the admin API.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
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
