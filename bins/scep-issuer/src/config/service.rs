//! The service's part of the configuration, checked.

use super::place;
use super::raw::{RawConnectors, RawService, RawTls};
use crate::error::IssuerError;
use scep_ca::{InfrastructurePurpose, LocalCa, LocalCaSettings};
use scep_keys::{AwsLc, Backend, PrivateKey, SoftwareKey, open_key, read_certificates};
use scep_types::{CertificateDer, GeneralName, SpkiDer, SpkiHash};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the service is offered.
#[derive(Debug)]
pub(crate) struct ServiceConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) database: Database,
    pub(crate) encryption: Encryption,
}

/// Where everything is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite(PathBuf),
    Postgres { url: String, password_file: Option<PathBuf>, schema: Option<String> },
}

/// How connections are protected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    Tls {
        certificate: PathBuf,
        key: PathBuf,
        /// Where the issuer makes its certificate itself.
        own: Option<OwnTls>,
    },
    None,
}

/// The issuer's own CA for its own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnTls {
    pub(crate) ca_certificate: PathBuf,
    pub(crate) ca_key: PathBuf,
    /// As configured, the first one the common name.
    pub(crate) names: Vec<String>,
}

impl OwnTls {
    /// What a certificate with these names is for.
    pub(crate) fn purpose(names: &[String]) -> InfrastructurePurpose {
        let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
        for name in names {
            match name.parse::<IpAddr>() {
                Ok(address) => addresses.push(address),
                Err(_) => dns_names.push(name.clone()),
            }
        }
        InfrastructurePurpose::TlsServer { dns_names, addresses }
    }

    /// The names as a certificate has them: those of DNS first.
    pub(crate) fn alt_names(names: &[String]) -> Result<Vec<GeneralName>, IssuerError> {
        Self::purpose(names)
            .alternative_names()
            .map_err(|error| IssuerError::config("service.tls_names", error))
    }
}

fn own_tls(raw: &RawService, base: &Path) -> Result<Option<OwnTls>, IssuerError> {
    let field = "service.tls_ca_certificate";
    match (&raw.tls_ca_certificate, &raw.tls_ca_key, raw.tls_names.as_slice()) {
        (None, None, []) => Ok(None),
        (Some(_), Some(_), []) => Err(IssuerError::config("service.tls_names", "needed")),
        (Some(certificate), Some(key), names) => {
            OwnTls::alt_names(names)?;
            Ok(Some(OwnTls {
                ca_certificate: base.join(certificate),
                ca_key: base.join(key),
                names: names.to_vec(),
            }))
        }
        _ => Err(IssuerError::config(field, "it, tls_ca_key and tls_names go together")),
    }
}

fn database(raw: &RawService, base: &Path) -> Result<Database, IssuerError> {
    match (&raw.database, &raw.postgres) {
        (Some(_), None)
            if raw.postgres_password_file.is_some() || raw.postgres_schema.is_some() =>
        {
            let why = "only with postgres";
            Err(IssuerError::config("service.postgres_password_file, postgres_schema", why))
        }
        (Some(path), None) => Ok(Database::Sqlite(base.join(path))),
        (None, Some(url)) => Ok(Database::Postgres {
            url: url.clone(),
            password_file: raw.postgres_password_file.as_ref().map(|path| base.join(path)),
            schema: raw.postgres_schema.clone(),
        }),
        (None, None) => Err(IssuerError::config("service.database", "it or postgres is needed")),
        (Some(_), Some(_)) => {
            Err(IssuerError::config("service.postgres", "it and database exclude each other"))
        }
    }
}

impl ServiceConfig {
    pub(crate) fn check(raw: RawService, base: &Path) -> Result<Self, IssuerError> {
        let database = database(&raw, base)?;
        let own = own_tls(&raw, base)?;
        let encryption = match (raw.tls, raw.tls_certificate, raw.tls_key) {
            (None, Some(certificate), Some(key)) => {
                let (certificate, key) = (base.join(certificate), base.join(key));
                Encryption::Tls { certificate, key, own }
            }
            (Some(RawTls::None), None, None) if raw.listen.ip().is_loopback() => Encryption::None,
            (Some(RawTls::None), None, None) => {
                let why = "\"none\" is for loopback addresses alone: tokens would be readable";
                return Err(IssuerError::config("service.tls", why));
            }
            (Some(RawTls::None), _, _) => {
                let why = "\"none\" and a certificate or key exclude each other";
                return Err(IssuerError::config("service.tls", why));
            }
            (None, None, _) => {
                let why = "needed, or tls = \"none\" on a loopback address";
                return Err(IssuerError::config("service.tls_certificate", why));
            }
            (None, Some(_), None) => {
                return Err(IssuerError::config("service.tls_key", "needed"));
            }
        };
        Ok(Self { listen: raw.listen, database, encryption })
    }

    /// The TLS server's certificate, its chain after it.
    pub(crate) fn tls_chain(&self) -> Result<Option<Vec<CertificateDer>>, IssuerError> {
        match &self.encryption {
            Encryption::None => Ok(None),
            Encryption::Tls { certificate, .. } => Ok(Some(read_certificates(certificate)?)),
        }
    }

    /// What gateways pin: SHA-256 over the SubjectPublicKeyInfo of the TLS key.
    pub(crate) fn tls_pin(&self) -> Result<Option<SpkiHash>, IssuerError> {
        let chain = self.tls_chain()?;
        Ok(chain.and_then(|chain| chain.first().map(|leaf| leaf.spki().hash())))
    }

    /// The keys of TLS, by name.
    pub(crate) fn tls_keys(&self) -> Result<Vec<(String, SpkiDer)>, IssuerError> {
        let mut keys = Vec::new();
        if let Some(leaf) = self.tls_chain()?.and_then(|chain| chain.into_iter().next()) {
            keys.push(("the TLS key".to_owned(), leaf.spki().clone()));
        }
        if let Encryption::Tls { own: Some(own), .. } = &self.encryption {
            let ca = SoftwareKey::read(&own.ca_key, Backend::AwsLc)?;
            keys.push(("the TLS CA's key".to_owned(), ca.public_key().clone()));
        }
        Ok(keys)
    }
}

/// What connectors are served with.
#[derive(Debug)]
pub(crate) struct Connectors {
    pub(crate) certificate: CertificateDer,
    pub(crate) key: PrivateKey,
    pub(crate) next_pins: Vec<SpkiHash>,
}

impl Connectors {
    pub(crate) fn load(raw: RawConnectors, base: &Path) -> Result<Self, IssuerError> {
        let ca_file = base.join(raw.ca_certificate);
        let certificate = match read_certificates(&ca_file)?.as_slice() {
            [only] => only.clone(),
            several => {
                let why = format!("{} certificates, not one", several.len());
                return Err(IssuerError::config("connectors.ca_certificate", why));
            }
        };
        let key = open_key(&place(base, &raw.ca_key, "connectors.ca_key")?)?;
        let next_pins = raw
            .next_tls_pins
            .iter()
            .map(|text| {
                SpkiHash::from_hex(text).ok_or_else(|| {
                    IssuerError::config("connectors.next_tls_pins", "not 64 hexadecimal digits")
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { certificate, key, next_pins })
    }

    /// The CA that certifies connectors.
    pub(crate) fn ca(&self) -> Result<LocalCa, IssuerError> {
        let (certificate, settings) = (self.certificate.clone(), LocalCaSettings::default());
        LocalCa::new(self.key.signer()?, certificate, Vec::new(), settings, Arc::new(AwsLc))
            .map_err(|error| IssuerError::config("connectors.ca_certificate", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, more: &str) -> Result<ServiceConfig, String> {
        let database = if more.contains("postgres =") { "" } else { "database = 'd'\n" };
        let text = format!("listen = '{listen}'\n{database}{more}");
        let raw = toml::from_str(&text).map_err(|error| error.to_string())?;
        ServiceConfig::check(raw, Path::new("/etc")).map_err(|error| error.to_string())
    }

    #[test]
    fn plain_http_must_be_asked_for_and_is_for_loopback_alone() {
        for listen in ["127.0.0.1:1", "[::1]:1"] {
            assert_eq!(check(listen, "tls = 'none'").unwrap().encryption, Encryption::None);
        }
        let (certificate, key) = ("tls_certificate = 'c'\n", "tls_key = 'k'\n");
        let both = format!("{certificate}{key}");
        check("0.0.0.0:1", &both).unwrap();
        for (listen, more, field) in [
            ("0.0.0.0:1", "tls = 'none'", "service.tls:"),
            ("127.0.0.1:1", "", "service.tls_certificate:"),
            ("127.0.0.1:1", key, "service.tls_certificate:"),
            ("127.0.0.1:1", certificate, "service.tls_key:"),
            ("127.0.0.1:1", "tls = 'none'\ntls_key = 'k'", "service.tls:"),
            ("127.0.0.1:1", &format!("{both}tls_ca_key = 'k'"), "service.tls_ca_certificate:"),
            (
                "127.0.0.1:1",
                &format!("{both}tls_ca_key = 'k'\ntls_ca_certificate = 'c'"),
                "service.tls_names:",
            ),
            (
                "127.0.0.1:1",
                &format!("{both}tls_ca_key = 'k'\ntls_ca_certificate = 'c'\ntls_names = ['a b']"),
                "service.tls_names:",
            ),
        ] {
            let error = check(listen, more).unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
        assert!(check(":1", "").is_err());
    }

    #[test]
    fn the_database_is_one_of_two() {
        let postgres = "tls = 'none'\npostgres = 'host=db'\npostgres_password_file = 'p'";
        let expected = Database::Postgres {
            url: "host=db".into(),
            password_file: Some("/etc/p".into()),
            schema: None,
        };
        assert_eq!(check("127.0.0.1:1", postgres).unwrap().database, expected);
        let sqlite = check("127.0.0.1:1", "tls = 'none'").unwrap();
        assert_eq!(sqlite.database, Database::Sqlite("/etc/d".into()));
        let error = check("127.0.0.1:1", "tls = 'none'\npostgres_schema = 's'").unwrap_err();
        assert!(error.starts_with("service.postgres_"), "{error}");
        let both = "tls = 'none'\npostgres = 'x'\ndatabase = 'd'";
        assert!(check("127.0.0.1:1", both).unwrap_err().starts_with("service.postgres:"));
    }
}
