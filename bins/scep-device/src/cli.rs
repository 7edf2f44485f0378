//! The command line.

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use scep_types::CertificateFingerprint;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A SCEP client (RFC 8894): makes a key, asks for a certificate, renews it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  scep-device caps --url http://scep.example.org/scep
  scep-device enrol --url http://scep.example.org/scep --ca ca.cert.pem \\
        --subject 'O=Example, CN=laptop-1' --dns laptop-1.example.org \\
        --key laptop.key.pem --out laptop.cert.pem --challenge-file challenge.txt
  scep-device enrol ... --key-type p256    # the answer is encrypted with the challenge
  scep-device renew --url http://scep.example.org/scep --ca ca.cert.pem \\
        --cert laptop.cert.pem --key laptop.key.pem --new-key new.key.pem --out new.cert.pem
  (with --challenge-file where each certificate needs a new challenge)

Exit codes: 0 done, 1 the server could not be reached or answered wrongly, 2 wrong arguments or
files, 3 refused by the server, 4 still pending.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what the server says it can do.
    Caps(Url),
    /// Fetch the CA and RA certificates, PEM.
    Cacert {
        #[command(flatten)]
        server: ServerOptions,
        /// Where to write them; standard output when left out.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Fetch the certificates of the CA that comes next, PEM: believed when the present one has signed them.
    Nextca {
        #[command(flatten)]
        server: ServerOptions,
        /// Where to write them; standard output when left out.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Ask for a first certificate.
    Enrol(EnrolOptions),
    /// Replace a certificate, signing with it; without a challenge where its profile allows that.
    Renew(RenewOptions),
    /// Ask again for a certificate that was pending.
    Poll(PollOptions),
    /// Fetch a certificate by serial number.
    Getcert(QueryOptions),
    /// Fetch the CRL.
    Getcrl(QueryOptions),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Url {
    /// The server.
    #[arg(long)]
    pub(crate) url: String,
}

/// The server, and why its certificates are believed.
#[derive(Debug, Args)]
pub(crate) struct ServerOptions {
    /// The server.
    #[arg(long)]
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) trust: TrustOptions,
    /// How messages are sent.
    #[arg(long, value_enum, default_value_t = Method::Auto)]
    pub(crate) method: Method,
    /// Encrypt content keys with RSAES-OAEP; few servers know it.
    #[arg(long)]
    pub(crate) oaep: bool,
    /// Serve servers that know neither AES nor SHA-2, with 3DES and SHA-1.
    #[arg(long)]
    pub(crate) legacy: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct TrustOptions {
    /// SHA-256 fingerprint of the CA's certificate, hexadecimal.
    #[arg(long, value_parser = fingerprint, value_name = "HEX")]
    pub(crate) ca_fingerprint: Option<CertificateFingerprint>,
    /// The CA's certificate, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Believe whatever the server sends. Whoever is on the path can read the challenge.
    #[arg(long)]
    pub(crate) trust_anything: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Method {
    /// POST where the server says so, else GET.
    Auto,
    /// POST.
    Post,
    /// GET.
    Get,
}

#[derive(Debug, Args)]
pub(crate) struct EnrolOptions {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// The subject, most significant part first: 'C=CH, O=Example, CN=laptop-1'.
    #[arg(long, default_value = "", value_name = "DN")]
    pub(crate) subject: String,
    /// A DNS name. Repeatable, as all names are.
    #[arg(long)]
    pub(crate) dns: Vec<String>,
    /// A user principal name.
    #[arg(long)]
    pub(crate) upn: Vec<String>,
    /// An e-mail address.
    #[arg(long)]
    pub(crate) email: Vec<String>,
    /// A URI.
    #[arg(long)]
    pub(crate) uri: Vec<String>,
    /// An IP address.
    #[arg(long)]
    pub(crate) ip: Vec<IpAddr>,
    /// A key usage to ask for (digitalSignature, keyEncipherment, ...). Left out: none is asked for.
    #[arg(long, value_name = "NAME")]
    pub(crate) key_usage: Vec<String>,
    /// An extended key usage to ask for (clientAuth, or an OID).
    #[arg(long, value_name = "NAME")]
    pub(crate) eku: Vec<String>,
    /// The key, PKCS #8 PEM; made when the file does not exist.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// What to make: rsa2048, rsa3072, rsa4096, p256 or p384. With an EC key a challenge is needed.
    #[arg(long, visible_alias = "key-type", default_value = "rsa2048", value_name = "ALGORITHM")]
    pub(crate) key_algorithm: String,
    #[command(flatten)]
    pub(crate) challenge: ChallengeOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct ChallengeOptions {
    /// The challenge. Others on this machine can see it in the list of processes.
    #[arg(long, env = "SCEP_CHALLENGE", hide_env_values = true, value_name = "TEXT")]
    pub(crate) challenge: Option<String>,
    /// A file with the challenge; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) challenge_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct OutputOptions {
    /// Where to write the certificate, PEM; nothing is overwritten.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Where to write the certificates above it, when the server sent some.
    #[arg(long, value_name = "FILE")]
    pub(crate) chain_out: Option<PathBuf>,
    /// How often to ask again while the request is pending.
    #[arg(long, default_value_t = 60, value_name = "N")]
    pub(crate) polls: u32,
    /// How long to wait before each of them.
    #[arg(long, default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub(crate) poll_interval: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct RenewOptions {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// The certificate to be renewed, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: PathBuf,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The new key; made, as the old one's kind, when the file does not exist.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key: PathBuf,
    #[command(flatten)]
    pub(crate) challenge: ChallengeOptions,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

#[derive(Debug, Args)]
pub(crate) struct PollOptions {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// The transactionID that was printed.
    #[arg(long)]
    pub(crate) transaction: String,
    /// The request that was sent: beside the certificate's file, with `.csr` added.
    #[arg(long, value_name = "FILE")]
    pub(crate) request: PathBuf,
    /// The key that signed it.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

#[derive(Debug, Args)]
pub(crate) struct QueryOptions {
    #[command(flatten)]
    pub(crate) server: ServerOptions,
    /// A certificate of this CA, to sign the request with.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: PathBuf,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The serial number, hexadecimal; that of --cert when left out.
    #[arg(long, value_name = "HEX")]
    pub(crate) serial: Option<String>,
    /// Where to write the answer, PEM; standard output when left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

fn fingerprint(text: &str) -> Result<CertificateFingerprint, String> {
    let plain: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    CertificateFingerprint::from_hex(&plain)
        .ok_or_else(|| "a SHA-256 fingerprint has 64 hexadecimal digits".to_owned())
}

fn duration(text: &str) -> Result<Duration, scep_types::DurationError> {
    scep_types::parse_duration(text)
}

/// Writes a completion script to standard output.
pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "scep-device", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn fingerprints_are_read_as_tools_print_them() {
        let hex = "ab".repeat(32);
        let colons: Vec<&str> = std::iter::repeat_n("AB", 32).collect();
        assert_eq!(fingerprint(&hex), fingerprint(&colons.join(":")));
        assert!(fingerprint("ab").is_err());
    }
}
