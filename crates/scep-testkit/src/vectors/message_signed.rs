//! Messages whose outer layer is wrong: BER, SignedData, SignerInfo, signed attributes.

use super::message::{
    BASE, CONTENT_TYPE, DATA, MESSAGE_DIGEST, MESSAGE_TYPE, Message, SENDER_NONCE, SIGNED_DATA,
    SIGNING_TIME, TRANSACTION_ID, algorithm, attribute, bare, changed, envelope, printable,
};
use super::message_good;
use super::world::{self, DEVICE, STRANGER, doubled, edit, flipped, oid, with_another, without};
use super::{Book, Row, Stage};
use scep_types::tlv::{self, tag};
use scep_types::{ObjectIdentifier, Reason, SignatureScheme};

const PARSED: (Stage, Reason) = (Stage::MessageParse, Reason::MessageMalformed);
const VERIFIED: (Stage, Reason) = (Stage::MessageVerify, Reason::MessageMalformed);
const INVALID: (Stage, Reason) = (Stage::MessageVerify, Reason::MessageSignatureInvalid);
const NOT_SERVED: (Stage, Reason) = (Stage::MessageVerify, Reason::AlgorithmNotSupported);
const SIGNER_INFO: [usize; 4] = [1, 0, 4, 0];

pub(super) fn add(book: &mut Book) {
    encoding(book);
    structure(book);
    signatures(book);
    bound_attributes(book);
    scep_attributes(book);
    numbers(book);
    algorithms(book);
    sizes(book);
}

fn reworked(path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    edit(&Message::good().der(), path, change)
}

fn under(rest: &[usize]) -> Vec<usize> {
    [&SIGNER_INFO[..], rest].concat()
}

fn encoding(book: &mut Book) {
    let rows = [Row::Attack(59)];
    let mut bad = |name: &str, about: &str, body: Vec<u8>| {
        book.bad((name, BASE), PARSED, about, &rows, body);
    };
    let good = Message::good().der();
    bad("empty", "nothing", Vec::new());
    bad("not-ber", "text instead", b"<html>not a message</html>".to_vec());
    bad("octet-after", "an octet after the message", [&good[..], &[0]].concat());
    bad("octet-missing", "the last octet missing", good[..good.len() - 1].to_vec());
    let unended = [&[0x30, 0x80][..], &good[4..]].concat();
    bad("indefinite-unended", "an indefinite length without its end", unended);
    let primitive = reworked(&[1, 0, 0], &|_| vec![2, 0x80, 1, 0, 0]);
    bad("indefinite-primitive", "a primitive value of indefinite length", primitive);
    let content = |value: Vec<u8>| reworked(&[1, 0, 2, 1, 0], &move |_| value.clone());
    let nested = |levels: usize| {
        (0..levels).fold(tlv::encode(tag::OCTET_STRING, b"x"), |inner, _| tlv::encode(0x24, &inner))
    };
    bad("nested-octet-strings", "OCTET STRINGs 40 deep", content(nested(40)));
    bad("nested-ten-thousand", "OCTET STRINGs 10,000 deep", content(nested(10_000)));
    let deep = (0..40).fold(vec![tag::NULL, 0], |inner, _| tlv::encode(tag::SEQUENCE, &inner));
    let parameters = reworked(&[1, 0, 1], &|_| {
        tlv::encode(tag::SET, &tlv::sequence(&[&tlv::oid(&DATA), &deep]))
    });
    bad("nested-parameters", "algorithm parameters 40 deep", parameters);
    let indefinite = [&[0x24, 0x80].repeat(100)[..], &[4, 1, b'x'], &[0; 200]].concat();
    let unshaped = reworked_raw(&indefinite);
    bad("nested-indefinite", "indefinite lengths 100 deep", unshaped);
    bad(
        "segment-of-another-type",
        "an INTEGER among an OCTET STRING's pieces",
        content(tlv::encode(0x24, &[4, 1, 1, 2, 1, 1])),
    );
    let many = tlv::encode(0x24, &[4, 0].repeat(9000));
    bad("too-many-values", "9,000 values where 8,192 are the most", content(many));
    let long_tag = reworked(&[1, 0, 0], &|_| vec![0x1f, 0x81, 1, 0]);
    bad("long-tag", "a tag of several octets", long_tag);
    let long = [&[0x30, 0x89, 0, 0, 0, 0, 0, 0, 0][..], &good[2..4], &good[4..]].concat();
    bad("length-of-nine-octets", "a length of nine octets", long);
    let beyond = [&[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff][..], &good[4..]].concat();
    bad("length-beyond-the-end", "a length of two gigabytes", beyond);
    let end = reworked(&[1, 0, 0], &|version| [version, &[0, 0]].concat());
    bad("end-in-definite", "end-of-contents octets inside a definite length", end);
}

/// The good one with these octets for its eContent, which are BER and no DER.
fn reworked_raw(content: &[u8]) -> Vec<u8> {
    let marker =
        tlv::encode(tag::OCTET_STRING, &vec![0xa5; content.len() - 2 - header(content.len())]);
    // As many octets, so that all lengths around them fit.
    let marked = reworked(&[1, 0, 2, 1, 0], &|_| marker.clone());
    let at = marked.windows(marker.len()).position(|w| w == marker).expect("it is there");
    [&marked[..at], content, &marked[at + marker.len()..]].concat()
}

/// How many more octets than two the header of a value of this length in all has.
const fn header(length: usize) -> usize {
    if length < 130 {
        0
    } else if length < 259 {
        1
    } else {
        2
    }
}

fn structure(book: &mut Book) {
    let a = |n| [Row::Attack(n)];
    let mut parsed = |name: &str, about: &str, row, body: Vec<u8>| {
        book.bad((name, BASE), PARSED, about, &a(row), body);
    };
    let outer = |dotted| reworked(&[0], &|_| tlv::oid(&oid(dotted)));
    parsed(
        "outer-enveloped-data",
        "EnvelopedData as the outer type",
        14,
        outer("1.2.840.113549.1.7.3"),
    );
    parsed("outer-data", "id-data as the outer type", 14, outer("1.2.840.113549.1.7.1"));
    let bare_envelope = envelope();
    parsed("bare-envelope", "the envelope alone, unsigned", 14, bare_envelope);
    let version = |n| reworked(&[1, 0, 0], &|_| tlv::small_int(n));
    parsed("signed-data-version-0", "SignedData of version 0", 14, version(0));
    parsed("signed-data-version-6", "SignedData of version 6", 14, version(6));
    parsed("signer-info-twice", "the SignerInfo twice", 13, reworked(&[1, 0, 4], &doubled));
    let second = reworked(&[1, 0, 4], &|set| {
        let other = Message::new(BASE, STRANGER, envelope()).signer_info();
        with_another(set, &other)
    });
    parsed("second-signer-info", "a second SignerInfo, of another signer", 13, second);
    let no_attributes = reworked(&SIGNER_INFO, &|info| without(info, 3));
    parsed("no-signed-attributes", "without signed attributes", 12, no_attributes);
    let signer_version = |n| changed(|message| message.signer_version = tlv::small_int(n));
    let about = "SignerInfo of version 3 with issuerAndSerialNumber";
    parsed("signer-info-version-3", about, 13, signer_version(3));
    let sid = changed(|message| message.sid = tlv::encode(0xa1, &[]));
    parsed("signer-id-of-unknown-kind", "a SignerIdentifier with tag [1]", 13, sid);
    let other = changed(|message| message.certificates.push(tlv::encode(0xa2, &[])));
    parsed(
        "certificate-of-another-kind",
        "an attribute certificate among the certificates",
        13,
        other,
    );
    let primitive = changed(|message| {
        message.encapsulated =
            Some(tlv::sequence(&[&tlv::oid(&DATA), &tlv::encode(0xa0, &message.content)]));
    });
    parsed(
        "content-not-octets",
        "the envelope itself in the eContent, as PKCS #7 had it",
        14,
        primitive,
    );
    let more = reworked(&[1, 0], &|signed| with_another(signed, &[tag::NULL, 0]));
    parsed("field-after-signer-infos", "a NULL after signerInfos", 14, more);

    let mut verified = |name: &str, about: &str, row, body: Vec<u8>| {
        book.bad((name, BASE), VERIFIED, about, &a(row), body);
    };
    let none = reworked(&[1, 0, 4], &|_| vec![tag::SET, 0]);
    verified("signature-stripped", "without a SignerInfo", 11, none);
    let no_certificate = changed(|message| message.certificates.clear());
    verified("no-certificate", "without the signer's certificate", 13, no_certificate);
    let stranger = world::device_certificate(STRANGER).as_der().to_vec();
    let other = changed(|message| {
        message.sid = edit(&message.sid, &[1], &|_| tlv::small_int(77));
    });
    verified("signer-unknown", "a sid that no certificate has", 13, other);
    let two = changed(|message| message.certificates.push(stranger));
    verified("signer-ambiguous", "two certificates of the sid's name and number", 13, two);
    let unreadable = changed(|message| {
        let der = message.certificates[0].clone();
        message.certificates[0] = edit(&der, &[0, 6, 0, 0], &|_| tlv::oid(&oid("1.2.3.4")));
    });
    verified("certificate-key-unknown", "a key of unknown kind in the certificate", 13, unreadable);
    let typed = |dotted| {
        changed(|message| {
            message.content_type = oid(dotted);
            message.set(CONTENT_TYPE, vec![tlv::oid(&oid(dotted))]);
        })
    };
    let about = "eContentType EnvelopedData, in both places";
    verified("content-type-enveloped-data", about, 14, typed("1.2.840.113549.1.7.3"));
    let about = "eContentType SignedData, in both places";
    verified("content-type-signed-data", about, 14, typed("1.2.840.113549.1.7.2"));
}

fn signatures(book: &mut Book) {
    let a = |n| [Row::Attack(n)];
    let mut bad = |name: &str, about: &str, row, body: Vec<u8>| {
        book.bad((name, BASE), INVALID, about, &a(row), body);
    };
    bad("signature-changed", "the signature's last bit", 11, reworked(&under(&[5]), &flipped));
    let empty = reworked(&under(&[5]), &|_| vec![tag::OCTET_STRING, 0]);
    bad("signature-empty", "an empty signature", 11, empty);
    let content = reworked(&[1, 0, 2, 1, 0], &flipped);
    bad("content-changed", "the content's last bit", 11, content);
    let other = message_good::triple_des();
    let other = world::at(&other, &[1, 0, 2, 1, 0]);
    let exchanged = reworked(&[1, 0, 2, 1, 0], &|_| other.clone());
    bad("content-exchanged", "another envelope under the same signature", 11, exchanged);
    let absent = reworked(&[1, 0, 2], &|content| without(content, 1));
    bad("content-absent", "without the content, under the same signature", 11, absent);
    let value = tlv::encode(tag::OCTET_STRING, &[7; 32]);
    let digest = changed(|message| message.set(MESSAGE_DIGEST, vec![value]));
    bad("digest-wrong", "a messageDigest of other content, signed", 11, digest);
    let short = changed(|message| {
        message.set(MESSAGE_DIGEST, vec![vec![tag::OCTET_STRING, 0]]);
    });
    bad("digest-empty", "an empty messageDigest, signed", 11, short);
    let nonce = changed_after(SENDER_NONCE, &tlv::encode(tag::OCTET_STRING, &[7; 16]));
    bad("nonce-after-signing", "another senderNonce after signing", 15, nonce);
    let transaction = changed_after(TRANSACTION_ID, &printable("4F8E2AB0C1D4"));
    bad("transaction-after-signing", "another transactionID after signing", 9, transaction);
    let kind = changed_after(MESSAGE_TYPE, &printable("17"));
    bad("message-type-after-signing", "another messageType after signing", 2, kind);
    let impostor = {
        let mut message = Message::new(BASE, DEVICE, envelope());
        let other = world::certificate(
            &world::key(world::CHALLENGE_RSA),
            "CN=device-1",
            world::NOW.plus(world::HOUR),
            &[],
        );
        message.certificates = vec![other.as_der().to_vec()];
        message.der()
    };
    bad(
        "certificate-of-another-key",
        "a certificate of another key, with the sid's name",
        13,
        impostor,
    );
    let hash = changed(|message| {
        message.scheme = SignatureScheme::RsaPkcs1Sha384;
        let digest = tlv::encode(tag::OCTET_STRING, &sha256(&message.content));
        message.set(MESSAGE_DIGEST, vec![digest]);
    });
    bad("signed-with-sha384", "signed with SHA-384, where SHA-256 is named", 20, hash);
}

fn sha256(octets: &[u8]) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha256::digest(octets).to_vec()
}

/// The good one, with an attribute's value replaced after signing.
fn changed_after(which: ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    reworked(&under(&[3]), &|attributes| {
        let each = world::parts(attributes).into_iter().map(|one| {
            if world::at(&one, &[0]) == tlv::oid(&which) {
                attribute(&which, &[value.to_vec()])
            } else {
                one
            }
        });
        tlv::encode(attributes[0], &each.collect::<Vec<_>>().concat())
    })
}

/// The attributes that bind the content.
fn bound_attributes(book: &mut Book) {
    let a = |n| [Row::Attack(n)];
    let mut bad = |name: &str, about: &str, row, body: Vec<u8>| {
        book.bad((name, BASE), VERIFIED, about, &a(row), body);
    };
    let removed = |oid| changed(|message| message.remove(oid));
    bad("no-content-type", "without contentType", 11, removed(CONTENT_TYPE));
    let no_digest = changed(|message| message.remove(MESSAGE_DIGEST));
    bad("no-message-digest", "without messageDigest", 11, no_digest);
    let other = changed(|message| message.set(CONTENT_TYPE, vec![tlv::oid(&SIGNED_DATA)]));
    bad("content-type-differs", "another contentType than the eContentType", 14, other);
    let text =
        changed(|message| message.set(CONTENT_TYPE, vec![printable("1.2.840.113549.1.7.1")]));
    bad("content-type-as-text", "contentType as a string", 14, text);
    let octets = sha256(&envelope());
    let utf8 = changed(|message| {
        message.set(MESSAGE_DIGEST, vec![tlv::encode(tag::BIT_STRING, &octets)]);
    });
    bad("digest-of-another-type", "messageDigest as BIT STRING", 11, utf8);
    // A signature over attributes, shown again as one over content.
    let set = tlv::encode(tag::SET, &attribute(&MESSAGE_TYPE, &[printable("19")]));
    let like = changed(|message| message.content = set);
    bad("content-like-attributes", "content that reads as signed attributes", 12, like);
}

fn scep_attributes(book: &mut Book) {
    let a = |n| [Row::Attack(n)];
    let set = |oid, values: Vec<Vec<u8>>| changed(|message| message.set(oid, values));
    let twice = |oid: ObjectIdentifier| {
        changed(|message| {
            let found = message.attributes.iter().find(|(other, _)| *other == oid);
            let again = found.expect("an attribute").clone();
            message.attributes.push(again);
        })
    };
    let mut parsed = |name: &str, about: &str, row, body: Vec<u8>| {
        book.bad((name, BASE), PARSED, about, &a(row), body);
    };
    parsed("message-type-twice", "messageType twice", 2, twice(MESSAGE_TYPE));
    parsed("transaction-twice", "transactionID twice", 15, twice(TRANSACTION_ID));
    parsed("nonce-twice", "senderNonce twice", 15, twice(SENDER_NONCE));
    parsed("content-type-twice", "contentType twice", 11, twice(CONTENT_TYPE));
    let digest = tlv::encode(tag::OCTET_STRING, &sha256(&envelope()));
    let two = changed(|message| {
        message.set(MESSAGE_DIGEST, vec![digest.clone()]);
        message.attributes.push((MESSAGE_DIGEST, vec![digest]));
    });
    parsed("digest-twice", "messageDigest twice", 11, two);
    let two = set(MESSAGE_TYPE, vec![printable("19"), printable("17")]);
    parsed("message-type-two-values", "messageType with two values", 2, two);
    parsed(
        "message-type-no-value",
        "messageType without a value",
        2,
        set(MESSAGE_TYPE, Vec::new()),
    );

    let mut verified = |name: &str, about: &str, body: Vec<u8>| {
        book.bad((name, BASE), VERIFIED, about, &a(15), body);
    };
    verified("no-transaction", "without transactionID", changed(|m| m.remove(TRANSACTION_ID)));
    verified(
        "transaction-empty",
        "an empty transactionID",
        set(TRANSACTION_ID, vec![printable("")]),
    );
    let long = set(TRANSACTION_ID, vec![printable(&"A".repeat(129))]);
    verified("transaction-too-long", "a transactionID of 129 characters", long);
    let octets = set(TRANSACTION_ID, vec![tlv::encode(tag::OCTET_STRING, b"4F8E2AB0C1D3")]);
    verified("transaction-octets", "the transactionID as OCTET STRING", octets);
    let utf8 = |octets: &[u8]| vec![tlv::encode(tag::UTF8_STRING, octets)];
    let control = set(TRANSACTION_ID, utf8(b"4F8E\r\n2AB0"));
    verified("transaction-line-break", "a line break in the transactionID", control);
    let nul = set(TRANSACTION_ID, utf8(b"4F8E\x002AB0"));
    verified("transaction-nul", "a NUL in the transactionID", nul);
    let broken = set(TRANSACTION_ID, utf8(b"4F8E\xff"));
    verified("transaction-not-utf8", "a transactionID that is not UTF-8", broken);
    let pieces = [printable("4F8E2AB0"), printable("C1D3")].concat();
    let constructed = set(TRANSACTION_ID, vec![tlv::encode(0x33, &pieces)]);
    verified("transaction-constructed", "a transactionID in two pieces", constructed);
    let empty = set(SENDER_NONCE, vec![vec![tag::OCTET_STRING, 0]]);
    verified("nonce-empty", "an empty senderNonce", empty);
    let long = set(SENDER_NONCE, vec![tlv::encode(tag::OCTET_STRING, &[7; 65])]);
    verified("nonce-too-long", "a senderNonce of 65 octets", long);
    let text = set(SENDER_NONCE, vec![printable("0123456789abcdef")]);
    verified("nonce-as-text", "the senderNonce as PrintableString", text);
    let time = set(SIGNING_TIME, vec![printable("20261124080000Z")]);
    verified("signing-time-as-text", "the signingTime as PrintableString", time);
    let time = set(SIGNING_TIME, vec![tlv::encode(tag::UTC_TIME, b"261324080000Z")]);
    verified("signing-time-in-month-13", "a signingTime in month 13", time);

    let challenge = set(oid("1.2.840.113549.1.9.7"), vec![printable("a password")]);
    let refused = (Stage::MessageVerify, Reason::AttributeNotAllowed);
    let about = "a challengePassword among the signed attributes";
    let rows = [Row::Attack(6), Row::Quirk(36)];
    book.bad(("challenge-in-signed-attributes", BASE), refused, about, &rows, challenge);
}

fn numbers(book: &mut Book) {
    let rows = [Row::Attack(2)];
    let verified = (Stage::MessageVerify, Reason::MessageTypeNotServed);
    let opened = (Stage::MessageOpen, Reason::MessageTypeNotServed);
    let typed = |value: Vec<u8>| changed(|message| message.set(MESSAGE_TYPE, vec![value]));
    for number in ["0", "1", "3", "18", "23", "255"] {
        let (name, about) = (format!("message-type-{number}"), format!("messageType {number}"));
        book.bad((&name, BASE), opened, &about, &rows, typed(printable(number)));
    }
    for (name, about, value) in [
        ("message-type-256", "messageType 256", printable("256")),
        ("message-type-019", "messageType 019", printable("019")),
        ("message-type-plus", "messageType +19", printable("+19")),
        ("message-type-blank", "messageType 19 and a blank", printable("19 ")),
        ("message-type-hex", "messageType 0x13", printable("0x13")),
        ("message-type-empty", "an empty messageType", printable("")),
        ("message-type-name", "messageType PKCSReq", printable("PKCSReq")),
        ("message-type-negative", "messageType -1 as INTEGER", vec![2, 1, 0xff]),
        (
            "message-type-large",
            "messageType 275, which is 19 and 256, as INTEGER",
            vec![2, 2, 1, 0x13],
        ),
        (
            "message-type-octets",
            "messageType as OCTET STRING",
            tlv::encode(tag::OCTET_STRING, b"19"),
        ),
    ] {
        book.bad((name, BASE), verified, about, &rows, typed(value));
    }
    let body = changed(|message| message.remove(MESSAGE_TYPE));
    book.bad(("no-message-type", BASE), verified, "without messageType", &rows, body);
}

fn algorithms(book: &mut Book) {
    let q33 = [Row::Quirk(33)];
    for (name, about, dotted, named) in [
        ("digest-md5", "MD5 named as digest", "1.2.840.113549.2.5", "md5"),
        ("digest-md2", "MD2 named as digest", "1.2.840.113549.2.2", "md2"),
        ("digest-sha224", "SHA-224 named as digest", "2.16.840.1.101.3.4.2.4", "sha224"),
        ("digest-unknown", "an unknown digest named", "1.2.3.4", "1.2.3.4"),
    ] {
        let body = changed(|message| message.digest_algorithm = algorithm(dotted));
        book.bad((name, BASE), NOT_SERVED, about, &q33, body).naming(named);
    }
    for (name, about, dotted, named) in [
        (
            "signature-md5",
            "md5WithRSAEncryption named",
            "1.2.840.113549.1.1.4",
            "md5WithRSAEncryption",
        ),
        ("signature-dsa", "DSA named", "1.2.840.10040.4.3", "dsa-with-sha1"),
        ("signature-ed25519", "Ed25519 named", "1.3.101.112", "ed25519"),
        ("signature-unknown", "an unknown signature algorithm named", "1.2.3.4", "1.2.3.4"),
    ] {
        let body = changed(|message| message.signature_algorithm = algorithm(dotted));
        book.bad((name, BASE), NOT_SERVED, about, &q33, body).naming(named);
    }
    let about = "signed with SHA-1, where that is not allowed";
    let rows = [Row::Quirk(33), Row::Quirk(34)];
    book.bad(("sha1", "good-sha1"), NOT_SERVED, about, &rows, message_good::sha1()).naming("sha1");
    let rows = [Row::Attack(20)];
    let body = changed(|message| message.signature_algorithm = algorithm("1.2.840.113549.1.1.13"));
    let about = "sha512WithRSAEncryption beside a digest of SHA-256";
    book.bad(("algorithms-disagree", BASE), VERIFIED, about, &rows, body);
    let body = changed(|message| {
        message.digest_algorithm =
            tlv::sequence(&[&tlv::oid(&oid("2.16.840.1.101.3.4.2.1")), &tlv::small_int(1)]);
    });
    let about = "parameters of id-sha256 that are neither absent nor NULL";
    book.bad(("digest-parameters", BASE), VERIFIED, about, &rows, body);
    let body = changed(|message| message.signature_algorithm = bare("1.2.840.10045.4.3.2"));
    let about = "ecdsa-with-SHA256 named for an RSA key";
    book.bad(("algorithm-of-another-key", BASE), INVALID, about, &rows, body);
    let body = changed(|message| message.signature_algorithm = bare("1.2.840.113549.1.1.10"));
    let about = "RSASSA-PSS without parameters named";
    book.bad(("pss-without-parameters", BASE), VERIFIED, about, &rows, body);
}

fn sizes(book: &mut Book) {
    let rows = [Row::Attack(59)];
    let mut bad = |name: &str, about: &str, body: Vec<u8>| {
        book.bad((name, BASE), PARSED, about, &rows, body);
    };
    let large = changed(|message| message.content.extend(vec![0; 256 * 1024]));
    bad("too-large", "256 KiB of zeros after the envelope", large);
    let many = changed(|message| message.certificates = vec![message.certificates[0].clone(); 11]);
    bad("too-many-certificates", "the signer's certificate 11 times, 10 are the most", many);
    let many = changed(|message| {
        for n in 0..28 {
            let unknown = ObjectIdentifier::new(&format!("1.2.3.{n}")).expect("an OID");
            message.attributes.push((unknown, vec![vec![tag::NULL, 0]]));
        }
    });
    bad("too-many-attributes", "33 signed attributes where 32 are the most", many);
    let crl = tlv::sequence(&[&tlv::sequence(&[])]);
    let crls = reworked(&[1, 0], &|signed| {
        let mut parts = world::parts(signed);
        parts.insert(4, tlv::encode(0xa1, &crl.repeat(11)));
        tlv::encode(tag::SEQUENCE, &parts.concat())
    });
    bad("too-many-crls", "11 CRLs where 10 are the most", crls);
}
