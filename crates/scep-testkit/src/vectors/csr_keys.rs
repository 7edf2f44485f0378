//! Requests with a weak key or another than they may have, and those that do not prove that they have it.

use super::csr::BASE;
use super::draft::{Draft, changed};
use super::world::{self, CHALLENGE, DEVICE, DEVICE_EC, ISSUER, RA, edit, flipped, oid};
use super::{Book, Row, Stage};
use crate::keys::TestKey;
use scep_types::tlv::{self, Reader, tag};
use scep_types::{KeyAlgorithm, Reason, SignatureScheme, SpkiDer};

/// A modulus as the broken generator of CVE-2017-15361 makes them: each prime is k·M + (65537^a mod M), with M the
/// product of the first 126 primes.
const ROCA: &str = "\
    9000015cd625069ff5f56d998d3d03bed0016e2b6bc899145beec0c52f2928c3\
    a2149ea4b89a99b70c41a5b07764f9c990f39571be241dac6c43b4cbfdeb2126\
    b5e4c261dbc38369df68efbdc49ef630e2e3e144319c69f89d0f6e1a89949737\
    272596f36538c65ede55b0705fa39cb863c567c7942befdf551ed357326e0953\
    2d21dcec8897563afa23f20ca75e52ef2a4d55c69b744dc4c8143fbd8da9f44f\
    3b66db8c94af18be26f8d7ab82e30e97825b7bc4e54ed0c500f2efcad0acf3d4\
    bc173afa3721c355d7c1c794424b1a31c1b7786028ebd4d084f345c5ed4c3cd4\
    c3b4466b982519f80e4960d0d509c2ddbd902053f6ec76abe7b07f6003b4c379";

const F4: [u8; 3] = [1, 0, 1];

pub(super) fn add(book: &mut Book) {
    weak(book);
    kinds(book);
    proofs(book);
}

fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    SpkiDer::from_rsa_parts(modulus, exponent).expect("a key").as_der().to_vec()
}

fn modulus() -> Vec<u8> {
    let key = DEVICE.public_key();
    key.rsa().expect("an RSA key").modulus.to_vec()
}

/// A prime of a key: the fifth number of its RSAPrivateKey (RFC 8017, A.1.2).
fn prime(of: TestKey) -> Vec<u8> {
    let block = pem::parse(of.pem()).expect("a PEM block");
    let private = world::at(block.contents(), &[2]);
    let octets = Reader::new(&private).only(tag::OCTET_STRING).expect("a key").value.to_vec();
    let number = world::at(&octets, &[4]);
    Reader::new(&number).any().expect("DER").unsigned().expect("a number").to_vec()
}

/// Schoolbook multiplication of big-endian numbers.
fn product(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut out = vec![0_u8; a.len() + b.len()];
    for (i, x) in a.iter().rev().enumerate() {
        let mut carry = 0_u32;
        for (j, y) in b.iter().rev().enumerate() {
            let sum = u32::from(out[i + j]) + u32::from(*x) * u32::from(*y) + carry;
            out[i + j] = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        out[i + b.len()] = carry.to_le_bytes()[0];
    }
    out.reverse();
    out
}

fn modulo(n: &[u8], small: u32) -> u32 {
    n.iter().fold(0, |rest, octet| ((rest << 8) | u32::from(*octet)) % small)
}

/// The largest multiple of a prime that is at most the device's modulus and has no smaller prime factor.
fn multiple_of(prime: u32) -> Vec<u8> {
    let n = modulus();
    let multiples = (0..).map(|times| less(&n, modulo(&n, prime) + times * prime));
    multiples
        .into_iter()
        .find(|candidate| (2..prime).all(|smaller| modulo(candidate, smaller) != 0))
        .expect("one of them")
}

fn less(n: &[u8], mut subtract: u32) -> Vec<u8> {
    let mut n = n.to_vec();
    for octet in n.iter_mut().rev() {
        let low = subtract.to_le_bytes()[0];
        let (difference, borrowed) = octet.overflowing_sub(low);
        *octet = difference;
        subtract = (subtract >> 8) + u32::from(borrowed);
    }
    n
}

fn weak(book: &mut Book) {
    let rows = [Row::Attack(44)];
    let weak = (Stage::CsrKey, Reason::WeakKey);
    let n = modulus();
    let mut short = n[..128].to_vec();
    short[127] |= 1;
    let mut almost = n.clone();
    almost[0] = 0x7f;
    let mut long = n.repeat(5);
    long.truncate(1025);
    long[1024] |= 1;
    let mut even = n.clone();
    even[255] &= 0xfe;
    let p = prime(DEVICE);
    for (name, about, spki) in [
        ("rsa-1024", "a modulus of 1,024 bits", rsa_key(&short, &F4)),
        ("rsa-2047", "a modulus of 2,047 bits", rsa_key(&almost, &F4)),
        ("rsa-8200", "a modulus of 8,200 bits", rsa_key(&long, &F4)),
        ("exponent-1", "the exponent 1", rsa_key(&n, &[1])),
        ("exponent-3", "the exponent 3", rsa_key(&n, &[3])),
        ("exponent-65535", "the exponent 65,535", rsa_key(&n, &[0xff, 0xff])),
        ("exponent-even", "the exponent 65,536", rsa_key(&n, &[1, 0, 0])),
        ("exponent-large", "an exponent of 33 bits", rsa_key(&n, &[1, 0, 0, 0, 1])),
        ("modulus-even", "an even modulus", rsa_key(&even, &F4)),
        ("modulus-multiple-of-3", "a modulus that 3 divides", rsa_key(&multiple_of(3), &F4)),
        (
            "modulus-multiple-of-1999",
            "a modulus that 1,999 divides",
            rsa_key(&multiple_of(1999), &F4),
        ),
        ("modulus-square", "a modulus of one prime, squared", rsa_key(&product(&p, &p), &F4)),
        (
            "modulus-roca",
            "a modulus of the generator of CVE-2017-15361",
            rsa_key(&octets(ROCA), &F4),
        ),
    ] {
        // The signature is still that of the good key: the key is looked at first.
        let body = changed(|draft| draft.spki = spki);
        book.bad((name, BASE), weak, about, &rows, body);
    }
    for (name, about, ours) in [
        ("key-of-the-issuer", "the issuer's key", ISSUER),
        ("key-of-the-gateway", "the gateway's decryption key", CHALLENGE),
        ("key-of-the-ra", "the RA's key", RA),
    ] {
        let body = Draft::new(BASE, ours, world::claims()).der();
        book.bad((name, BASE), weak, about, &[Row::Attack(44), Row::Attack(25)], body);
    }
}

fn octets(hex: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).expect("a digit").to_le_bytes()[0];
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn kinds(book: &mut Book) {
    let rows = [Row::Attack(44)];
    let unknown = (Stage::CsrParse, Reason::AlgorithmNotSupported);
    let ec = |curve: &str, point: &[u8]| {
        let algorithm =
            tlv::sequence(&[&tlv::oid(&oid("1.2.840.10045.2.1")), &tlv::oid(&oid(curve))]);
        tlv::sequence(&[&algorithm, &tlv::whole_bits(point)])
    };
    let point = DEVICE_EC.public_key().key_octets().to_vec();
    let p224 = [&[4_u8][..], &[9; 56]].concat();
    let ed25519 = tlv::sequence(&[
        &tlv::sequence(&[&tlv::oid(&oid("1.3.101.112"))]),
        &tlv::whole_bits(&[9; 32]),
    ]);
    let dsa = tlv::sequence(&[
        &tlv::sequence(&[&tlv::oid(&oid("1.2.840.10040.4.1"))]),
        &tlv::whole_bits(&tlv::small_int(7)),
    ]);
    for (name, about, spki) in [
        ("key-p224", "a key on P-224", ec("1.3.132.0.33", &p224)),
        ("key-secp256k1", "a key on secp256k1", ec("1.3.132.0.10", &point)),
        ("key-ed25519", "an Ed25519 key", ed25519),
        ("key-dsa", "a DSA key", dsa),
    ] {
        let body = with_spki(DEVICE_EC, spki);
        book.bad((name, "good-p256"), unknown, about, &rows, body);
    }
    let weak = (Stage::CsrParse, Reason::WeakKey);
    let compressed = [&[2 + (point[64] & 1)][..], &point[1..33]].concat();
    let body = with_spki(DEVICE_EC, ec("1.2.840.10045.3.1.7", &compressed));
    let about = "the same point, compressed";
    book.bad(("point-compressed", "good-p256"), weak, about, &rows, body);
    let body = with_spki(DEVICE_EC, ec("1.2.840.10045.3.1.7", &[0]));
    let about = "the point at infinity";
    book.bad(("point-at-infinity", "good-p256"), weak, about, &rows, body);
    let mut off = point;
    off[64] ^= 1;
    let unproven = (Stage::CsrProof, Reason::ProofOfPossessionFailed);
    let body = with_spki(DEVICE_EC, ec("1.2.840.10045.3.1.7", &off));
    let about = "a point that is not on the curve";
    book.bad(("point-off-the-curve", "good-p256"), unproven, about, &rows, body);
    let unread = (Stage::CsrParse, Reason::CertificateRequestDecodingFailed);
    let good = DEVICE.public_key();
    let body = changed(|draft| {
        draft.spki = edit(good.as_der(), &[0], &|algorithm| world::without(algorithm, 1));
    });
    let about = "an RSA key without its NULL parameters, which is another encoding of the same key";
    book.bad(("rsa-without-null", BASE), unread, about, &rows, body);
    let negative = {
        let numbers = tlv::sequence(&[&tlv::encode(tag::INTEGER, &modulus()), &[2, 3, 1, 0, 1]]);
        let algorithm = world::at(good.as_der(), &[0]);
        tlv::sequence(&[&algorithm, &tlv::whole_bits(&numbers)])
    };
    let body = changed(|draft| draft.spki = negative);
    let about = "a modulus without its leading zero octet, which makes it negative";
    book.bad(("modulus-negative", BASE), unread, about, &rows, body);

    let length = (Stage::Decide, Reason::KeyLengthMismatch);
    let draft = Draft::new("good-p256", TestKey::P384A, world::claims());
    let about = "a key on P-384, which the challenge does not allow";
    book.bad(("key-p384", "good-p256"), length, about, &rows, draft.der());
    let only = |algorithm| {
        Draft::expecting(BASE, |claims| {
            claims.expectation.key_algorithms = vec![algorithm];
        })
    };
    let about = "the same request, with a challenge that allows RSA-3072 alone";
    let body = only(KeyAlgorithm::Rsa(3072)).der();
    book.bad(("rsa-3072-expected", BASE), length, about, &rows, body);
    let about = "the same request, with a challenge that allows P-256 alone";
    let body = only(KeyAlgorithm::P256).der();
    book.bad(("p256-expected", BASE), length, about, &rows, body);
    let pinned = (Stage::Decide, Reason::RegisteredKeyMismatch);
    let mut claims = world::claims();
    claims.expectation.spki_hash = Some(DEVICE.public_key().hash());
    let draft = Draft::new("good-pinned-key", DEVICE_EC, claims);
    let about = "another key than the challenge pins";
    book.bad(("pinned-key-changed", "good-pinned-key"), pinned, about, &rows, draft.der());
}

fn with_spki(device: TestKey, spki: Vec<u8>) -> Vec<u8> {
    let mut draft = Draft::new("good-p256", device, world::claims());
    draft.spki = spki;
    draft.der()
}

fn proofs(book: &mut Book) {
    let rows = [Row::Attack(45)];
    let unproven = (Stage::CsrProof, Reason::ProofOfPossessionFailed);
    let rsa = Draft::good().der();
    let ec = Draft::new("good-p256", DEVICE_EC, world::claims()).der();
    let about = "the signature's last bit";
    let body = edit(&rsa, &[2], &flipped);
    book.bad(("signature-changed", BASE), unproven, about, &rows, body);
    let body = edit(&ec, &[2], &flipped);
    book.bad(("ec-signature-changed", "good-p256"), unproven, about, &rows, body);
    let body = edit(&rsa, &[2], &|_| tlv::whole_bits(&[]));
    book.bad(("signature-empty", BASE), unproven, "an empty signature", &rows, body);
    let zero = tlv::sequence(&[&tlv::small_int(0), &tlv::small_int(0)]);
    let body = edit(&ec, &[2], &|_| tlv::whole_bits(&zero));
    let about = "a signature of r = 0 and s = 0";
    book.bad(("ec-signature-zero", "good-p256"), unproven, about, &rows, body);
    let about = "the key of another, signed by one's own";
    let other = product(&prime(DEVICE), &prime(TestKey::RsaD));
    let body = changed(|draft| draft.spki = rsa_key(&other, &F4));
    book.bad(("key-of-another", BASE), unproven, about, &rows, body);
    let body = with_spki(DEVICE_EC, world::STRANGER.public_key().as_der().to_vec());
    book.bad(("ec-key-of-another", "good-p256"), unproven, about, &rows, body);
    // Under the signature of the good one.
    let body = edit(&rsa, &[0, 1, 2, 0, 1], &|_| tlv::encode(tag::UTF8_STRING, b"device-2"));
    let about = "another commonName under the same signature";
    book.bad(("subject-after-signing", BASE), unproven, about, &rows, body);
    let body = edit(&rsa, &[0, 3], &|attributes| {
        let mut parts = world::parts(attributes);
        parts.reverse();
        tlv::encode(attributes[0], &parts.concat())
    });
    let about = "the attributes in another order under the same signature";
    book.bad(("attributes-after-signing", BASE), unproven, about, &rows, body);
    for (name, about, scheme) in [
        ("algorithm-sha384", "SHA-384 named, SHA-256 used", SignatureScheme::RsaPkcs1Sha384),
        ("algorithm-pss", "RSASSA-PSS named, PKCS #1 v1.5 used", SignatureScheme::RsaPssSha256),
        ("algorithm-ecdsa", "ECDSA named for an RSA key", SignatureScheme::EcdsaSha256),
    ] {
        let body = changed(|draft| draft.algorithm = scheme.algorithm_der());
        book.bad((name, BASE), unproven, about, &rows, body);
    }
    let unknown = (Stage::CsrParse, Reason::AlgorithmNotSupported);
    for (name, about, dotted) in [
        ("algorithm-md5", "md5WithRSAEncryption named", "1.2.840.113549.1.1.4"),
        ("algorithm-rsa-encryption", "rsaEncryption named", "1.2.840.113549.1.1.1"),
        ("algorithm-unknown", "an algorithm that nobody knows", "1.2.3.4"),
    ] {
        let body = changed(|draft| {
            draft.algorithm = tlv::sequence(&[&tlv::oid(&oid(dotted)), &[tag::NULL, 0]]);
        });
        book.bad((name, BASE), unknown, about, &rows, body);
    }
    let body = Draft::good().scheme(SignatureScheme::RsaPkcs1Sha1).der();
    let about = "signed with SHA-1, where that is not allowed";
    book.bad(("sha1", "good-sha1"), unknown, about, &rows, body);
}
