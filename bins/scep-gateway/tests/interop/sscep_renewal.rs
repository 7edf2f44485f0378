//! sscep renews with a PKCSReq that the old certificate signs, and makes the transactionID of the key in the request.

use crate::support::{
    certificate_must_be, log_has_no_secrets, openssl_verify, renewable, renewing_site,
};
use libtest_mimic::Trial;
use scep_testkit::process::peers::{Peer, built_by_hand, folder, trial};
use scep_testkit::process::{Site, must, run, temporary, text};
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    let peers = || [Peer::file(folder().join("sscep")), Peer::program("openssl")];
    let trials = vec![
        trial("quirk_52_sscep_renews_without_a_challenge_and_with_the_old_one", &peers(), renews),
        trial("quirk_51_sscep_renews_with_the_same_key", &peers(), same_key),
    ];
    built_by_hand("sscep", trials)
}

const DNS: &str = "dev.example.org";

/// A site whose certificates renew themselves, and a folder with its certificates as sscep has fetched them.
struct Device {
    site: Site,
    dir: TempDir,
}

impl Device {
    fn new(same_key: bool) -> Self {
        let device = Self { site: renewing_site(same_key), dir: temporary() };
        must(device.sscep("getca").args(["-c", "ca.pem"]));
        device
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sscep(&self, operation: &str) -> Command {
        let mut command = Command::new(folder().join("sscep"));
        command.current_dir(self.dir.path()).args([operation, "-u", &self.site.url("/")]);
        command
    }

    fn openssl(&self, arguments: &[&str]) {
        must(Command::new("openssl").current_dir(self.dir.path()).args(arguments));
    }

    fn mint(&self) -> String {
        self.site.mint(&renewable("O=Example, CN=dev", &[DNS]), "dev", &[])
    }

    fn key(&self, name: &str) {
        self.openssl(&["genrsa", "-traditional", "-out", name, "2048"]);
    }

    /// A request of a key, under the same name with `.csr`.
    fn request(&self, key: &str, challenge: Option<&str>) {
        let attributes = challenge.map_or_else(String::new, |challenge| {
            format!("[attributes]\nchallengePassword={challenge}\n")
        });
        let config = format!(
            "[req]\nprompt=no\ndistinguished_name=dn\nreq_extensions=v3\n{}\
             [dn]\nO=Example\nCN=dev\n{attributes}[v3]\nsubjectAltName=DNS:{DNS}\n",
            if challenge.is_some() { "attributes=attributes\n" } else { "" }
        );
        std::fs::write(self.path("request.cnf"), config).unwrap();
        let csr = format!("{key}.csr");
        self.openssl(&["req", "-new", "-key", key, "-out", &csr, "-config", "request.cnf"]);
    }

    /// Asks with a key and its request, signed by itself or by a key with its certificate.
    fn enroll(&self, key: &str, signer: Option<(&str, &str)>, certificate: &str) -> Output {
        let csr = format!("{key}.csr");
        let mut command = self.sscep("enroll");
        // Of the files that `getca` has written, the first has the key to encrypt to, the second the one that signs.
        command.args(["-c", "ca.pem-1", "-e", "ca.pem-0", "-k", key, "-r", &csr]);
        command.args(["-l", certificate, "-E", "aes", "-S", "sha256"]);
        if let Some((key, certificate)) = signer {
            command.args(["-K", key, "-O", certificate]);
        }
        run(&mut command)
    }

    fn must_have(&self, certificate: &str, output: &Output) -> Vec<u8> {
        assert!(output.status.success(), "{}\n{}", text(output), self.site.log());
        let path = self.path(certificate);
        openssl_verify(&self.site, &path);
        certificate_must_be(&path, "CN=dev,O=Example", &[DNS.to_owned()]);
        std::fs::read(path).unwrap()
    }

    /// The transactionIDs of what was issued, one for each certificate, all of them by PKCSReq.
    fn transactions(&self) -> Vec<String> {
        let issued = self.site.log_lines(&["outcome=Issued", "message_type=PkcsReq"]);
        let transaction = |line: &String| {
            let at = line.find("transaction=").expect("a transactionID");
            line[at..].split_whitespace().next().unwrap().to_owned()
        };
        issued.iter().map(transaction).collect()
    }
}

fn renews() {
    for with_the_old_one in [false, true] {
        let device = Device::new(false);
        let challenge = device.mint();
        device.key("old.key");
        device.request("old.key", Some(&challenge));
        let first = device.enroll("old.key", None, "old.pem");
        let first = device.must_have("old.pem", &first);

        device.key("new.key");
        device.request("new.key", with_the_old_one.then_some(challenge.as_str()));
        let renewed = device.enroll("new.key", Some(("old.key", "old.pem")), "new.pem");
        let new = device.must_have("new.pem", &renewed);
        assert_ne!(new, first);
        // Once more, and it is the same one.
        let again = device.enroll("new.key", Some(("old.key", "old.pem")), "again.pem");
        assert_eq!(device.must_have("again.pem", &again), new);
        assert_eq!(device.transactions().len(), 2, "{}", device.site.log());
        log_has_no_secrets(&device.site, &[]);
    }
}

/// From the second renewal on it is the very same request, in the same transaction.
fn same_key() {
    let device = Device::new(true);
    device.key("device.key");
    device.request("device.key", Some(&device.mint()));
    let first = device.enroll("device.key", None, "0.pem");
    let mut certificates = vec![device.must_have("0.pem", &first)];
    device.request("device.key", None);
    for generation in 1..=3 {
        let (old, new) = (format!("{}.pem", generation - 1), format!("{generation}.pem"));
        let renewed = device.enroll("device.key", Some(("device.key", &old)), &new);
        let new = device.must_have(&new, &renewed);
        assert!(!certificates.contains(&new), "{}", device.site.log());
        certificates.push(new);
    }
    // A fourth needs a new challenge: what the same request got last is still there for it, and another gets nothing.
    let third = Some(("device.key", "3.pem"));
    let again = device.enroll("device.key", third, "again.pem");
    assert_eq!(device.must_have("again.pem", &again), certificates[3]);
    device.key("other.key");
    device.request("other.key", None);
    let refused = device.enroll("other.key", third, "4.pem");
    assert!(!device.path("4.pem").exists(), "{}", text(&refused));
    let log = device.site.log_lines(&["reason=RenewalNotAllowed", "at most 3 renewals"]);
    assert_eq!(log.len(), 1, "{}", device.site.log());
    let transactions = device.transactions();
    assert_eq!(transactions.len(), 4, "{}", device.site.log());
    assert!(transactions.iter().all(|id| *id == transactions[0]), "{transactions:?}");
    log_has_no_secrets(&device.site, &[]);
}
