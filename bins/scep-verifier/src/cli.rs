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
