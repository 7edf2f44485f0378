//! Good requests: as devices make them, each with what is particular about it.

use super::draft::{Draft, EXTENDED_KEY_USAGE, KEY_USAGE, changed, extension};
use super::world::{self, DEVICE_EC, oid};
use super::{Book, Kind, Row, Setting, Vector};
use super::{claims, csr_extensions, csr_form, csr_keys, csr_names, csr_policy};
use scep_challenge::{DemandUsages, Purpose};
use scep_pkcs10::danger::attribute;
use scep_types::tlv::{self, tag};
use scep_types::{DistinguishedName, GeneralName, SignatureScheme};

/// What most vectors change one thing of.
pub(super) const BASE: &str = "good-rsa";

pub(super) fn vectors() -> Vec<Vector> {
    let mut book = Book::new(Kind::Csr);
    plain(&mut book);
    challenges(&mut book);
    names(&mut book);
    usages(&mut book);
    inert(&mut book);
    csr_form::add(&mut book);
    csr_names::add(&mut book);
    csr_extensions::add(&mut book);
    csr_keys::add(&mut book);
    csr_policy::add(&mut book);
    book.vectors
}

/// A string of two octets a character.
pub(super) fn bmp(text: &str) -> Vec<u8> {
    let octets: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    tlv::encode(tag::BMP_STRING, &octets)
}

/// A Name of RDNs with these attributes: type, and the value's DER.
pub(super) fn name(rdns: &[&[(&str, Vec<u8>)]]) -> Vec<u8> {
    let rdns: Vec<Vec<u8>> = rdns
        .iter()
        .map(|rdn| {
            let pairs: Vec<Vec<u8>> = rdn
                .iter()
                .map(|(dotted, value)| tlv::sequence(&[&tlv::oid(&oid(dotted)), value]))
                .collect();
            tlv::encode(tag::SET, &pairs.concat())
        })
        .collect();
    tlv::encode(tag::SEQUENCE, &rdns.concat())
}

pub(super) fn string(tag: u8, text: &str) -> Vec<u8> {
    tlv::encode(tag, text.as_bytes())
}

pub(super) const CN: &str = "2.5.4.3";
pub(super) const C: &str = "2.5.4.6";
pub(super) const O: &str = "2.5.4.10";

/// The good subject with its values in these types.
pub(super) fn subject(country: Vec<u8>, organisation: Vec<u8>, common_name: Vec<u8>) -> Vec<u8> {
    name(&[&[(C, country)], &[(O, organisation)], &[(CN, common_name)]])
}

pub(super) fn dn(text: &str) -> DistinguishedName {
    text.parse().expect("a name")
}

fn plain(book: &mut Book) {
    let a45 = [Row::Attack(45)];
    book.good(BASE, "an RSA key of 2,048 bits", &[], Draft::good().der());
    let body = Draft::new("good-p256", DEVICE_EC, world::claims()).der();
    book.good("good-p256", "a key on P-256", &[], body);
    for (name, about, scheme) in [
        ("good-sha384", "signed with SHA-384", SignatureScheme::RsaPkcs1Sha384),
        ("good-sha512", "signed with SHA-512", SignatureScheme::RsaPkcs1Sha512),
    ] {
        book.good(name, about, &a45, Draft::good().scheme(scheme).der());
    }
    let body = Draft::good().scheme(SignatureScheme::RsaPkcs1Sha1).der();
    book.good("good-sha1", "signed with SHA-1", &[Row::Quirk(33)], body)
        .with(Setting::LegacyAlgorithms);
    let body = Draft::expecting("good-renewal", |claims| claims.purpose = Purpose::Renew).der();
    book.good("good-renewal", "a challenge to renew", &[Row::Attack(3)], body);
    let body = Draft::expecting("good-pinned-key", |claims| {
        claims.expectation.spki_hash = Some(world::DEVICE.public_key().hash());
    });
    let about = "a challenge that pins the key";
    book.good("good-pinned-key", about, &[Row::Attack(44)], body.der());
}

fn challenges(book: &mut Book) {
    let q = |n| [Row::Quirk(n)];
    let wrapped = |wrap| changed(|draft| draft.challenge = wrap);
    for (name, about, body) in [
        (
            "good-challenge-utf8",
            "the challenge as UTF8String",
            wrapped(|blob| vec![string(tag::UTF8_STRING, blob)]),
        ),
        (
            "good-challenge-ia5",
            "the challenge as IA5String",
            wrapped(|blob| vec![string(tag::IA5_STRING, blob)]),
        ),
        (
            "good-challenge-t61",
            "the challenge as T61String",
            wrapped(|blob| vec![string(tag::T61_STRING, blob)]),
        ),
        ("good-challenge-bmp", "the challenge as BMPString", wrapped(|blob| vec![bmp(blob)])),
        (
            "good-challenge-universal",
            "the challenge as UniversalString",
            wrapped(|blob| {
                let octets: Vec<u8> =
                    blob.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
                vec![tlv::encode(tag::UNIVERSAL_STRING, &octets)]
            }),
        ),
        (
            "good-challenge-octets",
            "the challenge as OCTET STRING",
            wrapped(|blob| vec![string(tag::OCTET_STRING, blob)]),
        ),
        (
            "good-challenge-first",
            "the challenge before the extensions, which is not DER's order",
            changed(|draft| {
                draft.rearrange(|mut attributes| {
                    attributes.reverse();
                    attributes
                });
            }),
        ),
    ] {
        book.good(name, about, &q(36), body);
    }
    for (name, about, count) in [
        ("good-challenge-of-4k", "a challenge of more than 4,096 characters", 12),
        ("good-challenge-of-8k", "a challenge of more than 8,192 characters", 30),
    ] {
        let draft = Draft::expecting(name, |claims| {
            let long = format!("{}.{}.{}", "a".repeat(60), "b".repeat(60), "c".repeat(60));
            for n in 0..count {
                let text = format!("host-{n}.{long}.example.org");
                claims.expectation.subject_alt_names.push(GeneralName::dns(&text).expect("a name"));
            }
        });
        assert!(
            draft.blob().len() > if count == 12 { 4096 } else { 8192 },
            "{}",
            draft.blob().len()
        );
        book.good(name, about, &q(37), draft.der());
    }
}

/// Every kind of name that a site can allow.
pub(super) fn every_name() -> Draft {
    Draft::expecting("good-every-name", |claims| {
        let names = &mut claims.expectation.subject_alt_names;
        names.extend([
            GeneralName::email("ada@example.org").expect("a name"),
            GeneralName::uri("https://example.org/devices/1").expect("a name"),
            GeneralName::ip([192, 0, 2, 1].into()),
            GeneralName::Directory(dn("O=Example, CN=device-1")),
            GeneralName::RegisteredId(oid("1.3.6.1.4.1.99999.1")),
            GeneralName::Other(oid("1.3.6.1.5.5.7.8.4"), vec![tag::SEQUENCE, 0]),
        ]);
    })
}

fn names(book: &mut Book) {
    let q38 = [Row::Quirk(38)];
    let draft = Draft::expecting("good-multi-valued-rdn", |claims| {
        claims.expectation.subject = dn("C=CH, O=Example, CN=device-1+serialNumber=4711");
    });
    book.good("good-multi-valued-rdn", "two attributes in one RDN", &q38, draft.der());
    let mut draft = Draft::expecting("good-multi-valued-rdn", |claims| {
        claims.expectation.subject = dn("C=CH, O=Example, CN=device-1+serialNumber=4711");
    });
    let serial = string(tag::PRINTABLE_STRING, "4711");
    draft.subject = name(&[
        &[(C, string(tag::PRINTABLE_STRING, "CH"))],
        &[(O, string(tag::UTF8_STRING, "Example"))],
        &[("2.5.4.5", serial), (CN, string(tag::UTF8_STRING, "device-1"))],
    ]);
    let about = "two attributes in one RDN, not in DER's order";
    book.good("good-multi-valued-rdn-unsorted", about, &q38, draft.der());
    for (name, about, text) in [
        (
            "good-router",
            "serialNumber, unstructuredName and unstructuredAddress, as routers have them",
            "serialNumber=FTX1234, unstructuredName=router-1.example.org, unstructuredAddress=192.0.2.1",
        ),
        ("good-email-address", "an emailAddress", "CN=Ada Lovelace, emailAddress=ada@example.org"),
        (
            "good-escapes",
            "characters that a rendered name escapes",
            r#"O=Example\, Inc., CN=\#a\+b\;c\=\"d\" \ "#,
        ),
        (
            "good-two-organisational-units",
            "an attribute type twice",
            "O=Example, OU=a, OU=b, CN=device-1",
        ),
        ("good-not-ascii", "letters beyond ASCII", "O=Zürich, CN=Zoë"),
    ] {
        let draft = Draft::expecting(name, |claims| claims.expectation.subject = dn(text));
        book.good(name, about, &q38, draft.der());
    }
    let q = [Row::Quirk(38), Row::Attack(33)];
    let (printable, utf8, ia5) = (tag::PRINTABLE_STRING, tag::UTF8_STRING, tag::IA5_STRING);
    for (name, about, types) in [
        ("good-subject-printable", "the subject in PrintableString", [printable; 3]),
        ("good-subject-utf8", "the subject in UTF8String, the country too", [utf8; 3]),
        ("good-subject-ia5", "the commonName as IA5String", [printable, utf8, ia5]),
    ] {
        let body = changed(|draft| {
            let [c, o, cn] = types;
            draft.subject = subject(string(c, "CH"), string(o, "Example"), string(cn, "device-1"));
        });
        book.good(name, about, &q, body);
    }
    let body = changed(|draft| {
        let (c, o) = (string(printable, "CH"), string(utf8, "Example"));
        draft.subject = subject(c, o, bmp("device-1"));
    });
    let about = "the commonName as BMPString, where names may have it";
    book.good("good-subject-bmp", about, &q, body).with(Setting::BmpNames);
    let body = changed(|draft| {
        let mut names = draft.claims.expectation.subject_alt_names.clone();
        names.reverse();
        draft.names(&names);
    });
    let rows = [Row::Attack(30)];
    book.good("good-names-in-another-order", "the subjectAltNames in another order", &rows, body);
    let body = changed(|draft| {
        let mut names = draft.claims.expectation.subject_alt_names.clone();
        names[0] = GeneralName::Dns("Device-1.EXAMPLE.org".to_owned());
        draft.names(&names);
    });
    book.good("good-dns-name-in-capitals", "a dNSName in other case", &rows, body);
    let about = "every kind of subjectAltName that a site can allow";
    book.good("good-every-name", about, &rows, every_name().der());
    let draft = Draft::expecting("good-64-names", |claims| {
        let names = (0..64).map(|n| GeneralName::dns(&format!("host-{n}.example.org")));
        claims.expectation.subject_alt_names = names.map(|name| name.expect("a name")).collect();
    });
    let about = "64 subjectAltNames, the most";
    book.good("good-64-names", about, &[Row::Attack(29)], draft.der());
    let draft = Draft::expecting("good-without-subject", |claims| {
        claims.expectation.subject = DistinguishedName::empty();
    });
    let about = "an empty subject, and a critical subjectAltName";
    book.good("good-without-subject", about, &rows, draft.der());
    let draft = Draft::expecting("good-without-names", |claims| {
        claims.expectation.subject_alt_names.clear();
    });
    let about = "no subjectAltName expected and none there, as Android's";
    book.good("good-without-names", about, &[Row::Quirk(39)], draft.der());
    for (name, about, uri, in_extension) in [
        ("good-sid-uri", "a SID in a URI", true, false),
        ("good-sid-extension", "a SID in its extension", false, true),
        ("good-sid-twice", "the same SID in a URI and in its extension", true, true),
    ] {
        let draft = Draft::expecting(name, |claims| {
            let (sid, expectation) = (claims::sid(), &mut claims.expectation);
            if uri {
                expectation.subject_alt_names.push(sid.to_uri().expect("a URI"));
            }
            if in_extension {
                expectation.extensions.push(sid.to_extension());
            }
        });
        book.good(name, about, &[Row::Quirk(40), Row::Attack(42)], draft.der());
    }
}

fn usages(book: &mut Book) {
    let q39 = [Row::Quirk(39)];
    let body = changed(|draft| draft.drop_extension(EXTENDED_KEY_USAGE));
    book.good("good-without-extended-key-usage", "no extKeyUsage", &q39, body);
    let body = changed(|draft| draft.value(EXTENDED_KEY_USAGE, vec![tag::SEQUENCE, 0]));
    book.good("good-empty-extended-key-usage", "an empty extKeyUsage", &q39, body);
    let body = changed(|draft| draft.drop_extension(KEY_USAGE));
    book.good("good-without-key-usage", "no keyUsage", &q39, body);
    let draft = Draft::expecting("good-usages-demanded", |claims| {
        claims.expectation.demand_usages = DemandUsages::Yes;
    });
    let about = "usages that the challenge demands of the request itself";
    book.good("good-usages-demanded", about, &[Row::Attack(39), Row::Attack(40)], draft.der());
    let mut draft = Draft::expecting("good-without-extensions", |claims| {
        claims.expectation.subject_alt_names.clear();
    });
    draft.extensions.clear();
    book.good("good-without-extensions", "no extensionRequest at all", &q39, draft.der());
}

/// What Windows adds: provider, version, client.
pub(super) fn windows_attributes() -> [Vec<u8>; 3] {
    let utf8 = |text: &str| string(tag::UTF8_STRING, text);
    let name = bmp("Microsoft Software Key Storage Provider");
    let provider = tlv::sequence(&[&tlv::small_int(1), &name, &tlv::whole_bits(&[])]);
    let version = string(tag::IA5_STRING, "10.0.22631.2");
    let client =
        tlv::sequence(&[&tlv::small_int(9), &utf8("host"), &utf8("SYSTEM"), &utf8("client.exe")]);
    [
        ("1.3.6.1.4.1.311.13.2.2", provider),
        ("1.3.6.1.4.1.311.13.2.3", version),
        ("1.3.6.1.4.1.311.21.20", client),
    ]
    .map(|(dotted, value)| attribute(&oid(dotted), &[&value]))
}

fn inert(book: &mut Book) {
    let rows = [Row::Attack(37)];
    let body = changed(|draft| draft.attributes.extend(windows_attributes()));
    book.good("good-windows", "the three attributes that Windows adds", &rows, body);
    let body = changed(|draft| {
        draft.attributes.push(attribute(&oid("1.2.840.113549.1.9.20"), &[&bmp("laptop")]));
    });
    book.good("good-friendly-name", "a friendlyName, as certmonger adds", &rows, body);
    let rows = [Row::Attack(43)];
    let body = changed(|draft| draft.extensions.push(extension("2.5.29.19", &[tag::SEQUENCE, 0])));
    book.good("good-basic-constraints", "an empty basicConstraints", &rows, body);
    let body = changed(|draft| {
        draft.extensions.push(extension("2.5.29.14", &[tag::OCTET_STRING, 2, 1, 2]));
    });
    book.good("good-subject-key-identifier", "a subjectKeyIdentifier", &rows, body);
}
