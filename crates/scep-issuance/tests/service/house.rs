//! An issuer in this process, on a port of its own, with tokens for its two tenants.

use crate::harness::{Backend, backend};
use reqwest::{Client, Method};
#[cfg(feature = "postgres")]
use scep_issuance::service::PostgresConfig;
use scep_issuance::service::{Scope, Service, Store};
use scep_keys::AwsLc;
use scep_testkit::clock::FixedClock;
use scep_testkit::keys::TestKey;
use scep_types::{GatewayGroupId, TenantId, Timestamp};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "postgres")]
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const PROFILE: &str = r#"
id = "wifi"
for = "device"
subject = "O=Example, CN={{DeviceId}}"
key_usage = ["digitalSignature"]
extended_key_usages = ["clientAuth"]
key_algorithms = ["rsa2048", "p256"]
validity = "365d"
scep_urls = ["https://scep.example.org/scep"]
"#;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// A problem of this kind with this status, told as one.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.content_type, "application/problem+json");
        let json = self.json();
        assert_eq!(json["type"], format!("urn:sceptic:problem:{kind}"), "{}", self.text);
        assert_eq!(json["status"], status);
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}

pub(crate) struct House {
    pub(crate) dir: TempDir,
    pub(crate) database: Database,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) base: String,
    pub(crate) admin: String,
    pub(crate) read: String,
    pub(crate) write: String,
    /// An administrator of another tenant.
    pub(crate) other: String,
    client: Client,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("contoso").unwrap()
}

pub(crate) fn group() -> GatewayGroupId {
    GatewayGroupId::new("main").unwrap()
}

/// Where an issuer keeps what it knows.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    Sqlite(PathBuf),
    #[cfg(feature = "postgres")]
    Postgres(Schema),
}

/// A schema of its own on a server.
#[cfg(feature = "postgres")]
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    /// How to reach the server.
    pub(crate) connection: String,
    pub(crate) name: String,
}

#[cfg(feature = "postgres")]
impl Schema {
    pub(crate) fn new(connection: String) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self { connection, name: format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed)) }
    }

    pub(crate) fn config(&self) -> PostgresConfig {
        PostgresConfig::new(&self.connection).unwrap().schema(&self.name).unwrap()
    }

    /// A connection that no issuer knows of.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        let connecting = tokio_postgres::connect(&self.connection, tokio_postgres::NoTls);
        let (client, io) = connecting.await.unwrap();
        tokio::spawn(io);
        let path = format!("SET search_path = {}", self.name);
        client.batch_execute(&path).await.unwrap();
        client
    }
}

impl Database {
    /// A new one of the present test's kind.
    fn new(dir: &Path) -> Self {
        match backend() {
            Backend::Sqlite => Self::Sqlite(dir.join("issuer.db")),
            #[cfg(feature = "postgres")]
            Backend::Postgres(cluster) => Self::Postgres(Schema::new(cluster.by_socket())),
        }
    }

    pub(crate) async fn open(&self) -> Store {
        match self {
            Self::Sqlite(path) => Store::open(path).unwrap(),
            #[cfg(feature = "postgres")]
            Self::Postgres(schema) => Store::open_postgres(schema.config()).await.unwrap(),
        }
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::new(dir.path());
        Self::on(dir, database).await
    }

    /// On a database that is there, or another kind than the test's.
    pub(crate) async fn on(dir: TempDir, database: Database) -> Self {
        let clock = Arc::new(FixedClock::default());
        let store = database.open().await;
        let token = async |tenant: &str, scope| {
            let tenant = TenantId::new(tenant).unwrap();
            let end = FixedClock::DAY.plus(Duration::from_secs(30 * 86_400));
            let made = store.create_token(&tenant, &[scope], end, &AwsLc).await.unwrap();
            made.expose().clone()
        };
        let (admin, read) =
            (token("contoso", Scope::Admin).await, token("contoso", Scope::Read).await);
        let write = token("contoso", Scope::ChallengesWrite).await;
        let other = token("fabrikam", Scope::Admin).await;
        let client = Client::builder().no_proxy().build().unwrap();
        let mut house = Self {
            dir,
            database,
            clock,
            base: String::new(),
            admin,
            read,
            write,
            other,
            client,
            stop: CancellationToken::new(),
            task: None,
        };
        house.start().await;
        house
    }

    /// The issuer's database, opened once more.
    pub(crate) async fn store(&self) -> Store {
        self.database.open().await
    }

    /// Everything that the database keeps, with whatever is in between.
    pub(crate) async fn at_rest(&self) -> Vec<u8> {
        match &self.database {
            Database::Sqlite(path) => {
                // The log and its index are beside it.
                let beside = std::fs::read_dir(path.parent().unwrap()).unwrap();
                beside.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
            }
            #[cfg(feature = "postgres")]
            Database::Postgres(schema) => {
                let client = schema.client().await;
                let tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables \
                              WHERE schemaname = $1";
                let mut bytes = Vec::new();
                for table in client.query(tables, &[&schema.name]).await.unwrap() {
                    let rows = format!("SELECT t::text FROM {} t", table.get::<_, &str>(0));
                    for row in client.query(&rows, &[]).await.unwrap() {
                        let text: &str = row.get(0);
                        bytes.extend_from_slice(text.as_bytes());
                        // Octets are shown as digits.
                        for octets in text.split("\\x").skip(1) {
                            let end = octets.find(|c: char| !c.is_ascii_hexdigit());
                            let digits = &octets[..end.unwrap_or(octets.len())];
                            bytes.extend(hex::decode(digits).unwrap());
                        }
                    }
                }
                bytes
            }
        }
    }

    async fn start(&mut self) {
        let clock = Arc::<FixedClock>::clone(&self.clock);
        let store = self.store().await;
        let service = Service::new(store, TestKey::P256A.signer(), Arc::new(AwsLc), clock);
        service.put_tenant(&tenant()).await.unwrap();
        service.put_group(&tenant(), &group(), &TestKey::RsaA.public_key()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.base = format!("http://{}", listener.local_addr().unwrap());
        self.stop = CancellationToken::new();
        let stop = self.stop.clone();
        let serving = async move { service.serve(listener, None, stop).await.unwrap() };
        self.task = Some(tokio::spawn(serving));
    }

    /// Ends gracefully and starts again on the same database.
    pub(crate) async fn restart(&mut self) {
        self.stop.cancel();
        self.task.take().unwrap().await.unwrap();
        self.start().await;
    }

    pub(crate) async fn call(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let method: Method = method.to_uppercase().parse().unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| *name == "Content-Type") {
                request = request.header("Content-Type", "application/json");
            }
            request = request.body(body.to_owned());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let headers = response.headers().clone();
        let content_type = headers.get("content-type").map(|v| v.to_str().unwrap().to_owned());
        Answer {
            status: response.status().as_u16(),
            content_type: content_type.unwrap_or_default(),
            headers,
            text: response.text().await.unwrap(),
        }
    }

    /// As the administrator; paths below the tenant.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Some(&self.admin), "GET", &below(path), None, &[]).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.call(Some(&self.admin), method, &below(path), Some(&body.to_string()), &[]).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Some(&self.admin), "DELETE", &below(path), None, &[]).await
    }

    /// A profile, a device that has it, and another that has not.
    pub(crate) async fn furnish(&self) {
        use serde_json::json;
        self.post("/profiles", &json!({ "toml": PROFILE })).await.is(201);
        for device in ["laptop-1", "laptop-2"] {
            self.post("/devices", &json!({ "id": device })).await.is(201);
        }
        let assigned = json!({ "profile": "wifi", "device": "laptop-1" });
        self.post("/assignments", &assigned).await.is(201);
    }

    pub(crate) fn now(&self) -> Timestamp {
        use scep_types::Clock as _;
        self.clock.now()
    }
}

pub(crate) fn below(path: &str) -> String {
    format!("/api/v1/tenants/contoso{path}")
}
