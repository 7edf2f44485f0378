//! A network between issuer and server that loses exactly what a test wants it to lose.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What happens at the next COMMIT of a transaction that writes, once.
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
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Mutex::new(Cut::Nothing));
        let next = Arc::clone(&cut);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(forward(client, server, Arc::clone(&next)));
            }
        });
        Self { port, cut }
    }

    /// The next one is cut.
    pub(crate) fn cut_writes(&self, cut: Cut) {
        *self.cut.lock().unwrap() = cut;
    }

    /// Whether that has happened.
    pub(crate) fn has_cut(&self) -> bool {
        *self.cut.lock().unwrap() == Cut::Nothing
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, cut: Arc<Mutex<Cut>>) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut writes = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return };
                let request = &up[..read];
                // A simple query: Q, length, text, zero.
                let is_commit = request.windows(12).any(|w| w == b"Q\0\0\0\x0bCOMMIT\0");
                // One connection writes, and the others never do.
                writes |= request.windows(10).any(|w| w == b"READ WRITE");
                let now = if is_commit && writes {
                    core::mem::replace(&mut *cut.lock().unwrap(), Cut::Nothing)
                } else {
                    Cut::Nothing
                };
                if now == Cut::Request {
                    return;
                }
                if server.write_all(request).await.is_err() {
                    return;
                }
                if now == Cut::Answer {
                    // It is done when the server says so to nobody.
                    let _ = server.read(&mut down).await.unwrap();
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&down[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
