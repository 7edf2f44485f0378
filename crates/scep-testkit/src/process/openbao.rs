//! OpenBao's development server, with a PKI engine.

use super::{Child, free_address, http, must, peers, wait_for};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The token of its operator.
pub const ROOT_TOKEN: &str = "root";

/// Where `.ci/peers` puts the program.
#[must_use]
pub fn program() -> PathBuf {
    peers::folder().join("bao")
}

/// A server in memory that ends with this value.
#[derive(Debug)]
pub struct OpenBao {
    address: SocketAddr,
    home: PathBuf,
    child: Child,
}

impl OpenBao {
    /// Starts one, with a root CA in the engine `pki` that may sign for ten years.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(home: &Path) -> Self {
        let mut tries: u32 = 0;
        let server = loop {
            let address = free_address();
            let mut command = Command::new(program());
            command
                .args(["server", "-dev", "-dev-no-store-token"])
                .arg(format!("-dev-root-token-id={ROOT_TOKEN}"))
                .arg(format!("-dev-listen-address={address}"))
                .env("HOME", home);
            let mut child = Child::start(&mut command, home, "bao");
            if child.answers(address) {
                break Self { address, home: home.to_owned(), child };
            }
            tries += 1;
            assert!(tries < 5, "bao does not start: {}", child.stderr());
        };
        wait_for("an unsealed server", || {
            (http(server.address, "GET", "/v1/sys/health", b"").status == 200).then_some(())
        });
        server.bao(&["secrets", "enable", "pki"]);
        server.bao(&["secrets", "tune", "-max-lease-ttl=87600h", "pki"]);
        server.bao(&[
            "write",
            "pki/root/generate/internal",
            "common_name=Test Root",
            "ttl=87600h",
            "key_type=ec",
        ]);
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// One command of its operator; what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn bao(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .env("BAO_ADDR", format!("http://{}", self.address))
            .env("BAO_TOKEN", ROOT_TOKEN)
            .env("HOME", &self.home);
        String::from_utf8(must(&mut command)).expect("it prints text")
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// A value that one field of a command's output has.
    ///
    /// # Panics
    /// When the command fails.
    #[must_use]
    pub fn field(&self, command: &str, field: &str, arguments: &[&str]) -> String {
        let field = format!("-field={field}");
        let mut all = vec![command, &field];
        all.extend(arguments);
        self.bao(&all).trim().to_owned()
    }
}
