//! BER intake.

use crate::common::{DATA, Node, P256, RSA, certificate};
use proptest::prelude::*;
use scep_cms::{
    CmsError, ContentEncryption, Limits, SignerId, ToSign, ber::normalize, certs_only, seal,
    seal_auth, sign,
};
use scep_keys::AwsLc;
use scep_types::tlv::{self, TlvError, tag};
use scep_types::{RsaPadding, SignatureScheme};
use std::borrow::Cow;
use std::sync::LazyLock;

/// One message of each kind that has implicit OCTET STRINGs, or explicit wrappers that look like them.
static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let ra = certificate(&RSA, "CN=RA,O=Example", 7);
    let enveloped =
        seal(&AwsLc, &[&ra], RsaPadding::Pkcs1v15, ContentEncryption::Aes128Cbc, &[0x42; 3000])
            .unwrap();
    let by_certificate = sign(
        RSA.signer().as_ref(),
        &ToSign {
            content_type: DATA,
            content: &enveloped,
            attributes: &[(crate::common::oid("1.2.3.4"), vec![0x13, 2, b'1', b'9'])],
            certificates: &[certificate(&P256, "CN=other", 9)],
            signer_id: SignerId::Certificate(&ra),
            scheme: SignatureScheme::RsaPkcs1Sha256,
        },
    )
    .unwrap();
    let by_key_id = sign(
        P256.signer().as_ref(),
        &ToSign {
            content_type: DATA,
            content: b"",
            attributes: &[],
            certificates: &[],
            signer_id: SignerId::KeyId,
            scheme: SignatureScheme::EcdsaSha256,
        },
    )
    .unwrap();
    let auth = |key: &scep_keys::SoftwareKey| {
        let bare = seal_auth(&AwsLc, key.public_key(), &[0x17; 700]).unwrap();
        content_info("1.2.840.113549.1.9.16.1.23", &bare)
    };
    vec![enveloped, by_certificate, by_key_id, certs_only(&[ra]), auth(&RSA), auth(&P256)]
});

fn content_info(content_type: &str, content: &[u8]) -> Vec<u8> {
    tlv::sequence(&[
        &tlv::oid(&crate::common::oid(content_type)),
        &tlv::encode(tag::context_constructed(0), content),
    ])
}

/// How to write what BER leaves open.
trait Choices {
    /// 0: definite and minimal, 1: indefinite, n > 1: n octets of length.
    fn length(&mut self, constructed: bool) -> usize;
    /// `None`: primitive; otherwise the segments' size.
    fn segments(&mut self, length: usize) -> Option<usize>;
    /// Whether a segment is constructed itself.
    fn nested(&mut self) -> bool;
}

fn header(tag: u8, length: usize, octets: usize) -> Vec<u8> {
    if octets == 0 {
        let whole = tlv::encode(tag, &vec![0; length]);
        return whole[..whole.len() - length].to_vec();
    }
    let mut out = vec![tag, 0x80 | u8::try_from(octets).unwrap()];
    out.extend(&(length as u64).to_be_bytes()[8 - octets..]);
    out
}

fn write(tag: u8, contents: &[u8], choices: &mut dyn Choices) -> Vec<u8> {
    match choices.length(tag & 0x20 != 0) {
        1 => [&[tag, 0x80], contents, &[0, 0]].concat(),
        n => {
            let needed = (usize::BITS - contents.len().leading_zeros()).div_ceil(8) as usize;
            let octets = if n == 0 { 0 } else { n.max(needed) };
            [header(tag, contents.len(), octets), contents.to_vec()].concat()
        }
    }
}

/// The same values in BER. OCTET STRINGs and what is tagged `[0]` and primitive (in CMS: implicit OCTET STRINGs
/// only) may fall into segments.
fn ber(node: &Node, choices: &mut dyn Choices) -> Vec<u8> {
    match node {
        Node::Constructed(tag, children) => {
            let parts: Vec<Vec<u8>> = children.iter().map(|child| ber(child, choices)).collect();
            write(*tag, &parts.concat(), choices)
        }
        Node::Primitive(tag @ (0x04 | 0x80), value) => match choices.segments(value.len()) {
            Some(size) => {
                let parts: Vec<Vec<u8>> =
                    value.chunks(size).map(|part| segment(part, 0, choices)).collect();
                write(*tag | 0x20, &parts.concat(), choices)
            }
            None => write(*tag, value, choices),
        },
        Node::Primitive(tag, value) => write(*tag, value, choices),
    }
}

fn segment(octets: &[u8], depth: usize, choices: &mut dyn Choices) -> Vec<u8> {
    if depth < 5 && choices.nested() {
        let (a, b) = octets.split_at(octets.len() / 2);
        let parts = [segment(a, depth + 1, choices), write(0x04, b, choices)].concat();
        return write(0x24, &parts, choices);
    }
    write(0x04, octets, choices)
}

/// Everything indefinite; OCTET STRINGs above this size in segments of it, as streaming encoders do.
struct Streamed(usize);

impl Choices for Streamed {
    fn length(&mut self, constructed: bool) -> usize {
        usize::from(constructed)
    }
    fn segments(&mut self, length: usize) -> Option<usize> {
        (length > self.0).then_some(self.0)
    }
    fn nested(&mut self) -> bool {
        false
    }
}

/// Lengths of a fixed number of octets, leading zeros included.
struct LongForm(usize);

impl Choices for LongForm {
    fn length(&mut self, _: bool) -> usize {
        self.0
    }
    fn segments(&mut self, _: usize) -> Option<usize> {
        None
    }
    fn nested(&mut self) -> bool {
        false
    }
}

/// Takes its choices from a list of octets, over and over.
struct Listed<'a>(std::iter::Cycle<std::slice::Iter<'a, u8>>);

impl Listed<'_> {
    fn next(&mut self) -> usize {
        usize::from(*self.0.next().unwrap())
    }
}

impl Choices for Listed<'_> {
    fn length(&mut self, constructed: bool) -> usize {
        match self.next() % 10 {
            1 if !constructed => 0,
            n if n <= 8 => n,
            _ => 0,
        }
    }
    fn segments(&mut self, _: usize) -> Option<usize> {
        match self.next() {
            n if n % 3 == 0 => None,
            n => Some(n * 4),
        }
    }
    fn nested(&mut self) -> bool {
        self.next().is_multiple_of(5)
    }
}

#[test]
fn der_passes_through_borrowed() {
    for der in SAMPLES.iter() {
        let Cow::Borrowed(out) = normalize(der, &Limits::default()).unwrap() else {
            panic!("DER was copied");
        };
        assert_eq!(out, der);
    }
}

#[test]
fn quirk_22_streamed_octet_strings_are_joined() {
    for der in SAMPLES.iter() {
        for chunk in [100, 1000, 1 << 20] {
            let streamed = ber(&Node::parse(der), &mut Streamed(chunk));
            assert_ne!(&streamed, der);
            let out = normalize(&streamed, &Limits::default()).unwrap();
            assert_eq!(&out, der, "chunks of {chunk}");
        }
    }
}

#[test]
fn quirk_22_long_lengths_become_minimal() {
    for der in SAMPLES.iter() {
        for octets in [2, 4, 5, 8] {
            let long = ber(&Node::parse(der), &mut LongForm(octets));
            assert_eq!(&normalize(&long, &Limits::default()).unwrap(), der);
        }
    }
}

/// EncryptedContentInfo's path in EnvelopedData: content [0], SEQUENCE, third field, third field.
fn with_encrypted_content(replace: impl Fn(&[u8]) -> Node) -> Vec<u8> {
    let mut tree = Node::parse(&SAMPLES[0]);
    let place = tree.at(&[1, 0, 2, 2]);
    *place = replace(place.clone().value());
    tree.encode()
}

#[test]
fn quirk_23_encrypted_content_is_read_primitive_and_constructed() {
    // One OCTET STRING inside a [0] of definite length, as macOS 10.11 sends, and a chain of them.
    let one = with_encrypted_content(|octets| {
        Node::Constructed(0xa0, vec![Node::Primitive(0x04, octets.to_vec())])
    });
    let several = with_encrypted_content(|octets| {
        let part = |part: &[u8]| Node::Primitive(0x04, part.to_vec());
        Node::Constructed(0xa0, octets.chunks(8).map(part).collect())
    });
    let nested = with_encrypted_content(|octets| {
        let inner = Node::Primitive(0x04, octets.to_vec());
        let empty = Node::Primitive(0x04, vec![]);
        Node::Constructed(0xa0, vec![empty, Node::Constructed(0x24, vec![inner])])
    });
    for form in [one, several, nested] {
        assert_eq!(&normalize(&form, &Limits::default()).unwrap(), &SAMPLES[0]);
    }
}

#[test]
fn explicit_wrappers_stay() {
    // An eContent [0] holds one OCTET STRING, just as a constructed implicit [0] does: only its place differs.
    let der = &SAMPLES[1];
    let mut tree = Node::parse(der);
    let Node::Constructed(0xa0, wrapped) = tree.at(&[1, 0, 2, 1]).clone() else { panic!() };
    assert!(matches!(wrapped[..], [Node::Primitive(0x04, _)]));
    assert_eq!(&normalize(der, &Limits::default()).unwrap(), der);
    // The same octets under a content type without a schema keep their form too.
    let unknown = content_info(
        "1.2.3.4",
        &tlv::sequence(&[&tlv::oid(&DATA), &[0x05, 0], &[0xa0, 3, 4, 1, 9]]),
    );
    assert_eq!(&normalize(&unknown, &Limits::default()).unwrap(), &unknown);
}

#[test]
fn key_identifiers_are_flattened_where_the_schema_has_them() {
    // SignerInfo's sid; the same form elsewhere in SignerInfo is a list of attributes.
    let mut tree = Node::parse(&SAMPLES[2]);
    let signer_info = [1, 0, 3, 0];
    let sid = tree.at(&signer_info).children()[1].clone().value().clone();
    tree.at(&signer_info).children()[1] = Node::Constructed(0xa0, vec![Node::Primitive(0x04, sid)]);
    assert_eq!(&normalize(&tree.encode(), &Limits::default()).unwrap(), &SAMPLES[2]);
}

#[test]
fn key_identifiers_are_flattened_in_every_kind_of_recipient() {
    // KeyTransRecipientInfo's rid, and the issuer of KeyAgreeRecipientInfo's originator, which is explicit around
    // the implicit one.
    let id = |tagged: Node| {
        let tree = |recipient| {
            let version = Node::Primitive(2, vec![2]);
            let recipients = Node::Constructed(0x31, vec![recipient]);
            content_info(
                "1.2.840.113549.1.7.3",
                &Node::Constructed(0x30, vec![version, recipients]).encode(),
            )
        };
        let version = Node::Primitive(2, vec![2]);
        let transport = Node::Constructed(0x30, vec![version.clone(), tagged.clone()]);
        let originator = Node::Constructed(0xa0, vec![tagged]);
        let agreement = Node::Constructed(0xa1, vec![version, originator]);
        [tree(transport), tree(agreement)]
    };
    let primitive = id(Node::Primitive(0x80, vec![1, 2, 3]));
    let parts = [vec![1], vec![2, 3]].map(|part| Node::Primitive(4, part));
    let constructed = id(Node::Constructed(0xa0, parts.to_vec()));
    for (der, ber) in primitive.iter().zip(&constructed) {
        assert_ne!(der, ber);
        assert_eq!(&normalize(ber, &Limits::default()).unwrap(), der);
    }
}

#[test]
fn implicit_octet_strings_hold_octet_strings_only() {
    let form =
        with_encrypted_content(|_| Node::Constructed(0xa0, vec![Node::Primitive(0x02, vec![1])]));
    assert!(matches!(
        normalize(&form, &Limits::default()),
        Err(CmsError::Malformed(TlvError::Tag { expected: 0x04, got: 0x02, .. }))
    ));
}

#[test]
fn the_order_of_sets_is_kept() {
    let mut tree = Node::parse(&SAMPLES[1]);
    // The signed attributes, the other way round.
    let signer_info = [1, 0, 4, 0, 3];
    tree.at(&signer_info).children().reverse();
    let reversed = tree.encode();
    assert_eq!(&normalize(&reversed, &Limits::default()).unwrap(), &reversed);
    let streamed = ber(&tree, &mut Streamed(100));
    assert_eq!(&normalize(&streamed, &Limits::default()).unwrap(), &reversed);
}

#[test]
fn crls_of_definite_length_are_copied_unread() {
    let crl = [0x30, 0x80 | 1, 6, 0x30, 0x80, 0x05, 0x00, 0x00, 0x00];
    let message = scep_cms::crl_only(&crl);
    let out = normalize(&message, &Limits::default()).unwrap();
    // The header becomes minimal, as nothing signs it; what is inside is not looked at.
    assert_eq!(out, scep_cms::crl_only(&[&[0x30, 6][..], &crl[3..]].concat()));
}

#[test]
fn limits_hold() {
    let der = &SAMPLES[1];
    let limits = Limits { max_bytes: der.len() - 1, ..Limits::default() };
    assert_eq!(
        normalize(der, &limits),
        Err(CmsError::Limit { what: "octets", max: der.len() - 1 })
    );
    let limits = Limits { max_nodes: 20, ..Limits::default() };
    assert_eq!(normalize(der, &limits), Err(CmsError::Limit { what: "values", max: 20 }));
    let limits = Limits { max_depth: 5, ..Limits::default() };
    let too_deep = Err(CmsError::Limit { what: "levels of nesting", max: 5 });
    assert_eq!(normalize(der, &limits), too_deep);
}

#[test]
fn attack_29_nesting_is_cut_off() {
    let too_deep = Err(CmsError::Limit { what: "levels of nesting", max: 32 });
    for open in [&[0x30, 0x80][..], &[0x24, 0x80]] {
        let bomb = open.repeat(100_000);
        assert_eq!(normalize(&bomb, &Limits::default()), too_deep);
        let inside = [&[0x30, 0x80][..], &bomb].concat();
        assert_eq!(normalize(&inside, &Limits::default()), too_deep);
    }
    // Many empty segments, which write nothing, count as values all the same.
    let mut many = vec![0x24, 0x80];
    many.extend([0x24, 0x00].repeat(10_000));
    many.extend([0, 0]);
    assert_eq!(
        normalize(&many, &Limits::default()),
        Err(CmsError::Limit { what: "values", max: 8192 })
    );
}

#[test]
fn what_is_not_ber_is_refused_with_its_place() {
    for (bytes, error) in [
        (&[][..], CmsError::Malformed(TlvError::Truncated { at: 0 })),
        (&[0x30], CmsError::Malformed(TlvError::Truncated { at: 0 })),
        (&[0x30, 0x03, 0x05, 0x00], CmsError::Malformed(TlvError::Truncated { at: 0 })),
        (&[0x30, 0x80, 0x05, 0x00], CmsError::Malformed(TlvError::Truncated { at: 4 })),
        (&[0x30, 0x80, 0x05, 0x00, 0x00], CmsError::Malformed(TlvError::Truncated { at: 4 })),
        (&[0x30, 0x80, 0x05, 0x80, 0, 0, 0, 0], CmsError::Malformed(TlvError::Length { at: 2 })),
        (&[0x24, 0x80, 0x04, 0x80, 0, 0, 0, 0], CmsError::Malformed(TlvError::Length { at: 2 })),
        (&[0x30, 0xff, 0x00], CmsError::Malformed(TlvError::Length { at: 0 })),
        (
            &[0x30, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0],
            CmsError::Malformed(TlvError::Truncated { at: 0 }),
        ),
        (&[0x3f, 0x01, 0x00], CmsError::Malformed(TlvError::LongTag { at: 0 })),
        (&[0x30, 0x00, 0x00], CmsError::Malformed(TlvError::Trailing { at: 2 })),
        // A part that reaches beyond its parent.
        (&[0x30, 0x02, 0x04, 0x01, 0x00], CmsError::Malformed(TlvError::Truncated { at: 2 })),
        (
            &[0x30, 0x02, 0x00, 0x00],
            CmsError::Structure {
                what: "end-of-contents octets where a value was expected",
                at: 2,
            },
        ),
    ] {
        assert_eq!(normalize(bytes, &Limits::default()), Err(error), "{bytes:02x?}");
    }
}

proptest! {
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(400)))]

    #[test]
    fn any_ber_form_comes_back_as_the_der(which in 0..6_usize, list in proptest::collection::vec(any::<u8>(), 1..64)) {
        let der = &SAMPLES[which];
        let form = ber(&Node::parse(der), &mut Listed(list.iter().cycle()));
        let limits = Limits { max_bytes: 1 << 22, max_nodes: 1 << 16, ..Limits::default() };
        let out = normalize(&form, &limits).unwrap();
        prop_assert_eq!(&out[..], &der[..]);
        // What came out goes through untouched.
        prop_assert!(matches!(normalize(&out, &limits).unwrap(), Cow::Borrowed(_)));
    }

    #[test]
    fn noise_never_panics_and_what_passes_is_stable(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), which in 0..6_usize, at in any::<prop::sample::Index>()) {
        let check = |input: &[u8]| {
            if let Ok(out) = normalize(input, &Limits::default()) {
                assert!(matches!(normalize(&out, &Limits::default()), Ok(Cow::Borrowed(_))));
            }
        };
        check(&bytes);
        // The same with a good message around the noise.
        let at = at.index(SAMPLES[which].len());
        let mut message = SAMPLES[which].clone();
        message.splice(at..at, bytes.drain(..));
        check(&message);
        message = SAMPLES[which].clone();
        message[at] ^= 0xa0;
        check(&message);
    }
}
