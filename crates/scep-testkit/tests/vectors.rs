//! The folder of vectors: each file ends as it says, none is missing, and all are what the program makes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what does not fit is a failed test"
)]

use scep_testkit::programs::available;
use scep_testkit::vectors::{Expected, Kind, Row, Stage, Vector, all, materials};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How many there are of each kind, good and bad. One that is lost is a failure, and one that is new is counted here.
const COUNTS: [(Kind, usize, usize); 3] =
    [(Kind::Challenge, 12, 148), (Kind::Csr, 47, 257), (Kind::Message, 54, 181)];

/// The attacks of which a vector tries at least one form. The others are about time and number (7, 8, 10), replies, the
/// CA, the issuer's link, or the wire.
const ATTACKS: [u8; 41] = [
    1, 2, 3, 4, 5, 6, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44,
];
/// The quirks that are seen in a request's bytes.
const QUIRKS: [u8; 20] =
    [20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Every file below the folder, by its path from there.
fn files() -> BTreeMap<String, String> {
    fn walk(folder: &Path, prefix: &str, into: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{prefix}{}", entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{path}/"), into);
            } else {
                into.insert(path, std::fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(&folder(), "", &mut files);
    files
}

/// The vectors as other implementations find them: out of the files alone.
fn read() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for (path, text) in files() {
        if !Kind::ALL.iter().any(|kind| path.starts_with(&format!("{}/", kind.name()))) {
            continue;
        }
        let vector = Vector::from_text(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(vector.path(), path);
        vectors.push(vector);
    }
    vectors
}

#[test]
fn every_vector_ends_as_it_says_and_none_is_missing() {
    let vectors = read();
    let mut wrong = Vec::new();
    for vector in &vectors {
        let (ended, why) = vector.run();
        if ended != vector.expected {
            wrong.push(format!("{}: {} expected, {ended}: {why}", vector.path(), vector.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let counts = Kind::ALL.map(|kind| {
        let of_kind = || vectors.iter().filter(|vector| vector.kind == kind);
        let good = of_kind().filter(|vector| vector.expected == Expected::Accept).count();
        (kind, good, of_kind().count() - good)
    });
    assert_eq!(counts, COUNTS);
    let bad: usize = counts.iter().map(|(_, _, bad)| bad).sum();
    assert!(bad >= 150, "{bad}");
}

#[test]
fn the_folder_is_exactly_what_the_program_makes() {
    let mut made: BTreeMap<String, String> = materials().into_iter().collect();
    let vectors = all();
    let count = vectors.len();
    made.extend(vectors.iter().map(|vector| (vector.path(), vector.to_text())));
    let mut files = files();
    assert!(files.remove("README.md").is_some(), "the folder says what it is");

    let names = |all: &BTreeMap<String, String>| all.keys().cloned().collect::<BTreeSet<_>>();
    let (found, expected) = (names(&files), names(&made));
    assert_eq!(made.len(), count + materials().len(), "two vectors of one name");
    let missing: Vec<_> = expected.difference(&found).collect();
    let strange: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && strange.is_empty(), "missing: {missing:?}, strange: {strange:?}");
    let other: Vec<_> = made.iter().filter(|(path, text)| files[*path] != **text).collect();
    let other: Vec<_> = other.iter().map(|(path, _)| path).collect();
    assert!(other.is_empty(), "README.md says how they are made anew: {other:?}");
}

#[test]
fn every_bad_one_is_a_good_one_with_one_change() {
    let vectors = read();
    let good = |kind, name: &str| {
        vectors.iter().find(|vector| {
            vector.kind == kind && vector.name == name && vector.expected == Expected::Accept
        })
    };
    let mut changes = BTreeSet::new();
    for vector in &vectors {
        let path = vector.path();
        match (&vector.expected, &vector.base) {
            (Expected::Accept, None) => assert!(vector.name.starts_with("good-"), "{path}"),
            (Expected::Refuse { .. }, Some(base)) => {
                let base = good(vector.kind, base).unwrap_or_else(|| panic!("{path}: no {base}"));
                let same = (&vector.body, vector.time, &vector.settings)
                    == (&base.body, base.time, &base.settings);
                assert!(!same, "{path} is its good one");
                assert!(!vector.rows.is_empty(), "{path} belongs nowhere");
                let change = (vector.kind, &vector.body, vector.time, &vector.settings);
                assert!(changes.insert(change), "{path}: there is another with the same octets");
            }
            (expected, base) => panic!("{path}: {expected} of {base:?}"),
        }
    }
}

#[test]
fn the_rows_and_stages_that_bytes_can_reach_have_vectors() {
    let vectors = read();
    let rows: BTreeSet<Row> = vectors.iter().flat_map(|vector| vector.rows.clone()).collect();
    for row in &rows {
        match row {
            Row::Attack(number) => assert!((1..=64).contains(number), "{row}"),
            Row::Quirk(number) => assert!((1..=58).contains(number), "{row}"),
        }
    }
    let bad: BTreeSet<Row> = vectors
        .iter()
        .filter(|vector| vector.expected != Expected::Accept)
        .flat_map(|vector| vector.rows.clone())
        .collect();
    for number in ATTACKS.into_iter().chain([45, 47, 59, 63]) {
        assert!(bad.contains(&Row::Attack(number)), "no bad vector of attack {number}");
    }
    let good: BTreeSet<Row> = vectors
        .iter()
        .filter(|vector| vector.expected == Expected::Accept)
        .flat_map(|vector| vector.rows.clone())
        .collect();
    for number in QUIRKS.into_iter().chain([40, 46]) {
        assert!(good.contains(&Row::Quirk(number)), "no good vector of quirk {number}");
    }
    for stage in Stage::ALL {
        let refused = vectors.iter().any(
            |vector| matches!(&vector.expected, Expected::Refuse { stage: at, .. } if *at == stage),
        );
        assert!(refused, "nothing is refused at {stage}");
    }
}

#[test]
fn every_key_says_that_it_is_a_test_key() {
    let files = files();
    let keys: Vec<_> = files.iter().filter(|(path, _)| path.starts_with("keys/")).collect();
    assert!(!keys.is_empty());
    for (path, text) in keys {
        assert!(text.contains("must be used for nothing else"), "{path}");
    }
    for vector in read() {
        for key in &vector.keys {
            assert!(files.contains_key(&format!("keys/{key}")), "{}: no {key}", vector.path());
        }
    }
}

#[test]
fn the_readme_explains_every_field_stage_setting_and_key() {
    let files = files();
    let readme = &files["README.md"];
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for (path, text) in &files {
        if !path.ends_with(".txt") {
            continue;
        }
        for line in text.lines().take_while(|line| !line.is_empty()) {
            let (field, value) = line.split_once(": ").unwrap();
            wanted.insert(field.to_owned());
            if ["Kind", "Expected", "Stage", "Settings", "Keys"].contains(&field) {
                wanted.extend(value.split(", ").map(str::to_owned));
            }
        }
    }
    wanted.extend(files.keys().filter_map(|path| path.strip_prefix("keys/").map(str::to_owned)));
    let missing: Vec<_> =
        wanted.iter().filter(|word| !readme.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What OpenSSL does not read, though devices send it.
const OPENSSL_REFUSES: [(&str, &str); 3] = [
    ("good-issuer-reversed", "the recipient's issuer has to be octet by octet the certificate's"),
    ("good-oaep-bare", "OAEP without parameters is not read as OAEP with SHA-1"),
    ("good-unsorted", "signed attributes are verified as they were sent"),
];

/// What it did and said: whether it succeeded, standard output, and both streams as text.
struct Said {
    ok: bool,
    out: Vec<u8>,
    text: String,
}

fn openssl(arguments: &[&str], input: &[u8]) -> Said {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may stop reading early: that shows in what it says.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Said { ok: output.status.success(), out: output.stdout, text }
}

/// Whether a request is signed by its own key. The exit code has not always said so; the words have.
fn openssl_proves(der: &[u8]) -> bool {
    openssl(&["req", "-inform", "DER", "-verify", "-noout"], der).text.contains("verify OK")
}

/// What is in a message's envelope, as OpenSSL reads it.
fn openssl_opens(message: &[u8]) -> Result<Vec<u8>, String> {
    let verified = openssl(&["cms", "-verify", "-inform", "DER", "-noverify", "-binary"], message);
    if !verified.ok {
        return Err(verified.text);
    }
    let key = folder().join("keys/ra-rsa2048.pem").into_os_string().into_string().unwrap();
    let certificate = folder().join("keys/ra-rsa2048.crt").into_os_string().into_string().unwrap();
    let arguments =
        ["cms", "-decrypt", "-inform", "DER", "-binary", "-inkey", &key, "-recip", &certificate];
    let opened = openssl(&arguments, &verified.out);
    if opened.ok { Ok(opened.out) } else { Err(opened.text) }
}

#[test]
fn openssl_reads_the_good_requests_and_messages() {
    if !available("openssl", "openssl_reads_the_good_requests_and_messages") {
        return;
    }
    let mut refused = BTreeSet::new();
    for vector in read().iter().filter(|vector| vector.expected == Expected::Accept) {
        let path = vector.path();
        match vector.kind {
            Kind::Challenge => {}
            Kind::Csr => assert!(openssl_proves(&vector.body), "{path}"),
            Kind::Message => match openssl_opens(&vector.body) {
                Ok(plain) => {
                    let no_request = ["good-cert-poll", "good-get-cert", "good-get-crl"];
                    let proven = no_request.contains(&&*vector.name) || openssl_proves(&plain);
                    assert!(proven, "{path}");
                }
                Err(why) => {
                    let known = OPENSSL_REFUSES.iter().any(|(name, _)| *name == vector.name);
                    assert!(known, "{path}: {why}");
                    refused.insert(vector.name.clone());
                }
            },
        }
    }
    let expected: BTreeSet<String> =
        OPENSSL_REFUSES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(refused, expected, "what it refuses is listed, and nothing else is");
}

#[test]
fn openssl_finds_no_proof_of_possession_where_there_is_none() {
    if !available("openssl", "openssl_finds_no_proof_of_possession_where_there_is_none") {
        return;
    }
    for vector in read() {
        if let Expected::Refuse { stage: Stage::CsrProof, .. } = vector.expected
            && vector.kind == Kind::Csr
        {
            assert!(!openssl_proves(&vector.body), "{}", vector.path());
        }
    }
}
