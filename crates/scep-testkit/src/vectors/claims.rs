//! Challenge blobs whose plaintext is not what it must be.

use super::challenge::forged;
use super::world::{self, HOUR, NOW, doubled, edit, oid, parts, with_another, without};
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
    let full = everything().to_der().expect("claims");
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
    let number = changed(&[9], &|_| tlv::encode(tag::UTF8_STRING, b"1795507200"));
    bad("claims-number-as-text", "a number as a string", 28, number);
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
    let text = |text: &'static [u8]| move |_: &[u8]| tlv::encode(tag::UTF8_STRING, text);
    let blank = changed(&[7], &text(b"device 1"));
    bad("claims-id-with-blank", "a blank in the device's id", 28, blank);
    let path = changed(&[7], &text(b"../device-1"));
    bad("claims-id-with-slash", "a slash in the device's id", 51, path);
    let long = changed(&[2], &text(&[b'a'; 65]));
    bad("claims-tenant-too-long", "a tenant of 65 characters", 29, long);
    let user = changed(&[8], &|user| tlv::encode(user[0], &[]));
    bad("claims-user-empty", "an empty user", 28, user);
    let negative = changed(&[9], &|_| vec![tag::INTEGER, 1, 0xff]);
    bad("claims-negative-time", "an issuedAt before 1970", 19, negative);
    let late = changed(&[10], &int(253_402_300_800));
    bad("claims-year-10000", "an expiresAt in the year 10000", 19, late);
    let no_usage = changed(&[EXPECTATION, 2], &|_| vec![tag::BIT_STRING, 1, 0]);
    bad("claims-no-key-usage", "a keyUsage without a bit", 39, no_usage);
    let no_purpose = changed(&[EXPECTATION, 3], &|_| vec![tag::SEQUENCE, 0]);
    bad("claims-no-purpose", "no extended key usage", 40, no_purpose);
    let two = changed(&[EXPECTATION, 3], &doubled);
    bad("claims-purpose-twice", "an extended key usage twice", 40, two);
    let unsorted = changed(&[EXPECTATION, 3], &|purposes| {
        let any = tlv::oid(&oid("1.3.6.1.4.1.311.20.2.2"));
        tlv::encode(tag::SEQUENCE, &[any, parts(purposes).concat()].concat())
    });
    bad("claims-purposes-unsorted", "another extended key usage, out of order", 28, unsorted);
    let twice = changed(&[EXPECTATION, 5], &doubled);
    bad("claims-key-algorithm-twice", "the key algorithms twice", 28, twice);
    let curve = changed(&[EXPECTATION, 5, 1], &|_| tlv::oid(&oid("1.3.132.0.10")));
    bad("claims-curve-unknown", "secp256k1 allowed", 44, curve);
    let names: Vec<u8> =
        (0..65).flat_map(|n| tlv::encode(0x82, format!("d{n}.example.org").as_bytes())).collect();
    let many = changed(&[EXPECTATION, 1], &|_| tlv::encode(tag::SEQUENCE, &names));
    bad("claims-too-many-names", "65 subjectAltNames where 64 are the most", 29, many);
    let nul = changed(&[EXPECTATION, 1, 0], &|_| tlv::encode(0x82, b"a.example.org\0"));
    bad("claims-nul-in-name", "a NUL in a dNSName", 33, nul);
    let control = changed(&[EXPECTATION, 0, 2, 0, 1], &text(b"device-1\n"));
    bad("claims-control-in-name", "a line feed in the commonName", 33, control);
    let upn = tlv::encode(0xa0, &tlv::encode(tag::IA5_STRING, b"device-1@example.org"));
    let upn = changed(&[EXPECTATION, 1, 1, 1], &|_| upn.clone());
    bad("claims-upn-type", "a userPrincipalName as IA5String", 33, upn);
    let deep = (0..16).fold(vec![tag::NULL, 0], |inner, _| tlv::encode(tag::SEQUENCE, &inner));
    let deep = GeneralName::Other(oid("1.2.3"), deep).to_der();
    let deep = changed(&[EXPECTATION, 1, 0], &|_| deep.clone());
    bad("claims-nested-name", "an otherName 17 deep", 29, deep);
    let window = |seconds| edit(&full, &[EXPECTATION, 9], &int(seconds));
    let mut full_bad = |name: &str, about: &str, row: u8, body: Vec<u8>| {
        book.bad((name, "good-everything"), unread, about, &[Row::Attack(row)], body);
    };
    let body = forged(&window(365 * 86_400));
    full_bad("claims-window", "a renewal window as long as the validity", 18, body);
    full_bad("claims-window-zero", "a renewal window of no time", 18, forged(&window(0)));
    let critical = edit(&full, &[EXPECTATION, 8, 0], &|extension| {
        let fields = parts(extension);
        tlv::sequence(&[&fields[0], &[tag::BOOLEAN, 1, 0xff], &fields[1]])
    });
    full_bad("claims-sid-critical", "a critical SID extension", 42, forged(&critical));
    let explicit = edit(&full, &[EXPECTATION, 8, 0], &|extension| {
        let fields = parts(extension);
        tlv::sequence(&[&fields[0], &[tag::BOOLEAN, 1, 0], &fields[1]])
    });
    full_bad("claims-sid-not-critical", "FALSE written out", 28, forged(&explicit));
    let twice = edit(&full, &[EXPECTATION, 8], &doubled);
    full_bad("claims-sid-twice", "the SID extension twice", 42, forged(&twice));
    let hash = edit(&full, &[EXPECTATION, 6], &|hash| tlv::encode(hash[0], &hash[2..33]));
    full_bad("claims-hash-short", "a key's hash of 31 octets", 44, forged(&hash));
    let mut bad = |name: &str, about: &str, row: u8, body: Vec<u8>| {
        book.bad((name, BASE), unread, about, &[Row::Attack(row)], body);
    };
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
    let differ = edit(&full, &[EXPECTATION, 1, 2], &|_| other.to_uri().expect("a URI").to_der());
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
