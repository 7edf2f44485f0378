//! The issuer's own TLS certificate, where `init` has made it: by a CA of its own, renewed in time, always for the same
//! key, so that what gateways have pinned stays true.

use crate::config::{Config, Encryption, OwnTls, replace};
use crate::error::IssuerError;
use core::time::Duration;
use scep_ca::{LocalCa, LocalCaSettings};
use scep_keys::{
    AwsLc, Backend, SoftwareKey, certificates_pem, read_certificates, write_new_public,
};
use scep_types::{CertificateDer, DistinguishedName, KeyAlgorithm, SpkiDer, Timestamp};
use std::path::Path;
use std::sync::Arc;

const DAY: Duration = Duration::from_secs(86_400);
/// Of the certificate.
const LIFE: Duration = Duration::from_secs(180 * 86_400);
/// Of the CAs that `init` makes.
const CA_LIFE: Duration = Duration::from_secs(3_652 * 86_400);
/// What clients are given to trust: it stays when the certificate is renewed.
pub(crate) const CA: &str = "tls.pem";
pub(crate) const CA_KEY: &str = "tls.ca.key.pem";
/// What the service presents.
pub(crate) const CHAIN: &str = "tls.chain.pem";
pub(crate) const KEY: &str = "tls.key.pem";
/// With this many days left there is an alarm.
const ALARMS: [u64; 3] = [7, 14, 30];

/// A common name, as a whole name. Tenants, DNS names and addresses have no character that would need an escape.
fn name(common: &str) -> Result<DistinguishedName, IssuerError> {
    format!("CN={common}").parse().map_err(|error| IssuerError::config("a name", error))
}

/// Makes a CA: its key and its self-signed certificate, in new files.
pub(crate) fn make_ca(
    dir: &Path,
    (certificate, key_file): (&str, &str),
    common: &str,
    now: Timestamp,
) -> Result<(), IssuerError> {
    let key = SoftwareKey::generate(KeyAlgorithm::P256)?;
    let signer = key.signer();
    let root = LocalCa::self_signed_root(&*signer, &name(common)?, CA_LIFE, now, &AwsLc)?;
    key.write_new(&dir.join(key_file))?;
    write_new_public(&dir.join(certificate), &certificates_pem(&[root]))?;
    Ok(())
}

impl OwnTls {
    fn certificate(&self) -> Result<CertificateDer, IssuerError> {
        match read_certificates(&self.ca_certificate)?.as_slice() {
            [only] => Ok(only.clone()),
            several => {
                let why = format!("{} certificates, not one", several.len());
                Err(IssuerError::config("service.tls_ca_certificate", why))
            }
        }
    }

    /// A new certificate for the key, with the CA's after it.
    pub(crate) fn issue(
        &self,
        key: &SpkiDer,
        now: Timestamp,
    ) -> Result<Vec<CertificateDer>, IssuerError> {
        let root = self.certificate()?;
        let ca = SoftwareKey::read(&self.ca_key, Backend::AwsLc)?.signer();
        let settings = LocalCaSettings::default();
        let ca = LocalCa::new(ca, root.clone(), Vec::new(), settings, Arc::new(AwsLc))
            .map_err(|error| IssuerError::config("service.tls_ca_certificate", error))?;
        let purpose = Self::purpose(&self.names);
        let common = self.names.first().map_or("issuer", String::as_str);
        // At the end of the CA's own life shorter, rather than not at all.
        let life = LIFE.min(root.not_after().since(now));
        let leaf = ca.issue_infrastructure(purpose, key, &name(common)?, life, now)?;
        Ok(vec![leaf, root])
    }
}

/// When two thirds of a certificate's life are over.
fn due(certificate: &CertificateDer) -> Timestamp {
    let life = certificate.not_after().since(certificate.not_before());
    certificate.not_after().minus(life / 3)
}

/// Renews the certificate when it is due, or when its names are no longer those of the configuration. Tells until when
/// the new one is valid.
pub(crate) fn renew(
    encryption: &Encryption,
    now: Timestamp,
) -> Result<Option<Timestamp>, IssuerError> {
    let Encryption::Tls { certificate, own: Some(own), .. } = encryption else { return Ok(None) };
    let chain = read_certificates(certificate)?;
    let Some(present) = chain.first() else { return Ok(None) };
    let wanted = scep_types::GeneralName::list_to_der(&OwnTls::alt_names(&own.names)?);
    let named = present.extension(&SUBJECT_ALT_NAME) == Some(&*wanted);
    if named && now < due(present) {
        return Ok(None);
    }
    let chain = own.issue(present.spki(), now)?;
    replace(certificate, certificates_pem(&chain).as_bytes())?;
    Ok(chain.first().map(CertificateDer::not_after))
}

const SUBJECT_ALT_NAME: scep_types::ObjectIdentifier =
    scep_types::ObjectIdentifier::new_unwrap("2.5.29.17");

/// The issuer's own certificates, and when each ends.
pub(crate) fn certificates(config: &Config) -> Result<Vec<(String, Timestamp)>, IssuerError> {
    let mut ends = Vec::new();
    if let Ok(service) = config.service() {
        if let Some(leaf) = service.tls_chain()?.and_then(|chain| chain.into_iter().next()) {
            ends.push(("TLS certificate".to_owned(), leaf.not_after()));
        }
        if let Encryption::Tls { own: Some(own), .. } = &service.encryption {
            ends.push(("TLS CA certificate".to_owned(), own.certificate()?.not_after()));
        }
    }
    if let Some(connectors) = &config.connectors {
        ends.push(("connector CA certificate".to_owned(), connectors.certificate.not_after()));
    }
    Ok(ends)
}

/// Everything of the issuer's that ends: what, and when.
pub(crate) fn ends(config: &Config) -> Result<Vec<(String, Timestamp)>, IssuerError> {
    let mut ends = certificates(config)?;
    // Of each kind of key the one that lasts longest: those before it end as they should.
    for (kind, keys) in [("signing", &config.signing), ("command", &config.command)] {
        if let Some(last) = keys.iter().map(|key| key.not_after).max() {
            ends.push((format!("last {kind} key"), last));
        }
    }
    Ok(ends)
}

/// How close an end is: the smallest of 30, 14 and 7 days that it is within, or 0 when it is past.
pub(crate) fn alarm(end: Timestamp, now: Timestamp) -> Option<u64> {
    if now >= end {
        return Some(0);
    }
    let left = end.since(now);
    ALARMS.into_iter().find(|days| left <= DAY * u32::try_from(*days).unwrap_or(u32::MAX))
}

/// Logs each alarm once for each of its steps.
#[derive(Debug, Default)]
pub(crate) struct Alarms(Vec<(String, u64)>);

impl Alarms {
    pub(crate) fn tell(&mut self, ends: &[(String, Timestamp)], now: Timestamp) {
        let present: Vec<(String, u64)> =
            ends.iter().filter_map(|(what, end)| Some((what.clone(), alarm(*end, now)?))).collect();
        for (what, step) in present.iter().filter(|alarm| !self.0.contains(alarm)) {
            let end = ends.iter().find(|(known, _)| known == what).map(|(_, end)| *end);
            let days = end.map_or(0, |end| end.since(now).as_secs() / DAY.as_secs());
            let end = end.unwrap_or(now);
            match step {
                0 => tracing::error!(%what, %end, "ALARM: it has ended"),
                _ => tracing::warn!(%what, %end, days_left = days, "ALARM: it ends soon"),
            }
        }
        self.0 = present;
    }
}

/// `fingerprint`: what gateways pin.
pub(crate) fn fingerprint(path: &Path) -> Result<(), IssuerError> {
    let config = Config::load(path)?;
    let pin = config.service()?.tls_pin()?.ok_or_else(|| {
        IssuerError::config("service.tls", "there is no TLS, hence nothing to pin")
    })?;
    println!("{pin}");
    Ok(())
}

/// Makes the TLS files of `init`: the CA, the key, the certificate. Gives what stands in the configuration.
pub(crate) fn make(
    dir: &Path,
    tenant: &str,
    names: Vec<String>,
    now: Timestamp,
) -> Result<OwnTls, IssuerError> {
    make_ca(dir, (CA, CA_KEY), &format!("{tenant} issuer TLS CA"), now)?;
    let own = OwnTls { ca_certificate: dir.join(CA), ca_key: dir.join(CA_KEY), names };
    let key = SoftwareKey::generate(KeyAlgorithm::P256)?;
    let chain = own.issue(key.public_key(), now)?;
    key.write_new(&dir.join(KEY))?;
    write_new_public(&dir.join(CHAIN), &certificates_pem(&chain))?;
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_507_200);

    #[test]
    fn the_certificate_renews_itself_for_the_same_key_at_two_thirds_of_its_life() {
        let dir = tempfile::tempdir().unwrap();
        let names = vec!["issuer.example.org".to_owned(), "127.0.0.1".to_owned()];
        let own = make(dir.path(), "contoso", names, NOW).unwrap();
        let certificate = dir.path().join(CHAIN);
        let key = dir.path().join(KEY);
        let tls = |own| Encryption::Tls {
            certificate: certificate.clone(),
            key: key.clone(),
            own: Some(own),
        };
        let leaf = || read_certificates(&certificate).unwrap().remove(0);
        let first = leaf();
        let early = NOW.plus(DAY * 119);
        assert_eq!(renew(&tls(own.clone()), early).unwrap(), None);
        assert_eq!(leaf(), first);
        let late = NOW.plus(DAY * 121);
        assert_eq!(renew(&tls(own.clone()), late).unwrap(), Some(late.plus(LIFE)));
        let second = leaf();
        assert_ne!(second, first);
        assert_eq!(second.spki(), first.spki());
        assert_eq!(renew(&tls(own.clone()), late).unwrap(), None);
        // Another name is taken up at once.
        let more = OwnTls { names: vec!["other.example.org".to_owned()], ..own.clone() };
        assert!(renew(&tls(more), late).unwrap().is_some());
        // Never beyond its CA.
        let end = NOW.plus(CA_LIFE);
        assert_eq!(renew(&tls(own), end.minus(DAY)).unwrap(), Some(end));
        // One that an operator has brought stays as it is.
        let foreign = Encryption::Tls { certificate: certificate.clone(), key, own: None };
        assert_eq!(renew(&foreign, end).unwrap(), None);
    }

    #[test]
    fn alarms_come_at_thirty_fourteen_and_seven_days_and_at_the_end() {
        let end = NOW.plus(DAY * 100);
        let at = |left: u32| alarm(end, end.minus(DAY * left));
        assert_eq!(
            (at(31), at(30), at(15), at(14), at(8)),
            (None, Some(30), Some(30), Some(14), Some(14))
        );
        assert_eq!((at(7), at(1), at(0)), (Some(7), Some(7), Some(0)));
        let mut alarms = Alarms::default();
        let ends = [("it".to_owned(), end)];
        alarms.tell(&ends, end.minus(DAY * 29));
        assert_eq!(alarms.0, [("it".to_owned(), 30)]);
        alarms.tell(&ends, end.minus(DAY * 50));
        assert_eq!(alarms.0, []);
    }
}
