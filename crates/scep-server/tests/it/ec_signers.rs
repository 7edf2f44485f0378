//! Devices whose keys only sign: P-256 and P-384 (RFC 8894, 3.1).

use crate::support::{Running, device_key};
use scep_challenge::ChallengeClaims;
use scep_cms::CmsError;
use scep_keys::{AwsLc, SoftwareKey};
use scep_message::client::{Expected, Reply};
use scep_message::{FailInfo, LegacyAlgorithms, Limits, MessageError, MessageType, ReplySealing};
use scep_server::{Outcome, SignerRule, Stage};
use scep_testkit::house::{Sent, device_certificate, sign_csr};
use scep_testkit::{House, TestKey, keys};
use scep_types::{KeyAlgorithm, Reason, RsaPadding, Secret};

fn ec_keys() -> [SoftwareKey; 2] {
    [keys::p256(3), TestKey::P384A.key()]
}

/// Claims that allow EC keys of both curves.
fn claims(running: &Running) -> ChallengeClaims {
    let mut claims = running.house.claims();
    claims.expectation.key_algorithms =
        vec![KeyAlgorithm::Rsa(2048), KeyAlgorithm::P256, KeyAlgorithm::P384];
    claims
}

/// A good request for this key.
fn csr(running: &Running, key: &SoftwareKey) -> Vec<u8> {
    let claims = claims(running);
    sign_csr(&House::csr(&claims, &running.house.seal(&claims)), key)
}

/// What comes back over HTTP, as it is.
async fn body(running: &Running, sent: &Sent) -> Vec<u8> {
    let http = running.post("/scep?operation=PKIOperation", "", &sent.bytes).await;
    assert_eq!(http.status, 200);
    http.body
}

/// Reads an answer with another challenge than the request's.
fn read_with(
    running: &Running,
    sent: &Sent,
    answer: &[u8],
    challenge: Option<&str>,
) -> Result<Reply, MessageError> {
    let challenge = challenge.map(|text| Secret::new(text.to_owned()));
    let expected = Expected {
        transaction_id: &sent.transaction,
        nonce: &sent.nonce,
        ra: core::slice::from_ref(&running.house.ra.signing_certificate),
        me: &sent.me,
        challenge: challenge.as_ref(),
        legacy: LegacyAlgorithms::Refuse,
    };
    expected.read(answer, &AwsLc, &Limits::default())
}

#[tokio::test]
async fn a_device_with_an_ec_key_is_answered_with_its_challenge() {
    let running = Running::start().await;
    for key in ec_keys() {
        let sent = running.house.send(&csr(&running, &key), &key);
        let certificate = running.granted(&sent).await;
        assert_eq!(certificate.spki(), key.public_key());
        let trace = running.traces.last();
        assert_eq!((trace.stage, trace.outcome), (Stage::Answered, Outcome::Issued));
        assert_eq!(trace.sealed, Some(ReplySealing::Challenge));
    }
    // And one with an RSA key by its key, as ever.
    running.granted(&running.house.enrolment(&device_key())).await;
    assert_eq!(running.traces.last().sealed, Some(ReplySealing::KeyTransport));
}

#[tokio::test]
async fn quirk_50_a_retry_of_an_ec_key_is_answered_with_the_same_challenge() {
    let running = Running::start().await;
    let key = keys::p256(3);
    let csr = csr(&running, &key);
    let first = running.granted(&running.house.send(&csr, &key)).await;
    // The challenge has expired meanwhile; as the answer's password it has not.
    running.house.clock.advance(std::time::Duration::from_secs(20 * 3600));
    let again = running.granted(&running.house.send(&csr, &key)).await;
    assert_eq!(first, again);
    assert_eq!(running.ca.calls().len(), 1);
    let trace = running.traces.last();
    assert_eq!(trace.outcome, Outcome::Repeated);
    assert_eq!(trace.sealed, Some(ReplySealing::Challenge));
}

#[tokio::test]
async fn an_answer_opens_with_its_own_challenge_alone() {
    let running = Running::start().await;
    let key = keys::p256(3);
    let sent = running.house.send(&csr(&running, &key), &key);
    let answer = body(&running, &sent).await;
    let another = running.house.seal(&running.house.claims());
    let wrong = read_with(&running, &sent, &answer, Some(&another));
    assert_eq!(wrong, Err(MessageError::Envelope(CmsError::DoesNotOpen)));
    let none = MessageError::NoChallengeToAnswerWith { key: KeyAlgorithm::P256 };
    assert_eq!(read_with(&running, &sent, &answer, None), Err(none));
    // Nothing of the challenge is in the answer.
    let challenge = sent.challenge.as_ref().unwrap().expose();
    for piece in challenge.as_bytes().chunks_exact(16) {
        assert!(!answer.windows(16).any(|window| window == piece));
    }
    assert!(matches!(running.house.read(&sent, &answer), Reply::Success(_)));
}

#[tokio::test]
async fn attack_04_an_ec_key_without_a_challenge_is_refused_before_the_ca_is_asked() {
    let running = Running::start().await;
    for key in ec_keys() {
        for challenge in [None, Some(""), Some(" \0 ")] {
            let claims = claims(&running);
            let mut csr = House::csr(&claims, "");
            csr.challenge_password = challenge.map(|text| Secret::new(text.to_owned()));
            let csr = sign_csr(&csr, &key);
            for kind in [MessageType::PkcsReq, MessageType::RenewalReq] {
                let signer = device_certificate(&key);
                let sent = running.house.send_as(&csr, &key, &signer, kind, RsaPadding::Pkcs1v15);
                assert_eq!(running.refused(&sent).await, Reason::AnswerUndeliverable);
                let Reply::Failure { fail_info, text } = running.ask(&sent).await else {
                    panic!("it was granted")
                };
                assert_eq!(fail_info, FailInfo::BadRequest);
                let text = text.unwrap();
                assert!(
                    text.starts_with("the answer to an EC key needs a challengePassword (ref "),
                    "{text}"
                );
                assert_eq!(running.traces.last().stage, Stage::Proven);
            }
        }
    }
    // An RSA signer has its own reason.
    let claims = claims(&running);
    let mut csr = House::csr(&claims, "");
    csr.challenge_password = None;
    let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
    assert_eq!(running.refused(&sent).await, Reason::ChallengePasswordMissing);
}

/// Where any signer will do, whoever signs a captured envelope anew with an EC key spends the victim's challenge, as
/// with any key, and gets what only the victim can open; the victim's own retry gets its certificate.
#[tokio::test]
async fn attack_09_a_lifted_envelope_signed_by_an_ec_key_is_answered_with_what_its_thief_cannot_open()
 {
    let running = Running::start_with(|parts| {
        for endpoint in &mut parts.endpoints {
            endpoint.signer = SignerRule::Any;
        }
    })
    .await;
    let victim = device_key();
    let csr = csr(&running, &victim);
    // The envelope is the victim's, which he cannot open either: what is in it is his to guess.
    let thief = keys::p256(3);
    let signer = device_certificate(&thief);
    let kind = MessageType::PkcsReq;
    let stolen = running.house.send_as(&csr, &thief, &signer, kind, RsaPadding::Pkcs1v15);
    let answer = body(&running, &stolen).await;
    assert_eq!(running.traces.last().sealed, Some(ReplySealing::Challenge));
    for guess in ["", "challenge", running.house.seal(&running.house.claims()).as_str()] {
        let opened = read_with(&running, &stolen, &answer, Some(guess));
        assert!(matches!(opened, Err(MessageError::Envelope(_))), "{opened:?}");
    }
    let own = running.granted(&running.house.send(&csr, &victim)).await;
    assert_eq!(own.spki(), victim.public_key());
    assert_eq!(running.ca.calls().len(), 1);
}
