//! Who takes part in the vectors: an issuer, a gateway, devices, each with keys of [`TestKey`].

use super::{Kind, text};
use crate::device::{TestExtension, self_signed};
use crate::keys::TestKey;
use core::time::Duration;
use scep_challenge::{
    ApprovalMode, ChallengeClaims, DemandUsages, Expectation, Opener, OpeningKey, PinnedSigner,
    Purpose, Renewal,
};
use scep_keys::danger::SeededProvider;
use scep_keys::{Backend, SoftwareKey};
use scep_message::{RaIdentity, Recipient};
use scep_types::tlv::{self, Reader};
use scep_types::{
    CertificateDer, ChallengeId, DeviceId, ExtendedKeyUsages, GatewayGroupId, GeneralName,
    KeyAlgorithm, KeyUsages, ObjectIdentifier, ProfileId, SpkiHash, TenantId, Timestamp, UserId,
};
use sha2::{Digest as _, Sha256};

/// When the vectors are looked at, unless they say otherwise: 2026-11-24T08:00:00Z.
pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_795_507_200);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// The rules of the site that the vectors' gateway belongs to.
pub const SITE_RULES: &str = r#"# The site rules of the test vectors.
issuance_per_hour = 1000
max_validity_days = 398
rsa_min_bits = 2048
curves = ["p256", "p384"]
san_kinds = ["dns", "email", "upn", "uri", "ip", "directory", "otherName", "registeredId"]
dns_suffixes = ["example.org"]
email_suffixes = ["example.org"]
upn_suffixes = ["example.org"]
uri_prefixes = ["https://example.org/"]
sid_domains = ["S-1-5-21-1004336348-1177238915-682003330"]
ip_networks = ["192.0.2.0/24"]
other_name_types = ["1.3.6.1.5.5.7.8.4"]
registered_ids = ["1.3.6.1.4.1.99999.1"]
denied_names = ["administrator"]
"#;

pub(super) const ISSUER: TestKey = TestKey::P256B;
pub(super) const ISSUER_RSA: TestKey = TestKey::RsaA;
pub(super) const CHALLENGE: TestKey = TestKey::P256C;
pub(super) const CHALLENGE_RSA: TestKey = TestKey::RsaD;
pub(super) const RA: TestKey = TestKey::RsaB;
pub(super) const DEVICE: TestKey = TestKey::RsaC;
pub(super) const DEVICE_EC: TestKey = TestKey::P256D;
/// Nobody's that the gateway knows.
pub(super) const STRANGER: TestKey = TestKey::P256A;

/// How long after [`NOW`] the gateway's RSA decryption key opens, and the issuer's RSA key signs.
const RETIRED_AFTER: Duration = Duration::from_secs(30 * 60);
const UNPINNED_AFTER: Duration = Duration::from_secs(40 * 60);

/// From when on the RSA decryption key is retired.
pub(super) fn retired() -> Timestamp {
    NOW.plus(RETIRED_AFTER).plus(SECOND)
}

/// From when on the issuer's RSA key is not trusted any more.
pub(super) fn unpinned() -> Timestamp {
    NOW.plus(UNPINNED_AFTER).plus(SECOND)
}

/// The files of the folder `keys`, and what each is.
const KEYS: [(&str, TestKey); 8] = [
    ("issuer-p256.pem", ISSUER),
    ("issuer-rsa2048.pem", ISSUER_RSA),
    ("gateway-p256.pem", CHALLENGE),
    ("gateway-rsa2048.pem", CHALLENGE_RSA),
    ("ra-rsa2048.pem", RA),
    ("device-rsa2048.pem", DEVICE),
    ("device-p256.pem", DEVICE_EC),
    ("stranger-p256.pem", STRANGER),
];

const RA_CERTIFICATE: &str = "ra-rsa2048.crt";

/// What a verifier needs for one of a kind.
pub(super) fn keys_of(kind: Kind) -> Vec<String> {
    let open = ["issuer-p256.pem", "issuer-rsa2048.pem", "gateway-p256.pem", "gateway-rsa2048.pem"];
    let ra = ["ra-rsa2048.pem", RA_CERTIFICATE];
    let all = match kind {
        Kind::Challenge | Kind::Csr => open.to_vec(),
        Kind::Message => [&open[..], &ra].concat(),
    };
    all.into_iter().map(str::to_owned).collect()
}

pub(super) fn materials() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> =
        KEYS.iter().map(|(file, key)| (format!("keys/{file}"), key.pem().to_owned())).collect();
    let certificate = text::pem("CERTIFICATE", ra_certificate().as_der());
    let note = "The certificate of a test key of Sceptic; must be used for nothing else.\n";
    all.push((format!("keys/{RA_CERTIFICATE}"), note.to_owned() + &certificate));
    all.push(("site-rules.toml".to_owned(), SITE_RULES.to_owned()));
    all
}

/// The key with signatures that are the same each time (RFC 6979).
pub(super) fn key(which: TestKey) -> SoftwareKey {
    which.on(Backend::PureRust)
}

/// Randomness for everything that is made of one good vector: what is changed of it is all that differs.
pub(super) fn provider(base: &str) -> SeededProvider {
    let seed = Sha256::new()
        .chain_update("Sceptic test vectors, version 1: ")
        .chain_update(base)
        .finalize();
    SeededProvider::new(seed.into())
}

/// What the gateway of the vectors opens challenges with.
pub(super) fn opener() -> Opener {
    let signer = |key: TestKey, not_after| PinnedSigner {
        key: key.public_key(),
        not_before: NOW.minus(DAY),
        not_after,
    };
    let opening = |key: TestKey, not_after| OpeningKey { key: key.decryption(), not_after };
    Opener::new(
        tenant(),
        group(),
        vec![signer(ISSUER, NOW.plus(365 * DAY)), signer(ISSUER_RSA, NOW.plus(UNPINNED_AFTER))],
        vec![opening(CHALLENGE, None), opening(CHALLENGE_RSA, Some(NOW.plus(RETIRED_AFTER)))],
        HOUR,
        5 * MINUTE,
    )
    .expect("an opener")
}

/// The keys that no device may have.
pub(super) fn our_keys() -> Vec<SpkiHash> {
    [ISSUER, ISSUER_RSA, CHALLENGE, CHALLENGE_RSA, RA].map(|key| key.public_key().hash()).to_vec()
}

/// A self-signed certificate of a device's or the RA's key, its signature the same each time.
pub(super) fn certificate(
    key: &SoftwareKey,
    name: &str,
    not_after: Timestamp,
    extensions: &[TestExtension],
) -> CertificateDer {
    let name = name.parse().expect("a name");
    self_signed(key, &name, NOW.minus(30 * DAY), not_after, extensions)
}

pub(super) fn device_certificate(which: TestKey) -> CertificateDer {
    certificate(&key(which), "CN=device-1", NOW.plus(DAY), &[TestExtension::key_usage()])
}

pub(super) fn ra_certificate() -> CertificateDer {
    let key = key(RA);
    let key_id = TestExtension {
        oid: ObjectIdentifier::new_unwrap("2.5.29.14"),
        critical: false,
        value: tlv::encode(tlv::tag::OCTET_STRING, key.public_key().key_id().as_bytes()),
    };
    let name = "C=CH, O=Example, CN=RA of the test vectors";
    certificate(&key, name, NOW.plus(365 * DAY), &[TestExtension::key_usage(), key_id])
}

/// The RA: one key for both of its duties, and no more than messages need.
pub(super) fn ra() -> RaIdentity {
    let recipient = Recipient { certificate: ra_certificate(), key: RA.decryption() };
    RaIdentity {
        signing_certificate: recipient.certificate.clone(),
        signing_key: RA.signer(),
        recipients: vec![recipient],
    }
}

/// Good claims: 3 RDNs, 2 subjectAltNames, clientAuth, RSA-2048 or P-256, between P-256 keys.
pub(super) fn claims() -> ChallengeClaims {
    let client_auth = ExtendedKeyUsages::purpose("clientAuth").expect("a purpose");
    ChallengeClaims {
        challenge_id: ChallengeId::from_bytes(*b"a challenge's id"),
        tenant: tenant(),
        issuer_key: ISSUER.public_key().key_id(),
        audience: group(),
        recipient_key: CHALLENGE.public_key().key_id(),
        profile: ProfileId::new("wifi").expect("an id"),
        device: DeviceId::new("device-1").expect("an id"),
        user: Some(UserId::new("ada@example.org").expect("an id")),
        issued_at: NOW,
        expires_at: NOW.plus(HOUR),
        purpose: Purpose::Enrol,
        expectation: Expectation {
            subject: "C=CH, O=Example, CN=device-1".parse().expect("a name"),
            subject_alt_names: vec![
                GeneralName::dns("device-1.example.org").expect("a name"),
                GeneralName::upn("device-1@example.org").expect("a name"),
            ],
            key_usage: KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT),
            extended_key_usages: ExtendedKeyUsages::new(vec![client_auth]).expect("a set"),
            demand_usages: DemandUsages::No,
            key_algorithms: vec![KeyAlgorithm::Rsa(2048), KeyAlgorithm::P256],
            spki_hash: None,
            validity: 365 * DAY,
            extensions: Vec::new(),
            renewal: Renewal::Blob,
            approval: ApprovalMode::Automatic,
        },
    }
}

fn tenant() -> TenantId {
    TenantId::new("contoso").expect("an id")
}

fn group() -> GatewayGroupId {
    GatewayGroupId::new("main").expect("an id")
}

/// The values inside a constructed one.
pub(super) fn parts(der: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(der).any().expect("DER").reader();
    let mut parts = Vec::new();
    while !reader.is_empty() {
        parts.push(reader.any().expect("DER").raw.to_vec());
    }
    parts
}

/// The DER with the value at the end of a path of child numbers replaced.
pub(super) fn edit(der: &[u8], path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let Some((&at, rest)) = path.split_first() else { return change(der) };
    let mut inside = parts(der);
    inside[at] = edit(&inside[at], rest, change);
    tlv::encode(der[0], &inside.concat())
}

/// The value at the end of a path.
pub(super) fn at(der: &[u8], path: &[usize]) -> Vec<u8> {
    path.iter().fold(der.to_vec(), |value, at| parts(&value)[*at].clone())
}

/// The same value with one bit of its last octet turned.
pub(super) fn flipped(der: &[u8]) -> Vec<u8> {
    let mut der = der.to_vec();
    *der.last_mut().expect("an octet") ^= 1;
    der
}

/// One child after which another stands.
pub(super) fn with_another(der: &[u8], child: &[u8]) -> Vec<u8> {
    tlv::encode(der[0], &[&parts(der).concat(), child].concat())
}

/// Without one child.
pub(super) fn without(der: &[u8], at: usize) -> Vec<u8> {
    let mut inside = parts(der);
    inside.remove(at);
    tlv::encode(der[0], &inside.concat())
}

/// Each child twice.
pub(super) fn doubled(der: &[u8]) -> Vec<u8> {
    let inside = parts(der).concat();
    tlv::encode(der[0], &[&inside[..], &inside].concat())
}

pub(super) const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}
