//! Requests that are not strict DER, are ambiguous, or have their challenge wrong.

use super::csr::{BASE, string, windows_attributes};
use super::draft::{
    CHALLENGE_PASSWORD, Draft, EXTENDED_KEY_USAGE, EXTENSION_REQUEST, KEY_USAGE, SUBJECT_ALT_NAME,
    changed, extension, printable,
};
use super::world::{doubled, edit, oid, parts, with_another, without};
use super::{Book, Row, Setting, Stage};
use scep_pkcs10::danger::{attribute, extension_request};
use scep_types::tlv::{self, tag};
use scep_types::{ObjectIdentifier, Reason};

const UNREAD: (Stage, Reason) = (Stage::CsrParse, Reason::CertificateRequestDecodingFailed);

pub(super) fn add(book: &mut Book) {
    encoding(book);
    challenges(book);
    twice(book);
    attributes(book);
    sizes(book);
}

/// The good one's DER with one change, and the signature over what was there before: reading fails first.
fn reworked(path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    edit(&Draft::good().der(), path, change)
}

fn encoding(book: &mut Book) {
    let rows = [Row::Attack(34)];
    let mut bad = |name: &str, about: &str, body: Vec<u8>| {
        book.bad((name, BASE), UNREAD, about, &rows, body);
    };
    let good = Draft::good().der();
    bad("empty", "nothing", Vec::new());
    bad("octet-after", "an octet after the request", [&good[..], &[0]].concat());
    bad("octet-missing", "the last octet missing", good[..good.len() - 1].to_vec());
    assert_eq!(good[..2], [0x30, 0x82]);
    let indefinite = [&[0x30, 0x80][..], &good[4..], &[0, 0]].concat();
    bad("indefinite-length", "an indefinite length", indefinite);
    let long = [&[0x30, 0x83, 0][..], &good[2..]].concat();
    bad("length-not-minimal", "a length with a leading zero octet", long);
    let set = [&[0x31][..], &good[1..]].concat();
    bad("set-for-sequence", "a SET where a SEQUENCE is due", set);
    bad("version-1", "version 1", changed(|draft| draft.version = tlv::small_int(1)));
    bad("version-padded", "version 0 in two octets", changed(|d| d.version = vec![2, 2, 0, 0]));
    bad("version-negative", "a negative version", changed(|d| d.version = vec![2, 1, 0xff]));
    bad(
        "field-after-signature",
        "a NULL after the signature",
        reworked(&[], &|request| with_another(request, &[tag::NULL, 0])),
    );
    bad(
        "field-after-attributes",
        "a NULL after the attributes",
        reworked(&[0], &|info| with_another(info, &[tag::NULL, 0])),
    );
    let no_attributes = reworked(&[0], &|info| without(info, 3));
    bad("attributes-left-out", "the attributes' [0] left out", no_attributes);
    let unused = reworked(&[2], &|bits| {
        let mut bits = bits.to_vec();
        let header = bits.len() - 257;
        bits[header] = 1;
        bits
    });
    bad("signature-unused-bits", "a signature with an unused bit", unused);
    // An arc that starts with 0x80: keyUsage to a lenient reader, something unknown to another.
    let padded_oid = |oid: &[u8]| [&[6, 4, 0x55, 0x80][..], &oid[3..]].concat();
    let key_usage = changed(|draft| {
        draft.rework(EXTENSION_REQUEST, move |request| edit(request, &[1, 0, 1, 0], &padded_oid));
    });
    bad("oid-arc-padded", "keyUsage's OID with a padded arc", key_usage);
    let explicit = |flag: &'static [u8]| {
        changed(move |draft| {
            draft.rework(EXTENSION_REQUEST, move |request| {
                edit(request, &[1, 0, 2], &|extension| {
                    let fields = parts(extension);
                    tlv::sequence(&[&fields[0], flag, &fields[1]])
                })
            });
        })
    };
    bad("critical-false", "critical FALSE written out", explicit(&[tag::BOOLEAN, 1, 0]));
    bad("critical-one", "a BOOLEAN of 01", explicit(&[tag::BOOLEAN, 1, 1]));
    bad("critical-long", "a BOOLEAN of two octets", explicit(&[tag::BOOLEAN, 2, 0xff, 0xff]));
    let bits = changed(|draft| {
        draft.rework(EXTENSION_REQUEST, |request| {
            edit(request, &[1, 0, 0, 1], &|value| [&[tag::BIT_STRING], &value[1..]].concat())
        });
    });
    bad("extension-value-bit-string", "an extnValue as BIT STRING", bits);
    let list = changed(|draft| {
        draft.rework(EXTENSION_REQUEST, |request| {
            edit(request, &[1], &|values| [&[tag::SEQUENCE], &values[1..]].concat())
        });
    });
    bad("attribute-values-in-a-sequence", "an attribute's values in a SEQUENCE", list);
    let more = changed(|draft| {
        draft.rework(EXTENSION_REQUEST, |request| with_another(request, &[tag::NULL, 0]));
    });
    bad("field-after-attribute-values", "a NULL after an attribute's values", more);
    let more = changed(|draft| {
        draft.rework(EXTENSION_REQUEST, |request| {
            edit(request, &[1, 0, 0], &|extension| with_another(extension, &[tag::NULL, 0]))
        });
    });
    bad("field-after-extension-value", "a NULL after an extension's value", more);
    for (name, about, which) in [
        ("names-trailing", "a NULL after the subjectAltName's value", SUBJECT_ALT_NAME),
        ("extended-trailing", "a NULL after the extKeyUsage's value", EXTENDED_KEY_USAGE),
    ] {
        let body = changed(|draft| {
            let found = draft.extensions.iter().find(|extension| extension.oid == which);
            let value = found.expect("an extension").value.clone();
            draft.value(which, [&value[..], &[tag::NULL, 0]].concat());
        });
        bad(name, about, body);
    }
    let no_key = reworked(&[0], &|info| without(info, 2));
    bad("key-left-out", "without a key", no_key);
    let trailing = changed(|draft| draft.value(KEY_USAGE, vec![3, 2, 5, 0xa0, 5, 0]));
    bad("key-usage-trailing", "a NULL after the keyUsage's value", trailing);
    let bits = changed(|draft| draft.value(KEY_USAGE, vec![3, 2, 0, 0xa0]));
    bad("key-usage-zero-bits", "a keyUsage with zero bits at its end", bits);
    let empty = changed(|draft| draft.value(KEY_USAGE, vec![3, 1, 0]));
    bad("key-usage-empty", "a keyUsage without a bit", empty);
    let no_list = changed(|draft| {
        draft.rework(EXTENSION_REQUEST, |_| attribute(&EXTENSION_REQUEST, &[&[tag::SET, 0]]));
    });
    bad("extensions-in-a-set", "a SET where the extensions' SEQUENCE is due", no_list);
}

fn challenges(book: &mut Book) {
    let wrapped = |wrap| changed(|draft| draft.challenge = wrap);
    let missing = (Stage::ChallengeOpen, Reason::ChallengePasswordMissing);
    let rows = [Row::Attack(4), Row::Quirk(36)];
    for (name, about, body) in [
        ("no-challenge", "no challengePassword", wrapped(|_| Vec::new())),
        (
            "challenge-empty",
            "an empty challengePassword",
            wrapped(|_| vec![string(tag::PRINTABLE_STRING, "")]),
        ),
        (
            "challenge-blank",
            "a challengePassword of blanks",
            wrapped(|_| vec![string(tag::UTF8_STRING, " \t ")]),
        ),
        (
            "challenge-nul",
            "a challengePassword of NULs",
            wrapped(|_| vec![string(tag::UTF8_STRING, "\0\0")]),
        ),
    ] {
        book.bad((name, BASE), missing, about, &rows, body);
    }
    let password = (Stage::ChallengeOpen, Reason::ChallengeDecodingError);
    let body = wrapped(|_| vec![string(tag::PRINTABLE_STRING, "a static password")]);
    let about = "a password of the old kind";
    book.bad(("challenge-static-password", BASE), password, about, &[Row::Attack(5)], body);
    let unreadable = (Stage::CsrParse, Reason::ChallengeDecodingError);
    let rows = [Row::Attack(6), Row::Quirk(36)];
    for (name, about, body) in [
        (
            "challenge-integer",
            "a challengePassword that is an INTEGER",
            wrapped(|blob| vec![string(tag::INTEGER, blob)]),
        ),
        (
            "challenge-sequence",
            "a challengePassword inside a SEQUENCE",
            wrapped(|blob| vec![tlv::sequence(&[&string(tag::PRINTABLE_STRING, blob)])]),
        ),
        (
            "challenge-bmp-odd",
            "a BMPString of an odd number of octets",
            wrapped(|blob| vec![string(tag::BMP_STRING, &blob[..blob.len() - 1])]),
        ),
        (
            "challenge-not-printable",
            "a PrintableString with an @",
            wrapped(|blob| vec![string(tag::PRINTABLE_STRING, &format!("@{}", &blob[1..]))]),
        ),
        (
            "challenge-not-utf8",
            "a UTF8String that is not UTF-8",
            wrapped(|blob| {
                vec![tlv::encode(tag::UTF8_STRING, &[&[0xff], &blob.as_bytes()[1..]].concat())]
            }),
        ),
    ] {
        book.bad((name, BASE), unreadable, about, &rows, body);
    }
    let long = wrapped(|_| vec![string(tag::PRINTABLE_STRING, &"A".repeat(16 * 1024 + 1))]);
    let about = "a challengePassword of 16,385 octets where 16,384 are the most";
    book.bad(("challenge-too-long", BASE), unreadable, about, &[Row::Attack(29)], long);

    let two = (Stage::CsrParse, Reason::AttributeNotAllowed);
    let rows = [Row::Attack(6), Row::Quirk(36)];
    let body = wrapped(|blob| [printable(blob), printable(blob)].concat());
    book.bad(("challenge-two-values", BASE), two, "the challenge as two values", &rows, body);
    let body = changed(|draft| {
        let blob = draft.blob();
        draft.attributes.push(attribute(&CHALLENGE_PASSWORD, &[&printable(&blob)[0]]));
    });
    let about = "the same challengePassword attribute twice";
    book.bad(("challenge-twice", BASE), two, about, &rows, body);
    let body = changed(|draft| {
        draft.rework(CHALLENGE_PASSWORD, |_| attribute(&CHALLENGE_PASSWORD, &[]));
    });
    let about = "a challengePassword without a value";
    book.bad(("challenge-without-value", BASE), two, about, &rows, body);
}

fn twice(book: &mut Book) {
    let rows = [Row::Attack(35)];
    let not_allowed = (Stage::CsrParse, Reason::ExtensionNotAllowed);
    let body = changed(|draft| {
        draft.attributes.push(extension_request(&draft.extensions));
    });
    let about = "the same extensionRequest twice";
    book.bad(("extension-request-twice", BASE), not_allowed, about, &rows, body);
    let body = changed(|draft| {
        let admin = tlv::sequence(&[&tlv::encode(0x82, b"dc01.example.org")]);
        draft.attributes.push(extension_request(&[extension("2.5.29.17", &admin)]));
    });
    let about = "a second extensionRequest, with another subjectAltName";
    book.bad(("extension-request-second", BASE), not_allowed, about, &rows, body);
    let body = changed(|draft| draft.extensions.push(draft.extensions[0].clone()));
    let about = "the same subjectAltName extension twice";
    book.bad(("subject-alt-name-twice", BASE), not_allowed, about, &rows, body);
    let body = changed(|draft| draft.extensions.push(draft.extensions[1].clone()));
    book.bad(("key-usage-twice", BASE), not_allowed, "the same keyUsage twice", &rows, body);
    let values = (Stage::CsrParse, Reason::AttributeNotAllowed);
    let body = changed(|draft| {
        draft.rework(EXTENSION_REQUEST, |request| edit(request, &[1], &doubled));
    });
    let about = "an extensionRequest with its value twice";
    book.bad(("extension-request-two-values", BASE), values, about, &rows, body);
    let body = changed(|draft| {
        draft.rework(EXTENSION_REQUEST, |_| attribute(&EXTENSION_REQUEST, &[]));
    });
    let about = "an extensionRequest without a value";
    book.bad(("extension-request-without-value", BASE), values, about, &rows, body);
    let body = changed(|draft| {
        let [provider, ..] = windows_attributes();
        draft.attributes.extend([provider.clone(), provider]);
    });
    let about = "an attribute that is without effect, twice";
    book.bad(("inert-attribute-twice", "good-windows"), values, about, &rows, body);
}

fn attributes(book: &mut Book) {
    let names = tlv::sequence(&[&tlv::encode(0x82, b"dc01.example.org")]);
    let list = tlv::sequence(&[&extension("2.5.29.17", &names).to_der()]);
    let twin = |value: Vec<u8>| {
        changed(move |draft| {
            draft.attributes.push(attribute(&oid("1.3.6.1.4.1.311.2.1.14"), &[&value]));
        })
    };
    let rows = [Row::Attack(36)];
    let second = (Stage::CsrParse, Reason::ExtensionNotAllowed);
    let about = "szOID_CERT_EXTENSIONS with another subjectAltName";
    book.bad(("twin-extensions", BASE), second, about, &rows, twin(list));
    let about = "szOID_CERT_EXTENSIONS without an extension";
    let body = twin(vec![tag::SEQUENCE, 0]);
    book.bad(("twin-extensions-empty", BASE), second, about, &rows, body);
    let body = changed(|draft| {
        draft.rework(EXTENSION_REQUEST, |request| {
            edit(request, &[0], &|_| tlv::oid(&oid("1.3.6.1.4.1.311.2.1.14")))
        });
    });
    let about = "szOID_CERT_EXTENSIONS in the place of extensionRequest";
    book.bad(("twin-extensions-alone", BASE), second, about, &rows, body);

    let rows = [Row::Attack(37)];
    let refused = (Stage::CsrParse, Reason::AttributeNotAllowed);
    for (name, about, key, value) in [
        ("name-value-template", "a template by name and value", "CertificateTemplate", "SubCA"),
        (
            "name-value-san",
            "a subjectAltName by name and value",
            "SAN",
            "upn=administrator@example.org",
        ),
        ("name-value-validity", "a validity by name and value", "ValidityPeriod", "Years"),
    ] {
        let body = changed(|draft| {
            let pair = tlv::sequence(&[&super::csr::bmp(key), &super::csr::bmp(value)]);
            draft.attributes.push(attribute(&oid("1.3.6.1.4.1.311.13.2.1"), &[&pair]));
        });
        book.bad((name, BASE), refused, about, &rows, body);
    }
    let unknown: [(&str, &str, ObjectIdentifier); 3] = [
        ("attribute-unknown", "an attribute that is unknown", oid("1.2.3.4")),
        ("attribute-unstructured-name", "an unstructuredName", oid("1.2.840.113549.1.9.2")),
        ("attribute-content-type", "a contentType", oid("1.2.840.113549.1.9.3")),
    ];
    for (name, about, dotted) in unknown {
        let body = changed(|draft| {
            draft.attributes.push(attribute(&dotted, &[&string(tag::PRINTABLE_STRING, "x")]));
        });
        let decided = (Stage::Decide, Reason::AttributeNotAllowed);
        book.bad((name, BASE), decided, about, &rows, body);
    }
    let body = changed(|draft| draft.attributes.extend(windows_attributes()));
    let decided = (Stage::Decide, Reason::AttributeNotAllowed);
    let about = "the good one, where what is without effect is refused";
    book.bad(("windows-where-refused", "good-windows"), decided, about, &rows, body)
        .with(Setting::RefuseInert);
    let body = changed(|draft| draft.extensions.push(extension("2.5.29.19", &[tag::SEQUENCE, 0])));
    let decided = (Stage::Decide, Reason::ExtensionNotAllowed);
    let name = ("basic-constraints-where-refused", "good-basic-constraints");
    book.bad(name, decided, about, &[Row::Attack(43)], body).with(Setting::RefuseInert);
}

fn sizes(book: &mut Book) {
    let rows = [Row::Attack(29), Row::Attack(59)];
    let body = changed(|draft| {
        let filler = vec![b'x'; 64 * 1024];
        let value = tlv::encode(tag::UTF8_STRING, &filler);
        draft.attributes.push(attribute(&oid("1.2.840.113549.1.9.20"), &[&value]));
    });
    let about = "more than 65,536 octets, by a long friendlyName";
    book.bad(("too-large", BASE), UNREAD, about, &rows, body);
    let number = |n: u32| ObjectIdentifier::new(&format!("1.2.3.{n}")).expect("an OID");
    let body = changed(|draft| {
        draft.attributes.extend((0..15).map(|n| attribute(&number(n), &[&[tag::NULL, 0]])));
    });
    let about = "17 attributes where 16 are the most";
    book.bad(("too-many-attributes", BASE), UNREAD, about, &rows, body);
    let body = changed(|draft| {
        for n in 0..30 {
            draft.extensions.push(extension(&format!("1.2.3.{n}"), &[tag::NULL, 0]));
        }
    });
    let about = "33 extensions where 32 are the most";
    book.bad(("too-many-extensions", BASE), UNREAD, about, &rows, body);
    let body = changed(|draft| {
        let one = |n: u8| super::csr::dn(&format!("OU={n}")).to_der()[2..].to_vec();
        let all: Vec<u8> = (0..33).flat_map(one).collect();
        draft.subject = tlv::encode(tag::SEQUENCE, &all);
    });
    let about = "33 RDNs where 32 are the most";
    book.bad(("too-many-rdns", BASE), UNREAD, about, &rows, body);
    let body = changed(|draft| {
        let one = |n: u8| {
            let value = string(tag::UTF8_STRING, &n.to_string());
            tlv::sequence(&[&tlv::oid(&oid("2.5.4.11")), &value])
        };
        let all: Vec<u8> = (0..9).flat_map(one).collect();
        draft.subject = tlv::encode(tag::SEQUENCE, &tlv::encode(tag::SET, &all));
    });
    let about = "nine attributes in an RDN where eight are the most";
    book.bad(("too-many-attributes-in-rdn", BASE), UNREAD, about, &rows, body);
    let body = changed(|draft| {
        let names: Vec<Vec<u8>> = (0..65)
            .map(|n| tlv::encode(0x82, format!("host-{n}.example.org").as_bytes()))
            .collect();
        draft.value(SUBJECT_ALT_NAME, tlv::encode(tag::SEQUENCE, &names.concat()));
    });
    let about = "65 subjectAltNames where 64 are the most";
    book.bad(("too-many-names", BASE), UNREAD, about, &rows, body);
}
