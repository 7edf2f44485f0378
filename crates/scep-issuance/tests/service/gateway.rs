//! The issuer of a house, for connectors: over TLS, with a connector CA; and gateways that enrol with it.

use crate::house::{House, tenant};
use reqwest::{Client, Identity};
use scep_ca::{LocalCa, LocalCaSettings};
use scep_issuance::service::{IssuerKey, IssuerKeys, Link, Scope, Service, Tls};
use scep_keys::{AwsLc, SoftwareKey};
use scep_link::{
    CheckInRequest, Counters, EnrolRequest, EnrolResponse, EnrolmentToken, ErrorCode, Health,
    LedgerKind, Message, Pkcs10Der, PossessionChallenge, PossessionProof, Problem, RenewRequest,
    RenewResponse, SoftwareVersion, V1,
};
use scep_pkcs10::CsrBuilder;
use scep_testkit::clock::FixedClock;
use scep_testkit::device::TestExtension;
use scep_testkit::keys::TestKey;
use scep_types::{
    CertificateDer, CheckInNonce, ConnectorId, GatewayGroupId, GatewayName, KeyAlgorithm, LedgerId,
    SignatureScheme, TenantId, Timestamp,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A house whose issuer serves connectors as well, over TLS, on a port of its own.
pub(crate) struct LinkedHouse {
    house: House,
    pub(crate) tls: Tls,
    pub(crate) connector_ca: LocalCa,
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
}

impl Deref for LinkedHouse {
    type Target = House;

    fn deref(&self) -> &House {
        &self.house
    }
}

impl Drop for LinkedHouse {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A connector CA of this key.
pub(crate) fn connector_ca(key: TestKey) -> LocalCa {
    let life = Duration::from_secs(3650 * 86_400);
    let name = "CN=Connector CA".parse().unwrap();
    let signer = key.signer();
    let root = LocalCa::self_signed_root(&*signer, &name, life, FixedClock::DAY, &AwsLc).unwrap();
    LocalCa::new(signer, root, Vec::new(), LocalCaSettings::default(), Arc::new(AwsLc)).unwrap()
}

/// A file for its owner alone.
pub(crate) fn private_file(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Certificate and key of a TLS server, as files.
pub(crate) fn tls_files(dir: &Path, key: TestKey) -> (PathBuf, PathBuf) {
    let certificate = scep_testkit::device::self_signed(
        &key.key(),
        &"CN=localhost".parse().unwrap(),
        FixedClock::DAY,
        Timestamp::MAX,
        &[TestExtension::key_usage()],
    );
    let file = |end: &str, text: &str| {
        let path = dir.join(format!("{key:?}.{end}"));
        private_file(&path, text);
        path
    };
    let chain = file("pem", &scep_keys::certificates_pem(&[certificate]));
    (chain, file("key.pem", key.pem()))
}

/// The keys of the issuer: the one of a [`House`], and one for commands.
pub(crate) fn issuer_keys() -> IssuerKeys {
    let key = |key: TestKey| IssuerKey {
        signer: key.signer(),
        not_before: Timestamp::EPOCH,
        not_after: Timestamp::MAX,
    };
    IssuerKeys { signing: vec![key(TestKey::P256A)], command: vec![key(TestKey::P256D)] }
}

impl LinkedHouse {
    pub(crate) async fn new() -> Self {
        let house = House::new().await;
        let connector_ca = connector_ca(TestKey::P256C);
        let (certificate, key) = tls_files(house.dir.path(), TestKey::P256B);
        let tls = Tls::read(&certificate, &key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let linked = Self { house, tls, connector_ca, address, stop };
        let service = linked.service().await;
        tokio::spawn(service.serve(listener, Some(linked.tls.clone()), linked.stop.clone()));
        linked
    }

    /// One that serves connectors, on the house's database.
    async fn service(&self) -> Service {
        let tls_pins = vec![TestKey::P256B.public_key().hash()];
        let link = Link { connector_ca: self.connector_ca.clone(), tls_pins };
        let clock = Arc::<FixedClock>::clone(&self.clock);
        Service::new(self.store().await, TestKey::P256A.signer(), Arc::new(AwsLc), clock)
            .with_link(link, issuer_keys())
            .unwrap()
    }

    /// The answer of an issuer that would serve connectors, but has no TLS.
    pub(crate) async fn without_tls(&self, path: &str) -> Told {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/connector/v1/{path}", listener.local_addr().unwrap());
        tokio::spawn(self.service().await.serve(listener, None, self.stop.clone()));
        send(&client(None), &url, b"{}".to_vec()).await
    }

    /// The administrators' tokens end before connectors' certificates do: another one.
    pub(crate) async fn renew_admin(&mut self) {
        let end = self.now().plus(Duration::from_secs(86_400));
        let store = self.store().await;
        let made = store.create_token(&tenant(), &[Scope::Admin], end, &AwsLc).await.unwrap();
        self.house.admin.clone_from(made.expose());
    }

    /// A new group without a key.
    pub(crate) async fn group(&self, id: &str) {
        self.post("/gateway-groups", &json!({ "id": id })).await.is(201);
    }

    /// A token of the tenant, and its record.
    pub(crate) async fn token_of(&self, body: &Value) -> (String, Value) {
        let made = self.post("/connector-tokens", body).await.is(201);
        (made["token"].as_str().unwrap().to_owned(), made)
    }

    pub(crate) async fn token(&self, group: &str) -> String {
        self.token_of(&json!({ "group": group })).await.0
    }

    /// A token by which its gateway is in the group at once.
    pub(crate) async fn confirming_token(&self, group: &str) -> String {
        self.token_of(&json!({ "group": group, "confirmation": "token" })).await.0
    }

    /// A gateway that has enrolled, was confirmed and has proven its key: challenges are made for its group.
    pub(crate) async fn ready(&self, name: &str, group: &str) -> Gateway {
        let mut gateway = Gateway::new(name, group);
        let token = self.confirming_token(group).await;
        gateway.enrol(self, &token).await.unwrap();
        let proof = gateway.proof();
        gateway.check_in(self, &[proof]).await.unwrap();
        gateway
    }

    pub(crate) async fn connector(&self, gateway: &Gateway) -> Value {
        self.get(&format!("/connectors/{}", gateway.id())).await.is(200)
    }

    /// Asks for a challenge.
    pub(crate) async fn challenge(&self, group: &str) -> crate::house::Answer {
        let wanted = json!({ "device": "laptop-1", "profile": "wifi", "group": group });
        self.post("/challenges", &wanted).await
    }

    /// Sends what a connector sends.
    pub(crate) async fn tell(&self, client: &Client, path: &str, body: Vec<u8>) -> Told {
        send(client, &format!("https://{}/connector/v1/{path}", self.address), body).await
    }
}

async fn send(client: &Client, url: &str, body: Vec<u8>) -> Told {
    let request = client.post(url).header("Content-Type", "application/json").body(body);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let media = response.headers()["content-type"].to_str().unwrap().to_owned();
    Told { status, media, body: response.bytes().await.unwrap().to_vec() }
}

/// What the issuer has answered to a connector.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) media: String,
    pub(crate) body: Vec<u8>,
}

impl Told {
    /// The success, or the code of the refusal with its words.
    pub(crate) fn outcome(self) -> Result<Vec<u8>, (ErrorCode, String)> {
        if self.status == 200 {
            return Ok(self.body);
        }
        assert_eq!(self.media, "application/problem+json");
        let problem = Problem::read(&self.body).unwrap();
        let code = problem.code().unwrap();
        assert_eq!(code.status(), self.status);
        Err((code, problem.detail().unwrap_or_default().to_owned()))
    }

    #[track_caller]
    pub(crate) fn refused(self, code: ErrorCode) -> String {
        let (got, why) = self.outcome().expect_err("a refusal");
        assert_eq!(got, code, "{why}");
        why
    }
}

/// A client, with or without a certificate. It asks no server who it is.
pub(crate) fn client(identity: Option<(&CertificateDer, &SoftwareKey)>) -> Client {
    let builder = Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
    let Some((certificate, key)) = identity else { return builder.build().unwrap() };
    let key = key.to_pkcs8_der().unwrap();
    let key = pem::encode(&pem::Pem::new("PRIVATE KEY", key.expose().clone()));
    let certificate = scep_keys::certificates_pem(std::slice::from_ref(certificate));
    let identity = Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap();
    builder.identity(identity).build().unwrap()
}

pub(crate) fn new_key() -> SoftwareKey {
    SoftwareKey::generate(KeyAlgorithm::P256).unwrap()
}

/// A request for a certificate of this key.
pub(crate) fn certificate_request(key: &SoftwareKey) -> Pkcs10Der {
    let scheme = SignatureScheme::default_for(key.public_key().algorithm());
    Pkcs10Der::new(CsrBuilder::default().sign(&*key.signer(), scheme).unwrap()).unwrap()
}

/// A gateway, as far as the issuer sees one.
#[derive(Clone)]
pub(crate) struct Gateway {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) tenant: TenantId,
    pub(crate) ledger: LedgerId,
    pub(crate) ledger_kind: LedgerKind,
    pub(crate) authentication: SoftwareKey,
    pub(crate) decryption: SoftwareKey,
    pub(crate) certificate: Option<CertificateDer>,
    pub(crate) answer: Option<EnrolResponse>,
    pub(crate) client: Client,
}

impl Gateway {
    /// With new keys, and a ledger of its own.
    pub(crate) fn new(name: &str, group: &str) -> Self {
        let (authentication, decryption) = (new_key(), new_key());
        let id = decryption.public_key().hash();
        let ledger = LedgerId::from_bytes(*id.as_bytes().first_chunk().unwrap());
        Self {
            name: name.to_owned(),
            group: group.to_owned(),
            tenant: tenant(),
            ledger,
            ledger_kind: LedgerKind::Single,
            authentication,
            decryption,
            certificate: None,
            answer: None,
            client: client(None),
        }
    }

    /// One that shares a PostgreSQL ledger and its group's key with this one.
    pub(crate) fn sibling(&self, name: &str) -> Self {
        let mut sibling = Self::new(name, &self.group);
        sibling.ledger = self.ledger;
        sibling.ledger_kind = LedgerKind::Shared;
        sibling.decryption = self.decryption.clone();
        sibling
    }

    pub(crate) fn request(&self, token: &str) -> EnrolRequest {
        EnrolRequest {
            v: V1,
            token: EnrolmentToken::new(token).unwrap(),
            gateway: GatewayName::new(&*self.name).unwrap(),
            group: GatewayGroupId::new(&*self.group).unwrap(),
            certificate_request: certificate_request(&self.authentication),
            decryption_key: self.decryption.public_key().clone(),
            ledger: self.ledger,
            ledger_kind: self.ledger_kind,
            software: SoftwareVersion::new("0.1.0").unwrap(),
        }
    }

    /// Asks to enrol, without taking up the answer.
    pub(crate) async fn ask(&self, house: &LinkedHouse, token: &str) -> Told {
        house.tell(&client(None), "enrol", written(&self.request(token))).await
    }

    pub(crate) async fn enrol(
        &mut self,
        house: &LinkedHouse,
        token: &str,
    ) -> Result<(), (ErrorCode, String)> {
        let body = self.ask(house, token).await.outcome()?;
        let answer: EnrolResponse = scep_link::read(&body).unwrap();
        self.take(answer.certificate_chain[0].clone());
        self.answer = Some(answer);
        Ok(())
    }

    /// Uses this certificate from now on, over new connections.
    pub(crate) fn take(&mut self, certificate: CertificateDer) {
        self.client = client(Some((&certificate, &self.authentication)));
        self.certificate = Some(certificate);
    }

    pub(crate) fn id(&self) -> ConnectorId {
        self.answer.as_ref().unwrap().connector
    }

    /// The answer to a challenge of possession.
    pub(crate) fn prove(&self, challenge: &PossessionChallenge) -> PossessionProof {
        let key = self.decryption.decryption().unwrap();
        scep_link::prove(&AwsLc, challenge, &key, &self.tenant, self.id()).unwrap()
    }

    /// The answer to the one that came with the enrolment.
    pub(crate) fn proof(&self) -> PossessionProof {
        self.prove(&self.answer.as_ref().unwrap().possession_challenge)
    }

    pub(crate) fn check_in_request(&self, proofs: &[PossessionProof]) -> CheckInRequest {
        CheckInRequest {
            v: V1,
            connector: self.id(),
            nonce: CheckInNonce::from_bytes([7; 16]),
            last_sequence: self.answer.as_ref().unwrap().last_sequence,
            denial_cursor: 0,
            wait_seconds: 0,
            software: SoftwareVersion::new("0.1.0").unwrap(),
            challenge_version: 1,
            health: Health::Serving,
            refused: None,
            queue_depth: 0,
            certificates: Vec::new(),
            counters: Counters::default(),
            ledger: self.ledger,
            outbox_high_mark: 0,
            possession: proofs.to_vec(),
        }
    }

    /// Checks in, and does not wait for news.
    pub(crate) async fn check_in(
        &self,
        house: &LinkedHouse,
        proofs: &[PossessionProof],
    ) -> Result<(), (ErrorCode, String)> {
        let body = written(&self.check_in_request(proofs));
        house.tell(&self.client, "check-in", body).await.outcome().map(drop)
    }

    pub(crate) async fn renew(
        &self,
        house: &LinkedHouse,
        request: &RenewRequest,
    ) -> Result<RenewResponse, (ErrorCode, String)> {
        let body = house.tell(&self.client, "renew", written(request)).await.outcome()?;
        Ok(scep_link::read(&body).unwrap())
    }
}

pub(crate) fn written<M: Message>(message: &M) -> Vec<u8> {
    scep_link::write(message).unwrap()
}
