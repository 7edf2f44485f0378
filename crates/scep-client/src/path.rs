//! Which certificate was issued by which, among a handful.

use scep_cms::LegacyAlgorithms;
use scep_types::algorithm::signature_scheme_from_der;
use scep_types::tlv::{Reader, tag};
use scep_types::{
    CertificateDer, CryptoProvider, DistinguishedName, KeyUsages, ObjectIdentifier,
    SignatureScheme, StringRules, Timestamp,
};

/// Longest path. The loop ends anyway: no certificate is used twice.
const MAX: usize = 8;

const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");

/// What a certificate's keyUsage says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// No such extension: anything goes.
    Any,
    Only(KeyUsages),
    /// It cannot be read: nothing goes.
    Malformed,
}

impl Usage {
    pub(crate) fn of(certificate: &CertificateDer) -> Self {
        match certificate.extension(&KEY_USAGE).map(KeyUsages::from_der) {
            None => Self::Any,
            Some(Ok(usages)) => Self::Only(usages),
            Some(Err(_)) => Self::Malformed,
        }
    }

    pub(crate) fn allows(self, usage: KeyUsages) -> bool {
        match self {
            Self::Any => true,
            Self::Only(usages) => usages.contains(usage),
            Self::Malformed => false,
        }
    }
}

/// Whether a certificate is a CA's.
pub(crate) fn is_ca(certificate: &CertificateDer) -> bool {
    let basic = certificate
        .extension(&BASIC_CONSTRAINTS)
        .and_then(|value| Reader::new(value).only(tag::SEQUENCE).ok())
        .and_then(|basic| basic.reader().optional(tag::BOOLEAN).ok().flatten())
        .is_some_and(|flag| flag.boolean() == Ok(true));
    basic && Usage::of(certificate).allows(KeyUsages::KEY_CERT_SIGN)
}

fn same_name(a: &[u8], b: &[u8]) -> bool {
    let read = |der| DistinguishedName::from_der(der, StringRules::AllowBmp).ok();
    // Some CAs write a name in one string type as subject and in another as issuer.
    a == b || read(a).is_some_and(|name| read(b) == Some(name))
}

/// How signatures and times are judged.
pub(crate) struct Judge<'a> {
    pub(crate) provider: &'a dyn CryptoProvider,
    pub(crate) legacy: LegacyAlgorithms,
    pub(crate) now: Timestamp,
}

impl Judge<'_> {
    fn signed_by(&self, certificate: &CertificateDer, issuer: &CertificateDer) -> bool {
        let Ok(scheme) = signature_scheme_from_der(certificate.signature_algorithm_der()) else {
            return false;
        };
        let old = scheme == SignatureScheme::RsaPkcs1Sha1;
        if old && self.legacy == LegacyAlgorithms::Refuse {
            return false;
        }
        let (tbs, signature) = (certificate.tbs_der(), certificate.signature());
        self.provider.verify(issuer.spki(), scheme, tbs, signature).is_ok()
    }

    fn valid_now(&self, certificate: &CertificateDer) -> bool {
        certificate.not_before() <= self.now && self.now <= certificate.not_after()
    }

    /// The path upwards from a certificate, which is not part of it, as far as `pool` goes. Each is a valid CA
    /// certificate whose key has signed the one before.
    pub(crate) fn path(
        &self,
        from: &CertificateDer,
        pool: &[&CertificateDer],
    ) -> Vec<CertificateDer> {
        let mut path: Vec<CertificateDer> = Vec::new();
        while path.len() < MAX {
            let last = path.last().unwrap_or(from);
            let issuer = pool.iter().find(|candidate| {
                **candidate != from
                    && !path.contains(candidate)
                    && same_name(last.issuer_der(), candidate.subject_der())
                    && is_ca(candidate)
                    && self.valid_now(candidate)
                    && self.signed_by(last, candidate)
            });
            match issuer {
                Some(issuer) => path.push((*issuer).clone()),
                None => break,
            }
        }
        path
    }

    /// Whether `pool` has a certificate of the issuer's name. Whether it is the issuer, is another question.
    pub(crate) fn issuer_named(from: &CertificateDer, pool: &[&CertificateDer]) -> bool {
        pool.iter().any(|candidate| same_name(from.issuer_der(), candidate.subject_der()))
    }

    /// Whether a certificate is the anchor, or valid and below it.
    pub(crate) fn leads_to(
        &self,
        from: &CertificateDer,
        anchor: &CertificateDer,
        pool: &[&CertificateDer],
    ) -> bool {
        from == anchor || (self.valid_now(from) && self.path(from, pool).contains(anchor))
    }
}
