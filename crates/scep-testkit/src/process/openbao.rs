//! OpenBao's development server, with a PKI engine.

use super::{Child, free_address, http, must, peers, run, wait_for};
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
    scheme: Scheme,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl OpenBao {
    /// Starts one, with a root CA in the engine `pki` that may sign for ten years.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(home: &Path) -> Self {
        Self::start_as(home, Scheme::Http)
    }

    /// Starts one that speaks TLS, with a certificate by a CA of its own: [`OpenBao::tls_root`].
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_tls(home: &Path) -> Self {
        Self::start_as(home, Scheme::Https)
    }

    fn start_as(home: &Path, scheme: Scheme) -> Self {
        let mut tries: u32 = 0;
        let server = loop {
            let address = free_address();
            let mut command = Command::new(program());
            command
                .args(["server", "-dev", "-dev-no-store-token"])
                .arg(format!("-dev-root-token-id={ROOT_TOKEN}"))
                .arg(format!("-dev-listen-address={address}"))
                .env("HOME", home);
            if scheme == Scheme::Https {
                command.arg("-dev-tls").arg(format!("-dev-tls-cert-dir={}", home.display()));
            }
            let mut child = Child::start(&mut command, home, "bao");
            if child.answers(address) {
                break Self { address, home: home.to_owned(), child, scheme };
            }
            tries += 1;
            assert!(tries < 5, "bao does not start: {}", child.stderr());
        };
        wait_for("an unsealed server", || {
            let ready = match scheme {
                Scheme::Http => http(server.address, "GET", "/v1/sys/health", b"").status == 200,
                Scheme::Https => run(&mut server.command(&["status"])).status.success(),
            };
            ready.then_some(())
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
        String::from_utf8(must(&mut self.command(arguments))).expect("it prints text")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .env("BAO_ADDR", self.url())
            .env("BAO_TOKEN", ROOT_TOKEN)
            .env("BAO_CACERT", self.tls_root())
            .env("HOME", &self.home);
        if self.scheme == Scheme::Http {
            command.env_remove("BAO_CACERT");
        }
        command
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.scheme == Scheme::Http { "http" } else { "https" };
        format!("{scheme}://{}", self.address)
    }

    /// The file of the CA of its TLS certificate.
    #[must_use]
    pub fn tls_root(&self) -> PathBuf {
        self.home.join("vault-ca.pem")
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
