//! The RA's certificates: read from their files, renewed by the local CA with new keys before they end.
//!
//! A renewal replaces the files under their names, so the configuration stays as it is. The encryption key that was
//! replaced is kept beside (`.previous`) as long as its certificate may still be in use at devices.

use crate::error::GatewayError;
use crate::keystore::sync_folder;
use core::time::Duration;
use scep_ca::{CertificateAuthority as _, InfrastructurePurpose, LocalCa};
use scep_keys::{Backend, SoftwareKey, certificates_pem, read_certificates, write_new_public};
use scep_link::CertificatePurpose;
use scep_message::{LegacyAlgorithms, RaIdentity, Recipient};
use scep_types::{CertificateDer, DistinguishedName, SpkiDer, StringRules, Timestamp};
use std::io;
use std::path::{Path, PathBuf};

const DAY: Duration = Duration::from_secs(86_400);
/// What is being written; without meaning until it is renamed.
const NEW: &str = ".new";
/// What was replaced and still opens requests.
const PREVIOUS: &str = ".previous";

/// A certificate of the gateway's own.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    /// What it is, for people.
    pub(crate) what: &'static str,
    /// What it is, for the issuer.
    pub(crate) purpose: CertificatePurpose,
    /// The certificate.
    pub(crate) certificate: CertificateDer,
}

impl Owned {
    /// The role of its key.
    pub(crate) fn role(&self) -> &'static str {
        self.what.strip_suffix(" certificate").unwrap_or(self.what)
    }
}

/// A key and its certificate, each in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: PathBuf,
    pub(crate) certificate: PathBuf,
}

/// Where the RA's keys and certificates are.
#[derive(Clone, Debug)]
pub(crate) struct RaFiles {
    pub(crate) signing: Pair,
    /// The same as `signing` where one combined certificate does both.
    pub(crate) encryption: Pair,
    pub(crate) legacy: LegacyAlgorithms,
}

/// The RA as read.
#[derive(Debug)]
pub(crate) struct Ra {
    pub(crate) identity: RaIdentity,
    pub(crate) certificates: Vec<Owned>,
    /// The key that still opens requests until then.
    pub(crate) previous: Option<(SpkiDer, Timestamp)>,
}

/// What became of a certificate that was due.
#[derive(Debug)]
pub(crate) struct Renewed {
    pub(crate) what: &'static str,
    /// Until when the new one is good.
    pub(crate) outcome: Result<Timestamp, GatewayError>,
}

/// When two thirds of a certificate's life are over.
pub(crate) fn renewal_due(certificate: &CertificateDer) -> Timestamp {
    let life = certificate.not_after().since(certificate.not_before());
    certificate.not_after().minus(life / 3)
}

impl RaFiles {
    fn combined(&self) -> bool {
        self.signing == self.encryption
    }

    /// Which pairs there are, by name, role, and what they are for.
    fn pairs(&self) -> Vec<Role<'_>> {
        let role = |name, what, purpose, issue, pair| Role { name, what, purpose, issue, pair };
        if self.combined() {
            return vec![role(
                "ra.signing",
                "RA certificate",
                CertificatePurpose::Ra,
                InfrastructurePurpose::RaCombined,
                &self.signing,
            )];
        }
        vec![
            role(
                "ra.signing",
                "RA signing certificate",
                CertificatePurpose::RaSigning,
                InfrastructurePurpose::RaSigning,
                &self.signing,
            ),
            role(
                "ra.encryption",
                "RA encryption certificate",
                CertificatePurpose::RaDecryption,
                InfrastructurePurpose::RaEncryption,
                &self.encryption,
            ),
        ]
    }

    /// Reads and checks them. Whether they have expired is for the caller to see.
    pub(crate) fn read(&self, ca: &LocalCa, now: Timestamp) -> Result<Ra, GatewayError> {
        let mut certificates = Vec::new();
        let mut read = Vec::new();
        for role in self.pairs() {
            let (key, certificate) = role.pair.read(role.name)?;
            if certificate.spki().rsa().is_none() {
                return Err(GatewayError::config(role.name, "SCEP clients need an RSA key here"));
            }
            ca.check_issued(&certificate)
                .map_err(|error| GatewayError::config(role.name, error))?;
            certificates.push(Owned {
                what: role.what,
                purpose: role.purpose,
                certificate: certificate.clone(),
            });
            read.push((key, certificate));
        }
        let (Some(signing), Some(encryption)) = (read.first(), read.last()) else {
            return Err(GatewayError::config("ra", "there is none"));
        };
        // An answer mirrors the request's digest, and SHA-1 needs a signer that makes it.
        let signing_key = match self.legacy {
            LegacyAlgorithms::Accept => scep_keys::danger::sha1_signer(&signing.0)
                .map_err(|error| GatewayError::config("ra.signing_key", error))?,
            LegacyAlgorithms::Refuse => signing.0.signer(),
        };
        let recipient = |(key, certificate): &(SoftwareKey, CertificateDer)| {
            Ok::<_, GatewayError>(Recipient {
                certificate: certificate.clone(),
                key: key.decryption()?,
            })
        };
        let mut recipients = vec![recipient(encryption)?];
        let mut previous = None;
        if let Some((pair, until)) = self.encryption.previous(&encryption.1).filter(|p| now < p.1) {
            recipients.push(recipient(&pair)?);
            previous = Some((pair.0.public_key().clone(), until));
        }
        Ok(Ra {
            identity: RaIdentity {
                signing_certificate: signing.1.clone(),
                signing_key,
                recipients,
            },
            certificates,
            previous,
        })
    }

    /// Renews what is due, and forgets a previous key whose time is over. What could not be renewed stays as it was.
    pub(crate) fn renew(&self, ca: &LocalCa, now: Timestamp) -> Vec<Renewed> {
        let roles = self.pairs().into_iter();
        roles
            .filter_map(|role| {
                let outcome = role.renew(ca, now).transpose()?;
                Some(Renewed { what: role.what, outcome })
            })
            .collect()
    }
}

/// A pair and what it is for.
#[derive(Clone, Debug)]
struct Role<'a> {
    name: &'static str,
    what: &'static str,
    purpose: CertificatePurpose,
    issue: InfrastructurePurpose,
    pair: &'a Pair,
}

impl Role<'_> {
    /// `None`: not due.
    fn renew(&self, ca: &LocalCa, now: Timestamp) -> Result<Option<Timestamp>, GatewayError> {
        let decrypts = self.issue != InfrastructurePurpose::RaSigning;
        self.pair.tidy(self.name, now)?;
        let (old_key, old) = self.pair.read(self.name)?;
        if now < renewal_due(&old) {
            return Ok(None);
        }
        // No certificate outlives its CA. One that would not outlive the present one is not worth a new key; that the
        // CA itself ends is an alarm of its own.
        let ca_end = ca.chain().iter().map(CertificateDer::not_after).min();
        let life = old.not_after().since(old.not_before());
        let life = ca_end.map_or(life, |end| life.min(end.since(now)));
        if now.plus(life) <= old.not_after() {
            return Ok(None);
        }
        let wrong = |error: &dyn core::fmt::Display| GatewayError::config(self.name, error);
        let subject = DistinguishedName::from_der(old.subject_der(), StringRules::AllowBmp)
            .map_err(|error| wrong(&error))?;
        let key = SoftwareKey::generate(old_key.public_key().algorithm())?;
        let new =
            ca.issue_infrastructure(self.issue.clone(), key.public_key(), &subject, life, now)?;
        if decrypts {
            self.pair.keep(&old_key, &old)?;
        }
        self.pair.replace(&key, &new)?;
        Ok(Some(new.not_after()))
    }
}

impl Pair {
    fn beside(&self, suffix: &str) -> Self {
        let beside = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Self { key: beside(&self.key), certificate: beside(&self.certificate) }
    }

    /// The key and its certificate. When a renewal was cut off between its two renames, the certificate is the one
    /// that was not renamed yet.
    fn read(&self, name: &str) -> Result<(SoftwareKey, CertificateDer), GatewayError> {
        let key = SoftwareKey::read(&self.key, Backend::AwsLc)?;
        let certificate = one_certificate(&self.certificate, name)?;
        if key.public_key() == certificate.spki() {
            return Ok((key, certificate));
        }
        match one_certificate(&self.beside(NEW).certificate, name) {
            Ok(new) if key.public_key() == new.spki() => Ok((key, new)),
            _ => Err(GatewayError::config(name, "key and certificate do not belong together")),
        }
    }

    /// The pair that was replaced, and until when it opens: as long as its certificate is good, and a day after the
    /// replacement at least.
    fn previous(
        &self,
        present: &CertificateDer,
    ) -> Option<((SoftwareKey, CertificateDer), Timestamp)> {
        let files = self.beside(PREVIOUS);
        let key = SoftwareKey::read(&files.key, Backend::AwsLc).ok()?;
        let certificate = one_certificate(&files.certificate, "previous").ok()?;
        let belongs = key.public_key() == certificate.spki();
        // The same as the present one: a renewal that ended before it replaced anything.
        (belongs && key.public_key() != present.spki()).then(|| {
            let until = certificate.not_after().max(present.not_before().plus(DAY));
            ((key, certificate), until)
        })
    }

    /// Ends a renewal that was cut off, or forgets it; forgets what is over.
    fn tidy(&self, name: &str, now: Timestamp) -> Result<(), GatewayError> {
        let new = self.beside(NEW);
        let (key, certificate) = self.read(name)?;
        let in_place = one_certificate(&self.certificate, name)?;
        if in_place != certificate {
            rename(&new.certificate, &self.certificate)?;
        }
        new.remove()?;
        drop(key);
        if self.previous(&certificate).is_none_or(|(_, until)| until <= now) {
            self.beside(PREVIOUS).remove()?;
        }
        Ok(())
    }

    /// Keeps a pair that is about to be replaced.
    fn keep(&self, key: &SoftwareKey, certificate: &CertificateDer) -> Result<(), GatewayError> {
        let files = self.beside(PREVIOUS);
        files.remove()?;
        files.write(key, certificate)
    }

    /// Replaces a pair: the new one is durable beside it first, then takes its names.
    fn replace(&self, key: &SoftwareKey, certificate: &CertificateDer) -> Result<(), GatewayError> {
        let new = self.beside(NEW);
        new.write(key, certificate)?;
        rename(&new.key, &self.key)?;
        rename(&new.certificate, &self.certificate)
    }

    fn write(&self, key: &SoftwareKey, certificate: &CertificateDer) -> Result<(), GatewayError> {
        key.write_new(&self.key)?;
        write_new_public(&self.certificate, &certificates_pem(std::slice::from_ref(certificate)))?;
        folder_of(&self.certificate)
    }

    fn remove(&self) -> Result<(), GatewayError> {
        for path in [&self.key, &self.certificate] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(GatewayError::file(path))?,
            }
        }
        Ok(())
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), GatewayError> {
    std::fs::rename(from, to).map_err(GatewayError::file(to))?;
    folder_of(to)
}

fn folder_of(path: &Path) -> Result<(), GatewayError> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    sync_folder(folder).map_err(GatewayError::file(folder))
}

/// The one certificate of a file.
pub(crate) fn one_certificate(path: &Path, key: &str) -> Result<CertificateDer, GatewayError> {
    let mut certificates = read_certificates(path)?;
    match (certificates.pop(), certificates.is_empty()) {
        (Some(certificate), true) => Ok(certificate),
        _ => {
            Err(GatewayError::config(key, format!("{} must hold one certificate", path.display())))
        }
    }
}
