//! How to reach the database, checked before anything is sent.

use crate::LedgerError;
use core::net::IpAddr;
use core::str::FromStr as _;
use core::time::Duration;
use std::path::PathBuf;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// Where certificates are from that the server's must lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    System,
    File(PathBuf),
}

/// How to reach the database of a group of gateways.
///
/// ```
/// use scep_ledger::PostgresConfig;
///
/// let config = PostgresConfig::new("postgresql://gateway:secret@db.example.org/scep")?;
/// # let _ = config;
/// // Plain text over a network is refused.
/// assert!(PostgresConfig::new("host=db.example.org user=gateway sslmode=disable").is_err());
/// # Ok::<(), scep_ledger::LedgerError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    pub(super) connection: tokio_postgres::Config,
    /// None: the server is on this machine, and is spoken to in plain text.
    pub(super) tls: Option<Roots>,
    pub(super) schema: String,
    pub(super) lease: Duration,
}

impl PostgresConfig {
    /// Out of a connection string as PostgreSQL's own programs take it: a URL, or `key=value` words.
    ///
    /// `sslmode` may be `require` or `verify-full`, and both verify the server's certificate by chain and name. It is
    /// the default for every server that is not on this machine. `disable` is for a socket or a loopback address alone;
    /// what may fall back to plain text or to an unverified server (`allow`, `prefer`, `verify-ca`) is refused.
    /// `sslrootcert` names a PEM file with the certificates to verify by; without it those of the system are used.
    ///
    /// # Errors
    /// [`LedgerError::Connection`] when it cannot be read or would be unsafe.
    pub fn new(connection: &str) -> Result<Self, LedgerError> {
        let Words { rest, ssl_mode, root_certificate } = take_words(connection);
        let mut connection = tokio_postgres::Config::from_str(&rest)
            // What could not be read may be a password: only the kind of mistake is told.
            .map_err(|_| refused("the connection string cannot be read"))?;
        if connection.get_hosts().is_empty() && connection.get_hostaddrs().is_empty() {
            return Err(refused("the connection string names no host"));
        }
        let local = is_local(&connection);
        let verified = match ssl_mode.as_deref() {
            None => !local,
            Some("require" | "verify-full") => true,
            Some("disable") if local => false,
            Some("disable") => {
                return Err(refused("sslmode=disable is for a server on this machine alone"));
            }
            Some(_) => {
                return Err(refused("sslmode must be verify-full, require or disable"));
            }
        };
        let tls = verified.then(|| root_certificate.map_or(Roots::System, Roots::File));
        connection
            .ssl_mode(if verified { SslMode::Require } else { SslMode::Disable })
            // Of several hosts, the one that can be written to.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(Duration::from_secs(5))
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            // A connection that nobody answers on is given up, and what was under way is settled on a new one.
            .tcp_user_timeout(Duration::from_secs(15));
        if connection.get_application_name().is_none() {
            connection.application_name("scep-ledger");
        }
        Ok(Self {
            connection,
            tls,
            schema: String::from("scep_ledger"),
            lease: Duration::from_secs(60),
        })
    }

    /// The schema of the ledger's tables, which is made when it is missing: `scep_ledger` unless told. Lower-case
    /// letters, digits and `_`.
    ///
    /// # Errors
    /// [`LedgerError::Connection`] when it has other characters, or more than 63.
    pub fn schema(mut self, name: &str) -> Result<Self, LedgerError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let fits = (1..=63).contains(&name.len()) && name.bytes().all(plain);
        if !fits || name.starts_with("pg_") {
            return Err(refused("a schema's name is made of a-z, 0-9 and _, and no pg_ before it"));
        }
        name.clone_into(&mut self.schema);
        Ok(self)
    }

    /// The password, where it does not stand in the connection string. It takes that one's place.
    #[must_use]
    pub fn password(mut self, password: &[u8]) -> Self {
        self.connection.password(password);
        self
    }

    /// Whether there is one, by either way.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.connection.get_password().is_some()
    }

    /// The PEM file with the certificates to verify the server's by, as `sslrootcert` would name it.
    ///
    /// # Errors
    /// [`LedgerError::Connection`] when no certificate will be asked for: the server is on this machine, and the
    /// connection string does not demand TLS.
    pub fn tls_roots(mut self, file: impl Into<PathBuf>) -> Result<Self, LedgerError> {
        if self.tls.is_none() {
            return Err(refused("the server is spoken to without TLS; let sslmode be verify-full"));
        }
        self.tls = Some(Roots::File(file.into()));
        Ok(self)
    }

    /// For how long the intents of a gateway that nobody hears from are left alone: 60 s unless told. Afterwards the
    /// recovery of any other gateway settles them, so it must be longer than the longest call of the CA.
    ///
    /// # Errors
    /// [`LedgerError::Connection`] under a second and over a day.
    pub fn lease(mut self, lease: Duration) -> Result<Self, LedgerError> {
        if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&lease) {
            return Err(refused("a lease lasts between a second and a day"));
        }
        self.lease = lease;
        Ok(self)
    }
}

impl core::fmt::Display for PostgresConfig {
    /// Database, hosts and schema: what an operator must see to know which ledger it is, and no secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.connection.get_dbname().unwrap_or("the user's database"))?;
        f.write_str(" at ")?;
        for (n, host) in self.connection.get_hosts().iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            match host {
                #[cfg(unix)]
                Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
                Host::Tcp(name) => write!(f, "{comma}{name}")?,
            }
        }
        if self.connection.get_hosts().is_empty() {
            for (n, address) in self.connection.get_hostaddrs().iter().enumerate() {
                let comma = if n == 0 { "" } else { ", " };
                write!(f, "{comma}{address}")?;
            }
        }
        write!(f, ", schema {}", self.schema)
    }
}

fn refused(what: &str) -> LedgerError {
    LedgerError::Connection { what: what.to_owned() }
}

fn is_local(connection: &tokio_postgres::Config) -> bool {
    let addresses = connection.get_hostaddrs();
    addresses.iter().all(IpAddr::is_loopback)
        && connection.get_hosts().iter().all(|host| match host {
            #[cfg(unix)]
            Host::Unix(_) => true,
            // With an address beside it, the name is only what the certificate must show.
            Host::Tcp(name) => {
                !addresses.is_empty()
                    || name == "localhost"
                    || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
        })
}

/// A connection string without the words about TLS that tokio-postgres does not know.
struct Words {
    rest: String,
    ssl_mode: Option<String>,
    root_certificate: Option<PathBuf>,
}

fn take_words(text: &str) -> Words {
    let mut words = Words { rest: String::new(), ssl_mode: None, root_certificate: None };
    let mut take = |word: &str, decode: fn(&str) -> String| -> bool {
        let Some((key, value)) = word.split_once('=') else { return false };
        match key.trim() {
            "sslmode" => words.ssl_mode = Some(decode(value)),
            "sslrootcert" => words.root_certificate = Some(PathBuf::from(decode(value))),
            _ => return false,
        }
        true
    };
    let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
    words.rest = if is_url {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let kept: Vec<&str> =
            query.split('&').filter(|word| !word.is_empty() && !take(word, percent)).collect();
        if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) }
    } else {
        let kept: Vec<&str> =
            split(text).into_iter().filter(|word| !take(word, unquoted)).collect();
        kept.join(" ")
    };
    words
}

/// Splits at blanks outside of quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        if escaped {
            escaped = false;
            return false;
        }
        escaped = c == '\\';
        quoted ^= c == '\'';
        !quoted && c.is_whitespace()
    })
    .filter(|word| !word.is_empty())
    .collect()
}

fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(value);
    let mut plain = String::new();
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        plain.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    plain
}

fn percent(value: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.split_at_checked(2)).flatten().and_then(
            |(digits, after)| {
                let digits = core::str::from_utf8(digits).ok()?;
                Some((u8::from_str_radix(digits, 16).ok()?, after))
            },
        );
        let (octet, after) = escaped.unwrap_or((first, after));
        octets.push(octet);
        rest = after;
    }
    String::from_utf8_lossy(&octets).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_this_machine_is_verified() {
        let tls = |text: &str| PostgresConfig::new(text).map(|config| config.tls);
        let file = |name: &str| Some(Roots::File(PathBuf::from(name)));
        for (text, expected) in [
            ("host=db.example.org user=g", Some(Roots::System)),
            ("postgresql://g:p@db.example.org/scep", Some(Roots::System)),
            ("postgresql://g@db.example.org/scep?sslmode=require", Some(Roots::System)),
            ("host=10.0.0.1 user=g sslmode=verify-full", Some(Roots::System)),
            ("host=localhost hostaddr=10.0.0.1 user=g", Some(Roots::System)),
            ("host=localhost,db.example.org user=g", Some(Roots::System)),
            ("host=/run/postgresql user=g", None),
            ("host=127.0.0.1 user=g", None),
            ("host=::1 user=g sslmode=disable", None),
            ("host=db.example.org hostaddr=127.0.0.1 user=g", None),
            ("host=localhost user=g sslmode=verify-full sslrootcert='/a b'", file("/a b")),
            ("postgres://g@h/d?sslrootcert=%2Fetc%2Fca.pem&connect_timeout=3", file("/etc/ca.pem")),
        ] {
            assert_eq!(tls(text).unwrap(), expected, "{text}");
        }
        for text in [
            "host=db.example.org user=g sslmode=disable",
            "host=db.example.org user=g sslmode=prefer",
            "host=localhost user=g sslmode=prefer",
            "postgres://g@db.example.org/d?sslmode=allow",
            "host=db.example.org user=g sslmode=verify-ca",
            "host=localhost,db.example.org user=g sslmode=disable",
            "user=g",
            "host=localhost password",
        ] {
            let error = tls(text).unwrap_err();
            assert!(matches!(error, LedgerError::Connection { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let secret = "host=localhost user=g password='a s3cret'";
        let config = PostgresConfig::new(secret).unwrap();
        assert_eq!(config.connection.get_password(), Some(&b"a s3cret"[..]));
        assert!(!format!("{config:?}").contains("s3cret"));
        let error = PostgresConfig::new("host=localhost s3cret").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("s3cret"));
    }

    #[test]
    fn what_is_told_apart_from_the_connection_string_counts() {
        let config = PostgresConfig::new("postgresql://g:one@db.example.org/scep").unwrap();
        let config = config.password(b"two").tls_roots("/etc/ca.pem").unwrap();
        assert_eq!(config.connection.get_password(), Some(&b"two"[..]));
        assert_eq!(config.tls, Some(Roots::File(PathBuf::from("/etc/ca.pem"))));
        assert_eq!(config.to_string(), "scep at db.example.org, schema scep_ledger");
        let local = PostgresConfig::new("host=/run/postgresql,localhost user=g").unwrap();
        assert!(!local.has_password());
        let shown = local.to_string();
        assert_eq!(shown, "the user's database at /run/postgresql, localhost, schema scep_ledger");
        assert!(local.tls_roots("/etc/ca.pem").is_err());
    }

    #[test]
    fn a_schemas_name_needs_no_quotes() {
        let config = PostgresConfig::new("host=localhost").unwrap();
        assert_eq!(config.clone().schema("group_7").unwrap().schema, "group_7");
        for name in ["", "a\"b", "A", "a b", "pg_ledger", &"a".repeat(64)] {
            assert!(config.clone().schema(name).is_err(), "{name}");
        }
    }
}
