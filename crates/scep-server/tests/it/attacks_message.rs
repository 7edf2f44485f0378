//! Messages that no honest client sends: what is wrong is the SCEP message around the request.

use crate::support::{Http, Running, device_key, other_key};
use scep_keys::SoftwareKey;
use scep_message::MessageType;
use scep_message::client::Reply;
use scep_pkcs10::danger::attribute;
use scep_server::Outcome;
use scep_testkit::House;
use scep_testkit::house::{Sent, device_certificate, sign_csr};
use scep_types::tlv::{self, Reader, tag};
use scep_types::{
    CertificateDer, ObjectIdentifier, Reason, RsaPadding, SignatureScheme, TransactionId,
};
use sha2::Digest as _;

pub(crate) const TRANSACTION_ID: &str = "2.16.840.1.113733.1.9.7";
pub(crate) const MESSAGE_TYPE: &str = "2.16.840.1.113733.1.9.2";
pub(crate) const SENDER_NONCE: &str = "2.16.840.1.113733.1.9.5";
const PKI_STATUS: &str = "2.16.840.1.113733.1.9.3";
const CHALLENGE_PASSWORD: &str = "1.2.840.113549.1.9.7";
const DATA: &str = "1.2.840.113549.1.7.1";
const SIGNED_DATA: &str = "1.2.840.113549.1.7.2";
const ENVELOPED_DATA: &str = "1.2.840.113549.1.7.3";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";
pub(crate) const RSA: &str = "1.2.840.113549.1.1.1";

pub(crate) fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

pub(crate) fn printable(text: &str) -> Vec<u8> {
    tlv::encode(tag::PRINTABLE_STRING, text.as_bytes())
}

pub(crate) fn octets(value: &[u8]) -> Vec<u8> {
    tlv::encode(tag::OCTET_STRING, value)
}

/// A good request of a new device.
pub(crate) fn good_csr(running: &Running) -> Vec<u8> {
    let claims = running.house.claims();
    sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key())
}

/// An envelope to the house's RA.
pub(crate) fn envelope(running: &Running, plaintext: &[u8]) -> Vec<u8> {
    let recipient = &running.house.ra.recipients[0].certificate;
    scep_cms::seal(
        &*running.house.provider,
        &[recipient],
        RsaPadding::Pkcs1v15,
        scep_cms::ContentEncryption::Aes128Cbc,
        plaintext,
    )
    .unwrap()
}

/// A pkiMessage by hand, good until something in it is changed.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) content_type: &'static str,
    pub(crate) content_type_attribute: &'static str,
    pub(crate) content: Option<Vec<u8>>,
    /// Other signed attributes than contentType and messageDigest.
    pub(crate) attributes: Vec<Vec<u8>>,
    pub(crate) certificates: Vec<CertificateDer>,
    pub(crate) key: SoftwareKey,
    pub(crate) signer: CertificateDer,
    pub(crate) signature: &'static str,
    /// DER, or as listed.
    pub(crate) sorted: bool,
    /// The digest's parameters: NULL, or absent.
    pub(crate) null: bool,
}

impl Message {
    /// An enrolment of a new device.
    pub(crate) fn good(running: &Running) -> Self {
        Self::around(envelope(running, &good_csr(running)))
    }

    pub(crate) fn around(content: Vec<u8>) -> Self {
        let signer = device_certificate(&device_key());
        Self {
            content_type: DATA,
            content_type_attribute: DATA,
            content: Some(content),
            attributes: vec![
                attribute(&oid(TRANSACTION_ID), &[&printable("4F8E2AB0")]),
                attribute(&oid(MESSAGE_TYPE), &[&printable("19")]),
                attribute(&oid(SENDER_NONCE), &[&octets(&[7; 16])]),
            ],
            certificates: vec![signer.clone()],
            key: device_key(),
            signer,
            signature: RSA,
            sorted: true,
            null: true,
        }
    }

    pub(crate) fn without(mut self, kind: &str) -> Self {
        let prefix = tlv::oid(&oid(kind));
        self.attributes.retain(|attribute| {
            !Reader::new(attribute).only(tag::SEQUENCE).unwrap().value.starts_with(&prefix)
        });
        self
    }

    /// Replaces (or adds) the attribute of this type.
    pub(crate) fn set(self, kind: &str, value: &[u8]) -> Self {
        self.without(kind).and(kind, &[value])
    }

    /// Adds an attribute, whether or not it is there.
    pub(crate) fn and(mut self, kind: &str, values: &[&[u8]]) -> Self {
        self.attributes.push(attribute(&oid(kind), values));
        self
    }

    fn digest_algorithm(&self) -> Vec<u8> {
        let null: &[u8] = if self.null { &[tag::NULL, 0] } else { &[] };
        tlv::sequence(&[&tlv::oid(&oid(SHA256)), null])
    }

    /// The signed attributes as they are signed, and their contents as they are sent.
    fn signed_attributes(&self) -> (Vec<u8>, Vec<u8>) {
        let digest = sha2::Sha256::digest(self.content.as_deref().unwrap_or_default());
        let mut attributes = self.attributes.clone();
        let content_type = tlv::oid(&oid(self.content_type_attribute));
        attributes.push(attribute(&oid("1.2.840.113549.1.9.3"), &[&content_type]));
        attributes.push(attribute(&oid("1.2.840.113549.1.9.4"), &[&octets(&digest)]));
        let listed = attributes.concat();
        let signed = tlv::set_of(attributes);
        let sorted = Reader::new(&signed).only(tag::SET).unwrap().value.to_vec();
        (signed, if self.sorted { sorted } else { listed })
    }

    fn signature_over(&self, octets: &[u8]) -> Vec<u8> {
        self.key.signer().sign(SignatureScheme::RsaPkcs1Sha256, octets).unwrap()
    }

    fn signer_info_with(&self, attributes: &[u8], signature: &[u8]) -> Vec<u8> {
        let serial = tlv::encode(tag::INTEGER, self.signer.serial_content());
        tlv::sequence(&[
            &tlv::small_int(1),
            &tlv::sequence(&[self.signer.issuer_der(), &serial]),
            &self.digest_algorithm(),
            attributes,
            &tlv::sequence(&[&tlv::oid(&oid(self.signature)), &[tag::NULL, 0]]),
            &octets(signature),
        ])
    }

    pub(crate) fn signer_info(&self) -> Vec<u8> {
        let (signed, sent) = self.signed_attributes();
        let attributes = tlv::encode(tag::context_constructed(0), &sent);
        self.signer_info_with(&attributes, &self.signature_over(&signed))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.encode_with(&self.signer_info())
    }

    /// With these SignerInfos, in whatever number.
    pub(crate) fn encode_with(&self, signer_infos: &[u8]) -> Vec<u8> {
        let content = self.content.as_ref().map_or_else(Vec::new, |content| {
            tlv::encode(tag::context_constructed(0), &octets(content))
        });
        let certificates: Vec<&[u8]> =
            self.certificates.iter().map(CertificateDer::as_der).collect();
        let signed = tlv::sequence(&[
            &tlv::small_int(1),
            &tlv::encode(tag::SET, &self.digest_algorithm()),
            &tlv::sequence(&[&tlv::oid(&oid(self.content_type)), &content]),
            &tlv::construct(tag::context_constructed(0), &certificates),
            &tlv::encode(tag::SET, signer_infos),
        ]);
        content_info(SIGNED_DATA, &signed)
    }
}

pub(crate) fn content_info(kind: &str, content: &[u8]) -> Vec<u8> {
    tlv::sequence(&[&tlv::oid(&oid(kind)), &tlv::encode(tag::context_constructed(0), content)])
}

/// The parts of an EnvelopedData that tests change.
#[derive(Clone)]
pub(crate) struct Envelope {
    pub(crate) recipient_infos: Vec<Vec<u8>>,
    content_type: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    pub(crate) encrypted: Vec<u8>,
}

impl Envelope {
    pub(crate) fn read(der: &[u8]) -> Self {
        let mut content_info = Reader::new(der).only(tag::SEQUENCE).unwrap().reader();
        content_info.expect(tag::OID).unwrap();
        let explicit = content_info.expect(tag::context_constructed(0)).unwrap();
        let mut fields = explicit.reader().only(tag::SEQUENCE).unwrap().reader();
        fields.expect(tag::INTEGER).unwrap();
        let mut infos = fields.expect(tag::SET).unwrap().reader();
        let mut recipient_infos = Vec::new();
        while !infos.is_empty() {
            recipient_infos.push(infos.any().unwrap().raw.to_vec());
        }
        let mut content = fields.expect(tag::SEQUENCE).unwrap().reader();
        Self {
            recipient_infos,
            content_type: content.any().unwrap().raw.to_vec(),
            algorithm: content.any().unwrap().raw.to_vec(),
            encrypted: content.expect(tag::context(0)).unwrap().value.to_vec(),
        }
    }

    /// With one change.
    pub(crate) fn but(&self, change: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut copy = self.clone();
        change(&mut copy);
        let content = tlv::sequence(&[
            &copy.content_type,
            &copy.algorithm,
            &tlv::encode(tag::context(0), &copy.encrypted),
        ]);
        let infos = tlv::encode(tag::SET, &copy.recipient_infos.concat());
        content_info(ENVELOPED_DATA, &tlv::sequence(&[&tlv::small_int(0), &infos, &content]))
    }
}

/// pkiStatus and the signed attributes of a CertRep that the house's RA has signed.
pub(crate) fn cert_rep(running: &Running, body: &[u8]) -> scep_cms::VerifiedSignedData {
    let limits = scep_cms::Limits::default();
    let reply = scep_cms::SignedData::parse(body, &limits)
        .unwrap()
        .verify(&*running.house.provider, scep_cms::LegacyAlgorithms::Refuse)
        .unwrap();
    assert_eq!(reply.signer_certificate(), Some(&running.house.ra.signing_certificate));
    reply
}

impl Running {
    /// POSTs octets, and returns the answer whatever it is.
    pub(crate) async fn post_message(&self, bytes: &[u8]) -> Http {
        self.post("/scep?operation=PKIOperation", "", bytes).await
    }

    /// POSTs octets that nothing must come of: neither a call of the CA nor an intent nor a SUCCESS.
    pub(crate) async fn nothing_comes_of(&self, bytes: &[u8], what: &str) -> (Http, Reason) {
        let (calls, seen) = (self.ca.calls().len(), self.traces.all().len());
        let http = self.post_message(bytes).await;
        assert_eq!(self.ca.calls().len(), calls, "{what}: the CA was asked");
        let counters = self.gateway.ledger().counters().await.unwrap();
        assert_eq!(counters.unsettled, 0, "{what}");
        assert_eq!(self.traces.all().len(), seen + 1, "{what}");
        let trace = self.traces.last();
        assert_eq!(trace.outcome, Outcome::Refused, "{what}: {trace:?}");
        match http.status {
            200 => {
                let status =
                    cert_rep(self, &http.body).attribute(&oid(PKI_STATUS)).unwrap().to_vec();
                assert_eq!(status, printable("2"), "{what}");
            }
            400 => {}
            other => panic!("{what}: {other}"),
        }
        (http, trace.reason.unwrap())
    }

    async fn message_fails(&self, what: &str, message: &Message, expected: Reason) {
        let (_, reason) = self.nothing_comes_of(&message.encode(), what).await;
        assert_eq!(reason, expected, "{what}");
    }
}

#[tokio::test]
async fn the_message_by_hand_is_good() {
    let running = Running::start().await;
    let message = Message::good(&running);
    let http = running.post_message(&message.encode()).await;
    let status = cert_rep(&running, &http.body).attribute(&oid(PKI_STATUS)).unwrap().to_vec();
    assert_eq!(status, printable("0"), "{:?}", running.traces.last());
    assert_eq!(running.ca.calls().len(), 1);
}

#[tokio::test]
async fn attack_02_a_message_type_is_there_once_and_a_number() {
    let running = Running::start().await;
    let good = || Message::good(&running);
    let unserved = Reason::MessageTypeNotServed;
    running.message_fails("absent", &good().without(MESSAGE_TYPE), unserved).await;
    for text in ["", "PKCSReq", "019", " 19", "19 ", "+19", "0x13", "275", "-1"] {
        let message = good().set(MESSAGE_TYPE, &printable(text));
        running.message_fails(text, &message, unserved).await;
    }
    let malformed = Reason::MessageMalformed;
    let twice = good().and(MESSAGE_TYPE, &[&printable("17")]);
    running.message_fails("two attributes", &twice, malformed).await;
    let values = [&printable("19")[..], &printable("18")];
    let two = good().without(MESSAGE_TYPE).and(MESSAGE_TYPE, &values);
    running.message_fails("two values", &two, malformed).await;
    let none = good().without(MESSAGE_TYPE).and(MESSAGE_TYPE, &[]);
    running.message_fails("no value", &none, malformed).await;
}

/// A renewal of `first`'s device with a new key and a fresh challenge, signed by this certificate.
fn renewal(
    running: &Running,
    first: &scep_challenge::ChallengeClaims,
    key: &SoftwareKey,
    signer: &CertificateDer,
) -> Sent {
    let mut claims = running.house.claims();
    claims.device = first.device.clone();
    claims.expectation = first.expectation.clone();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &other_key());
    running.house.send_as(&csr, key, signer, MessageType::RenewalReq, RsaPadding::Pkcs1v15)
}

#[tokio::test]
async fn attack_03_a_renewal_is_signed_by_a_live_certificate_of_this_gateway() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let old = running.granted(&running.house.send(&csr, &device_key())).await;

    // The same names and key, from another CA: whoever signs it himself.
    let day = core::time::Duration::from_secs(86_400);
    let opens = scep_testkit::house::OPENS;
    let home_made = scep_testkit::device::self_signed(
        &device_key(),
        &claims.expectation.subject,
        opens.minus(day),
        opens.plus(day),
        &[scep_testkit::device::TestExtension::key_usage()],
    );
    let sent = renewal(&running, &claims, &device_key(), &home_made);
    assert_eq!(running.refused(&sent).await, Reason::SignerNotAllowed);
    // One more name than before: the challenge says which.
    let mut fresh = running.house.claims();
    fresh.device = claims.device.clone();
    fresh.expectation = claims.expectation.clone();
    let mut more = House::csr(&fresh, &running.house.seal(&fresh));
    more.subject_alt_names.push(scep_types::GeneralName::dns("dc.example.org").unwrap());
    let kind = MessageType::RenewalReq;
    let more = sign_csr(&more, &device_key());
    let sent = running.house.send_as(&more, &device_key(), &old, kind, RsaPadding::Pkcs1v15);
    assert_eq!(running.refused(&sent).await, Reason::SubjectAltNameMismatch);
    // Revoked.
    let ledger = running.gateway.ledger();
    let revoked = scep_ledger::RevocationReason::KeyCompromise;
    ledger.mark_revoked(old.fingerprint(), revoked, opens).await.unwrap();
    let sent = renewal(&running, &claims, &device_key(), &old);
    assert_eq!(running.refused(&sent).await, Reason::SignerNotAllowed);
}

#[tokio::test]
async fn attack_03_an_expired_certificate_signs_no_renewal() {
    let running = Running::start().await;
    let mut claims = running.house.claims();
    claims.expectation.validity = core::time::Duration::from_secs(30 * 86_400);
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let old = running.granted(&running.house.send(&csr, &device_key())).await;
    let minute = core::time::Duration::from_secs(60);
    running.house.clock.set(old.not_after().plus(minute));
    let sent = renewal(&running, &claims, &device_key(), &old);
    assert_eq!(running.refused(&sent).await, Reason::SignerNotAllowed);
    // A minute before its end it was good: nothing else is wrong with that request.
    let again = Running::start().await;
    let mut claims = again.house.claims();
    claims.expectation.validity = core::time::Duration::from_secs(30 * 86_400);
    let csr = sign_csr(&House::csr(&claims, &again.house.seal(&claims)), &device_key());
    let old = again.granted(&again.house.send(&csr, &device_key())).await;
    again.house.clock.set(old.not_after().minus(minute));
    again.granted(&renewal(&again, &claims, &device_key(), &old)).await;
}

#[tokio::test]
async fn attack_05_the_endpoint_for_windows_wants_a_challenge_too() {
    let running = Running::start().await;
    for challenge in [None, Some("secret"), Some("a.b.c")] {
        let mut csr = House::csr(&running.house.claims(), "");
        csr.challenge_password = challenge.map(|text| scep_types::Secret::new(text.to_owned()));
        let sent = running.house.send(&sign_csr(&csr, &device_key()), &device_key());
        let reply = running.ask_at("/certsrv/mscep/mscep.dll/pkiclient.exe", &sent).await;
        assert!(matches!(reply, Reply::Failure { .. }), "{challenge:?}: {reply:?}");
    }
    assert_eq!(running.ca.calls().len(), 0);
}

#[tokio::test]
async fn attack_06_a_challenge_in_the_signed_attributes_is_refused() {
    let running = Running::start().await;
    let claims = running.house.claims();
    let blob = running.house.seal(&claims);
    // Beside the one in the request, and instead of it.
    let with = sign_csr(&House::csr(&claims, &blob), &device_key());
    let mut without = House::csr(&claims, &blob);
    without.challenge_password = None;
    for csr in [with, sign_csr(&without, &device_key())] {
        let message = Message::around(envelope(&running, &csr));
        let message = message.set(CHALLENGE_PASSWORD, &printable(&blob));
        running.message_fails("signed attribute", &message, Reason::AttributeNotAllowed).await;
    }
}

#[tokio::test]
async fn attack_09_a_transaction_id_is_worth_nothing() {
    let running = Running::start().await;
    let csr = good_csr(&running);
    let victim = Message::around(envelope(&running, &csr));
    running.post_message(&victim.encode()).await;
    assert_eq!(running.ca.calls().len(), 1);
    // Another device with the victim's transactionID: with its own challenge it gets its own certificate.
    let claims = running.house.claims();
    let own = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &other_key());
    let mut sent = running.house.send(&own, &other_key());
    let mut message = Message::around(envelope(&running, &own));
    message.key = other_key();
    message.signer = device_certificate(&other_key());
    message.certificates = vec![message.signer.clone()];
    sent.bytes = message.encode();
    sent.transaction = TransactionId::new("4F8E2AB0").unwrap();
    sent.nonce = scep_types::Nonce::new([7; 16]).unwrap();
    let mut poll = message.clone().set(MESSAGE_TYPE, &printable("20"));
    let names = scep_message::client::issuer_and_subject(&[0x30, 0], &[0x30, 0]);
    poll.content = Some(envelope(&running, &names));
    let enrolment = core::mem::replace(&mut sent.bytes, poll.encode());
    assert_eq!(running.refused(&sent).await, Reason::NoSuchTransaction);
    sent.bytes = enrolment;
    let got = running.granted(&sent).await;
    assert_eq!(got.spki(), other_key().public_key());
    // Polling for it gives its own, never the victim's.
    sent.bytes = poll.encode();
    assert_eq!(running.granted(&sent).await, got);
    // With no challenge at all: nothing.
    let mut bare = House::csr(&claims, "");
    bare.challenge_password = None;
    message.content = Some(envelope(&running, &sign_csr(&bare, &other_key())));
    sent.bytes = message.encode();
    assert_eq!(running.refused(&sent).await, Reason::ChallengePasswordMissing);
}

/// Who splices the blocks of a captured envelope and signs it anew as another message must not learn by the answer whether
/// the padding was right: that would read the envelope octet by octet, the challenge with it.
#[tokio::test]
async fn attack_22_a_spliced_envelope_tells_nothing_as_a_poll_or_a_query() {
    let running = Running::start().await;
    let csr = good_csr(&running);
    let names = scep_message::client::issuer_and_subject(&[0x30, 0], &[0x30, 0]);
    let serial = scep_message::client::issuer_and_serial(&[0x30, 0], &[1]);
    let mut padding = envelope(&running, &names);
    *padding.last_mut().unwrap() ^= 1;
    let contents = [
        envelope(&running, &names),
        envelope(&running, &serial),
        envelope(&running, &csr),
        padding,
    ];
    let mut sent = running.house.send(&csr, &device_key());
    sent.transaction = TransactionId::new("4F8E2AB0").unwrap();
    sent.nonce = scep_types::Nonce::new([7; 16]).unwrap();
    for kind in ["20", "21", "22"] {
        let mut answers = Vec::new();
        for content in &contents {
            let message = Message::around(content.clone()).set(MESSAGE_TYPE, &printable(kind));
            sent.bytes = message.encode();
            let Reply::Failure { fail_info, text } = running.ask(&sent).await else {
                panic!("{kind}");
            };
            let text = text.unwrap().split(" (ref ").next().unwrap().to_owned();
            answers.push((fail_info, text));
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{kind}: {answers:?}");
        assert_eq!(answers[0].0, scep_message::FailInfo::BadCertId, "{kind}");
    }
    assert_eq!(running.ca.calls().len(), 0);
}

#[tokio::test]
async fn attack_11_the_content_is_what_was_signed() {
    let running = Running::start().await;
    let good = Message::good(&running);
    let invalid = Reason::MessageSignatureInvalid;
    let of_good = |message: &Message| message.encode_with(&good.signer_info());
    // Another envelope under the signature, the same one with another length, none, an empty one.
    let mut swapped = good.clone();
    swapped.content = Some(envelope(&running, &good_csr(&running)));
    assert_eq!(running.nothing_comes_of(&of_good(&swapped), "swapped").await.1, invalid);
    let mut longer = good.clone();
    longer.content.as_mut().unwrap().push(0);
    assert_eq!(running.nothing_comes_of(&of_good(&longer), "longer").await.1, invalid);
    let mut detached = good.clone();
    detached.content = None;
    assert_eq!(running.nothing_comes_of(&of_good(&detached), "detached").await.1, invalid);
    let mut empty = good.clone();
    empty.content = Some(Vec::new());
    assert_eq!(running.nothing_comes_of(&of_good(&empty), "empty").await.1, invalid);
    // Signed as they are, absent and empty contents are no request.
    for content in [None, Some(Vec::new())] {
        let mut message = good.clone();
        message.content = content;
        running.message_fails("no content", &message, Reason::MessageMalformed).await;
    }
    // A wrong messageDigest under a good signature over the attributes.
    let mut other = good.clone();
    other.content = Some(envelope(&running, &good_csr(&running)));
    assert_eq!(
        running.nothing_comes_of(&good.encode_with(&other.signer_info()), "digest").await.1,
        invalid
    );
    // One bit of the signature.
    let mut bit = good.encode();
    *bit.last_mut().unwrap() ^= 1;
    assert_eq!(running.nothing_comes_of(&bit, "one bit").await.1, invalid);
    // One bit of a signed attribute.
    let mut bit = good.encode();
    let at = bit.windows(8).position(|w| w == b"4F8E2AB0").unwrap();
    bit[at] ^= 1;
    assert_eq!(running.nothing_comes_of(&bit, "transaction").await.1, invalid);
    // All of it untouched is good, so that each of these failed for its own reason.
    running.post_message(&good.encode()).await;
    assert_eq!(running.ca.calls().len(), 1);
}

#[tokio::test]
async fn attack_12_signed_attributes_and_content_are_never_confused() {
    let running = Running::start().await;
    let good = Message::good(&running);
    // Without signedAttrs, the signature over the content itself.
    let content = good.content.clone().unwrap();
    let bare = good.signer_info_with(&[], &good.signature_over(&content));
    let (http, _) = running.nothing_comes_of(&good.encode_with(&bare), "stripped").await;
    assert_eq!(http.status, 400, "there is nobody to answer");
    // The attributes stripped from a good message: their signature now stands for the content.
    let (signed, _) = good.signed_attributes();
    let stripped = good.signer_info_with(&[], &good.signature_over(&signed));
    let mut as_content = good.clone();
    as_content.content = Some(signed.clone());
    running.nothing_comes_of(&as_content.encode_with(&stripped), "attributes as content").await;
    // Content that reads as signed attributes, signed as it should be.
    as_content.content = Some(signed);
    running.message_fails("a SET", &as_content, Reason::MessageMalformed).await;
}

#[tokio::test]
async fn attack_13_one_signer_and_it_is_the_one_named() {
    let running = Running::start().await;
    let good = Message::good(&running);
    let mut other = good.clone();
    other.key = other_key();
    other.signer = device_certificate(&other_key());
    other.certificates.push(other.signer.clone());
    let both = [good.signer_info(), other.signer_info()].concat();
    let (_, reason) = running.nothing_comes_of(&other.encode_with(&both), "two").await;
    assert_eq!(reason, Reason::MessageMalformed);
    running.nothing_comes_of(&good.encode_with(&[]), "none").await;
    // The certificate named is not there, or there is another of the same name.
    let mut absent = good.clone();
    absent.certificates = vec![device_certificate(&other_key())];
    let (_, reason) = running.nothing_comes_of(&absent.encode(), "another key's").await;
    assert_eq!(reason, Reason::MessageSignatureInvalid);
    absent.certificates = vec![running.house.ra.signing_certificate.clone()];
    running.nothing_comes_of(&absent.encode(), "another's").await;
    absent.certificates = Vec::new();
    running.nothing_comes_of(&absent.encode(), "no certificates").await;
    // The test's certificates have one name and number: with both there, which is meant?
    let mut ambiguous = good.clone();
    ambiguous.certificates = vec![device_certificate(&other_key()), good.signer.clone()];
    running.nothing_comes_of(&ambiguous.encode(), "two of one name").await;
}

#[tokio::test]
async fn attack_14_the_types_are_data_around_an_envelope_of_data() {
    let running = Running::start().await;
    let good = Message::good(&running);
    for kind in [ENVELOPED_DATA, SIGNED_DATA] {
        let mut message = good.clone();
        message.content_type = kind;
        running.message_fails("attribute differs", &message, Reason::MessageMalformed).await;
        message.content_type_attribute = kind;
        running.message_fails("both", &message, Reason::MessageMalformed).await;
    }
    let csr = good_csr(&running);
    let mut inner = Envelope::read(&envelope(&running, &csr));
    inner.content_type = tlv::oid(&oid(SIGNED_DATA));
    for (what, content) in [
        ("the request itself", csr.clone()),
        ("data", content_info(DATA, &octets(&csr))),
        ("a message", good.encode()),
        ("an envelope of SignedData", inner.but(|_| {})),
    ] {
        let mut message = good.clone();
        message.content = Some(content);
        running.message_fails(what, &message, Reason::MessageMalformed).await;
    }
    let enveloped_only = envelope(&running, &csr);
    let (http, _) = running.nothing_comes_of(&enveloped_only, "no signature at all").await;
    assert_eq!(http.status, 400);
}

#[tokio::test]
async fn attack_15_transaction_ids_and_nonces_have_limits() {
    let running = Running::start().await;
    let good = || Message::good(&running);
    for (what, value) in [
        ("long", printable(&"a".repeat(129))),
        ("very long", printable(&"a".repeat(60_000))),
        ("empty", printable("")),
        ("control", printable("a\nb")),
        ("NUL", printable("a\0b")),
        ("octets", octets(b"4F8E2AB0")),
        ("not UTF-8", tlv::encode(tag::UTF8_STRING, &[0xff])),
    ] {
        running
            .message_fails(what, &good().set(TRANSACTION_ID, &value), Reason::MessageMalformed)
            .await;
    }
    running.message_fails("none", &good().without(TRANSACTION_ID), Reason::MessageMalformed).await;
    for value in [octets(&[]), octets(&[0; 65]), printable("0123456789abcdef")] {
        running
            .message_fails("nonce", &good().set(SENDER_NONCE, &value), Reason::MessageMalformed)
            .await;
    }
    let http = running
        .post_message(&good().set(TRANSACTION_ID, &printable(&"a".repeat(128))).encode())
        .await;
    let status = cert_rep(&running, &http.body).attribute(&oid(PKI_STATUS)).unwrap().to_vec();
    assert_eq!(status, printable("0"));
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    info: Vec<u8>,
    text: String,
    length: usize,
}

/// failInfo, failInfoText without the reference and the answer's length; and what the operator is told.
async fn seen_from_outside(running: &Running, content: Vec<u8>) -> (Seen, Reason) {
    let message = Message::around(content).encode();
    let (http, reason) = running.nothing_comes_of(&message, "envelope").await;
    assert_eq!(http.status, 200);
    let reply = cert_rep(running, &http.body);
    let info = reply.attribute(&oid("2.16.840.1.113733.1.9.4")).unwrap().to_vec();
    let text = reply.attribute(&oid("1.3.6.1.5.5.7.24.1")).unwrap().to_vec();
    let text = String::from_utf8(Reader::new(&text).any().unwrap().value.to_vec()).unwrap();
    let text = text.split(" (ref").next().unwrap().to_owned();
    (Seen { info, text, length: http.body.len() }, reason)
}

#[tokio::test]
async fn attack_21_22_padding_key_length_block_and_request_fail_alike() {
    let running = Running::start().await;
    let csr = good_csr(&running);
    let good = Envelope::read(&envelope(&running, &csr));
    let ra_key = running.house.ra.recipients[0].certificate.spki().clone();
    // The same recipient, with something else in the key transport.
    let transport = |key: &[u8]| {
        let provider = &running.house.provider;
        let encrypted = provider.rsa_encrypt(&ra_key, RsaPadding::Pkcs1v15, key).unwrap();
        let mut info = good.recipient_infos[0].clone();
        let at = info.len() - encrypted.len();
        info[at..].copy_from_slice(&encrypted);
        good.but(|e| e.recipient_infos = vec![info])
    };
    let mut noise = good.recipient_infos[0].clone();
    *noise.last_mut().unwrap() ^= 1;
    let before_last = good.encrypted.len() - 17;
    let cases = [
        ("RSA padding", good.but(|e| e.recipient_infos = vec![noise])),
        ("a short key", transport(&[1; 8])),
        ("a long key", transport(&[1; 32])),
        ("another key", transport(&[1; 16])),
        ("the last padding", good.but(|e| e.encrypted[before_last] ^= 0x80)),
        ("the first block", good.but(|e| e.encrypted[0] ^= 1)),
        ("one block only", good.but(|e| e.encrypted.truncate(16))),
        ("no request", envelope(&running, b"certificate please")),
        ("a broken request", envelope(&running, &csr[..csr.len() - 1])),
        ("a SEQUENCE", envelope(&running, &[0x30, 3, 2, 1, 0])),
        ("an unproven request", {
            let mut unproven = csr.clone();
            *unproven.last_mut().unwrap() ^= 1;
            envelope(&running, &unproven)
        }),
    ];
    let mut answers = Vec::new();
    for (what, content) in cases {
        let (answer, reason) = seen_from_outside(&running, content).await;
        assert!(
            matches!(
                reason,
                Reason::MessageDecryptionFailed
                    | Reason::CertificateRequestDecodingFailed
                    | Reason::ProofOfPossessionFailed
            ),
            "{what}: {reason}"
        );
        answers.push(answer);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test]
async fn attack_23_one_recipient_is_ours() {
    let running = Running::start().await;
    let csr = good_csr(&running);
    let good = Envelope::read(&envelope(&running, &csr));
    let second = Envelope::read(&envelope(&running, &csr)).recipient_infos;
    let twice = good.but(|e| e.recipient_infos.extend(second));
    running.message_fails("two", &Message::around(twice), Reason::MessageMalformed).await;
    let info = good.recipient_infos[0].clone();
    let many = good.but(|e| e.recipient_infos = vec![info; 9]);
    running.message_fails("nine", &Message::around(many), Reason::MessageMalformed).await;
    let none = good.but(|e| e.recipient_infos.clear());
    running.message_fails("none", &Message::around(none), Reason::MessageMalformed).await;
}

#[tokio::test]
async fn attack_24_what_was_encrypted_otherwise_is_refused_by_its_name() {
    let running = Running::start().await;
    let good = Envelope::read(&envelope(&running, &good_csr(&running)));
    let initial = octets(&[0; 8]);
    for (kind, parameters) in [
        // DES, RC2, 3DES (an endpoint's legacy option), AES-GCM without its authentication.
        ("1.3.14.3.2.7", initial.clone()),
        ("1.2.840.113549.3.2", initial.clone()),
        ("1.2.840.113549.3.7", initial),
        ("2.16.840.1.101.3.4.1.6", tlv::sequence(&[&octets(&[0; 12])])),
    ] {
        let algorithm = tlv::sequence(&[&tlv::oid(&oid(kind)), &parameters]);
        let content = good.but(|e| e.algorithm = algorithm);
        let expected = Reason::AlgorithmNotSupported;
        running.message_fails(kind, &Message::around(content), expected).await;
    }
}
