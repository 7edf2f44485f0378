//! A running gateway and a client that can send anything.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scep_keys::SoftwareKey;
use scep_message::client::Reply;
use scep_server::{Gateway, Observer, Parts, Trace};
use scep_testkit::ca::RecordingCa;
use scep_testkit::house::{House, Sent};
use scep_testkit::keys;
use scep_types::{CertificateDer, Reason};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Keeps every trace.
#[derive(Debug, Default)]
pub(crate) struct Traces(Mutex<Vec<Trace>>);

impl Traces {
    pub(crate) fn all(&self) -> Vec<Trace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn last(&self) -> Trace {
        self.all().pop().expect("a trace")
    }
}

impl Observer for Traces {
    fn observe(&self, trace: &Trace) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(trace.clone());
    }
}

/// A gateway that serves until it is dropped or stopped.
pub(crate) struct Running {
    pub(crate) house: House,
    pub(crate) ca: RecordingCa,
    pub(crate) gateway: Gateway,
    pub(crate) traces: Arc<Traces>,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
    folder: tempfile::TempDir,
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Http {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Http {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts with some of the parts changed.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Parts)) -> Self {
        Self::start_in(House::new(), tempfile::tempdir().unwrap(), change).await
    }

    /// Starts on a folder that may have a ledger in it.
    pub(crate) async fn start_in(
        house: House,
        folder: tempfile::TempDir,
        change: impl FnOnce(&mut Parts),
    ) -> Self {
        let ca = RecordingCa::new(house.ca.clone());
        let traces = Arc::new(Traces::default());
        let mut parts = house.parts(folder.path());
        parts.main.ca = Arc::new(ca.clone());
        let observer: Arc<dyn Observer> = traces.clone();
        parts.observer = Some(observer);
        change(&mut parts);
        let gateway = Gateway::new(parts).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = gateway.clone();
        let served = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            serving.run(listener, shutdown).await.unwrap();
        });
        Self { house, ca, gateway, traces, address, stop: Some(stop), served, folder }
    }

    /// Stops cleanly; what is left is the house and the folder with the ledger.
    pub(crate) async fn stop(mut self) -> (House, tempfile::TempDir) {
        self.stop.take().unwrap().send(()).unwrap();
        (&mut self.served).await.unwrap();
        // The ledger is one process's at a time: its last handle goes with the gateway.
        let Self { house, folder, gateway, traces, ca, .. } = self;
        drop((gateway, traces, ca));
        (house, folder)
    }

    /// Sends bytes, reads to the end.
    pub(crate) async fn raw(&self, request: &[u8]) -> Http {
        Self::raw_at(self.address, request).await
    }

    async fn raw_at(address: SocketAddr, request: &[u8]) -> Http {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let at = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(answer[..at].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Http { status, head, body: answer[at + 4..].to_vec() }
    }

    pub(crate) async fn get(&self, target: &str) -> Http {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        self.raw(request.as_bytes()).await
    }

    /// Fetches from the listener of `/healthz` and `/metrics`, which is served for this one question.
    pub(crate) async fn admin(&self, path: &str) -> Http {
        self.admin_asked("GET", path, "", "").await
    }

    /// Any request to that listener.
    pub(crate) async fn admin_asked(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> Http {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\
             {headers}\r\n{body}"
        );
        tokio::select! {
            () = self.gateway.run_admin(listener, core::future::pending()) => unreachable!(),
            answer = Self::raw_at(address, request.as_bytes()) => answer,
        }
    }

    pub(crate) async fn post(&self, target: &str, headers: &str, body: &[u8]) -> Http {
        let mut request = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.raw(&request).await
    }

    /// POSTs a message to the generic endpoint and reads the CertRep.
    pub(crate) async fn ask(&self, sent: &Sent) -> Reply {
        self.ask_at("/scep", sent).await
    }

    pub(crate) async fn ask_at(&self, path: &str, sent: &Sent) -> Reply {
        let http = self.post(&format!("{path}?operation=PKIOperation"), "", &sent.bytes).await;
        assert_eq!(http.status, 200, "{}", String::from_utf8_lossy(&http.body));
        assert_eq!(http.header("content-type"), Some("application/x-pki-message"));
        self.house.read(sent, &http.body)
    }

    /// The certificate of a request that must be granted.
    pub(crate) async fn granted(&self, sent: &Sent) -> CertificateDer {
        match self.ask(sent).await {
            Reply::Success(mut certificates) => {
                assert_eq!(certificates.len(), 1);
                certificates.remove(0)
            }
            other => panic!("{other:?}: {:?}", self.traces.last()),
        }
    }

    /// The reason of a request that must be refused, with no call of the CA.
    pub(crate) async fn refused(&self, sent: &Sent) -> Reason {
        let before = self.ca.calls().len();
        let reply = self.ask(sent).await;
        assert!(matches!(reply, Reply::Failure { .. }), "{reply:?}");
        assert_eq!(self.ca.calls().len(), before, "the CA was asked");
        self.traces.last().reason.expect("a reason")
    }
}

/// A device's RSA key.
pub(crate) fn device_key() -> SoftwareKey {
    keys::rsa2048(2)
}

/// Another device's.
pub(crate) fn other_key() -> SoftwareKey {
    keys::rsa2048(3)
}

/// Standard base64.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
