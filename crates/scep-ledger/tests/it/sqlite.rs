//! The suite against SQLite, and what only SQLite has.

use crate::suite;
use crate::support::Backend;
use scep_ledger::{Ledger, LedgerError, LedgerSettings};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Sqlite(TempDir);

impl Sqlite {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap().join("ledger.sqlite")
    }

    fn try_open(&self) -> Result<Ledger, LedgerError> {
        Ledger::open_sqlite(&self.path(), LedgerSettings::default())
    }
}

impl Backend for Sqlite {
    fn open_with(&self, settings: LedgerSettings) -> Ledger {
        opened(&self.path(), settings)
    }
}

/// Opens it, as soon as it is free: a process that another test is starting has this one's files for an instant, and with
/// them a lock that was let go here.
pub(crate) fn opened(path: &Path, settings: LedgerSettings) -> Ledger {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match Ledger::open_sqlite(path, settings) {
            Err(LedgerError::InUse { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result.unwrap(),
        }
    }
}

suite::ledger_suite!(Sqlite::new());

macro_rules! revocations {
    ($backend:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                crate::revocation::$name(&$backend).await;
            }
        )*
    };
}
use revocations;
crate::revocation::every_revocation! { self::revocations, Sqlite::new() }

macro_rules! held_requests {
    ($backend:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                crate::held::$name(&$backend).await;
            }
        )*
    };
}
use held_requests;
crate::held::every_held! { self::held_requests, Sqlite::new() }

macro_rules! renewals {
    ($backend:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                crate::renewal::$name(&$backend).await;
            }
        )*
    };
}
use renewals;
crate::renewal::every_renewal! { self::renewals, Sqlite::new() }

/// Makes a ledger of the second schema out of one of the third that has nothing of the third's in it: the table of uses as
/// it was then, and nothing that came later.
const TO_SECOND_SCHEMA: &str = "
CREATE TABLE enrolment_old (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),
    tenant TEXT NOT NULL,
    challenge BLOB NOT NULL CHECK (length(challenge) = 16),
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    device TEXT NOT NULL,
    profile TEXT NOT NULL,
    user TEXT,
    audience TEXT NOT NULL,
    info_hash BLOB NOT NULL CHECK (length(info_hash) = 32),
    spki BLOB NOT NULL,
    spki_hash BLOB NOT NULL CHECK (length(spki_hash) = 32),
    signer BLOB NOT NULL CHECK (length(signer) = 32),
    transaction_id TEXT NOT NULL,
    serial BLOB,
    expected BLOB NOT NULL,
    admitted_at INTEGER NOT NULL,
    settled_at INTEGER,
    certificate INTEGER REFERENCES certificate (id),
    breaches INTEGER NOT NULL DEFAULT 0,
    CHECK ((state IN (3, 4)) = (certificate IS NOT NULL))
) STRICT;
INSERT INTO enrolment_old SELECT id, state, tenant, challenge, issued_at, expires_at, device, profile, user, audience,
    info_hash, spki, spki_hash, signer, transaction_id, serial, expected, admitted_at, settled_at, certificate, breaches
    FROM enrolment;
DELETE FROM sqlite_sequence WHERE name = 'enrolment_old';
INSERT INTO sqlite_sequence (name, seq) SELECT 'enrolment_old', seq FROM sqlite_sequence WHERE name = 'enrolment';
DROP TABLE asked_again;
DROP TABLE held;
DROP TABLE enrolment;
ALTER TABLE enrolment_old RENAME TO enrolment;
CREATE UNIQUE INDEX enrolment_use ON enrolment (tenant, challenge) WHERE state <> 5;
CREATE INDEX enrolment_info ON enrolment (info_hash);
CREATE INDEX enrolment_pending ON enrolment (spki_hash) WHERE state <= 2;
CREATE INDEX enrolment_expiry ON enrolment (expires_at);
DROP INDEX certificate_successor;
DROP INDEX revocation_certificate;
ALTER TABLE certificate DROP COLUMN authority;
ALTER TABLE certificate DROP COLUMN generation;
ALTER TABLE certificate DROP COLUMN predecessor;
ALTER TABLE certificate DROP COLUMN renewable_by;
DELETE FROM schema_version WHERE version > 2;
";

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_the_second_schema_goes_on() {
    let place = Sqlite::new();
    crate::held::of_every_old_state(&place, || {
        let database = rusqlite::Connection::open(place.path()).unwrap();
        // The last one: its number must not be given again.
        database.execute("DELETE FROM enrolment WHERE state = 5", []).unwrap();
        database.execute_batch(TO_SECOND_SCHEMA).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_03_a_successor_on_record_counts_without_its_use() {
    let place = Sqlite::new();
    crate::renewal::without_its_use(&place, || {
        let database = rusqlite::Connection::open(place.path()).unwrap();
        database.execute("DELETE FROM enrolment", []).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_a_ledger_of_the_first_schema_can_be_revoked() {
    let place = Sqlite::new();
    let ledger = place.open();
    let certificate =
        crate::support::enrolment(1, "device-1", 1).enrol(&ledger, crate::support::NOW).await;
    drop(ledger);
    // What the later steps have made is taken away.
    let database = rusqlite::Connection::open(place.path()).unwrap();
    database.execute_batch(TO_SECOND_SCHEMA).unwrap();
    database
        .execute_batch(
            "DROP TABLE certificate_name; DROP TABLE revocation; DROP TABLE revocation_brake; \
             DROP TABLE crl; DROP INDEX certificate_live; DELETE FROM schema_version WHERE version > 1;",
        )
        .unwrap();
    drop(database);
    let order = scep_ledger::RevocationOrder {
        issuer: scep_types::NameHash::of(certificate.issuer_der()),
        serial: certificate.serial().unwrap(),
        reason: scep_ledger::RevocationReason::Superseded,
        by: scep_ledger::OrderedBy::Operator("alice".into()),
    };
    let outcome = place.open().queue_revocation(order, crate::support::NOW).await;
    assert_eq!(outcome, Ok(scep_ledger::QueueOutcome::Queued));
}

#[test]
fn a_second_gateway_is_refused() {
    let place = Sqlite::new();
    let first = place.open();
    let in_use = LedgerError::InUse { path: place.path() };
    assert_eq!(place.try_open().unwrap_err(), in_use);
    // By another name of the file too.
    #[cfg(unix)]
    {
        let alias = place.path().with_file_name("alias");
        std::os::unix::fs::symlink(place.path(), &alias).unwrap();
        let error = Ledger::open_sqlite(&alias, LedgerSettings::default()).unwrap_err();
        assert_eq!(error, in_use);
    }
    let clone = first.clone();
    drop(first);
    assert_eq!(place.try_open().unwrap_err(), in_use);
    let id = clone.id();
    drop(clone);
    assert_eq!(place.open().id(), id);
}

#[test]
fn two_ledgers_have_two_ids() {
    assert_ne!(Sqlite::new().open().id(), Sqlite::new().open().id());
}

#[test]
fn a_newer_schema_is_refused() {
    let place = Sqlite::new();
    drop(place.open());
    let database = rusqlite::Connection::open(place.path()).unwrap();
    database.execute("INSERT INTO schema_version (version) VALUES (1000)", []).unwrap();
    drop(database);
    let error = LedgerError::SchemaNewer { found: 1000, known: 3 };
    assert_eq!(place.try_open().unwrap_err(), error);
}

#[test]
fn what_is_no_ledger_is_refused_and_left_as_it_is() {
    let place = Sqlite::new();
    let path = place.path();
    let refused = LedgerError::NotALedger { path: path.clone() };
    for (text, make) in [
        ("text", None),
        ("another program's database", Some("CREATE TABLE guests (name TEXT)")),
        ("another application's empty database", Some("PRAGMA application_id = 7")),
    ] {
        let _ = std::fs::remove_file(&path);
        match make {
            Some(sql) => {
                rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
            }
            None => std::fs::write(
                &path,
                "not a database, but long enough to be read as one ".repeat(20),
            )
            .unwrap(),
        }
        private(&path);
        let before = std::fs::read(&path).unwrap();
        assert_eq!(place.try_open().unwrap_err(), refused, "{text}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{text}");
    }
}

fn private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn others_may_not_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Sqlite::new();
    let ledger = place.open();
    let mut files = 0;
    for file in std::fs::read_dir(place.0.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
        files += 1;
    }
    // Database, log, index of the log, lock.
    assert_eq!(files, 4);
    drop(ledger);
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = LedgerError::FileMode { path: place.path(), mode: 0o640 };
    assert_eq!(place.try_open().unwrap_err(), error);
}

#[test]
fn a_missing_directory_is_named() {
    let place = Sqlite::new();
    let path = place.path().join("ledger");
    let error = Ledger::open_sqlite(&path, LedgerSettings::default()).unwrap_err();
    let kind = std::io::ErrorKind::NotFound;
    assert_eq!(error, LedgerError::File { action: "open", path, kind });
}
