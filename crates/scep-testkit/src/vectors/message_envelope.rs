//! Messages whose envelope is wrong, or what is in it.

use super::csr::dn;
use super::draft::Draft;
use super::message::{
    BASE, DATA, MESSAGE_TYPE, Message, algorithm, bare, changed, content_info, envelope,
    envelope_of, printable, request, sealed,
};
use super::message_good::{self, RECIPIENT, under};
use super::world::{
    self, CHALLENGE, DEVICE, DEVICE_EC, HOUR, MINUTE, NOW, doubled, edit, flipped, oid, provider,
    with_another,
};
use super::{Book, Row, Stage};
use scep_message::ContentEncryption;
use scep_types::tlv::{self, tag};
use scep_types::{CryptoProvider, OaepHash, Reason, RsaPadding};

const MALFORMED: (Stage, Reason) = (Stage::MessageOpen, Reason::MessageMalformed);
const UNOPENED: (Stage, Reason) = (Stage::MessageOpen, Reason::MessageDecryptionFailed);
const NOT_SERVED: (Stage, Reason) = (Stage::MessageOpen, Reason::AlgorithmNotSupported);
const CONTENT: [usize; 3] = [1, 0, 2];

pub(super) fn add(book: &mut Book) {
    structure(book);
    recipients(book);
    algorithms(book);
    undecryptable(book);
    plaintexts(book);
    enrolments(book);
}

fn structure(book: &mut Book) {
    let a = |n| [Row::Attack(n)];
    let mut bad = |name: &str, about: &str, row, body: Vec<u8>| {
        book.bad((name, BASE), MALFORMED, about, &a(row), body);
    };
    let with_content = |content: Vec<u8>| Message::new(BASE, DEVICE, content).der();
    bad("content-empty", "an empty eContent", 11, with_content(Vec::new()));
    let absent = changed(|message| {
        message.content.clear();
        message.encapsulated = Some(tlv::sequence(&[&tlv::oid(&DATA)]));
    });
    bad("no-content", "without eContent, and a digest of nothing", 11, absent);
    bad(
        "request-unencrypted",
        "the request itself, not encrypted",
        14,
        with_content(request(BASE, DEVICE)),
    );
    let data = content_info(&DATA, &tlv::encode(tag::OCTET_STRING, &request(BASE, DEVICE)));
    bad("inner-data", "id-data for the EnvelopedData", 14, with_content(data));
    let signed = Message::good().der();
    bad("inner-signed-data", "a SignedData for the EnvelopedData", 14, with_content(signed));
    let trailing = with_content([&envelope()[..], &[0]].concat());
    bad("octet-after-the-envelope", "an octet after the envelope", 14, trailing);
    let version = Message::enveloping(&[1, 0, 0], &|_| tlv::small_int(5));
    bad("enveloped-data-version-5", "EnvelopedData of version 5", 14, version);
    let typed = |dotted| Message::enveloping(&under(&CONTENT, &[0]), &|_| tlv::oid(&oid(dotted)));
    let originator = Message::enveloping(&[1, 0], &|envelope| {
        let mut fields = world::parts(envelope);
        fields.insert(1, tlv::encode(tag::context_constructed(0), &[]));
        tlv::encode(tag::SEQUENCE, &fields.concat())
    });
    bad("originator-info", "an originatorInfo, which is empty", 14, originator);
    let about = "the encrypted content's type is SignedData";
    bad("encrypted-signed-data", about, 14, typed("1.2.840.113549.1.7.2"));
    let about = "the encrypted content's type is CompressedData";
    bad("encrypted-compressed-data", about, 29, typed("1.2.840.113549.1.9.16.1.9"));
    let resized = |change: fn(Vec<u8>) -> Vec<u8>| {
        Message::enveloping(&under(&CONTENT, &[2]), &move |content| {
            tlv::encode(content[0], &change(content[4..].to_vec()))
        })
    };
    bad("content-of-no-blocks", "an empty encryptedContent", 24, resized(|_| Vec::new()));
    let about = "an encryptedContent that is not of whole blocks";
    bad(
        "content-of-part-blocks",
        about,
        24,
        resized(|mut octets| {
            octets.pop();
            octets
        }),
    );
    let absent = Message::enveloping(&CONTENT, &|content| world::without(content, 2));
    bad("encrypted-content-absent", "without encryptedContent", 24, absent);
    let iv = under(&CONTENT, &[1, 1]);
    let short = Message::enveloping(&iv, &|iv| tlv::encode(iv[0], &iv[2..10]));
    bad("iv-of-eight-octets", "an IV of 8 octets", 24, short);
    let absent =
        Message::enveloping(&under(&CONTENT, &[1]), &|algorithm| world::without(algorithm, 1));
    bad("iv-absent", "without an IV", 24, absent);
    let deep = (0..40).fold(vec![tag::NULL, 0], |inner, _| tlv::encode(tag::SEQUENCE, &inner));
    let nested = Message::enveloping(&under(&CONTENT, &[1, 1]), &|_| deep.clone());
    bad("nested-envelope", "parameters 40 deep in the envelope", 59, nested);
}

fn recipients(book: &mut Book) {
    let a = |n| [Row::Attack(n)];
    let set = [1, 0, 1];
    let mut bad = |name: &str, about: &str, row, body: Vec<u8>| {
        book.bad((name, BASE), MALFORMED, about, &a(row), body);
    };
    bad("recipient-twice", "the recipient twice", 23, Message::enveloping(&set, &doubled));
    let none = Message::enveloping(&set, &|_| vec![tag::SET, 0]);
    bad("no-recipient", "without a recipient", 23, none);
    let nine = Message::enveloping(&set, &|set| {
        let other = edit(&world::parts(set)[0], &[1, 1], &|_| tlv::small_int(77));
        (0..8).fold(set.to_vec(), |set, _| with_another(&set, &other))
    });
    bad("nine-recipients", "nine recipients where eight are the most", 23, nine);
    let version = Message::enveloping(&under(&RECIPIENT, &[0]), &|_| tlv::small_int(2));
    bad("recipient-version-2", "version 2 with issuerAndSerialNumber", 23, version);
    let id = Message::enveloping(&under(&RECIPIENT, &[1]), &|_| tlv::encode(0xa1, &[]));
    bad("recipient-of-unknown-kind", "a RecipientIdentifier with tag [1]", 23, id);
    let kind = Message::enveloping(&RECIPIENT, &|_| tlv::encode(0xa5, &[]));
    bad("recipient-info-of-unknown-kind", "a RecipientInfo with tag [5]", 23, kind);
    let short =
        Message::enveloping(&under(&RECIPIENT, &[3]), &|key| tlv::encode(key[0], &key[4..259]));
    bad("encrypted-key-short", "an encrypted key of one octet less", 21, short);
    let long = Message::enveloping(&under(&RECIPIENT, &[3]), &|key| {
        tlv::encode(key[0], &[&[0], &key[4..]].concat())
    });
    bad("encrypted-key-long", "a zero octet before the encrypted key", 21, long);

    let elsewhere = (Stage::MessageOpen, Reason::MessageNotForUs);
    let rows = [Row::Attack(63), Row::Quirk(20)];
    let serial = Message::enveloping(&under(&RECIPIENT, &[1, 1]), &|_| tlv::small_int(77));
    let about = "a recipient with another serial number";
    book.bad(("recipient-unknown", BASE), elsewhere, about, &rows, serial);
    let key_id = Message::enveloping(&RECIPIENT, &|recipient| {
        let mut fields = world::parts(recipient);
        fields[0] = tlv::small_int(2);
        fields[1] = tlv::encode(tag::context(0), &[7; 20]);
        tlv::encode(tag::SEQUENCE, &fields.concat())
    });
    let about = "another subjectKeyIdentifier";
    let name = ("recipient-key-id-unknown", "good-recipient-by-key-id");
    book.bad(name, elsewhere, about, &rows, key_id);
    let agreement = Message::enveloping(&RECIPIENT, &|recipient| {
        tlv::encode(0xa1, &world::parts(recipient).concat())
    });
    let password = Message::enveloping(&RECIPIENT, &|recipient| {
        tlv::encode(0xa3, &world::parts(recipient).concat())
    });
    let about = "the recipient with the tag of a password's";
    book.bad(("recipient-by-password", BASE), elsewhere, about, &rows, password);
    let about = "the recipient with the tag of a key agreement's";
    book.bad(("recipient-by-agreement", BASE), elsewhere, about, &rows, agreement);
}

fn algorithms(book: &mut Book) {
    let rows = [Row::Quirk(33), Row::Attack(24)];
    let cipher =
        |dotted| Message::enveloping(&under(&CONTENT, &[1, 0]), &|_| tlv::oid(&oid(dotted)));
    for (name, about, dotted, named) in [
        ("cipher-des", "DES-CBC named", "1.3.14.3.2.7", "des-cbc"),
        ("cipher-rc2", "RC2-CBC named", "1.2.840.113549.3.2", "rc2-cbc"),
        ("cipher-rc4", "RC4 named", "1.2.840.113549.3.4", "rc4"),
        ("cipher-cast5", "CAST5-CBC named", "1.2.840.113533.7.66.10", "cast5-cbc"),
        ("cipher-camellia", "Camellia named", "1.2.392.200011.61.1.1.1.2", "camellia128-cbc"),
        ("cipher-aes128-gcm", "AES-128-GCM named", "2.16.840.1.101.3.4.1.6", "aes128-gcm"),
        ("cipher-aes256-gcm", "AES-256-GCM named", "2.16.840.1.101.3.4.1.46", "aes256-gcm"),
        ("cipher-unknown", "an unknown cipher named", "1.2.3.4", "1.2.3.4"),
    ] {
        book.bad((name, BASE), NOT_SERVED, about, &rows, cipher(dotted)).naming(named);
    }
    let about = "3DES, where it is not allowed";
    book.bad(("3des", "good-3des"), NOT_SERVED, about, &rows, message_good::triple_des())
        .naming("des-ede3-cbc");

    let transport =
        |value: Vec<u8>| Message::enveloping(&under(&RECIPIENT, &[2]), &move |_| value.clone());
    let body = transport(bare("1.2.3.4"));
    let about = "an unknown key transport named";
    book.bad(("transport-unknown", BASE), NOT_SERVED, about, &rows, body).naming("1.2.3.4");
    let rows = [Row::Attack(24), Row::Quirk(32)];
    let oaep = sealed(
        BASE,
        RsaPadding::Oaep(OaepHash::Sha256),
        ContentEncryption::Aes256Cbc,
        &request(BASE, DEVICE),
    );
    let oaep_changed = |path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>| {
        let path = under(&under(&RECIPIENT, &[2]), path);
        Message::new(BASE, DEVICE, edit(&oaep, &path, change)).der()
    };
    let base = |name| (name, "good-oaep-sha256");
    let md5 = oaep_changed(&[1, 0, 0], &|_| algorithm("1.2.840.113549.2.5"));
    let about = "OAEP with MD5";
    book.bad(base("oaep-md5"), NOT_SERVED, about, &rows, md5).naming("md5");
    let mask = oaep_changed(&[1, 1, 0, 1], &|_| algorithm("1.3.14.3.2.26"));
    let about = "OAEP whose MGF1 has SHA-1";
    book.bad(base("oaep-mask-differs"), MALFORMED, about, &rows, mask);
    let label = oaep_changed(&[1], &|parameters| {
        let label = tlv::encode(tag::OCTET_STRING, b"label");
        let source = tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.9")), &label]);
        with_another(parameters, &tlv::encode(0xa2, &source))
    });
    book.bad(base("oaep-label"), MALFORMED, "OAEP with a label", &rows, label);
    let wrong = oaep_changed(&[], &|_| bare("1.2.840.113549.1.1.7"));
    let about = "OAEP without parameters, which means SHA-1, where SHA-256 was used";
    book.bad(base("oaep-parameters-left-out"), UNOPENED, about, &rows, wrong);
    let other = oaep_changed(&[], &|_| algorithm("1.2.840.113549.1.1.1"));
    let about = "RSAES-PKCS1-v1_5 named, where OAEP was used";
    book.bad(base("oaep-named-pkcs1"), UNOPENED, about, &rows, other);
}

/// All of these are one answer.
fn undecryptable(book: &mut Book) {
    let rows = [Row::Attack(21), Row::Attack(22)];
    let mut bad = |name: &str, about: &str, body: Vec<u8>| {
        book.bad((name, BASE), UNOPENED, about, &rows, body);
    };
    let key = under(&RECIPIENT, &[3]);
    bad(
        "encrypted-key-changed",
        "the encrypted key's last bit",
        Message::enveloping(&key, &flipped),
    );
    let zero = Message::enveloping(&key, &|key| tlv::encode(key[0], &[0; 256]));
    bad("encrypted-key-zero", "an encrypted key of zeros", zero);
    let large = Message::enveloping(&key, &|key| tlv::encode(key[0], &[0xff; 256]));
    bad("encrypted-key-above-modulus", "an encrypted key above the modulus", large);
    let of_length = |length: usize| {
        let ra = world::ra_certificate();
        let encrypted = provider("another content key")
            .rsa_encrypt(ra.spki(), RsaPadding::Pkcs1v15, &vec![7; length])
            .expect("an encrypted key");
        Message::enveloping(&key, &move |key| tlv::encode(key[0], &encrypted))
    };
    bad("content-key-of-16-octets", "a content key of 16 octets for AES-256", of_length(16));
    bad("content-key-of-33-octets", "a content key of 33 octets", of_length(33));
    bad("content-key-empty", "an empty content key", of_length(0));
    bad("content-key-wrong", "another content key", of_length(32));
    let content = under(&CONTENT, &[2]);
    // The block before the last decides what the last decrypts to, and with it the padding.
    let padding = |mask: u8| {
        Message::enveloping(&content, &move |content| {
            let mut content = content.to_vec();
            let at = content.len() - 17;
            content[at] ^= mask;
            content
        })
    };
    bad("padding-above-the-block", "the padding's length above 16", padding(0x80));
    let plain = request(BASE, DEVICE);
    let length = 16 - plain.len() % 16;
    let zero = u8::try_from(length).expect("at most 16");
    bad("padding-zero", "the padding's length 0", padding(zero));
    bad("padding-inconsistent", "the padding's length one more or less", padding(1));
    bad(
        "last-block-changed",
        "the last bit of the last block",
        Message::enveloping(&content, &flipped),
    );
    let cut = Message::enveloping(&content, &|content| {
        tlv::encode(content[0], &content[4..content.len() - 16])
    });
    bad("last-block-missing", "the last block missing", cut);
    let first = Message::enveloping(&under(&CONTENT, &[1, 1]), &|iv| {
        let mut iv = iv.to_vec();
        iv[2] ^= 0xff;
        iv
    });
    bad("iv-changed", "the IV's first octet, which makes the request's first one another", first);
    let named = Message::enveloping(&under(&CONTENT, &[1, 0]), &|_| {
        tlv::oid(&oid("2.16.840.1.101.3.4.1.2"))
    });
    bad("cipher-named-aes128", "AES-128-CBC named, where AES-256-CBC was used", named);
}

fn plaintexts(book: &mut Book) {
    let rows = [Row::Attack(22)];
    let holding = |plaintext: &[u8]| Message::new(BASE, DEVICE, envelope_of(BASE, plaintext)).der();
    let mut bad = |name: &str, about: &str, body: Vec<u8>| {
        book.bad((name, BASE), UNOPENED, about, &rows, body);
    };
    bad("plaintext-empty", "an empty plaintext", holding(&[]));
    bad(
        "plaintext-text",
        "a plaintext that is text",
        holding(b"-----BEGIN CERTIFICATE REQUEST-----"),
    );
    let trailing = [&request(BASE, DEVICE)[..], &[0]].concat();
    bad("plaintext-trailing", "an octet after the request", holding(&trailing));
    let ber = crate::ber::everything(&request(BASE, DEVICE), 4096);
    bad("request-in-ber", "the request with indefinite lengths", holding(&ber));
    let typed =
        |number: &str| changed(|message| message.set(MESSAGE_TYPE, vec![printable(number)]));
    bad("request-as-get-cert", "messageType GetCert around a request", typed("21"));
    bad("request-as-get-crl", "messageType GetCRL around a request", typed("22"));
    let body = {
        let serial =
            scep_message::client::issuer_and_serial(world::ra_certificate().issuer_der(), &[7]);
        let mut message = Message::new("good-p256", DEVICE_EC, envelope_of("good-p256", &serial));
        message.set(MESSAGE_TYPE, vec![printable("21")]);
        message.der()
    };
    let about = "a GetCert by an EC key, to which no answer can be encrypted";
    book.bad(("get-cert-by-ec-key", "good-get-cert"), NOT_SERVED, about, &rows, body)
        .naming("p256");
}

/// From a message to the last decision.
fn enrolments(book: &mut Book) {
    let around = |draft: Draft| Message::new(BASE, DEVICE, envelope_of(BASE, &draft.der())).der();
    let a = |n| [Row::Attack(n)];
    let empty = Message::new(BASE, DEVICE, envelope_of(BASE, &tlv::sequence(&[]))).der();
    let unread = (Stage::CsrParse, Reason::CertificateRequestDecodingFailed);
    book.bad(("request-empty", BASE), unread, "an empty SEQUENCE for the request", &a(22), empty);
    let broken = edit(&request(BASE, DEVICE), &[2], &flipped);
    let body = Message::new(BASE, DEVICE, envelope_of(BASE, &broken)).der();
    let unproven = (Stage::CsrProof, Reason::ProofOfPossessionFailed);
    let about = "the last bit of the request's signature";
    book.bad(("request-unproven", BASE), unproven, about, &a(45), body);
    let body = around(Draft::new(BASE, CHALLENGE, world::claims()));
    let weak = (Stage::CsrKey, Reason::WeakKey);
    let about = "a request for the gateway's own key";
    book.bad(("request-for-our-key", BASE), weak, about, &a(44), body);
    let mut draft = Draft::good();
    draft.challenge = |_| Vec::new();
    let missing = (Stage::ChallengeOpen, Reason::ChallengePasswordMissing);
    book.bad(
        ("request-without-challenge", BASE),
        missing,
        "no challengePassword",
        &a(4),
        around(draft),
    );
    let mut draft = Draft::good();
    draft.challenge = |_| Vec::new();
    let mut message = Message::new(BASE, DEVICE, envelope_of(BASE, &draft.der()));
    message.set(MESSAGE_TYPE, vec![printable("17")]);
    let about = "no challengePassword in a RenewalReq";
    book.bad(
        ("renewal-without-challenge", "good-renewal-req"),
        missing,
        about,
        &a(3),
        message.der(),
    );
    let mut draft = Draft::good();
    draft.subject = dn("C=CH, O=Example, CN=administrator").to_der();
    let mismatch = (Stage::Decide, Reason::SubjectNameMismatch);
    let about = "a request for another subject";
    book.bad(("request-for-another", BASE), mismatch, about, &a(1), around(draft));
    let mut draft = Draft::good();
    draft.subject = dn("C=CH, O=Example, CN=administrator").to_der();
    let mut message = Message::new(BASE, DEVICE, envelope_of(BASE, &draft.der()));
    message.set(MESSAGE_TYPE, vec![printable("17")]);
    let about = "a RenewalReq for another subject";
    book.bad(("renewal-for-another", "good-renewal-req"), mismatch, about, &a(3), message.der());
    let expired = (Stage::ChallengeOpen, Reason::ChallengeExpired);
    let about = "the first second at which its challenge does not count any more";
    book.bad(("challenge-expired", BASE), expired, about, &a(19), Message::good().der())
        .at(NOW.plus(HOUR + 5 * MINUTE));
}
