//! The tables, and how an older ledger becomes a newer one.

use super::connection::{Connection, engine};
use super::revocation;
use super::row::get;
use crate::LedgerError;
use scep_types::CertificateDer;

/// One step per schema version, each run once and in order. A released step is never edited.
const MIGRATIONS: &[&str] = &[V1, V2, V3];

/// The newest schema known here.
pub(super) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// "SCEP": the first half of the advisory lock under which a schema is made; the other half is its name's hash.
const LOCK: i32 = 0x5343_4550;

const V1: &str = "
-- The ledger itself: one row. Whoever writes anything locks it first.
CREATE TABLE ledger (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    ledger_id BYTEA NOT NULL CHECK (length(ledger_id) = 16),
    high_water BIGINT NOT NULL,
    -- How often an operator has set the mark: gateways whose memory is of an earlier one forget theirs.
    clock_epoch BIGINT NOT NULL,
    -- The number of the latest event.
    last_event BIGINT NOT NULL,
    pruned_through BIGINT NOT NULL,
    restored_at BIGINT NOT NULL,
    last_brake_alarm BIGINT NOT NULL,
    issued BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    withheld BIGINT NOT NULL
) WITH (fillfactor = 10);

-- The processes that share the ledger. Intents of one whose lease is over may be settled by the others. The lease is
-- in the server's time, so that the gateways' clocks do not matter.
CREATE TABLE gateway (
    instance BYTEA PRIMARY KEY CHECK (length(instance) = 16),
    lease_until TIMESTAMPTZ NOT NULL,
    -- Its latest committed group: proves a commit whose answer was lost.
    last_group BIGINT NOT NULL
) WITH (fillfactor = 10);

-- The inventory. Never pruned, and complete without the enrolments, which are.
CREATE TABLE certificate (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    standing BIGINT NOT NULL CHECK (standing IN (0, 1)),
    tenant TEXT NOT NULL,
    device TEXT NOT NULL,
    profile TEXT NOT NULL,
    user_id TEXT,
    challenge BYTEA NOT NULL CHECK (length(challenge) = 16),
    transaction_id TEXT NOT NULL,
    signer BYTEA NOT NULL CHECK (length(signer) = 32),
    fingerprint BYTEA NOT NULL CHECK (length(fingerprint) = 32),
    spki_hash BYTEA NOT NULL CHECK (length(spki_hash) = 32),
    der BYTEA NOT NULL,
    not_after BIGINT NOT NULL,
    issued_at BIGINT NOT NULL,
    delivered BIGINT CHECK (delivered IN (0, 1)),
    delivered_at BIGINT,
    revoked_at BIGINT,
    revocation_reason BIGINT,
    CHECK ((revoked_at IS NULL) = (revocation_reason IS NULL))
);
CREATE UNIQUE INDEX certificate_fingerprint ON certificate (fingerprint);
CREATE INDEX certificate_key ON certificate (spki_hash);

-- One row per admission: the use of a challenge and the intent to issue. Rows of freed challenges stay for a while,
-- so that a row's number never means another intent.
CREATE TABLE enrolment (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state BIGINT NOT NULL CHECK (state BETWEEN 0 AND 5),
    -- The gateway that works on it, or whose recovery does.
    owner BYTEA NOT NULL CHECK (length(owner) = 16),
    tenant TEXT NOT NULL,
    challenge BYTEA NOT NULL CHECK (length(challenge) = 16),
    issued_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    device TEXT NOT NULL,
    profile TEXT NOT NULL,
    user_id TEXT,
    audience TEXT NOT NULL,
    info_hash BYTEA NOT NULL CHECK (length(info_hash) = 32),
    spki BYTEA NOT NULL,
    spki_hash BYTEA NOT NULL CHECK (length(spki_hash) = 32),
    signer BYTEA NOT NULL CHECK (length(signer) = 32),
    transaction_id TEXT NOT NULL,
    serial BYTEA,
    expected BYTEA NOT NULL,
    admitted_at BIGINT NOT NULL,
    settled_at BIGINT,
    certificate BIGINT REFERENCES certificate (id),
    breaches BIGINT NOT NULL DEFAULT 0,
    CHECK ((state IN (3, 4)) = (certificate IS NOT NULL))
);
-- Single use: a challenge that was not freed has one row.
CREATE UNIQUE INDEX enrolment_use ON enrolment (tenant, challenge) WHERE state <> 5;
CREATE INDEX enrolment_info ON enrolment (info_hash);
-- Keys that may become certified, and what recovery looks for. Once settled, the certificate's row tells.
CREATE INDEX enrolment_pending ON enrolment (spki_hash) WHERE state <= 2;
CREATE INDEX enrolment_expiry ON enrolment (expires_at);

-- Denials counted against a challenge.
CREATE TABLE mismatch (
    tenant TEXT NOT NULL,
    challenge BYTEA NOT NULL CHECK (length(challenge) = 16),
    count BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, challenge)
);

-- Admissions per minute, for the brake.
CREATE TABLE admission_rate (
    slot BIGINT PRIMARY KEY,
    admitted BIGINT NOT NULL
);

-- Events for the issuer, numbered by ledger.last_event.
CREATE TABLE outbox (
    sequence BIGINT PRIMARY KEY,
    kind TEXT NOT NULL,
    tenant TEXT,
    device TEXT,
    idempotency_key TEXT NOT NULL,
    body TEXT NOT NULL,
    at BIGINT NOT NULL
);

-- What the issuer has disabled: 0 device, 1 user, 2 profile.
CREATE TABLE denial (
    kind BIGINT NOT NULL CHECK (kind IN (0, 1, 2)),
    tenant TEXT NOT NULL,
    subject TEXT NOT NULL,
    denied_at BIGINT NOT NULL,
    PRIMARY KEY (kind, tenant, subject)
);

-- What operators did to the ledger.
CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action TEXT NOT NULL,
    operator TEXT NOT NULL,
    old_value BIGINT NOT NULL,
    new_value BIGINT NOT NULL,
    at BIGINT NOT NULL
);
";

const V2: &str = "
-- Certificates by issuer (SHA-256 of the Name) and serial number. A CA that gives a number twice is no reason to lose one.
CREATE TABLE certificate_name (
    issuer BYTEA NOT NULL CHECK (length(issuer) = 32),
    serial BYTEA NOT NULL,
    certificate BIGINT NOT NULL REFERENCES certificate (id),
    PRIMARY KEY (issuer, serial, certificate)
);

-- For the brake on mass revocation.
CREATE INDEX certificate_live ON certificate (not_after) WHERE standing = 0 AND revoked_at IS NULL;

-- Orders to revoke: 0 queued, 1 sent, 2 revoked, 3 on a CRL, 4 failed.
CREATE TABLE revocation (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issuer BYTEA NOT NULL CHECK (length(issuer) = 32),
    serial BYTEA NOT NULL,
    certificate BIGINT NOT NULL REFERENCES certificate (id),
    not_after BIGINT NOT NULL,
    state BIGINT NOT NULL CHECK (state BETWEEN 0 AND 4),
    -- The gateway that asks the CA.
    owner BYTEA CHECK (length(owner) = 16),
    reason BIGINT NOT NULL,
    -- Whether the brake counts and holds it.
    counted BOOLEAN NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    queued_at BIGINT NOT NULL,
    sent_at BIGINT,
    revoked_at BIGINT,
    crl_number BIGINT,
    failure TEXT,
    UNIQUE (issuer, serial),
    CHECK ((state = 1) = (owner IS NOT NULL)),
    CHECK ((state IN (2, 3)) = (revoked_at IS NOT NULL)),
    CHECK ((state = 4) = (failure IS NOT NULL))
);
CREATE INDEX revocation_open ON revocation (issuer, state) WHERE state <= 2;
CREATE INDEX revocation_counted ON revocation (sent_at) WHERE counted;

-- At most one row: since when the brake on mass revocation holds.
CREATE TABLE revocation_brake (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    engaged_at BIGINT NOT NULL
);

-- The last CRL of each issuer.
CREATE TABLE crl (
    issuer BYTEA PRIMARY KEY CHECK (length(issuer) = 32),
    number BIGINT NOT NULL,
    this_update BIGINT NOT NULL,
    der BYTEA NOT NULL
);
";

const V3: &str = "
ALTER TABLE enrolment DROP CONSTRAINT enrolment_state_check;
ALTER TABLE enrolment ADD CONSTRAINT enrolment_state_check CHECK (state BETWEEN 0 AND 8);
-- The CA that is asked.
ALTER TABLE enrolment ADD COLUMN authority TEXT NOT NULL DEFAULT 'main';
ALTER TABLE enrolment ALTER COLUMN authority DROP DEFAULT;
-- On whose word: 0 the challenge's, 1 a person's besides, 2 the predecessor's.
ALTER TABLE enrolment ADD COLUMN grounds BIGINT NOT NULL DEFAULT 0 CHECK (grounds IN (0, 1, 2));
ALTER TABLE enrolment ALTER COLUMN grounds DROP DEFAULT;
ALTER TABLE enrolment ADD COLUMN predecessor BYTEA CHECK (length(predecessor) = 32);
ALTER TABLE enrolment ADD COLUMN generation BIGINT NOT NULL DEFAULT 0 CHECK (generation BETWEEN 0 AND 255);
-- The claims that the certificate may be renewed by on its own word; NULL: it needs a fresh challenge.
ALTER TABLE enrolment ADD COLUMN renewable_by BYTEA;
-- How often the CA has failed what was held, which then waits again.
ALTER TABLE enrolment ADD COLUMN failures BIGINT NOT NULL DEFAULT 0;
-- The reason why it is refused.
ALTER TABLE enrolment ADD COLUMN refusal TEXT;
ALTER TABLE enrolment ADD CONSTRAINT enrolment_refusal_check CHECK ((state = 8) = (refusal IS NOT NULL));
ALTER TABLE enrolment ADD CONSTRAINT enrolment_renewal_check
    CHECK ((grounds = 2) = (predecessor IS NOT NULL) AND (grounds = 2) = (generation > 0));
-- A certificate has one successor.
CREATE UNIQUE INDEX enrolment_successor ON enrolment (predecessor) WHERE state <> 5 AND predecessor IS NOT NULL;
CREATE INDEX enrolment_transaction ON enrolment (transaction_id, signer);
DROP INDEX enrolment_pending;
-- Keys that may become certified. Once settled, the certificate's row tells.
CREATE INDEX enrolment_pending ON enrolment (spki_hash) WHERE state IN (0, 1, 2, 6, 7);
-- What recovery looks for, and what waits for a person.
CREATE INDEX enrolment_open ON enrolment (id) WHERE state IN (0, 1, 7);
CREATE INDEX enrolment_held ON enrolment (id) WHERE state = 6;

-- Requests that wait for a person, or for a CA that decides later; kept as long as their enrolment's row.
CREATE TABLE held (
    enrolment BIGINT PRIMARY KEY REFERENCES enrolment (id),
    csr BYTEA NOT NULL,
    -- What a person is asked about, and until when. NULL: nobody was asked.
    claims BYTEA,
    until BIGINT,
    -- 0 denied, 1 approved.
    verdict BIGINT CHECK (verdict IN (0, 1)),
    person TEXT,
    decided_at BIGINT,
    CHECK ((claims IS NULL) = (until IS NULL)),
    CHECK ((verdict IS NULL) = (person IS NULL)),
    CHECK ((verdict IS NULL) = (decided_at IS NULL)),
    CHECK (verdict IS NULL OR claims IS NOT NULL)
);

-- Other transactions, and their signers, in which a request that waits was sent again: polls ask by them too.
CREATE TABLE asked_again (
    transaction_id TEXT NOT NULL,
    signer BYTEA NOT NULL CHECK (length(signer) = 32),
    enrolment BIGINT NOT NULL REFERENCES enrolment (id),
    PRIMARY KEY (transaction_id, signer, enrolment)
);
CREATE INDEX asked_again_enrolment ON asked_again (enrolment);

ALTER TABLE certificate ADD COLUMN authority TEXT NOT NULL DEFAULT 'main';
ALTER TABLE certificate ADD COLUMN generation BIGINT NOT NULL DEFAULT 0 CHECK (generation BETWEEN 0 AND 255);
ALTER TABLE certificate ADD COLUMN predecessor BYTEA CHECK (length(predecessor) = 32);
ALTER TABLE certificate ADD COLUMN renewable_by BYTEA;
CREATE UNIQUE INDEX certificate_successor ON certificate (predecessor) WHERE standing = 0 AND predecessor IS NOT NULL;
CREATE INDEX revocation_certificate ON revocation (certificate);
";

/// How many certificates are named at once.
const PAGE: i64 = 1_000;

/// Makes the certificates of an older ledger findable by issuer and serial number.
async fn name_certificates(conn: &Connection) -> Result<(), LedgerError> {
    let mut after = 0_i64;
    loop {
        let rows = conn
            .read(
                "SELECT id, der FROM certificate WHERE id > $1 ORDER BY id LIMIT $2",
                &[&after, &PAGE],
            )
            .await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = get(last, 0, "certificate.id")?;
        let (mut issuers, mut serials, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            // A damaged row is found by whoever reads it; it is no reason to refuse all others.
            let der: &[u8] = get(row, 1, "certificate.der")?;
            if let Ok(certificate) = CertificateDer::parse(der) {
                let (issuer, serial) = revocation::name(&certificate);
                issuers.push(issuer.to_vec());
                serials.push(serial.to_vec());
                ids.push(get::<i64>(row, 0, "certificate.id")?);
            }
        }
        conn.read(
            "INSERT INTO certificate_name (issuer, serial, certificate) \
             SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[])",
            &[&issuers, &serials, &ids],
        )
        .await?;
    }
}

/// Brings the schema up to date in one transaction, under a lock that keeps two gateways from doing it at once; makes
/// the ledger's row when it is new.
pub(super) async fn migrate(conn: &Connection, schema: &str) -> Result<(), LedgerError> {
    let failed = engine("bring the schema up to date");
    // An error ends the opening, and with it the connection and the transaction.
    conn.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await.map_err(&failed)?;
    conn.read("SELECT pg_advisory_xact_lock($1, hashtext($2))", &[&LOCK, &schema]).await?;
    let found = version(conn, schema).await?;
    if found > known() {
        return Err(LedgerError::SchemaNewer { found, known: known() });
    }
    if found < known() {
        let mut script = String::new();
        if found > 0 {
            // Gateways that run already stay out until the end, and find then that they are too old.
            conn.read("SELECT ledger_id FROM ledger FOR UPDATE", &[]).await?;
        }
        if found == 0 {
            script = format!(
                "CREATE SCHEMA IF NOT EXISTS \"{schema}\"; \
                 CREATE TABLE schema_version (version BIGINT PRIMARY KEY);"
            );
        }
        for (step, version) in MIGRATIONS.iter().zip(1_i64..).filter(|(_, v)| *v > found) {
            script.push_str(step);
            script.push_str(&format!("INSERT INTO schema_version VALUES ({version});"));
        }
        conn.client.batch_execute(&script).await.map_err(&failed)?;
        if found == 1 {
            name_certificates(conn).await?;
        }
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| LedgerError::Randomness)?;
    conn.read(
        "INSERT INTO ledger VALUES (1, $1, 0, 0, 0, 0, 0, -1000000, 0, 0, 0, 0, 0) \
         ON CONFLICT DO NOTHING",
        &[&id.as_slice()],
    )
    .await?;
    conn.client.batch_execute("COMMIT").await.map_err(&failed)
}

/// The schema version, 0 for an empty or missing schema.
async fn version(conn: &Connection, schema: &str) -> Result<i64, LedgerError> {
    let what = "schema_version";
    let rows = conn
        .read(
            "SELECT count(*), count(*) FILTER (WHERE c.relname = 'schema_version') \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1",
            &[&schema],
        )
        .await?;
    let row = rows.first().ok_or(LedgerError::Damaged { what })?;
    let (relations, versions): (i64, i64) = (get(row, 0, what)?, get(row, 1, what)?);
    match (relations, versions) {
        (0, _) => return Ok(0),
        (_, 0) => {
            let what = format!("the schema {schema} holds something else than a ledger");
            return Err(LedgerError::Connection { what });
        }
        _ => {}
    }
    let rows = conn.read("SELECT coalesce(max(version), 0) FROM schema_version", &[]).await?;
    get(rows.first().ok_or(LedgerError::Damaged { what })?, 0, what)
}
