//! Challenge blobs whose plaintext is not what it must be.

use super::challenge::forged;
use super::world::{self, HOUR, NOW, edit, oid, parts, with_another, without};
use super::{Book, Row, Stage};
use scep_challenge::{ApprovalMode, ChallengeClaims, DemandUsages, Purpose, Renewal, Sid};
use scep_types::tlv::{self, tag};
use scep_types::{GeneralName, KeyAlgorithm, Reason};

const BASE: &str = "good-p256";
const EXPECTATION: usize = 12;
/// The user that the vectors' SIDs name.
const SID: &str = "S-1-5-21-1004336348-1177238915-682003330-1105";

pub(super) fn sid() -> Sid {
    SID.parse().expect("a SID")
}

pub(super) fn add(book: &mut Book) {
    good(book);
    let plain = world::claims().to_der().expect("claims");
    let changed =
        |path: &[usize], change: &dyn Fn(&[u8]) -> Vec<u8>| forged(&edit(&plain, path, change));
    let unread = (Stage::ChallengeOpen, Reason::ChallengeDeserializationError);
    let mut bad = |name: &str, about: &str, row: u8, body: Vec<u8>| {
        book.bad((name, BASE), unread, about, &[Row::Attack(row)], body);
    };
    let int = |n: u64| move |_: &[u8]| tlv::small_int(n);

    bad("claims-version-2", "claims of version 2", 20, changed(&[0], &int(2)));
    bad("claims-version-0", "claims of version 0", 20, changed(&[0], &int(0)));
    bad("claims-empty", "no plaintext", 28, forged(&[]));
    bad("claims-trailing", "an octet after the claims", 28, forged(&[&plain[..], &[0]].concat()));
    let unknown = changed(&[], &|claims| with_another(claims, &[tag::NULL, 0]));
    bad("claims-unknown-field", "a field after the last one", 28, unknown);
    let unknown = changed(&[EXPECTATION], &|claims| with_another(claims, &[tag::NULL, 0]));
    bad("expectation-unknown-field", "a field after the expectation's last one", 28, unknown);
    for (name, at) in [
        ("claims-without-challenge-id", 1),
        ("claims-without-tenant", 2),
        ("claims-without-issuer-key", 3),
        ("claims-without-audience", 4),
        ("claims-without-recipient-key", 5),
        ("claims-without-issued-at", 9),
        ("claims-without-expires-at", 10),
        ("claims-without-purpose", 11),
        ("claims-without-expectation", EXPECTATION),
    ] {
        bad(name, "a mandatory field left out", 18, changed(&[], &|claims| without(claims, at)));
    }
    let empty = |at: usize| changed(&[at], &|field| tlv::encode(field[0], &[]));
    bad("claims-tenant-empty", "an empty tenant", 18, empty(2));
    bad("claims-audience-empty", "an empty audience", 18, empty(4));
    let twice = changed(&[10], &|field| [field, field].concat());
    bad("claims-field-twice", "expiresAt twice", 28, twice);
    let padded = changed(&[9], &|n| tlv::encode(tag::INTEGER, &[&[0], &n[2..]].concat()));
    bad("claims-integer-padded", "a number with a leading zero octet", 28, padded);
    let text = changed(&[9], &|_| tlv::encode(tag::UTF8_STRING, b"1795507200"));
    bad("claims-number-as-text", "a number as a string", 28, text);
    let overlong = changed(&[2], &|_| tlv::encode(tag::UTF8_STRING, b"contos\xc1\xaf"));
    bad("claims-utf8-overlong", "an over-long UTF-8 sequence", 28, overlong);
    let printable =
        changed(&[EXPECTATION, 0, 2, 0, 1], &|s| tlv::encode(tag::PRINTABLE_STRING, &s[2..]));
    bad("claims-string-type", "a commonName as PrintableString", 28, printable);
    let explicit = changed(&[EXPECTATION, 4], &|_| vec![tag::BOOLEAN, 1, 1]);
    bad("claims-boolean", "a BOOLEAN that is neither 00 nor FF", 28, explicit);
    let purpose = changed(&[11], &|_| vec![0x0a, 1, 2]);
    bad("claims-purpose-unknown", "a purpose that is neither enrol nor renew", 28, purpose);
    let approval = changed(&[EXPECTATION, 9], &|_| vec![0x0a, 1, 2]);
    bad("claims-approval-unknown", "an approval that is unknown", 28, approval);
    let id = changed(&[1], &|id| tlv::encode(id[0], &id[2..17]));
    bad("claims-short-challenge-id", "a challengeId of 15 octets", 28, id);

    let validity = changed(&[EXPECTATION, 6], &int(0));
    bad("claims-validity-zero", "a validity of no time", 29, validity);
    let validity = changed(&[EXPECTATION, 6], &int(315_360_001));
    bad("claims-validity-too-long", "a validity of ten years and a second", 29, validity);
    let weak = changed(&[EXPECTATION, 5, 0], &int(1024));
    bad("claims-weak-key-allowed", "RSA of 1,024 bits allowed", 20, weak);
    let none = changed(&[EXPECTATION, 5], &|list| tlv::encode(list[0], &[]));
    bad("claims-no-key-allowed", "no key algorithm allowed", 18, none);
    let nameless = changed(&[EXPECTATION], &|expectation| {
        let mut fields = parts(expectation);
        fields[0] = vec![tag::SEQUENCE, 0];
        fields[1] = vec![tag::SEQUENCE, 0];
        tlv::encode(tag::SEQUENCE, &fields.concat())
    });
    bad("claims-nameless", "neither a subject nor a subjectAltName", 18, nameless);
    let twice = changed(&[EXPECTATION, 1], &|names| with_another(names, &parts(names)[0]));
    bad("claims-name-twice", "a subjectAltName twice", 28, twice);
    let extension = |dotted: &str, value: &[u8]| {
        let one = tlv::sequence(&[&tlv::oid(&oid(dotted)), &tlv::encode(tag::OCTET_STRING, value)]);
        changed(&[EXPECTATION, 7], &|_| tlv::encode(tag::SEQUENCE, &one))
    };
    let about = "a basicConstraints to be copied into the certificate";
    bad("claims-basic-constraints", about, 43, extension("2.5.29.19", &[0x30, 3, 1, 1, 0xff]));
    let about = "application policies to be copied into the certificate";
    bad("claims-application-policies", about, 41, extension("1.3.6.1.4.1.311.21.10", &[0x30, 0]));
    let other: Sid = SID.replace("1105", "1106").parse().expect("a SID");
    let uri = |text: &str| GeneralName::Uri(text.to_owned()).to_der();
    let sid_uri = format!("TAG:microsoft.com,2022-09-14:sid:{SID}");
    let lookalike = changed(&[EXPECTATION, 1], &|names| with_another(names, &uri(&sid_uri)));
    bad("claims-sid-lookalike", "a URI that resembles a SID's", 42, lookalike);
    let differ = edit(&everything().to_der().expect("claims"), &[EXPECTATION, 1, 2], &|_| {
        other.to_uri().expect("a URI").to_der()
    });
    let about = "the URI names another SID than the extension beside it";
    let name = ("claims-sids-differ", "good-everything");
    book.bad(name, unread, about, &[Row::Attack(42)], forged(&differ));

    let times = (Stage::ChallengeOpen, Reason::ChallengeInvalidTimestamp);
    let seconds = u64::try_from(NOW.seconds()).expect("after 1970");
    let about = "expiresAt is issuedAt";
    let body = changed(&[10], &int(seconds));
    book.bad(("claims-no-lifetime", BASE), times, about, &[Row::Attack(19)], body);
    let about = "expiresAt is before issuedAt";
    let body = changed(&[10], &int(seconds - 1));
    book.bad(("claims-end-before-begin", BASE), times, about, &[Row::Attack(19)], body);
}

fn everything() -> ChallengeClaims {
    let mut claims = world::claims();
    let expectation = &mut claims.expectation;
    claims.purpose = Purpose::Renew;
    expectation.demand_usages = DemandUsages::Yes;
    expectation.key_algorithms =
        vec![KeyAlgorithm::P256, KeyAlgorithm::P384, KeyAlgorithm::Rsa(3072)];
    expectation.spki_hash = Some(world::DEVICE.public_key().hash());
    expectation.extensions = vec![sid().to_extension()];
    expectation.subject_alt_names.push(sid().to_uri().expect("a URI"));
    expectation.renewal = Renewal::Certificate { window: 24 * HOUR };
    expectation.approval = ApprovalMode::Manual;
    claims
}

fn good(book: &mut Book) {
    let body = forged(&everything().to_der().expect("claims"));
    let about = "every optional field, and every choice's other side";
    book.good("good-everything", about, &[Row::Quirk(40)], body);
    let mut sparse = world::claims();
    sparse.user = None;
    sparse.expectation.subject_alt_names.clear();
    let body = forged(&sparse.to_der().expect("claims"));
    book.good("good-without-user", "no user and no subjectAltNames", &[], body);
}
