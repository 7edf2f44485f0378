//! The rows of the attack list that are decided here.

use crate::common::{
    CHALLENGE_PASSWORD, DATA, Envelope, MESSAGE_TYPE, Message, SENDER_NONCE, SIGNED_DATA,
    TRANSACTION_ID, content_info, counted_ra, csr, device, ec_device, envelope, name, oid,
    printable, ra, reply_attribute, request, signed_by, transaction, verify,
};
use scep_cms::{CmsError, LegacyAlgorithms, Limits};
use scep_keys::AwsLc;
use scep_message::{
    FailInfo, MessageError, MessageType, PkiMessage, ReplyChain, Request, client, salvage,
};
use scep_types::tlv::{self, TlvError, tag};
use scep_types::{IdError, KeyAlgorithm, Reason, Secret};

fn opened(message: &Message) -> (Result<Request, MessageError>, usize) {
    let (ra, counted) = counted_ra();
    let (request, _) = verify(&message.encode()).unwrap().decrypt(&ra, &AwsLc);
    (request, counted.count())
}

fn error_of<T: std::fmt::Debug>(result: Result<T, MessageError>) -> MessageError {
    result.unwrap_err()
}

fn integer(n: u8) -> Vec<u8> {
    tlv::small_int(u64::from(n))
}

#[test]
fn the_good_message_is_good() {
    let (request, operations) = opened(&Message::good());
    let Ok(Request::Enrol { message_type: MessageType::PkcsReq, csr: der }) = request else {
        panic!("{request:?}")
    };
    assert_eq!((der, operations), (csr(), 1));
}

#[test]
fn attack_02_only_the_five_requests_are_opened() {
    let served = [17, 19, 20, 21, 22];
    for number in 0..=255_u8 {
        let message = Message::good().set(MESSAGE_TYPE, printable(&number.to_string()));
        let signed = verify(&message.encode()).unwrap();
        let got = MessageType::from_number(u32::from(number));
        assert_eq!((signed.message_type(), got.number()), (got, u32::from(number)));
        if served.contains(&number) {
            continue;
        }
        let (ra, counted) = counted_ra();
        let (request, context) = signed.decrypt(&ra, &AwsLc);
        let error = error_of(request);
        assert_eq!(error, MessageError::MessageTypeNotServed { got });
        assert_eq!(error.reason(), Reason::MessageTypeNotServed);
        assert_eq!(counted.count(), 0, "{number}");
        // It is answered all the same, and by a FAILURE only.
        if number % 64 == 18 {
            let reply = context.failure(&ra, FailInfo::BadRequest, "", &AwsLc).unwrap();
            assert_eq!(reply_attribute(&reply, crate::common::PKI_STATUS), Some(printable("2")));
            assert_eq!(reply_attribute(&reply, crate::common::FAIL_INFO), Some(printable("2")));
            let leaf = crate::common::Released(device().certificate.clone());
            let success = context.success(&ra, &leaf, ReplyChain::LeafOnly, &AwsLc);
            assert_eq!(success, Err(MessageError::NotOpened));
            assert_eq!(context.success_crl(&ra, &[], &AwsLc), Err(MessageError::NotOpened));
        }
    }
}

#[test]
fn attack_02_a_message_type_is_one_decimal_number() {
    for bad in ["", " 19", "19 ", "+19", "-1", "019", "256", "1000", "0x13", "19\u{0}", "1e1"] {
        let message = Message::good().set(MESSAGE_TYPE, printable(bad)).encode();
        let error = error_of(verify(&message));
        assert_eq!(error, MessageError::AttributeNumber { name: "messageType" }, "{bad:?}");
        assert_eq!(error.reason(), Reason::MessageTypeNotServed);
        assert!(salvage(&message, &Limits::default()).is_some());
    }
    for bad in [tlv::unsigned(&[1, 0]), tlv::encode(tag::INTEGER, &[0xff])] {
        let error = error_of(verify(&Message::good().set(MESSAGE_TYPE, bad).encode()));
        assert_eq!(error, MessageError::AttributeNumber { name: "messageType" });
    }
    let error = error_of(verify(&Message::good().without(MESSAGE_TYPE).encode()));
    assert_eq!(error, MessageError::AttributeMissing { name: "messageType" });
    assert_eq!(error.reason(), Reason::MessageTypeNotServed);
    let octets = tlv::encode(tag::OCTET_STRING, b"19");
    let error = error_of(verify(&Message::good().set(MESSAGE_TYPE, octets).encode()));
    let expected = TlvError::Value { at: 0, what: "PrintableString" };
    assert_eq!(error, MessageError::AttributeEncoding { name: "messageType", error: expected });
}

#[test]
fn attack_02_attributes_are_there_once_with_one_value() {
    for kind in [MESSAGE_TYPE, TRANSACTION_ID, SENDER_NONCE] {
        let mut twice = Message::good();
        twice.attributes.push(crate::common::attribute(kind, &[printable("19")]));
        let error = error_of(verify(&twice.encode()));
        assert!(
            matches!(error, MessageError::Signed(CmsError::Structure { .. })),
            "{kind} {error}"
        );
        let mut two_values = Message::good().without(kind);
        let values = [printable("17"), printable("19")];
        two_values.attributes.push(crate::common::attribute(kind, &values));
        let error = error_of(verify(&two_values.encode()));
        assert!(
            matches!(error, MessageError::Signed(CmsError::Structure { .. })),
            "{kind} {error}"
        );
    }
}

#[test]
fn attack_06_a_challenge_in_the_signed_attributes_is_refused() {
    let message = Message::good().set(CHALLENGE_PASSWORD, printable("secret")).encode();
    let error = error_of(verify(&message));
    assert_eq!(error, MessageError::ChallengeInSignedAttributes);
    assert_eq!(error.reason(), Reason::AttributeNotAllowed);
}

#[test]
fn attack_11_the_content_is_what_was_signed() {
    let good = Message::good();
    let mut swapped = good.clone();
    swapped.content = Some(envelope(&csr()));
    let error = error_of(verify(&swapped.encode_with(&good.signer_info())));
    assert_eq!(error, MessageError::Signed(CmsError::SignatureInvalid));
    assert_eq!(error.reason(), Reason::MessageSignatureInvalid);

    let mut stripped = good.clone();
    stripped.content = None;
    let error = error_of(verify(&stripped.encode_with(&good.signer_info())));
    assert_eq!(error, MessageError::Signed(CmsError::SignatureInvalid));
}

#[test]
fn attack_11_absent_and_empty_content_is_no_request() {
    for content in [None, Some(Vec::new())] {
        let mut message = Message::good();
        message.content = content;
        let (request, operations) = opened(&message);
        let error = error_of(request);
        assert_eq!(error, MessageError::NoEnvelope);
        assert_eq!((error.reason(), operations), (Reason::MessageMalformed, 0));
    }
}

#[test]
fn attack_11_every_signed_octet_counts() {
    let (message, _) = request(MessageType::PkcsReq, &csr());
    let id = tlv::encode(tag::PRINTABLE_STRING, transaction().as_str().as_bytes());
    let at = message.windows(id.len()).position(|window| window == id).unwrap();
    let mut changed = message;
    changed[at + id.len() - 1] ^= 1;
    let error = error_of(verify(&changed));
    assert_eq!(error, MessageError::Signed(CmsError::SignatureInvalid));
}

#[test]
fn attack_12_signed_attributes_are_mandatory_and_no_content() {
    // Content that is itself a SET OF Attribute.
    let mut confused = Message::good();
    confused.content = Some(tlv::encode(tag::SET, &confused.attributes.concat()));
    let error = error_of(verify(&confused.encode()));
    assert!(matches!(error, MessageError::Signed(CmsError::Structure { .. })), "{error}");

    // A SignerInfo without signedAttrs, its signature over the content.
    let good = Message::good();
    let content = good.content.clone().unwrap();
    let scheme = scep_types::SignatureScheme::RsaPkcs1Sha256;
    let signature = device().key.signer().sign(scheme, &content).unwrap();
    let certificate = &device().certificate;
    let serial = tlv::encode(tag::INTEGER, certificate.serial_content());
    let bare = tlv::sequence(&[
        &integer(1),
        &tlv::sequence(&[certificate.issuer_der(), &serial]),
        &tlv::sequence(&[&tlv::oid(&oid(crate::common::SHA256))]),
        &tlv::sequence(&[&tlv::oid(&oid(crate::common::RSA)), &[tag::NULL, 0]]),
        &tlv::encode(tag::OCTET_STRING, &signature),
    ]);
    let message = good.encode_with(&bare);
    assert!(matches!(error_of(verify(&message)), MessageError::Signed(_)));
    assert!(salvage(&message, &Limits::default()).is_none());
}

#[test]
fn attack_13_there_is_one_signer_info() {
    let good = Message::good();
    let evil = Message::good().set(TRANSACTION_ID, printable("OTHER"));
    let both = [good.signer_info(), evil.signer_info()].concat();
    let message = good.encode_with(&both);
    let error = error_of(verify(&message));
    assert!(matches!(error, MessageError::Signed(CmsError::Structure { .. })), "{error}");
    // Nor is there anybody to answer: which of the two transactions would it be?
    assert!(salvage(&message, &Limits::default()).is_none());
    assert!(matches!(error_of(verify(&good.encode_with(&[]))), MessageError::Signed(_)));
}

#[test]
fn attack_14_the_content_type_is_data_and_holds_an_envelope() {
    for kind in [crate::common::ENVELOPED_DATA, SIGNED_DATA] {
        let mut message = Message::good();
        message.content_type = oid(kind);
        message.content_type_attribute = oid(kind);
        let error = error_of(verify(&message.encode()));
        assert_eq!(error, MessageError::ContentType { got: oid(kind) });
        let mut message = Message::good();
        message.content_type = oid(kind);
        let error = error_of(verify(&message.encode()));
        assert!(matches!(error, MessageError::Signed(CmsError::Structure { .. })), "{error}");
    }
    let mut other = Envelope::read(&envelope(&csr()));
    other.content_type = tlv::oid(&oid(SIGNED_DATA));
    for inner in [
        csr(),
        content_info(DATA, &tlv::encode(tag::OCTET_STRING, &csr())),
        Message::good().encode(),
        other.encode(),
    ] {
        let mut message = Message::good();
        message.content = Some(inner);
        let (request, operations) = opened(&message);
        assert!(matches!(error_of(request), MessageError::Envelope(_)));
        assert_eq!(operations, 0);
    }
}

#[test]
fn attack_15_transaction_ids_and_nonces_have_limits() {
    let id = |value| verify(&Message::good().set(TRANSACTION_ID, value).encode());
    assert!(id(printable(&"a".repeat(128))).is_ok());
    let long = IdError::Length { what: "transactionID", got: 129, max: 128 };
    assert_eq!(error_of(id(printable(&"a".repeat(129)))), MessageError::TransactionId(long));
    let empty = IdError::Length { what: "transactionID", got: 0, max: 128 };
    assert_eq!(error_of(id(printable(""))), MessageError::TransactionId(empty));
    let control = IdError::Character { what: "transactionID", at: 1 };
    assert_eq!(error_of(id(printable("a\nb"))), MessageError::TransactionId(control));
    assert_eq!(error_of(id(printable("a\u{0}b"))), MessageError::TransactionId(control));
    for (value, error) in [
        (tlv::encode(tag::OCTET_STRING, b"id"), TlvError::Value { at: 0, what: "PrintableString" }),
        (
            tlv::encode(tag::UTF8_STRING, &[0xff]),
            TlvError::Value { at: 0, what: "PrintableString" },
        ),
    ] {
        assert_eq!(
            error_of(id(value)),
            MessageError::AttributeEncoding { name: "transactionID", error }
        );
    }
    let error = error_of(verify(&Message::good().without(TRANSACTION_ID).encode()));
    assert_eq!(error, MessageError::AttributeMissing { name: "transactionID" });

    let nonce = |octets: &[u8]| {
        let value = tlv::encode(tag::OCTET_STRING, octets);
        verify(&Message::good().set(SENDER_NONCE, value).encode())
    };
    assert!(nonce(&[0; 64]).is_ok());
    for length in [0, 65] {
        let error = IdError::Length { what: "nonce", got: length, max: 64 };
        assert_eq!(
            error_of(nonce(&vec![0; length])),
            MessageError::Nonce { name: "senderNonce", error }
        );
    }
    let text = Message::good().set(SENDER_NONCE, printable("0123456789abcdef")).encode();
    let error = TlvError::Value { at: 0, what: "OCTET STRING" };
    assert_eq!(
        error_of(verify(&text)),
        MessageError::AttributeEncoding { name: "senderNonce", error }
    );
}

/// All that can go wrong from the private-key operation on: the same error and the same work.
#[test]
fn attack_22_what_fails_after_the_key_operation_is_one_error() {
    let good = Envelope::read(&envelope(&csr()));
    let mut cases: Vec<(&str, Vec<u8>)> = Vec::new();

    let mut key = good.recipient_infos[0].clone();
    *key.last_mut().unwrap() ^= 1;
    cases.push(("wrong key transport", edited(&good, |e| e.recipient_infos = vec![key])));
    let last = good.encrypted.len() - 1;
    let before = last - 16;
    cases.push(("wrong padding", edited(&good, |e| e.encrypted[before] ^= 0x80)));
    cases.push(("first block", edited(&good, |e| e.encrypted[0] ^= 1)));
    cases.push(("block missing", edited(&good, |e| e.encrypted.truncate(16))));
    for (what, plaintext) in [
        ("empty plaintext", &b""[..]),
        ("text", b"certificate please"),
        ("a truncated request", csr().strip_suffix(&[csr()[csr().len() - 1]]).unwrap()),
        ("a request and more", &[csr(), vec![0]].concat()),
        ("a SET", &tlv::encode(tag::SET, b"")),
    ] {
        cases.push((what, envelope(plaintext)));
    }
    for (what, content) in cases {
        let mut message = Message::good();
        message.content = Some(content);
        let (request, operations) = opened(&message);
        let error = error_of(request);
        assert_eq!((error.clone(), operations), (MessageError::DoesNotOpen, 1), "{what}");
        assert_eq!(error.reason(), Reason::MessageDecryptionFailed);
        assert_eq!(error.algorithm(), None);
    }
}

#[test]
fn attack_22_the_other_requests_fail_alike() {
    let names = client::issuer_and_subject(&name("CA"), &name("device"));
    let serial = client::issuer_and_serial(&name("CA"), &[1]);
    let cases = [
        ("21", names.clone()),
        ("21", client::issuer_and_serial(&name("CA"), &[])),
        ("22", names),
        ("22", [serial, vec![0]].concat()),
    ];
    for (kind, plaintext) in cases {
        let mut message = Message::good().set(MESSAGE_TYPE, printable(kind));
        message.content = Some(envelope(&plaintext));
        let (request, operations) = opened(&message);
        assert_eq!((error_of(request), operations), (MessageError::DoesNotOpen, 1), "{kind}");
    }
}

/// Blocks of a captured envelope, spliced so that they read as two names when their padding is right, would tell by the
/// answer to a poll what is in them.
#[test]
fn attack_22_a_poll_is_answered_without_opening_it() {
    let good = Envelope::read(&envelope(&client::issuer_and_subject(&name("CA"), &name("d"))));
    let mut padding = good.encrypted.clone();
    *padding.last_mut().unwrap() ^= 1;
    let cases = [
        envelope(&client::issuer_and_subject(&name("CA"), &name("d"))),
        envelope(&csr()),
        envelope(b"anything"),
        edited(&good, |e| e.encrypted = padding),
    ];
    for content in cases {
        let mut message = Message::good().set(MESSAGE_TYPE, printable("20"));
        message.content = Some(content);
        let (request, operations) = opened(&message);
        assert!(matches!(request, Ok(Request::CertPoll)), "{request:?}");
        assert_eq!(operations, 0);
    }
    // Who has nothing for us is told so.
    let mut message = Message::good().set(MESSAGE_TYPE, printable("20"));
    message.content = Some(Vec::new());
    assert_eq!(error_of(opened(&message).0), MessageError::NoEnvelope);
}

/// Were it refused after opening, the refusal would tell whoever re-signs a captured envelope that
/// it opens.
#[test]
fn attack_22_a_signer_that_cannot_be_answered_is_refused_unopened() {
    let serial = client::issuer_and_serial(&name("CA"), &[1]);
    for message_type in [MessageType::GetCert, MessageType::GetCrl] {
        let message =
            signed_by(ec_device(), &message_type.number().to_string(), &envelope(&serial));
        let (ra, counted) = counted_ra();
        let (request, mut context) = verify(&message).unwrap().decrypt(&ra, &AwsLc);
        let error = error_of(request);
        assert_eq!(error, MessageError::SignerCannotDecrypt { key: KeyAlgorithm::P256 });
        assert_eq!(error.reason(), Reason::AlgorithmNotSupported);
        assert_eq!(error.algorithm(), Some("p256"));
        assert_eq!(counted.count(), 0);
        assert!(!context.can_encrypt());
        let leaf = crate::common::Released(device().certificate.clone());
        context.answer_with(Secret::new("challenge".into()));
        let success = context.success(&ra, &leaf, ReplyChain::LeafOnly, &AwsLc);
        assert_eq!(success, Err(MessageError::NotOpened));
        assert!(context.failure(&ra, FailInfo::BadAlg, "p256", &AwsLc).is_ok());
    }
}

/// Who signs a captured envelope anew learns nothing by it: an EC signer's message fails as an RSA
/// signer's does, with the same work done.
#[test]
fn attack_22_an_envelope_of_an_ec_signer_fails_as_any_other() {
    let good = Envelope::read(&envelope(&csr()));
    let mut altered = good.encrypted.clone();
    *altered.last_mut().unwrap() ^= 1;
    let cases = [
        (edited(&good, |e| e.encrypted = altered), MessageError::DoesNotOpen, 1),
        (envelope(b"no request"), MessageError::DoesNotOpen, 1),
        (Vec::new(), MessageError::NoEnvelope, 0),
    ];
    for (content, error, operations) in cases {
        for party in [device(), ec_device()] {
            let message = signed_by(party, "19", &content);
            let (ra, counted) = counted_ra();
            let (request, _) = verify(&message).unwrap().decrypt(&ra, &AwsLc);
            assert_eq!((error_of(request), counted.count()), (error.clone(), operations));
        }
    }
}

#[test]
fn attack_23_an_envelope_names_our_key_once() {
    let good = Envelope::read(&envelope(&csr()));
    let other = Envelope::read(&envelope(&csr()));
    let twice = edited(&good, |e| e.recipient_infos.push(other.recipient_infos[0].clone()));
    let mut message = Message::good();
    message.content = Some(twice);
    let (request, operations) = opened(&message);
    assert!(matches!(error_of(request), MessageError::Envelope(CmsError::Structure { .. })));
    assert_eq!(operations, 0);
}

#[test]
fn attack_23_recipients_have_a_limit() {
    let good = Envelope::read(&envelope(&csr()));
    let info = good.recipient_infos[0].clone();
    let many = edited(&good, |e| e.recipient_infos = vec![info; 9]);
    let mut message = Message::good();
    message.content = Some(many);
    let (request, operations) = opened(&message);
    assert!(matches!(error_of(request), MessageError::Envelope(CmsError::Limit { max: 8, .. })));
    assert_eq!(operations, 0);
}

#[test]
fn attack_24_des_is_refused_before_the_key_operation() {
    let good = Envelope::read(&envelope(&csr()));
    for (dotted, name) in [("1.3.14.3.2.7", "des-cbc"), ("1.2.840.113549.3.2", "rc2-cbc")] {
        let iv = tlv::encode(tag::OCTET_STRING, &[0; 8]);
        let algorithm = tlv::sequence(&[&tlv::oid(&oid(dotted)), &iv]);
        let mut message = Message::good();
        message.content = Some(edited(&good, |e| e.algorithm = algorithm));
        for legacy in [LegacyAlgorithms::Refuse, LegacyAlgorithms::Accept] {
            let (ra, counted) = counted_ra();
            let signed = PkiMessage::parse(&message.encode(), &Limits::default())
                .unwrap()
                .verify(&AwsLc, legacy)
                .unwrap();
            let (request, _) = signed.decrypt(&ra, &AwsLc);
            let error = error_of(request);
            assert_eq!(error.reason(), Reason::AlgorithmNotSupported);
            if name == "des-cbc" {
                assert_eq!(error.algorithm(), Some(name));
            }
            assert_eq!(counted.count(), 0);
        }
    }
}

fn edited(envelope: &Envelope, change: impl FnOnce(&mut Envelope)) -> Vec<u8> {
    let mut copy = Envelope {
        recipient_infos: envelope.recipient_infos.clone(),
        content_type: envelope.content_type.clone(),
        algorithm: envelope.algorithm.clone(),
        encrypted: envelope.encrypted.clone(),
    };
    change(&mut copy);
    copy.encode()
}

#[test]
fn an_answer_cannot_be_signed_without_its_key() {
    let context = verify(&Message::good().encode()).unwrap().into_failure();
    let mut wrong = ra();
    wrong.signing_certificate = device().certificate.clone();
    let error = error_of(context.failure(&wrong, FailInfo::BadRequest, "", &AwsLc));
    assert!(matches!(error, MessageError::Signing(CmsError::Structure { .. })), "{error}");
    assert_eq!(error.reason(), Reason::InternalError);
}
