//! Requests that are what their challenge says, where the site's rules do not allow what it says.

use super::csr::{BASE, dn};
use super::draft::Draft;
use super::world::{HOUR, oid};
use super::{Book, Row, Stage, claims};
use scep_challenge::ChallengeClaims;
use scep_types::tlv::tag;
use scep_types::{ExtendedKeyUsages, GeneralName, KeyUsages, Reason};

fn purposes(names: &[&str]) -> ExtendedKeyUsages {
    let oids = names.iter().map(|name| ExtendedKeyUsages::purpose(name).expect("a purpose"));
    ExtendedKeyUsages::new(oids.collect()).expect("a set")
}

fn usages(names: &[&str]) -> KeyUsages {
    KeyUsages::from_names(names.iter().copied()).expect("usages")
}

fn name(claims: &mut ChallengeClaims, name: GeneralName) {
    claims.expectation.subject_alt_names.push(name);
}

type Change = fn(&mut ChallengeClaims);

pub(super) fn add(book: &mut Book) {
    let violated = (Stage::Decide, Reason::SiteRuleViolated);
    let cases: [(&str, u8, &str, Change); 19] = [
        ("site-key-cert-sign", 39, "keyCertSign", |c| {
            c.expectation.key_usage = usages(&["digitalSignature", "keyCertSign"]);
        }),
        ("site-crl-sign", 39, "cRLSign", |c| {
            c.expectation.key_usage = usages(&["digitalSignature", "cRLSign"]);
        }),
        ("site-any-purpose", 40, "anyExtendedKeyUsage", |c| {
            c.expectation.extended_key_usages = purposes(&["clientAuth", "anyExtendedKeyUsage"]);
        }),
        ("site-ocsp-signing", 40, "OCSPSigning", |c| {
            c.expectation.extended_key_usages = purposes(&["OCSPSigning"]);
        }),
        ("site-request-agent", 40, "certificateRequestAgent", |c| {
            c.expectation.extended_key_usages = purposes(&["certificateRequestAgent"]);
        }),
        ("site-dns", 47, "a dNSName outside the site's domains", |c| {
            name(c, GeneralName::dns("device-1.example.net").expect("a name"));
        }),
        ("site-dns-suffix", 47, "a dNSName that ends like the site's domain", |c| {
            name(c, GeneralName::dns("notexample.org").expect("a name"));
        }),
        ("site-wildcard", 47, "a wildcard", |c| {
            name(c, GeneralName::dns("*.example.org").expect("a name"));
        }),
        ("site-upn", 47, "a userPrincipalName outside the site's domains", |c| {
            name(c, GeneralName::upn("ada@example.net").expect("a name"));
        }),
        ("site-email", 47, "an rfc822Name outside the site's domains", |c| {
            name(c, GeneralName::email("ada@example.net").expect("a name"));
        }),
        ("site-uri", 47, "a URI outside the site's", |c| {
            name(c, GeneralName::uri("https://example.org.evil.example/").expect("a name"));
        }),
        ("site-ip", 47, "an iPAddress outside the site's networks", |c| {
            name(c, GeneralName::ip([198, 51, 100, 1].into()));
        }),
        ("site-registered-id", 47, "a registeredID that the site does not list", |c| {
            name(c, GeneralName::RegisteredId(oid("1.3.6.1.4.1.99999.2")));
        }),
        ("site-other-name", 47, "an otherName that the site does not list", |c| {
            name(c, GeneralName::Other(oid("1.2.3.4"), vec![tag::NULL, 0]));
        }),
        ("site-x400", 47, "an x400Address, which no site can allow", |c| {
            name(c, GeneralName::X400(vec![tag::SEQUENCE, 0]));
        }),
        ("site-common-name", 47, "a commonName that is a host outside the site's domains", |c| {
            c.expectation.subject = dn("C=CH, O=Example, CN=www.example.net");
        }),
        ("site-denied-name", 47, "a name that the site denies", |c| {
            c.expectation.subject = dn("C=CH, O=Example, CN=Administrator");
        }),
        ("site-validity", 29, "a validity of more than 398 days", |c| {
            c.expectation.validity = 24 * HOUR * 399;
        }),
        ("site-sid-domain", 42, "a SID of another domain", |c| {
            let sid: scep_challenge::Sid = "S-1-5-21-1-2-3-1105".parse().expect("a SID");
            c.expectation.extensions.push(sid.to_extension());
        }),
    ];
    for (name, row, about, change) in cases {
        let about = format!("{about}, in the challenge and in the request");
        let body = Draft::expecting(BASE, change).der();
        book.bad((name, BASE), violated, &about, &[Row::Attack(row)], body);
    }
    let about = "the SID of a built-in account, in the challenge and in the request";
    let body = Draft::expecting("good-sid-extension", |c| {
        let text = claims::sid().as_str().replace("1105", "500");
        let sid: scep_challenge::Sid = text.parse().expect("a SID");
        c.expectation.extensions.push(sid.to_extension());
    });
    let base = ("site-sid-built-in", "good-sid-extension");
    book.bad(base, violated, about, &[Row::Attack(42)], body.der());
}
