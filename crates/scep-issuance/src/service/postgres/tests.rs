//! What the issuer's statements rely on, on both databases.

use super::PostgresConfig;
use crate::service::db::{Tx, values};
use crate::service::store::{Store, StoreError};
use scep_testkit::postgres::{Cluster, Programs};

async fn write<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    store.write(work).await
}

fn numbers(tx: &Tx<'_>, sql: &str) -> Vec<i64> {
    tx.query(sql, &[], |row| row.get::<i64>(0)).unwrap()
}

fn texts(tx: &Tx<'_>, sql: &str) -> Vec<String> {
    tx.query(sql, &[], |row| row.get::<String>(0)).unwrap()
}

const DEVICE: &str = "INSERT INTO device (tenant, id, state, attributes) VALUES (?1, ?2, ?3, '{}')";

async fn suite(store: &Store) {
    // A statement that fails undoes itself and nothing else.
    write(store, |tx| {
        tx.execute("INSERT INTO tenant (id) VALUES (?1)", values!["t"])?;
        assert_eq!(tx.execute(DEVICE, values!["t", "a", "enrolled"])?, 1);
        let again = tx.execute(DEVICE, values!["t", "a", "wiped"]);
        assert_eq!(again, Err(StoreError::Duplicate));
        assert_eq!(tx.execute(DEVICE, values!["u", "b", "wiped"]), Err(StoreError::Reference));
        let check = tx.execute(DEVICE, values!["t", "b", "lost"]).unwrap_err();
        assert!(matches!(check, StoreError::Engine { .. }), "{check:?}");
        let missing = tx.execute(DEVICE, values!["t", "b", None::<&str>]).unwrap_err();
        assert!(matches!(missing, StoreError::Engine { .. }), "{missing:?}");
        tx.execute("INSERT INTO nothing (id) VALUES (1)", values![]).unwrap_err();
        for id in ["B", "_", "z", "é", "10", "9"] {
            tx.execute(DEVICE, values!["t", id, "enrolled"])?;
            assert_eq!(tx.execute(DEVICE, values!["t", id, "wiped"]), Err(StoreError::Duplicate));
        }
        let sql = "INSERT INTO tenant (id) VALUES ('t') ON CONFLICT DO NOTHING";
        assert_eq!(tx.execute(sql, values![])?, 0);
        Ok(())
    })
    .await
    .unwrap();
    store
        .read(|tx| {
            // Octet by octet.
            let ids = texts(tx, "SELECT id FROM device ORDER BY id");
            assert_eq!(ids, ["10", "9", "B", "_", "a", "z", "é"]);
            assert!(
                tx.exists("SELECT 1 FROM device WHERE id > ?1 AND id < ?2", values!["Z", "a"])?
            );
            let wiped = "SELECT count(*) FROM device WHERE state = 'wiped'";
            assert_eq!(numbers(tx, wiped), [0]);
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    // What reads cannot write.
    let deleted = store.read(|tx| tx.execute("DELETE FROM device", values![]));
    assert!(matches!(deleted.await, Err(StoreError::Engine { .. })));
    // Work that fails leaves nothing.
    let failed = write(store, |tx| {
        tx.execute("DELETE FROM device", values![])?;
        Err::<(), _>(StoreError::Closed)
    });
    assert_eq!(failed.await, Err(StoreError::Closed));
    // Numbers beyond 32 bits, sums, truths, NULL, octets, keys that the database counts.
    write(store, |tx| {
        assert_eq!(numbers(tx, "SELECT count(*) FROM device"), [7]);
        let next = "INSERT INTO challenge (tenant, id, device, owner, profile, gateway_group, \
                    purpose, issued_at, expires_at) VALUES ('t', ?1, 'a', ?2, 'p', 'g', 'enrol', \
                    ?3, ?3 + 60) RETURNING seq, owner, expires_at";
        let mut before = 0;
        for (id, owner, at) in
            [("x", None, -5), ("y", Some("ada"), 1 << 40), ("z", None, 4_000_000_000_i64)]
        {
            let (seq, kept, end) = tx
                .one(next, values![id, owner, at], |row| {
                    let owner: Option<String> = row.get(1)?;
                    Ok::<_, StoreError>((row.get::<i64>(0)?, owner, row.get::<i64>(2)?))
                })?
                .unwrap();
            assert!(seq > before);
            before = seq;
            assert_eq!((kept.as_deref(), end), (owner, at + 60));
        }
        let sum = 4_000_000_000 - 5 + (1 << 40);
        assert_eq!(numbers(tx, "SELECT sum(issued_at) FROM challenge"), [sum]);
        assert_eq!(numbers(tx, "SELECT coalesce(max(seq), 0) FROM challenge"), [before]);
        assert_eq!(numbers(tx, "SELECT count(*) > 2 FROM challenge"), [1]);
        let owned = "SELECT id FROM challenge WHERE (?1 IS NULL OR owner = ?1) \
                     AND (?2 IS NULL OR issued_at < ?2) ORDER BY seq LIMIT ?3";
        for (owner, before, expected) in [
            (None, None, ["x", "y", "z"].as_slice()),
            (Some("ada"), None, &["y"]),
            (None, Some(5_000_000_000_i64), &["x", "z"]),
            (Some("ada"), Some(0), &[]),
        ] {
            let values = values![owner, before, 10];
            let ids = tx.query(owned, values, |row| row.get::<String>(0))?;
            assert_eq!(ids, expected);
        }
        // A text that PostgreSQL cannot have is one all the same, and found again.
        let odd = "odd\0";
        tx.execute("INSERT INTO tenant (id) VALUES (?1)", values![odd])?;
        let again = tx.execute("INSERT INTO tenant (id) VALUES (?1)", values![odd]);
        assert_eq!(again, Err(StoreError::Duplicate));
        assert_eq!(tx.execute("DELETE FROM tenant WHERE id = ?1", values![odd])?, 1);
        let octets = [0, 1, 0xff, b'\'', b'\\'];
        tx.execute(
            "INSERT INTO idempotency (id, request, answer, expires_at) VALUES (?1, ?2, x'', 7)",
            values![&octets, octets.as_slice()],
        )?;
        let kept = "SELECT id, answer FROM idempotency WHERE request = x'0001FF275c' AND id = ?1";
        let kept: Option<([u8; 5], Vec<u8>)> =
            tx.one(kept, values![&octets], |row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?)))?;
        assert_eq!(kept, Some((octets, Vec::new())));
        Ok(())
    })
    .await
    .unwrap();
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn statements_mean_the_same_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("issuer.db")).unwrap();
    run(suite(&store));
}

#[test]
fn statements_mean_the_same_in_postgresql() {
    let name = "statements_mean_the_same_in_postgresql";
    let Some(programs) = Programs::find() else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{name} needs PostgreSQL");
        eprintln!("SKIPPED {name}: PostgreSQL is missing");
        return;
    };
    let cluster = Cluster::start(&programs, &[]).unwrap();
    run(async {
        let config = PostgresConfig::new(&cluster.by_socket()).unwrap();
        let store = Store::open_postgres(config).await.unwrap();
        suite(&store).await;
        // After a SELECT that failed nothing is committed, whatever the work thinks.
        let careless = write(&store, |tx| {
            tx.execute("DELETE FROM challenge", values![])?;
            let wrong = tx.exists("SELECT nothing FROM tenant", values![]).unwrap_err();
            assert_eq!(tx.execute("DELETE FROM challenge", values![]), Err(wrong));
            Ok(())
        });
        let error = careless.await.unwrap_err();
        assert!(matches!(&error, StoreError::Engine { message, .. } if message.contains("42703")));
        let left = |tx: &Tx<'_>| Ok::<_, StoreError>(numbers(tx, "SELECT count(*) FROM challenge"));
        assert_eq!(store.read(left).await, Ok(vec![3]));
    });
}
