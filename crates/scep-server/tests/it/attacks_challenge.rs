//! Challenges that the issuer has not made, has not made for this gateway, or has made otherwise than it should.

use crate::attacks_message::oid;
use crate::support::{Running, device_key, other_key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core::time::Duration;
use scep_challenge::{ChallengeClaims, Opener, OpeningKey, PinnedSigner};
use scep_cms::{SignerId, ToSign};
use scep_keys::SoftwareKey;
use scep_testkit::House;
use scep_testkit::house::{OPENS, sign_csr};
use scep_testkit::keys;
use scep_types::tlv::{self, Reader, tag};
use scep_types::{GatewayGroupId, KeyError, Reason, SignatureScheme, Signer, SpkiDer};
use std::sync::Arc;

const AUTH_ENVELOPED_DATA: &str = "1.2.840.113549.1.9.16.1.23";
const HOUR: Duration = Duration::from_secs(3600);
const SKEW: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);

/// Where the SignerInfos are in a blob's DER, and its content.
const SIGNER_INFOS: [usize; 3] = [1, 0, 3];
const CONTENT: [usize; 5] = [1, 0, 2, 1, 0];

fn parts(der: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(der).any().unwrap().reader();
    let mut parts = Vec::new();
    while !reader.is_empty() {
        parts.push(reader.any().unwrap().raw.to_vec());
    }
    parts
}

/// Changes the element at a path of positions, and every length around it.
fn edit(der: &[u8], path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let Some((first, rest)) = path.split_first() else { return change(der) };
    let mut parts = parts(der);
    parts[*first] = edit(&parts[*first], rest, change);
    tlv::encode(der[0], &parts.concat())
}

fn edit_text(text: &str, path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>) -> String {
    STANDARD.encode(edit(&STANDARD.decode(text).unwrap(), path, change))
}

fn twice(set: &[u8]) -> Vec<u8> {
    let one = &parts(set)[0];
    tlv::encode(tag::SET, &[&one[..], one].concat())
}

fn flip_last(der: &[u8]) -> Vec<u8> {
    let mut der = der.to_vec();
    *der.last_mut().unwrap() ^= 1;
    der
}

fn signed_as(kind: &str, content: &[u8], signer: &dyn Signer) -> String {
    let scheme = SignatureScheme::default_for(signer.public_key().algorithm());
    let what = ToSign {
        content_type: oid(kind),
        content,
        attributes: &[],
        certificates: &[],
        signer_id: SignerId::KeyId,
        scheme,
    };
    STANDARD.encode(scep_cms::sign(signer, &what).unwrap())
}

fn signed(envelope: &[u8], signer: &dyn Signer) -> String {
    signed_as(AUTH_ENVELOPED_DATA, envelope, signer)
}

fn sealed_to(running: &Running, recipient: &SpkiDer, plaintext: &[u8]) -> Vec<u8> {
    scep_cms::seal_auth(&*running.house.provider, recipient, plaintext).unwrap()
}

fn sealed(running: &Running, plaintext: &[u8]) -> Vec<u8> {
    sealed_to(running, running.house.challenge.public_key(), plaintext)
}

/// What the issuer itself would sign, with any plaintext.
fn by_the_issuer(running: &Running, plaintext: &[u8]) -> String {
    signed(&sealed(running, plaintext), &*running.house.issuer.signer())
}

/// Signs with its own key in another's name.
#[derive(Debug)]
struct Impostor {
    key: Arc<dyn Signer>,
    victim: SpkiDer,
}

impl Signer for Impostor {
    fn public_key(&self) -> &SpkiDer {
        &self.victim
    }
    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.key.sign(scheme, message)
    }
}

impl Running {
    /// A request that is what the claims say, with this text as its challenge.
    async fn challenge_fails(&self, what: &str, claims: &ChallengeClaims, text: &str) -> Reason {
        let csr = sign_csr(&House::csr(claims, text), &device_key());
        let reason = self.refused(&self.house.send(&csr, &device_key())).await;
        assert!(reason.fault() == scep_types::Fault::PeerRights, "{what}: {reason}");
        reason
    }

    /// The same, for several texts with one reason.
    async fn all_fail(&self, claims: &ChallengeClaims, expected: Reason, texts: &[(&str, String)]) {
        for (what, text) in texts {
            assert_eq!(self.challenge_fails(what, claims, text).await, expected, "{what}");
        }
    }
}

fn opener(signers: Vec<PinnedSigner>, keys: Vec<OpeningKey>) -> Opener {
    Opener::new(House::tenant(), House::group(), signers, keys, HOUR, SKEW).unwrap()
}

fn pinned(key: &SoftwareKey) -> PinnedSigner {
    let (not_before, not_after) = (OPENS.minus(HOUR), OPENS.plus(2 * HOUR));
    PinnedSigner { key: key.public_key().clone(), not_before, not_after }
}

fn opening(key: &SoftwareKey) -> OpeningKey {
    OpeningKey { key: key.decryption().unwrap(), not_after: None }
}

#[tokio::test]
async fn the_challenge_by_hand_is_good() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let text = by_the_issuer(&running, &claims.to_der().unwrap());
    let csr = sign_csr(&House::csr(&claims, &text), &device_key());
    running.granted(&running.house.send(&csr, &device_key())).await;
}

#[tokio::test]
async fn attack_13_a_challenge_has_one_signer() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let good = running.house.seal(&claims);
    let texts = [
        ("two", edit_text(&good, &SIGNER_INFOS, &twice)),
        ("none", edit_text(&good, &SIGNER_INFOS, &|_| vec![tag::SET, 0])),
    ];
    running.all_fail(&claims, Reason::ChallengeDecodingError, &texts).await;
}

#[tokio::test]
async fn attack_16_a_challenge_signed_anew_is_worthless() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let envelope = sealed(&running, &claims.to_der().unwrap());
    let stranger = keys::p256(3);
    let impostor =
        Impostor { key: stranger.signer(), victim: running.house.issuer.public_key().clone() };
    let openly = [("openly", signed(&envelope, &*stranger.signer()))];
    running.all_fail(&claims, Reason::SigningCertThumbprintMismatch, &openly).await;
    let good = running.house.seal(&claims);
    let other = sealed(&running, &claims.to_der().unwrap());
    let forged = [
        ("in the issuer's name", signed(&envelope, &impostor)),
        (
            "exchanged content",
            edit_text(&good, &CONTENT, &|_| tlv::encode(tag::OCTET_STRING, &other)),
        ),
        ("one bit", edit_text(&good, &[1, 0, 3, 0, 5], &flip_last)),
    ];
    running.all_fail(&claims, Reason::SignatureValidationFailed, &forged).await;
    let stripped = [("the bare envelope", STANDARD.encode(&envelope))];
    running.all_fail(&claims, Reason::ChallengeDecodingError, &stripped).await;
}

#[tokio::test]
async fn attack_16_17_the_parties_in_the_claims_are_those_of_the_layers() {
    // Two issuers are pinned; the second signs what the first has sealed.
    let second = keys::p256(3);
    let house = House::new();
    let signers = vec![pinned(&house.issuer), pinned(&second)];
    let keys_of = vec![opening(&house.challenge)];
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        parts.opener = opener(signers, keys_of);
    })
    .await;
    let claims = running.house.claims();
    let der = claims.to_der().unwrap();
    let text = signed(&sealed(&running, &der), &*second.signer());
    let reason = running.challenge_fails("another pinned issuer", &claims, &text).await;
    assert_eq!(reason, Reason::SigningCertThumbprintMismatch);
    // Sealed for another gateway: as it is, and opened there and sealed anew for this one.
    let other = keys::p256(0);
    let elsewhere = sealed_to(&running, other.public_key(), &der);
    let text = signed(&elsewhere, &*running.house.issuer.signer());
    let reason = running.challenge_fails("for another key", &claims, &text).await;
    assert_eq!(reason, Reason::BadAudienceInChallenge);
    let mut forwarded = claims.clone();
    forwarded.recipient_key = other.public_key().key_id();
    let text = by_the_issuer(&running, &forwarded.to_der().unwrap());
    let reason = running.challenge_fails("forwarded", &claims, &text).await;
    assert_eq!(reason, Reason::BadAudienceInChallenge);
    let mut elsewhere = claims.clone();
    elsewhere.audience = GatewayGroupId::new("main2").unwrap();
    let text = running.house.seal(&elsewhere);
    let reason = running.challenge_fails("another group", &claims, &text).await;
    assert_eq!(reason, Reason::BadAudienceInChallenge);
    // The second issuer's own are good.
    let mut own = claims.clone();
    own.issuer_key = second.public_key().key_id();
    let text = signed(&sealed(&running, &own.to_der().unwrap()), &*second.signer());
    let csr = sign_csr(&House::csr(&claims, &text), &device_key());
    running.granted(&running.house.send(&csr, &device_key())).await;
}

#[tokio::test]
async fn attack_18_no_claim_may_be_missing() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let der = claims.to_der().unwrap();
    let fields = parts(&der);
    assert!(fields.len() >= 12);
    for left_out in 0..fields.len() {
        let mut rest = fields.clone();
        rest.remove(left_out);
        let text = by_the_issuer(&running, &tlv::encode(tag::SEQUENCE, &rest.concat()));
        let what = format!("without field {left_out}");
        let reason = running.challenge_fails(&what, &claims, &text).await;
        assert_eq!(reason, Reason::ChallengeDeserializationError, "{what}");
    }
    // An audience or a tenant of no characters is none either.
    let texts: Vec<_> =
        fields.iter().enumerate().filter(|(_, field)| field[0] == tag::UTF8_STRING).collect();
    assert!(texts.len() >= 4, "tenant, audience, profile, device");
    for (at, field) in texts {
        let mut empty = fields.clone();
        empty[at] = vec![tag::UTF8_STRING, 0];
        let text = by_the_issuer(&running, &tlv::encode(tag::SEQUENCE, &empty.concat()));
        let what = format!("empty field {at}, {field:x?}");
        let reason = running.challenge_fails(&what, &claims, &text).await;
        assert_eq!(reason, Reason::ChallengeDeserializationError, "{what}");
    }
}

#[tokio::test]
async fn attack_19_a_challenge_has_its_time_and_no_other() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let text = running.house.seal(&claims);
    let end = claims.expires_at.plus(SKEW);
    let early = Running::start().await;
    early.house.clock.set(claims.issued_at.minus(SKEW).minus(SECOND));
    let reason = early.challenge_fails("early", &claims, &early.house.seal(&claims)).await;
    assert_eq!(reason, Reason::ChallengeInvalidTimestamp);
    running.house.clock.set(end);
    let reason = running.challenge_fails("late", &claims, &text).await;
    assert_eq!(reason, Reason::ChallengeExpired);
    // A second before it is served: nothing else was wrong.
    let punctual = Running::start().await;
    let claims = punctual.house.claims();
    let text = punctual.house.seal(&claims);
    punctual.house.clock.set(claims.expires_at.plus(SKEW).minus(SECOND));
    let csr = sign_csr(&House::csr(&claims, &text), &device_key());
    punctual.granted(&punctual.house.send(&csr, &device_key())).await;
    // Longer than the gateway allows, by a second.
    let mut long = punctual.house.claims();
    long.expires_at = long.issued_at.plus(HOUR + SECOND);
    let text = punctual.house.seal(&long);
    let reason = punctual.challenge_fails("long", &long, &text).await;
    assert_eq!(reason, Reason::ChallengeInvalidTimestamp);
}

#[tokio::test]
async fn attack_20_the_algorithm_is_that_of_the_pinned_key() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let good = running.house.seal(&claims);
    // ecdsa-with-SHA256 becomes ecdsa-with-SHA384, HMAC with SHA-256, an RSA scheme, and nothing.
    for other in ["1.2.840.10045.4.3.3", "1.2.840.113549.2.9", "1.2.840.113549.1.1.11"] {
        let algorithm = tlv::sequence(&[&tlv::oid(&oid(other))]);
        let text = edit_text(&good, &[1, 0, 3, 0, 4], &|_| algorithm.clone());
        let reason = running.challenge_fails(other, &claims, &text).await;
        assert!(
            matches!(reason, Reason::ChallengeDecodingError | Reason::SignatureValidationFailed),
            "{other}: {reason}"
        );
    }
    let text = edit_text(&good, &[1, 0, 3, 0, 5], &|_| vec![tag::OCTET_STRING, 0]);
    let reason = running.challenge_fails("no signature", &claims, &text).await;
    assert_eq!(reason, Reason::SignatureValidationFailed);
    // A version that is not known, within the signature.
    let der = edit(&claims.to_der().unwrap(), &[0], &|_| tlv::small_int(2));
    let text = by_the_issuer(&running, &der);
    let reason = running.challenge_fails("version 2", &claims, &text).await;
    assert_eq!(reason, Reason::ChallengeDeserializationError);
}

#[tokio::test]
async fn attack_22_a_challenge_that_does_not_open_says_no_more() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let envelope = sealed(&running, &claims.to_der().unwrap());
    let issuer = running.house.issuer.signer();
    // The tag, the ciphertext, the wrapped key: each under a good signature.
    let mut texts = Vec::new();
    for path in [&[3][..], &[2, 2], &[1, 0, 3, 0, 1]] {
        texts.push(("changed", signed(&edit(&envelope, path, &flip_last), &*issuer)));
    }
    running.all_fail(&claims, Reason::ChallengeDecryptionError, &texts).await;
    // To the device it is one of many ways of being refused.
    let csr = sign_csr(&House::csr(&claims, &texts[0].1), &device_key());
    let undecipherable = running.ask(&running.house.send(&csr, &device_key())).await;
    let csr = sign_csr(&House::csr(&claims, "AAAA"), &device_key());
    let no_blob = running.ask(&running.house.send(&csr, &device_key())).await;
    let text = |reply| match reply {
        scep_message::client::Reply::Failure { fail_info, text } => {
            (fail_info, text.unwrap().split(" (ref").next().unwrap().to_owned())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(text(undecipherable), text(no_blob));
}

#[tokio::test]
async fn attack_23_24_a_challenge_has_one_recipient_and_one_cipher() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let envelope = sealed(&running, &claims.to_der().unwrap());
    let issuer = running.house.issuer.signer();
    let cbc = edit(&envelope, &[2, 1, 0], &|oid| {
        let mut oid = oid.to_vec();
        assert_eq!(oid.last(), Some(&46), "aes256-GCM");
        *oid.last_mut().unwrap() = 42;
        oid
    });
    let texts = [
        ("two recipients", signed(&edit(&envelope, &[1], &twice), &*issuer)),
        ("no recipient", signed(&edit(&envelope, &[1], &|_| vec![tag::SET, 0]), &*issuer)),
        ("aes256-CBC", signed(&cbc, &*issuer)),
        ("EnvelopedData", signed_as("1.2.840.113549.1.7.3", &envelope, &*issuer)),
        ("data", signed_as("1.2.840.113549.1.7.1", &envelope, &*issuer)),
        ("CompressedData", signed_as("1.2.840.113549.1.9.16.1.9", &envelope, &*issuer)),
        ("the claims in plain", signed(&claims.to_der().unwrap(), &*issuer)),
    ];
    running.all_fail(&claims, Reason::ChallengeDecodingError, &texts).await;
}

#[tokio::test]
async fn attack_25_no_key_of_the_system_is_certified() {
    let running = Running::start().await;
    let claims = running.house.claims();
    for (what, key) in [
        ("issuer", running.house.issuer.clone()),
        ("challenge", running.house.challenge.clone()),
        ("RA signing", keys::rsa2048(0)),
        ("RA decryption", keys::rsa2048(1)),
    ] {
        // The device signs the message with a key of its own, where that is allowed.
        let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &key);
        let sent = running.house.send(&csr, &device_key());
        running.ask_at("/certsrv/mscep/mscep.dll", &sent).await;
        assert_eq!(running.traces.last().reason, Some(Reason::WeakKey), "{what}");
    }
    // The CA's own: the CA refuses, as nothing was issued the challenge is free again.
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &keys::p256(0));
    let sent = running.house.send(&csr, &device_key());
    let reply = running.ask_at("/certsrv/mscep/mscep.dll", &sent).await;
    assert!(matches!(reply, scep_message::client::Reply::Failure { .. }), "{reply:?}");
    assert_eq!(running.ca.issued().len(), 0);
}

#[tokio::test]
async fn attack_26_a_pinned_issuer_counts_in_its_time_only() {
    let house = House::new();
    let short = PinnedSigner { not_after: OPENS.plus(SECOND), ..pinned(&house.issuer) };
    let keys_of = vec![opening(&house.challenge)];
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        parts.opener = opener(vec![short], keys_of);
    })
    .await;
    let claims = running.house.claims();
    let text = running.house.seal(&claims);
    running.house.clock.advance(2 * SECOND);
    let reason = running.challenge_fails("after its end", &claims, &text).await;
    assert_eq!(reason, Reason::SigningCertThumbprintMismatch);
    // A key that chains to the CA is no issuer: there is no chain.
    let ra = keys::rsa2048(0);
    let envelope = sealed(&running, &claims.to_der().unwrap());
    let text = signed(&envelope, &*ra.signer());
    let reason = running.challenge_fails("the RA's key", &claims, &text).await;
    assert_eq!(reason, Reason::SigningCertThumbprintMismatch);
}

#[tokio::test]
async fn attack_27_the_previous_decryption_key_opens_until_its_end() {
    let house = House::new();
    let previous = OpeningKey { not_after: Some(OPENS), ..opening(&house.challenge) };
    let signers = vec![pinned(&house.issuer)];
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        parts.opener = opener(signers, vec![opening(&keys::p256(3)), previous]);
    })
    .await;
    running.granted(&running.house.enrolment(&device_key())).await;
    let claims = running.house.claims();
    let text = running.house.seal(&claims);
    running.house.clock.advance(SECOND);
    let csr = sign_csr(&House::csr(&claims, &text), &other_key());
    let reason = running.refused(&running.house.send(&csr, &other_key())).await;
    assert_eq!(reason, Reason::BadAudienceInChallenge);
}

#[tokio::test]
async fn attack_28_one_challenge_has_one_text() {
    let running = Running::start().await;
    let claims = running.house.claims();
    // Long enough to need padding, whatever the length of the signature.
    let good = (0..99).map(|_| running.house.seal(&claims)).find(|t| t.ends_with('=')).unwrap();
    let der = STANDARD.decode(&good).unwrap();
    let plain = claims.to_der().unwrap();
    let fields = parts(&plain);
    let long_form = [&[0x30, 0x83, 0][..], &der[2..4], &der[4..]].concat();
    let texts = [
        ("no padding", good.trim_end_matches('=').to_owned()),
        ("more padding", format!("{good}=")),
        ("a line's end", format!("{good}\n")),
        ("a blank", format!(" {good}")),
        ("NUL", format!("{good}\0")),
        ("two lines", format!("{}\r\n{}", &good[..64], &good[64..])),
        ("URL-safe", good.replace('+', "-").replace('/', "_") + "_"),
        ("octets after it", STANDARD.encode([&der[..], &[0]].concat())),
        ("a long length", STANDARD.encode(&long_form)),
        ("too long", "A".repeat(16_384)),
    ];
    running.all_fail(&claims, Reason::ChallengeDecodingError, &texts).await;
    let repeated = [fields.clone(), vec![fields.last().unwrap().clone()]].concat().concat();
    let texts = [
        ("octets after the claims", by_the_issuer(&running, &[&plain[..], &[0]].concat())),
        ("one field more", by_the_issuer(&running, &tlv::encode(tag::SEQUENCE, &repeated))),
        ("no claims", by_the_issuer(&running, &[])),
        ("a version in two octets", {
            let der = edit(&plain, &[0], &|_| vec![2, 2, 0, 1]);
            by_the_issuer(&running, &der)
        }),
    ];
    running.all_fail(&claims, Reason::ChallengeDeserializationError, &texts).await;
}

#[tokio::test]
async fn attack_29_a_longer_challenge_is_not_read() {
    let running = Running::start().await;
    let claims = running.house.claims();
    // The limit is on the text: the request's reader stops at it, and answers as for any request that it cannot read.
    let csr = sign_csr(&House::csr(&claims, &"A".repeat(16_385)), &device_key());
    let reason = running.refused(&running.house.send(&csr, &device_key())).await;
    assert_eq!(reason, Reason::ChallengeDecodingError);
}
