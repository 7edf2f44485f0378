//! A client against a server in the same process, which answers as each test says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper of tests may panic as a test may"
)]

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::TokioIo;
use scep_ca::{InfrastructurePurpose, LocalCa, LocalCaSettings};
use scep_client::{
    Answer, Capabilities, ClientError, ClientSettings, FailInfo, Identity, Issued,
    LegacyAlgorithms, MessageError, Pending, Polling, ScepClient, Server, Step, Transport, Trust,
};
use scep_cms::{CmsError, Limits, Recipient};
use scep_keys::{AwsLc, SoftwareKey};
use scep_message::http::{self, Operation};
use scep_message::{
    MessageType, PkiMessage, RaIdentity, ReplyChain, ReplyContext, Request, ca_cert, next_ca,
};
use scep_pkcs10::CsrBuilder;
use scep_types::{
    CertificateDer, DistinguishedName, Fault, KeyAlgorithm, KeyError, ObjectIdentifier,
    ReleasedCertificate, Secret, SerialNumber, SignatureScheme, Signer, SpkiDer, Timestamp,
    TransactionId,
};
use std::convert::Infallible;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);
const CAPS: &str = "AES\nPOSTPKIOperation\nRenewal\nSCEPStandard\nSHA-256\n";

/// RSA keys are slow to make: these are made once, and only whose they are matters.
static RSA: LazyLock<[SoftwareKey; 5]> = LazyLock::new(|| {
    std::array::from_fn(|_| SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap())
});

fn device() -> &'static SoftwareKey {
    &RSA[0]
}

fn name(text: &str) -> DistinguishedName {
    text.parse().unwrap()
}

/// A CA named `O=Example, CN=Root`: two calls make two of one name.
fn ca() -> LocalCa {
    ca_of(SoftwareKey::generate(KeyAlgorithm::P256).unwrap().signer())
}

fn ca_of(key: Arc<dyn Signer>) -> LocalCa {
    let subject = name("O=Example, CN=Root");
    let root = LocalCa::self_signed_root(&*key, &subject, DAY * 1000, NOW, &AwsLc).unwrap();
    LocalCa::new(key, root, vec![], LocalCaSettings::default(), Arc::new(AwsLc)).unwrap()
}

fn root(ca: &LocalCa) -> CertificateDer {
    use scep_ca::CertificateAuthority as _;
    ca.chain()[0].clone()
}

fn issue(ca: &LocalCa, purpose: InfrastructurePurpose, key: &SpkiDer, cn: &str) -> CertificateDer {
    ca.issue_infrastructure(purpose, key, &name(cn), DAY * 100, NOW).unwrap()
}

/// What a server does with a verified, opened request.
enum Say {
    Issue,
    /// Issue, and send the CA's certificate too.
    IssueWithChain,
    IssueFrom(LocalCa),
    IssueFor(SpkiDer),
    Refuse(FailInfo, &'static str),
    Pending,
    Crl(Vec<u8>),
    /// Send these certificates.
    Send(CertificateDer),
    /// Send the answer of the first message again.
    Replay,
    /// Sign with another RA's key, under another certificate.
    ImpostorRefuses,
    Http(StatusCode, Option<&'static str>),
    Flood,
    Silence,
}

/// One message as the server got it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    kind: MessageType,
    transaction_id: TransactionId,
    signer: CertificateDer,
}

struct Fake {
    ca: LocalCa,
    ra: RaIdentity,
    impostor: RaIdentity,
    caps: Result<&'static str, StatusCode>,
    ca_cert: Vec<CertificateDer>,
    ca_key: Arc<dyn Signer>,
    next_ca: Vec<u8>,
    script: Mutex<Vec<Say>>,
    seen: Mutex<Vec<Seen>>,
    sent: Mutex<Vec<Vec<u8>>>,
    queries: Mutex<Vec<String>>,
    /// Of the last enrolment; a poll asks for the answer to it.
    challenge: Mutex<Option<String>>,
}

struct Released(CertificateDer);

impl ReleasedCertificate for Released {
    fn certificate(&self) -> &CertificateDer {
        &self.0
    }
}

/// An RA with one key.
fn ra(ca: &LocalCa, key: &SoftwareKey) -> RaIdentity {
    let certificate = issue(ca, InfrastructurePurpose::RaCombined, key.public_key(), "CN=RA");
    RaIdentity {
        signing_certificate: certificate.clone(),
        signing_key: key.signer(),
        recipients: vec![Recipient { certificate, key: key.decryption().unwrap() }],
    }
}

impl Fake {
    /// A good server that says these things in turn.
    fn new(script: Vec<Say>) -> Self {
        let ca_key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap().signer();
        let ca = ca_of(Arc::clone(&ca_key));
        let ra = ra(&ca, &RSA[1]);
        let ca_cert = vec![ra.signing_certificate.clone(), root(&ca)];
        Self {
            impostor: self::ra(&self::ca(), &RSA[2]),
            ca,
            ra,
            caps: Ok(CAPS),
            ca_cert,
            ca_key,
            next_ca: vec![],
            script: Mutex::new(script),
            seen: Mutex::default(),
            sent: Mutex::default(),
            queries: Mutex::default(),
            challenge: Mutex::default(),
        }
    }

    fn trust(&self) -> Trust {
        Trust::Fingerprint(root(&self.ca).fingerprint())
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn leaf(&self, ca: &LocalCa, spki: &SpkiDer) -> Released {
        Released(issue(ca, InfrastructurePurpose::RaSigning, spki, "O=Example, CN=device"))
    }

    fn pki(&self, method: &str, message: &[u8]) -> Option<(StatusCode, Vec<u8>)> {
        let limits = Limits::default();
        let signed = PkiMessage::parse(message, &limits)
            .unwrap()
            .verify(&AwsLc, LegacyAlgorithms::Accept)
            .unwrap();
        self.seen.lock().unwrap().push(Seen {
            method: method.to_owned(),
            kind: signed.message_type(),
            transaction_id: signed.transaction_id().clone(),
            signer: signed.signer().clone(),
        });
        let (request, mut context) = signed.decrypt(&self.ra, &AwsLc);
        let request = request.unwrap();
        let mut known = self.challenge.lock().unwrap();
        if let Request::Enrol { csr, .. } = &request {
            *known = challenge_of(csr);
        }
        if let Some(challenge) = &*known {
            context.answer_with(Secret::new(challenge.clone()));
        }
        let say = self.script.lock().unwrap().remove(0);
        let body = match say {
            Say::Http(status, _) => return Some((status, vec![])),
            Say::Silence => return None,
            Say::Flood => vec![0x30; (1 << 20) + 1],
            Say::Replay => self.sent.lock().unwrap()[0].clone(),
            say => self.answer(say, &request, &context),
        };
        self.sent.lock().unwrap().push(body.clone());
        Some((StatusCode::OK, body))
    }

    fn answer(&self, say: Say, request: &Request, context: &ReplyContext) -> Vec<u8> {
        let spki = || match request {
            Request::Enrol { csr, .. } => spki_of(csr),
            _ => device().public_key().clone(),
        };
        let root = [root(&self.ca)];
        let (released, chain) = match say {
            Say::Issue => (self.leaf(&self.ca, &spki()), ReplyChain::LeafOnly),
            Say::IssueWithChain => (self.leaf(&self.ca, &spki()), ReplyChain::With(&root)),
            Say::IssueFrom(ca) => (self.leaf(&ca, &spki()), ReplyChain::LeafOnly),
            Say::IssueFor(spki) => (self.leaf(&self.ca, &spki), ReplyChain::LeafOnly),
            Say::Send(certificate) => (Released(certificate), ReplyChain::LeafOnly),
            Say::Refuse(info, text) => {
                return context.failure(&self.ra, info, text, &AwsLc).unwrap();
            }
            Say::ImpostorRefuses => {
                return context.failure(&self.impostor, FailInfo::BadRequest, "", &AwsLc).unwrap();
            }
            Say::Pending => return context.pending(&self.ra, &AwsLc).unwrap(),
            Say::Crl(crl) => return context.success_crl(&self.ra, &crl, &AwsLc).unwrap(),
            Say::Replay | Say::Http(..) | Say::Flood | Say::Silence => unreachable!(),
        };
        context.success(&self.ra, &released, chain, &AwsLc).unwrap()
    }

    async fn serve(
        self: Arc<Self>,
        request: HttpRequest<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let method = request.method().to_string();
        let query = request.uri().query().unwrap_or_default().to_owned();
        self.queries.lock().unwrap().push(query.clone());
        let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
        let operation = if method == "POST" {
            http::from_post(Some(&query), body).unwrap()
        } else {
            http::from_query(&query).unwrap()
        };
        let redirect = match self.script.lock().unwrap().first() {
            Some(Say::Http(_, location)) => *location,
            _ => None,
        };
        let (status, body) = match operation {
            Operation::GetCaCaps => match self.caps {
                Ok(caps) => (StatusCode::OK, caps.as_bytes().to_vec()),
                Err(status) => (status, b"<html>AES</html>".to_vec()),
            },
            Operation::GetCaCert => (StatusCode::OK, ca_cert::response(&self.ca_cert).1),
            Operation::GetNextCaCert => (StatusCode::OK, self.next_ca.clone()),
            Operation::PkiOperation(message) => match self.pki(&method, &message) {
                Some(answer) => answer,
                None => std::future::pending().await,
            },
        };
        let mut response = Response::builder().status(status);
        if let Some(location) = redirect {
            response = response.header("Location", location);
        }
        Ok(response.body(Full::new(Bytes::from(body))).unwrap())
    }

    /// Serves until the test's runtime ends; the URL.
    async fn start(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/scep", listener.local_addr().unwrap());
        let fake = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = Arc::clone(&fake);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(
                    TokioIo::new(stream),
                    service_fn(move |request| Arc::clone(&fake).serve(request)),
                ));
            }
        });
        url
    }

    /// A client that has discovered it.
    async fn client(self: &Arc<Self>) -> (ScepClient, Server) {
        self.client_with(ClientSettings::default()).await
    }

    async fn client_with(self: &Arc<Self>, settings: ClientSettings) -> (ScepClient, Server) {
        let client = ScepClient::with_settings(&self.start().await, settings).unwrap();
        let server = client.discover(&self.trust(), NOW, &AwsLc).await.unwrap();
        (client, server)
    }
}

/// The key of a request that these tests have made themselves.
fn spki_of(csr: &[u8]) -> SpkiDer {
    scep_pkcs10::UnprovenCsr::parse(csr, &scep_pkcs10::Rules::default()).unwrap().spki().clone()
}

/// The challenge of a request that these tests have made themselves.
fn challenge_of(csr: &[u8]) -> Option<String> {
    let csr = scep_pkcs10::UnprovenCsr::parse(csr, &scep_pkcs10::Rules::default()).unwrap();
    let csr = csr.prove(&AwsLc).unwrap();
    csr.challenge_password().map(|text| text.expose().clone())
}

fn csr(key: &SoftwareKey) -> Vec<u8> {
    csr_with(key, None)
}

fn csr_with(key: &SoftwareKey, challenge: Option<&str>) -> Vec<u8> {
    let request = CsrBuilder {
        subject: name("O=Example, CN=device"),
        challenge_password: challenge.map(|text| Secret::new(text.to_owned())),
        ..CsrBuilder::default()
    };
    let scheme = SignatureScheme::default_for(key.public_key().algorithm());
    request.sign(&*key.signer(), scheme).unwrap()
}

fn identity() -> Identity {
    identity_of(device())
}

fn identity_of(key: &SoftwareKey) -> Identity {
    let subject = name("O=Example, CN=device");
    Identity::self_signed(&subject, key.signer(), key.decryption().unwrap(), NOW, &AwsLc).unwrap()
}

async fn enrol(client: &ScepClient, server: &Server) -> Result<Answer, ClientError> {
    client.enrol(server, &csr(device()), &identity(), NOW, &AwsLc).await
}

/// Enrols with a server that says one thing.
async fn enrol_with(say: Say) -> Result<Answer, ClientError> {
    let fake = Arc::new(Fake::new(vec![say]));
    let (client, server) = fake.client().await;
    enrol(&client, &server).await
}

fn issued(answer: Answer) -> Issued {
    match answer {
        Answer::Issued(issued) => *issued,
        Answer::Pending(_) => panic!("pending"),
    }
}

fn pending(answer: Answer) -> Pending {
    match answer {
        Answer::Pending(pending) => pending,
        Answer::Issued(_) => panic!("issued"),
    }
}

#[tokio::test]
async fn a_device_gets_a_certificate_for_its_key_and_the_chain() {
    let fake = Arc::new(Fake::new(vec![Say::Issue, Say::IssueWithChain]));
    let (client, server) = fake.client().await;
    assert_eq!(server.capabilities, Capabilities::parse(CAPS));
    for _ in 0..2 {
        let issued = issued(enrol(&client, &server).await.unwrap());
        assert_eq!(issued.certificate.spki(), device().public_key());
        assert_eq!(issued.chain, [root(&fake.ca)]);
    }
    let seen = fake.seen();
    assert_eq!(seen[0].kind, MessageType::PkcsReq);
    assert_eq!(seen[0].signer.spki(), device().public_key());
    let transactions: Vec<&str> = seen.iter().map(|s| s.transaction_id.as_str()).collect();
    assert_ne!(transactions[0], transactions[1], "each operation has its own");
    assert!(
        transactions[0].len() == 32
            && transactions[0].bytes().all(|b| b"0123456789ABCDEF".contains(&b))
    );
}

#[tokio::test]
async fn operations_can_be_spawned() {
    let fake = Arc::new(Fake::new(vec![Say::Pending, Say::Issue]));
    let (client, server) = fake.client().await;
    let answer = tokio::spawn(async move {
        let answer = enrol(&client, &server).await?;
        let polling = Polling { interval: Duration::ZERO, polls: 0 };
        client.wait(&server, answer, &identity(), polling, NOW, &AwsLc).await
    });
    assert_eq!(answer.await.unwrap(), Err(ClientError::StillPending { polls: 0 }));
}

/// Environment variables are of the whole process, hence the second one.
#[test]
fn plain_http_needs_no_roots_for_tls() {
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "http_errors_are_errors"])
        .env("SSL_CERT_FILE", "/nonexistent/roots.pem")
        .env("SSL_CERT_DIR", "/nonexistent")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&status.stdout);
    assert!(text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn an_ec_key_is_certified_with_an_rsa_key_for_the_messages() {
    let fake = Arc::new(Fake::new(vec![Say::Issue]));
    let (client, server) = fake.client().await;
    let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let answer = client.enrol(&server, &csr(&key), &identity(), NOW, &AwsLc).await.unwrap();
    assert_eq!(issued(answer).certificate.spki(), key.public_key());
}

#[tokio::test]
async fn an_ec_key_signs_its_own_messages_and_opens_replies_with_the_challenge() {
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384] {
        let fake = Arc::new(Fake::new(vec![
            Say::IssueWithChain,
            Say::IssueWithChain,
            Say::Refuse(FailInfo::BadRequest, "no"),
        ]));
        let (client, server) = fake.client().await;
        let key = SoftwareKey::generate(algorithm).unwrap();
        // A text that is no PrintableString, and one as long as a challenge blob.
        for challenge in ["päss*word", &"Blob".repeat(1000)] {
            let request = csr_with(&key, Some(challenge));
            let answer = client.enrol(&server, &request, &identity_of(&key), NOW, &AwsLc).await;
            let issued = issued(answer.unwrap());
            assert_eq!(issued.certificate.spki(), key.public_key());
            assert_eq!(issued.chain, [root(&fake.ca)]);
        }
        assert_eq!(fake.seen()[0].signer.spki(), key.public_key());
        let request = csr_with(&key, Some("x"));
        let refused = client.enrol(&server, &request, &identity_of(&key), NOW, &AwsLc).await;
        assert!(matches!(refused, Err(ClientError::Refused { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn an_ec_key_renews_and_polls_with_the_challenge_too() {
    let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let spki = key.public_key().clone();
    let fake = Arc::new(Fake::new(vec![Say::Issue, Say::Pending, Say::IssueFor(spki)]));
    let (client, server) = fake.client().await;
    let request = csr_with(&key, Some("a secret"));
    let answer = client.enrol(&server, &request, &identity_of(&key), NOW, &AwsLc).await.unwrap();
    let old = issued(answer).certificate;
    let identity = Identity::certified(old, key.signer(), key.decryption().unwrap()).unwrap();
    let answer = client.renew(&server, &request, &identity, NOW, &AwsLc).await.unwrap();
    let id = pending(answer).transaction_id().clone();
    // After a restart: what was kept is enough, and does not show the challenge.
    let resumed = Pending::resume(id, &request).unwrap();
    assert!(!format!("{resumed:?}").contains("a secret"));
    let answer = client.poll(&server, &resumed, &identity, NOW, &AwsLc).await.unwrap();
    assert_eq!(issued(answer).certificate.spki(), key.public_key());
    let kinds: Vec<MessageType> = fake.seen().iter().map(|seen| seen.kind).collect();
    assert_eq!(kinds, [MessageType::PkcsReq, MessageType::RenewalReq, MessageType::CertPoll]);
}

#[tokio::test]
async fn nothing_is_sent_that_an_ec_key_could_not_open_the_answer_to() {
    let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let fake = Arc::new(Fake::new(vec![]));
    let (client, server) = fake.client().await;
    let error = ClientError::NoChallengeToOpenWith { key: KeyAlgorithm::P256 };
    assert_eq!(error.fault(), Fault::OurConfiguration);
    let me = identity_of(&key);
    for challenge in [None, Some(""), Some("  ")] {
        let request = csr_with(&key, challenge);
        let enrolled = client.enrol(&server, &request, &me, NOW, &AwsLc).await;
        assert_eq!(enrolled, Err(error.clone()));
        let renewed = client.renew(&server, &request, &me, NOW, &AwsLc).await;
        assert_eq!(renewed, Err(error.clone()));
    }
    let serial = me.certificate().serial().unwrap();
    let found = client.get_cert(&server, &serial, &me, &AwsLc).await;
    assert_eq!(found, Err(error.clone()));
    assert_eq!(client.get_crl(&server, &serial, &me, &AwsLc).await, Err(error));
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn an_answer_with_another_challenge_does_not_open() {
    let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
    let fake = Arc::new(Fake::new(vec![Say::Issue, Say::Issue]));
    let (client, server) = fake.client().await;
    let good = csr_with(&key, Some("challenge"));
    issued(client.enrol(&server, &good, &identity_of(&key), NOW, &AwsLc).await.unwrap());
    // The poll's answer is encrypted with the challenge that the server knows.
    let other = csr_with(&key, Some("another"));
    let resumed = Pending::resume(TransactionId::new("1").unwrap(), &other).unwrap();
    let result = client.poll(&server, &resumed, &identity_of(&key), NOW, &AwsLc).await;
    let error = MessageError::Envelope(CmsError::DoesNotOpen);
    assert_eq!(result, Err(ClientError::Reply(error)));
}

#[tokio::test]
async fn a_refusal_says_what_the_server_said() {
    let refused = enrol_with(Say::Refuse(FailInfo::BadRequest, "ChallengeExpired")).await;
    let error = ClientError::Refused {
        fail_info: FailInfo::BadRequest,
        text: Some("ChallengeExpired".into()),
    };
    assert_eq!(error.fault(), Fault::PeerRights);
    assert!(error.to_string().ends_with("ChallengeExpired"), "{error}");
    assert_eq!(refused, Err(error));
    let refused = enrol_with(Say::Refuse(FailInfo::BadAlg, "")).await;
    let error = ClientError::Refused { fail_info: FailInfo::BadAlg, text: None };
    assert_eq!(refused, Err(error));
}

#[tokio::test]
async fn pending_is_polled_under_the_same_transaction() {
    let script = vec![Say::Pending, Say::Pending, Say::IssueFor(device().public_key().clone())];
    let fake = Arc::new(Fake::new(script));
    let (client, server) = fake.client().await;
    let answer = enrol(&client, &server).await.unwrap();
    let polling = Polling { interval: Duration::ZERO, polls: 2 };
    let issued = client.wait(&server, answer, &identity(), polling, NOW, &AwsLc).await.unwrap();
    assert_eq!(issued.certificate.spki(), device().public_key());
    let seen = fake.seen();
    let kinds: Vec<MessageType> = seen.iter().map(|s| s.kind).collect();
    assert_eq!(kinds, [MessageType::PkcsReq, MessageType::CertPoll, MessageType::CertPoll]);
    assert!(seen.iter().all(|s| s.transaction_id == issued.transaction_id));
}

#[tokio::test]
async fn waiting_ends_after_the_last_poll_and_can_be_resumed() {
    let mut script: Vec<Say> = (0..4).map(|_| Say::Pending).collect();
    script.push(Say::IssueFor(device().public_key().clone()));
    let fake = Arc::new(Fake::new(script));
    let (client, server) = fake.client().await;
    let answer = enrol(&client, &server).await.unwrap();
    let transaction_id = pending(answer.clone()).transaction_id().clone();
    let polling = Polling { interval: Duration::ZERO, polls: 3 };
    let result = client.wait(&server, answer, &identity(), polling, NOW, &AwsLc).await;
    assert_eq!(result, Err(ClientError::StillPending { polls: 3 }));
    let resumed = Pending::resume(transaction_id.clone(), &csr(device())).unwrap();
    let answer = client.poll(&server, &resumed, &identity(), NOW, &AwsLc).await.unwrap();
    assert_eq!(issued(answer).transaction_id, transaction_id);
}

#[tokio::test]
async fn an_answer_to_another_message_is_refused() {
    // The same transaction, another nonce: the first PENDING for ever.
    let fake = Arc::new(Fake::new(vec![Say::Pending, Say::Replay]));
    let (client, server) = fake.client().await;
    let first = pending(enrol(&client, &server).await.unwrap());
    let result = client.poll(&server, &first, &identity(), NOW, &AwsLc).await;
    assert_eq!(result, Err(ClientError::Reply(MessageError::OtherNonce)));
    // Another transaction.
    let fake = Arc::new(Fake::new(vec![Say::Issue, Say::Replay]));
    let (client, server) = fake.client().await;
    enrol(&client, &server).await.unwrap();
    let result = enrol(&client, &server).await;
    assert_eq!(result, Err(ClientError::Reply(MessageError::OtherTransaction)));
}

/// Signs with another key than it says.
#[derive(Debug)]
struct Liar {
    says: SpkiDer,
    signs: Arc<dyn Signer>,
}

impl Signer for Liar {
    fn public_key(&self) -> &SpkiDer {
        &self.says
    }
    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.signs.sign(scheme, message)
    }
}

#[tokio::test]
async fn an_answer_by_another_key_is_refused() {
    // Under a certificate of its own, which it sends along.
    let result = enrol_with(Say::ImpostorRefuses).await;
    assert!(
        matches!(
            result,
            Err(ClientError::Reply(MessageError::Signed(CmsError::Structure {
                what: "signer without a certificate",
                ..
            })))
        ),
        "{result:?}"
    );
    // Under the RA's.
    let mut fake = Fake::new(vec![Say::ImpostorRefuses]);
    fake.impostor.signing_certificate = fake.ra.signing_certificate.clone();
    fake.impostor.signing_key =
        Arc::new(Liar { says: RSA[1].public_key().clone(), signs: RSA[2].signer() });
    let fake = Arc::new(fake);
    let (client, server) = fake.client().await;
    let result = enrol(&client, &server).await;
    assert_eq!(result, Err(ClientError::Reply(MessageError::Signed(CmsError::SignatureInvalid))));
}

#[tokio::test]
async fn a_certificate_for_another_key_is_refused() {
    let result = enrol_with(Say::IssueFor(RSA[3].public_key().clone())).await;
    assert_eq!(result, Err(ClientError::OtherKey));
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    // Of the same name, so that only the signature tells.
    let result = enrol_with(Say::IssueFrom(ca())).await;
    assert_eq!(result, Err(ClientError::OtherIssuer));
    // Believing anything is not believing a signature that does not verify.
    let fake = Arc::new(Fake::new(vec![Say::IssueFrom(ca()), Say::Issue]));
    let client = ScepClient::new(&fake.start().await).unwrap();
    let server = client.discover(&Trust::Anything, NOW, &AwsLc).await.unwrap();
    assert_eq!(enrol(&client, &server).await, Err(ClientError::OtherIssuer));
    assert_eq!(issued(enrol(&client, &server).await.unwrap()).chain, [root(&fake.ca)]);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Arc::new(Fake::new(vec![Say::Issue]));
    let target: &'static str = elsewhere.start().await.leak();
    for status in
        [StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT]
    {
        let result = enrol_with(Say::Http(status, Some(target))).await;
        let step = Step::PkiOperation;
        assert_eq!(result, Err(ClientError::Redirect { step, status: status.as_u16() }));
    }
    assert!(elsewhere.queries.lock().unwrap().is_empty(), "nobody was sent there");
}

#[tokio::test]
async fn http_errors_are_errors() {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let result = enrol_with(Say::Http(status, None)).await;
    assert_eq!(result, Err(ClientError::Status { step: Step::PkiOperation, status: 503 }));
}

#[tokio::test]
async fn answers_that_are_too_long_are_cut_off() {
    let result = enrol_with(Say::Flood).await;
    let error = ClientError::TooLong { step: Step::PkiOperation, limit: 1 << 20 };
    assert_eq!(result, Err(error));
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let fake = Arc::new(Fake::new(vec![Say::Silence]));
    let (_, server) = fake.client().await;
    let settings =
        ClientSettings { timeout: Duration::from_millis(1), ..ClientSettings::default() };
    let client = ScepClient::with_settings(&fake.start().await, settings).unwrap();
    let error = enrol(&client, &server).await.unwrap_err();
    assert_eq!(error, ClientError::Timeout { step: Step::PkiOperation });
}

#[tokio::test]
async fn nobody_at_home_is_a_connection_error_without_the_message() {
    let fake = Arc::new(Fake::new(vec![]));
    let (_, server) = fake.client().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/scep", listener.local_addr().unwrap());
    drop(listener);
    let settings = ClientSettings { transport: Transport::Get, ..ClientSettings::default() };
    let client = ScepClient::with_settings(&url, settings).unwrap();
    let error = enrol(&client, &server).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { step: Step::PkiOperation, .. }), "{error}");
    assert!(!error.to_string().contains("message="), "{error}");
}

#[tokio::test]
async fn a_server_without_capabilities_has_none() {
    for caps in [Ok(""), Err(StatusCode::NOT_FOUND), Err(StatusCode::INTERNAL_SERVER_ERROR)] {
        let fake = Arc::new(Fake { caps, ..Fake::new(vec![Say::Issue]) });
        let (client, server) = fake.client().await;
        assert_eq!(server.capabilities, Capabilities::default());
        let error = ClientError::NoCommonAlgorithm { what: "digest" };
        assert_eq!(enrol(&client, &server).await, Err(error));
        // With old algorithms, by GET.
        let settings =
            ClientSettings { legacy: LegacyAlgorithms::Accept, ..ClientSettings::default() };
        let fake = Arc::new(Fake { caps, ..Fake::new(vec![Say::Pending]) });
        let (client, server) = fake.client_with(settings).await;
        // The server of this test opens 3DES only on a legacy endpoint, which it is.
        let result = enrol(&client, &server).await;
        assert!(matches!(result, Ok(Answer::Pending(_))), "{result:?}");
        assert_eq!(fake.seen()[0].method, "GET");
    }
}

#[tokio::test]
async fn post_is_used_where_the_server_says_so_or_the_settings_do() {
    for (caps, transport, method) in [
        (CAPS, Transport::Auto, "POST"),
        ("SCEPStandard", Transport::Auto, "POST"),
        ("AES\nSHA-256", Transport::Auto, "GET"),
        ("AES\nSHA-256", Transport::Post, "POST"),
        (CAPS, Transport::Get, "GET"),
    ] {
        let fake = Arc::new(Fake { caps: Ok(caps), ..Fake::new(vec![Say::Issue]) });
        let settings = ClientSettings { transport, ..ClientSettings::default() };
        let (client, server) = fake.client_with(settings).await;
        issued(enrol(&client, &server).await.unwrap());
        assert_eq!(fake.seen()[0].method, method, "{caps:?} {transport:?}");
    }
}

#[tokio::test]
async fn the_ca_identifier_is_sent_where_the_standard_has_it() {
    let fake = Arc::new(Fake::new(vec![Say::Issue]));
    let settings =
        ClientSettings { ca_identifier: Some("R&D 1".into()), ..ClientSettings::default() };
    let (client, server) = fake.client_with(settings).await;
    issued(enrol(&client, &server).await.unwrap());
    let queries = fake.queries.lock().unwrap().clone();
    assert_eq!(
        queries,
        [
            "operation=GetCACaps&message=R%26D%201",
            "operation=GetCACert&message=R%26D%201",
            "operation=PKIOperation",
        ]
    );
}

#[tokio::test]
async fn a_renewal_is_signed_with_the_old_certificate() {
    for (caps, kind) in [(CAPS, MessageType::RenewalReq), ("SCEPStandard", MessageType::PkcsReq)] {
        let fake = Arc::new(Fake { caps: Ok(caps), ..Fake::new(vec![Say::Issue, Say::Issue]) });
        let (client, server) = fake.client().await;
        let old = issued(enrol(&client, &server).await.unwrap()).certificate;
        let key = device();
        let identity =
            Identity::certified(old.clone(), key.signer(), key.decryption().unwrap()).unwrap();
        let answer = client.renew(&server, &csr(&RSA[3]), &identity, NOW, &AwsLc).await.unwrap();
        assert_eq!(issued(answer).certificate.spki(), RSA[3].public_key());
        let seen = fake.seen();
        assert_eq!((seen[1].kind, &seen[1].signer), (kind, &old));
    }
}

#[tokio::test]
async fn certificates_and_crls_are_fetched_by_serial_number() {
    let fake = Fake::new(vec![]);
    let wanted =
        issue(&fake.ca, InfrastructurePurpose::RaSigning, RSA[3].public_key(), "CN=old device");
    let crl = vec![0x30, 3, 2, 1, 1];
    *fake.script.lock().unwrap() = vec![
        Say::Send(wanted.clone()),
        Say::Crl(crl.clone()),
        Say::Send(wanted.clone()),
        Say::Pending,
        Say::Refuse(FailInfo::BadCertId, "no such certificate"),
    ];
    let fake = Arc::new(fake);
    let (client, server) = fake.client().await;
    let (serial, me) = (wanted.serial().unwrap(), identity());
    assert_eq!(client.get_cert(&server, &serial, &me, &AwsLc).await, Ok(wanted));
    assert_eq!(client.get_crl(&server, &serial, &me, &AwsLc).await, Ok(crl));
    let other = SerialNumber::from_random([1; 16]);
    let expected = "certificate of this serial number";
    let result = client.get_cert(&server, &other, &me, &AwsLc).await;
    assert_eq!(result, Err(ClientError::Empty { expected }));
    let result = client.get_cert(&server, &serial, &me, &AwsLc).await;
    assert_eq!(result, Err(ClientError::UnexpectedPending));
    let result = client.get_crl(&server, &serial, &me, &AwsLc).await;
    assert!(matches!(result, Err(ClientError::Refused { fail_info: FailInfo::BadCertId, .. })));
    let kinds: Vec<MessageType> = fake.seen().iter().map(|s| s.kind).collect();
    use MessageType::{GetCert, GetCrl};
    assert_eq!(kinds, [GetCert, GetCrl, GetCert, GetCert, GetCrl]);
}

#[tokio::test]
async fn the_next_ca_is_believed_when_the_present_one_has_signed() {
    let next = root(&ca());
    let after = core::slice::from_ref(&next);
    let mut fake = Fake::new(vec![]);
    fake.next_ca = next_ca::response(&*fake.ca_key, &root(&fake.ca), after).unwrap();
    let fake = Arc::new(fake);
    let (client, server) = fake.client().await;
    assert_eq!(client.get_next_ca_cert(&server, &AwsLc).await, Ok(vec![next.clone()]));

    // Neither an RA of the CA, nor a stranger's CA of the same name, names the next one.
    let impostor = SoftwareKey::generate(KeyAlgorithm::P256).unwrap().signer();
    let strange = root(&ca_of(Arc::clone(&impostor)));
    for by_ra in [true, false] {
        let mut fake = Fake::new(vec![]);
        fake.next_ca = if by_ra {
            next_ca::response(&*fake.ra.signing_key, &fake.ra.signing_certificate, after).unwrap()
        } else {
            next_ca::response(&*impostor, &strange, after).unwrap()
        };
        let fake = Arc::new(fake);
        let (client, server) = fake.client().await;
        let result = client.get_next_ca_cert(&server, &AwsLc).await;
        assert_eq!(result, Err(ClientError::NextCaUnsigned));
    }

    // Certificates without any signature are not an answer.
    let mut fake = Fake::new(vec![]);
    fake.next_ca = scep_cms::certs_only(&[next]);
    let fake = Arc::new(fake);
    let (client, server) = fake.client().await;
    let result = client.get_next_ca_cert(&server, &AwsLc).await;
    assert!(matches!(result, Err(ClientError::CaCertificates(_))), "{result:?}");
}

/// What is trusted of these certificates.
async fn discover(
    sent: Vec<CertificateDer>,
    trust: &Trust,
    now: Timestamp,
) -> Result<Server, ClientError> {
    let fake = Arc::new(Fake { ca_cert: sent, ..Fake::new(vec![]) });
    let client = ScepClient::new(&fake.start().await).unwrap();
    client.discover(trust, now, &AwsLc).await
}

#[tokio::test]
async fn quirk_18_certificates_are_picked_by_their_key_usage() {
    let ca = ca();
    let signing = issue(&ca, InfrastructurePurpose::RaSigning, RSA[1].public_key(), "CN=sign");
    let opening = issue(&ca, InfrastructurePurpose::RaEncryption, RSA[2].public_key(), "CN=open");
    let both = issue(&ca, InfrastructurePurpose::RaCombined, RSA[3].public_key(), "CN=both");
    let trust = Trust::Fingerprint(root(&ca).fingerprint());
    for sent in [
        vec![signing.clone(), opening.clone(), root(&ca)],
        vec![root(&ca), opening.clone(), signing.clone()],
    ] {
        let certificates = discover(sent, &trust, NOW).await.unwrap().certificates;
        assert_eq!(certificates.recipient(), &opening);
        assert_eq!(certificates.signers(), std::slice::from_ref(&signing));
        assert_eq!(certificates.issuer_der(), root(&ca).subject_der());
    }
    let sent = vec![root(&ca), both.clone()];
    let certificates = discover(sent, &trust, NOW).await.unwrap().certificates;
    assert_eq!((certificates.recipient(), certificates.signers()), (&both, &[both.clone()][..]));
}

#[tokio::test]
async fn quirk_17_a_bare_certificate_is_used_for_everything() {
    // A CA that says only keyCertSign and cRLSign, and an RA that is all there is.
    let key = &RSA[4];
    let subject = name("CN=Old CA");
    let bare = LocalCa::self_signed_root(&*key.signer(), &subject, DAY, NOW, &AwsLc).unwrap();
    let both = issue(&ca(), InfrastructurePurpose::RaCombined, RSA[3].public_key(), "CN=both");
    for only in [bare, both] {
        let trust = Trust::Fingerprint(only.fingerprint());
        let certificates = discover(vec![only.clone()], &trust, NOW).await.unwrap().certificates;
        assert_eq!(certificates.recipient(), &only);
        assert_eq!(certificates.signers(), std::slice::from_ref(&only));
    }
}

#[tokio::test]
async fn only_what_leads_to_the_trusted_certificate_is_used() {
    let (ca, other) = (ca(), ca());
    let ra = issue(&ca, InfrastructurePurpose::RaCombined, RSA[1].public_key(), "CN=RA");
    let foreign = issue(&other, InfrastructurePurpose::RaCombined, RSA[2].public_key(), "CN=RA");
    let trust = Trust::Fingerprint(root(&ca).fingerprint());

    // Another RA of the same name, in front.
    let sent = vec![foreign.clone(), ra.clone(), root(&ca), root(&other)];
    let certificates = discover(sent, &trust, NOW).await.unwrap().certificates;
    assert_eq!(certificates.recipient(), &ra);
    assert_eq!(certificates.trusted(), [ra.clone(), root(&ca)]);
    // Nothing but another's.
    let result = discover(vec![foreign.clone(), root(&ca)], &trust, NOW).await;
    assert_eq!(result.unwrap_err(), ClientError::NoRecipient);
    let known = Trust::Certificate(root(&ca));
    let result = discover(vec![foreign.clone(), root(&other)], &known, NOW).await;
    assert_eq!(result.unwrap_err(), ClientError::Untrusted);
    // A certificate known from elsewhere need not be sent.
    let certificates = discover(vec![ra.clone()], &known, NOW).await.unwrap().certificates;
    assert_eq!((certificates.recipient(), certificates.anchor()), (&ra, Some(&root(&ca))));
    // The fingerprint must be there.
    let expected = root(&ca).fingerprint();
    let result = discover(vec![foreign.clone()], &trust, NOW).await;
    let got = vec![foreign.fingerprint()];
    assert_eq!(result.unwrap_err(), ClientError::FingerprintMismatch { expected, got });
    // An expired RA leads nowhere (RFC 8894, 2.2).
    let later = NOW.plus(DAY * 101);
    let result = discover(vec![ra.clone(), root(&ca)], &trust, later).await;
    assert_eq!(result.unwrap_err(), ClientError::NoRecipient);
    // And whoever believes anything believes the first.
    let sent = vec![foreign.clone(), ra];
    let certificates = discover(sent, &Trust::Anything, NOW).await.unwrap().certificates;
    assert_eq!((certificates.recipient(), certificates.anchor()), (&foreign, None));
}

#[test]
fn an_identity_is_one_key() {
    let (one, other) = (device(), &RSA[3]);
    let subject = name("CN=device");
    let made = |signer: &SoftwareKey, opener: &SoftwareKey| {
        Identity::self_signed(&subject, signer.signer(), opener.decryption().unwrap(), NOW, &AwsLc)
    };
    assert_eq!(made(one, other).unwrap_err(), ClientError::KeysDiffer);
    for algorithm in [KeyAlgorithm::P256, KeyAlgorithm::P384] {
        let ec = SoftwareKey::generate(algorithm).unwrap();
        let certificate = made(&ec, &ec).unwrap().certificate().clone();
        // An EC key signs, and enciphers nothing.
        let usage = certificate.extension(&ObjectIdentifier::new_unwrap("2.5.29.15"));
        assert_eq!(usage, Some(&[3, 2, 7, 0x80][..]));
        assert_eq!(made(&ec, one).unwrap_err(), ClientError::KeysDiffer);
    }
    let certificate = made(one, one).unwrap().certificate().clone();
    let result =
        Identity::certified(certificate.clone(), other.signer(), one.decryption().unwrap());
    assert_eq!(result.unwrap_err(), ClientError::KeysDiffer);
    let result = Identity::certified(certificate, one.signer(), other.decryption().unwrap());
    assert_eq!(result.unwrap_err(), ClientError::KeysDiffer);
}

#[test]
fn the_self_signed_certificate_is_that_of_rfc_8894_2_3() {
    use scep_types::CryptoProvider as _;
    let identity = identity();
    let certificate = identity.certificate();
    assert_eq!(certificate.subject_der(), name("O=Example, CN=device").to_der());
    assert_eq!(certificate.issuer_der(), certificate.subject_der());
    let (tbs, signature) = (certificate.tbs_der(), certificate.signature());
    let scheme = SignatureScheme::RsaPkcs1Sha256;
    assert_eq!(certificate.signature_algorithm_der(), scheme.algorithm_der());
    assert_eq!(AwsLc.verify(device().public_key(), scheme, tbs, signature), Ok(()));
    let usage = certificate.extension(&ObjectIdentifier::new_unwrap("2.5.29.15"));
    assert_eq!(usage, Some(&[3, 2, 5, 0xa0][..]));
    // Row 29 of the field's quirks: clocks differ.
    assert!(certificate.not_before() < NOW && NOW < certificate.not_after());
    // A request without a subject has a signer with one.
    let key = device();
    let nameless = Identity::self_signed(
        &DistinguishedName::empty(),
        key.signer(),
        key.decryption().unwrap(),
        NOW,
        &AwsLc,
    );
    assert_eq!(nameless.unwrap().certificate().subject_der(), name("CN=SCEP client").to_der());
}

#[test]
fn what_is_no_request_is_not_sent() {
    let transaction_id = TransactionId::new("1").unwrap();
    let result = Pending::resume(transaction_id, b"-----BEGIN");
    assert!(matches!(result, Err(ClientError::Request(_))));
}
