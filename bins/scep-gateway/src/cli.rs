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
  scep-gateway init --dir gw --tenant contoso --group main --issuer https://issuer.example.org \\
        --allow-suffix example.org
  scep-gateway init --dir gw --tenant contoso --group main --issuer https://issuer.example.org \\
        --allow-suffix example.org --ca openbao --bao-address https://bao.example.org:8200 \\
        --bao-tls-pin 5f0c... --bao-role-id 6c1b... --bao-secret-id-file secret-id
  scep-gateway enroll --config gw/gateway.toml --token-file token.txt --issuer-fingerprint 5f0c...
  scep-gateway status --config gw/gateway.toml
  scep-gateway check-config --config gw/gateway.toml
  scep-gateway serve --config gw/gateway.toml
  scep-gateway held list --config gw/gateway.toml
  scep-gateway held approve 7 --person alice --config gw/gateway.toml
  scep-gateway doctor https://scep.example.org/scep
  scep-gateway revoke --config gw/gateway.toml --serial 4F3A... --reason keyCompromise --operator alice";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make keys, a CA, RA certificates, a ledger, site rules and a configuration in a new folder.
    Init(Box<InitOptions>),
    /// Enrol with the issuer that the configuration names, with a one-time token. The gateway must be stopped.
    ///
    /// Makes the connector's keys in the folder of its state, and keeps what the issuer answers. After a crash or a
    /// lost answer the same command with the same token does the rest. Enrolling anew, with a new token, keeps the
    /// ledger, its queue of reports, and the decryption key.
    Enroll(EnrollOptions),
    /// The group's decryption key, for gateways that share a ledger.
    Connector {
        /// What to do with it.
        #[command(subcommand)]
        command: ConnectorCommand,
    },
    /// List certificates and keys with the days they have left, and how the gateway and its link are.
    ///
    /// Works while the gateway runs and while it does not. Exit code: 0, all is well; 1, something needs an operator
    /// (an expiry in less than 30 days, a gateway that has not enrolled, does not run or does not issue, trouble with the
    /// issuer, requests that wait for approval, revocations that the brake holds); 2, the configuration or what it names
    /// cannot be read.
    Status(StatusOptions),
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
    /// Renew the RA's certificates now, with new keys. A running gateway takes them within a minute. Where there are none
    /// yet, as with a CA in OpenBao, the first ones are made.
    ///
    /// For a group of gateways, whose RA no gateway renews by itself: afterwards copy the RA's files to the others, the
    /// `.previous` ones too.
    RenewRa(RenewRaOptions),
    /// Make a key on a token (PKCS #11), and write its public key or certificate.
    ///
    /// The key never leaves the token. Afterwards put its URI and the file into the configuration.
    TokenKey(TokenKeyOptions),
    /// The roll-over of a CA: what the next one needs.
    Ca {
        /// What to do.
        #[command(subcommand)]
        command: CaCommand,
    },
    /// Order the revocation of a certificate that this gateway has issued. The gateway must be stopped.
    Revoke(RevokeOptions),
    /// Let the revocations go that the brake on mass revocation holds. The gateway must be stopped.
    ConfirmRevocations(OperatorOptions),
    /// Do what is ordered and write the CRL to a file. The gateway must be stopped.
    Crl(CrlOptions),
    /// The requests that wait for a person's approval: profiles with `approval = "manual"`.
    ///
    /// Works while the gateway runs, over its loopback listener with `admin_token`, and while it does not; with a ledger in
    /// PostgreSQL always in the database itself.
    Held {
        /// What to do with them.
        #[command(subcommand)]
        command: HeldCommand,
    },
    /// Set the ledger's clock mark back after the system clock had jumped forward. Audited.
    ClockReset(OperatorOptions),
    /// Ask a SCEP server as the clients of the field do, and say which of them would break, and where a request died.
    ///
    /// Works on any SCEP URL. Nothing can be issued for what it sends: requests without a challenge, with a signature
    /// that is not by their key. Exit code: 0, all is well; 1, some old client may break; 2, clients break, or the
    /// server could not be asked.
    Doctor(DoctorOptions),
    /// Run the whole system on loopback and show what it issues and what it refuses.
    Demo(DemoOptions),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Options of `renew-ra`.
#[derive(Debug, Args)]
pub(crate) struct RenewRaOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The CA whose RA is renewed, by its name in `[[authorities]]`; by default every CA's.
    #[arg(long, value_name = "NAME")]
    pub(crate) ca: Option<String>,
}

/// Options of `token-key`.
#[derive(Debug, Args)]
pub(crate) struct TokenKeyOptions {
    /// The new key's name: pkcs11:token=...;object=...?module-path=...&pin-source=...
    #[arg(long, value_name = "URI")]
    pub(crate) key: String,
    /// What it is for.
    #[arg(long = "for", value_enum, value_name = "ROLE")]
    pub(crate) role: TokenKeyRole,
    /// p256, p384, rsa2048, rsa3072 or rsa4096. By default p256, and rsa2048 for an RA.
    #[arg(long)]
    pub(crate) algorithm: Option<String>,
    /// The configuration whose CA certifies an RA's key.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Which of its CAs, by its name in `[[authorities]]`.
    #[arg(long, default_value = "main", value_name = "NAME")]
    pub(crate) ca: String,
    /// The certificate's name, most significant part first.
    #[arg(long, value_name = "DN")]
    pub(crate) name: Option<String>,
    /// How long the certificate is good: by default 10 years for a CA and a year for an RA.
    #[arg(long)]
    pub(crate) days: Option<u32>,
    /// The file to write: a certificate, or the public key of a challenge or OCSP key. Never overwritten.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// What a key on a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TokenKeyRole {
    /// The CA, with a new self-signed certificate.
    Ca,
    /// Signs answers.
    RaSigning,
    /// Opens requests.
    RaEncryption,
    /// Both, for clients that know one RA certificate only.
    Ra,
    /// Opens challenges.
    Challenge,
    /// Signs OCSP answers.
    Ocsp,
}

impl TokenKeyRole {
    pub(crate) const fn is_ra(self) -> bool {
        matches!(self, Self::RaSigning | Self::RaEncryption | Self::Ra)
    }
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
    /// The issuer's service, https://...: the gateway gets all keys of the issuer from there, after `enroll`.
    #[arg(long, value_name = "URL", required_unless_present = "issuer_key")]
    pub(crate) issuer: Option<String>,
    /// The issuer's public signing key, PEM: for an issuer without a service, whose challenges are minted by hand.
    #[arg(long, value_name = "FILE", conflicts_with = "issuer")]
    pub(crate) issuer_key: Option<PathBuf>,
    /// The proxy to the issuer, http://... or https://...; by default what HTTPS_PROXY and NO_PROXY say at each start.
    #[arg(long, value_name = "URL", requires = "issuer")]
    pub(crate) proxy: Option<String>,
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
    /// Answer OCSP too, and write its place below --public-url into certificates.
    #[arg(long, requires = "public_url")]
    pub(crate) ocsp: bool,
    /// The CA's key: p256, rsa2048, rsa3072 or rsa4096. Some old clients (pyscep, micromdm's scepclient) need RSA.
    #[arg(long, default_value = "p256", value_name = "ALGORITHM")]
    pub(crate) ca_key: String,
    /// The challenge decryption key: p256, or rsa2048 to rsa4096.
    #[arg(long, default_value = "p256", value_name = "ALGORITHM")]
    pub(crate) challenge_key: String,
    /// The CA's name, most significant part first.
    #[arg(long, default_value = "O=Sceptic, CN=Device CA", value_name = "DN")]
    pub(crate) ca_name: String,
    /// Where the CA is: here, with a key of its own, or in OpenBao or HashiCorp Vault, which then issues the RA's
    /// certificates too.
    #[arg(long, value_enum, default_value = "local", value_name = "WHERE")]
    pub(crate) ca: CaKind,
    /// Which clients the endpoint / is for: generic, windows, apple, android-jscep or cisco-ios. Windows has an endpoint
    /// of its own besides.
    #[arg(long, default_value = "generic", value_name = "PRESET")]
    pub(crate) preset: String,
    /// One RA key and certificate that signs and opens, for clients that know one RA certificate only (some Macs, some
    /// versions of Windows). With two keys, whoever gets one of them to misuse has not got the other: prefer that.
    #[arg(long)]
    pub(crate) combined_ra: bool,
    #[cfg(feature = "openbao")]
    #[command(flatten)]
    pub(crate) openbao: crate::openbao::setup::Options,
}

/// Where a CA is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CaKind {
    /// Its key is in the gateway's folder.
    Local,
    /// In a PKI engine of OpenBao or HashiCorp Vault.
    #[cfg(feature = "openbao")]
    #[value(name = "openbao")]
    OpenBao,
}

/// Options of `enroll`.
#[derive(Debug, Args)]
pub(crate) struct EnrollOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The issuer; it must be the one that the configuration names.
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,
    /// The one-time token. Other users of this machine can see it here: prefer --token-file or standard input.
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// The file with the token; without it and --token the token is read from standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// SHA-256 of the issuer's TLS key (its SubjectPublicKeyInfo), hexadecimal; comes with the token.
    #[arg(long, value_name = "HEX")]
    pub(crate) issuer_fingerprint: String,
    /// How operators call this gateway; by default its host name.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Make a new decryption key instead of going on with that of an earlier enrolment: for a gateway that was removed
    /// from its group, and with it that key.
    #[arg(long)]
    pub(crate) new_decryption_key: bool,
    /// The proxy for this enrolment, instead of the configuration's or the environment's.
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
}

/// What `connector` does.
#[derive(Debug, Subcommand)]
pub(crate) enum ConnectorCommand {
    /// Write the group's decryption key to a new file, encrypted under a passphrase.
    ///
    /// PKCS #8 EncryptedPrivateKeyInfo, PEM: `openssl pkey` reads it. Lines before the block say which tenant, group
    /// and ledger it is for.
    Export(ExportOptions),
    /// Take the group's decryption key from such a file, before `enroll`.
    ///
    /// Refused when the file is for another tenant, group or ledger, and when this gateway has another key already.
    Import(ImportOptions),
}

/// Options of `connector export`.
#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The file to write; one that is there is not replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// The file with the passphrase in its first line, 12 characters or more; asked for on the terminal otherwise.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// Options of `connector import`.
#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The file that `connector export` has written.
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Take it although the gateway is enrolled with another one: another gateway of the group has made a new key. It
    /// opens challenges from the next start on, and becomes this gateway's own when the issuer orders it to renew its
    /// decryption key.
    #[arg(long)]
    pub(crate) replace: bool,
    /// The file with the passphrase in its first line; asked for on the terminal otherwise.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// What `held` does.
#[derive(Debug, Subcommand)]
pub(crate) enum HeldCommand {
    /// List what waits, and what was decided on and not fetched since; the oldest first.
    List {
        /// The configuration file.
        #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
        config: PathBuf,
        /// For programs: one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show one with everything that will be certified.
    Show {
        /// Its number, as `list` prints it.
        row: u64,
        /// The configuration file.
        #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
        config: PathBuf,
        /// For programs: one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Let it be issued, once its device asks again. It is compared with everything again then.
    Approve(DecideOptions),
    /// Refuse it. Its challenge is spent.
    Deny(DecideOptions),
}

/// Options of `held approve` and `held deny`.
#[derive(Debug, Args)]
pub(crate) struct DecideOptions {
    /// Its number, as `list` prints it.
    pub(crate) row: u64,
    /// The configuration file.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Who decides: kept in the audit, and reported to the issuer.
    #[arg(long, value_name = "NAME")]
    pub(crate) person: String,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// For programs: one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `ca` does.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make the next CA and its RA in a folder of its name beside the configuration, with the answer to GetNextCACert
    /// that the present CA signs; and say what to add to the configuration.
    ///
    /// Nothing changes until that is done, and nothing is issued by the next CA before an endpoint names it. The gateway
    /// may run meanwhile.
    Prepare(PrepareOptions),
    /// Sign an answer to GetNextCACert about a CA that was made elsewhere.
    Announce(AnnounceOptions),
}

/// Options of `ca prepare`.
#[derive(Debug, Args)]
pub(crate) struct PrepareOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The next CA's name in the configuration, and the ledger's for ever: g2, or 2027.
    #[arg(long)]
    pub(crate) name: String,
    /// The present CA, by its name in `[[authorities]]`. Its key must be here.
    #[arg(long, default_value = "main", value_name = "NAME")]
    pub(crate) after: String,
    /// The name in its certificate, most significant part first: another than any CA's here. By default the present CA's,
    /// and --name after it.
    #[arg(long, value_name = "DN")]
    pub(crate) ca_name: Option<String>,
    /// Its key: p256, p384, rsa2048, rsa3072 or rsa4096. By default as the present CA's.
    #[arg(long, value_name = "ALGORITHM")]
    pub(crate) ca_key: Option<String>,
    /// How long its certificate is good.
    #[arg(long, default_value_t = 3_650)]
    pub(crate) days: u32,
    /// Make the CA's key on a token: pkcs11:token=...;object=...?module-path=...&pin-source=...; with --certificate the key
    /// that is there already, on a token or in a file.
    #[arg(long, value_name = "URI")]
    pub(crate) key: Option<String>,
    /// Its certificate, where another CA has certified its key: for a present CA that is below another one.
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with_all = ["ca_name", "ca_key"])]
    pub(crate) certificate: Option<PathBuf>,
    /// The CAs above it.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) chain: Option<PathBuf>,
    /// Make the RA's signing key on a token.
    #[arg(long, value_name = "URI")]
    pub(crate) ra_signing_key: Option<String>,
    /// Make the RA's encryption key on a token.
    #[arg(long, value_name = "URI")]
    pub(crate) ra_encryption_key: Option<String>,
}

/// Options of `ca announce`.
#[derive(Debug, Args)]
pub(crate) struct AnnounceOptions {
    /// The configuration file.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The present CA, by its name in `[[authorities]]`. Its key must be here.
    #[arg(long, default_value = "main", value_name = "NAME")]
    pub(crate) after: String,
    /// The next CA's certificate, and those above it after it.
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: PathBuf,
    /// The file to write, for `next_answer`. Never overwritten.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
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
    /// The CA that has issued it, by its name in `[[authorities]]`; by default whichever has.
    #[arg(long, value_name = "NAME")]
    pub(crate) ca: Option<String>,
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
    /// Which CA's, by its name in `[[authorities]]`.
    #[arg(long, default_value = "main", value_name = "NAME")]
    pub(crate) ca: String,
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

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// The SCEP URL that devices are given, http://... or https://...; by default the gateway's own of --config.
    #[arg(required_unless_present = "config")]
    pub(crate) url: Option<String>,
    /// The gateway's configuration file.
    #[arg(long, env = "SCEP_GATEWAY_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Further roots for HTTPS, PEM, that devices trust too.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_root: Option<PathBuf>,
    /// For each request.
    #[arg(long, default_value = "15s", value_parser = scep_types::parse_duration, value_name = "TIME")]
    pub(crate) timeout: std::time::Duration,
    /// For programs: one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
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
