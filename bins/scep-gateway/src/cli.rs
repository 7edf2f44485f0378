//! The command line.

use clap::{Args, CommandFactory, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A SCEP gateway (RFC 8894) that issues exactly what a signed and encrypted challenge describes.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  scep-gateway demo
        The whole system in one process, with every attack that must fail.
  scep-gateway init --dir gw --tenant contoso --group main --issuer-key issuer/issuer.pub.pem \\
        --allow-suffix example.org
  scep-gateway check-config --config gw/gateway.toml
  scep-gateway serve --config gw/gateway.toml
  scep-gateway revoke --config gw/gateway.toml --serial 4F3A... --reason keyCompromise --operator alice";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make keys, a CA, RA certificates, a ledger, site rules and a configuration in a new folder.
    Init(InitOptions),
    /// Serve SCEP.
    Serve {
        /// The configuration file.
        #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Read the configuration and everything it names, say what is wrong, and stop.
    CheckConfig {
        /// The configuration file.
        #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
        config: PathBuf,
    },
    /// Order the revocation of a certificate that this gateway has issued. The gateway must be stopped.
    Revoke(RevokeOptions),
    /// Let the revocations go that the brake on mass revocation holds. The gateway must be stopped.
    ConfirmRevocations(OperatorOptions),
    /// Do what is ordered and write the CRL to a file. The gateway must be stopped.
    Crl(CrlOptions),
    /// Set the ledger's clock mark back after the system clock had jumped forward. Audited.
    ClockReset(OperatorOptions),
    /// Run the whole system on loopback and show what it issues and what it refuses.
    Demo(DemoOptions),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Options of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitOptions {
    /// The folder to make. Refused when it has something in it.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The tenant at the issuer.
    #[arg(long)]
    pub(crate) tenant: String,
    /// The gateway group: the audience of its challenges.
    #[arg(long)]
    pub(crate) group: String,
    /// The issuer's public signing key, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) issuer_key: PathBuf,
    /// Names that may be certified: a DNS, e-mail or UPN suffix. Repeatable. Asked for when missing.
    #[arg(long = "allow-suffix", value_name = "SUFFIX")]
    pub(crate) allow_suffix: Vec<String>,
    /// Where to serve.
    #[arg(long, default_value = "127.0.0.1:8080", value_parser = address, value_name = "IP:PORT")]
    pub(crate) listen: SocketAddr,
    /// Where to serve /healthz and /metrics; loopback only.
    #[arg(long, default_value = "127.0.0.1:9090", value_parser = address, value_name = "IP:PORT")]
    pub(crate) admin_listen: SocketAddr,
    /// How devices reach the gateway, http://...: written into certificates as the place of the CRL.
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// The CA's key: p256, rsa2048, rsa3072 or rsa4096. Some old clients (pyscep, micromdm's scepclient) need RSA.
    #[arg(long, default_value = "p256", value_name = "ALGORITHM")]
    pub(crate) ca_key: String,
    /// The challenge decryption key: p256, or rsa2048 to rsa4096.
    #[arg(long, default_value = "p256", value_name = "ALGORITHM")]
    pub(crate) challenge_key: String,
    /// The CA's name, most significant part first.
    #[arg(long, default_value = "O=Sceptic, CN=Device CA", value_name = "DN")]
    pub(crate) ca_name: String,
}

/// Options of `revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The certificate's serial number, hexadecimal, as `openssl x509 -serial` prints it.
    #[arg(long, value_name = "HEX")]
    pub(crate) serial: String,
    /// Why: keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn or unspecified.
    #[arg(long)]
    pub(crate) reason: String,
    /// Who orders this: kept in the audit.
    #[arg(long)]
    pub(crate) operator: String,
}

/// Options of `crl`.
#[derive(Debug, Args)]
pub(crate) struct CrlOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Where to write it, DER. What is there is replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// Options of `clock-reset` and `confirm-revocations`.
#[derive(Debug, Args)]
pub(crate) struct OperatorOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Who does this and why: kept in the audit.
    #[arg(long)]
    pub(crate) operator: String,
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// The folder to make; by default a new one under the system's temporary folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Go on serving, and print commands to try.
    #[arg(long)]
    pub(crate) keep_running: bool,
    /// Where to serve; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_parser = address, value_name = "IP:PORT")]
    pub(crate) listen: SocketAddr,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "an IP address and a port, like 127.0.0.1:8080 or [::1]:8080".to_owned())
}

/// Writes a completion script to standard output.
pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "scep-gateway", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
