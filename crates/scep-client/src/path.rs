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

/// How many CAs may be below this one (RFC 5280, 4.2.1.9); `None` when it is no CA.
fn cas_below(certificate: &CertificateDer) -> Option<u64> {
    let basic = certificate.extension(&BASIC_CONSTRAINTS)?;
    let mut fields = Reader::new(basic).only(tag::SEQUENCE).ok()?.reader();
    let ca = fields.optional(tag::BOOLEAN).ok()??.boolean().ok()?;
    let allowed = match fields.optional(tag::INTEGER).ok()? {
        Some(length) => length.small_int().ok()?,
        None => u64::MAX,
    };
    fields.finish().ok()?;
    (ca && Usage::of(certificate).allows(KeyUsages::KEY_CERT_SIGN)).then_some(allowed)
}

/// Whether a certificate is a CA's.
pub(crate) fn is_ca(certificate: &CertificateDer) -> bool {
    cas_below(certificate).is_some()
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
            let below = u64::try_from(path.len()).unwrap_or(u64::MAX);
            let issuer = pool.iter().find(|candidate| {
                **candidate != from
                    && !path.contains(candidate)
                    && same_name(last.issuer_der(), candidate.subject_der())
                    && cas_below(candidate).is_some_and(|allowed| below <= allowed)
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use core::time::Duration;
    use scep_testkit::{NoOpProvider, TestKey};
    use scep_types::{SpkiDer, tlv};

    pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    /// A certificate whose signature nobody looks at but [`NoOpProvider`].
    #[derive(Clone)]
    pub(crate) struct Made {
        pub(crate) issuer: &'static str,
        pub(crate) subject: &'static str,
        pub(crate) key: SpkiDer,
        /// cA, as it is written.
        pub(crate) ca: &'static [u8],
        pub(crate) path_length: Option<u64>,
        pub(crate) usage: Option<KeyUsages>,
        pub(crate) begin: Timestamp,
        pub(crate) end: Timestamp,
        pub(crate) scheme: SignatureScheme,
    }

    impl Made {
        pub(crate) fn new(issuer: &'static str, subject: &'static str) -> Self {
            Self {
                issuer,
                subject,
                key: TestKey::RsaA.public_key(),
                ca: &[],
                path_length: None,
                usage: None,
                begin: NOW.minus(DAY),
                end: NOW.plus(DAY),
                scheme: SignatureScheme::RsaPkcs1Sha256,
            }
        }

        pub(crate) fn ca(issuer: &'static str, subject: &'static str) -> Self {
            Self {
                ca: &[tag::BOOLEAN, 1, 0xff],
                usage: Some(KeyUsages::KEY_CERT_SIGN),
                ..Self::new(issuer, subject)
            }
        }

        pub(crate) fn der(&self) -> CertificateDer {
            let name = |text: &str| text.parse::<DistinguishedName>().unwrap().to_der();
            let mut extensions = Vec::new();
            let mut extension = |oid: &ObjectIdentifier, value: &[u8]| {
                let value = tlv::encode(tag::OCTET_STRING, value);
                extensions.extend(tlv::sequence(&[&tlv::oid(oid), &value]));
            };
            let length = self.path_length.map(tlv::small_int).unwrap_or_default();
            extension(&BASIC_CONSTRAINTS, &tlv::sequence(&[self.ca, &length]));
            if let Some(usage) = self.usage {
                extension(&KEY_USAGE, &usage.to_der());
            }
            let algorithm = self.scheme.algorithm_der();
            let tbs = tlv::sequence(&[
                &[0xa0, 3, tag::INTEGER, 1, 2],
                &tlv::small_int(7),
                &algorithm,
                &name(self.issuer),
                &tlv::sequence(&[&tlv::time(self.begin), &tlv::time(self.end)]),
                &name(self.subject),
                self.key.as_der(),
                &tlv::construct(tag::context_constructed(3), &[&tlv::sequence(&[&extensions])]),
            ]);
            let der = tlv::sequence(&[&tbs, &algorithm, &tlv::whole_bits(&[0])]);
            CertificateDer::parse(&der).unwrap()
        }
    }

    const JUDGE: Judge<'static> =
        Judge { provider: &NoOpProvider, legacy: LegacyAlgorithms::Refuse, now: NOW };

    /// Whether a certificate leads to the root over this one CA.
    fn over(ca: &Made) -> bool {
        let (root, leaf) = (Made::ca("CN=root", "CN=root").der(), Made::new("CN=sub", "CN=ra"));
        let (ca, leaf) = (ca.der(), leaf.der());
        JUDGE.leads_to(&leaf, &root, &[&ca, &root])
    }

    #[test]
    fn paths_lead_over_valid_ca_certificates_only() {
        let good = Made::ca("CN=root", "CN=sub");
        assert!(over(&good));
        assert!(over(&Made { usage: None, ..good.clone() }), "keyUsage may be left out");
        let signs = Some(KeyUsages::DIGITAL_SIGNATURE);
        for bad in [
            // A device's certificate, used by the device as a CA's.
            Made { ca: &[], ..good.clone() },
            Made { ca: &[], usage: signs, ..good.clone() },
            Made { ca: &[tag::BOOLEAN, 1, 0], ..good.clone() },
            Made { usage: signs, ..good.clone() },
            Made { end: NOW.minus(Duration::from_secs(1)), ..good.clone() },
            Made { begin: NOW.plus(Duration::from_secs(1)), ..good.clone() },
            Made { subject: "CN=other", ..good.clone() },
            Made { issuer: "CN=other", ..good.clone() },
            Made { scheme: SignatureScheme::RsaPkcs1Sha1, ..good.clone() },
        ] {
            assert!(!over(&bad));
        }
        assert!(over(&Made { end: NOW, begin: NOW, ..good }), "both ends belong to it");
    }

    #[test]
    fn a_ca_with_a_path_length_has_no_more_cas_below_it() {
        let leaf = Made::new("CN=sub", "CN=ra").der();
        let sub = Made { path_length: Some(0), ..Made::ca("CN=root", "CN=sub") }.der();
        for (path_length, leads) in [(None, true), (Some(1), true), (Some(0), false)] {
            let root = Made { path_length, ..Made::ca("CN=root", "CN=root") }.der();
            assert_eq!(JUDGE.leads_to(&leaf, &root, &[&sub, &root]), leads, "{path_length:?}");
        }
    }

    #[test]
    fn sha1_leads_somewhere_where_old_algorithms_are_accepted() {
        let root = Made::ca("CN=root", "CN=root").der();
        let scheme = SignatureScheme::RsaPkcs1Sha1;
        let leaf = Made { scheme, ..Made::new("CN=root", "CN=ra") }.der();
        assert!(!JUDGE.leads_to(&leaf, &root, &[&root]));
        let old = Judge { legacy: LegacyAlgorithms::Accept, ..JUDGE };
        assert!(old.leads_to(&leaf, &root, &[&root]));
    }

    #[test]
    fn paths_end_even_where_certificates_issue_each_other() {
        let (a, b) = (Made::ca("CN=b", "CN=a").der(), Made::ca("CN=a", "CN=b").der());
        let leaf = Made::new("CN=a", "CN=leaf").der();
        assert_eq!(JUDGE.path(&leaf, &[&a, &b]), [a.clone(), b.clone()]);
        assert_eq!(JUDGE.path(&a, &[&a, &b]), [b]);
    }
}
