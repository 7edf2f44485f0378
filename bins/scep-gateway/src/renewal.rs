//! The RA's certificates: read from their files, renewed by the local CA with new keys before they end.
//!
//! A renewal replaces the files under their names, so the configuration stays as it is. What was replaced is kept beside
//! (`.previous`) as long as devices may still use it: the encryption key opens what is enveloped to it, and the signing
//! key answers that, as a device that holds an earlier GetCACert takes no other signer.

use crate::ca::RaIssuer;
use crate::error::GatewayError;
use crate::keystore::sync_folder;
use crate::label::{Keys, Label};
use core::time::Duration;
use scep_ca::InfrastructurePurpose;
use scep_keys::{
    Backend, KeyPlace, PrivateKey, SoftwareKey, certificates_pem, open_key, read_certificates,
    write_new_public,
};
use scep_link::CertificatePurpose;
use scep_message::{LegacyAlgorithms, RaIdentity, Recipient};
use scep_types::{
    AuthorityName, CertificateDer, DistinguishedName, KeyAlgorithm, StringRules, Timestamp,
};
use std::io;
use std::path::{Path, PathBuf};

const DAY: Duration = Duration::from_secs(86_400);
/// How long the first ones are good, if the CA gives so much.
const FIRST_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// What is being written; without meaning until it is renamed.
const NEW: &str = ".new";
/// What was replaced and still opens requests.
const PREVIOUS: &str = ".previous";

/// A certificate of the gateway's own.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    /// What it is, for people.
    pub(crate) what: Label,
    /// What it is, for the issuer.
    pub(crate) purpose: CertificatePurpose,
    /// The certificate.
    pub(crate) certificate: CertificateDer,
}

impl Owned {
    /// The role of its key.
    pub(crate) fn role(&self) -> Label {
        self.what.role()
    }
}

/// A key and its certificate, each in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: PathBuf,
    pub(crate) certificate: PathBuf,
}

/// A key and its certificate, wherever the key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RaPair {
    /// Both in files.
    Files(Pair),
    /// The key on a token. The gateway reads it and never renews it.
    Token {
        /// Where it is.
        key: KeyPlace,
        /// Its certificate's file.
        certificate: PathBuf,
    },
}

/// A pair as read.
type Read = (PrivateKey, CertificateDer);

/// Where the RA's keys and certificates are.
#[derive(Clone, Debug)]
pub(crate) struct RaFiles {
    /// The CA that it is the RA of.
    pub(crate) authority: AuthorityName,
    pub(crate) signing: RaPair,
    /// The same as `signing` where one combined certificate does both.
    pub(crate) encryption: RaPair,
    pub(crate) legacy: LegacyAlgorithms,
    pub(crate) renewal: Renewal,
}

/// Who renews the RA's certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The gateway, when they are due.
    Auto,
    /// An operator, by `renew-ra` at one gateway of a group: a device that asks one gateway for the RA's certificates and
    /// another for its own needs the same RA at both.
    Manual,
}

/// The RA as read.
#[derive(Debug)]
pub(crate) struct Ra {
    pub(crate) authority: AuthorityName,
    pub(crate) identity: RaIdentity,
    pub(crate) certificates: Vec<Owned>,
    /// What it was before, while that still opens and answers requests.
    pub(crate) previous: Option<Previous>,
}

/// An RA that was replaced.
#[derive(Debug)]
pub(crate) struct Previous {
    pub(crate) identity: RaIdentity,
    /// Until when it opens.
    pub(crate) until: Timestamp,
}

impl Previous {
    /// Its keys, with their roles; `present`: of the RA that has replaced it.
    fn keys(&self, authority: &AuthorityName, present: &RaIdentity) -> Keys {
        let encryption = self.identity.recipients.iter().map(|one| one.certificate.spki());
        let signing = self.identity.signing_certificate.spki();
        let label = |what| Label::of(authority, what);
        let mut keys: Keys =
            encryption.map(|key| (label(PREVIOUS_ENCRYPTION), key.clone())).collect();
        if signing != present.signing_certificate.spki() && keys.iter().all(|(_, k)| k != signing) {
            keys.push((label(PREVIOUS_SIGNING), signing.clone()));
        }
        keys
    }
}

impl Ra {
    /// Every key with its role.
    pub(crate) fn keys(&self) -> Keys {
        let present = self.certificates.iter();
        let mut keys: Keys =
            present.map(|owned| (owned.role(), owned.certificate.spki().clone())).collect();
        let previous = self.previous.iter();
        keys.extend(previous.flat_map(|one| one.keys(&self.authority, &self.identity)));
        keys
    }
}

/// The roles of RA keys that were replaced.
pub(crate) const PREVIOUS_ENCRYPTION: &str = "previous RA encryption";
pub(crate) const PREVIOUS_SIGNING: &str = "previous RA signing";

/// What became of a certificate that was due.
#[derive(Debug)]
pub(crate) struct Renewed {
    pub(crate) what: Label,
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
        let role = |name, what, purpose, issue, pair| {
            let what = Label::of(&self.authority, what);
            Role { name, what, purpose, issue, pair }
        };
        if self.combined() {
            return vec![role(
                "ra.signing",
                "RA certificate",
                CertificatePurpose::Ra,
                InfrastructurePurpose::RaCombined,
                &self.signing,
            )];
        }
        // What was replaced is known by its encryption key, so that one goes first: a renewal that is cut off between
        // the two leaves the signer that every device knows.
        vec![
            role(
                "ra.encryption",
                "RA encryption certificate",
                CertificatePurpose::RaDecryption,
                InfrastructurePurpose::RaEncryption,
                &self.encryption,
            ),
            role(
                "ra.signing",
                "RA signing certificate",
                CertificatePurpose::RaSigning,
                InfrastructurePurpose::RaSigning,
                &self.signing,
            ),
        ]
    }

    /// Reads and checks them. Whether they have expired is for the caller to see.
    pub(crate) fn read(&self, ca: &dyn RaIssuer, now: Timestamp) -> Result<Ra, GatewayError> {
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
                what: role.what.clone(),
                purpose: role.purpose,
                certificate: certificate.clone(),
            });
            read.push((key, certificate));
        }
        let (Some(encryption), Some(signing)) = (read.first(), read.last()) else {
            return Err(GatewayError::config("ra", "there is none"));
        };
        // An answer mirrors the request's digest, and SHA-1 needs a signer that makes it.
        let signer = |key: &PrivateKey| match self.legacy {
            LegacyAlgorithms::Accept => scep_keys::danger::sha1_signer_of(key)
                .map_err(|error| GatewayError::config("ra.signing_key", error)),
            LegacyAlgorithms::Refuse => Ok(key.signer()?),
        };
        let recipient = |(key, certificate): &Read| {
            Ok::<_, GatewayError>(Recipient {
                certificate: certificate.clone(),
                key: key.decryption()?,
            })
        };
        let mut recipients = vec![recipient(encryption)?];
        let mut previous = None;
        if let Some((pair, until)) = self.encryption.previous(&encryption.1).filter(|p| now < p.1) {
            recipients.push(recipient(&pair)?);
            // The signer of that time, while its certificate is good; otherwise the present one.
            let answers = self.signing.previous(&signing.1).map(|(pair, _)| pair);
            let answers = answers.filter(|(_, certificate)| now < certificate.not_after());
            let answers = answers.as_ref().unwrap_or(signing);
            let identity = RaIdentity {
                signing_certificate: answers.1.clone(),
                signing_key: signer(&answers.0)?,
                recipients: vec![recipient(&pair)?],
            };
            previous = Some(Previous { identity, until });
        }
        Ok(Ra {
            authority: self.authority.clone(),
            identity: RaIdentity {
                signing_certificate: signing.1.clone(),
                signing_key: signer(&signing.0)?,
                recipients,
            },
            certificates,
            previous,
        })
    }

    /// Renews both when one is due, and forgets what was replaced once its time is over. What could not be renewed
    /// stays as it was.
    ///
    /// Together, as the answer to a request is signed by the signer that belongs to the key it is enveloped to.
    pub(crate) fn renew(&self, ca: &dyn RaIssuer, now: Timestamp) -> Vec<Renewed> {
        self.renew_where(ca, now, self.renewal == Renewal::Auto, |certificate| {
            renewal_due(certificate) <= now
        })
    }

    /// Renews both now, because an operator says so.
    pub(crate) fn renew_now(
        &self,
        ca: &dyn RaIssuer,
        now: Timestamp,
    ) -> Result<Vec<Renewed>, GatewayError> {
        // A third generation would push out the first one, which devices still use.
        if let Some(previous) = self.read(ca, now)?.previous {
            let until = previous.until;
            let why = format!("was renewed already; the one before is in use until {until}");
            return Err(GatewayError::config("ra", why));
        }
        Ok(self.renew_where(ca, now, true, |_| true))
    }

    /// Makes them, where there is none yet: none of their files exists.
    pub(crate) fn make(
        &self,
        ca: &dyn RaIssuer,
        now: Timestamp,
    ) -> Result<Vec<Renewed>, GatewayError> {
        let roles = self.pairs();
        let absent = |role: &Role<'_>| match role.pair {
            RaPair::Files(pair) => !pair.key.exists() && !pair.certificate.exists(),
            RaPair::Token { .. } => false,
        };
        if !roles.iter().all(absent) {
            return Ok(Vec::new());
        }
        let ca_end = ca.chain().iter().map(CertificateDer::not_after).min();
        let life = ca_end.map_or(FIRST_LIFE, |end| FIRST_LIFE.min(end.since(now)));
        let mut made = Vec::new();
        for role in &roles {
            let RaPair::Files(pair) = role.pair else { continue };
            let key = SoftwareKey::generate(KeyAlgorithm::Rsa(2048))?;
            let subject = match role.issue {
                InfrastructurePurpose::RaSigning => "CN=SCEP RA signing",
                InfrastructurePurpose::RaEncryption => "CN=SCEP RA encryption",
                _ => "CN=SCEP RA",
            };
            let subject =
                subject.parse().map_err(|error| GatewayError::config(role.name, error))?;
            let new = ca.issue_ra(role.issue.clone(), &key, &subject, life, now)?;
            made.push((role, pair, key, new));
        }
        // Nothing is written before the CA has given everything.
        let mut done = Vec::new();
        for (role, pair, key, new) in made {
            pair.write(&key, &new)?;
            done.push(Renewed { what: role.what.clone(), outcome: Ok(new.not_after()) });
        }
        Ok(done)
    }

    fn renew_where(
        &self,
        ca: &dyn RaIssuer,
        now: Timestamp,
        may: bool,
        due: impl Fn(&CertificateDer) -> bool,
    ) -> Vec<Renewed> {
        let mut done = Vec::new();
        let mut ready = Vec::new();
        let roles = self.pairs();
        if roles.iter().any(|role| matches!(role.pair, RaPair::Token { .. })) {
            return roles.iter().filter_map(|role| role.on_token(may, &due)).collect();
        }
        for role in roles {
            match role.pair.tidy(role.name, now).and_then(|()| role.pair.read(role.name)) {
                Ok((_, certificate)) => ready.push((role, certificate)),
                Err(error) => done.push(Renewed { what: role.what, outcome: Err(error) }),
            }
        }
        let any = ready.iter().any(|(_, certificate)| due(certificate));
        if !may || !any || !done.is_empty() {
            return done;
        }
        for (role, certificate) in ready {
            // One that a renewal has done before it was cut off.
            if now < renewal_due(&certificate) && role.pair.previous(&certificate).is_some() {
                continue;
            }
            match role.renew(ca, now) {
                Ok(None) => {}
                Ok(Some(until)) => done.push(Renewed { what: role.what, outcome: Ok(until) }),
                Err(error) => {
                    done.push(Renewed { what: role.what, outcome: Err(error) });
                    break;
                }
            }
        }
        done
    }
}

/// A pair and what it is for.
#[derive(Clone, Debug)]
struct Role<'a> {
    name: &'static str,
    what: Label,
    purpose: CertificatePurpose,
    issue: InfrastructurePurpose,
    pair: &'a RaPair,
}

impl Role<'_> {
    /// Why an RA with a key on a token is not renewed, when it is due. What the token keeps is never replaced by a key in
    /// a file, and both are renewed together or not at all.
    fn on_token(&self, may: bool, due: &impl Fn(&CertificateDer) -> bool) -> Option<Renewed> {
        match self.pair.read(self.name) {
            Ok((_, certificate)) if !may || !due(&certificate) => return None,
            Ok(_) => {}
            Err(error) => return Some(Renewed { what: self.what.clone(), outcome: Err(error) }),
        }
        let why = "the RA has a key on a token and is not renewed by the gateway: make new keys there, have the CA \
                   certify them, and name both in the configuration";
        Some(Renewed {
            what: self.what.clone(),
            outcome: Err(GatewayError::config(self.name, why)),
        })
    }

    /// `None`: there is nothing to gain.
    fn renew(&self, ca: &dyn RaIssuer, now: Timestamp) -> Result<Option<Timestamp>, GatewayError> {
        let RaPair::Files(pair) = self.pair else { return Ok(None) };
        let (old_key, old) = pair.read(self.name)?;
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
        let new = ca.issue_ra(self.issue.clone(), &key, &subject, life, now)?;
        pair.keep(&old_key, &old)?;
        pair.replace(&key, &new)?;
        Ok(Some(new.not_after()))
    }
}

impl RaPair {
    fn read(&self, name: &str) -> Result<Read, GatewayError> {
        match self {
            Self::Files(pair) => pair.read(name).map(|(key, one)| (key.into(), one)),
            Self::Token { key, certificate } => {
                let key = open_key(key)?;
                let certificate = one_certificate(certificate, name)?;
                if key.public_key() == certificate.spki() {
                    Ok((key, certificate))
                } else {
                    Err(GatewayError::config(name, "key and certificate do not belong together"))
                }
            }
        }
    }

    fn previous(&self, present: &CertificateDer) -> Option<(Read, Timestamp)> {
        let Self::Files(pair) = self else { return None };
        pair.previous(present).map(|((key, one), until)| ((key.into(), one), until))
    }

    fn tidy(&self, name: &str, now: Timestamp) -> Result<(), GatewayError> {
        match self {
            Self::Files(pair) => pair.tidy(name, now),
            Self::Token { .. } => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use scep_ca::{LocalCa, LocalCaSettings};
    use scep_keys::AwsLc;
    use scep_types::KeyAlgorithm;
    use std::sync::Arc;

    const START: Timestamp = Timestamp::from_seconds(1_795_507_200);
    const LIFE: Duration = Duration::from_secs(90 * 86_400);

    struct Site {
        dir: tempfile::TempDir,
        ca: LocalCa,
        files: RaFiles,
    }

    /// A CA that ends after this many days, and an RA of 90 days.
    fn site(ca_days: u32, combined: bool) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let name = "CN=CA".parse().unwrap();
        let root = LocalCa::self_signed_root(&*key.signer(), &name, DAY * ca_days, START, &AwsLc);
        let settings = LocalCaSettings::default();
        let ca = LocalCa::new(key.signer(), root.unwrap(), Vec::new(), settings, Arc::new(AwsLc));
        let ca = ca.unwrap();
        let pair = |name: &str, purpose| {
            let files = Pair {
                key: dir.path().join(format!("{name}.key.pem")),
                certificate: dir.path().join(format!("{name}.cert.pem")),
            };
            let key = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
            let subject = format!("CN={name}").parse().unwrap();
            let made = ca.issue_infrastructure(purpose, key.public_key(), &subject, LIFE, START);
            files.write(&key, &made.unwrap()).unwrap();
            files
        };
        let (signing, encryption) = if combined {
            let both = pair("ra", InfrastructurePurpose::RaCombined);
            (both.clone(), both)
        } else {
            let signing = pair("sign", InfrastructurePurpose::RaSigning);
            (signing, pair("encrypt", InfrastructurePurpose::RaEncryption))
        };
        let legacy = LegacyAlgorithms::Refuse;
        let (signing, encryption) = (RaPair::Files(signing), RaPair::Files(encryption));
        let authority = AuthorityName::main();
        let files = RaFiles { authority, signing, encryption, legacy, renewal: Renewal::Auto };
        Site { dir, ca, files }
    }

    fn files(pair: &RaPair) -> &Pair {
        let RaPair::Files(pair) = pair else { panic!("{pair:?}") };
        pair
    }

    impl Site {
        fn read(&self, now: Timestamp) -> Ra {
            self.files.read(&self.ca, now).unwrap()
        }

        fn renew(&self, now: Timestamp) -> Vec<&'static str> {
            let renewed = self.files.renew(&self.ca, now);
            renewed
                .iter()
                .inspect(|r| assert!(r.outcome.is_ok(), "{r:?}"))
                .map(|r| r.what.what)
                .collect()
        }

        fn names(&self) -> Vec<String> {
            let names = std::fs::read_dir(self.dir.path()).unwrap();
            let mut names: Vec<String> =
                names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn day(n: u32) -> Timestamp {
        START.plus(DAY * n)
    }

    #[test]
    fn nothing_is_renewed_before_two_thirds_of_its_life() {
        let site = site(3_650, false);
        let before = site.names();
        assert!(site.renew(day(59)).is_empty());
        assert_eq!(site.names(), before);
        let certificate = &site.read(START).certificates[0].certificate;
        assert!(day(59) < renewal_due(certificate) && renewal_due(certificate) < day(61));
    }

    #[test]
    fn both_are_renewed_with_new_keys_and_the_old_encryption_key_still_opens() {
        let site = site(3_650, false);
        let old = site.read(START);
        assert_eq!(site.renew(day(61)), ["RA encryption certificate", "RA signing certificate"]);
        let new = site.read(day(61));
        for (old, new) in old.certificates.iter().zip(&new.certificates) {
            assert_ne!(old.certificate.spki(), new.certificate.spki());
            assert_eq!(old.certificate.subject_der(), new.certificate.subject_der());
            assert!(new.certificate.not_after() > day(61 + 89));
        }
        let certificates = |ra: &Ra| -> Vec<CertificateDer> {
            ra.identity.recipients.iter().map(|r| r.certificate.clone()).collect()
        };
        let [present, previous] = certificates(&new).try_into().unwrap();
        assert_eq!(previous, certificates(&old)[0]);
        assert_eq!(present, new.certificates[0].certificate);
        // Until its own end, and not a day longer.
        let replaced = new.previous.as_ref().unwrap();
        assert_eq!(replaced.until, previous.not_after());
        // And what is enveloped to it is answered by the signer of that time.
        let signer = &old.identity.signing_certificate;
        assert_eq!(&replaced.identity.signing_certificate, signer);
        assert_eq!(replaced.identity.signing_key.public_key(), signer.spki());
        assert_ne!(&new.identity.signing_certificate, signer);
        assert_eq!(site.read(day(89)).identity.recipients.len(), 2);
        assert_eq!(site.read(day(91)).identity.recipients.len(), 1);
        assert!(site.renew(day(91)).is_empty());
        let left = site.names();
        assert_eq!(left, ["encrypt.cert.pem", "encrypt.key.pem", "sign.cert.pem", "sign.key.pem"]);
    }

    #[test]
    fn one_that_has_ended_is_renewed_and_its_key_kept_for_a_day() {
        let site = site(3_650, false);
        site.renew(day(200));
        let new = site.read(day(200));
        let Previous { until, identity } = new.previous.unwrap();
        // The signer of that time has ended too: nobody takes it any more.
        assert_eq!(identity.signing_certificate, new.identity.signing_certificate);
        assert!(until > day(200).plus(DAY / 2) && until <= day(201), "{until}");
    }

    #[test]
    fn a_combined_certificate_is_renewed_as_one() {
        let site = site(3_650, true);
        let old = site.read(START);
        assert_eq!(site.renew(day(61)), ["RA certificate"]);
        let new = site.read(day(61));
        assert_eq!(new.certificates.len(), 1);
        assert_eq!(new.identity.signing_certificate, new.identity.recipients[0].certificate);
        assert_eq!(old.identity.signing_certificate, new.identity.recipients[1].certificate);
    }

    #[test]
    fn attack_63_a_group_renews_its_ra_when_its_operator_says_so() {
        let mut site = site(3_650, false);
        site.files.renewal = Renewal::Manual;
        assert!(site.renew(day(80)).is_empty());
        let old = site.read(day(80));
        let renewed = site.files.renew_now(&site.ca, day(10)).unwrap();
        assert!(renewed.len() == 2 && renewed.iter().all(|one| one.outcome.is_ok()), "{renewed:?}");
        let new = site.read(day(10));
        assert_ne!(new.certificates[0].certificate, old.certificates[0].certificate);
        assert!(new.previous.is_some());
        // Not twice, while the one before is in use: a third would push it out.
        let error = site.files.renew_now(&site.ca, day(11)).unwrap_err().to_string();
        assert!(error.contains("renewed already"), "{error}");
        site.files.renew_now(&site.ca, day(91)).unwrap();
    }

    #[test]
    fn a_ca_that_ends_first_gives_no_new_keys_in_vain() {
        let site = site(91, false);
        assert_eq!(site.renew(day(61)).len(), 2);
        // The new ones end with the CA: there is nothing to gain.
        let end = site.read(day(61)).certificates[0].certificate.not_after();
        assert!(end <= day(91));
        assert!(site.renew(day(85)).is_empty());
    }

    /// Wherever a renewal is cut off, the files that are left can be read and the next one does the rest.
    #[test]
    fn a_renewal_may_be_cut_off_anywhere() {
        let cut = |at: usize| {
            let site = site(3_650, false);
            let old = site.read(START).certificates[0].certificate.clone();
            let pair = files(&site.files.encryption);
            let (old_key, _) = pair.read("x").unwrap();
            let key = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
            let subject = "CN=encrypt".parse().unwrap();
            let purpose = InfrastructurePurpose::RaEncryption;
            let new =
                site.ca.issue_infrastructure(purpose, key.public_key(), &subject, LIFE, day(61));
            let new = new.unwrap();
            let (previous, next) = (pair.beside(PREVIOUS), pair.beside(NEW));
            let certificate = |path: &Path, one: &CertificateDer| {
                write_new_public(path, &certificates_pem(std::slice::from_ref(one))).unwrap();
            };
            let steps: [&dyn Fn(); 6] = [
                &|| old_key.write_new(&previous.key).unwrap(),
                &|| certificate(&previous.certificate, &old),
                &|| key.write_new(&next.key).unwrap(),
                &|| certificate(&next.certificate, &new),
                &|| rename(&next.key, &pair.key).unwrap(),
                &|| rename(&next.certificate, &pair.certificate).unwrap(),
            ];
            for step in &steps[..at] {
                step();
            }
            let replaced = at >= 5;
            let found = site.read(day(61));
            let present = &found.certificates[0].certificate;
            assert_eq!(present, if replaced { &new } else { &old }, "{at}");
            assert_eq!(found.previous.is_some(), replaced, "{at}");
            let again = site.renew(day(61));
            assert_eq!(again.contains(&"RA encryption certificate"), !replaced, "{at}");
            let found = site.read(day(61));
            assert_eq!(found.identity.recipients[1].certificate, old, "{at}");
            assert!(!next.key.exists() && !next.certificate.exists(), "{at}");
            assert!(site.renew(day(61)).is_empty(), "{at}");
        };
        (0..=6).for_each(cut);
    }

    #[test]
    fn a_key_without_its_certificate_is_no_ra() {
        let site = site(3_650, false);
        let key = |pair| &files(pair).key;
        std::fs::copy(key(&site.files.signing), key(&site.files.encryption)).unwrap();
        let error = site.files.read(&site.ca, START).unwrap_err().to_string();
        assert!(error.contains("do not belong together"), "{error}");
    }
}
