//! Every message type there and every status back, client and server of this crate facing each
//! other.

use crate::common::{
    Released, ask, csr, device, ec_ra, legacy_ra, name, other, ra, ra_party, reply_attribute,
    request, self_signed, transaction, verify,
};
use scep_cms::{ContentEncryption, LegacyAlgorithms, Limits};
use scep_keys::AwsLc;
use scep_message::client::{self, Expected, Reply};
use scep_message::{
    FailInfo, MessageError, MessageType, PkiMessage, RaIdentity, ReplyChain, ReplyContext, Request,
    ca_cert,
};
use scep_types::tlv::{self, tag};
use scep_types::{CertificateDer, Nonce, OaepHash, RsaPadding, Secret, SignatureScheme};

fn serve(message: &[u8], ra: &RaIdentity) -> (Request, ReplyContext) {
    let (request, context) = verify(message).unwrap().decrypt(ra, &AwsLc);
    (request.unwrap(), context)
}

fn read(reply: &[u8], nonce: &Nonce) -> Result<Reply, MessageError> {
    let ra = [ra_party().certificate.clone()];
    let id = transaction();
    client::reply(reply, &id, nonce, &ra, &device().recipient(), &AwsLc, &Limits::default())
}

fn leaf() -> CertificateDer {
    self_signed("leaf", &[9], &device().key, true)
}

#[test]
fn enrolment_and_renewal_are_granted() {
    for message_type in [MessageType::PkcsReq, MessageType::RenewalReq] {
        let (message, nonce) = request(message_type, &csr());
        let signed = verify(&message).unwrap();
        assert_eq!(signed.message_type(), message_type);
        assert_eq!(signed.transaction_id(), &transaction());
        assert_eq!(signed.sender_nonce(), Some(&nonce));
        assert_eq!(signed.signer(), &device().certificate);
        assert_eq!(signed.signing_time(), None);

        let (request, context) = serve(&message, &ra());
        let Request::Enrol { message_type: got, csr: der } = request else { panic!("{request:?}") };
        assert_eq!((got, der), (message_type, csr()));
        assert!(context.can_encrypt());
        assert_eq!(context.transaction_id(), &transaction());
        let reply =
            context.success(&ra(), &Released(leaf()), ReplyChain::LeafOnly, &AwsLc).unwrap();
        assert_eq!(read(&reply, &nonce), Ok(Reply::Success(vec![leaf()])));
    }
}

#[test]
fn a_poll_is_answered_by_pending_then_by_the_certificate() {
    let names = client::issuer_and_subject(&name("CA"), &name("device"));
    let (message, nonce) = request(MessageType::CertPoll, &names);
    let (request, context) = serve(&message, &ra());
    assert!(matches!(request, Request::CertPoll), "{request:?}");
    assert_eq!(read(&context.pending(&ra(), &AwsLc).unwrap(), &nonce), Ok(Reply::Pending));
    let reply = context.success(&ra(), &Released(leaf()), ReplyChain::LeafOnly, &AwsLc).unwrap();
    assert_eq!(read(&reply, &nonce), Ok(Reply::Success(vec![leaf()])));
}

#[test]
fn a_certificate_and_a_crl_are_looked_up() {
    // A serial number with its top bit set, as it stands in the certificate.
    let serial = [0, 0x9a, 0x0b];
    let id = client::issuer_and_serial(&name("CA"), &serial);
    let (message, nonce) = request(MessageType::GetCert, &id);
    let (request_, context) = serve(&message, &ra());
    let Request::GetCert { issuer, serial: got } = request_ else { panic!("{request_:?}") };
    assert_eq!((issuer, &got[..]), (name("CA"), &serial[..]));
    let reply = context.success(&ra(), &Released(leaf()), ReplyChain::LeafOnly, &AwsLc).unwrap();
    assert_eq!(read(&reply, &nonce), Ok(Reply::Success(vec![leaf()])));

    let (message, nonce) = request(MessageType::GetCrl, &id);
    let (request_, context) = serve(&message, &ra());
    let Request::GetCrl { issuer, serial: got } = request_ else { panic!("{request_:?}") };
    assert_eq!((issuer, &got[..]), (name("CA"), &serial[..]));
    let crl = tlv::sequence(&[&name("stands for a CRL"), &tlv::encode(tag::BIT_STRING, &[0])]);
    let reply = context.success_crl(&ra(), &crl, &AwsLc).unwrap();
    assert_eq!(read(&reply, &nonce), Ok(Reply::Crls(vec![crl])));
}

#[test]
fn refusals_carry_fail_info_and_text() {
    for fail_info in [
        FailInfo::BadAlg,
        FailInfo::BadMessageCheck,
        FailInfo::BadRequest,
        FailInfo::BadTime,
        FailInfo::BadCertId,
    ] {
        let (message, nonce) = request(MessageType::PkcsReq, &csr());
        let (_, context) = serve(&message, &ra());
        let reply = context.failure(&ra(), fail_info, "challenge expired", &AwsLc).unwrap();
        let text = Some("challenge expired".to_owned());
        assert_eq!(read(&reply, &nonce), Ok(Reply::Failure { fail_info, text }));
        let context = context.into_failure();
        for nothing in ["", "\u{7f}\r\n"] {
            let reply = context.failure(&ra(), fail_info, nothing, &AwsLc).unwrap();
            assert_eq!(read(&reply, &nonce), Ok(Reply::Failure { fail_info, text: None }));
            assert_eq!(reply_attribute(&reply, crate::common::FAIL_INFO_TEXT), None);
        }
    }
}

#[test]
fn a_verified_request_can_be_refused_unopened() {
    let (message, nonce) = request(MessageType::PkcsReq, &csr());
    let context = verify(&message).unwrap().into_failure();
    assert_eq!(context.transaction_id(), &transaction());
    assert_eq!(context.signer(), Some(&device().certificate));
    let reply = context.failure(&ra(), FailInfo::BadTime, "", &AwsLc).unwrap();
    let expected = Reply::Failure { fail_info: FailInfo::BadTime, text: None };
    assert_eq!(read(&reply, &nonce), Ok(expected));
}

#[test]
fn fail_info_text_is_cut_at_a_character_and_has_no_controls() {
    let (message, nonce) = request(MessageType::PkcsReq, &csr());
    let (_, context) = serve(&message, &ra());
    let text = format!("a\r\nb\u{1b}[31m\u{85}{}", "ß".repeat(300));
    let reply = context.failure(&ra(), FailInfo::BadRequest, &text, &AwsLc).unwrap();
    let Ok(Reply::Failure { text: Some(got), .. }) = read(&reply, &nonce) else { panic!() };
    assert_eq!(got, format!("ab[31m{}", "ß".repeat(249)));
    assert_eq!(got.chars().count(), 255);
    let der = reply_attribute(&reply, crate::common::FAIL_INFO_TEXT).unwrap();
    assert_eq!(der[0], tag::UTF8_STRING);
}

#[test]
fn every_cipher_padding_and_digest_is_mirrored() {
    use scep_types::SignatureScheme as S;
    let id = transaction();
    let data = csr();
    let signer = scep_keys::danger::sha1_signer(&device().key).unwrap();
    let ra = legacy_ra();
    let ciphers = [
        ContentEncryption::Aes128Cbc,
        ContentEncryption::Aes192Cbc,
        ContentEncryption::Aes256Cbc,
        ContentEncryption::DesEde3Cbc,
    ];
    let paddings = [
        RsaPadding::Pkcs1v15,
        RsaPadding::Oaep(OaepHash::Sha1),
        RsaPadding::Oaep(OaepHash::Sha256),
        RsaPadding::Oaep(OaepHash::Sha384),
        RsaPadding::Oaep(OaepHash::Sha512),
    ];
    let schemes = [S::RsaPkcs1Sha256, S::RsaPkcs1Sha384, S::RsaPkcs1Sha512, S::RsaPkcs1Sha1];
    for (i, padding) in paddings.into_iter().enumerate() {
        let (encryption, scheme) = (ciphers[i % 4], schemes[i % 4]);
        let mut ask = ask(MessageType::PkcsReq, &id, &data, &ra_party().certificate);
        (ask.padding, ask.encryption, ask.scheme) = (padding, encryption, scheme);
        let (message, nonce) = client::request(&ask, &device().identity(&*signer), &AwsLc).unwrap();
        let signed = PkiMessage::parse(&message, &Limits::default())
            .unwrap()
            .verify(&AwsLc, LegacyAlgorithms::Accept)
            .unwrap();
        assert_eq!(signed.scheme(), scheme);
        let (request, context) = signed.decrypt(&ra, &AwsLc);
        request.unwrap();
        let reply = context.success(&ra, &Released(leaf()), ReplyChain::LeafOnly, &AwsLc).unwrap();

        let verified = scep_cms::SignedData::parse(&reply, &Limits::default())
            .unwrap()
            .verify(&AwsLc, LegacyAlgorithms::Accept)
            .unwrap();
        assert_eq!(verified.scheme(), scheme);
        let opened = scep_cms::EnvelopedData::parse(
            verified.content(),
            &Limits::default(),
            LegacyAlgorithms::Accept,
        )
        .unwrap()
        .open(&[device().recipient()], &AwsLc)
        .unwrap();
        assert_eq!((opened.padding, opened.content_encryption), (padding, encryption));
        let expected = Expected {
            challenge: None,
            transaction_id: &id,
            nonce: &nonce,
            ra: &[ra_party().certificate.clone()],
            me: &device().recipient(),
            legacy: LegacyAlgorithms::Accept,
        };
        let read = expected.read(&reply, &AwsLc, &Limits::default());
        assert_eq!(read, Ok(Reply::Success(vec![leaf()])));
    }
}

#[test]
fn an_ra_may_sign_with_an_ec_key() {
    let (message, nonce) = request(MessageType::PkcsReq, &csr());
    let ra = RaIdentity {
        signing_certificate: ec_ra().certificate.clone(),
        signing_key: ec_ra().key.signer(),
        recipients: ra().recipients,
    };
    let (_, context) = serve(&message, &ra);
    let reply = context.success(&ra, &Released(leaf()), ReplyChain::LeafOnly, &AwsLc).unwrap();
    let verified = scep_cms::SignedData::parse(&reply, &Limits::default())
        .unwrap()
        .verify(&AwsLc, LegacyAlgorithms::Refuse)
        .unwrap();
    assert_eq!(verified.scheme(), SignatureScheme::EcdsaSha256);
    let trusted = [ra_party().certificate.clone(), ec_ra().certificate.clone()];
    let me = device().recipient();
    let id = transaction();
    let read = client::reply(&reply, &id, &nonce, &trusted, &me, &AwsLc, &Limits::default());
    assert_eq!(read, Ok(Reply::Success(vec![leaf()])));
}

#[test]
fn the_previous_decryption_key_of_an_overlap_still_opens() {
    let id = transaction();
    let data = csr();
    let ask = ask(MessageType::PkcsReq, &id, &data, &other().certificate);
    let signer = device().key.signer();
    let (message, _) = client::request(&ask, &device().identity(&*signer), &AwsLc).unwrap();
    let mut ra = ra();
    ra.recipients.push(other().recipient());
    let (request, context) = verify(&message).unwrap().decrypt(&ra, &AwsLc);
    assert!(matches!(request, Ok(Request::Enrol { .. })));
    assert!(context.can_encrypt());
}

#[test]
fn ca_certificates_travel_in_both_forms() {
    let one = [ra_party().certificate.clone()];
    let (content_type, body) = ca_cert::response(&one);
    assert_eq!(content_type, "application/x-x509-ca-cert");
    assert_eq!(body, one[0].as_der());
    assert_eq!(ca_cert::parse(&body, &Limits::default()).unwrap(), one);

    // An order that DER would not give the set.
    let mut several = vec![ra_party().certificate.clone(), leaf(), other().certificate.clone()];
    several.sort_by_key(|certificate| std::cmp::Reverse(certificate.as_der().to_vec()));
    let (content_type, body) = ca_cert::response(&several);
    assert_eq!(content_type, "application/x-x509-ca-ra-cert");
    assert_eq!(ca_cert::parse(&body, &Limits::default()).unwrap(), several);
    assert_eq!(ca_cert::parse(&crate::common::to_ber(&body), &Limits::default()).unwrap(), several);
}

#[test]
fn no_challenge_reaches_a_log() {
    let data = tlv::sequence(&[&tlv::encode(tag::UTF8_STRING, b"challenge")]);
    let id = transaction();
    let ask = ask(MessageType::PkcsReq, &id, &data, &ra_party().certificate);
    let (message, _) = request(MessageType::PkcsReq, &data);
    let (request, mut context) = serve(&message, &ra());
    context.answer_with(Secret::new("challenge".into()));
    let octets = "99, 104, 97, 108, 108, 101, 110, 103, 101";
    assert!(format!("{data:?}").contains(octets));
    for shown in [format!("{ask:?}"), format!("{request:?}"), format!("{context:?}")] {
        assert!(!shown.contains(octets) && !shown.contains("challenge"), "{shown}");
    }
}
