//! Signers whose keys only sign: the answer is encrypted with the request's challenge (RFC 8894, 3.1).

use crate::common::{
    Party, Released, counted_ra, csr, device, ec_device, ec384_device, envelope, name, ra,
    ra_party, self_signed, signed_by, transaction, verify,
};
use crate::openssl::{openssl, succeeded};
use scep_cms::{CmsError, LegacyAlgorithms, Limits};
use scep_keys::AwsLc;
use scep_message::client::{self, Expected, Reply};
use scep_message::{
    ContentEncryption, FailInfo, MessageError, MessageType, ReplyChain, ReplyContext, ReplySealing,
};
use scep_types::{CertificateDer, KeyAlgorithm, Nonce, Reason, Secret};

const CHALLENGE: &str = "a challenge of high entropy";

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn leaf() -> CertificateDer {
    self_signed("leaf", &[9], &device().key, true)
}

/// An enrolment, opened, and not told its challenge.
fn opened(party: &Party) -> ReplyContext {
    let (request, context) =
        verify(&signed_by(party, "19", &envelope(&csr()))).unwrap().decrypt(&ra(), &AwsLc);
    request.unwrap();
    context
}

fn success(context: &ReplyContext) -> Result<Vec<u8>, MessageError> {
    context.success(&ra(), &Released(leaf()), ReplyChain::LeafOnly, &AwsLc)
}

fn read(reply: &[u8], party: &Party, challenge: Option<&str>) -> Result<Reply, MessageError> {
    let challenge = challenge.map(secret);
    let expected = Expected {
        transaction_id: &transaction(),
        nonce: &Nonce::new([7; 16]).unwrap(),
        ra: &[ra_party().certificate.clone()],
        me: &party.recipient(),
        challenge: challenge.as_ref(),
        legacy: LegacyAlgorithms::Refuse,
    };
    expected.read(reply, &AwsLc, &Limits::default())
}

#[test]
fn a_success_is_encrypted_with_the_challenge() {
    for (party, key) in [(ec_device(), KeyAlgorithm::P256), (ec384_device(), KeyAlgorithm::P384)] {
        let mut context = opened(party);
        assert_eq!(context.sealing(), Some(ReplySealing::Challenge));
        assert!(!context.can_encrypt(), "without a challenge nothing can");
        let none = MessageError::NoChallengeToAnswerWith { key };
        assert_eq!(success(&context), Err(none.clone()));
        assert_eq!(none.reason(), Reason::AnswerUndeliverable);
        context.answer_with(secret(CHALLENGE));
        assert!(context.can_encrypt());
        let reply = success(&context).unwrap();
        let granted = Ok(Reply::Success(vec![leaf()]));
        assert_eq!(read(&reply, party, Some(CHALLENGE)), granted);

        // Content and cipher are the request's, and nobody's key is a recipient.
        let verified = scep_cms::SignedData::parse(&reply, &Limits::default())
            .unwrap()
            .verify(&AwsLc, LegacyAlgorithms::Refuse)
            .unwrap();
        let inside = scep_cms::EnvelopedData::parse(
            verified.content(),
            &Limits::default(),
            LegacyAlgorithms::Refuse,
        )
        .unwrap();
        assert_eq!(inside.content_encryption(), ContentEncryption::Aes128Cbc);
        assert_eq!(inside.recipient(&[party.recipient(), device().recipient()]), None);

        // Another challenge opens nothing, and none is an error of its own.
        let wrong = read(&reply, party, Some("another challenge"));
        assert_eq!(wrong, Err(MessageError::Envelope(CmsError::DoesNotOpen)));
        assert_eq!(read(&reply, party, None), Err(none));
        let empty = read(&reply, party, Some(""));
        assert!(matches!(empty, Err(MessageError::Envelope(CmsError::Structure { .. }))));
    }
}

#[test]
fn a_blank_challenge_encrypts_nothing() {
    let mut context = opened(ec_device());
    context.answer_with(secret(""));
    let error = success(&context).unwrap_err();
    assert!(matches!(error, MessageError::Sealing(CmsError::Structure { .. })), "{error}");
}

#[test]
fn failure_and_pending_need_no_challenge() {
    let context = opened(ec_device());
    let failure = context.failure(&ra(), FailInfo::BadRequest, "no", &AwsLc).unwrap();
    let text = Some("no".to_owned());
    let refused = Reply::Failure { fail_info: FailInfo::BadRequest, text };
    assert_eq!(read(&failure, ec_device(), None), Ok(refused));
    let pending = context.pending(&ra(), &AwsLc).unwrap();
    assert_eq!(read(&pending, ec_device(), None), Ok(Reply::Pending));
}

#[test]
fn a_poll_is_answered_with_the_challenge_of_the_request() {
    let names = client::issuer_and_subject(&name("CA"), &name("device"));
    let message =
        signed_by(ec_device(), &MessageType::CertPoll.number().to_string(), &envelope(&names));
    let (ra, counted) = counted_ra();
    let (request, mut context) = verify(&message).unwrap().decrypt(&ra, &AwsLc);
    request.unwrap();
    assert_eq!((counted.count(), context.can_encrypt()), (0, false));
    context.answer_with(secret(CHALLENGE));
    let reply = success(&context).unwrap();
    let granted = Ok(Reply::Success(vec![leaf()]));
    assert_eq!(read(&reply, ec_device(), Some(CHALLENGE)), granted);
}

/// An RSA signer is answered by its key whatever challenge there is: whoever has the challenge alone
/// reads nothing, and no client is told to take a password instead of its key.
#[test]
fn an_rsa_signer_is_answered_by_its_key() {
    let mut context = opened(device());
    assert_eq!(context.sealing(), Some(ReplySealing::KeyTransport));
    context.answer_with(secret(CHALLENGE));
    let reply = success(&context).unwrap();
    let granted = Ok(Reply::Success(vec![leaf()]));
    assert_eq!(read(&reply, device(), None), granted);
    assert_eq!(read(&reply, device(), Some(CHALLENGE)), granted);
    let by_password = read(&reply, ec_device(), Some(CHALLENGE));
    assert_eq!(by_password, Err(MessageError::Envelope(CmsError::NotForUs)));

    let mut context = opened(ec_device());
    context.answer_with(secret(CHALLENGE));
    let reply = success(&context).unwrap();
    let by_key = read(&reply, device(), Some(CHALLENGE));
    assert_eq!(by_key, Err(MessageError::Envelope(CmsError::NotForUs)));
}

#[test]
fn openssl_decrypts_a_success_with_the_challenge() {
    let test = "openssl_decrypts_a_success_with_the_challenge";
    for party in [ec_device(), ec384_device()] {
        let challenge = "MIIBblobInBase64+/".repeat(100);
        let mut context = opened(party);
        context.answer_with(secret(&challenge));
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        std::fs::write(at.join("reply.der"), success(&context).unwrap()).unwrap();
        let mut last = None;
        for step in [
            "cms -verify -noverify -binary -inform DER -in reply.der -out envelope.der",
            &format!(
                "cms -decrypt -binary -inform DER -in envelope.der -pwri_password {challenge} -out certs.der"
            ),
            "pkcs7 -inform DER -in certs.der -print_certs",
        ] {
            let arguments: Vec<&str> = step.split(' ').collect();
            let Some(output) = openssl(test, at, &arguments) else { return };
            succeeded(&output);
            last = Some(output);
        }
        let printed = String::from_utf8(last.unwrap().stdout).unwrap();
        assert!(printed.contains("leaf"), "{printed}");
    }
}
