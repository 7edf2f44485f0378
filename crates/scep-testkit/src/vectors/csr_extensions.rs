//! Requests for other usages, and for extensions that no challenge names.

use super::csr::{BASE, bmp};
use super::draft::{Draft, EXTENDED_KEY_USAGE, KEY_USAGE, changed, extension};
use super::{Book, Row, Stage, claims};
use scep_challenge::{DemandUsages, Sid};
use scep_pkcs10::RequestedExtension;
use scep_types::tlv::{self, tag};
use scep_types::{ExtendedKeyUsages, KeyUsages, Reason};

pub(super) fn add(book: &mut Book) {
    key_usages(book);
    extended(book);
    others(book);
    sids(book);
}

fn key_usages(book: &mut Book) {
    let rows = [Row::Attack(39)];
    let mismatch = (Stage::Decide, Reason::KeyUsageMismatch);
    for (name, about, names) in [
        ("key-usage-less", "without keyEncipherment", &["digitalSignature"][..]),
        (
            "key-usage-other",
            "keyAgreement for keyEncipherment",
            &["digitalSignature", "keyAgreement"],
        ),
        (
            "key-usage-non-repudiation",
            "nonRepudiation more",
            &["digitalSignature", "keyEncipherment", "nonRepudiation"],
        ),
        (
            "key-usage-key-cert-sign",
            "keyCertSign more",
            &["digitalSignature", "keyEncipherment", "keyCertSign"],
        ),
        ("key-usage-crl-sign", "cRLSign more", &["digitalSignature", "keyEncipherment", "cRLSign"]),
        (
            "key-usage-decipher-only",
            "decipherOnly more, in a second octet",
            &["digitalSignature", "keyEncipherment", "decipherOnly"],
        ),
    ] {
        let usages = KeyUsages::from_names(names.iter().copied()).expect("usages");
        let body = changed(|draft| draft.value(KEY_USAGE, usages.to_der()));
        book.bad((name, BASE), mismatch, about, &rows, body);
    }
    let mut draft = demanded();
    draft.drop_extension(KEY_USAGE);
    let about = "without keyUsage, which the challenge demands";
    book.bad(("key-usage-missing", "good-usages-demanded"), mismatch, about, &rows, draft.der());
}

fn demanded() -> Draft {
    Draft::expecting("good-usages-demanded", |claims| {
        claims.expectation.demand_usages = DemandUsages::Yes;
    })
}

fn extended(book: &mut Book) {
    let rows = [Row::Attack(40)];
    let mismatch = (Stage::Decide, Reason::EnhancedKeyUsageMismatch);
    for (name, about, purposes) in [
        ("extended-any", "anyExtendedKeyUsage more", &["clientAuth", "anyExtendedKeyUsage"][..]),
        ("extended-ocsp-signing", "OCSPSigning more", &["clientAuth", "OCSPSigning"]),
        ("extended-smartcard-logon", "smartcardLogon more", &["clientAuth", "smartcardLogon"]),
        (
            "extended-request-agent",
            "certificateRequestAgent more",
            &["clientAuth", "certificateRequestAgent"],
        ),
        ("extended-server-auth", "serverAuth more", &["clientAuth", "serverAuth"]),
        ("extended-code-signing", "codeSigning more", &["clientAuth", "codeSigning"]),
        ("extended-other", "serverAuth for clientAuth", &["serverAuth"]),
        ("extended-any-alone", "anyExtendedKeyUsage for clientAuth", &["anyExtendedKeyUsage"]),
    ] {
        let oids = purposes.iter().map(|name| ExtendedKeyUsages::purpose(name).expect("a purpose"));
        let usages = ExtendedKeyUsages::new(oids.collect()).expect("usages");
        let body = changed(|draft| draft.value(EXTENDED_KEY_USAGE, usages.to_der()));
        book.bad((name, BASE), mismatch, about, &rows, body);
    }
    let twice = changed(|draft| {
        let one = tlv::oid(&ExtendedKeyUsages::purpose("clientAuth").expect("a purpose"));
        draft.value(EXTENDED_KEY_USAGE, tlv::sequence(&[&one, &one]));
    });
    let unread = (Stage::CsrParse, Reason::CertificateRequestDecodingFailed);
    book.bad(("extended-twice", BASE), unread, "clientAuth twice", &rows, twice);
    for (name, about, drop_it) in [
        ("extended-missing", "without extKeyUsage, which the challenge demands", true),
        ("extended-empty", "an empty extKeyUsage, where the challenge demands one", false),
    ] {
        let mut draft = demanded();
        if drop_it {
            draft.drop_extension(EXTENDED_KEY_USAGE);
        } else {
            draft.value(EXTENDED_KEY_USAGE, vec![tag::SEQUENCE, 0]);
        }
        let missing = (Stage::Decide, Reason::EnhancedKeyUsageMissing);
        book.bad((name, "good-usages-demanded"), missing, about, &rows, draft.der());
    }
}

fn others(book: &mut Book) {
    let refused = (Stage::Decide, Reason::ExtensionNotAllowed);
    let policies = tlv::sequence(&[&tlv::sequence(&[&[6, 3, 0x2a, 3, 4]])]);
    let utf8 = |text: &str| tlv::encode(tag::UTF8_STRING, text.as_bytes());
    let template = tlv::sequence(&[&[6, 3, 0x2a, 3, 4], &tlv::small_int(100), &tlv::small_int(1)]);
    let url = tlv::encode(0x86, b"http://example.org/");
    let point = tlv::sequence(&[&tlv::encode(0xa0, &tlv::encode(0xa0, &url))]);
    let access = tlv::sequence(&[&tlv::sequence(&[
        &[6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1],
        &tlv::encode(0x86, b"http://example.org/"),
    ])]);
    let dns = tlv::sequence(&[&tlv::encode(0x82, b"example.org")]);
    let constraints = tlv::sequence(&[&tlv::encode(0xa0, &dns)]);
    let extra: Vec<(&str, &str, u8, RequestedExtension)> = vec![
        (
            "template-name",
            "a certificate template by name",
            38,
            extension("1.3.6.1.4.1.311.20.2", &bmp("SubCA")),
        ),
        (
            "template-id",
            "a certificate template by id",
            38,
            extension("1.3.6.1.4.1.311.21.7", &template),
        ),
        (
            "application-policies",
            "application policies",
            41,
            extension("1.3.6.1.4.1.311.21.10", &policies),
        ),
        (
            "ca-true",
            "basicConstraints with cA TRUE",
            43,
            extension("2.5.29.19", &[0x30, 3, 1, 1, 0xff]),
        ),
        (
            "ca-false-path-length",
            "basicConstraints with a pathLenConstraint",
            43,
            extension("2.5.29.19", &[0x30, 3, 2, 1, 0]),
        ),
        (
            "ca-false-explicit",
            "basicConstraints with cA FALSE written out",
            43,
            extension("2.5.29.19", &[0x30, 3, 1, 1, 0]),
        ),
        ("name-constraints", "nameConstraints", 43, extension("2.5.29.30", &constraints)),
        ("certificate-policies", "certificatePolicies", 43, extension("2.5.29.32", &policies)),
        (
            "policy-constraints",
            "policyConstraints",
            43,
            extension("2.5.29.36", &[0x30, 3, 0x80, 1, 0]),
        ),
        (
            "crl-distribution-points",
            "cRLDistributionPoints",
            43,
            extension("2.5.29.31", &tlv::sequence(&[&point])),
        ),
        (
            "authority-info-access",
            "authorityInfoAccess",
            43,
            extension("1.3.6.1.5.5.7.1.1", &access),
        ),
        (
            "authority-key-identifier",
            "authorityKeyIdentifier",
            43,
            extension("2.5.29.35", &[0x30, 0]),
        ),
        ("issuer-alt-name", "issuerAltName", 43, extension("2.5.29.18", &dns)),
        (
            "subject-key-identifier-malformed",
            "a subjectKeyIdentifier that is none",
            43,
            extension("2.5.29.14", &utf8("x")),
        ),
        ("tls-feature", "a TLS feature", 41, extension("1.3.6.1.5.5.7.1.24", &[0x30, 3, 2, 1, 5])),
        ("ocsp-no-check", "id-pkix-ocsp-nocheck", 40, extension("1.3.6.1.5.5.7.48.1.5", &[5, 0])),
        (
            "netscape-type",
            "a Netscape certificate type",
            41,
            extension("2.16.840.1.113730.1.1", &[3, 2, 0, 7]),
        ),
        ("unknown-extension", "an extension that is unknown", 41, extension("1.2.3.4", &[5, 0])),
        (
            "unknown-critical-extension",
            "a critical extension that is unknown",
            41,
            RequestedExtension { critical: true, ..extension("1.2.3.4", &[5, 0]) },
        ),
    ];
    for (name, about, row, extra) in extra {
        let body = changed(|draft| draft.extensions.push(extra));
        book.bad((name, BASE), refused, about, &[Row::Attack(row)], body);
    }
}

fn sids(book: &mut Book) {
    const BASE_SID: &str = "good-sid-extension";
    let rows = [Row::Attack(42), Row::Quirk(40)];
    let refused = (Stage::Decide, Reason::ExtensionNotAllowed);
    let requested = |sid: &Sid| extension("1.3.6.1.4.1.311.25.2", &sid.to_extension().value);
    let admin: Sid = claims::sid().as_str().replace("1105", "500").parse().expect("a SID");
    let body = changed(|draft| draft.extensions.push(requested(&admin)));
    let about = "the administrator's SID, where the challenge names none";
    book.bad(("sid-extension", BASE), refused, about, &rows, body);
    let with_sid = || {
        Draft::expecting(BASE_SID, |claims| {
            claims.expectation.extensions.push(claims::sid().to_extension());
        })
    };
    let mut draft = with_sid();
    draft.extensions[3] = requested(&admin);
    let about = "the administrator's SID for the user's";
    book.bad(("sid-extension-changed", BASE_SID), refused, about, &rows, draft.der());
    let mut draft = with_sid();
    draft.extensions[3].critical = true;
    book.bad(
        ("sid-extension-critical", BASE_SID),
        refused,
        "the extension critical",
        &rows,
        draft.der(),
    );
    let mut draft = with_sid();
    draft.extensions.push(draft.extensions[3].clone());
    let twice = (Stage::CsrParse, Reason::ExtensionNotAllowed);
    book.bad(("sid-extension-twice", BASE_SID), twice, "the extension twice", &rows, draft.der());
}
