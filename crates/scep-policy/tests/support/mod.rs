//! A good request with its claims, and certificates made by hand.
#![allow(dead_code, reason = "each test binary uses its part")]

use core::time::Duration;
use scep_challenge::{
    ApprovalMode, ChallengeClaims, DemandUsages, Expectation, Opener, OpeningKey, PinnedSigner,
    Purpose, Renewal, SealError, VerifiedClaims, seal,
};
use scep_keys::{AwsLc, SoftwareKey};
use scep_pkcs10::danger::RawRequest;
use scep_pkcs10::{Csr, CsrBuilder, RequestedExtension, Rules, UnprovenCsr};
use scep_policy::{
    Approval, Denial, Denials, Field, FieldReport, InertContent, SiteRules, decide, explain,
};
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, ChallengeId, DistinguishedName, ExtendedKeyUsages, GeneralName, KeyAlgorithm,
    KeyUsages, ObjectIdentifier, Reason, Secret, SignatureScheme, Timestamp,
};
use std::sync::LazyLock;

pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
pub(crate) const DAY: u64 = 86_400;

pub(crate) const RULES: &str = r#"
issuance_per_hour = 60
max_validity_days = 397
rsa_min_bits = 2048
curves = ["p256"]
extended_key_usages = ["clientAuth", "serverAuth", "emailProtection"]
san_kinds = ["dns", "email", "upn", "uri", "ip", "directory", "otherName", "registeredId"]
dns_suffixes = ["example.org"]
email_suffixes = ["example.org"]
upn_suffixes = ["corp.example.org"]
uri_prefixes = ["urn:example:"]
sid_domains = ["S-1-5-21-1-2-3"]
ip_networks = ["192.0.2.0/24"]
other_name_types = ["1.3.6.1.5.5.7.8.4"]
registered_ids = ["1.3.6.1.4.1.99999.1"]
"#;

/// Key pairs are made once: only their kind matters.
pub(crate) struct Keys {
    pub(crate) device: SoftwareKey,
    pub(crate) other: SoftwareKey,
    pub(crate) p384: SoftwareKey,
    pub(crate) issuer: SoftwareKey,
    pub(crate) gateway: SoftwareKey,
}

pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let make = |algorithm| SoftwareKey::generate(algorithm).unwrap();
    Keys {
        device: make(KeyAlgorithm::P256),
        other: make(KeyAlgorithm::P256),
        p384: make(KeyAlgorithm::P384),
        issuer: make(KeyAlgorithm::P256),
        gateway: make(KeyAlgorithm::P256),
    }
});

pub(crate) static RSA: LazyLock<SoftwareKey> =
    LazyLock::new(|| SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap());

pub(crate) fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new(text).unwrap()
}

pub(crate) fn name(text: &str) -> DistinguishedName {
    text.parse().unwrap()
}

pub(crate) fn purposes(names: &[&str]) -> ExtendedKeyUsages {
    let all = names.iter().map(|n| ExtendedKeyUsages::purpose(n).unwrap()).collect();
    ExtendedKeyUsages::new(all).unwrap()
}

pub(crate) fn usages(names: &[&str]) -> KeyUsages {
    KeyUsages::from_names(names.iter().copied()).unwrap()
}

pub(crate) fn rules() -> SiteRules {
    SiteRules::from_toml(RULES).unwrap()
}

/// `RULES` with lines replaced (or added) by key.
pub(crate) fn rules_with(lines: &[&str]) -> SiteRules {
    let key = |line: &str| line.split('=').next().unwrap().trim().to_owned();
    let mut text: Vec<String> = RULES
        .lines()
        .filter(|old| !lines.iter().any(|new| key(new) == key(old)))
        .map(str::to_owned)
        .collect();
    text.extend(lines.iter().map(|l| (*l).to_owned()));
    SiteRules::from_toml(&text.join("\n")).unwrap()
}

/// One enrolment: what the issuer says, what the device sends, and under which rules it is judged.
pub(crate) struct Case {
    pub(crate) claims: ChallengeClaims,
    pub(crate) request: CsrBuilder,
    pub(crate) key: SoftwareKey,
    pub(crate) rules: SiteRules,
    pub(crate) denials: Denials,
    pub(crate) inert: InertContent,
}

/// A request that is exactly what its challenge allows.
pub(crate) fn good() -> Case {
    let subject = name(r"C=CH, O=Example\, Inc., CN=device-7");
    let subject_alt_names = vec![
        GeneralName::dns("device-7.example.org").unwrap(),
        GeneralName::upn("device-7@corp.example.org").unwrap(),
    ];
    let key_usage = usages(&["digitalSignature", "keyEncipherment"]);
    let extended_key_usages = purposes(&["clientAuth"]);
    Case {
        claims: ChallengeClaims {
            challenge_id: ChallengeId::from_bytes([7; 16]),
            tenant: "tenant".parse().unwrap(),
            issuer_key: KEYS.issuer.public_key().key_id(),
            audience: "gateways".parse().unwrap(),
            recipient_key: KEYS.gateway.public_key().key_id(),
            profile: "wifi".parse().unwrap(),
            device: "device-7".parse().unwrap(),
            user: Some("user-7".parse().unwrap()),
            issued_at: NOW.minus(Duration::from_secs(60)),
            expires_at: NOW.plus(Duration::from_secs(3000)),
            purpose: Purpose::Enrol,
            expectation: Expectation {
                subject: subject.clone(),
                subject_alt_names: subject_alt_names.clone(),
                key_usage,
                extended_key_usages: extended_key_usages.clone(),
                demand_usages: DemandUsages::No,
                key_algorithms: vec![KeyAlgorithm::Rsa(2048), KeyAlgorithm::P256],
                spki_hash: None,
                validity: Duration::from_secs(365 * DAY),
                extensions: Vec::new(),
                renewal: Renewal::Blob,
                approval: ApprovalMode::Automatic,
            },
        },
        request: CsrBuilder {
            subject,
            subject_alt_names,
            key_usage: Some(key_usage),
            extended_key_usages: Some(extended_key_usages),
            challenge_password: Some(Secret::new(PLACEHOLDER.to_owned())),
            ..CsrBuilder::default()
        },
        key: KEYS.device.clone(),
        rules: rules(),
        denials: Denials::default(),
        inert: InertContent::Discard,
    }
}

/// Stands in a request for the blob of its claims, until it is signed.
const PLACEHOLDER: &str = "CHALLENGETEXT";

/// `good` with one change.
pub(crate) fn good_but(change: impl FnOnce(&mut Case)) -> Case {
    let mut case = good();
    change(&mut case);
    case
}

pub(crate) fn read(der: &[u8]) -> Csr {
    UnprovenCsr::parse(der, &Rules::default()).unwrap().prove(&AwsLc).unwrap()
}

static OPENER: LazyLock<Opener> = LazyLock::new(|| {
    Opener::new(
        "tenant".parse().unwrap(),
        "gateways".parse().unwrap(),
        vec![PinnedSigner {
            key: KEYS.issuer.public_key().clone(),
            not_before: Timestamp::EPOCH,
            not_after: Timestamp::MAX,
        }],
        vec![OpeningKey { key: KEYS.gateway.decryption().unwrap(), not_after: None }],
        Duration::from_secs(3600),
        Duration::from_secs(300),
    )
    .unwrap()
});

fn sealed(claims: &ChallengeClaims) -> Result<String, SealError> {
    seal(claims, &*KEYS.issuer.signer(), KEYS.gateway.public_key(), &AwsLc)
}

/// Claims as the gateway gets them: those of the request's own challenge. Of a request whose challenge is no blob,
/// those of `claims`, sealed and opened beside it.
pub(crate) fn verified(csr: &Csr, claims: &ChallengeClaims) -> VerifiedClaims {
    csr.challenge_password()
        .and_then(|text| OPENER.open(text.expose(), NOW, &AwsLc).ok())
        .unwrap_or_else(|| OPENER.open(&sealed(claims).unwrap(), NOW, &AwsLc).unwrap())
}

impl Case {
    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::default_for(self.key.public_key().algorithm())
    }

    /// The request with the blob of the claims in it, unless it has a challenge of its own.
    pub(crate) fn filled(&self) -> CsrBuilder {
        let request = &self.request;
        let own = request.challenge_password.as_ref().map(Secret::expose);
        let text = match own.map(String::as_str) {
            // Claims that cannot be sealed are explained all the same.
            Some(PLACEHOLDER) => {
                Some(sealed(&self.claims).unwrap_or_else(|_| PLACEHOLDER.to_owned()))
            }
            other => other.map(str::to_owned),
        };
        CsrBuilder {
            subject: request.subject.clone(),
            subject_alt_names: request.subject_alt_names.clone(),
            key_usage: request.key_usage,
            extended_key_usages: request.extended_key_usages.clone(),
            extensions: request.extensions.clone(),
            challenge_password: text.map(Secret::new),
            attributes: request.attributes.clone(),
        }
    }

    pub(crate) fn csr(&self) -> Csr {
        read(&self.filled().sign(&*self.key.signer(), self.scheme()).unwrap())
    }

    /// The request with its parts changed by hand.
    pub(crate) fn raw_csr(&self, change: impl FnOnce(&mut RawRequest)) -> Csr {
        let signer = self.key.signer();
        let mut raw = self.filled().to_raw(&*signer, self.scheme());
        change(&mut raw);
        read(&raw.sign(&*signer, self.scheme()).unwrap())
    }

    pub(crate) fn decide(&self) -> Result<Approval, Denial> {
        self.decide_on(&self.csr())
    }

    pub(crate) fn decide_on(&self, csr: &Csr) -> Result<Approval, Denial> {
        decide(csr, verified(csr, &self.claims), &self.rules, &self.denials, self.inert, NOW)
    }

    pub(crate) fn approved(&self) -> Approval {
        self.decide().unwrap_or_else(|denial| panic!("{denial}"))
    }

    /// Fields and reasons of the denial.
    pub(crate) fn refused(&self) -> Vec<(Field, Reason)> {
        pairs(self.decide().unwrap_err().reports())
    }

    /// Every field, as it is explained to the operator.
    pub(crate) fn explained(&self) -> Vec<FieldReport> {
        explain(&self.csr(), &self.claims, &self.rules, &self.denials, self.inert, NOW)
    }
}

pub(crate) fn pairs(reports: &[FieldReport]) -> Vec<(Field, Reason)> {
    reports.iter().filter_map(|r| Some((r.field, r.reason?))).collect()
}

pub(crate) fn extension(oid_text: &str, value: &[u8]) -> RequestedExtension {
    RequestedExtension { oid: oid(oid_text), critical: false, value: value.to_vec() }
}

/// A certificate by its parts. Its signature is nonsense: verifying it is for the holder of the CA's key.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) version: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    pub(crate) unique_ids: Vec<u8>,
    pub(crate) extensions: Vec<(String, bool, Vec<u8>)>,
    pub(crate) outer_algorithm: Vec<u8>,
}

pub(crate) const ECDSA_SHA256: [u8; 12] = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

impl Parts {
    /// As a CA makes it that does what it is told.
    pub(crate) fn of(approval: &Approval) -> Self {
        let contents = approval.contents();
        let mut extensions = vec![
            ("2.5.29.15".to_owned(), true, contents.key_usage.to_der()),
            ("2.5.29.37".to_owned(), false, contents.extended_key_usages.to_der()),
            ("2.5.29.19".to_owned(), true, vec![0x30, 0]),
            ("2.5.29.14".to_owned(), false, tlv::encode(tag::OCTET_STRING, &[1; 20])),
            ("2.5.29.35".to_owned(), false, vec![0x30, 0]),
            ("2.5.29.31".to_owned(), false, vec![0x30, 0]),
            ("1.3.6.1.5.5.7.1.1".to_owned(), false, vec![0x30, 0]),
        ];
        if !contents.subject_alt_names.is_empty() {
            let names = GeneralName::list_to_der(&contents.subject_alt_names);
            extensions.push(("2.5.29.17".to_owned(), contents.subject.is_empty(), names));
        }
        for e in &contents.extensions {
            extensions.push((e.oid.to_string(), e.critical, e.value.clone()));
        }
        Self {
            version: tlv::encode(0xa0, &tlv::small_int(2)),
            serial: tlv::encode(tag::INTEGER, &[0x41; 16]),
            algorithm: ECDSA_SHA256.to_vec(),
            issuer: name("CN=Example CA").to_der(),
            not_before: contents.not_before,
            not_after: contents.not_after,
            subject: contents.subject.to_der(),
            spki: contents.spki.as_der().to_vec(),
            unique_ids: Vec::new(),
            extensions,
            outer_algorithm: ECDSA_SHA256.to_vec(),
        }
    }

    pub(crate) fn set_extension(&mut self, oid: &str, critical: bool, value: &[u8]) {
        self.extensions.retain(|(o, _, _)| o != oid);
        self.extensions.push((oid.to_owned(), critical, value.to_vec()));
    }

    pub(crate) fn remove_extension(&mut self, oid: &str) {
        self.extensions.retain(|(o, _, _)| o != oid);
    }

    pub(crate) fn build(&self) -> CertificateDer {
        let extensions: Vec<Vec<u8>> = self
            .extensions
            .iter()
            .map(|(id, critical, value)| {
                let value = value.clone();
                RequestedExtension { oid: oid(id), critical: *critical, value }.to_der()
            })
            .collect();
        let extensions = tlv::encode(0xa3, &tlv::encode(tag::SEQUENCE, &extensions.concat()));
        let extensions = if self.extensions.is_empty() { Vec::new() } else { extensions };
        let validity = tlv::sequence(&[&tlv::time(self.not_before), &tlv::time(self.not_after)]);
        let tbs = tlv::sequence(&[
            &self.version,
            &self.serial,
            &self.algorithm,
            &self.issuer,
            &validity,
            &self.subject,
            &self.spki,
            &self.unique_ids,
            &extensions,
        ]);
        let der = tlv::sequence(&[&tbs, &self.outer_algorithm, &tlv::whole_bits(&[0; 8])]);
        CertificateDer::parse(&der).unwrap()
    }
}
