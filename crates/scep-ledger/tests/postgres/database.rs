//! One schema of the run's cluster, and what an opening refuses.

use crate::support::{Backend, DAY, NOW, after, enrolment};
use crate::{Deadline, Test, run};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use scep_ledger::{Ledger, LedgerError, LedgerSettings, PostgresConfig};
use scep_testkit::postgres::{Cluster, Programs};
use scep_testkit::programs::available;
use scep_types::Reason;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A schema of its own in a cluster.
pub(crate) struct Database {
    pub(crate) connection: String,
    pub(crate) schema: String,
    lease: Duration,
}

impl Database {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            connection: cluster.by_socket(),
            schema: format!("test_{number}"),
            lease: Duration::from_secs(60),
        }
    }

    pub(crate) fn with_lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// The same, reached another way.
    pub(crate) fn by(&self, connection: String) -> Self {
        Self { connection, schema: self.schema.clone(), lease: self.lease }
    }

    pub(crate) fn config(&self) -> PostgresConfig {
        let config = PostgresConfig::new(&self.connection).unwrap();
        config.schema(&self.schema).unwrap().lease(self.lease).unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<Ledger, LedgerError> {
        Ledger::open_postgres(self.config(), LedgerSettings::default()).await
    }

    /// One more gateway of the group.
    pub(crate) async fn gateway(&self) -> Ledger {
        self.try_open().await.unwrap()
    }

    /// A connection that no ledger knows of.
    pub(crate) async fn client(&self) -> Client {
        let (client, io) = tokio_postgres::connect(&self.connection, NoTls).await.unwrap();
        tokio::spawn(io);
        let path = format!("SET search_path = {}", self.schema);
        client.batch_execute(&path).await.unwrap();
        client
    }
}

impl Backend for Database {
    fn open_with(&self, settings: LedgerSettings) -> Ledger {
        let open = Ledger::open_postgres(self.config(), settings);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(open)).unwrap()
    }
}

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("attack_08_the_table_itself_holds_a_challenge_once", |cluster| {
        run(attack_08_the_table_itself_holds_a_challenge_once(Database::new(cluster)));
    }),
    ("gateways_that_open_it_at_once_share_one_ledger", |cluster| {
        run(gateways_that_open_it_at_once_share_one_ledger(Database::new(cluster)));
    }),
    ("a_newer_schema_is_refused", |cluster| run(a_newer_schema_is_refused(Database::new(cluster)))),
    ("certificates_of_a_ledger_of_the_first_schema_can_be_revoked", |cluster| {
        run(certificates_of_a_ledger_of_the_first_schema_can_be_revoked(Database::new(cluster)));
    }),
    ("a_ledger_of_the_second_schema_goes_on", |cluster| {
        run(a_ledger_of_the_second_schema_goes_on(Database::new(cluster)));
    }),
    ("attack_03_a_successor_on_record_counts_without_its_use", |cluster| {
        run(attack_03_a_successor_on_record_counts_without_its_use(Database::new(cluster)));
    }),
    ("however_much_is_over_one_call_forgets_it", |cluster| {
        run(however_much_is_over_one_call_forgets_it(Database::new(cluster)));
    }),
    ("what_is_no_ledger_is_refused_and_left_as_it_is", |cluster| {
        run(what_is_no_ledger_is_refused_and_left_as_it_is(Database::new(cluster)));
    }),
    ("a_damaged_row_is_an_error_and_not_a_default", |cluster| {
        run(a_damaged_row_is_an_error_and_not_a_default(Database::new(cluster)));
    }),
    ("attack_52_a_server_that_forgets_is_refused_by_name", |_| {
        run(attack_52_a_server_that_forgets_is_refused_by_name());
    }),
    ("a_wrong_password_is_refused_and_not_shown", |cluster| {
        run(a_wrong_password_is_refused_and_not_shown(Arc::clone(cluster)));
    }),
    ("a_server_is_verified_by_chain_and_name", |_| run(a_server_is_verified_by_chain_and_name())),
];

async fn attack_08_the_table_itself_holds_a_challenge_once(database: Database) {
    let ledger = database.gateway().await;
    let _open = enrolment(1, "device-1", 1).admit(&ledger, NOW).await.unwrap();
    // Even if every check before it were wrong.
    let copy = "INSERT INTO enrolment (state, owner, tenant, challenge, issued_at, expires_at, \
                device, profile, audience, info_hash, spki, spki_hash, signer, transaction_id, \
                expected, admitted_at, authority, grounds) SELECT state, owner, tenant, challenge, issued_at, \
                expires_at, device, profile, audience, info_hash, spki, spki_hash, signer, \
                transaction_id, expected, admitted_at, authority, grounds FROM enrolment";
    let client = database.client().await;
    let error = client.batch_execute(copy).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
    client.batch_execute("UPDATE enrolment SET state = 5").await.unwrap();
    client.batch_execute(copy).await.unwrap();
}

async fn gateways_that_open_it_at_once_share_one_ledger(database: Database) {
    let database = Arc::new(database);
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let database = Arc::clone(&database);
            tokio::spawn(async move { database.gateway().await })
        })
        .collect();
    let mut gateways = Vec::new();
    for task in tasks {
        gateways.push(task.await.unwrap());
    }
    assert!(gateways.iter().all(|gateway| gateway.id() == gateways[0].id()));
    let rows = database.client().await.query("SELECT 1 FROM gateway", &[]).await.unwrap();
    assert_eq!(rows.len(), 6);
    drop(gateways);
    // Each has signed off.
    let rows = database.client().await.query("SELECT 1 FROM gateway", &[]).await.unwrap();
    assert_eq!(rows.len(), 0);
}

async fn a_newer_schema_is_refused(database: Database) {
    let running = database.gateway().await;
    let newer = "INSERT INTO schema_version (version) VALUES (1000)";
    database.client().await.batch_execute(newer).await.unwrap();
    let Err(LedgerError::SchemaNewer { found: 1_000, known }) = database.try_open().await else {
        panic!("opened");
    };
    assert!(known < 1_000);
    // One that runs already writes nothing more.
    let result = running.flush().await;
    assert_eq!(result, Err(LedgerError::SchemaNewer { found: 1_000, known }));
}

/// Makes a ledger of the second schema out of one of the third that has nothing of the third's in it.
const TO_SECOND_SCHEMA: &str = "
DROP TABLE asked_again;
DROP TABLE held;
DROP INDEX enrolment_successor, enrolment_transaction, enrolment_pending, enrolment_open, enrolment_held;
ALTER TABLE enrolment DROP COLUMN authority, DROP COLUMN grounds, DROP COLUMN predecessor, DROP COLUMN generation,
    DROP COLUMN renewable_by, DROP COLUMN failures, DROP COLUMN refusal, DROP CONSTRAINT enrolment_state_check;
ALTER TABLE enrolment ADD CONSTRAINT enrolment_state_check CHECK (state BETWEEN 0 AND 5);
CREATE INDEX enrolment_pending ON enrolment (spki_hash) WHERE state <= 2;
DROP INDEX certificate_successor, revocation_certificate;
ALTER TABLE certificate DROP COLUMN authority, DROP COLUMN generation, DROP COLUMN predecessor,
    DROP COLUMN renewable_by;
DELETE FROM schema_version WHERE version > 2;
";

async fn a_ledger_of_the_second_schema_goes_on(database: Database) {
    let client = database.client().await;
    crate::held::of_every_old_state(&database, || {
        let script = format!("DELETE FROM enrolment WHERE state = 5; {TO_SECOND_SCHEMA}");
        let down = client.batch_execute(&script);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(down)).unwrap();
    })
    .await;
}

async fn however_much_is_over_one_call_forgets_it(database: Database) {
    let ledger = database.gateway().await;
    let (_permit, unsettled) =
        enrolment(1, "device-1", 1).admit(&ledger, NOW).await.unwrap().redeem();
    ledger.hand_back(unsettled, Reason::CaUnavailable, "", NOW).await.unwrap();
    let more = "INSERT INTO enrolment (state, owner, tenant, challenge, issued_at, expires_at, \
                device, profile, audience, info_hash, spki, spki_hash, signer, transaction_id, \
                expected, admitted_at, settled_at, authority, grounds) SELECT state, owner, tenant, \
                decode(md5(n::text), 'hex'), issued_at, expires_at - n % 7, device, profile, audience, \
                info_hash, spki, spki_hash, signer, transaction_id, expected, admitted_at, settled_at, \
                authority, grounds FROM enrolment, generate_series(1, 2500) AS n; \
                INSERT INTO mismatch SELECT tenant, challenge, 1, expires_at FROM enrolment \
                ORDER BY id OFFSET 1 LIMIT 1500";
    database.client().await.batch_execute(more).await.unwrap();
    assert_eq!(ledger.prune(after(2 * DAY)).await, Ok(2_501 + 1_500));
    assert_eq!(ledger.prune(after(2 * DAY)).await, Ok(0));
}

async fn attack_03_a_successor_on_record_counts_without_its_use(database: Database) {
    let client = database.client().await;
    crate::renewal::without_its_use(&database, || {
        let lose = client.batch_execute("DELETE FROM enrolment");
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(lose)).unwrap();
    })
    .await;
}

async fn certificates_of_a_ledger_of_the_first_schema_can_be_revoked(database: Database) {
    let ledger = database.gateway().await;
    let certificate = enrolment(1, "device-1", 1).enrol(&ledger, NOW).await;
    // What the later steps have made is taken away.
    let first = "DROP TABLE certificate_name; DROP TABLE revocation; DROP TABLE revocation_brake; \
                 DROP TABLE crl; DROP INDEX certificate_live; \
                 DELETE FROM schema_version WHERE version > 1";
    drop(ledger);
    database.client().await.batch_execute(TO_SECOND_SCHEMA).await.unwrap();
    database.client().await.batch_execute(first).await.unwrap();
    let ledger = database.gateway().await;
    let outcome = ledger.queue_revocation(crate::revocation::order(&certificate), NOW).await;
    assert_eq!(outcome, Ok(scep_ledger::QueueOutcome::Queued));
}

async fn what_is_no_ledger_is_refused_and_left_as_it_is(database: Database) {
    let client = database.client().await;
    let schema = &database.schema;
    let make = format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.guests (name TEXT)");
    client.batch_execute(&make).await.unwrap();
    let error = database.try_open().await.unwrap_err();
    let what = format!("the schema {schema} holds something else than a ledger");
    assert_eq!(error, LedgerError::Connection { what });
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = $1";
    let rows = client.query(tables, &[schema]).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["guests"]);
    // An empty schema is as good as none: who makes it may have more rights than the gateway.
    client.batch_execute(&format!("DROP TABLE {schema}.guests")).await.unwrap();
    database.gateway().await;
}

async fn a_damaged_row_is_an_error_and_not_a_default(database: Database) {
    let ledger = database.gateway().await;
    drop(enrolment(1, "device-1", 1).admit(&ledger, NOW).await.unwrap());
    let client = database.client().await;
    for (damage, mend, what) in [
        (
            "UPDATE enrolment SET device = 'a b'",
            "UPDATE enrolment SET device = 'device-1'",
            "enrolment.device",
        ),
        (
            "UPDATE enrolment SET serial = '\\x00'",
            "UPDATE enrolment SET serial = NULL",
            "enrolment.serial",
        ),
        ("UPDATE enrolment SET spki = '\\x00'", "SELECT 1", "enrolment.spki"),
    ] {
        client.batch_execute(damage).await.unwrap();
        assert_eq!(ledger.unsettled().await.unwrap_err(), LedgerError::Damaged { what });
        client.batch_execute(mend).await.unwrap();
    }
}

async fn attack_52_a_server_that_forgets_is_refused_by_name() {
    let programs = Programs::find().unwrap();
    let mut cluster = Cluster::start(&programs, &[]).unwrap();
    let running = Database::new(&cluster).gateway().await;
    for (setting, off) in [
        ("fsync", ["fsync=off"].as_slice()),
        ("full_page_writes", &["fsync=on", "full_page_writes=off"]),
        ("synchronous_commit", &["full_page_writes=on", "synchronous_commit=off"]),
    ] {
        tokio::task::block_in_place(|| {
            cluster.stop().unwrap();
            off.iter().for_each(|setting| cluster.set(setting));
            cluster.restart().unwrap();
        });
        let refused = LedgerError::Setting { setting, wanted: "on", got: String::from("off") };
        assert_eq!(Database::new(&cluster).try_open().await.unwrap_err(), refused);
        // Read back on every connection, also on those made again. Between two attempts it still says what was wrong
        // at the one before.
        let deadline = Deadline::new();
        while running.flush().await != Err(refused.clone()) {
            deadline.wait().await;
        }
    }
    tokio::task::block_in_place(|| {
        cluster.stop().unwrap();
        cluster.set("synchronous_commit=on");
        cluster.restart().unwrap();
    });
    // It goes on by itself once the server is as it must be.
    let deadline = Deadline::new();
    while running.flush().await.is_err() {
        deadline.wait().await;
    }
    let standby = Database {
        connection: format!(
            "{} options='-c default_transaction_read_only=on'",
            cluster.by_socket()
        ),
        ..Database::new(&cluster)
    };
    let error = standby.try_open().await.unwrap_err();
    assert!(matches!(error, LedgerError::Engine { action: "connect", .. }), "{error:?}");
}

async fn a_wrong_password_is_refused_and_not_shown(cluster: Arc<Cluster>) {
    let by_port = |password: &str| Database {
        connection: format!("{} password={password}", cluster.by_port("localhost")),
        ..Database::new(&cluster)
    };
    let error = by_port("wr0ng").try_open().await.unwrap_err();
    let LedgerError::Engine { action: "connect", source } = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("28P01"), "{source}");
    assert!(!source.to_string().contains("wr0ng"), "{source}");
    let right = Database { connection: cluster.by_port("localhost"), ..Database::new(&cluster) };
    right.gateway().await;
}

/// A CA with a key, and a certificate of it for `db.example.org`, in files of OpenSSL's.
fn certificates(folder: &Path) {
    let run = |words: &[&str]| {
        let output = Command::new("openssl").args(words).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    for name in ["ca", "other"] {
        let (subject, file) = (format!("/CN={name}"), format!("{name}.key"));
        let out = format!("{name}.pem");
        let words =
            ["req", "-x509", "-days", "2", "-subj", &subject, "-keyout", &file, "-out", &out];
        run(&[words.as_slice(), &key].concat());
    }
    let words = ["req", "-subj", "/CN=db", "-keyout", "server.key", "-out", "server.csr"];
    run(&[words.as_slice(), &key].concat());
    let names = "basicConstraints=CA:FALSE\nsubjectAltName=DNS:db.example.org\n";
    std::fs::write(folder.join("names"), names).unwrap();
    run(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "server.pem",
    ]);
}

async fn a_server_is_verified_by_chain_and_name() {
    if !available("openssl", "a_server_is_verified_by_chain_and_name") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let mut cluster = Cluster::start(&Programs::find().unwrap(), &[]).unwrap();
    for name in ["server.key", "server.pem"] {
        let contents = std::fs::read(folder.path().join(name)).unwrap();
        let placed = cluster.place(name, &contents).unwrap();
        let kind = if name == "server.key" { "ssl_key_file" } else { "ssl_cert_file" };
        cluster.set(&format!("{kind}={}", placed.display()));
    }
    cluster.set("ssl=on");
    tokio::task::block_in_place(|| {
        cluster.stop().unwrap();
        cluster.restart().unwrap();
    });
    let by = |host: &str, more: &str, roots: &str| Database {
        connection: format!(
            "{} {more} sslrootcert='{}'",
            cluster.by_port(host),
            folder.path().join(roots).display()
        ),
        ..Database::new(&cluster)
    };
    let verified = by("db.example.org", "sslmode=verify-full", "ca.pem");
    let ledger = verified.gateway().await;
    enrolment(1, "device-1", 1).enrol(&ledger, NOW).await;
    let (plain, io) = tokio_postgres::connect(&cluster.by_socket(), NoTls).await.unwrap();
    tokio::spawn(io);
    let encrypted = "SELECT bool_and(ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity \
                     USING (pid) WHERE application_name = 'scep-ledger'";
    let row = plain.query_one(encrypted, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0) && row.get::<_, i64>(1) > 0);
    drop(ledger);
    // `require` verifies as much.
    by("db.example.org", "sslmode=require", "ca.pem").gateway().await;
    for (host, roots, why) in [
        ("other.example.org", "ca.pem", "not valid for name"),
        ("db.example.org", "other.pem", "UnknownIssuer"),
    ] {
        for mode in ["verify-full", "require"] {
            let error = by(host, &format!("sslmode={mode}"), roots).try_open().await.unwrap_err();
            let LedgerError::Engine { action: "connect", source } = error else {
                panic!("{error:?}")
            };
            assert!(source.to_string().contains(why), "{source}");
        }
    }
    // A server that speaks no TLS is not spoken to.
    tokio::task::block_in_place(|| {
        cluster.stop().unwrap();
        cluster.set("ssl=off");
        cluster.restart().unwrap();
    });
    let error = verified.try_open().await.unwrap_err();
    assert!(matches!(error, LedgerError::Engine { action: "connect", .. }), "{error:?}");
}
