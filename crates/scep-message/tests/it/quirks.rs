//! How the field behaves, as far as it is decided here.

use crate::common::{
    Envelope, FAIL_INFO, MESSAGE_TYPE, Message, Order, PKI_STATUS, RECIPIENT_NONCE, Released,
    SENDER_NONCE, TRANSACTION_ID, csr, device, envelope, legacy_ra, oid, other, printable, ra,
    ra_party, reply_attribute, request, self_signed, to_ber, transaction, verify,
};
use scep_cms::{ContentEncryption, LegacyAlgorithms, Limits, SignedData};
use scep_keys::AwsLc;
use scep_message::client::{self, Reply};
use scep_message::{
    FailInfo, MessageError, MessageType, PkiMessage, ReplyChain, ReplyContext, Request, ca_cert,
    salvage,
};
use scep_types::tlv::{self, Reader, tag};
use scep_types::{Nonce, OaepHash, Reason, RsaPadding, SignatureScheme, Timestamp};

fn served(message: &[u8]) -> ReplyContext {
    let (request, context) = verify(message).unwrap().decrypt(&ra(), &AwsLc);
    let Ok(Request::Enrol { csr: der, .. }) = request else { panic!("{request:?}") };
    assert_eq!(der, csr());
    context
}

fn octets(value: &[u8]) -> Vec<u8> {
    tlv::encode(tag::OCTET_STRING, value)
}

fn read(reply: &[u8], nonce: &Nonce) -> Result<Reply, MessageError> {
    let ra = [ra_party().certificate.clone()];
    let id = transaction();
    client::reply(reply, &id, nonce, &ra, &device().recipient(), &AwsLc, &Limits::default())
}

#[test]
fn quirk_17_one_certificate_is_bare() {
    let only = [ra_party().certificate.clone()];
    let (content_type, body) = ca_cert::response(&only);
    assert_eq!(content_type, "application/x-x509-ca-cert");
    assert_eq!(body, only[0].as_der());
}

#[test]
fn quirk_19_a_bundle_keeps_its_order() {
    for bundle in [[ra_party(), other()], [other(), ra_party()]] {
        let bundle = bundle.map(|party| party.certificate.clone());
        let (content_type, body) = ca_cert::response(&bundle);
        assert_eq!(content_type, "application/x-x509-ca-ra-cert");
        assert_eq!(ca_cert::parse(&body, &Limits::default()).unwrap(), bundle);
    }
}

#[test]
fn quirk_20_ours_is_found_among_several_recipients() {
    let everybody = [&other().certificate, &ra_party().certificate, &device().certificate];
    let mut message = Message::good();
    message.content = Some(
        scep_cms::seal(
            &AwsLc,
            &everybody,
            RsaPadding::Pkcs1v15,
            ContentEncryption::Aes128Cbc,
            &csr(),
        )
        .unwrap(),
    );
    served(&message.encode());
}

#[test]
fn quirk_20_an_envelope_for_another_is_answered() {
    let mut message = Message::good();
    message.content = Some(
        scep_cms::seal(
            &AwsLc,
            &[&other().certificate],
            RsaPadding::Pkcs1v15,
            ContentEncryption::Aes128Cbc,
            &csr(),
        )
        .unwrap(),
    );
    let (ra, counted) = crate::common::counted_ra();
    let (request, context) = verify(&message.encode()).unwrap().decrypt(&ra, &AwsLc);
    let error = request.unwrap_err();
    assert_eq!(error, MessageError::NotForUs);
    assert_eq!((error.reason(), counted.count()), (Reason::MessageNotForUs, 0));
    let reply = context.failure(&ra, FailInfo::BadMessageCheck, "", &AwsLc).unwrap();
    assert_eq!(reply_attribute(&reply, FAIL_INFO), Some(printable("1")));
}

#[test]
fn quirk_21_the_recipients_issuer_may_be_encoded_otherwise() {
    let mut sealed = Envelope::read(&envelope(&csr()));
    // The same name as a PrintableString: one octet of the tag.
    let utf8 = [&[tag::UTF8_STRING, 2][..], b"RA"].concat();
    let info = &mut sealed.recipient_infos[0];
    let at = info.windows(utf8.len()).position(|window| window == utf8).unwrap();
    info[at] = tag::PRINTABLE_STRING;
    let mut message = Message::good();
    message.content = Some(sealed.encode());
    served(&message.encode());
}

#[test]
fn quirk_22_23_ber_with_chunked_octet_strings_is_read() {
    let mut message = Message::good();
    message.content = Some(to_ber(&envelope(&csr())));
    served(&message.encode());
    served(&to_ber(&message.encode()));
    let ber = to_ber(&Message::good().encode());
    assert_eq!(ber[..2], [0x30, 0x80]);
    served(&ber);
}

#[test]
fn quirk_24_unsorted_signed_attributes_are_read() {
    let mut message = Message::good();
    message.order = Order::AsListed;
    assert_ne!(message.encode(), Message::good().encode());
    served(&message.encode());
}

#[test]
fn quirk_25_both_forms_of_signature_algorithm_are_read() {
    let mut message = Message::good();
    message.signature = crate::common::SHA256_RSA;
    let context = served(&message.encode());
    // What is sent is always rsaEncryption.
    let reply = context.failure(&ra(), FailInfo::BadRequest, "", &AwsLc).unwrap();
    let long = tlv::oid(&oid(crate::common::SHA256_RSA));
    let certificate = ra_party().certificate.as_der();
    let at = reply.windows(certificate.len()).position(|window| window == certificate).unwrap();
    let after = &reply[at + certificate.len()..];
    assert!(!after.windows(long.len()).any(|window| window == long));
    let short = tlv::oid(&oid(crate::common::RSA));
    assert!(after.windows(short.len()).any(|window| window == short));
}

#[test]
fn quirk_26_the_signer_is_matched_by_its_id_and_not_by_its_place() {
    let mut message = Message::good();
    message.certificates = vec![
        other().certificate.clone(),
        ra_party().certificate.clone(),
        device().certificate.clone(),
    ];
    let signed = verify(&message.encode()).unwrap();
    assert_eq!(signed.signer(), &device().certificate);
}

#[test]
fn quirk_29_a_version_1_signer_certificate_is_read() {
    let v1 = self_signed("device", &[2], &device().key, false);
    let mut message = Message::good();
    message.certificates = vec![v1.clone()];
    assert_eq!(verify(&message.encode()).unwrap().signer(), &v1);
    served(&message.encode());
}

#[test]
fn quirk_30_a_nonce_of_any_length_or_none_is_echoed() {
    for length in [1, 8, 16, 20, 64] {
        let nonce = octets(&vec![0xab; length]);
        let context = served(&Message::good().set(SENDER_NONCE, nonce.clone()).encode());
        let reply = context.pending(&ra(), &AwsLc).unwrap();
        assert_eq!(reply_attribute(&reply, RECIPIENT_NONCE), Some(nonce));
    }
    let context = served(&Message::good().without(SENDER_NONCE).encode());
    let reply = context.pending(&ra(), &AwsLc).unwrap();
    assert_eq!(reply_attribute(&reply, RECIPIENT_NONCE), None);
}

#[test]
fn quirk_31_other_string_types_are_read_and_printable_string_is_sent() {
    let message = Message::good()
        .set(MESSAGE_TYPE, tlv::small_int(19))
        .set(TRANSACTION_ID, tlv::encode(tag::UTF8_STRING, b"id_with*@"));
    let context = served(&message.encode());
    let reply = context.failure(&ra(), FailInfo::BadCertId, "", &AwsLc).unwrap();
    assert_eq!(reply_attribute(&reply, TRANSACTION_ID), Some(printable("id_with*@")));
    assert_eq!(reply_attribute(&reply, MESSAGE_TYPE), Some(printable("3")));
    assert_eq!(reply_attribute(&reply, PKI_STATUS), Some(printable("2")));
    assert_eq!(reply_attribute(&reply, FAIL_INFO), Some(printable("4")));
    let text = tlv::encode(tag::UTF8_STRING, b"19");
    served(&Message::good().set(MESSAGE_TYPE, text).encode());
}

fn opened_reply(reply: &[u8]) -> scep_cms::Opened {
    let verified = SignedData::parse(reply, &Limits::default())
        .unwrap()
        .verify(&AwsLc, LegacyAlgorithms::Refuse)
        .unwrap();
    scep_cms::EnvelopedData::parse(verified.content(), &Limits::default(), LegacyAlgorithms::Refuse)
        .unwrap()
        .open(&[device().recipient()], &AwsLc)
        .unwrap()
}

#[test]
fn quirk_32_oaep_is_answered_by_oaep() {
    let padding = RsaPadding::Oaep(OaepHash::Sha1);
    let mut message = Message::good();
    let cipher = ContentEncryption::Aes256Cbc;
    let sealed = scep_cms::seal(&AwsLc, &[&ra_party().certificate], padding, cipher, &csr());
    message.content = Some(sealed.unwrap());
    let context = served(&message.encode());
    let leaf = Released(device().certificate.clone());
    let reply = context.success(&ra(), &leaf, ReplyChain::LeafOnly, &AwsLc).unwrap();
    let opened = opened_reply(&reply);
    assert_eq!((opened.padding, opened.content_encryption), (padding, cipher));
}

#[test]
fn quirk_33_md5_and_des_get_an_answer_that_names_them() {
    let mut message = Message::good();
    message.digest = crate::common::MD5;
    for legacy in [LegacyAlgorithms::Refuse, LegacyAlgorithms::Accept] {
        let parsed = PkiMessage::parse(&message.encode(), &Limits::default()).unwrap();
        let error = parsed.verify(&AwsLc, legacy).unwrap_err();
        assert_eq!(error.reason(), Reason::AlgorithmNotSupported);
        assert_eq!(error.algorithm(), Some("md5"));
    }
    message.digest = crate::common::SHA1;
    let error = verify(&message.encode()).unwrap_err();
    assert_eq!(error.algorithm(), Some("sha1"));

    let context = salvage(&message.encode(), &Limits::default()).unwrap();
    assert_eq!(context.transaction_id(), &transaction());
    assert_eq!(context.signer(), Some(&device().certificate));
    let reply = context.failure(&ra(), FailInfo::BadAlg, "sha1 is not served", &AwsLc).unwrap();
    let text = Some("sha1 is not served".to_owned());
    let expected = Reply::Failure { fail_info: FailInfo::BadAlg, text };
    assert_eq!(read(&reply, &Nonce::new([7; 16]).unwrap()), Ok(expected));
}

#[test]
fn salvage_answers_what_does_not_verify() {
    let (message, nonce) = request(MessageType::PkcsReq, &csr());
    let mut broken = message.clone();
    *broken.last_mut().unwrap() ^= 1;
    assert!(verify(&broken).is_err());
    for bytes in [&broken, &to_ber(&broken)] {
        let context = salvage(bytes, &Limits::default()).unwrap();
        let reply = context.failure(&ra(), FailInfo::BadMessageCheck, "", &AwsLc).unwrap();
        let expected = Reply::Failure { fail_info: FailInfo::BadMessageCheck, text: None };
        assert_eq!(read(&reply, &nonce), Ok(expected));
    }
    // Without a readable signer or nonce there is still a transaction to answer.
    let mut anonymous = Message::good().without(SENDER_NONCE);
    anonymous.certificates.clear();
    let context = salvage(&anonymous.encode(), &Limits::default()).unwrap();
    assert_eq!(context.signer(), None);
    // Without a transactionID, or with two, there is not.
    let none = Message::good().without(TRANSACTION_ID).encode();
    assert!(salvage(&none, &Limits::default()).is_none());
    let mut two = Message::good();
    two.attributes.push(crate::common::attribute(TRANSACTION_ID, &[printable("B")]));
    assert!(salvage(&two.encode(), &Limits::default()).is_none());
    assert!(salvage(b"", &Limits::default()).is_none());
    assert!(salvage(&message[..message.len() - 1], &Limits::default()).is_none());
}

#[test]
fn quirk_34_the_digest_is_mirrored_and_sha1_only_on_legacy_endpoints() {
    let mut message = Message::good();
    message.digest = crate::common::SHA1;
    let signed = PkiMessage::parse(&message.encode(), &Limits::default())
        .unwrap()
        .verify(&AwsLc, LegacyAlgorithms::Accept)
        .unwrap();
    let (request, context) = signed.decrypt(&legacy_ra(), &AwsLc);
    request.unwrap();
    let scheme_of = |reply: &[u8]| {
        let parsed = SignedData::parse(reply, &Limits::default()).unwrap();
        parsed.verify(&AwsLc, LegacyAlgorithms::Accept).unwrap().scheme()
    };
    let reply = context.pending(&legacy_ra(), &AwsLc).unwrap();
    assert_eq!(scheme_of(&reply), SignatureScheme::RsaPkcs1Sha1);
    // An RA whose key does not sign with SHA-1 says so.
    let error = context.pending(&ra(), &AwsLc).unwrap_err();
    assert!(matches!(error, MessageError::Signing(scep_cms::CmsError::Key(_))), "{error}");
    assert_eq!(error.reason(), Reason::InternalError);
    let salvaged = salvage(&message.encode(), &Limits::default()).unwrap();
    let reply = salvaged.failure(&legacy_ra(), FailInfo::BadAlg, "", &AwsLc).unwrap();
    assert_eq!(scheme_of(&reply), SignatureScheme::RsaPkcs1Sha256);
}

#[test]
fn quirk_35_signing_time_is_optional() {
    assert_eq!(verify(&Message::good().encode()).unwrap().signing_time(), None);
    let time = tlv::time(Timestamp::from_seconds(1_000_000_000));
    let message = Message::good().set(crate::common::SIGNING_TIME, time).encode();
    let signed = verify(&message).unwrap();
    assert_eq!(signed.signing_time(), Some(Timestamp::from_seconds(1_000_000_000)));
    let no_time = Message::good().set(crate::common::SIGNING_TIME, printable("now")).encode();
    let error = verify(&no_time).unwrap_err();
    assert!(matches!(error, MessageError::AttributeEncoding { name: "signingTime", .. }));
}

#[test]
fn a_request_with_attributes_of_replies_is_read_without_them() {
    let message = Message::good()
        .set(RECIPIENT_NONCE, octets(&[1; 16]))
        .set(PKI_STATUS, printable("0"))
        .set(FAIL_INFO, printable("x"));
    let reply = served(&message.encode()).pending(&ra(), &AwsLc).unwrap();
    assert_eq!(reply_attribute(&reply, PKI_STATUS), Some(printable("3")));
    assert_eq!(reply_attribute(&reply, RECIPIENT_NONCE), Some(octets(&[7; 16])));
    assert_eq!(reply_attribute(&reply, FAIL_INFO), None);
}

/// eContent of a reply as it stands: `None` when it is absent.
fn econtent(reply: &[u8]) -> Option<Vec<u8>> {
    let mut outer = Reader::new(reply).only(tag::SEQUENCE).unwrap().reader();
    outer.expect(tag::OID).unwrap();
    let explicit = outer.expect(tag::context_constructed(0)).unwrap();
    let mut fields = explicit.reader().only(tag::SEQUENCE).unwrap().reader();
    fields.expect(tag::INTEGER).unwrap();
    fields.expect(tag::SET).unwrap();
    let mut encapsulated = fields.expect(tag::SEQUENCE).unwrap().reader();
    encapsulated.expect(tag::OID).unwrap();
    let content = encapsulated.optional(tag::context_constructed(0)).unwrap()?;
    Some(content.reader().only(tag::OCTET_STRING).unwrap().value.to_vec())
}

#[test]
fn quirk_42_failure_and_pending_have_a_zero_length_content_and_its_digest() {
    let context = served(&Message::good().encode());
    let failure = context.failure(&ra(), FailInfo::BadRequest, "no", &AwsLc).unwrap();
    let pending = context.pending(&ra(), &AwsLc).unwrap();
    for reply in [failure, pending] {
        assert_eq!(econtent(&reply), Some(Vec::new()));
        let data = tlv::oid(&oid(crate::common::DATA));
        assert_eq!(reply_attribute(&reply, crate::common::CONTENT_TYPE), Some(data));
        assert!(reply_attribute(&reply, crate::common::MESSAGE_DIGEST).is_some());
    }
}

fn cert_rep(attributes: &[(&str, Vec<u8>)]) -> Message {
    let mut message = Message::with(attributes);
    message.content = None;
    message
}

/// A reply by the device's key to the nonce of sevens, as another server might send it.
fn read_foreign(message: &Message) -> Result<Reply, MessageError> {
    let trusted = [ra_party().certificate.clone(), device().certificate.clone()];
    client::reply(
        &message.encode(),
        &transaction(),
        &Nonce::new([7; 16]).unwrap(),
        &trusted,
        &device().recipient(),
        &AwsLc,
        &Limits::default(),
    )
}

fn good_failure() -> Message {
    cert_rep(&[
        (TRANSACTION_ID, printable("4F8E2AB0")),
        (MESSAGE_TYPE, printable("3")),
        (PKI_STATUS, printable("2")),
        (FAIL_INFO, printable("2")),
        (RECIPIENT_NONCE, octets(&[7; 16])),
    ])
}

#[test]
fn quirk_42_the_client_reads_both_forms_of_no_content() {
    let failure = Ok(Reply::Failure { fail_info: FailInfo::BadRequest, text: None });
    assert_eq!(econtent(&good_failure().encode()), None);
    assert_eq!(read_foreign(&good_failure()), failure);
    let mut zero_length = good_failure();
    zero_length.content = Some(Vec::new());
    assert_eq!(read_foreign(&zero_length), failure);
    let pending = good_failure().without(FAIL_INFO).set(PKI_STATUS, printable("3"));
    assert_eq!(read_foreign(&pending), Ok(Reply::Pending));
}

#[test]
fn the_client_refuses_what_rfc_8894_does_not_define() {
    for (change, error) in [
        (good_failure().set(PKI_STATUS, printable("1")), MessageError::StatusUndefined { got: 1 }),
        (good_failure().set(FAIL_INFO, printable("5")), MessageError::FailInfoUndefined { got: 5 }),
        (good_failure().without(FAIL_INFO), MessageError::AttributeMissing { name: "failInfo" }),
        (good_failure().without(PKI_STATUS), MessageError::AttributeMissing { name: "pkiStatus" }),
        (
            good_failure().set(MESSAGE_TYPE, printable("19")),
            MessageError::NotCertRep { got: MessageType::PkcsReq },
        ),
        (good_failure().set(TRANSACTION_ID, printable("X")), MessageError::OtherTransaction),
        (good_failure().set(RECIPIENT_NONCE, octets(&[8; 16])), MessageError::OtherNonce),
        (good_failure().set(RECIPIENT_NONCE, octets(&[7; 15])), MessageError::OtherNonce),
        (good_failure().without(RECIPIENT_NONCE), MessageError::OtherNonce),
        (good_failure().set(PKI_STATUS, printable("0")), MessageError::NoEnvelope),
    ] {
        assert_eq!(read_foreign(&change), Err(error));
    }
}

#[test]
fn the_client_reads_data_only() {
    let mut message = good_failure();
    let other = oid(crate::common::SIGNED_DATA);
    (message.content_type, message.content_type_attribute) = (other, other);
    assert_eq!(read_foreign(&message), Err(MessageError::ContentType { got: other }));
}

#[test]
fn the_client_takes_sha1_only_when_told() {
    let mut message = good_failure();
    message.digest = crate::common::SHA1;
    let error = read_foreign(&message).unwrap_err();
    assert_eq!(error.algorithm(), Some("sha1"));
    let expected = client::Expected {
        challenge: None,
        transaction_id: &transaction(),
        nonce: &Nonce::new([7; 16]).unwrap(),
        ra: &[device().certificate.clone()],
        me: &device().recipient(),
        legacy: LegacyAlgorithms::Accept,
    };
    let read = expected.read(&message.encode(), &AwsLc, &Limits::default());
    assert!(matches!(read, Ok(Reply::Failure { .. })));
}

#[test]
fn the_client_may_be_given_a_certificate_twice() {
    let (message, nonce) = request(MessageType::PkcsReq, &csr());
    let reply = served(&message).pending(&ra(), &AwsLc).unwrap();
    let twice = [ra_party().certificate.clone(), ra_party().certificate.clone()];
    let (id, me) = (transaction(), device().recipient());
    let read = client::reply(&reply, &id, &nonce, &twice, &me, &AwsLc, &Limits::default());
    assert_eq!(read, Ok(Reply::Pending));
}

#[test]
fn the_client_trusts_only_the_certificates_it_was_given() {
    let (message, nonce) = request(MessageType::PkcsReq, &csr());
    let context = served(&message);
    let mut impostor = ra();
    impostor.signing_certificate = other().certificate.clone();
    impostor.signing_key = other().key.signer();
    let leaf = Released(device().certificate.clone());
    let reply = context.success(&impostor, &leaf, ReplyChain::LeafOnly, &AwsLc).unwrap();
    assert!(matches!(read(&reply, &nonce), Err(MessageError::Signed(_))));
    // A certificate with the RA's name and serial number, but another key, embedded in the reply.
    impostor.signing_certificate = self_signed("RA", &[1], &other().key, true);
    let reply = context.success(&impostor, &leaf, ReplyChain::LeafOnly, &AwsLc).unwrap();
    let error = read(&reply, &nonce).unwrap_err();
    assert_eq!(error, MessageError::Signed(scep_cms::CmsError::SignatureInvalid));
    // A reply that embeds no certificate is as good as one that does.
    let mut bare = good_failure();
    bare.certificates.clear();
    assert!(matches!(read_foreign(&bare), Ok(Reply::Failure { .. })));
}

#[test]
fn quirk_43_the_leaf_is_alone_or_first() {
    let leaf = self_signed("zz leaf", &[0x7f; 19], &device().key, true);
    let chain = [ra_party().certificate.clone(), other().certificate.clone()];
    let (message, nonce) = request(MessageType::PkcsReq, &csr());
    let context = served(&message);
    let released = Released(leaf.clone());
    let alone = context.success(&ra(), &released, ReplyChain::default(), &AwsLc).unwrap();
    assert_eq!(read(&alone, &nonce), Ok(Reply::Success(vec![leaf.clone()])));
    let with = context.success(&ra(), &released, ReplyChain::With(&chain), &AwsLc).unwrap();
    let [first, second] = chain;
    assert_eq!(read(&with, &nonce), Ok(Reply::Success(vec![leaf, first, second])));
}

#[test]
fn quirk_44_each_reply_has_a_fresh_sender_nonce_of_16_octets() {
    let context = served(&Message::good().encode());
    let nonces: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            let reply = context.pending(&ra(), &AwsLc).unwrap();
            reply_attribute(&reply, SENDER_NONCE).unwrap()
        })
        .collect();
    assert!(nonces.iter().all(|nonce| nonce.len() == 18 && nonce[..2] == [4, 16]));
    assert!(nonces[0] != nonces[1] && nonces[1] != nonces[2] && nonces[0] != nonces[2]);
}

#[test]
fn quirk_45_transaction_id_and_nonce_come_back_byte_for_byte() {
    let id = "Ab+/=?:.,-() '09";
    let nonce = octets(&[0, 0xff, 0x80, 1, 2, 3, 4, 5]);
    let message =
        Message::good().set(TRANSACTION_ID, printable(id)).set(SENDER_NONCE, nonce.clone());
    let reply = served(&message.encode()).pending(&ra(), &AwsLc).unwrap();
    assert_eq!(reply_attribute(&reply, TRANSACTION_ID), Some(printable(id)));
    assert_eq!(reply_attribute(&reply, RECIPIENT_NONCE), Some(nonce));
}

#[test]
fn quirk_47_the_reply_is_for_the_signer_only() {
    let mut message = Message::good();
    message.certificates = vec![other().certificate.clone(), device().certificate.clone()];
    let context = served(&message.encode());
    let leaf = Released(device().certificate.clone());
    let reply = context.success(&ra(), &leaf, ReplyChain::LeafOnly, &AwsLc).unwrap();
    let sealed = Envelope::read(&econtent(&reply).unwrap());
    assert_eq!(sealed.recipient_infos.len(), 1);
    assert_eq!(opened_reply(&reply).recipient, 0);
    let reply_for_other = scep_cms::EnvelopedData::parse(
        &econtent(&reply).unwrap(),
        &Limits::default(),
        LegacyAlgorithms::Refuse,
    )
    .unwrap()
    .open(&[other().recipient()], &AwsLc);
    assert_eq!(reply_for_other.unwrap_err(), scep_cms::CmsError::NotForUs);
}

#[test]
fn the_ra_certificate_is_embedded_in_every_reply() {
    let context = served(&Message::good().encode());
    let leaf = Released(device().certificate.clone());
    for reply in [
        context.success(&ra(), &leaf, ReplyChain::LeafOnly, &AwsLc).unwrap(),
        context.failure(&ra(), FailInfo::BadRequest, "", &AwsLc).unwrap(),
        context.pending(&ra(), &AwsLc).unwrap(),
    ] {
        let parsed = SignedData::parse(&reply, &Limits::default()).unwrap();
        assert_eq!(parsed.certificates(), [ra_party().certificate.clone()]);
    }
}
