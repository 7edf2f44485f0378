//! OpenBao's development server, with a PKI engine.

use super::{Child, free_address, http, must, peers, run, wait_for};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The token of its operator.
pub const ROOT_TOKEN: &str = "root";

/// Where `.ci/peers` puts the program.
#[must_use]
pub fn program() -> PathBuf {
    peers::folder().join("bao")
}

/// A server that ends with this value.
#[derive(Debug)]
pub struct OpenBao {
    address: SocketAddr,
    home: PathBuf,
    child: Child,
    scheme: Scheme,
    /// What opens a server that keeps its data; the development server needs none.
    unseal_key: String,
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

    /// Starts one that keeps its data in `home`: it can be sealed, and [`OpenBao::restart`]ed.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_kept(home: &Path) -> Self {
        let data = home.join("data");
        std::fs::create_dir(&data).expect("a folder for the data");
        let mut tries: u32 = 0;
        let mut server = loop {
            let (address, cluster) = (free_address(), free_address());
            let config = format!(
                "storage \"raft\" {{\n path = {data:?}\n node_id = \"one\"\n}}\n\
                 listener \"tcp\" {{\n address = \"{address}\"\n cluster_address = \"{cluster}\"\n \
                 tls_disable = true\n}}\n\
                 api_addr = \"http://{address}\"\ncluster_addr = \"http://{cluster}\"\n"
            );
            std::fs::write(home.join("bao.hcl"), config).expect("a configuration is written");
            let mut child = Self::serve(home);
            if child.answers(address) {
                let home = home.to_owned();
                let unseal_key = String::new();
                break Self { address, home, child, scheme: Scheme::Http, unseal_key };
            }
            tries += 1;
            assert!(tries < 5, "bao does not start: {}", child.stderr());
        };
        let made = server.bao(&["operator", "init", "-key-shares=1", "-key-threshold=1"]);
        let text = |of: &str| {
            let value = made.lines().find_map(|line| line.strip_prefix(of)?.strip_prefix(": "));
            value.expect("it says so").to_owned()
        };
        server.unseal_key = text("Unseal Key 1");
        server.unseal();
        let id = format!("-id={ROOT_TOKEN}");
        let mut command = server.command(&["token", "create", &id, "-policy=root"]);
        must(command.env("BAO_TOKEN", text("Initial Root Token")));
        server.make_root();
        server
    }

    fn serve(home: &Path) -> Child {
        let mut command = Command::new(program());
        command.arg("server").arg(format!("-config={}", home.join("bao.hcl").display()));
        Child::start(command.env("HOME", home), home, "bao")
    }

    /// Starts a server that [`OpenBao::start_kept`] has made and [`OpenBao::kill`] has ended again, at the same address.
    /// It is sealed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        let (home, address) = (self.home.clone(), self.address);
        self.child = wait_for("the server is there again", || {
            let mut child = Self::serve(&home);
            child.answers(address).then_some(child)
        });
    }

    /// Has it do nothing until [`OpenBao::unseal`].
    pub fn seal(&self) {
        self.bao(&["operator", "seal"]);
    }

    /// Has it work.
    pub fn unseal(&self) {
        self.bao(&["operator", "unseal", &self.unseal_key]);
        wait_for("an unsealed server", || {
            (http(self.address, "GET", "/v1/sys/health", b"").status == 200).then_some(())
        });
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
                let (home, unseal_key) = (home.to_owned(), String::new());
                break Self { address, home, child, scheme, unseal_key };
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
        server.make_root();
        server
    }

    fn make_root(&self) {
        self.bao(&["secrets", "enable", "pki"]);
        self.bao(&["secrets", "tune", "-max-lease-ttl=87600h", "pki"]);
        self.bao(&[
            "write",
            "pki/root/generate/internal",
            "common_name=Test Root",
            "ttl=87600h",
            "key_type=ec",
        ]);
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

    /// Lines of a shell, with `bao` as its operator has it.
    #[must_use]
    pub fn shell(&self, lines: &str) -> Output {
        let mut command = self.as_operator(Command::new("sh"));
        let bao = program();
        let path = std::env::var("PATH").unwrap_or_default();
        let folder = bao.parent().expect("a program lies in a folder");
        let path = format!("{}:{path}", folder.display());
        run(command.arg("-e").arg("-c").arg(lines).env("PATH", path))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.as_operator(Command::new(program()));
        command.args(arguments);
        command
    }

    fn as_operator(&self, mut command: Command) -> Command {
        command
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

    /// The file of its TLS certificate.
    #[must_use]
    pub fn tls_certificate(&self) -> PathBuf {
        self.home.join("vault-cert.pem")
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
