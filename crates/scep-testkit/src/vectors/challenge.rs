//! Challenge blobs: the text, its two layers, and the times. What the claims themselves may say is in `claims`.

use super::world::{
    self, CHALLENGE, CHALLENGE_RSA, HOUR, ISSUER, ISSUER_RSA, MINUTE, NOW, SECOND, STRANGER, at,
    doubled, edit, flipped, key, oid, provider, with_another, without,
};
use super::{Book, Kind, Row, Stage, Vector, claims};
use crate::keys::TestKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use scep_challenge::{ChallengeClaims, seal};
use scep_cms::{SignerId, ToSign};
use scep_types::tlv::{self, tag};
use scep_types::{
    GatewayGroupId, KeyError, ObjectIdentifier, Reason, SignatureScheme, Signer, SpkiDer, TenantId,
    UserId,
};

const AUTH_ENVELOPED_DATA: ObjectIdentifier = oid("1.2.840.113549.1.9.16.1.23");
const OPEN: Stage = Stage::ChallengeOpen;
/// Where the parts of a blob's DER are.
const SIGNED: [usize; 2] = [1, 0];
const SIGNER_INFO: [usize; 4] = [1, 0, 3, 0];

/// The key that signs in the name of another.
#[derive(Debug)]
struct Impostor(SpkiDer);

impl Signer for Impostor {
    fn public_key(&self) -> &SpkiDer {
        &self.0
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        key(STRANGER).signer().sign(scheme, message)
    }
}

/// The outer layer around any content.
fn signed_as(content_type: ObjectIdentifier, content: &[u8], signer: &dyn Signer) -> Vec<u8> {
    let what = ToSign {
        content_type,
        content,
        attributes: &[],
        certificates: &[],
        signer_id: SignerId::KeyId,
        scheme: SignatureScheme::default_for(signer.public_key().algorithm()),
    };
    scep_cms::sign(signer, &what).expect("a signature")
}

/// Between which keys, and out of which randomness.
struct Maker {
    base: &'static str,
    issuer: TestKey,
    gateway: TestKey,
}

const P256: Maker = Maker { base: "good-p256", issuer: ISSUER, gateway: CHALLENGE };
const RSA: Maker = Maker { base: "good-rsa2048", issuer: ISSUER_RSA, gateway: CHALLENGE_RSA };

impl Maker {
    fn claims(&self) -> ChallengeClaims {
        ChallengeClaims {
            issuer_key: self.issuer.public_key().key_id(),
            recipient_key: self.gateway.public_key().key_id(),
            ..world::claims()
        }
    }

    fn text(&self, claims: &ChallengeClaims) -> Vec<u8> {
        let signer = key(self.issuer).signer();
        let blob = seal(claims, &*signer, &self.gateway.public_key(), &provider(self.base));
        blob.expect("a blob").into_bytes()
    }

    fn envelope(&self, plaintext: &[u8]) -> Vec<u8> {
        scep_cms::seal_auth(&provider(self.base), &self.gateway.public_key(), plaintext)
            .expect("an envelope")
    }

    fn sign(&self, envelope: &[u8]) -> Vec<u8> {
        signed_as(AUTH_ENVELOPED_DATA, envelope, &*key(self.issuer).signer())
    }

    /// The good blob's DER.
    fn der(&self) -> Vec<u8> {
        self.sign(&self.envelope(&self.claims().to_der().expect("claims")))
    }

    /// With one change in the envelope, under a good signature.
    fn enveloped(&self, path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let good = self.envelope(&self.claims().to_der().expect("claims"));
        text(&self.sign(&edit(&good, path, change)))
    }

    /// With one change outside of what is signed, or in the signed attributes.
    fn outside(&self, path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        text(&edit(&self.der(), path, change))
    }
}

/// A blob with whatever plaintext.
pub(super) fn forged(plaintext: &[u8]) -> Vec<u8> {
    text(&P256.sign(&P256.envelope(plaintext)))
}

fn text(der: &[u8]) -> Vec<u8> {
    STANDARD.encode(der).into_bytes()
}

fn path(start: &[usize], rest: &[usize]) -> Vec<usize> {
    [start, rest].concat()
}

pub(super) fn vectors() -> Vec<Vector> {
    let mut book = Book::new(Kind::Challenge);
    good(&mut book);
    characters(&mut book);
    outer_layer(&mut book);
    signers(&mut book);
    inner_layer(&mut book);
    for_whom(&mut book);
    times(&mut book);
    claims::add(&mut book);
    book.vectors
}

fn good(book: &mut Book) {
    let a = |n| Row::Attack(n);
    book.good("good-p256", "between P-256 keys", &[], P256.text(&P256.claims()));
    book.good("good-rsa2048", "between RSA-2048 keys", &[], RSA.text(&RSA.claims()));
    let mixed = Maker { base: "good-rsa2048-to-p256", issuer: ISSUER_RSA, gateway: CHALLENGE };
    let about = "signed by RSA-2048, encrypted to P-256";
    book.good(mixed.base, about, &[], mixed.text(&mixed.claims()));
    let mixed = Maker { base: "good-p256-to-rsa2048", issuer: ISSUER, gateway: CHALLENGE_RSA };
    let about = "signed by P-256, encrypted to RSA-2048";
    book.good(mixed.base, about, &[], mixed.text(&mixed.claims()));
    let good = P256.text(&P256.claims());
    let last = NOW.plus(HOUR + 5 * MINUTE).minus(SECOND);
    book.good("good-last-second", "the last second at which it counts", &[a(19)], good.clone())
        .at(last);
    let about = "issued as far in the future as clocks may differ";
    book.good("good-first-second", about, &[a(19)], good).at(NOW.minus(5 * MINUTE));
    let rsa = RSA.text(&RSA.claims());
    let about = "the last second of the gateway's RSA decryption key";
    book.good("good-last-second-of-the-recipient", about, &[a(27)], rsa)
        .at(world::retired().minus(SECOND));
    let null = P256
        .outside(&path(&SIGNED, &[1, 0]), &|algorithm| with_another(algorithm, &[tag::NULL, 0]));
    let null =
        edit(&STANDARD.decode(null).expect("base64"), &path(&SIGNER_INFO, &[2]), &|algorithm| {
            with_another(algorithm, &[tag::NULL, 0])
        });
    book.good(
        "good-digest-with-null",
        "id-sha256 with NULL parameters",
        &[Row::Quirk(46)],
        text(&null),
    );
    let named =
        RSA.outside(&path(&SIGNER_INFO, &[4, 0]), &|_| tlv::oid(&oid("1.2.840.113549.1.1.11")));
    let about = "signatureAlgorithm sha256WithRSAEncryption";
    book.good("good-sha256-with-rsa", about, &[Row::Quirk(25)], named);
}

fn characters(book: &mut Book) {
    const PADDED: &str = "good-padded";
    let mut claims = RSA.claims();
    claims.user = Some(UserId::new("adal@example.org").expect("an id"));
    let good = String::from_utf8(RSA.text(&claims)).expect("ASCII");
    assert!(good.ends_with('='), "a padded text to begin with");
    let about = "a text that base64 pads";
    book.good(PADDED, about, &[Row::Attack(28)], good.clone().into_bytes());
    let no = |reason| (OPEN, reason);
    let (undecodable, rows) = (no(Reason::ChallengeDecodingError), [Row::Attack(28)]);
    let mut base64 = |name: &str, about: &str, text: String| {
        book.bad((name, PADDED), undecodable, about, &rows, text.into_bytes());
    };
    base64("padding-left-out", "without its padding", good.trim_end_matches('=').to_owned());
    base64("padding-too-long", "one more =", format!("{good}="));
    base64("blank-before", "a blank before it", format!(" {good}"));
    base64("line-feed-after", "a line feed after it", format!("{good}\n"));
    base64("nul-after", "a NUL after it", format!("{good}\0"));
    base64("line-break", "in two lines", format!("{}\r\n{}", &good[..64], &good[64..]));
    base64("url-alphabet", "- and _ for + and /", good.replace('+', "-").replace('/', "_"));
    base64("a-foreign-character", "a character that base64 has not", format!("!{}", &good[1..]));
    let unused = {
        let at = good.trim_end_matches('=').len() - 1;
        let last = good.as_bytes()[at];
        let mut text = good.clone().into_bytes();
        text[at] = last + 1;
        String::from_utf8(text).expect("ASCII")
    };
    base64("unused-bits", "a bit set that the last character does not use", unused);
    base64("twice", "the text twice", format!("{good}{good}"));
    base64("cut-short", "the last four characters cut off", good[..good.len() - 4].to_owned());
    let blank = no(Reason::ChallengePasswordMissing);
    let rows = [Row::Attack(4)];
    for (name, about, text) in [
        ("empty", "nothing at all", ""),
        ("blanks", "blanks alone", "   "),
        ("nuls", "NULs alone", "\0\0\0"),
    ] {
        book.bad((name, P256.base), blank, about, &rows, text.as_bytes().to_vec());
    }
    let long = "A".repeat(16 * 1024 + 4);
    let about = "16,388 characters where 16,384 are the most";
    book.bad(("too-long", P256.base), undecodable, about, &[Row::Attack(29)], long.into_bytes());
}

fn outer_layer(book: &mut Book) {
    let malformed = (OPEN, Reason::ChallengeDecodingError);
    let mut bad = |name: &str, about: &str, rows: &[Row], body: Vec<u8>| {
        book.bad((name, P256.base), malformed, about, rows, body);
    };
    let a = |n| [Row::Attack(n)];
    let der = P256.der();
    bad("octet-after", "an octet after the ContentInfo", &a(28), text(&[&der[..], &[0]].concat()));
    let long = [&[0x30, 0x83, 0][..], &der[2..]].concat();
    assert_eq!(der[..2], [0x30, 0x82]);
    bad("length-not-minimal", "a length with a leading zero octet", &a(28), text(&long));
    let indefinite = [&[0x30, 0x80][..], &der[4..], &[0, 0]].concat();
    bad("indefinite-length", "a ContentInfo of indefinite length", &a(28), text(&indefinite));
    let type_of = |dotted| P256.outside(&[0], &|_| tlv::oid(&oid(dotted)));
    bad(
        "outer-enveloped-data",
        "EnvelopedData as the outer type",
        &a(14),
        type_of("1.2.840.113549.1.7.3"),
    );
    let bare = P256.envelope(&P256.claims().to_der().expect("claims"));
    bad("layer-stripped", "the bare AuthEnvelopedData, unsigned", &a(16), text(&bare));
    let no_signer = P256.outside(&path(&SIGNED, &[3]), &|_| vec![tag::SET, 0]);
    bad("signature-stripped", "without a SignerInfo", &a(16), no_signer);
    bad(
        "signer-twice",
        "the SignerInfo twice",
        &a(13),
        P256.outside(&path(&SIGNED, &[3]), &doubled),
    );
    let no_attributes = P256.outside(&SIGNER_INFO, &|info| without(info, 3));
    bad("no-signed-attributes", "without signed attributes", &a(12), no_attributes);
    let more = P256.outside(&SIGNER_INFO, &|info| {
        with_another(info, &tlv::encode(tag::context_constructed(1), &[]))
    });
    bad("unsigned-attributes", "with unsigned attributes, of which there are none", &a(13), more);
    let certificates = P256.outside(&SIGNED, &|signed| {
        let set = tlv::encode(tag::context_constructed(0), &[]);
        let parts = world::parts(signed);
        tlv::encode(tag::SEQUENCE, &[parts[..3].concat(), set, parts[3].clone()].concat())
    });
    bad("certificates", "with a set of certificates, which is empty", &a(13), certificates);
    let version = |n| P256.outside(&path(&SIGNED, &[0]), &|_| tlv::small_int(n));
    bad("signed-data-version-1", "SignedData of version 1", &a(20), version(1));
    bad("signed-data-version-4", "SignedData of version 4", &a(20), version(4));
    let digest = |dotted| P256.outside(&path(&SIGNED, &[1, 0, 0]), &|_| tlv::oid(&oid(dotted)));
    let about = "digestAlgorithms names SHA-512, the SignerInfo SHA-256";
    bad("digest-algorithms-differ", about, &a(20), digest("2.16.840.1.101.3.4.2.3"));
    let sha1 = P256.outside(&SIGNED, &|signed| {
        let named = |_: &[u8]| tlv::oid(&oid("1.3.14.3.2.26"));
        edit(&edit(signed, &[1, 0, 0], &named), &[3, 0, 2, 0], &named)
    });
    bad("digest-sha1", "SHA-1 named as digest, in both places", &a(20), sha1);
    let rsa =
        P256.outside(&path(&SIGNER_INFO, &[4, 0]), &|_| tlv::oid(&oid("1.2.840.113549.1.1.11")));
    let about = "an RSA signatureAlgorithm for a P-256 key";
    bad("algorithm-of-another-key", about, &a(20), rsa);
    let swapped = P256.outside(&path(&SIGNER_INFO, &[3]), &|attributes| {
        let mut parts = world::parts(attributes);
        parts.reverse();
        tlv::encode(attributes[0], &parts.concat())
    });
    bad("attributes-unsorted", "the signed attributes in the other order", &a(28), swapped);
    let name = tlv::sequence(&[&tlv::sequence(&[]), &tlv::small_int(1)]);
    let by_name = P256.outside(&SIGNER_INFO, &|info| {
        let parts = world::parts(info);
        let rest = parts[2..].concat();
        tlv::encode(info[0], &[tlv::small_int(1), name.clone(), rest].concat())
    });
    bad("signer-by-issuer", "the signer named by issuer and serial number", &a(16), by_name);
    let no_digest = P256.outside(&path(&SIGNER_INFO, &[3]), &|attributes| without(attributes, 1));
    bad("no-message-digest", "without the messageDigest attribute", &a(11), no_digest);
    let absent = P256.outside(&path(&SIGNED, &[2]), &|content| without(content, 1));
    let wrong = (OPEN, Reason::SignatureValidationFailed);
    let about = "without the content";
    book.bad(("no-content", P256.base), wrong, about, &a(11), absent);
}

fn signers(book: &mut Book) {
    let a = |n| [Row::Attack(n)];
    let wrong = (OPEN, Reason::SignatureValidationFailed);
    let unknown = (OPEN, Reason::SigningCertThumbprintMismatch);
    let good = P256.envelope(&P256.claims().to_der().expect("claims"));
    let flip = P256.outside(&path(&SIGNER_INFO, &[5]), &flipped);
    book.bad(("signature-changed", P256.base), wrong, "the signature's last bit", &a(16), flip);
    let flip = RSA.outside(&path(&SIGNER_INFO, &[5]), &flipped);
    let about = "the signature's last bit";
    book.bad(("rsa-signature-changed", RSA.base), wrong, about, &a(16), flip);
    let other = P256.envelope(b"other claims");
    let exchanged =
        P256.outside(&path(&SIGNED, &[2, 1, 0]), &|_| tlv::encode(tag::OCTET_STRING, &other));
    let about = "another envelope under the same signature";
    book.bad(("content-exchanged", P256.base), wrong, about, &a(16), exchanged);
    let digest = P256.outside(&path(&SIGNER_INFO, &[3, 1, 1, 0]), &flipped);
    let about = "the messageDigest's last bit";
    book.bad(("message-digest-changed", P256.base), wrong, about, &a(11), digest);
    let stranger = signed_as(AUTH_ENVELOPED_DATA, &good, &*key(STRANGER).signer());
    let about = "signed by a key that is not pinned, and says so";
    book.bad(("signed-by-a-stranger", P256.base), unknown, about, &a(16), text(&stranger));
    let impostor = signed_as(AUTH_ENVELOPED_DATA, &good, &Impostor(ISSUER.public_key()));
    let about = "signed by a stranger in the issuer's name";
    book.bad(("signed-by-an-impostor", P256.base), wrong, about, &a(16), text(&impostor));
    let second = signed_as(AUTH_ENVELOPED_DATA, &good, &*key(ISSUER_RSA).signer());
    let about = "signed by the issuer's other key, which the claims do not name";
    book.bad(("signed-by-the-other-key", P256.base), unknown, about, &a(16), text(&second));
    let own = signed_as(AUTH_ENVELOPED_DATA, &good, &*key(CHALLENGE).signer());
    let about = "signed by the gateway's decryption key";
    book.bad(("signed-by-the-gateway", P256.base), unknown, about, &a(25), text(&own));
    let about = "one second after the signer's key ends; the challenge itself has not expired";
    let mixed = Maker { base: "good-rsa2048-to-p256", issuer: ISSUER_RSA, gateway: CHALLENGE };
    let late = mixed.text(&mixed.claims());
    book.bad(("signer-ended", mixed.base), unknown, about, &a(26), late).at(world::unpinned());
}

fn inner_layer(book: &mut Book) {
    let a = |n| [Row::Attack(n)];
    let malformed = (OPEN, Reason::ChallengeDecodingError);
    let unopened = (OPEN, Reason::ChallengeDecryptionError);
    let good = P256.envelope(&P256.claims().to_der().expect("claims"));
    let typed = |dotted| text(&signed_as(oid(dotted), &good, &*key(ISSUER).signer()));
    for (name, about, row, dotted) in [
        ("content-type-data", "signed as id-data", 14, "1.2.840.113549.1.7.1"),
        ("content-type-enveloped-data", "signed as EnvelopedData", 24, "1.2.840.113549.1.7.3"),
        (
            "content-type-compressed-data",
            "signed as CompressedData",
            29,
            "1.2.840.113549.1.9.16.1.9",
        ),
    ] {
        book.bad((name, P256.base), malformed, about, &a(row), typed(dotted));
    }
    let mut bad = |name: &str, about: &str, row, maker: &Maker, body: Vec<u8>| {
        book.bad((name, maker.base), malformed, about, &a(row), body);
    };
    bad("recipient-twice", "the recipient twice", 23, &P256, P256.enveloped(&[1], &doubled));
    let none = P256.enveloped(&[1], &|_| vec![tag::SET, 0]);
    bad("no-recipient", "without a recipient", 23, &P256, none);
    let cipher = |last: u8| {
        P256.enveloped(&[2, 1, 0], &move |oid| {
            let mut oid = oid.to_vec();
            *oid.last_mut().expect("an octet") = last;
            oid
        })
    };
    bad("cbc", "AES-256-CBC named instead of AES-256-GCM", 24, &P256, cipher(42));
    bad("aes128", "AES-128-GCM named instead of AES-256-GCM", 24, &P256, cipher(6));
    let icv = P256.enveloped(&[2, 1, 1, 1], &|_| tlv::small_int(12));
    bad("icv-length-12", "an ICV length of 12 stated", 24, &P256, icv);
    let icv = P256.enveloped(&[2, 1, 1], &|parameters| without(parameters, 1));
    bad("icv-length-left-out", "the ICV length left out, which means 12", 24, &P256, icv);
    let short = P256.enveloped(&[3], &|mac| tlv::encode(mac[0], &mac[2..14]));
    bad("icv-of-12-octets", "the ICV cut to 12 octets", 24, &P256, short);
    let nonce = P256.enveloped(&[2, 1, 1, 0], &|nonce| tlv::encode(nonce[0], &nonce[2..13]));
    bad("nonce-of-11-octets", "the nonce cut to 11 octets", 24, &P256, nonce);
    let version = P256.enveloped(&[0], &|_| tlv::small_int(1));
    bad("auth-enveloped-data-version-1", "AuthEnvelopedData of version 1", 20, &P256, version);
    let inner = P256.enveloped(&[2, 0], &|_| tlv::oid(&oid("1.2.840.113549.1.7.2")));
    bad("encrypted-signed-data", "the encrypted content's type is SignedData", 14, &P256, inner);
    let attributes = P256.enveloped(&[], &|envelope| {
        with_another(envelope, &tlv::encode(tag::context_constructed(2), &[]))
    });
    bad("unauthenticated-attributes", "with unauthenticated attributes", 24, &P256, attributes);
    let ukm = P256.enveloped(&[1, 0], &|recipient| {
        let parts = world::parts(recipient);
        let ukm = tlv::encode(0xa1, &tlv::encode(tag::OCTET_STRING, &[7; 16]));
        tlv::encode(recipient[0], &[parts[..2].concat(), ukm, parts[2..].concat()].concat())
    });
    bad("user-keying-material", "with user keying material", 24, &P256, ukm);
    let kdf = P256.enveloped(&[1, 0, 2, 0], &|_| tlv::oid(&oid("1.3.133.16.840.63.0.2")));
    bad("kdf-sha1", "key agreement with SHA-1 as its KDF's hash", 20, &P256, kdf);
    let wrap = P256.enveloped(&[1, 0, 2, 1, 0], &|_| tlv::oid(&oid("2.16.840.1.101.3.4.1.5")));
    bad("wrap-aes128", "aes128-wrap named instead of aes256-wrap", 24, &P256, wrap);
    let null = P256.enveloped(&[1, 0, 2, 1], &|wrap| with_another(wrap, &[tag::NULL, 0]));
    bad("wrap-with-null", "aes256-wrap with NULL parameters", 24, &P256, null);
    let curve = P256.enveloped(&[1, 0, 1, 0, 0], &|algorithm| {
        with_another(algorithm, &tlv::oid(&oid("1.2.840.10045.3.1.7")))
    });
    bad("originator-with-curve", "the curve repeated in originatorKey", 24, &P256, curve);
    let version = P256.enveloped(&[1, 0, 0], &|_| tlv::small_int(2));
    bad("recipient-version-2", "KeyAgreeRecipientInfo of version 2", 20, &P256, version);
    let date = tlv::encode(tag::GENERALIZED_TIME, b"20261124080000Z");
    let date = P256.enveloped(&[1, 0, 3, 0, 0], &|id| with_another(id, &date));
    bad("recipient-with-date", "a date beside the recipient's key id", 24, &P256, date);
    let two = P256.enveloped(&[1, 0, 3], &doubled);
    bad("encrypted-key-twice", "the recipient's encrypted key twice", 23, &P256, two);
    let id = P256.enveloped(&[1, 0, 3, 0, 0, 0], &|id| tlv::encode(id[0], &id[2..21]));
    bad("recipient-id-short", "a recipient's key id of 19 octets", 17, &P256, id);
    let short = P256.enveloped(&[1, 0, 3, 0, 1], &|key| tlv::encode(key[0], &key[2..34]));
    bad("wrapped-key-short", "a wrapped key of 32 octets", 24, &P256, short);
    let short = RSA.enveloped(&[1, 0, 3], &|key| tlv::encode(key[0], &key[4..259]));
    bad("rsa-key-short", "an encrypted key of one octet less", 21, &RSA, short);
    let pkcs1 = RSA.enveloped(&[1, 0, 2], &|_| {
        tlv::sequence(&[&tlv::oid(&oid("1.2.840.113549.1.1.1")), &[tag::NULL, 0]])
    });
    bad("pkcs1-key-transport", "key transport named RSAES-PKCS1-v1_5", 21, &RSA, pkcs1);
    let sha1 = RSA.enveloped(&[1, 0, 2, 1], &|_| tlv::sequence(&[]));
    bad("oaep-sha1", "OAEP with its default, SHA-1", 20, &RSA, sha1);

    for (name, about, maker, place) in [
        ("icv-changed", "the ICV's last bit", &P256, &[3][..]),
        ("ciphertext-changed", "the ciphertext's last bit", &P256, &[2, 2]),
        ("nonce-changed", "the nonce's last bit", &P256, &[2, 1, 1, 0]),
        ("wrapped-key-changed", "the wrapped key's last bit", &P256, &[1, 0, 3, 0, 1]),
        ("rsa-key-changed", "the encrypted key's last bit", &RSA, &[1, 0, 3]),
        ("rsa-icv-changed", "the ICV's last bit", &RSA, &[3]),
    ] {
        let body = maker.enveloped(place, &flipped);
        book.bad((name, maker.base), unopened, about, &a(22), body);
    }
    // The point (0, 0) is on no curve.
    let off =
        P256.enveloped(&[1, 0, 1, 0, 1], &|_| tlv::whole_bits(&[&[4][..], &[0; 64]].concat()));
    let about = "an ephemeral point that is not on the curve";
    book.bad(("point-off-the-curve", P256.base), unopened, about, &a(22), off);
}

fn for_whom(book: &mut Book) {
    let rows = [Row::Attack(17)];
    let other = |change: &dyn Fn(&mut ChallengeClaims)| {
        let mut claims = P256.claims();
        change(&mut claims);
        forged(&claims.to_der().expect("claims"))
    };
    let stranger = STRANGER.public_key().key_id();
    for (name, about, reason, body) in [
        (
            "other-tenant",
            "the claims name another tenant",
            Reason::BadTenantIdInChallenge,
            other(&|c| c.tenant = TenantId::new("fabrikam").expect("an id")),
        ),
        (
            "other-audience",
            "the claims name another gateway group",
            Reason::BadAudienceInChallenge,
            other(&|c| c.audience = GatewayGroupId::new("branch").expect("an id")),
        ),
        (
            "other-issuer-key",
            "the claims name another signer",
            Reason::SigningCertThumbprintMismatch,
            other(&|c| c.issuer_key = stranger),
        ),
        (
            "other-recipient-key",
            "the claims name another decryption key",
            Reason::BadAudienceInChallenge,
            other(&|c| c.recipient_key = stranger),
        ),
    ] {
        book.bad((name, P256.base), (OPEN, reason), about, &rows, body);
    }
    let plain = P256.claims().to_der().expect("claims");
    let envelope = scep_cms::seal_auth(&provider(P256.base), &STRANGER.public_key(), &plain);
    let body = text(&P256.sign(&envelope.expect("an envelope")));
    let elsewhere = (OPEN, Reason::BadAudienceInChallenge);
    let about = "encrypted to a key that is not the gateway's";
    book.bad(("encrypted-to-a-stranger", P256.base), elsewhere, about, &rows, body);
    let about = "one second after the decryption key was retired";
    let body = RSA.text(&RSA.claims());
    book.bad(("recipient-retired", RSA.base), elsewhere, about, &[Row::Attack(27)], body)
        .at(world::retired());
    // What the two layers say of a recipient that is named by its id and is another key.
    let renamed = {
        let good = P256.envelope(&plain);
        let id = [1, 0, 3, 0, 0];
        assert!(at(&good, &id).ends_with(CHALLENGE.public_key().key_id().as_bytes()));
        let other = CHALLENGE_RSA.public_key().key_id();
        text(&P256.sign(&edit(&good, &id, &|rid| {
            tlv::encode(rid[0], &tlv::encode(tag::OCTET_STRING, other.as_bytes()))
        })))
    };
    let malformed = (OPEN, Reason::ChallengeDecodingError);
    let about = "key agreement with a recipient that is named as the gateway's RSA key";
    book.bad(("recipient-renamed", P256.base), malformed, about, &rows, renamed);
}

fn times(book: &mut Book) {
    let rows = [Row::Attack(19)];
    let good = P256.text(&P256.claims());
    let about = "the first second at which it does not count any more";
    book.bad(("expired", P256.base), (OPEN, Reason::ChallengeExpired), about, &rows, good.clone())
        .at(NOW.plus(HOUR + 5 * MINUTE));
    let wrong = (OPEN, Reason::ChallengeInvalidTimestamp);
    let about = "one second earlier than clocks may differ";
    book.bad(("issued-in-the-future", P256.base), wrong, about, &rows, good)
        .at(NOW.minus(5 * MINUTE + SECOND));
    let mut long = P256.claims();
    long.expires_at = NOW.plus(HOUR + SECOND);
    let about = "a lifetime of one second more than an hour";
    let body = forged(&long.to_der().expect("claims"));
    book.bad(("too-long-lived", P256.base), wrong, about, &rows, body);
}
