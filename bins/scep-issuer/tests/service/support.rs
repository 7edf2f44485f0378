//! An issuer of `init --listen` in a temporary folder, and its commands.

use scep_testkit::process::{Child, must, run, temporary, text, wait_for};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

pub(crate) const PROFILE: &str = r#"
id = "wifi"
for = "device"
subject = "O=Example, CN={{DeviceId}}"
key_usage = ["digitalSignature"]
extended_key_usages = ["clientAuth"]
key_algorithms = ["p256", "rsa2048"]
validity = "365d"
scep_urls = ["https://scep.example.org/scep"]
"#;

/// The program, with nothing in its environment that would be an option.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scep-issuer"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let proxy = name.to_ascii_lowercase().ends_with("_proxy");
        if proxy || name.starts_with("SCEP_") || name == "RUST_LOG" {
            command.env_remove(&*name);
        }
    }
    command
}

/// The service, running or not.
#[derive(Debug)]
pub(crate) struct Service {
    // Before the folder: the process ends before its files go.
    pub(crate) process: Option<Child>,
    pub(crate) url: String,
    runs: u32,
    token: String,
    dir: TempDir,
}

impl Service {
    /// `init`, with more arguments.
    pub(crate) fn init(more: &[&str]) -> Self {
        let dir = temporary();
        let folder = dir.path().join("issuer");
        let mut init = program();
        init.args(["init", "--tenant", "contoso", "--listen", "127.0.0.1:0", "--dir"]);
        must(init.arg(&folder).args(more));
        Self { process: None, url: String::new(), runs: 0, token: String::new(), dir }
    }

    /// `init`, `serve`, `token create`.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(more: &[&str]) -> Self {
        let mut service = Self::init(more);
        service.start();
        let made = service.local(&["token", "create", "--scope", "admin"]);
        service.token = made.trim().to_owned();
        service
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.file("issuer.toml")
    }

    /// A file of the issuer's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("issuer").join(name)
    }

    /// A file of the test's own, with these contents.
    pub(crate) fn place(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `serve`, until it listens.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        self.runs += 1;
        let mut command = program();
        command.arg("serve").arg("--config").arg(self.config());
        let name = format!("serve-{}", self.runs);
        let mut child = Child::start(&mut command, self.dir.path(), &name);
        self.url = wait_for("the service listens", || {
            assert!(child.ended().is_none(), "{}", child.stderr());
            let log = child.stderr();
            let line = log.lines().find(|line| line.contains("listening"))?.to_owned();
            let start = line.find("https://")?;
            let url = line[start..].split_whitespace().next()?;
            Some(url.strip_suffix("/api/v1")?.to_owned())
        });
        self.process = Some(child);
    }

    fn signal(&self, name: &str) {
        let id = self.process.as_ref().unwrap().id();
        // The shell's own: a bare machine has no program of that name.
        must(Command::new("sh").arg("-c").arg(format!("kill -{name} {id}")));
    }

    /// SIGTERM, and its orderly end.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        let mut child = self.process.take().unwrap();
        let status = wait_for("the service stops", || child.ended());
        assert!(status.success(), "{status}: {}", child.stderr());
    }

    /// SIGHUP, until the log has said this once more.
    pub(crate) fn hang_up(&self, expected: &str) {
        let told = || self.log().matches(expected).count();
        let before = told();
        self.signal("HUP");
        wait_for(expected, || (told() > before).then_some(()));
    }

    pub(crate) fn log(&self) -> String {
        self.process.as_ref().unwrap().stderr()
    }

    /// A command that reads the configuration: what it prints.
    pub(crate) fn local(&self, arguments: &[&str]) -> String {
        let mut command = program();
        command.args(arguments).arg("--config").arg(self.config());
        String::from_utf8(must(&mut command)).unwrap()
    }

    /// Why `serve` ends at once.
    #[track_caller]
    pub(crate) fn does_not_serve(&self) -> String {
        let mut command = program();
        command.arg("serve").arg("--config").arg(self.config());
        let mut child = Child::start(&mut command, self.dir.path(), "refused");
        let status = wait_for("the service ends", || {
            assert!(!child.stderr().contains("listening"), "it serves: {}", child.stderr());
            child.ended()
        });
        assert_eq!(status.code(), Some(2), "{}", child.stderr());
        child.stderr()
    }

    /// A command that uses the API, with everything that it needs.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments).env("SCEP_ISSUER_URL", &self.url);
        command.env("SCEP_ISSUER_TOKEN", &self.token);
        command.env("SCEP_ISSUER_CA_FILE", self.file("tls.pem"));
        command
    }

    /// What a command prints for people.
    #[track_caller]
    pub(crate) fn told(&self, arguments: &[&str]) -> String {
        String::from_utf8(must(&mut self.command(arguments))).unwrap()
    }

    /// What a command prints for programs.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_slice(&must(&mut self.command(&arguments))).unwrap()
    }

    /// What a command says when it fails.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        failed(&mut self.command(arguments))
    }

    /// A profile, a device that has it, and a group that has a key.
    pub(crate) fn furnish(&self) {
        let profile = self.place("wifi.toml", PROFILE);
        self.told(&["profile", "add", "--file", profile.to_str().unwrap()]);
        self.told(&["device", "add", "laptop-1"]);
        self.told(&["assign", "--profile", "wifi", "--device", "laptop-1"]);
    }

    /// The same, with a group that does not enrol.
    pub(crate) fn furnish_group(&self) {
        self.furnish();
        let key = scep_testkit::keys::TestKey::RsaA.public_key();
        let key = self.place("main.pub.pem", &scep_keys::public_key_pem(&key));
        self.told(&["group", "add", "main", "--public-key", key.to_str().unwrap()]);
    }

    /// The id of the key that has signed a new challenge: it stands in its text as it is.
    pub(crate) fn signs(&self, keys: &[String]) -> String {
        let made = self.json(&["challenge", "new", "--device", "laptop-1", "--profile", "wifi"]);
        let der = base64(made["challenge"].as_str().unwrap());
        let mut found = keys.iter().filter(|id| {
            let id = octets(id);
            der.windows(id.len()).any(|window| window == id)
        });
        let (first, second) = (found.next(), found.next());
        assert!(second.is_none(), "{keys:?}");
        first.expect("one of the keys has signed").clone()
    }

    /// The ids of the keys of a kind, newest first.
    pub(crate) fn key_ids(&self, what: &str) -> Vec<String> {
        let list: Value = serde_json::from_str(&self.local(&["key", "list", "--json"])).unwrap();
        let of = list.as_array().unwrap().iter().filter(|key| key["what"] == what);
        of.map(|key| key["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Runs a command that must fail as one of a user's does; gives what it says.
#[track_caller]
pub(crate) fn failed(command: &mut Command) -> String {
    let output = run(command);
    assert_eq!(output.status.code(), Some(2), "{command:?}: {}", text(&output));
    assert!(output.stdout.is_empty(), "{}", text(&output));
    String::from_utf8(output.stderr).unwrap()
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn base64(text: &str) -> Vec<u8> {
    let pem = format!("-----BEGIN X-----\n{text}\n-----END X-----\n");
    pem::parse(pem).unwrap().into_contents()
}
