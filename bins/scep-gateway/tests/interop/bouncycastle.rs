//! BouncyCastle, on which clients in Java and on Android are built: `java/Enrol.java` writes BER as its stream
//! generators do, and reads the reply as such clients do.

use crate::support::{
    certificate_must_be, log_has_no_secrets, openssl_verify, preset_site, profile,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use libtest_mimic::Trial;
use scep_testkit::process::peers::{Peer, trial};
use scep_testkit::process::{HttpAnswer, Site, SiteOptions, http, must, temporary};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    let peers = || {
        let [pkix, provider, util] = JARS;
        let program = Peer::program;
        let jars = [Peer::file(pkix), Peer::file(provider), Peer::file(util)];
        [program("javac"), program("java"), program("openssl")].into_iter().chain(jars)
    };
    let trial = |name, test| trial(name, &peers().collect::<Vec<_>>(), test);
    vec![
        trial("quirk_22_bouncycastle_enrols_in_ber_by_post", by_post),
        trial("quirk_03_bouncycastle_enrols_by_get_without_escapes", by_get),
        trial("quirk_32_bouncycastle_enrols_with_oaep", with_oaep),
        trial("quirk_03_22_bouncycastle_enrols_at_the_preset_for_android", at_its_preset),
        trial("attack_01_bouncycastle_is_refused_another_name", another_name),
    ]
}

const JARS: [&str; 3] =
    ["/usr/share/java/bcpkix.jar", "/usr/share/java/bcprov.jar", "/usr/share/java/bcutil.jar"];
const SUBJECT: &str = "O=Example, CN=dev";
const DNS: &str = "dev.example.org";
const RSAES_OAEP: &str = "key transport 1.2.840.113549.1.1.7";
const RSA_ENCRYPTION: &str = "key transport 1.2.840.113549.1.1.1";

struct Enrolment {
    site: Site,
    dir: TempDir,
}

impl Enrolment {
    fn new() -> Self {
        Self::at(Site::start(&SiteOptions::default()))
    }

    fn at(site: Site) -> Self {
        Self { site, dir: temporary() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `java` compiles the program in memory.
    fn java(&self, verb: &str, ra: &str) -> Command {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/java/Enrol.java");
        let mut command = Command::new("java");
        command.args(["-cp", &JARS.join(":")]).arg(source).arg(verb);
        command.arg(self.dir.path()).arg(self.site.file(ra));
        command
    }

    /// A PKCSReq in BER, with a challenge for [`SUBJECT`].
    fn request(&self, subject: &str, key_transport: &str) -> Vec<u8> {
        let challenge = self.site.mint(&profile(SUBJECT, &[DNS]), "dev", &[]);
        let mut command = self.java("request", "ra-encrypt.cert.pem");
        must(command.args([subject, DNS, &challenge, key_transport]));
        let message = std::fs::read(self.path("request.ber")).unwrap();
        assert_eq!(message[..2], [0x30, 0x80], "an indefinite length");
        message
    }

    fn post(&self, message: &[u8]) -> HttpAnswer {
        http(self.site.address(), "POST", "/scep?operation=PKIOperation", message)
    }

    /// What the program says of a reply, and on standard error of its envelope.
    fn read(&self, answer: &HttpAnswer) -> (Vec<u8>, String) {
        assert_eq!(answer.status, 200, "{answer:?}: {}", self.site.log());
        std::fs::write(self.path("reply"), &answer.body).unwrap();
        let output = self.java("read", "ra-sign.cert.pem").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}\n{}", self.site.log());
        (output.stdout, errors)
    }

    fn must_have_enrolled(&self, answer: &HttpAnswer, key_transport: &str) {
        let (certificate, envelope) = self.read(answer);
        assert!(
            envelope.contains(key_transport),
            "the reply does not mirror the request: {envelope}"
        );
        let path = self.path("cert.pem");
        std::fs::write(&path, certificate).unwrap();
        openssl_verify(&self.site, &path);
        certificate_must_be(&path, "CN=dev,O=Example", &[DNS.to_owned()]);
        assert_eq!(self.site.log_lines(&["outcome=Issued"]).len(), 1, "{}", self.site.log());
        self.logs_no_secrets();
    }

    fn logs_no_secrets(&self) {
        log_has_no_secrets(&self.site, &[&std::fs::read(self.path("csr.der")).unwrap()]);
    }
}

fn by_post() {
    let enrolment = Enrolment::new();
    let answer = enrolment.post(&enrolment.request(SUBJECT, "pkcs1"));
    enrolment.must_have_enrolled(&answer, RSA_ENCRYPTION);
}

fn by_get() {
    let enrolment = Enrolment::new();
    let message = BASE64.encode(enrolment.request(SUBJECT, "pkcs1"));
    assert!(message.contains('+') && message.contains('/'), "base64 of some thousand octets");
    let target = format!("/scep?operation=PKIOperation&message={message}");
    let answer = http(enrolment.site.address(), "GET", &target, b"");
    enrolment.must_have_enrolled(&answer, RSA_ENCRYPTION);
}

/// By POST, and by GET without escapes.
fn at_its_preset() {
    for method in ["POST", "GET"] {
        let enrolment = Enrolment::at(preset_site("android-jscep", &[]));
        let message = enrolment.request(SUBJECT, "pkcs1");
        let answer = if method == "POST" {
            enrolment.post(&message)
        } else {
            let target = format!("/scep?operation=PKIOperation&message={}", BASE64.encode(message));
            http(enrolment.site.address(), method, &target, b"")
        };
        enrolment.must_have_enrolled(&answer, RSA_ENCRYPTION);
        assert_eq!(
            enrolment.site.log_lines(&["endpoint=android-jscep", "outcome=Issued"]).len(),
            1
        );
    }
}

fn with_oaep() {
    let enrolment = Enrolment::new();
    let answer = enrolment.post(&enrolment.request(SUBJECT, "oaep"));
    enrolment.must_have_enrolled(&answer, RSAES_OAEP);
}

fn another_name() {
    let enrolment = Enrolment::new();
    let answer = enrolment.post(&enrolment.request("O=Example, CN=admin", "pkcs1"));
    let (said, _) = enrolment.read(&answer);
    assert_eq!(String::from_utf8_lossy(&said).trim(), "FAILURE 2", "badRequest");
    let refused = ["reason=SubjectNameMismatch", "`O=Example, CN=dev`", "`O=Example, CN=admin`"];
    assert_eq!(enrolment.site.log_lines(&refused).len(), 1, "{}", enrolment.site.log());
    enrolment.logs_no_secrets();
}
