//! An issuer of the tests' own: honest as long as nothing else is arranged, over real TLS.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use scep_keys::{AwsLc, SoftwareKey};
use scep_link::*;
use scep_pkcs10::{Rules, UnprovenCsr};
use scep_types::tlv::{self, tag};
use scep_types::{
    CertificateDer, ConnectorId, CryptoProvider, DistinguishedName, GatewayGroupId, KeyAlgorithm,
    KeyId, LedgerId, SerialNumber, SignatureScheme, SpkiDer, SpkiHash, TenantId, Timestamp,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{self, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{self, DigitallySignedStruct, ServerConfig};

pub(crate) const NOW: Timestamp = scep_testkit::house::OPENS;
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn tenant() -> TenantId {
    TenantId::new("contoso").unwrap()
}

pub(crate) fn group() -> GatewayGroupId {
    GatewayGroupId::new("main").unwrap()
}

pub(crate) fn key() -> SoftwareKey {
    SoftwareKey::generate(KeyAlgorithm::P256).unwrap()
}

pub(crate) fn trusted(key: &SoftwareKey) -> TrustedKey {
    TrustedKey {
        key: key.public_key().clone(),
        not_before: NOW.minus(DAY),
        not_after: NOW.plus(365 * DAY),
    }
}

/// A certificate for a key, signed by another under a name.
pub(crate) fn certificate(
    of: &SpkiDer,
    by: &SoftwareKey,
    issuer: &str,
    not_before: Timestamp,
    not_after: Timestamp,
) -> CertificateDer {
    let scheme = SignatureScheme::default_for(by.public_key().algorithm());
    let algorithm = scheme.algorithm_der();
    let mut octets = [0; 16];
    AwsLc.random(&mut octets).unwrap();
    let name = |text: &str| text.parse::<DistinguishedName>().unwrap().to_der();
    let basic = tlv::sequence(&[
        &tlv::oid(&scep_types::ObjectIdentifier::new_unwrap("2.5.29.19")),
        &tlv::encode(tag::OCTET_STRING, &tlv::sequence(&[])),
    ]);
    let tbs = tlv::sequence(&[
        &tlv::construct(tag::context_constructed(0), &[&tlv::small_int(2)]),
        &tlv::encode(tag::INTEGER, SerialNumber::from_random(octets).as_content()),
        &algorithm,
        &name(issuer),
        &tlv::sequence(&[&tlv::time(not_before), &tlv::time(not_after)]),
        &name("CN=localhost"),
        of.as_der(),
        &tlv::construct(tag::context_constructed(3), &[&tlv::sequence(&[&basic])]),
    ]);
    let signature = by.signer().sign(scheme, &tbs).unwrap();
    CertificateDer::parse(&tlv::sequence(&[&tbs, &algorithm, &tlv::whole_bits(&signature)]))
        .unwrap()
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) media_type: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Accepts the request and never answers.
    pub(crate) mute: bool,
}

impl Reply {
    pub(crate) fn new(media_type: &str, body: Vec<u8>) -> Self {
        let media_type = media_type.to_owned();
        Self { status: 200, media_type, headers: Vec::new(), body, mute: false }
    }

    pub(crate) fn json(body: Vec<u8>) -> Self {
        Self::new("application/json", body)
    }

    pub(crate) fn cms(body: Vec<u8>) -> Self {
        Self::new("application/cms", body)
    }

    pub(crate) fn problem(code: ErrorCode) -> Self {
        let problem = Problem::new(code, None).write();
        Self { status: code.status(), ..Self::new("application/problem+json", problem) }
    }

    pub(crate) fn mute() -> Self {
        Self { mute: true, ..Self::json(Vec::new()) }
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) client: Option<KeyId>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn check_in(&self) -> Option<CheckInRequest> {
        (self.path == "/connector/v1/check-in").then(|| read(&self.body).unwrap())
    }
}

type Twist = Box<dyn FnMut(&mut Book, &Asked) -> Option<Reply> + Send>;

/// What the issuer knows.
pub(crate) struct Book {
    pub(crate) command: SoftwareKey,
    pub(crate) signer: SoftwareKey,
    pub(crate) ca: SoftwareKey,
    pub(crate) connector: ConnectorId,
    pub(crate) ledger: Option<LedgerId>,
    pub(crate) binding: LedgerBinding,
    pub(crate) sequence: u64,
    pub(crate) now: Timestamp,
    /// How long the certificates it gives are valid, from `now`.
    pub(crate) validity: Duration,
    /// The keys it accepts, the one in use last.
    pub(crate) clients: Vec<KeyId>,
    pub(crate) tls_pins: Vec<SpkiHash>,
    pub(crate) proofs: BTreeMap<KeyId, PossessionProof>,
    pub(crate) proven: Vec<KeyId>,
    pub(crate) signer_keys: KeyChanges,
    pub(crate) command_keys: KeyChanges,
    /// Each with the cursor after it; `true`: added.
    pub(crate) denials: Vec<(DenialSubject, bool)>,
    pub(crate) orders: Vec<RevocationOrder>,
    pub(crate) renewals: Vec<RenewalOrder>,
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) acknowledged: u64,
    pub(crate) events: Vec<Event>,
    /// How many events of a batch it takes at most.
    pub(crate) appetite: usize,
    pub(crate) results: Vec<RevocationResult>,
    pub(crate) asked: Vec<Asked>,
    /// Connections whose handshake came to an end.
    pub(crate) shaken: usize,
    pub(crate) cloned: bool,
    /// The key of the connection that asks.
    present: Option<SpkiDer>,
    /// Counts what there is to say.
    news: u64,
    told: u64,
    twist: Option<Twist>,
}

impl Book {
    fn new() -> Self {
        Self {
            command: key(),
            signer: key(),
            ca: key(),
            connector: ConnectorId::from_bytes([7; 16]),
            ledger: None,
            binding: LedgerBinding::This,
            sequence: 40,
            now: NOW,
            validity: 90 * DAY,
            clients: Vec::new(),
            tls_pins: Vec::new(),
            proofs: BTreeMap::new(),
            proven: Vec::new(),
            signer_keys: KeyChanges::default(),
            command_keys: KeyChanges::default(),
            denials: Vec::new(),
            orders: Vec::new(),
            renewals: Vec::new(),
            log_level: None,
            acknowledged: 0,
            events: Vec::new(),
            appetite: usize::MAX,
            results: Vec::new(),
            asked: Vec::new(),
            shaken: 0,
            cloned: false,
            present: None,
            news: 0,
            told: 0,
            twist: None,
        }
    }

    pub(crate) fn check_ins(&self) -> Vec<CheckInRequest> {
        self.asked.iter().filter_map(Asked::check_in).collect()
    }

    fn chain(&self, key: &SpkiDer) -> Vec<CertificateDer> {
        let hour = Duration::from_secs(3600);
        let (from, until) = (self.now.minus(hour), self.now.plus(self.validity));
        vec![certificate(key, &self.ca, "CN=Connector CA", from, until)]
    }

    fn answer(&mut self, asked: &Asked) -> Reply {
        self.asked.push(asked.clone());
        if let Some(mut twist) = self.twist.take() {
            let reply = twist(self, asked);
            if self.twist.is_none() {
                self.twist = Some(twist);
            }
            if let Some(reply) = reply {
                return reply;
            }
        }
        self.honest(asked)
    }

    pub(crate) fn honest(&mut self, asked: &Asked) -> Reply {
        if asked.path == "/connector/v1/enrol" {
            return self.enrol(&asked.body);
        }
        let Some(client) = asked.client else {
            return Reply::problem(ErrorCode::CertificateNotAccepted);
        };
        match self.clients.iter().position(|known| *known == client) {
            None if self.cloned => return Reply::problem(ErrorCode::ConnectorCloned),
            None => return Reply::problem(ErrorCode::CertificateNotAccepted),
            // The old ones end when a newer one is used.
            Some(at) => {
                self.clients.drain(..at);
            }
        }
        match asked.path.as_str() {
            "/connector/v1/check-in" => {
                let request = read(&asked.body).unwrap();
                let commands = self.commands(&request);
                self.seal(&commands)
            }
            "/connector/v1/reports" => self.reports(&asked.body),
            "/connector/v1/revocations" => self.revocations(&asked.body),
            "/connector/v1/renew" => self.renew(&asked.body, client),
            _ => Reply { status: 404, ..Reply::json(Vec::new()) },
        }
    }

    fn enrol(&mut self, body: &[u8]) -> Reply {
        let request: EnrolRequest = read(body).unwrap();
        if request.token.expose() != TOKEN {
            return Reply::problem(ErrorCode::TokenNotAccepted);
        }
        let csr = UnprovenCsr::parse(request.certificate_request.as_der(), &Rules::default());
        let csr = csr.unwrap().prove(&AwsLc).unwrap();
        let client = csr.spki().key_id();
        if !self.clients.is_empty() && !self.clients.contains(&client) {
            return Reply::problem(ErrorCode::TokenNotAccepted);
        }
        self.clients = vec![client];
        self.ledger = Some(request.ledger);
        let possession_challenge = self.challenge(&request.decryption_key);
        let response = EnrolResponse {
            v: V1,
            code: Success,
            connector: self.connector,
            tenant: tenant(),
            group: request.group,
            membership: Membership::AwaitingOperator,
            certificate_chain: self.chain(csr.spki()),
            tls_pins: self.tls_pins.clone(),
            signer_keys: vec![trusted(&self.signer)],
            command_keys: vec![trusted(&self.command)],
            last_sequence: self.sequence,
            possession_challenge,
        };
        Reply::json(write(&response).unwrap())
    }

    fn challenge(&mut self, key: &SpkiDer) -> PossessionChallenge {
        let (challenge, proof) = challenge(&AwsLc, key, &tenant(), self.connector).unwrap();
        self.proofs.insert(key.key_id(), proof);
        challenge
    }

    /// What it has to say to this request, with the next sequence.
    pub(crate) fn commands(&mut self, request: &CheckInRequest) -> Commands {
        for proof in &request.possession {
            assert!(proof.is(&self.proofs[&proof.key()]), "a wrong proof");
            if !self.proven.contains(&proof.key()) {
                self.proven.push(proof.key());
            }
        }
        self.sequence = self.sequence.max(request.last_sequence) + 1;
        Commands {
            v: V1,
            tenant: tenant(),
            connector: self.connector,
            nonce: request.nonce,
            sequence: self.sequence,
            issued_at: self.now,
            expires_at: self.now.plus(Duration::from_secs(300)),
            signer_keys: self.signer_keys.clone(),
            command_keys: self.command_keys.clone(),
            denials: self.changes(request.denial_cursor),
            revocations: self.orders.clone(),
            renewals: self.renewals.clone(),
            log_level: self.log_level,
            outbox_acknowledged: self.acknowledged,
            ledger: self.binding,
        }
    }

    /// From 0 the whole list; its cursor counts the changes.
    fn changes(&self, from: u64) -> DenialChanges {
        let to = self.denials.len() as u64;
        let since = usize::try_from(from).unwrap().min(self.denials.len());
        let mut last = BTreeMap::new();
        for (subject, denied) in &self.denials[since..] {
            last.insert(subject.clone(), *denied);
        }
        let part = |wanted: bool| {
            last.iter().filter(|(_, denied)| **denied == wanted).map(|(s, _)| s.clone()).collect()
        };
        let removed = if from == 0 { Vec::new() } else { part(false) };
        DenialChanges { from, to, added: part(true), removed, complete: true }
    }

    pub(crate) fn seal(&self, commands: &Commands) -> Reply {
        Reply::cms(seal_commands(commands, &*self.command.signer()).unwrap())
    }

    fn reports(&mut self, body: &[u8]) -> Reply {
        let batch: ReportBatch = read(body).unwrap();
        if batch.events[0].sequence > self.acknowledged + 1 {
            return Reply::problem(ErrorCode::EventOutOfOrder);
        }
        for event in batch.events.iter().take(self.appetite) {
            let had =
                self.events.iter().any(|known| known.idempotency_key == event.idempotency_key);
            if !had {
                self.events.push(event.clone());
            }
            self.acknowledged = self.acknowledged.max(event.sequence);
        }
        let answer = Acknowledgement {
            v: V1,
            code: Success,
            ledger: batch.ledger,
            acknowledged: self.acknowledged,
        };
        Reply::json(write(&answer).unwrap())
    }

    fn revocations(&mut self, body: &[u8]) -> Reply {
        let results: RevocationResults = read(body).unwrap();
        let recorded = u32::try_from(results.results.len()).unwrap();
        for result in results.results {
            let last =
                matches!(result.state, RevocationState::Published | RevocationState::NotIssuedHere);
            if last {
                self.orders.retain(|order| order.order != result.order);
            }
            self.results.push(result);
        }
        Reply::json(write(&RevocationRecorded { v: V1, code: Success, recorded }).unwrap())
    }

    fn renew(&mut self, body: &[u8], client: KeyId) -> Reply {
        let request: RenewRequest = read(body).unwrap();
        let present = self.present.clone().unwrap_or_else(|| panic!("no key of {client}"));
        let proven =
            ProvenRenewal::check(request, &tenant(), self.connector, &present, self.now, &AwsLc);
        let Ok(proven) = proven else { return Reply::problem(ErrorCode::ProofNotAccepted) };
        let renewed = match proven.renewal() {
            Renewal::Authentication { certificate_request } => {
                let csr = UnprovenCsr::parse(certificate_request.as_der(), &Rules::default());
                let csr = csr.unwrap().prove(&AwsLc).unwrap();
                let new = csr.spki().key_id();
                if !self.clients.contains(&new) {
                    self.clients.push(new);
                }
                self.cloned = true;
                self.renewals.retain(|order| order.subject != RenewalSubject::Authentication);
                Renewed::Authentication { certificate_chain: self.chain(csr.spki()) }
            }
            Renewal::Decryption { key } => {
                self.renewals.retain(|order| order.subject != RenewalSubject::Decryption);
                let possession_challenge = self.challenge(key);
                Renewed::Decryption { key: key.key_id(), possession_challenge }
            }
        };
        Reply::json(write(&RenewResponse { v: V1, code: Success, renewed }).unwrap())
    }
}

/// A running issuer.
pub(crate) struct Issuer {
    pub(crate) address: SocketAddr,
    pub(crate) pin: SpkiHash,
    book: Arc<Mutex<Book>>,
    news: Arc<Notify>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        Self::with(key()).await
    }

    /// With this TLS key.
    pub(crate) async fn with(tls: SoftwareKey) -> Self {
        let config = config(&tls, &tls, "CN=Issuer Test", rustls::ALL_VERSIONS);
        Self::with_config(config, tls.public_key().hash()).await
    }

    pub(crate) async fn with_config(config: ServerConfig, pin: SpkiHash) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut book = Book::new();
        book.tls_pins = vec![pin];
        let book = Arc::new(Mutex::new(book));
        let news = Arc::new(Notify::new());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = tokio::spawn(serve(listener, acceptor, Arc::clone(&book), Arc::clone(&news)));
        Self { address, pin, book, news, server }
    }

    /// Stops answering, and gives what it knows for another to go on with.
    pub(crate) fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes what there is to say, and says so to whoever waits.
    pub(crate) fn says(&self, change: impl FnOnce(&mut Book)) {
        {
            let mut book = self.book();
            change(&mut book);
            book.news += 1;
        }
        self.news.notify_waiters();
    }

    /// From now on this is asked before the honest answer.
    pub(crate) fn twist(
        &self,
        twist: impl FnMut(&mut Book, &Asked) -> Option<Reply> + Send + 'static,
    ) {
        self.says(|book| book.twist = Some(Box::new(twist)));
    }

    pub(crate) fn honest(&self) {
        self.says(|book| book.twist = None);
    }
}

/// A server that shows a certificate of one key and signs with another: an honest one has the same twice.
pub(crate) fn config(
    shown: &SoftwareKey,
    signs: &SoftwareKey,
    issuer: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let leaf = certificate(shown.public_key(), shown, issuer, NOW.minus(DAY), NOW.plus(DAY));
    let chain = vec![pki_types::CertificateDer::from(leaf.as_der().to_vec())];
    let der = signs.to_pkcs8_der().unwrap().expose().clone();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der));
    let key = provider.key_provider.load_private_key(der).unwrap();
    let certified = Arc::new(rustls::sign::CertifiedKey::new(chain, key));
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyClient))
        .with_cert_resolver(Arc::new(Shows(certified)))
}

#[derive(Debug)]
struct Shows(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Shows {
    fn resolve(
        &self,
        _: rustls::server::ClientHello<'_>,
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    book: Arc<Mutex<Book>>,
    news: Arc<Notify>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, book, news) = (acceptor.clone(), Arc::clone(&book), Arc::clone(&news));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let client = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let client = client.map(|leaf| CertificateDer::parse(leaf).unwrap().spki().clone());
            book.lock().unwrap().shaken += 1;
            let service = service_fn(move |request| {
                respond(request, client.clone(), Arc::clone(&book), Arc::clone(&news))
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(
    request: Request<hyper::body::Incoming>,
    client: Option<SpkiDer>,
    book: Arc<Mutex<Book>>,
    news: Arc<Notify>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
    let asked = Asked { path, client: client.as_ref().map(SpkiDer::key_id), body };
    if let Some(check_in) = asked.check_in() {
        let until = tokio::time::Instant::now() + Duration::from_secs(check_in.wait_seconds.into());
        loop {
            let told = news.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            {
                let mut book = book.lock().unwrap();
                if book.told < book.news {
                    book.told = book.news;
                    break;
                }
            }
            if tokio::time::timeout_at(until, told).await.is_err() {
                break;
            }
        }
    }
    let reply = {
        let mut book = book.lock().unwrap();
        if let Some(client) = client {
            book.present = Some(client);
        }
        book.answer(&asked)
    };
    if reply.mute {
        core::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(reply.status);
    if !reply.media_type.is_empty() {
        response = response.header("content-type", reply.media_type);
    }
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(Bytes::from(reply.body))).unwrap())
}

/// Asks for a certificate and takes any: who it is decides the book.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &pki_types::CertificateDer<'_>,
        _: &[pki_types::CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &pki_types::CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &pki_types::CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}
