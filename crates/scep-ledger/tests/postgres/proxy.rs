//! A network between gateway and server that loses exactly what a test wants it to lose.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens at the next COMMIT, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Nothing,
    /// The server never gets it.
    Request,
    /// The server gets it, and its answer is lost.
    Answer,
}

/// A port in front of a server's.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    cut: Arc<Mutex<Cut>>,
    /// How many commits were cut.
    done: watch::Receiver<u32>,
    open: Arc<watch::Sender<bool>>,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Mutex::new(Cut::Nothing));
        let (count, done) = watch::channel(0);
        let (open, gate) = watch::channel(true);
        let (count, open) = (Arc::new(count), Arc::new(open));
        let (at, gate_shut) = (Arc::clone(&cut), Arc::clone(&open));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (cut, count, mut gate) = (Arc::clone(&at), Arc::clone(&count), gate.clone());
                let shut = Arc::clone(&gate_shut);
                tokio::spawn(async move {
                    // Who comes while it is shut waits at the door.
                    gate.wait_for(|open| *open).await.unwrap();
                    let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    if forward(client, server, &cut, &shut).await {
                        count.send_modify(|count| *count += 1);
                    }
                });
            }
        });
        Self { port, cut, done, open }
    }

    /// The next COMMIT is cut, and nobody gets through until [`Proxy::open`].
    pub(crate) fn cut_and_shut(&self, cut: Cut) {
        *self.cut.lock().unwrap() = cut;
    }

    /// Waits for the cut.
    pub(crate) async fn cut_happened(&mut self, times: u32) {
        self.done.wait_for(|count| *count >= times).await.unwrap();
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

/// Whether it ended with a cut.
async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    cut: &Mutex<Cut>,
    open: &watch::Sender<bool>,
) -> bool {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return false };
                let request = &up[..read];
                // A simple query: Q, length, text, zero.
                let is_commit = request.windows(12).any(|w| w == b"Q\0\0\0\x0bCOMMIT\0");
                let now = if is_commit {
                    core::mem::replace(&mut *cut.lock().unwrap(), Cut::Nothing)
                } else {
                    Cut::Nothing
                };
                if now != Cut::Nothing {
                    open.send_replace(false);
                }
                match now {
                    Cut::Nothing => {
                        if server.write_all(request).await.is_err() {
                            return false;
                        }
                    }
                    Cut::Request => return true,
                    Cut::Answer => {
                        server.write_all(request).await.unwrap();
                        // It is done when the server says so to nobody. What it says to the statements before may
                        // come first.
                        let mut said = Vec::new();
                        while !said.windows(7).any(|w| w == b"COMMIT\0") {
                            let read = server.read(&mut down).await.unwrap();
                            assert_ne!(read, 0, "the server has not committed");
                            said.extend_from_slice(&down[..read]);
                        }
                        return true;
                    }
                }
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { return false };
                if client.write_all(&down[..read]).await.is_err() {
                    return false;
                }
            }
        }
    }
}
