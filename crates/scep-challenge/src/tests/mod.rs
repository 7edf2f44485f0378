//! What the tests of this crate share: the fixed test keys of the vectors, and a good challenge.

mod blob;
mod claims;
#[cfg(feature = "write-vectors")]
mod vectors;

use crate::*;
use core::time::Duration;
use scep_keys::{Backend, SoftwareKey};
use scep_types::*;

pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
pub(crate) const SID: &str = "S-1-5-21-1004336348-1177238915-682003330-1105";

pub(crate) fn key(name: &str) -> SoftwareKey {
    let path = format!("{}/vectors/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    let pem = pem::parse(std::fs::read(path).unwrap()).unwrap();
    SoftwareKey::from_pkcs8_der(pem.contents(), Backend::AwsLc).unwrap()
}

/// Claims that a typical profile gives, between these keys.
pub(crate) fn claims(issuer: KeyId, recipient: KeyId) -> ChallengeClaims {
    let purposes = vec![ExtendedKeyUsages::purpose("clientAuth").unwrap()];
    ChallengeClaims {
        challenge_id: ChallengeId::from_bytes(*b"a challenge's id"),
        tenant: TenantId::new("5b3c8a52-0f1e-4c39-9d1f-6a1f0e7b2c11").unwrap(),
        issuer_key: issuer,
        audience: GatewayGroupId::new("gateways-zurich").unwrap(),
        recipient_key: recipient,
        profile: ProfileId::new("wifi-users").unwrap(),
        device: DeviceId::new("0d0fbd6e-8a0b-4c7a-9a59-9c1a9c6b4f4e").unwrap(),
        user: Some(UserId::new("ada@example.org").unwrap()),
        issued_at: NOW,
        expires_at: NOW.plus(Duration::from_secs(3600)),
        purpose: Purpose::Enrol,
        expectation: Expectation {
            subject: r"C=CH, O=Example\, Inc., CN=Ada Lovelace".parse().unwrap(),
            subject_alt_names: vec![
                GeneralName::upn("ada@example.org").unwrap(),
                GeneralName::email("ada@example.org").unwrap(),
            ],
            key_usage: KeyUsages::DIGITAL_SIGNATURE.union(KeyUsages::KEY_ENCIPHERMENT),
            extended_key_usages: ExtendedKeyUsages::new(purposes).unwrap(),
            demand_usages: DemandUsages::No,
            key_algorithms: vec![KeyAlgorithm::Rsa(2048), KeyAlgorithm::P256],
            spki_hash: None,
            validity: Duration::from_secs(365 * 86_400),
            extensions: Vec::new(),
            renewal: Renewal::Certificate { window: Duration::from_secs(73 * 86_400) },
            approval: ApprovalMode::Automatic,
        },
    }
}

/// The values inside the one constructed value that `der` is.
pub(crate) fn parts(der: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = tlv::Reader::new(der).any().unwrap().reader();
    let mut parts = Vec::new();
    while !reader.is_empty() {
        parts.push(reader.any().unwrap().raw.to_vec());
    }
    parts
}

/// `der` with the values at a path through it replaced.
pub(crate) fn edit(der: &[u8], path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let Some((&at, rest)) = path.split_first() else { return change(der) };
    let mut inside = parts(der);
    inside[at] = edit(&inside[at], rest, change);
    tlv::encode(der[0], &inside.concat())
}
