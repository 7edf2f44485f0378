//! What only a server has: several issuers on one database, lost connections, a server that is not as it must be.

use crate::harness::{Backend, backend, tests};
use crate::house::{Answer, Database, House, Schema, below};
use crate::proxy::{Cut, Proxy};
use core::time::Duration;
use scep_issuance::service::{PostgresConfig, Store, StoreError};
use scep_testkit::postgres::{Cluster, PASSWORD, Programs};
use scep_testkit::programs::available;
use scep_types::Secret;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

/// The run's cluster.
fn cluster() -> Arc<Cluster> {
    let Backend::Postgres(cluster) = backend() else { panic!("these tests are for a server") };
    cluster
}

fn schema() -> Schema {
    Schema::new(cluster().by_socket())
}

async fn house(schema: &Schema) -> House {
    House::on(tempfile::tempdir().unwrap(), Database::Postgres(schema.clone())).await
}

/// A cluster of the test's own, to be stopped.
fn own_cluster() -> Cluster {
    Cluster::start(&Programs::find().unwrap(), &[]).unwrap()
}

/// Does something that takes long to a cluster.
async fn meanwhile(
    mut cluster: Cluster,
    work: impl FnOnce(&mut Cluster) + Send + 'static,
) -> Cluster {
    let work = move || {
        work(&mut cluster);
        cluster
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// For what comes about sooner or later.
struct Deadline(tokio::time::Instant);

impl Deadline {
    fn new() -> Self {
        Self(tokio::time::Instant::now() + Duration::from_secs(60))
    }

    async fn wait(&self) {
        assert!(tokio::time::Instant::now() < self.0, "it did not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn every(house: &House, kind: &str) -> Vec<Value> {
    let (mut found, mut path) = (Vec::new(), format!("/{kind}"));
    loop {
        let page = house.get(&path).await.is(200);
        found.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page.get("next") else { return found };
        path = format!("/{kind}?after={}", next.as_str().unwrap());
    }
}

async fn what_can_be_done_once_is_done_once_by_two_issuers() {
    let schema = schema();
    let (first, second) = (Arc::new(house(&schema).await), Arc::new(house(&schema).await));
    first.furnish().await;
    let (token, path) = (first.write.clone(), below("/challenges"));
    let wanted = json!({ "device": "laptop-1", "profile": "wifi" }).to_string();
    let device = json!({ "id": "taken-once" });
    let (mut makes, mut mints) = (JoinSet::new(), JoinSet::new());
    for n in 0..64 {
        let issuer = Arc::clone(if n % 2 == 0 { &first } else { &second });
        let (asked, device) = (Arc::clone(&issuer), device.clone());
        makes.spawn(async move { asked.post("/devices", &device).await });
        let (token, path, wanted) = (token.clone(), path.clone(), wanted.clone());
        mints.spawn(async move {
            let once = [("Idempotency-Key", "once")];
            issuer.call(Some(&token), "POST", &path, Some(&wanted), &once).await
        });
    }
    let made = makes.join_all().await;
    let refused: Vec<&Answer> = made.iter().filter(|answer| answer.status != 201).collect();
    assert_eq!((made.len(), refused.len()), (64, 63));
    refused.iter().for_each(|answer| answer.is_problem(409, "exists"));

    let minted = mints.join_all().await;
    assert!(minted.iter().all(|answer| answer.status == 201 && answer.text == minted[0].text));
    let replayed =
        minted.iter().filter(|answer| answer.headers.contains_key("idempotency-replayed"));
    assert_eq!((minted.len(), replayed.count()), (64, 63));
    assert_eq!(every(&second, "challenges").await.len(), 1);
    // What one has committed the other sees at once, one after the other.
    for n in 0..16 {
        let (writes, reads) = if n % 2 == 0 { (&first, &second) } else { (&second, &first) };
        writes.post("/devices", &json!({ "id": format!("seen-{n}") })).await.is(201);
        reads.get(&format!("/devices/seen-{n}")).await.is(200);
    }
}

async fn who_reads_waits_for_nobody() {
    let schema = schema();
    let house = house(&schema).await;
    // A transaction always sees the same activity, so that another connection must look.
    let (outside, looks) = (schema.client().await, schema.client().await);
    let lock = "BEGIN; SELECT version FROM issuer_schema FOR UPDATE";
    outside.batch_execute(lock).await.unwrap();
    let device = json!({ "id": "later" });
    let mut write = Box::pin(house.post("/devices", &device));
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                   AND query LIKE '%issuer_schema%' AND pg_blocking_pids(pid) @> ARRAY[$1::int]";
    let pid = outside.query_one("SELECT pg_backend_pid()", &[]).await.unwrap();
    let pid: i32 = pid.get(0);
    let look = async || !looks.query(waiting, &[&pid]).await.unwrap().is_empty();
    let deadline = Deadline::new();
    loop {
        tokio::select! {
            answer = &mut write => panic!("it did not wait for its turn: {}", answer.text),
            waits = look() => if waits { break },
        }
        tokio::select! {
            answer = &mut write => panic!("it did not wait for its turn: {}", answer.text),
            () = deadline.wait() => {}
        }
    }
    assert_eq!(every(&house, "devices").await, Vec::<Value>::new());
    outside.batch_execute("COMMIT").await.unwrap();
    write.await.is(201);
    house.get("/devices/later").await.is(200);
}

async fn issuers_that_open_it_at_once_migrate_once() {
    let schema = schema();
    let mut opening = JoinSet::new();
    for _ in 0..6 {
        opening.spawn(Store::open_postgres(schema.config()));
    }
    let stores = opening.join_all().await;
    assert!(stores.iter().all(Result::is_ok), "{stores:?}");
    let client = schema.client().await;
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()";
    let before: i64 = client.query_one(tables, &[]).await.unwrap().get(0);
    assert!(before >= 9, "{before}");
    let version: i64 =
        client.query_one("SELECT version FROM issuer_schema", &[]).await.unwrap().get(0);
    assert!(version >= 4);
    // Texts are compared as SQLite compares them, whatever the database's language.
    let others = "SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
                  WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' \
                  AND a.attcollation <> 0 AND a.attcollation <> '\"C\"'::regcollation";
    assert_eq!(client.query_one(others, &[]).await.unwrap().get::<_, i64>(0), 0);
    Store::open_postgres(schema.config()).await.unwrap();
    assert_eq!(client.query_one(tables, &[]).await.unwrap().get::<_, i64>(0), before);
}

async fn a_newer_schema_is_refused() {
    let schema = schema();
    let running = house(&schema).await;
    let newer = "UPDATE issuer_schema SET version = 1000";
    schema.client().await.batch_execute(newer).await.unwrap();
    let Err(StoreError::Newer { found: 1_000, known }) =
        Store::open_postgres(schema.config()).await
    else {
        panic!("opened");
    };
    assert!((4..1_000).contains(&known));
    // One that runs already writes nothing more.
    running.post("/devices", &json!({ "id": "late" })).await.is_problem(500, "internal");
    assert_eq!(every(&running, "devices").await, Vec::<Value>::new());
}

async fn what_is_no_issuers_is_refused_and_left_as_it_is() {
    let schema = schema();
    let client = schema.client().await;
    let name = &schema.name;
    let make = format!("CREATE SCHEMA {name}; CREATE TABLE {name}.guests (name TEXT)");
    client.batch_execute(&make).await.unwrap();
    let error = Store::open_postgres(schema.config()).await.unwrap_err();
    assert_eq!(error, StoreError::Foreign { schema: name.clone() });
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1";
    let rows = client.query(tables, &[name]).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ["guests"]);
    // An empty schema is as good as none: who makes it may have more rights than the issuer, who needs no others.
    let empty = format!(
        "DROP TABLE {name}.guests; CREATE ROLE {name}_issuer LOGIN; \
         GRANT USAGE, CREATE ON SCHEMA {name} TO {name}_issuer; \
         REVOKE CREATE ON DATABASE postgres FROM PUBLIC"
    );
    client.batch_execute(&empty).await.unwrap();
    let user = format!("user={name}_issuer");
    let connection =
        schema.connection.replace(&format!("user={}", scep_testkit::postgres::USER), &user);
    assert!(connection.contains(&user));
    house(&Schema { connection, name: name.clone() }).await.furnish().await;
}

async fn attack_52_a_server_that_forgets_is_refused_by_name() {
    let mut cluster = own_cluster();
    let running = house(&Schema::new(cluster.by_socket())).await;
    for (name, off) in [
        ("fsync", ["fsync=off"].as_slice()),
        ("full_page_writes", &["fsync=on", "full_page_writes=off"]),
        ("synchronous_commit", &["full_page_writes=on", "synchronous_commit=off"]),
    ] {
        cluster = meanwhile(cluster, move |cluster| {
            cluster.stop().unwrap();
            off.iter().for_each(|setting| cluster.set(setting));
            cluster.restart().unwrap();
        })
        .await;
        let refused = StoreError::Setting { name, expected: "on", got: String::from("off") };
        let fresh = Schema::new(cluster.by_socket());
        assert_eq!(Store::open_postgres(fresh.config()).await.unwrap_err(), refused);
        // Read back on every connection, also on those made again: one that runs does nothing more. Between two
        // attempts it still says what was wrong at the one before.
        let deadline = Deadline::new();
        loop {
            let answer = running.post("/devices", &json!({ "id": name })).await;
            if answer.status != 503 {
                answer.is_problem(500, "internal");
                break;
            }
            deadline.wait().await;
        }
    }
    let cluster = meanwhile(cluster, |cluster| {
        cluster.stop().unwrap();
        cluster.set("synchronous_commit=on");
        cluster.restart().unwrap();
    })
    .await;
    // It goes on by itself once the server is as it must be.
    let deadline = Deadline::new();
    while running.post("/devices", &json!({ "id": "after" })).await.status != 201 {
        deadline.wait().await;
    }
    let standby = format!("{} options='-c default_transaction_read_only=on'", cluster.by_socket());
    let error = Store::open_postgres(Schema::new(standby).config()).await.unwrap_err();
    assert!(matches!(error, StoreError::Away { .. }), "{error:?}");
}

async fn a_wrong_password_is_refused_and_not_shown() {
    let by_port = cluster().by_port("localhost");
    let without = by_port.replace(&PASSWORD.replace('\'', "\\'"), "");
    assert_ne!(without, by_port);
    let config = || PostgresConfig::new(&without).unwrap().schema("test_password").unwrap();
    let secret = |text: &str| Secret::new(text.to_owned());
    let error = Store::open_postgres(config().password(&secret("wr0ng"))).await.unwrap_err();
    let StoreError::Away { message } = &error else { panic!("{error:?}") };
    assert!(message.contains("28P01"), "{message}");
    assert!(!format!("{error} {error:?}").contains("wr0ng"), "{error:?}");
    Store::open_postgres(config().password(&secret(PASSWORD))).await.unwrap();
}

async fn attack_52_a_commit_whose_answer_was_lost_can_be_repeated() {
    let cluster = cluster();
    let proxy = Proxy::start(cluster.port()).await;
    let connection = cluster
        .by_port("localhost")
        .replace(&format!("port={}", cluster.port()), &format!("port={}", proxy.port));
    let house = house(&Schema::new(connection)).await;
    house.furnish().await;
    let (path, wanted) = (below("/challenges"), json!({ "device": "laptop-1", "profile": "wifi" }));
    let wanted = wanted.to_string();
    // Done although nobody has heard of it: told at the repetition. Not done: done then.
    for (cut, replayed, issued) in [(Cut::Answer, true, 1), (Cut::Request, false, 2)] {
        let key = format!("{cut:?}");
        let key = [("Idempotency-Key", key.as_str())];
        let ask = || house.call(Some(&house.admin), "POST", &path, Some(&wanted), &key);
        proxy.cut_writes(cut);
        ask().await.is_problem(500, "uncertain");
        assert!(proxy.has_cut());
        let again = ask().await;
        assert_eq!(again.headers.contains_key("idempotency-replayed"), replayed, "{cut:?}");
        let id = again.is(201)["id"].clone();
        let challenges = every(&house, "challenges").await;
        assert_eq!(challenges.len(), issued, "{cut:?}");
        assert_eq!(challenges[issued - 1]["id"], id, "{cut:?}");
    }
}

async fn attack_52_crashes_of_the_server_lose_nothing_that_was_answered_and_double_nothing() {
    const EACH: usize = 60;
    let mut cluster = own_cluster();
    let schema = Schema::new(cluster.by_socket());
    let house = Arc::new(house(&schema).await);
    house.furnish().await;
    let (done, mut progress) = tokio::sync::watch::channel(0);
    let done = Arc::new(done);
    let mut workers = JoinSet::new();
    for worker in 0..4 {
        let (house, done) = (Arc::clone(&house), Arc::clone(&done));
        workers.spawn(async move {
            let (path, deadline) = (below("/challenges"), Deadline::new());
            let wanted = json!({ "device": "laptop-1", "profile": "wifi" }).to_string();
            let mut ids = Vec::new();
            while ids.len() < EACH {
                let key = format!("{worker}-{}", ids.len());
                let key = [("Idempotency-Key", key.as_str())];
                let answer =
                    house.call(Some(&house.write), "POST", &path, Some(&wanted), &key).await;
                if answer.status == 201 {
                    ids.push(answer.json()["id"].as_str().unwrap().to_owned());
                    done.send_modify(|count| *count += 1);
                    continue;
                }
                let kind = answer.json()["type"].as_str().unwrap().to_owned();
                let expected = ["database-away", "uncertain"];
                assert!(expected.iter().any(|name| kind.ends_with(name)), "{}", answer.text);
                deadline.wait().await;
            }
            ids
        });
    }
    for crash in 1..=3 {
        let begun = *progress.borrow_and_update();
        progress.wait_for(|count| *count >= begun + 20).await.unwrap();
        cluster = meanwhile(cluster, move |cluster| {
            if crash == 3 {
                cluster.stop().unwrap()
            } else {
                cluster.kill().unwrap()
            }
            cluster.restart().unwrap();
        })
        .await;
    }
    let mut answered = BTreeSet::new();
    for ids in workers.join_all().await {
        answered.extend(ids);
    }
    // Each answer was about a challenge of its own, and there are no others.
    assert_eq!(answered.len(), 4 * EACH);
    let kept: Vec<String> = every(&house, "challenges")
        .await
        .iter()
        .map(|challenge| challenge["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kept.len(), 4 * EACH);
    assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), answered);
}

async fn a_server_that_is_away_is_told_and_not_waited_for() {
    let cluster = own_cluster();
    let schema = Schema::new(cluster.by_socket());
    let house = house(&schema).await;
    let cluster = meanwhile(cluster, |cluster| cluster.stop().unwrap()).await;
    let error = Store::open_postgres(schema.config()).await.unwrap_err();
    assert!(matches!(error, StoreError::Away { .. }), "{error:?}");
    house.get("/devices").await.is_problem(503, "database-away");
    let health = house.call(None, "GET", "/healthz", None, &[]).await;
    assert_eq!(health.status, 503);
    let _cluster = meanwhile(cluster, |cluster| cluster.restart().unwrap()).await;
    let deadline = Deadline::new();
    while house.get("/devices").await.status != 200 {
        deadline.wait().await;
    }
    house.post("/devices", &json!({ "id": "after" })).await.is(201);
}

/// A CA with a key, and a certificate of it for `db.example.org`, in files of OpenSSL's.
fn certificates(folder: &Path) {
    let run = |words: &str| {
        let words = words.split(' ');
        let output = Command::new("openssl").args(words).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for name in ["ca", "other"] {
        let out = format!("-keyout {name}.key -out {name}.pem");
        run(&format!("req -x509 -days 2 -subj /CN={name} {out} {key}"));
    }
    run(&format!("req -subj /CN=db -keyout server.key -out server.csr {key}"));
    let names = "basicConstraints=CA:FALSE\nsubjectAltName=DNS:db.example.org\n";
    std::fs::write(folder.join("names"), names).unwrap();
    let ca = "-CA ca.pem -CAkey ca.key -CAcreateserial";
    run(&format!("x509 -req -in server.csr {ca} -days 2 -extfile names -out server.pem"));
}

async fn a_server_is_verified_by_chain_and_name() {
    if !available("openssl", "a_server_is_verified_by_chain_and_name") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let mut cluster = own_cluster();
    for (name, kind) in [("server.key", "ssl_key_file"), ("server.pem", "ssl_cert_file")] {
        let contents = std::fs::read(folder.path().join(name)).unwrap();
        let placed = cluster.place(name, &contents).unwrap();
        cluster.set(&format!("{kind}={}", placed.display()));
    }
    cluster.set("ssl=on");
    let cluster = meanwhile(cluster, |cluster| {
        cluster.stop().unwrap();
        cluster.restart().unwrap();
    })
    .await;
    let by = |host: &str, mode: &str, roots: &str| {
        let roots = folder.path().join(roots);
        let words = format!("sslmode={mode} sslrootcert='{}'", roots.display());
        Schema::new(format!("{} {words}", cluster.by_port(host)))
    };
    let verified = by("db.example.org", "verify-full", "ca.pem");
    let house = house(&verified).await;
    house.furnish().await;
    let (plain, io) = tokio_postgres::connect(&cluster.by_socket(), NoTls).await.unwrap();
    tokio::spawn(io);
    let encrypted = "SELECT bool_and(ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity \
                     USING (pid) WHERE application_name = 'scep-issuer'";
    let row = plain.query_one(encrypted, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0) && row.get::<_, i64>(1) > 0);
    // `require` verifies as much.
    Store::open_postgres(by("db.example.org", "require", "ca.pem").config()).await.unwrap();
    for (host, roots, why) in [
        ("other.example.org", "ca.pem", "not valid for name"),
        ("db.example.org", "other.pem", "UnknownIssuer"),
    ] {
        for mode in ["verify-full", "require"] {
            let error = Store::open_postgres(by(host, mode, roots).config()).await.unwrap_err();
            let StoreError::Away { message } = error else { panic!("{error:?}") };
            assert!(message.contains(why), "{message}");
        }
    }
    // A server that speaks no TLS is not spoken to.
    let _cluster = meanwhile(cluster, |cluster| {
        cluster.stop().unwrap();
        cluster.set("ssl=off");
        cluster.restart().unwrap();
    })
    .await;
    let error = Store::open_postgres(verified.config()).await.unwrap_err();
    assert!(matches!(error, StoreError::Away { .. }), "{error:?}");
}

tests![
    what_can_be_done_once_is_done_once_by_two_issuers,
    who_reads_waits_for_nobody,
    issuers_that_open_it_at_once_migrate_once,
    a_newer_schema_is_refused,
    what_is_no_issuers_is_refused_and_left_as_it_is,
    attack_52_a_server_that_forgets_is_refused_by_name,
    a_wrong_password_is_refused_and_not_shown,
    attack_52_a_commit_whose_answer_was_lost_can_be_repeated,
    attack_52_crashes_of_the_server_lose_nothing_that_was_answered_and_double_nothing,
    a_server_that_is_away_is_told_and_not_waited_for,
    a_server_is_verified_by_chain_and_name,
];
