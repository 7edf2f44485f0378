//! The command line.

use clap::{Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;

/// Checks a challenge blob and a certification request as the gateway does, without a gateway.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  scep-verifier explain --csr device.csr --tenant contoso --group main \\
        --issuer-key issuer.pub.pem --decryption-key challenge.key.pem --site-rules site-rules.toml

  micromdm's scepserver runs a program for each request; a script gives it its options:
        #!/bin/sh
        exec scep-verifier hook --ledger /var/lib/scep/ledger.sqlite --tenant contoso --group main \\
             --issuer-key issuer.pub.pem --decryption-key challenge.key.pem --site-rules rules.toml \\
             2>>/var/log/scep-verifier.log
  scepserver -csrverifierexec /usr/local/bin/that-script ...
        It throws away what the program says: without the redirection nobody learns why a request did
        not pass. Its certificates have digitalSignature and clientAuth whatever the request asks for,
        and of other names than the subject only DNS, e-mail, IP and URI: let profiles say the same.

  step-ca asks a service, by a webhook of the kind SCEPCHALLENGE:
        scep-verifier serve --listen 10.0.0.5:8443 --tls-certificate tls.pem --tls-key tls.key.pem \\
             --webhook-id ID --webhook-secret-file secret.txt --ledger ledger.sqlite --tenant contoso \\
             --group main --issuer-key issuer.pub.pem --decryption-key challenge.key.pem --site-rules rules.toml
        ID and secret are what `step ca provisioner webhook add` prints; its URL is https://10.0.0.5:8443/.
        step-ca's template decides the contents of its certificates: let it copy the request.

Exit codes: 0 the request is what its challenge allows, 1 it is not, 2 it could not be checked.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show field by field what the challenge expects and what the request has.
    Explain(ExplainOptions),
    /// Decide for another SCEP server: the request's DER on standard input, the verdict as exit code.
    ///
    /// The other server's CA takes names from the request, and some take everything, so the request must carry key usage and extended key usage itself,
    /// and nothing that the challenge does not name, not even inert content. Each challenge passes once; the other
    /// server's answer is not known here, so even the same request does not pass again.
    Hook(HookOptions),
    /// Decide for step-ca: serve its SCEPCHALLENGE webhook, over HTTPS or, on loopback, HTTP.
    ///
    /// Decides as `hook` does. Tested against the webhook's published JSON, not against a step-ca, of which versions
    /// with this webhook were not at hand. The ledger is this process's own while it runs: no `hook` beside it.
    Serve(ServeOptions),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Whose challenges are accepted, and within which rules.
#[derive(Debug, Args)]
pub(crate) struct TrustOptions {
    /// The tenant.
    #[arg(long, env = "SCEP_TENANT")]
    pub(crate) tenant: String,
    /// The gateway group: the audience of the challenges.
    #[arg(long, env = "SCEP_GROUP")]
    pub(crate) group: String,
    /// A public signing key of the issuer, PEM. Repeatable.
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) issuer_key: Vec<PathBuf>,
    /// The key that opens challenges, PKCS #8 PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) decryption_key: PathBuf,
    /// The site's rules, TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) site_rules: PathBuf,
    /// Longest lifetime of a challenge.
    #[arg(long, default_value = "60m", value_parser = duration, value_name = "TIME")]
    pub(crate) max_lifetime: std::time::Duration,
    /// By how much clocks may differ.
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "TIME")]
    pub(crate) clock_skew: std::time::Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainOptions {
    #[command(flatten)]
    pub(crate) trust: TrustOptions,
    /// The certification request, DER or PEM; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) csr: PathBuf,
    /// A file with the challenge, instead of the one in the request.
    #[arg(long, value_name = "FILE")]
    pub(crate) challenge_file: Option<PathBuf>,
    /// Check as of this instant (2026-01-31T12:00:00Z) instead of now.
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
    /// Judge as `hook` does, which demands usages in the request and takes no inert content. No ledger is asked.
    #[arg(long)]
    pub(crate) hook: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HookOptions {
    #[command(flatten)]
    pub(crate) trust: TrustOptions,
    /// The ledger that remembers which challenges were used; made when it does not exist.
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    #[command(flatten)]
    pub(crate) trust: TrustOptions,
    /// The ledger that remembers which challenges were used; made when it does not exist.
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: PathBuf,
    /// Where to serve. Port 0 takes a free one, which the log names.
    #[arg(long, default_value = "127.0.0.1:8443", value_name = "IP:PORT")]
    pub(crate) listen: std::net::SocketAddr,
    /// The server's certificate with those above it, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The webhook's id at step-ca.
    #[arg(long, value_name = "ID")]
    pub(crate) webhook_id: String,
    /// A file with the webhook's secret, base64 as step-ca prints it.
    #[arg(long, value_name = "FILE")]
    pub(crate) webhook_secret_file: PathBuf,
    /// For a TLS handshake, for a request's head and for its body. step-ca itself waits for ten seconds.
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: std::time::Duration,
}

fn duration(text: &str) -> Result<std::time::Duration, scep_types::DurationError> {
    scep_types::parse_duration(text)
}

/// Writes a completion script to standard output.
pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "scep-verifier", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
