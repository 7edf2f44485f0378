//! What strangers may cost: sources and their proxies, challenges, bodies and heads; and who is served meanwhile.

use crate::support::{Http, Running, device_key, other_key};
use async_trait::async_trait;
use core::time::Duration;
use scep_ca::{
    CaError, Capabilities, CertificateAuthority, CrlOrder, Found, IssueError, LocalCa, Wanted,
};
use scep_keys::SoftwareKey;
use scep_ledger::IssuePermit;
use scep_message::client::Reply;
use scep_server::Stage;
use scep_testkit::house::{House, sign_csr};
use scep_types::{CertificateDer, CrlDer, KeyAlgorithm, Reason, SerialNumber};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(60);
const CAPS: &str = "/scep?operation=GetCACaps";

/// Another address of this machine. Every address of 127.0.0.0/8 is, where the loopback interface is Linux's.
const ELSEWHERE: &str = "127.0.0.2:0";

async fn connect_from(running: &Running, local: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(local.parse::<SocketAddr>().unwrap()).unwrap();
    socket.connect(running.address).await.unwrap()
}

/// Something that is no message.
async fn rubbish(running: &Running, headers: &str) -> Http {
    running.post("/scep?operation=PKIOperation", headers, b"0").await
}

#[tokio::test]
async fn attack_59_a_source_sends_what_its_bucket_holds_and_is_told_when_to_come_again() {
    let running = Running::start_with(|parts| {
        parts.limits.source_burst = 2;
        parts.limits.source_refill = HOUR;
    })
    .await;
    assert_eq!(rubbish(&running, "").await.status, 400);
    // By GET or POST, and whatever is said about the source by a peer that is nobody's proxy.
    assert_eq!(running.get("/scep?operation=PKIOperation&message=MA").await.status, 400);
    let named = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n";
    let http = rubbish(&running, named).await;
    let wait: u64 = http.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(http.status, 429);
    assert!((3_000..=3_601).contains(&wait), "{wait}");
    let trace = running.traces.last();
    assert_eq!((trace.reason, trace.stage), (Some(Reason::RateExceeded), Stage::Received));
    assert_eq!(trace.peer.unwrap().to_string(), "127.0.0.1");
    // A good message is not read either.
    let sent = running.house.enrolment(&device_key());
    let http = running.post("/scep?operation=PKIOperation", "", &sent.bytes).await;
    assert_eq!(http.status, 429);
    // What costs nothing is still to be had, and others are served.
    assert_eq!(running.get(CAPS).await.status, 200);
    assert_eq!(running.get("/scep?operation=GetCACert").await.status, 200);
    if cfg!(target_os = "linux") {
        let mut other = connect_from(&running, ELSEWHERE).await;
        let head = format!(
            "POST /scep HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            sent.bytes.len()
        );
        other.write_all(&[head.as_bytes(), &sent.bytes].concat()).await.unwrap();
        let mut answer = Vec::new();
        other.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn attack_59_behind_a_trusted_proxy_each_client_is_a_source() {
    let running = Running::start_with(|parts| {
        parts.limits.source_burst = 1;
        parts.limits.source_refill = HOUR;
    })
    .await;
    running.gateway.set_trusted_proxies(vec!["127.0.0.0/8".parse().unwrap()]);
    let from = async |headers: &str| {
        let http = rubbish(&running, headers).await;
        (http.status, running.traces.last().peer.unwrap().to_string())
    };
    let (one, other) = ("192.0.2.1".to_owned(), "2001:db8::1".to_owned());
    assert_eq!(from("X-Forwarded-For: 192.0.2.1\r\n").await, (400, one.clone()));
    assert_eq!(from("X-Forwarded-For: 192.0.2.1\r\n").await, (429, one.clone()));
    // Nobody gets another bucket by what he says himself.
    assert_eq!(from("X-Forwarded-For: 198.51.100.1, 192.0.2.1\r\n").await, (429, one));
    assert_eq!(from("Forwarded: for=\"[2001:db8::1]:50000\"\r\n").await, (400, other.clone()));
    let (status, _) = from("Forwarded: for=\"[2001:db8::2]\"\r\n").await;
    assert_eq!(status, 429, "of the same network");
    // The proxy itself has a bucket too.
    assert_eq!(from("").await, (400, "127.0.0.1".into()));
    assert_eq!(from("X-Forwarded-For: unknown\r\n").await, (429, "127.0.0.1".into()));
}

#[tokio::test]
async fn attack_59_one_challenge_is_opened_as_often_as_its_bucket_allows() {
    let running = Running::start_with(|parts| {
        parts.limits.challenge_burst = 2;
        parts.limits.challenge_refill = HOUR;
    })
    .await;
    let claims = running.house.claims();
    let blob = running.house.seal(&claims);
    let mut bad = House::csr(&claims, &blob);
    bad.subject = "CN=administrator".parse().unwrap();
    let bad = sign_csr(&bad, &device_key());
    for _ in 0..2 {
        let reason = running.refused(&running.house.send(&bad, &device_key())).await;
        assert_eq!(reason, Reason::SubjectNameMismatch);
    }
    // Whatever is asked with it, and before it is compared.
    let good = sign_csr(&House::csr(&claims, &blob), &device_key());
    let reason = running.refused(&running.house.send(&good, &device_key())).await;
    assert_eq!(reason, Reason::RateExceeded);
    let stage = running.traces.last().stage;
    assert_eq!(stage, Stage::ChallengeOpened);
    // Another challenge is another bucket, and an honest retry opens none.
    let other = running.house.enrolment(&other_key());
    let certificate = running.granted(&other).await;
    for _ in 0..5 {
        assert_eq!(running.granted(&other).await, certificate);
    }
}

/// Whoever has seen a device's message can sign its envelope anew, as often as he likes: that is his own, and takes nothing
/// from what the device may ask.
#[tokio::test]
async fn attack_10_a_lifted_envelope_uses_up_nothing_of_its_challenge() {
    let running = Running::start_with(|parts| {
        parts.limits.challenge_burst = 1;
        parts.limits.challenge_refill = HOUR;
    })
    .await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    for _ in 0..3 {
        let lifted = running.house.send(&csr, &other_key());
        assert_eq!(running.refused(&lifted).await, Reason::SignerNotAllowed);
    }
    running.granted(&running.house.send(&csr, &device_key())).await;
}

/// One that sends bodies and never ends them has a part of the room for them.
#[tokio::test]
async fn attack_59_one_source_has_a_part_of_the_room_for_bodies() {
    let running = Running::start_with(|parts| parts.limits.max_bodies = 1 << 20).await;
    running.gateway.set_trusted_proxies(vec!["127.0.0.1".parse().unwrap()]);
    let head = |source: &str, length: usize| {
        format!(
            "POST /?operation=PKIOperation HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {source}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    let mut kept = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(head("192.0.2.1", 64 << 10).as_bytes()).await.unwrap();
        // Some are refused while they are being sent.
        let _ = stream.write_all(&vec![0x30; (64 << 10) - 1]).await;
        kept.push(stream);
    }
    // Its part is full sooner or later; then it is told so, and another is served as if it were not there.
    let body = vec![0x30; 64 << 10];
    let ask = |source: &'static str| {
        let mut request = head(source, body.len()).into_bytes();
        request.extend_from_slice(&body);
        let running = &running;
        async move { running.raw(&request).await.status }
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    while ask("192.0.2.1").await != 503 {
        assert!(std::time::Instant::now() < deadline, "it is never full");
    }
    assert_eq!(ask("192.0.2.2").await, 400);
    drop(kept);
}

#[tokio::test]
async fn attack_59_all_bodies_together_have_a_size() {
    let running = Running::start_with(|parts| parts.limits.max_bodies = 256 << 10).await;
    let mut slow = TcpStream::connect(running.address).await.unwrap();
    let head = "POST /scep HTTP/1.1\r\nHost: x\r\nContent-Length: 200001\r\n\r\n";
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&vec![b'0'; 200_000]).await.unwrap();
    let large = vec![b'0'; 100_000];
    // As soon as the first has been read so far; what came before it was answered as what it is.
    let refused = async {
        loop {
            let http = running.post("/scep", "", &large).await;
            if http.status == 503 {
                break http;
            }
            assert_eq!(http.status, 400);
        }
    };
    let http = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(http.header("retry-after"), Some("5"));
    assert_eq!(running.traces.last().reason, Some(Reason::RateExceeded));
    // A small one still has room.
    running.granted(&running.house.enrolment(&device_key())).await;
    // And the room is given back, also by who hangs up.
    drop(slow);
    let served = async { while running.post("/scep", "", &large).await.status == 503 {} };
    tokio::time::timeout(PATIENCE, served).await.unwrap();
}

#[tokio::test]
async fn attack_59_heads_have_a_size() {
    let running = Running::start().await;
    let head = |octets: usize| {
        let begun = format!("GET {CAPS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: ");
        let rest = octets - begun.len();
        begun + &"x".repeat(rest)
    };
    // More than the longest query is let through.
    let long = head((96 << 10) - 5) + "\r\n\r\n";
    assert_eq!(running.raw(long.as_bytes()).await.status, 200);
    // And nobody waits for the end of one that is too long.
    assert_eq!(running.raw(head(96 << 10).as_bytes()).await.status, 431);
}

/// What came back before the connection ended, in whatever way.
async fn all_of(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // It may be reset, where it has sent what nobody reads.
    let _ = ended.expect("the gateway ends it");
    answer
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn attack_59_a_source_has_its_share_of_connections_and_a_trusted_proxy_needs_more() {
    let running = Running::start_with(|parts| parts.limits.source_connections = 2).await;
    let _idle =
        [connect_from(&running, "127.0.0.1:0").await, connect_from(&running, "127.0.0.1:0").await];
    let answer = all_of(connect_from(&running, "127.0.0.1:0").await).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 503 "), "{answer:?}");
    let ask = async |local: &str| {
        let mut stream = connect_from(&running, local).await;
        let request = format!("GET {CAPS} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        // One that is turned away may be gone by now.
        let _ = stream.write_all(request.as_bytes()).await;
        all_of(stream).await.starts_with(b"HTTP/1.1 200 ")
    };
    assert!(!ask("127.0.0.1:0").await);
    assert!(ask(ELSEWHERE).await);
    running.gateway.set_trusted_proxies(vec!["127.0.0.1".parse().unwrap()]);
    assert!(ask("127.0.0.1:0").await);
}

/// A CA that issues nothing until it may.
#[derive(Debug)]
struct Gated {
    inner: LocalCa,
    gate: Arc<Semaphore>,
    elsewhere: bool,
}

#[async_trait]
impl CertificateAuthority for Gated {
    fn chain(&self) -> &[CertificateDer] {
        self.inner.chain()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
        self.inner.choose_serial()
    }

    fn is_elsewhere(&self) -> bool {
        self.elsewhere
    }

    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        match self.gate.acquire().await {
            Ok(_open) => self.inner.issue(permit).await,
            Err(_) => Err(IssueError::Pending),
        }
    }

    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError> {
        self.inner.find(wanted).await
    }

    async fn crl(&self, order: &CrlOrder<'_>) -> Result<CrlDer, CaError> {
        self.inner.crl(order).await
    }
}

/// A gate that ends with the test, however that ends: a call that waits at it holds up the runtime's end.
struct Gate(Arc<Semaphore>);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_59_under_overload_what_was_accepted_is_answered_and_what_costs_nothing_is_served() {
    const LATE: usize = 20;
    let (house, gate) = (House::new(), Gate(Arc::new(Semaphore::new(0))));
    let ca = Gated { inner: house.ca.clone(), gate: Arc::clone(&gate.0), elsewhere: false };
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        parts.limits.threads = 2;
        parts.limits.queue = 2;
        parts.main.ca = Arc::new(ca);
    })
    .await;
    let running = Arc::new(running);
    let mut asked = JoinSet::new();
    for _ in 0..4 + LATE {
        let key = SoftwareKey::generate(KeyAlgorithm::Rsa(2048)).unwrap();
        let (sent, running) = (running.house.enrolment(&key), Arc::clone(&running));
        asked.spawn(async move {
            let http = running.post("/scep?operation=PKIOperation", "", &sent.bytes).await;
            (sent, http)
        });
    }
    // Two are at the CA, two wait for them, and whoever came later is told at once.
    let mut next = async || {
        let one = tokio::time::timeout(PATIENCE, asked.join_next()).await;
        one.expect("an answer").map(Result::unwrap)
    };
    for _ in 0..LATE {
        let (_, http) = next().await.unwrap();
        assert_eq!((http.status, http.header("retry-after")), (503, Some("5")));
    }
    for target in [CAPS, "/scep?operation=GetCACert", "/crl"] {
        assert_eq!(running.get(target).await.status, 200, "{target}");
    }
    assert_eq!(running.admin("/healthz").await.status, 200);
    let metrics = running.admin("/metrics").await.text();
    assert!(metrics.lines().any(|line| line == "scep_overloaded_total 20"), "{metrics}");
    // None of those accepted is given up for those who came later.
    gate.0.add_permits(2);
    for _ in 0..4 {
        let (sent, http) = next().await.unwrap();
        assert_eq!(http.status, 200);
        let reply = running.house.read(&sent, &http.body);
        assert!(matches!(reply, Reply::Success(_)), "{reply:?}");
    }
    assert!(next().await.is_none());
    // And then there is room again.
    running.granted(&running.house.enrolment(&device_key())).await;
}

/// A CA that is elsewhere and does not answer keeps no thread: others are decrypted, refused and answered meanwhile. Of
/// calls that wait there are so many, and one more is refused before it is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_59_a_ca_that_is_elsewhere_and_slow_holds_up_nobody_else() {
    const CALLS: usize = 64;
    let (house, gate) = (House::new(), Gate(Arc::new(Semaphore::new(0))));
    let ca = Gated { inner: house.ca.clone(), gate: Arc::clone(&gate.0), elsewhere: true };
    let running = Running::start_in(house, tempfile::tempdir().unwrap(), |parts| {
        parts.limits.threads = 1;
        parts.main.ca = Arc::new(ca);
    })
    .await;
    let mut waiting = JoinSet::new();
    let send = || {
        let key = SoftwareKey::generate(KeyAlgorithm::P256).unwrap();
        let claims = running.house.claims();
        let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &key);
        running.house.send(&csr, &device_key())
    };
    for _ in 0..CALLS {
        let (gateway, sent) = (running.gateway.clone(), send());
        let path = "/certsrv/mscep/mscep.dll";
        waiting.spawn(async move { (gateway.answer(path, sent.bytes.clone()).await, sent) });
    }
    // They have all come as far as the CA.
    let deadline = std::time::Instant::now() + PATIENCE;
    while running.gateway.ledger().counters().await.unwrap().unsettled < CALLS as u64 {
        assert!(std::time::Instant::now() < deadline, "they do not come so far");
        tokio::task::yield_now().await;
    }
    let one_more = send();
    let path = "/certsrv/mscep/mscep.dll";
    let reply = running.gateway.answer(path, one_more.bytes.clone()).await.unwrap();
    assert!(matches!(running.house.read(&one_more, &reply), Reply::Failure { .. }));
    let trace = running.traces.last();
    assert_eq!((trace.reason, trace.stage), (Some(Reason::CaUnavailable), Stage::Admitted));
    // They are answered when it answers, and the one that was refused has its challenge still.
    gate.0.add_permits(Semaphore::MAX_PERMITS >> 3);
    while let Some(done) = waiting.join_next().await {
        let (answer, sent) = done.unwrap();
        let reply = running.house.read(&sent, &answer.unwrap());
        assert!(matches!(reply, Reply::Success(_)), "{reply:?}");
    }
    let reply = running.gateway.answer(path, one_more.bytes.clone()).await.unwrap();
    assert!(matches!(running.house.read(&one_more, &reply), Reply::Success(_)));
}
