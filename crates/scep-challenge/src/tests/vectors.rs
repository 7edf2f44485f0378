//! Writes the vectors. By hand, when the format changes:
//! `cargo test -p scep-challenge --features write-vectors write_the_vectors`.

use super::*;
use crate::seal::{sign_content, sign_envelope};
use scep_keys::AwsLc;
use scep_types::tlv::tag;
use serde_json::{Value, json};

#[path = "../../tests/common/mod.rs"]
mod common;

struct Vector {
    name: &'static str,
    note: &'static str,
    outcome: &'static str,
    kind: &'static str,
    now: Timestamp,
    text: String,
    plaintext: Option<Vec<u8>>,
}

impl Vector {
    fn write(&self) {
        let opener = claims(KeyId::from_bytes([0; 20]), KeyId::from_bytes([0; 20]));
        let claims = self.plaintext.as_ref().and_then(|der| ChallengeClaims::from_der(der).ok());
        let vector = json!({
            "note": self.note,
            "outcome": self.outcome,
            "pinnedSigner": format!("issuer-{}", self.kind),
            "decryptionKey": format!("gateway-{}", self.kind),
            "tenant": opener.tenant.as_str(),
            "audience": opener.audience.as_str(),
            "maxLifetime": 3600,
            "skew": 300,
            "now": self.now.seconds(),
            "claims": claims.as_ref().map_or(Value::Null, common::describe),
            "plaintext": self.plaintext.as_ref().map(hex::encode),
            "text": self.text,
        });
        let path = format!("{}/vectors/{}.json", env!("CARGO_MANIFEST_DIR"), self.name);
        std::fs::write(path, format!("{:#}\n", vector)).unwrap();
    }
}

fn full(issuer: KeyId, recipient: KeyId) -> ChallengeClaims {
    let mut claims = claims(issuer, recipient);
    let sid: Sid = SID.parse().unwrap();
    claims.user = None;
    claims.purpose = Purpose::Renew;
    let e = &mut claims.expectation;
    e.subject = r"DC=org+O=Example, emailAddress=ada@example.org, serialNumber=7, CN=\#1\, \+"
        .parse()
        .unwrap();
    e.subject_alt_names = vec![
        sid.to_uri().unwrap(),
        GeneralName::dns("ada.example.org").unwrap(),
        GeneralName::ip([192, 0, 2, 7].into()),
        GeneralName::Directory("C=CH, CN=Ada".parse().unwrap()),
        GeneralName::RegisteredId(ObjectIdentifier::new_unwrap("1.2.3.4")),
    ];
    let purposes = ["clientAuth", "smartcardLogon", "1.2.3.4"];
    e.extended_key_usages = ExtendedKeyUsages::new(
        purposes.iter().map(|name| ExtendedKeyUsages::purpose(name).unwrap()).collect(),
    )
    .unwrap();
    e.demand_usages = DemandUsages::Yes;
    e.key_algorithms = vec![KeyAlgorithm::P384, KeyAlgorithm::P256, KeyAlgorithm::Rsa(4096)];
    e.spki_hash = Some(SpkiHash::from_bytes([0xab; 32]));
    e.extensions = vec![sid.to_extension()];
    e.renewal = Renewal::Blob;
    e.approval = ApprovalMode::Manual;
    claims
}

#[test]
fn write_the_vectors() {
    for kind in ["p256", "rsa2048"] {
        let (issuer, gateway) = (key(&format!("issuer-{kind}")), key(&format!("gateway-{kind}")));
        let (issuer_id, gateway_id) = (issuer.public_key().key_id(), gateway.public_key().key_id());
        let envelope =
            |plain: &[u8]| scep_cms::seal_auth(&AwsLc, gateway.public_key(), plain).unwrap();
        let signed = |envelope: &[u8]| sign_envelope(envelope, &*issuer.signer()).unwrap();
        let write = |name, note, outcome, text, plaintext| {
            Vector { name, note, outcome, kind, now: NOW, text, plaintext }.write();
        };
        let good = claims(issuer_id, gateway_id);
        let der = good.to_der().unwrap();
        let name = if kind == "p256" { "good-p256" } else { "good-rsa2048" };
        write(name, "a typical profile", "Success", signed(&envelope(&der)), Some(der.clone()));
        if kind == "rsa2048" {
            continue;
        }
        let everything = full(issuer_id, gateway_id).to_der().unwrap();
        write(
            "good-everything",
            "every optional field, every choice's other side",
            "Success",
            signed(&envelope(&everything)),
            Some(everything),
        );
        let changed = |change: &dyn Fn(&mut ChallengeClaims)| {
            let mut claims = good.clone();
            change(&mut claims);
            codec::encode(&claims)
        };
        let refused = |name, note, outcome, plain: Vec<u8>| {
            write(name, note, outcome, signed(&envelope(&plain)), Some(plain));
        };
        refused(
            "other-tenant",
            "the claims name another tenant",
            "BadTenantIdInChallenge",
            changed(&|c| c.tenant = TenantId::new("another-tenant").unwrap()),
        );
        refused(
            "other-audience",
            "the claims name another gateway group",
            "BadAudienceInChallenge",
            changed(&|c| c.audience = GatewayGroupId::new("another-group").unwrap()),
        );
        refused(
            "other-recipient-key",
            "the claims name another recipient key than the one that opens",
            "BadAudienceInChallenge",
            changed(&|c| c.recipient_key = KeyId::from_bytes([7; 20])),
        );
        refused(
            "other-issuer-key",
            "the claims name another issuer key than the one that has signed",
            "SigningCertThumbprintMismatch",
            changed(&|c| c.issuer_key = KeyId::from_bytes([7; 20])),
        );
        refused(
            "too-long-lived",
            "expiresAt is one second too late",
            "ChallengeInvalidTimestamp",
            changed(&|c| c.expires_at = c.expires_at.plus(Duration::from_secs(1))),
        );
        refused(
            "version-2",
            "version is 2",
            "ChallengeDeserializationError",
            edit(&der, &[0], &|_| tlv::small_int(2)),
        );
        refused(
            "not-canonical",
            "the CN is a PrintableString where the canonical form is UTF8String",
            "ChallengeDeserializationError",
            edit(&der, &[12, 0, 2, 0, 1], &|cn| tlv::encode(tag::PRINTABLE_STRING, &cn[2..])),
        );
        refused(
            "trailing-byte",
            "a NUL octet follows the claims",
            "ChallengeDeserializationError",
            [&der[..], &[0]].concat(),
        );
        for (name, note, outcome, now) in [
            (
                "last-second",
                "the last second at which the challenge counts: expiresAt + skew - 1",
                "Success",
                good.expires_at.plus(Duration::from_secs(299)),
            ),
            (
                "expired",
                "the first second at which it does not: expiresAt + skew",
                "ChallengeExpired",
                good.expires_at.plus(Duration::from_secs(300)),
            ),
            (
                "from-the-future",
                "issuedAt is one second further in the future than skew allows",
                "ChallengeInvalidTimestamp",
                good.issued_at.minus(Duration::from_secs(301)),
            ),
        ] {
            let (text, plaintext) = (signed(&envelope(&der)), Some(der.clone()));
            Vector { name, note, outcome, kind, now, text, plaintext }.write();
        }
        let other = key("other-issuer-p256");
        write(
            "signer-not-pinned",
            "signed by a key that is not pinned",
            "SigningCertThumbprintMismatch",
            sign_envelope(&envelope(&der), &*other.signer()).unwrap(),
            None,
        );
        let first = signed(&envelope(&der));
        let second = envelope(&der);
        write(
            "signature-over-another-envelope",
            "the envelope was exchanged after signing",
            "SignatureValidationFailed",
            {
                use base64::{Engine as _, engine::general_purpose::STANDARD};
                let path = [1, 0, 2, 1, 0];
                let swap = |_: &[u8]| tlv::encode(tag::OCTET_STRING, &second);
                STANDARD.encode(edit(&STANDARD.decode(first).unwrap(), &path, &swap))
            },
            None,
        );
        let to_other = scep_cms::seal_auth(&AwsLc, other.public_key(), &der).unwrap();
        write(
            "encrypted-to-another",
            "signed by the issuer, encrypted to a key that is not ours",
            "BadAudienceInChallenge",
            signed(&to_other),
            None,
        );
        write(
            "two-recipients",
            "the recipient twice",
            "ChallengeDecodingError",
            signed(&edit(&envelope(&der), &[1], &|set| {
                let one = &parts(set)[0];
                tlv::encode(tag::SET, &[&one[..], one].concat())
            })),
            None,
        );
        write(
            "cbc-content",
            "the content encryption algorithm says aes256-CBC",
            "ChallengeDecodingError",
            signed(&edit(&envelope(&der), &[2, 1, 0], &|oid| {
                let (_, head) = oid.split_last().unwrap();
                [head, &[42]].concat()
            })),
            None,
        );
        write(
            "tag-flipped",
            "one bit of the ICV is wrong, under a good signature",
            "ChallengeDecryptionError",
            signed(&edit(&envelope(&der), &[3], &|tag| {
                let (last, head) = tag.split_last().unwrap();
                [head, &[last ^ 1]].concat()
            })),
            None,
        );
        write(
            "enveloped-data",
            "the signed content type is id-envelopedData",
            "ChallengeDecodingError",
            sign_content(
                ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.3"),
                &envelope(&der),
                &*issuer.signer(),
            )
            .unwrap(),
            None,
        );
        write(
            "line-break",
            "a line feed after the text",
            "ChallengeDecodingError",
            format!("{}\n", signed(&envelope(&der))),
            None,
        );
    }
}
