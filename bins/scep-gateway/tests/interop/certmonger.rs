//! certmonger: PKIOperation by GET, a signer certificate of version 1, and a challenge that it keeps and sends again.

use crate::support::{
    PRESETS, certificate_must_be, decide_on_the_one, log_has_no_secrets, manual, openssl_verify,
    preset_site, profile, renewable, renewing_site,
};
use libtest_mimic::Trial;
use scep_testkit::process::peers::{Peer, find, trial};
use scep_testkit::process::{
    Child, PATIENCE, Site, SiteOptions, must, run, temporary, text, wait_for,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    let peers =
        || [Peer::program("certmonger"), Peer::program("getcert"), Peer::program("openssl")];
    vec![
        trial("certmonger_enrols", &peers(), enrols),
        trial("certmonger_enrols_at_every_preset", &peers(), enrols_at_every_preset),
        trial("attack_31_certmonger_is_refused_another_order", &peers(), another_order),
        trial("quirk_50_certmonger_asks_again_for_a_lost_reply", &peers(), lost_reply),
        trial(
            "quirk_48_certmonger_waits_and_after_a_restart_sends_its_request_again",
            &peers(),
            waits,
        ),
        trial("quirk_52_certmonger_resubmits_its_old_challenge", &peers(), resubmits),
        trial("quirk_52_certmonger_rekeys_with_its_old_challenge", &peers(), rekeys),
        trial("quirk_52_certmonger_renews_by_its_certificate", &peers(), renews_by_certificate),
    ]
}

const SUBJECT: &str = "CN=dev, O=Example";
const DNS: &str = "dev.example.org";

/// A site, and a daemon with a socket and all its state in a folder of its own.
struct Enrolment {
    site: Site,
    // Before the folder: the process ends before its files go.
    daemon: Child,
    dir: TempDir,
}

impl Enrolment {
    fn new() -> Self {
        let site = Site::start(&SiteOptions::default());
        let url = site.url("/");
        Self::at(site, &url)
    }

    /// One that reaches the site by another URL.
    fn at(site: Site, url: &str) -> Self {
        let dir = temporary();
        for (_, folder) in FOLDERS {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let daemon = daemon(dir.path());
        let enrolment = Self { site, daemon, dir };
        must(enrolment.getcert("add-scep-ca").args(["-c", "site", "-u", url]));
        enrolment
    }

    /// Ends the daemon at once and starts another on the same state.
    fn restart(&mut self) {
        self.daemon.kill();
        std::fs::remove_file(self.path("socket")).unwrap();
        self.daemon = daemon(self.dir.path());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn getcert(&self, verb: &str) -> Command {
        let mut command = Command::new("getcert");
        let socket = format!("unix:path={}", self.path("socket").display());
        command.arg(verb).env("CERTMONGER_PVT_ADDRESS", socket).env("HOME", self.dir.path());
        command
    }

    fn mint(&self) -> String {
        self.site.mint(&profile(SUBJECT, &[DNS]), "dev", &[])
    }

    fn request(&self, subject: &str, challenge: &str) -> Command {
        let mut command = self.getcert("request");
        command.args(["-c", "site", "-I", "id", "-N", subject, "-D", DNS, "-L", challenge]);
        command.arg("-k").arg(self.path("key.pem")).arg("-f").arg(self.path("cert.pem"));
        command
    }

    /// A request to the end: certmonger has a certificate, or gives up.
    fn ask(&self, subject: &str, challenge: &str) -> Output {
        run(self.request(subject, challenge).args(["-w", "-v"]))
    }

    /// `resubmit` or `rekey`, to the end.
    fn again(&self, verb: &str) -> Output {
        run(self.getcert(verb).args(["-i", "id", "-w", "-v"]))
    }

    fn status(&self) -> String {
        let out = must(self.getcert("list").args(["-i", "id"]));
        String::from_utf8(out).unwrap()
    }

    /// The certificate that certmonger has saved, looked at and returned.
    fn certificate(&self, output: &Output) -> Vec<u8> {
        let status = self.status();
        let said = || format!("{}\n{status}\n{}", text(output), self.site.log());
        assert!(status.contains("status: MONITORING"), "{}", said());
        self.must_have_certificate();
        std::fs::read(self.path("cert.pem")).unwrap()
    }

    /// Waits until certmonger has nothing to do.
    fn settle(&self) {
        wait_for("certmonger to settle", || {
            self.status().contains("status: MONITORING").then_some(())
        });
    }

    fn must_have_certificate(&self) {
        let path = self.path("cert.pem");
        openssl_verify(&self.site, &path);
        certificate_must_be(&path, "O=Example,CN=dev", &[DNS.to_owned()]);
    }

    fn must_be_refused(&self, output: &Output) {
        let status = self.status();
        assert!(status.contains("status: CA_REJECTED"), "{}\n{status}", text(output));
    }
}

/// A daemon, once it listens.
fn daemon(dir: &Path) -> Child {
    let at = |name: &str| dir.join(name);
    let mut command = Command::new(find("certmonger").unwrap());
    command.arg("-L").arg("-P").arg(at("socket")).args(["-n", "-d", "2"]);
    command.env("CERTMONGER_SYSTEM_LOCK_FILE", at("lock")).env("HOME", dir);
    command.envs(FOLDERS.map(|(variable, folder)| (variable, at(folder))));
    let mut daemon = Child::start(&mut command, dir, "certmonger");
    wait_for("certmonger's socket", || {
        assert!(daemon.ended().is_none(), "{}", daemon.stderr());
        at("socket").exists().then_some(())
    });
    daemon
}

const FOLDERS: [(&str, &str); 5] = [
    ("CERTMONGER_CONFIG_DIR", "config"),
    ("CERTMONGER_REQUESTS_DIR", "requests"),
    ("CERTMONGER_CAS_DIR", "cas"),
    ("CERTMONGER_LOCAL_CA_DIR", "local"),
    ("CERTMONGER_TMPDIR", "tmp"),
];

fn enrols_at_every_preset() {
    for (preset, options) in PRESETS {
        let site = preset_site(preset, options);
        let url = site.url("/");
        let enrolment = Enrolment::at(site, &url);
        let output = enrolment.ask(SUBJECT, &enrolment.mint());
        enrolment.certificate(&output);
        let issued = enrolment.site.log_lines(&["outcome=Issued", &format!("endpoint={preset}")]);
        assert_eq!(issued.len(), 1, "{preset} {options:?}: {}", enrolment.site.log());
    }
}

fn enrols() {
    let enrolment = Enrolment::new();
    let output = enrolment.ask(SUBJECT, &enrolment.mint());
    enrolment.certificate(&output);
    assert_eq!(enrolment.site.log_lines(&["outcome=Issued", "device=dev"]).len(), 1);
    log_has_no_secrets(&enrolment.site, &[]);
}

fn another_order() {
    let enrolment = Enrolment::new();
    let output = enrolment.ask("O=Example, CN=dev", &enrolment.mint());
    enrolment.must_be_refused(&output);
    let said = ["reason=SubjectNameMismatch", "`CN=dev, O=Example`", "`O=Example, CN=dev`"];
    assert_eq!(enrolment.site.log_lines(&said).len(), 1, "{}", enrolment.site.log());
    assert!(!enrolment.path("cert.pem").exists());
    log_has_no_secrets(&enrolment.site, &[]);
}

/// A daemon that is ended before the answer has come asks again when it starts: the same request, in a new message.
fn lost_reply() {
    let site = Site::start(&SiteOptions::default());
    let (proxy, lost) = loses_the_first_reply(site.address());
    let mut enrolment = Enrolment::at(site, &format!("http://{proxy}/"));
    must(&mut enrolment.request(SUBJECT, &enrolment.mint()));
    let waiting = lost.recv_timeout(PATIENCE).expect("an answer for the proxy to let fall");
    enrolment.restart();
    drop(waiting);
    wait_for("certmonger's certificate", || enrolment.path("cert.pem").exists().then_some(()));
    enrolment.settle();
    enrolment.must_have_certificate();
    let log = enrolment.site.log();
    let issued = enrolment.site.log_lines(&["outcome=Issued"]);
    let repeated = enrolment.site.log_lines(&["outcome=Repeated"]);
    assert_eq!((issued.len(), repeated.len()), (1, 1), "{log}");
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-serial", "-in"]).arg(enrolment.path("cert.pem"));
    let serial = String::from_utf8(must(&mut command)).unwrap();
    assert!(issued[0].contains(serial.trim()), "{serial} is not the one issued first: {log}");
    log_has_no_secrets(&enrolment.site, &[]);
}

/// Told to wait, certmonger asks again after days, or when somebody says `refresh`. What it was told does not outlive a
/// restart: it sends the same request again.
fn waits() {
    let mut enrolment = Enrolment::new();
    let profile = manual(&profile(SUBJECT, &[DNS]));
    let challenge = enrolment.site.mint(&profile, "dev", &[]);
    must(&mut enrolment.request(SUBJECT, &challenge));
    wait_for("certmonger to wait", || {
        enrolment.status().contains("status: CA_WORKING").then_some(())
    });
    let refresh = |enrolment: &Enrolment| must(enrolment.getcert("refresh").args(["-i", "id"]));
    refresh(&enrolment);
    decide_on_the_one(&enrolment.site, 2, "approve");
    enrolment.restart();
    refresh(&enrolment);
    wait_for("certmonger's certificate", || enrolment.path("cert.pem").exists().then_some(()));
    enrolment.settle();
    enrolment.must_have_certificate();
    let issued = enrolment.site.log_lines(&["outcome=Issued"]);
    assert_eq!(issued.len(), 1, "{}", enrolment.site.log());
    assert!(issued[0].contains("message_type=PkcsReq"), "{}", issued[0]);
    log_has_no_secrets(&enrolment.site, &[]);
}

/// certmonger makes up a new subjectKeyIdentifier for every request, so that this is another request with the old
/// challenge, which is spent.
fn resubmits() {
    again_is_refused("resubmit");
}

fn rekeys() {
    again_is_refused("rekey");
}

fn again_is_refused(verb: &str) {
    let enrolment = Enrolment::new();
    let output = enrolment.ask(SUBJECT, &enrolment.mint());
    let first = enrolment.certificate(&output);
    let output = enrolment.again(verb);
    let log = enrolment.site.log();
    let refused = enrolment.site.log_lines(&["reason=ChallengeAlreadyUsed", "device=dev"]);
    assert_eq!(refused.len(), 1, "{}\n{log}", text(&output));
    assert_eq!(enrolment.site.log_lines(&["outcome=Issued"]).len(), 1, "{log}");
    // certmonger was told, and keeps what it had.
    let status = enrolment.status();
    assert!(status.contains("ca-error: Transaction either is not permitted"), "{status}");
    assert_eq!(enrolment.certificate(&output), first);
    log_has_no_secrets(&enrolment.site, &[]);
}

/// A PKCSReq with the old challenge, which the old certificate signs: a new key where the profile lets certificates renew
/// themselves, the same key where the site does too.
fn renews_by_certificate() {
    for (verb, same_key, issued) in
        [("rekey", false, 2), ("resubmit", true, 2), ("resubmit", false, 1)]
    {
        let site = renewing_site(same_key);
        let url = site.url("/");
        let enrolment = Enrolment::at(site, &url);
        let challenge = enrolment.site.mint(&renewable(SUBJECT, &[DNS]), "dev", &[]);
        let output = enrolment.ask(SUBJECT, &challenge);
        let first = enrolment.certificate(&output);
        let output = enrolment.again(verb);
        let log = enrolment.site.log();
        let now = enrolment.certificate(&output);
        assert_eq!(now != first, issued == 2, "{verb}, {same_key}: {log}");
        let lines = enrolment.site.log_lines(&["outcome=Issued", "message_type=PkcsReq"]);
        assert_eq!(lines.len(), issued, "{verb}, {same_key}: {log}");
        let refused =
            enrolment.site.log_lines(&["reason=RenewalNotAllowed", "renew_with_same_key"]);
        assert_eq!(refused.len(), 2 - issued, "{verb}, {same_key}: {log}");
        log_has_no_secrets(&enrolment.site, &[]);
    }
}

/// Passes GETs on, but lets the gateway's answer to the first PKIOperation fall, and sends the connection on which it is
/// still waited for.
fn loses_the_first_reply(gateway: SocketAddr) -> (SocketAddr, Receiver<TcpStream>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (told, lost) = channel();
    // Lives as long as the process: it waits for connections that do not come any more.
    std::thread::spawn(move || {
        let mut told = Some(told);
        for stream in listener.incoming() {
            let Ok(mut device) = stream else { return };
            let Some(request) = head(&mut device) else { continue };
            let Ok(mut server) = TcpStream::connect(gateway) else { return };
            // One request for each connection, so that the end of the answer shows.
            let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            let mut answer = Vec::new();
            server.write_all(request.as_bytes()).unwrap();
            server.read_to_end(&mut answer).unwrap();
            match told.take_if(|_| request.contains("PKIOperation")) {
                Some(told) => told.send(device).unwrap(),
                // A device that has gone loses its answer itself.
                None => drop(device.write_all(&answer)),
            }
        }
    });
    (address, lost)
}

/// The head of a GET.
fn head(device: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        let length = device.read(&mut piece).ok().filter(|length| *length > 0)?;
        head.extend_from_slice(&piece[..length]);
    }
    String::from_utf8(head).ok()
}
