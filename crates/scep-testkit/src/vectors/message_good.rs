//! Good messages: as devices send them, each with what is particular about it.

use super::draft::Draft;
use super::message::{
    BASE, MESSAGE_TYPE, Message, Order, SENDER_NONCE, SIGNING_TIME, TRANSACTION_ID, algorithm,
    bare, changed, envelope, envelope_of, issuer_and_serial, printable, request, sealed,
};
use super::world::{self, DEVICE, DEVICE_EC, HOUR, NOW, STRANGER, edit, key, provider};
use super::{Book, Row, Setting};
use crate::ber;
use crate::device::TestExtension;
use scep_message::{ContentEncryption, client};
use scep_types::tlv::{self, tag};
use scep_types::{CertificateDer, OaepHash, ObjectIdentifier, RsaPadding, SignatureScheme};

/// Where the one recipient of an envelope is.
pub(super) const RECIPIENT: [usize; 4] = [1, 0, 1, 0];

pub(super) fn under(start: &[usize], rest: &[usize]) -> Vec<usize> {
    [start, rest].concat()
}

const fn quirk<const N: u8>() -> [Row; 1] {
    [Row::Quirk(N)]
}

pub(super) fn add(book: &mut Book) {
    kinds(book);
    recipients(book);
    encodings(book);
    signers(book);
    attributes(book);
    algorithms(book);
}

fn kinds(book: &mut Book) {
    book.good(BASE, "a PKCSReq of a device with an RSA key", &[], Message::good().der());
    let content = envelope_of("good-p256", &request("good-p256", DEVICE_EC));
    let body = Message::new("good-p256", DEVICE_EC, content).der();
    book.good("good-p256", "a PKCSReq of a device with a key on P-256", &[], body);
    let typed = |number: &str, content: Option<Vec<u8>>| {
        changed(|message| {
            message.set(MESSAGE_TYPE, vec![printable(number)]);
            if let Some(content) = content {
                message.content = content;
            }
        })
    };
    let about = "a RenewalReq, which carries a challenge too";
    book.good("good-renewal-req", about, &[Row::Attack(3)], typed("17", None));
    let ra = world::ra_certificate();
    let names =
        client::issuer_and_subject(ra.issuer_der(), &world::claims().expectation.subject.to_der());
    let body = typed("20", Some(envelope_of(BASE, &names)));
    book.good("good-cert-poll", "a CertPoll", &[Row::Quirk(49)], body);
    let serial = client::issuer_and_serial(ra.issuer_der(), &[7]);
    let body = typed("21", Some(envelope_of(BASE, &serial)));
    book.good("good-get-cert", "a GetCert", &[], body);
    let body = typed("22", Some(envelope_of(BASE, &serial)));
    book.good("good-get-crl", "a GetCRL", &[], body);
}

fn recipients(book: &mut Book) {
    let device = world::device_certificate(DEVICE);
    let ra = world::ra_certificate();
    let several = |certificates: &[&CertificateDer]| {
        let plain = request(BASE, DEVICE);
        let (padding, encryption) = (RsaPadding::Pkcs1v15, ContentEncryption::Aes256Cbc);
        let content = scep_cms::seal(&provider(BASE), certificates, padding, encryption, &plain);
        Message::new(BASE, DEVICE, content.expect("an envelope")).der()
    };
    let body = several(&[&device, &ra]);
    book.good("good-two-recipients", "another recipient beside the RA", &quirk::<20>(), body);
    let body = several(&[&device, &device, &device, &device, &device, &device, &device, &ra]);
    book.good("good-eight-recipients", "seven other recipients", &quirk::<20>(), body);
    let id = ra.subject_key_id().expect("an id").to_vec();
    let body = Message::enveloping(&RECIPIENT, &|recipient| {
        let mut fields = world::parts(recipient);
        fields[0] = tlv::small_int(2);
        fields[1] = tlv::encode(tag::context(0), &id);
        tlv::encode(tag::SEQUENCE, &fields.concat())
    });
    let about = "the recipient named by its subjectKeyIdentifier";
    book.good("good-recipient-by-key-id", about, &quirk::<20>(), body);
    let body = Message::enveloping(&under(&RECIPIENT, &[1, 0]), &|issuer| {
        let mut rdns = world::parts(issuer);
        rdns.reverse();
        tlv::encode(tag::SEQUENCE, &rdns.concat())
    });
    let about = "the recipient's issuer with its RDNs in reverse order";
    book.good("good-issuer-reversed", about, &quirk::<21>(), body);
    let body = Message::enveloping(&under(&RECIPIENT, &[1, 0, 1, 0, 1]), &|organisation| {
        tlv::encode(tag::PRINTABLE_STRING, &organisation[2..])
    });
    let about = "the recipient's issuer with an organizationName as PrintableString";
    book.good("good-issuer-encoded-otherwise", about, &quirk::<21>(), body);
    let unprotected = super::message::attribute(&world::oid("1.2.3.4"), &[vec![tag::NULL, 0]]);
    let body = Message::enveloping(&[1, 0], &|envelope| {
        world::with_another(envelope, &tlv::encode(tag::context_constructed(1), &unprotected))
    });
    let about = "an unprotected attribute in the envelope, which nobody reads";
    book.good("good-unprotected-attribute", about, &[Row::Attack(24)], body);
    for version in [1, 2] {
        let body = Message::enveloping(&[1, 0, 0], &|_| tlv::small_int(version));
        let name = format!("good-enveloped-data-version-{version}");
        let about = format!("EnvelopedData of version {version}, as Python clients write it");
        book.good(&name, &about, &quirk::<20>(), body);
    }
}

fn encodings(book: &mut Book) {
    let streamed = || ber::stream_enveloped_data(&envelope(), 100);
    let body = ber::stream_signed_data(&Message::new(BASE, DEVICE, streamed()).der(), 100);
    let about = "both layers with indefinite lengths, their contents in pieces, as Apple's";
    book.good("good-streamed", about, &quirk::<22>(), body);
    let body = ber::stream_signed_data(&Message::good().der(), 333);
    book.good("good-streamed-outside", "the outer layer streamed", &quirk::<22>(), body);
    let body = Message::new(BASE, DEVICE, streamed()).der();
    book.good("good-streamed-inside", "the inner layer streamed", &quirk::<22>(), body);
    let everything = ber::everything(&envelope(), 100);
    let body = ber::everything(&Message::new(BASE, DEVICE, everything).der(), 100);
    book.good("good-everything-in-ber", "every value in BER", &quirk::<22>(), body);
    let body = Message::enveloping(&[1, 0, 2, 2], &|content| {
        let octets = &content[4..];
        let pieces: Vec<Vec<u8>> =
            octets.chunks(512).map(|piece| tlv::encode(tag::OCTET_STRING, piece)).collect();
        tlv::encode(tag::context_constructed(0), &pieces.concat())
    });
    let about = "encryptedContent constructed, of definite length";
    book.good("good-constructed-content", about, &quirk::<23>(), body);
    let good = Message::good().der();
    let body = [&[0x30, 0x84, 0, 0][..], &good[2..]].concat();
    book.good("good-long-length", "a length with leading zero octets", &quirk::<22>(), body);
    for (name, about, order) in [
        ("good-unsorted", "the signed attributes unsorted, signed sorted", Order::SentReversed),
        ("good-unsorted-as-sent", "the signed attributes unsorted, signed so", Order::Reversed),
    ] {
        let body = changed(|message| message.order = order);
        book.good(name, about, &quirk::<24>(), body);
    }
}

fn signers(book: &mut Book) {
    let other = world::certificate(&key(STRANGER), "CN=another", NOW.plus(HOUR), &[]);
    let body = changed(|message| message.certificates.insert(0, other.as_der().to_vec()));
    book.good(
        "good-signer-second",
        "another certificate before the signer's",
        &quirk::<26>(),
        body,
    );
    let body = changed(|message| message.certificates.push(message.certificates[0].clone()));
    book.good("good-signer-twice", "the signer's certificate twice", &quirk::<26>(), body);
    let body = changed(|message| {
        message.certificates = vec![message.certificates[0].clone(); 10];
    });
    book.good("good-ten-certificates", "ten certificates, the most", &[Row::Attack(59)], body);
    let unsigned = Message::good().der();
    let unsigned = edit(&unsigned, &[1, 0, 4, 0], &|info| {
        let nothing = super::message::attribute(&world::oid("1.2.3.4"), &[vec![tag::NULL, 0]]);
        world::with_another(info, &tlv::encode(tag::context_constructed(1), &nothing))
    });
    let about = "an unsigned attribute, which nobody reads";
    book.good("good-unsigned-attribute", about, &[Row::Attack(13)], unsigned);
    let key_id = key(DEVICE).public_key().key_id();
    let by_id = TestExtension {
        oid: world::oid("2.5.29.14"),
        critical: false,
        value: tlv::encode(tag::OCTET_STRING, key_id.as_bytes()),
    };
    let with = |certificate: &CertificateDer| {
        let (der, sid) = (certificate.as_der().to_vec(), issuer_and_serial(certificate));
        move |message: &mut Message| {
            message.certificates = vec![der];
            message.sid = sid;
        }
    };
    let tomorrow = NOW.plus(24 * HOUR);
    let certificate = |not_after, extensions: &[TestExtension]| {
        world::certificate(&key(DEVICE), "CN=device-1", not_after, extensions)
    };
    let named = certificate(tomorrow, &[TestExtension::key_usage(), by_id]);
    let body = changed(|message| {
        message.certificates = vec![named.as_der().to_vec()];
        message.signer_version = tlv::small_int(3);
        message.sid = tlv::encode(tag::context(0), key_id.as_bytes());
    });
    let about = "the signer named by its subjectKeyIdentifier";
    book.good("good-signer-by-key-id", about, &quirk::<26>(), body);
    let body = Message::new(BASE, STRANGER, envelope()).der();
    let about =
        "signed by another key than the request's, as Windows does; an endpoint must allow it";
    book.good("good-throw-away-signer", about, &quirk::<27>(), body);
    let critical = TestExtension::critical_authority_key_id(&key(DEVICE));
    let body = changed(with(&certificate(tomorrow, &[TestExtension::key_usage(), critical])));
    let about = "a critical authorityKeyIdentifier in the signer's certificate";
    book.good("good-critical-authority-key-id", about, &quirk::<28>(), body);
    let body = changed(with(&certificate(NOW.minus(HOUR), &[TestExtension::key_usage()])));
    let about = "the signer's self-signed certificate has expired";
    book.good("good-signer-expired", about, &quirk::<29>(), body);
    let body = changed(with(&certificate(tomorrow, &[])));
    let about = "the signer's certificate is of version 1";
    book.good("good-signer-version-1", about, &quirk::<29>(), body);
}

fn attributes(book: &mut Book) {
    let set = |oid, value: Vec<u8>| changed(|message| message.set(oid, vec![value]));
    let body = changed(|message| message.remove(SENDER_NONCE));
    book.good("good-without-nonce", "no senderNonce", &quirk::<30>(), body);
    let body = set(SENDER_NONCE, tlv::encode(tag::OCTET_STRING, b"8 octets"));
    book.good("good-short-nonce", "a senderNonce of 8 octets", &quirk::<30>(), body);
    let body = set(MESSAGE_TYPE, tlv::small_int(19));
    book.good("good-message-type-integer", "the messageType as INTEGER", &quirk::<31>(), body);
    let utf8 = |text: &str| tlv::encode(tag::UTF8_STRING, text.as_bytes());
    let body = set(MESSAGE_TYPE, utf8("19"));
    book.good("good-message-type-utf8", "the messageType as UTF8String", &quirk::<31>(), body);
    let body = set(TRANSACTION_ID, utf8("4F8E2AB0C1D3"));
    book.good("good-transaction-utf8", "the transactionID as UTF8String", &quirk::<31>(), body);
    let body = set(TRANSACTION_ID, printable(&"A".repeat(128)));
    let about = "a transactionID of 128 characters";
    book.good("good-transaction-of-128", about, &[Row::Attack(15)], body);
    let body = set(SENDER_NONCE, tlv::encode(tag::OCTET_STRING, &[7; 64]));
    book.good("good-nonce-of-64", "a senderNonce of 64 octets", &[Row::Attack(15)], body);
    let recipient_nonce = world::oid("2.16.840.1.113733.1.9.6");
    let body = set(recipient_nonce, tlv::encode(tag::OCTET_STRING, &[7; 16]));
    let about = "a recipientNonce, which no request needs";
    book.good("good-recipient-nonce", about, &quirk::<30>(), body);
    let body = changed(|message| {
        for n in 0..27 {
            let unknown = ObjectIdentifier::new(&format!("1.2.3.{n}")).expect("an OID");
            message.attributes.push((unknown, vec![vec![tag::NULL, 0]]));
        }
    });
    book.good("good-32-attributes", "32 signed attributes, the most", &[Row::Attack(59)], body);
    let body = set(SIGNING_TIME, tlv::time(NOW));
    book.good("good-signing-time", "with a signingTime", &quirk::<35>(), body);
    let body = set(SIGNING_TIME, tlv::encode(tag::UTC_TIME, b"700101000000Z"));
    let about = "with a signingTime of 1970, as clocks without a battery have it";
    book.good("good-signing-time-off", about, &quirk::<35>(), body);
}

fn algorithms(book: &mut Book) {
    let body = changed(|message| message.signature_algorithm = algorithm("1.2.840.113549.1.1.11"));
    let about = "signatureAlgorithm sha256WithRSAEncryption";
    book.good("good-sha256-with-rsa", about, &quirk::<25>(), body);
    let body = changed(|message| message.digest_algorithm = algorithm("2.16.840.1.101.3.4.2.1"));
    book.good("good-digest-with-null", "id-sha256 with NULL parameters", &quirk::<46>(), body);
    for (name, about, dotted, scheme) in [
        ("good-sha384", "SHA-384", "2.16.840.1.101.3.4.2.2", SignatureScheme::RsaPkcs1Sha384),
        ("good-sha512", "SHA-512", "2.16.840.1.101.3.4.2.3", SignatureScheme::RsaPkcs1Sha512),
    ] {
        let body = changed(|message| message.digest(&bare(dotted), scheme));
        book.good(name, about, &quirk::<25>(), body);
    }
    let sealed_by = |padding, encryption| {
        Message::new(BASE, DEVICE, sealed(BASE, padding, encryption, &request(BASE, DEVICE))).der()
    };
    for (name, about, hash) in [
        ("good-oaep-sha1", "OAEP with SHA-1, as Windows does", OaepHash::Sha1),
        ("good-oaep-sha256", "OAEP with SHA-256", OaepHash::Sha256),
    ] {
        let body = sealed_by(RsaPadding::Oaep(hash), ContentEncryption::Aes256Cbc);
        book.good(name, about, &quirk::<32>(), body);
    }
    let oaep = sealed(
        BASE,
        RsaPadding::Oaep(OaepHash::Sha1),
        ContentEncryption::Aes256Cbc,
        &request(BASE, DEVICE),
    );
    let content = edit(&oaep, &under(&RECIPIENT, &[2]), &|_| bare("1.2.840.113549.1.1.7"));
    let body = Message::new(BASE, DEVICE, content).der();
    book.good("good-oaep-bare", "OAEP without parameters, which is SHA-1", &quirk::<32>(), body);
    for (name, about, encryption) in [
        ("good-aes128", "AES-128-CBC", ContentEncryption::Aes128Cbc),
        ("good-aes192", "AES-192-CBC", ContentEncryption::Aes192Cbc),
    ] {
        let body = sealed_by(RsaPadding::Pkcs1v15, encryption);
        book.good(name, about, &[Row::Attack(24)], body);
    }
    let rows = [Row::Quirk(33), Row::Quirk(34)];
    book.good("good-3des", "3DES, where it is allowed", &rows, triple_des())
        .with(Setting::LegacyAlgorithms);
    book.good("good-sha1", "signed with SHA-1, where it is allowed", &rows, sha1())
        .with(Setting::LegacyAlgorithms);
    let draft = Draft::good().scheme(SignatureScheme::RsaPkcs1Sha1).der();
    let mut message = Message::new(
        BASE,
        DEVICE,
        sealed(BASE, RsaPadding::Pkcs1v15, ContentEncryption::DesEde3Cbc, &draft),
    );
    message.digest(&algorithm("1.3.14.3.2.26"), SignatureScheme::RsaPkcs1Sha1);
    let about = "SHA-1 and 3DES throughout, where they are allowed";
    book.good("good-old-device", about, &rows, message.der()).with(Setting::LegacyAlgorithms);
}

pub(super) fn triple_des() -> Vec<u8> {
    let (padding, encryption) = (RsaPadding::Pkcs1v15, ContentEncryption::DesEde3Cbc);
    Message::new(BASE, DEVICE, sealed(BASE, padding, encryption, &request(BASE, DEVICE))).der()
}

pub(super) fn sha1() -> Vec<u8> {
    changed(|message| {
        message.digest(&algorithm("1.3.14.3.2.26"), SignatureScheme::RsaPkcs1Sha1);
    })
}
