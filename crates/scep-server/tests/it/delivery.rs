//! Whether an answer got out is on record, and nothing is lost when it did not.

use crate::support::{Running, device_key};
use async_trait::async_trait;
use scep_ca::{CaError, Capabilities, CertificateAuthority, Found, IssueError, Wanted};
use scep_ledger::{Delivery, InventoryEntry, IssuePermit, Ledger, LedgerSettings};
use scep_message::client::Reply;
use scep_server::Outcome;
use scep_testkit::House;
use scep_testkit::house::{Sent, sign_csr};
use scep_types::{CertificateDer, SerialNumber};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A CA that begins each call, says so, and waits until it may go on.
#[derive(Clone, Debug)]
struct GatedCa {
    inner: Arc<dyn CertificateAuthority>,
    begun: Arc<Semaphore>,
    may_go_on: Arc<Semaphore>,
}

impl GatedCa {
    fn new(inner: Arc<dyn CertificateAuthority>) -> Self {
        Self { inner, begun: Arc::new(Semaphore::new(0)), may_go_on: Arc::new(Semaphore::new(0)) }
    }

    /// Until the next call has begun.
    async fn begun(&self) {
        let begun = tokio::time::timeout(DEADLINE, self.begun.acquire()).await;
        begun.expect("the CA was asked").unwrap().forget();
    }

    /// Lets one call go on.
    fn go_on(&self) {
        self.may_go_on.add_permits(1);
    }
}

#[async_trait]
impl CertificateAuthority for GatedCa {
    fn chain(&self) -> &[CertificateDer] {
        self.inner.chain()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn choose_serial(&self) -> Result<Option<SerialNumber>, CaError> {
        self.inner.choose_serial()
    }

    async fn issue(&self, permit: IssuePermit) -> Result<CertificateDer, IssueError> {
        self.begun.add_permits(1);
        // With a limit, so that a test that fails meanwhile does not hang.
        let go_on = tokio::time::timeout(DEADLINE, self.may_go_on.acquire()).await;
        go_on.expect("a test lets it go on").unwrap().forget();
        self.inner.issue(permit).await
    }

    async fn find(&self, wanted: &Wanted<'_>) -> Result<Found, CaError> {
        self.inner.find(wanted).await
    }
}

async fn start_gated() -> (Running, GatedCa) {
    let mut gate = None;
    let running = Running::start_with(|parts| {
        let ca = GatedCa::new(Arc::clone(&parts.main.ca));
        parts.main.ca = Arc::new(ca.clone());
        gate = Some(ca);
    })
    .await;
    (running, gate.unwrap())
}

/// Sends a whole request; the answer is still to come.
async fn begin(address: SocketAddr, sent: &Sent) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        sent.bytes.len()
    );
    stream.write_all(&[head.as_bytes(), &sent.bytes].concat()).await.unwrap();
    stream
}

/// The body of the answer.
async fn end(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    answer.split_off(at + 4)
}

fn certificate(reply: Reply) -> CertificateDer {
    match reply {
        Reply::Success(mut certificates) => certificates.remove(0),
        other => panic!("{other:?}"),
    }
}

/// The one certificate on record, once it is known whether its reply got out.
async fn settled(ledger: &Ledger) -> InventoryEntry {
    let until = Instant::now() + DEADLINE;
    loop {
        let mut entries = ledger.inventory(10, None).await.unwrap();
        assert!(entries.len() <= 1, "{entries:?}");
        if entries.iter().any(|entry| entry.delivered.is_some()) {
            return entries.remove(0);
        }
        assert!(Instant::now() < until, "no receipt: {entries:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the issuer is told of deliveries, in order.
async fn reported(ledger: &Ledger) -> Vec<String> {
    let events = ledger.outbox(0, 100).await.unwrap();
    let deliveries = events.iter().filter(|event| event.kind == scep_ledger::EventKind::Delivery);
    deliveries
        .map(|event| {
            let body: serde_json::Value = serde_json::from_str(&event.body_json).unwrap();
            body["reply"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[tokio::test]
async fn a_reply_that_the_client_has_read_is_on_record_as_flushed() {
    let running = Running::start().await;
    let granted = running.granted(&running.house.enrolment(&device_key())).await;
    let entry = settled(running.gateway.ledger()).await;
    assert_eq!((entry.certificate, entry.delivered), (granted, Some(Delivery::Flushed)));
    assert_eq!(reported(running.gateway.ledger()).await, ["flushed"]);
}

#[tokio::test]
async fn attack_52_a_device_that_hangs_up_while_the_ca_works_loses_nothing() {
    let (running, gate) = start_gated().await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    let stream = begin(running.address, &running.house.send(&csr, &device_key())).await;
    gate.begun().await;
    assert_eq!(running.gateway.ledger().counters().await.unwrap().issued, 0);
    // Reset, so that the gateway's side fails at its first write; an orderly end looks like a client that has merely
    // said everything.
    stream.set_zero_linger().unwrap();
    drop(stream);
    gate.go_on();
    let entry = settled(running.gateway.ledger()).await;
    assert_eq!(running.ca.issued(), std::slice::from_ref(&entry.certificate));
    assert_eq!(entry.delivered, Some(Delivery::ConnectionLost));
    assert_eq!(reported(running.gateway.ledger()).await, ["connection-lost"]);

    let again = running.granted(&running.house.send(&csr, &device_key())).await;
    assert_eq!(again, entry.certificate);
    assert_eq!(running.traces.last().outcome, Outcome::Repeated);
    assert_eq!(running.ca.calls().len(), 1);
    // The later answer got out, and that is what counts.
    let until = Instant::now() + DEADLINE;
    while reported(running.gateway.ledger()).await != ["connection-lost", "flushed"] {
        assert!(Instant::now() < until, "{:?}", reported(running.gateway.ledger()).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let entry = settled(running.gateway.ledger()).await;
    assert_eq!(entry.delivered, Some(Delivery::Flushed));
}

#[tokio::test]
async fn attack_52_a_device_that_goes_in_good_order_loses_nothing_either() {
    let (running, gate) = start_gated().await;
    let claims = running.house.claims();
    let csr = sign_csr(&House::csr(&claims, &running.house.seal(&claims)), &device_key());
    drop(begin(running.address, &running.house.send(&csr, &device_key())).await);
    gate.begun().await;
    gate.go_on();
    // The answer may well be flushed into a connection that nobody reads: more than that it was cannot be known.
    let entry = settled(running.gateway.ledger()).await;
    assert_eq!(running.ca.issued(), std::slice::from_ref(&entry.certificate));
    let again = running.granted(&running.house.send(&csr, &device_key())).await;
    assert_eq!(again, entry.certificate);
    assert_eq!(running.ca.calls().len(), 1);
}

#[tokio::test]
async fn attack_52_a_device_that_ends_its_side_early_still_gets_its_answer() {
    let (running, gate) = start_gated().await;
    let sent = running.house.enrolment(&device_key());
    let mut stream = begin(running.address, &sent).await;
    stream.shutdown().await.unwrap();
    gate.begun().await;
    gate.go_on();
    let granted = certificate(running.house.read(&sent, &end(stream).await));
    let entry = settled(running.gateway.ledger()).await;
    assert_eq!((entry.certificate, entry.delivered), (granted, Some(Delivery::Flushed)));
}

#[tokio::test]
async fn a_stop_finishes_what_is_running_and_lets_nobody_in() {
    let (running, gate) = start_gated().await;
    let (address, issuer) = (running.address, running.ca.clone());
    let sent = running.house.enrolment(&device_key());
    let stream = begin(address, &sent).await;
    gate.begun().await;

    let stopping = tokio::spawn(running.stop());
    let until = Instant::now() + DEADLINE;
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < until, "it still lets connections in");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!stopping.is_finished(), "it did not wait for the CA");
    assert!(issuer.issued().is_empty());

    gate.go_on();
    let body = end(stream).await;
    // The gateway's task ends, and the ledger is whole without it.
    drop(gate);
    let (house, folder) = tokio::time::timeout(DEADLINE, stopping).await.unwrap().unwrap();
    let granted = certificate(house.read(&sent, &body));
    assert_eq!(issuer.issued(), std::slice::from_ref(&granted));
    let place = folder.path().join("ledger.sqlite");
    let ledger = Ledger::open_sqlite(&place, LedgerSettings::default()).unwrap();
    assert!(ledger.unsettled().await.unwrap().is_empty());
    let entry = settled(&ledger).await;
    assert_eq!((entry.certificate, entry.delivered), (granted, Some(Delivery::Flushed)));
}
