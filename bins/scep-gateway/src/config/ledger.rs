//! `ledger` and `[revocations]`: the gateway's durable memory.

use crate::config::duration;
use crate::error::GatewayError;
use core::fmt;
use core::time::Duration;
use scep_ledger::{Ledger, LedgerError, LedgerSettings, PostgresConfig, RevocationBrake};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use std::path::{Path, PathBuf};

/// A file's name is SQLite's short form.
#[derive(Debug)]
pub(super) enum RawLedger {
    File(PathBuf),
    Table(RawStore),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub(super) enum RawStore {
    Sqlite {
        path: PathBuf,
    },
    Postgres {
        connection: String,
        password_file: Option<PathBuf>,
        tls_roots: Option<PathBuf>,
        schema: Option<String>,
        lease: Option<String>,
    },
}

// By hand: the derived form for "one of these" cannot say which key of the table is wrong.
impl<'de> Deserialize<'de> for RawLedger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawLedger;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a SQLite file, or a table with `kind`")
            }

            fn visit_str<E: de::Error>(self, file: &str) -> Result<RawLedger, E> {
                Ok(RawLedger::File(file.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawLedger, A::Error> {
                RawStore::deserialize(MapAccessDeserializer::new(map)).map(RawLedger::Table)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRevocations {
    brake_percent: Option<u8>,
    brake_at_least: Option<u32>,
}

/// Where the ledger is.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    /// In a file of this gateway's own.
    Sqlite(PathBuf),
    /// In a database that the gateways of the group share.
    Postgres(Box<PostgresConfig>),
}

/// The ledger, as configured.
#[derive(Clone, Debug)]
pub(crate) struct LedgerConfig {
    pub(crate) store: Store,
    pub(crate) settings: LedgerSettings,
}

impl LedgerConfig {
    pub(crate) async fn open(&self) -> Result<Ledger, LedgerError> {
        match &self.store {
            Store::Sqlite(path) => Ledger::open_sqlite(path, self.settings),
            Store::Postgres(config) => {
                Ledger::open_postgres((**config).clone(), self.settings).await
            }
        }
    }

    /// Whether other gateways may have it open too.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self.store, Store::Postgres(_))
    }
}

impl fmt::Display for LedgerConfig {
    /// Without the connection: a password may stand in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.store {
            Store::Sqlite(path) => write!(f, "SQLite, {}", path.display()),
            Store::Postgres(config) => write!(f, "PostgreSQL, {config}"),
        }
    }
}

/// The variable in which PostgreSQL's own programs look for a password.
const PASSWORD: &str = "PGPASSWORD";

impl RawLedger {
    pub(super) fn check(
        self,
        base: &Path,
        revocations: &RawRevocations,
    ) -> Result<LedgerConfig, GatewayError> {
        let settings =
            LedgerSettings { revocations: revocations.check()?, ..LedgerSettings::default() };
        let store = match self {
            Self::File(path) | Self::Table(RawStore::Sqlite { path }) => {
                Store::Sqlite(base.join(path))
            }
            Self::Table(RawStore::Postgres {
                connection,
                password_file,
                tls_roots,
                schema,
                lease,
            }) => {
                let wrong = |key: &'static str| {
                    move |error| GatewayError::config(format!("ledger.{key}"), error)
                };
                let mut config = PostgresConfig::new(&connection).map_err(wrong("connection"))?;
                if let Some(file) = tls_roots {
                    config = config.tls_roots(base.join(file)).map_err(wrong("tls_roots"))?;
                }
                if let Some(schema) = schema {
                    config = config.schema(&schema).map_err(wrong("schema"))?;
                }
                if let Some(lease) = lease {
                    let lease = duration("ledger.lease", Some(&lease), Duration::ZERO)?;
                    config = config.lease(lease).map_err(wrong("lease"))?;
                }
                let password = match password_file {
                    Some(file) => Some(private_line("ledger.password_file", &base.join(file))?),
                    None if config.has_password() => None,
                    None => std::env::var(PASSWORD).ok().map(String::into_bytes),
                };
                if let Some(password) = password {
                    config = config.password(&password);
                }
                Store::Postgres(Box::new(config))
            }
        };
        Ok(LedgerConfig { store, settings })
    }
}

impl RawRevocations {
    fn check(&self) -> Result<RevocationBrake, GatewayError> {
        let defaults = RevocationBrake::default();
        let percent = self.brake_percent.unwrap_or(defaults.percent);
        if percent > 100 {
            return Err(GatewayError::config("revocations.brake_percent", "must be 0 to 100"));
        }
        Ok(RevocationBrake { percent, at_least: self.brake_at_least.unwrap_or(defaults.at_least) })
    }
}

/// The first line of a file that nobody else may read, which `key` of the configuration names.
pub(super) fn private_line(key: &str, path: &Path) -> Result<Vec<u8>, GatewayError> {
    let key = || format!("{key} ({})", path.display());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path).map_err(GatewayError::file(path))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(GatewayError::config(
                key(),
                format!("has mode {:o}; others must have no access (600)", mode & 0o7777),
            ));
        }
    }
    let text = std::fs::read(path).map_err(GatewayError::file(path))?;
    let line = text.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(GatewayError::config(key(), "its first line is empty"));
    }
    Ok(line.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Both {
        ledger: RawLedger,
        #[serde(default)]
        revocations: RawRevocations,
    }

    fn read(text: &str) -> Result<Both, toml::de::Error> {
        toml::from_str(text)
    }

    fn check(text: &str) -> Result<LedgerConfig, GatewayError> {
        let both = read(text).unwrap();
        both.ledger.check(Path::new("/gw"), &both.revocations)
    }

    #[test]
    fn a_file_and_a_table_say_the_same() {
        for text in ["ledger = \"l.sqlite\"", "ledger = { kind = \"sqlite\", path = \"l.sqlite\" }"]
        {
            let config = check(text).unwrap();
            assert_eq!(config.to_string(), "SQLite, /gw/l.sqlite");
            assert_eq!(config.settings, LedgerSettings::default());
            assert!(!config.is_shared());
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("ledger = 7", "the name of a SQLite file, or a table with `kind`"),
            ("[ledger]\npath = \"x\"", "kind"),
            ("[ledger]\nkind = \"mysql\"\npath = \"x\"", "mysql"),
            (
                "[ledger]\nkind = \"postgres\"\nconnection = \"host=/run\"\npasword = \"x\"",
                "pasword",
            ),
            ("[ledger]\nkind = \"postgres\"", "connection"),
            ("ledger = \"x\"\n[revocations]\nbrake = 5", "brake"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
        let local = "[ledger]\nkind = \"postgres\"\nconnection = \"host=/run\"\n";
        for (text, named) in [
            ("ledger = \"x\"\n[revocations]\nbrake_percent = 101".to_owned(), "brake_percent"),
            (local.replace("/run", "db.example.org sslmode=disable"), "ledger.connection"),
            (format!("{local}schema = \"A\""), "ledger.schema"),
            (format!("{local}lease = \"2d\""), "ledger.lease"),
            // The server is on this machine, and is spoken to in plain text.
            (format!("{local}tls_roots = \"ca.pem\""), "ledger.tls_roots"),
            (format!("{local}password_file = \"missing\""), "/gw/missing"),
        ] {
            let error = check(&text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn the_brake_is_as_configured() {
        let text = "ledger = \"x\"\n[revocations]\nbrake_percent = 100\nbrake_at_least = 0";
        let brake = check(text).unwrap().settings.revocations;
        assert_eq!(brake, RevocationBrake { percent: 100, at_least: 0 });
    }

    #[test]
    fn a_password_stands_in_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "a s3cret\r\nand a remark\n").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let set = |mode| {
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            };
            set(0o640);
            let error = private_line("password", &file).unwrap_err().to_string();
            assert!(error.contains("has mode 640"), "{error}");
            set(0o600);
        }
        assert_eq!(private_line("password", &file).unwrap(), b"a s3cret");
        let text = format!(
            "[ledger]\nkind = \"postgres\"\nconnection = \"host=db.example.org dbname=scep\"\n\
             password_file = \"{}\"\ntls_roots = \"ca.pem\"",
            file.display()
        );
        let config = check(&text).unwrap();
        let shown = format!("{config} {config:?}");
        assert!(
            shown.starts_with("PostgreSQL, scep at db.example.org, schema scep_ledger"),
            "{shown}"
        );
        assert!(!shown.contains("s3cret"), "{shown}");
        let Store::Postgres(postgres) = &config.store else { panic!("{config}") };
        assert!(postgres.has_password() && config.is_shared());
        std::fs::write(&file, "\n").unwrap();
        assert!(private_line("password", &file).is_err());
    }
}
