//! The tables, and how an older ledger becomes a newer one.

use super::engine;
use crate::LedgerError;
use rusqlite::{Connection, params};
use scep_types::{CertificateDer, NameHash};

/// "SCEP": tells a ledger from another program's database.
pub(super) const APPLICATION_ID: i64 = 0x5343_4550;

/// One step per schema version, each run once and in order. A released step is never edited.
const MIGRATIONS: &[&str] = &[V1, V2, V3];

/// The newest schema known here.
pub(super) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

const V1: &str = "
-- The ledger itself: one row.
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    ledger_id BLOB NOT NULL CHECK (length(ledger_id) = 16),
    high_water INTEGER NOT NULL,
    pruned_through INTEGER NOT NULL,
    restored_at INTEGER NOT NULL,
    last_brake_alarm INTEGER NOT NULL,
    issued INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    withheld INTEGER NOT NULL
) STRICT;

-- One row per admission: the use of a challenge and the intent to issue. Rows of freed challenges stay for a
-- while, so that a row's number never means another intent.
CREATE TABLE enrolment (
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
-- Single use: a challenge that was not freed has one row.
CREATE UNIQUE INDEX enrolment_use ON enrolment (tenant, challenge) WHERE state <> 5;
CREATE INDEX enrolment_info ON enrolment (info_hash);
-- Keys that may become certified, and what recovery looks for. Once settled, the certificate's row tells.
CREATE INDEX enrolment_pending ON enrolment (spki_hash) WHERE state <= 2;
CREATE INDEX enrolment_expiry ON enrolment (expires_at);

-- The inventory. Never pruned, and complete without the enrolments, which are.
CREATE TABLE certificate (
    id INTEGER PRIMARY KEY,
    standing INTEGER NOT NULL CHECK (standing IN (0, 1)),
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    profile TEXT NOT NULL,
    user TEXT,
    challenge BLOB NOT NULL CHECK (length(challenge) = 16),
    transaction_id TEXT NOT NULL,
    signer BLOB NOT NULL CHECK (length(signer) = 32),
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    spki_hash BLOB NOT NULL CHECK (length(spki_hash) = 32),
    der BLOB NOT NULL,
    not_after INTEGER NOT NULL,
    issued_at INTEGER NOT NULL,
    delivered INTEGER CHECK (delivered IN (0, 1)),
    delivered_at INTEGER,
    revoked_at INTEGER,
    revocation_reason INTEGER,
    CHECK ((revoked_at IS NULL) = (revocation_reason IS NULL))
) STRICT;
CREATE UNIQUE INDEX certificate_fingerprint ON certificate (fingerprint);
CREATE INDEX certificate_key ON certificate (spki_hash);

-- Denials counted against a challenge.
CREATE TABLE mismatch (
    tenant TEXT NOT NULL,
    challenge BLOB NOT NULL CHECK (length(challenge) = 16),
    count INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, challenge)
) STRICT, WITHOUT ROWID;

-- Admissions per minute, for the brake.
CREATE TABLE admission_rate (
    slot INTEGER PRIMARY KEY,
    admitted INTEGER NOT NULL
) STRICT;

-- Events for the issuer. AUTOINCREMENT: the number of an acknowledged event is not used again.
CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    tenant TEXT,
    device TEXT,
    idempotency_key TEXT NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- What the issuer has disabled: 0 device, 1 user, 2 profile.
CREATE TABLE denial (
    kind INTEGER NOT NULL CHECK (kind IN (0, 1, 2)),
    tenant TEXT NOT NULL,
    subject TEXT NOT NULL,
    denied_at INTEGER NOT NULL,
    PRIMARY KEY (kind, tenant, subject)
) STRICT, WITHOUT ROWID;

-- What operators did to the ledger.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    action TEXT NOT NULL,
    operator TEXT NOT NULL,
    old_value INTEGER NOT NULL,
    new_value INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;
";

const V2: &str = "
-- Certificates by issuer (SHA-256 of the Name) and serial number. A CA that gives a number twice is no reason to lose one.
CREATE TABLE certificate_name (
    issuer BLOB NOT NULL CHECK (length(issuer) = 32),
    serial BLOB NOT NULL,
    certificate INTEGER NOT NULL REFERENCES certificate (id),
    PRIMARY KEY (issuer, serial, certificate)
) STRICT, WITHOUT ROWID;

-- For the brake on mass revocation.
CREATE INDEX certificate_live ON certificate (not_after) WHERE standing = 0 AND revoked_at IS NULL;

-- Orders to revoke: 0 queued, 1 sent, 2 revoked, 3 on a CRL, 4 failed.
CREATE TABLE revocation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    issuer BLOB NOT NULL CHECK (length(issuer) = 32),
    serial BLOB NOT NULL,
    certificate INTEGER NOT NULL REFERENCES certificate (id),
    not_after INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 4),
    reason INTEGER NOT NULL,
    -- Whether the brake counts and holds it.
    counted INTEGER NOT NULL CHECK (counted IN (0, 1)),
    attempts INTEGER NOT NULL DEFAULT 0,
    queued_at INTEGER NOT NULL,
    sent_at INTEGER,
    revoked_at INTEGER,
    crl_number INTEGER,
    failure TEXT,
    UNIQUE (issuer, serial),
    CHECK ((state IN (2, 3)) = (revoked_at IS NOT NULL)),
    CHECK ((state = 4) = (failure IS NOT NULL))
) STRICT;
CREATE INDEX revocation_open ON revocation (issuer, state) WHERE state <= 2;
CREATE INDEX revocation_counted ON revocation (sent_at) WHERE counted = 1;

-- At most one row: since when the brake on mass revocation holds.
CREATE TABLE revocation_brake (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    engaged_at INTEGER NOT NULL
) STRICT;

-- The last CRL of each issuer.
CREATE TABLE crl (
    issuer BLOB NOT NULL PRIMARY KEY CHECK (length(issuer) = 32),
    number INTEGER NOT NULL,
    this_update INTEGER NOT NULL,
    der BLOB NOT NULL
) STRICT;
";

const V3: &str = "
-- The table is built anew, since a CHECK cannot be changed. Its numbers go on: a row's number never means another intent.
CREATE TABLE enrolment_new (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 8),
    -- The CA that is asked.
    authority TEXT NOT NULL,
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
    -- On whose word: 0 the challenge's, 1 a person's besides, 2 the predecessor's.
    grounds INTEGER NOT NULL CHECK (grounds IN (0, 1, 2)),
    predecessor BLOB CHECK (length(predecessor) = 32),
    generation INTEGER NOT NULL CHECK (generation BETWEEN 0 AND 255),
    -- The claims that the certificate may be renewed by on its own word; NULL: it needs a fresh challenge.
    renewable_by BLOB,
    admitted_at INTEGER NOT NULL,
    settled_at INTEGER,
    certificate INTEGER REFERENCES certificate (id),
    breaches INTEGER NOT NULL DEFAULT 0,
    -- How often the CA has failed what was held, which then waits again.
    failures INTEGER NOT NULL DEFAULT 0,
    -- The reason why it is refused.
    refusal TEXT,
    CHECK ((state IN (3, 4)) = (certificate IS NOT NULL)),
    CHECK ((state = 8) = (refusal IS NOT NULL)),
    CHECK ((grounds = 2) = (predecessor IS NOT NULL)),
    CHECK ((grounds = 2) = (generation > 0))
) STRICT;
INSERT INTO enrolment_new (id, state, authority, tenant, challenge, issued_at, expires_at, device, profile, user, audience,
    info_hash, spki, spki_hash, signer, transaction_id, serial, expected, grounds, generation, admitted_at, settled_at,
    certificate, breaches)
    SELECT id, state, 'main', tenant, challenge, issued_at, expires_at, device, profile, user, audience, info_hash, spki,
    spki_hash, signer, transaction_id, serial, expected, 0, 0, admitted_at, settled_at, certificate, breaches
    FROM enrolment;
DELETE FROM sqlite_sequence WHERE name = 'enrolment_new';
INSERT INTO sqlite_sequence (name, seq) SELECT 'enrolment_new', seq FROM sqlite_sequence WHERE name = 'enrolment';
DROP TABLE enrolment;
ALTER TABLE enrolment_new RENAME TO enrolment;
-- Single use: a challenge that was not freed has one row.
CREATE UNIQUE INDEX enrolment_use ON enrolment (tenant, challenge) WHERE state <> 5;
-- And a certificate one successor.
CREATE UNIQUE INDEX enrolment_successor ON enrolment (predecessor) WHERE state <> 5 AND predecessor IS NOT NULL;
CREATE INDEX enrolment_info ON enrolment (info_hash);
CREATE INDEX enrolment_transaction ON enrolment (transaction_id, signer);
-- Keys that may become certified. Once settled, the certificate's row tells.
CREATE INDEX enrolment_pending ON enrolment (spki_hash) WHERE state IN (0, 1, 2, 6, 7);
-- What recovery looks for, and what waits for a person.
CREATE INDEX enrolment_open ON enrolment (id) WHERE state IN (0, 1, 7);
CREATE INDEX enrolment_held ON enrolment (id) WHERE state = 6;
CREATE INDEX enrolment_expiry ON enrolment (expires_at);

-- Requests that wait for a person, or for a CA that decides later; kept as long as their enrolment's row.
CREATE TABLE held (
    enrolment INTEGER PRIMARY KEY REFERENCES enrolment (id),
    csr BLOB NOT NULL,
    -- What a person is asked about, and until when. NULL: nobody was asked.
    claims BLOB,
    until INTEGER,
    -- 0 denied, 1 approved.
    verdict INTEGER CHECK (verdict IN (0, 1)),
    person TEXT,
    decided_at INTEGER,
    CHECK ((claims IS NULL) = (until IS NULL)),
    CHECK ((verdict IS NULL) = (person IS NULL)),
    CHECK ((verdict IS NULL) = (decided_at IS NULL)),
    CHECK (verdict IS NULL OR claims IS NOT NULL)
) STRICT;

-- Other transactions, and their signers, in which a request that waits was sent again: polls ask by them too.
CREATE TABLE asked_again (
    transaction_id TEXT NOT NULL,
    signer BLOB NOT NULL CHECK (length(signer) = 32),
    enrolment INTEGER NOT NULL REFERENCES enrolment (id),
    PRIMARY KEY (transaction_id, signer, enrolment)
) STRICT;
CREATE INDEX asked_again_enrolment ON asked_again (enrolment);

ALTER TABLE certificate ADD COLUMN authority TEXT NOT NULL DEFAULT 'main';
ALTER TABLE certificate ADD COLUMN generation INTEGER NOT NULL DEFAULT 0 CHECK (generation BETWEEN 0 AND 255);
ALTER TABLE certificate ADD COLUMN predecessor BLOB CHECK (length(predecessor) = 32);
ALTER TABLE certificate ADD COLUMN renewable_by BLOB;
CREATE UNIQUE INDEX certificate_successor ON certificate (predecessor) WHERE standing = 0 AND predecessor IS NOT NULL;
CREATE INDEX revocation_certificate ON revocation (certificate);
";

/// Makes the certificates of an older ledger findable by issuer and serial number.
fn name_certificates(conn: &Connection) -> rusqlite::Result<()> {
    let mut all = conn.prepare("SELECT id, der FROM certificate")?;
    let mut insert = conn.prepare(
        "INSERT INTO certificate_name (issuer, serial, certificate) VALUES (?1, ?2, ?3)",
    )?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let (id, der): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        // A damaged row is found by whoever reads it; it is no reason to refuse all others.
        if let Ok(certificate) = CertificateDer::parse(&der) {
            let issuer = NameHash::of(certificate.issuer_der());
            insert.execute(params![issuer.as_bytes(), certificate.serial_content(), id])?;
        }
    }
    Ok(())
}

/// The schema version, 0 for an empty database.
pub(super) fn version(conn: &Connection) -> Result<i64, LedgerError> {
    let tables: i64 = conn
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'schema_version'", [], |row| {
            row.get(0)
        })
        .map_err(engine("read the schema"))?;
    if tables == 0 {
        return Ok(0);
    }
    conn.query_row("SELECT coalesce(max(version), 0) FROM schema_version", [], |row| row.get(0))
        .map_err(engine("read the schema"))
}

/// Brings the schema up to date, each step in a transaction of its own; makes the ledger's row when it is new.
pub(super) fn migrate(conn: &mut Connection, found: i64) -> Result<(), LedgerError> {
    let failed = engine("bring the schema up to date");
    let from = usize::try_from(found).unwrap_or(usize::MAX);
    for (at, step) in MIGRATIONS.iter().enumerate().skip(from) {
        let version = i64::try_from(at).unwrap_or(i64::MAX).saturating_add(1);
        let work = |conn: &mut Connection| -> rusqlite::Result<()> {
            let unit = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            if version == 1 {
                unit.execute_batch(
                    "CREATE TABLE schema_version (version INTEGER PRIMARY KEY) STRICT;",
                )?;
                unit.pragma_update(None, "application_id", APPLICATION_ID)?;
            }
            unit.execute_batch(step)?;
            if version == 2 {
                name_certificates(&unit)?;
            }
            unit.execute("INSERT INTO schema_version (version) VALUES (?1)", [version])?;
            unit.commit()
        };
        work(conn).map_err(&failed)?;
    }
    let made: i64 =
        conn.query_row("SELECT count(*) FROM ledger", [], |row| row.get(0)).map_err(&failed)?;
    if made == 0 {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| LedgerError::Randomness)?;
        conn.execute("INSERT INTO ledger VALUES (1, ?1, 0, 0, 0, -1000000, 0, 0, 0, 0, 0)", [id])
            .map_err(&failed)?;
    }
    Ok(())
}
