//! step-ca as a SCEP server.

use super::{Child, free_address, must, peers, temporary};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Where `.ci/peers` puts the program.
#[must_use]
pub fn program() -> PathBuf {
    peers::folder().join("step-ca")
}

/// Copies the request into the certificate, extensions as they are.
pub const COPY: &str = r#"{
    "subject": {{ toJson .Insecure.CR.Subject }},
    "extensions": {{ toJson .Insecure.CR.Extensions }},
    "keyUsage": ["digitalSignature"],
    "extKeyUsage": ["clientAuth"]
}"#;

/// A server that ends with this value.
#[derive(Debug)]
pub struct StepCa {
    address: SocketAddr,
    folder: TempDir,
    child: Child,
}

impl StepCa {
    /// Starts one with an RSA root and intermediate, and a SCEP provisioner `scep` with this challenge and template.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(challenge: &str, template: Option<&str>) -> Self {
        let folder = temporary();
        make_chain(folder.path());
        for _ in 0..10 {
            let (address, https) = (free_address(), free_address());
            let file = |name: &str| folder.path().join(name).display().to_string();
            // Debug's escapes of ASCII text are JSON's.
            let options = template.map_or_else(String::new, |template| {
                format!(r#", "options": {{ "x509": {{ "template": {template:?} }} }}"#)
            });
            let config = format!(
                r#"{{ "root": {root:?}, "crt": {crt:?}, "key": {key:?}, "address": "{https}",
                    "insecureAddress": "{address}", "dnsNames": ["127.0.0.1"],
                    "logger": {{ "format": "text" }},
                    "db": {{ "type": "badgerv2", "dataSource": {db:?} }},
                    "authority": {{ "provisioners": [ {{
                        "type": "SCEP", "name": "scep", "challenge": {challenge:?},
                        "minimumPublicKeyLength": 2048, "encryptionAlgorithmIdentifier": 2{options}
                    }} ] }} }}"#,
                root = file("root.crt"),
                crt = file("intermediate.crt"),
                key = file("intermediate.key"),
                db = file("db"),
            );
            std::fs::write(folder.path().join("ca.json"), config)
                .expect("a configuration is written");
            let mut command = Command::new(program());
            let mut child = Child::start(command.arg(file("ca.json")), folder.path(), "step-ca");
            if child.answers(address) && child.ended().is_none() {
                return Self { address, folder, child };
            }
            assert!(child.stderr().contains("in use"), "{}", child.stderr());
        }
        panic!("no port stayed free");
    }

    /// Where it serves SCEP.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its SCEP URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/scep/scep", self.address)
    }

    /// The CA that issues, then the root, PEM.
    #[must_use]
    pub fn chain(&self) -> PathBuf {
        self.folder.path().join("chain.crt")
    }

    /// A file of its folder: `intermediate.crt`, `intermediate.key`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.child.stderr()
    }
}

fn make_chain(folder: &Path) {
    let openssl = |arguments: &str| {
        must(Command::new("openssl").current_dir(folder).args(arguments.split_whitespace()));
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=Root -keyout root.key -out root.crt \
         -addext keyUsage=critical,keyCertSign,cRLSign",
    );
    openssl(
        "req -newkey rsa:2048 -nodes -subj /CN=Intermediate -keyout intermediate.key -out intermediate.csr",
    );
    std::fs::write(
        folder.join("ca.cnf"),
        "basicConstraints = critical, CA:TRUE, pathlen:0\n\
         keyUsage = critical, keyCertSign, cRLSign, digitalSignature, keyEncipherment\n\
         subjectKeyIdentifier = hash\n",
    )
    .expect("extensions are written");
    openssl(
        "x509 -req -in intermediate.csr -CA root.crt -CAkey root.key -CAcreateserial -days 3000 \
         -extfile ca.cnf -out intermediate.crt",
    );
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a certificate");
    std::fs::write(folder.join("chain.crt"), read("intermediate.crt") + &read("root.crt"))
        .expect("a chain is written");
}
