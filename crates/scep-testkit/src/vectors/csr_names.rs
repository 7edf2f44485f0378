//! Requests for another name than the challenge's.

use super::csr::{BASE, C, CN, O, bmp, dn, every_name, name, string, subject};
use super::draft::{Draft, SUBJECT_ALT_NAME, changed};
use super::world::oid;
use super::{Book, Row, Stage, claims};
use scep_types::tlv::{self, tag};
use scep_types::{GeneralName, Reason};

pub(super) fn add(book: &mut Book) {
    subjects(book);
    strings(book);
    extra_names(book);
    other_names(book);
    sids(book);
}

const fn decided(reason: Reason) -> (Stage, Reason) {
    (Stage::Decide, reason)
}

fn subjects(book: &mut Book) {
    let mismatch = decided(Reason::SubjectNameMismatch);
    for (name, row, about, text) in [
        ("other-common-name", 1, "another commonName", "C=CH, O=Example, CN=device-2"),
        (
            "common-name-in-capitals",
            31,
            "the commonName in capitals",
            "C=CH, O=Example, CN=DEVICE-1",
        ),
        (
            "common-name-longer",
            31,
            "a blank after the commonName",
            r"C=CH, O=Example, CN=device-1\ ",
        ),
        (
            "second-common-name",
            31,
            "a second commonName",
            "C=CH, O=Example, CN=device-1, CN=administrator",
        ),
        (
            "common-name-before",
            31,
            "a commonName before",
            "C=CH, O=Example, CN=administrator, CN=device-1",
        ),
        (
            "common-name-twice",
            31,
            "the commonName twice",
            "C=CH, O=Example, CN=device-1, CN=device-1",
        ),
        (
            "extra-organisational-unit",
            31,
            "an organizationalUnitName more",
            "C=CH, O=Example, OU=Admins, CN=device-1",
        ),
        (
            "extra-serial-number",
            31,
            "a serialNumber more",
            "C=CH, O=Example, CN=device-1, serialNumber=1",
        ),
        (
            "extra-email-address",
            31,
            "an emailAddress more",
            "C=CH, O=Example, CN=device-1, emailAddress=a@example.org",
        ),
        ("extra-user-id", 31, "a UID more", "C=CH, O=Example, CN=device-1, UID=root"),
        (
            "extra-domain-component",
            31,
            "a domainComponent more",
            "DC=org, C=CH, O=Example, CN=device-1",
        ),
        ("organisation-missing", 31, "without the organizationName", "C=CH, CN=device-1"),
        ("other-organisation", 31, "another organizationName", "C=CH, O=Other, CN=device-1"),
        ("subject-reversed", 31, "the RDNs in reverse order", "CN=device-1, O=Example, C=CH"),
        ("subject-in-one-rdn", 31, "all attributes in one RDN", "C=CH+O=Example+CN=device-1"),
        ("two-attributes-in-one-rdn", 31, "O and CN in one RDN", "C=CH, O=Example+CN=device-1"),
        (
            "extra-in-the-rdn",
            31,
            "a title in the commonName's RDN",
            "C=CH, O=Example, CN=device-1+title=Admin",
        ),
        (
            "surname-for-common-name",
            31,
            "a surname for the commonName",
            "C=CH, O=Example, SN=device-1",
        ),
        (
            "subject-as-text",
            32,
            "the whole name, rendered, as commonName",
            r"CN=C\=CH\, O\=Example\, CN\=device-1",
        ),
        ("comma-in-value", 32, "what was two RDNs in one value", r"C=CH, O=Example\, CN\=device-1"),
    ] {
        let body = changed(|draft| draft.subject = dn(text).to_der());
        book.bad((name, BASE), mismatch, about, &[Row::Attack(row)], body);
    }
    // As text, these are equal to what the challenge says.
    let escaped = Draft::expecting("good-escaped-comma", |claims| {
        claims.expectation.subject = dn(r"O=Example, CN=a\,OU\=b");
    });
    let about = "a comma and an equals sign in a value";
    book.good("good-escaped-comma", about, &[Row::Attack(32)], escaped.der());
    let mut split = Draft::expecting("good-escaped-comma", |claims| {
        claims.expectation.subject = dn(r"O=Example, CN=a\,OU\=b");
    });
    split.subject = dn("O=Example, CN=a, OU=b").to_der();
    let about = "the escaped comma as a separator";
    book.bad(
        ("comma-unescaped", "good-escaped-comma"),
        mismatch,
        about,
        &[Row::Attack(32)],
        split.der(),
    );

    let body = changed(|draft| draft.subject = vec![tag::SEQUENCE, 0]);
    let missing = decided(Reason::SubjectNameMissing);
    book.bad(("subject-empty", BASE), missing, "an empty subject", &[Row::Attack(31)], body);
    let unread = (Stage::CsrParse, Reason::CertificateRequestDecodingFailed);
    let body = changed(|draft| {
        draft.subject = name(&[
            &[(C, string(tag::PRINTABLE_STRING, "CH"))],
            &[],
            &[(O, string(tag::UTF8_STRING, "Example"))],
            &[(CN, string(tag::UTF8_STRING, "device-1"))],
        ]);
    });
    book.bad(
        ("empty-rdn", BASE),
        unread,
        "an RDN without attributes more",
        &[Row::Attack(31)],
        body,
    );
    let body = changed(|draft| {
        let one = (CN, string(tag::UTF8_STRING, "device-1"));
        draft.subject = name(&[
            &[(C, string(tag::PRINTABLE_STRING, "CH"))],
            &[(O, string(tag::UTF8_STRING, "Example"))],
            &[one.clone(), one],
        ]);
    });
    let about = "the commonName twice in its RDN";
    book.bad(("attribute-twice-in-rdn", BASE), unread, about, &[Row::Attack(31)], body);
}

fn strings(book: &mut Book) {
    let rows = [Row::Attack(33)];
    let with = |common_name: Vec<u8>| {
        changed(move |draft| {
            let country = string(tag::PRINTABLE_STRING, "CH");
            draft.subject = subject(country, string(tag::UTF8_STRING, "Example"), common_name);
        })
    };
    let unread = (Stage::CsrParse, Reason::CertificateRequestDecodingFailed);
    let utf8 = |octets: &[u8]| tlv::encode(tag::UTF8_STRING, octets);
    for (name, about, value) in [
        (
            "subject-bmp",
            "the commonName as BMPString, where names may not have it",
            bmp("device-1"),
        ),
        ("subject-t61", "the commonName as T61String", string(tag::T61_STRING, "device-1")),
        (
            "subject-universal",
            "the commonName as UniversalString",
            tlv::encode(tag::UNIVERSAL_STRING, b"\0\0\0d"),
        ),
        ("subject-octets", "the commonName as OCTET STRING", string(tag::OCTET_STRING, "device-1")),
        ("subject-nul", "a NUL in the commonName", utf8(b"device-1\0.example.org")),
        ("subject-control", "a line feed in the commonName", utf8(b"device-1\n")),
        ("subject-overlong-utf8", "over-long UTF-8 in the commonName", utf8(b"device\xc0\xad1")),
        ("subject-latin1", "Latin-1 in a UTF8String", utf8(b"d\xe9vice-1")),
        ("subject-bidi", "a bidirectional override", utf8("device-1\u{202e}".as_bytes())),
        ("subject-zero-width", "a zero-width space", utf8("dev\u{200b}ice-1".as_bytes())),
        ("subject-value-empty", "an empty commonName", utf8(b"")),
        ("subject-value-too-long", "a commonName of 1,025 octets", utf8(&[b'a'; 1025])),
        (
            "subject-not-printable",
            "an @ in a PrintableString",
            string(tag::PRINTABLE_STRING, "d@1"),
        ),
        (
            "subject-not-ia5",
            "an octet beyond ASCII in an IA5String",
            tlv::encode(tag::IA5_STRING, b"d\xe9"),
        ),
    ] {
        book.bad((name, BASE), unread, about, &rows, with(value));
    }
    let mismatch = decided(Reason::SubjectNameMismatch);
    for (name, about, value) in [
        ("subject-homoglyph", "a Cyrillic letter that looks like the Latin one", "d\u{435}vice-1"),
        ("subject-wide", "a full-width digit", "device-\u{ff11}"),
        // BMP octets typed as another string would read as this.
        ("subject-no-break-space", "a no-break space more", "device-1\u{a0}"),
    ] {
        book.bad((name, BASE), mismatch, about, &rows, with(utf8(value.as_bytes())));
    }
    let composed = |value: &'static str| {
        let mut draft = Draft::expecting("good-composed", |claims| {
            claims.expectation.subject = dn("O=Example, CN=Zo\u{eb}");
        });
        draft.subject = dn(&format!("O=Example, CN={value}")).to_der();
        draft.der()
    };
    book.good("good-composed", "a composed letter", &rows, composed("Zo\u{eb}"));
    let about = "the same letter decomposed (NFD for NFC)";
    let body = composed("Zoe\u{308}");
    book.bad(("subject-decomposed", "good-composed"), mismatch, about, &rows, body);
}

/// A name more than the challenge has, of every kind.
fn extra_names(book: &mut Book) {
    let rows = [Row::Attack(30)];
    let mismatch = decided(Reason::SubjectAltNameMismatch);
    let text = |tag: u8, text: &str| tlv::encode(tag, text.as_bytes());
    let upn = GeneralName::upn("administrator@example.org").expect("a name").to_der();
    let other = GeneralName::Other(oid("1.3.6.1.5.5.7.8.4"), vec![tag::SEQUENCE, 0]).to_der();
    let extra: [(&str, &str, Vec<u8>); 12] = [
        ("extra-upn", "a userPrincipalName more", upn),
        ("extra-other-name", "a hardwareModuleName more", other),
        ("extra-email", "an rfc822Name more", text(0x81, "admin@example.org")),
        ("extra-dns", "a dNSName more", text(0x82, "dc01.example.org")),
        ("extra-dns-wildcard", "a wildcard more", text(0x82, "*.example.org")),
        ("extra-x400", "an x400Address more", tlv::encode(0xa3, &[tag::SEQUENCE, 0])),
        (
            "extra-directory",
            "a directoryName more",
            GeneralName::Directory(dn("CN=administrator")).to_der(),
        ),
        (
            "extra-edi-party",
            "an ediPartyName more",
            tlv::encode(0xa5, &tlv::encode(0xa1, b"\x0c\x01a")),
        ),
        ("extra-uri", "a URI more", text(0x86, "https://example.org/admin")),
        ("extra-ip", "an iPAddress more", tlv::encode(0x87, &[192, 0, 2, 9])),
        ("extra-ip6", "an iPAddress of 16 octets more", tlv::encode(0x87, &[0xfd; 16])),
        ("extra-registered-id", "a registeredID more", tlv::encode(0x88, &[0x2a, 3, 4])),
    ];
    for (name, about, der) in extra {
        let body = changed(|draft| {
            let names = GeneralName::list_to_der(&draft.claims.expectation.subject_alt_names);
            draft.value(SUBJECT_ALT_NAME, super::world::with_another(&names, &der));
        });
        book.bad((name, BASE), mismatch, about, &rows, body);
    }
    let unread = (Stage::CsrParse, Reason::CertificateRequestDecodingFailed);
    let malformed: [(&str, &str, Vec<u8>); 7] = [
        ("name-of-unknown-kind", "a [9] among the names", vec![0x89, 1, b'a']),
        ("name-nul-in-dns", "a NUL in a dNSName", text(0x82, "a.example.org\0.evil.org")),
        ("name-not-ascii", "a dNSName beyond ASCII", text(0x82, "ä.example.org")),
        ("name-blank-in-dns", "a blank in a dNSName", text(0x82, "a b.example.org")),
        ("name-ip-of-five-octets", "an iPAddress of 5 octets", tlv::encode(0x87, &[1; 5])),
        ("name-email-without-at", "an rfc822Name without an @", text(0x81, "example.org")),
        (
            "name-other-with-two-values",
            "an otherName with two values",
            tlv::construct(
                0xa0,
                &[&tlv::oid(&GeneralName::UPN), &tlv::encode(0xa0, &[5, 0, 5, 0])],
            ),
        ),
    ];
    for (name, about, der) in malformed {
        let body = changed(|draft| {
            let names = GeneralName::list_to_der(&draft.claims.expectation.subject_alt_names);
            draft.value(SUBJECT_ALT_NAME, super::world::with_another(&names, &der));
        });
        book.bad((name, BASE), unread, about, &rows, body);
    }
    let body = changed(|draft| draft.value(SUBJECT_ALT_NAME, vec![tag::SEQUENCE, 0]));
    let about = "a subjectAltName without names";
    book.bad(("names-empty", BASE), unread, about, &rows, body);
}

/// Every kind, changed and missing.
fn other_names(book: &mut Book) {
    const EVERY: &str = "good-every-name";
    let rows = [Row::Attack(30)];
    let mismatch = decided(Reason::SubjectAltNameMismatch);
    let kinds: [(&str, GeneralName); 8] = [
        ("dns", GeneralName::Dns("device-2.example.org".into())),
        ("upn", GeneralName::upn("device-2@example.org").expect("a name")),
        ("email", GeneralName::Email("Ada@example.org".into())),
        ("uri", GeneralName::Uri("https://example.org/devices/2".into())),
        ("ip", GeneralName::Ip(vec![192, 0, 2, 2])),
        ("directory", GeneralName::Directory(dn("CN=device-1, O=Example"))),
        ("registered-id", GeneralName::RegisteredId(oid("1.3.6.1.4.1.99999.2"))),
        ("other-name", GeneralName::Other(oid("1.3.6.1.5.5.7.8.4"), vec![tag::NULL, 0])),
    ];
    for (at, (kind, other)) in kinds.into_iter().enumerate() {
        let mut draft = every_name();
        let mut names = draft.claims.expectation.subject_alt_names.clone();
        names[at] = other;
        draft.names(&names);
        let (name, about) = (format!("changed-{kind}"), format!("another {kind} name"));
        book.bad((&name, EVERY), mismatch, &about, &rows, draft.der());
        let mut draft = every_name();
        names = draft.claims.expectation.subject_alt_names.clone();
        names.remove(at);
        draft.names(&names);
        let (name, about) = (format!("missing-{kind}"), format!("without the {kind} name"));
        book.bad((&name, EVERY), mismatch, &about, &rows, draft.der());
    }
    let body = changed(|draft| {
        let mut names = draft.claims.expectation.subject_alt_names.clone();
        names.push(names[0].clone());
        draft.names(&names);
    });
    book.bad(("name-twice", BASE), mismatch, "the dNSName twice", &rows, body);
    let body = changed(|draft| {
        let mut names = draft.claims.expectation.subject_alt_names.clone();
        names[0] = GeneralName::Email("device-1.example.org@".into());
        draft.names(&names);
    });
    let about = "an rfc822Name for the dNSName";
    book.bad(("name-of-another-kind", BASE), mismatch, about, &rows, body);
    let body = changed(|draft| {
        let mut names = draft.claims.expectation.subject_alt_names.clone();
        let text = tlv::encode(tag::IA5_STRING, b"device-1@example.org");
        names[1] = GeneralName::Other(GeneralName::UPN, text);
        draft.names(&names);
    });
    let about = "the userPrincipalName as IA5String";
    book.bad(("upn-of-another-type", BASE), mismatch, about, &[Row::Attack(33)], body);
    let body = changed(|draft| draft.drop_extension(SUBJECT_ALT_NAME));
    let missing = decided(Reason::SubjectAltNameMissing);
    book.bad(("names-missing", BASE), missing, "without subjectAltNames", &rows, body);
}

fn sids(book: &mut Book) {
    let rows = [Row::Attack(42), Row::Quirk(40)];
    let mismatch = decided(Reason::SubjectAltNameMismatch);
    let admin = claims::sid().as_str().replace("1105", "500");
    for (name, about, uri) in [
        (
            "sid-uri",
            "the administrator's SID in a URI",
            format!("tag:microsoft.com,2022-09-14:sid:{admin}"),
        ),
        (
            "sid-uri-capitals",
            "such a URI in other case",
            format!("TAG:Microsoft.com,2022-09-14:SID:{admin}"),
        ),
        (
            "sid-uri-percent",
            "such a URI, percent-encoded",
            format!("%74ag:microsoft.com,2022-09-14:sid:{admin}"),
        ),
    ] {
        let body = changed(|draft| {
            let mut names = draft.claims.expectation.subject_alt_names.clone();
            names.push(GeneralName::Uri(uri.clone()));
            draft.names(&names);
        });
        book.bad((name, BASE), mismatch, about, &rows, body);
    }
    let mut draft = Draft::expecting("good-sid-uri", |claims| {
        let uri = claims::sid().to_uri().expect("a URI");
        claims.expectation.subject_alt_names.push(uri);
    });
    let mut names = draft.claims.expectation.subject_alt_names.clone();
    names[2] = GeneralName::Uri(format!("tag:microsoft.com,2022-09-14:sid:{admin}"));
    draft.names(&names);
    let about = "the administrator's SID for the user's";
    book.bad(("sid-uri-changed", "good-sid-uri"), mismatch, about, &rows, draft.der());
}
