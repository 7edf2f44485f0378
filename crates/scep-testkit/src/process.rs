//! The real programs of the workspace as processes, for tests with real peers: an issuer and a gateway in temporary
//! folders, on free loopback ports, stopped by process id however a test ends.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    reason = "part of tests: what does not fit is a failed test, and its message says what"
)]

pub mod openbao;
pub mod peers;
pub mod step_ca;

use core::time::Duration;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};
use tempfile::TempDir;

/// How long anything of ours may take before a test fails: generous, as it is no measurement.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// A program of the workspace, built if need be with the profile that the running test was built with.
///
/// `cargo test --workspace` builds every program; `cargo test -p X` those of X alone, and this makes such a test work
/// by itself. A program that is newer than every source is taken as it is: cargo, asked for one package, would build
/// what lies beneath it once more, with the features that this package alone asks for.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<Mutex<HashMap<String, PathBuf>>> = OnceLock::new();
    let built = BUILT.get_or_init(Mutex::default);
    // Held while building: a second test that needs the same program waits for it.
    let mut built = built.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(name) {
        return path.clone();
    }
    let path = build(name);
    built.insert(name.to_owned(), path.clone());
    path
}

fn build(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    // target/<profile>/deps/<test>, and target/<profile>/examples/<example>.
    let profile_dir = own.ancestors().nth(2).expect("a test lies in target/<profile>/deps");
    let target = profile_dir.parent().expect("a profile's folder lies in the target folder");
    let profile = match profile_dir.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let path = profile_dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let newest =
        [root.join("crates"), root.join("bins")].iter().filter_map(|d| newest_source(d)).max();
    let made = path.metadata().and_then(|metadata| metadata.modified()).ok();
    if made.is_some() && made > newest {
        return path;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = root.join("Cargo.toml");
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", name, "--bin", name, "--profile", profile])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target);
    let output = run(&mut command);
    assert!(output.status.success() && path.is_file(), "building {name}: {}", text(&output));
    path
}

/// When the newest source of a program below this folder was changed: what is in `src` folders, and manifests.
fn newest_source(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?;
    let newest = entries.flatten().filter_map(|entry| {
        let (path, metadata) = (entry.path(), entry.metadata().ok()?);
        if metadata.is_dir() {
            // Tests are not in programs, and change more often.
            return if path.ends_with("tests") { None } else { newest_source(&path) };
        }
        let counts = matches!(path.extension()?.to_str()?, "rs" | "toml" | "sql" | "md" | "pem");
        if counts { metadata.modified().ok() } else { None }
    });
    newest.max()
}

/// Runs a command to its end, with nothing on its standard input.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn run(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()))
}

/// Runs a command that must succeed; returns its standard output.
///
/// # Panics
/// When it fails, with all that it said.
pub fn must(command: &mut Command) -> Vec<u8> {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    output.stdout
}

/// Everything that a command said, for a message or a search.
#[must_use]
pub fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Waits until `condition` gives something.
///
/// # Panics
/// After [`PATIENCE`], saying what was waited for.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(POLL);
    }
}

/// A loopback address that was free a moment ago. Another process can take it in between: who starts a server on it
/// must be ready to try again.
#[must_use]
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port is free");
    listener.local_addr().expect("a bound socket has an address")
}

/// A process that ends with this value, whatever happens to the test.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Child {
    /// Starts a command with its output in the files `name.out` and `name.err` of a folder.
    #[must_use]
    pub fn start(command: &mut Command, dir: &Path, name: &str) -> Self {
        let stdout = dir.join(format!("{name}.out"));
        let stderr = dir.join(format!("{name}.err"));
        let file = |path: &Path| File::create(path).expect("a temporary folder takes a file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file(&stdout))
            .stderr(file(&stderr))
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
        Self { child, stdout, stderr }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote on standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        lossy(&self.stdout)
    }

    /// What it wrote on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        lossy(&self.stderr)
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked for its status")
    }

    /// Waits until a connection to `address` is taken. `false`: the process has ended instead.
    #[must_use]
    pub fn answers(&mut self, address: SocketAddr) -> bool {
        wait_for(&format!("a server at {address}"), || {
            if self.ended().is_some() {
                return Some(false);
            }
            TcpStream::connect_timeout(&address, POLL).ok().map(|_| true)
        })
    }

    /// Ends the process at once and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// An answer over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// The header, with its status line.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

/// One request over HTTP/1.1, its target written as it stands: no library tidies up what a device sends.
///
/// # Panics
/// When nothing answers, or what answers is not HTTP.
#[must_use]
pub fn http(address: SocketAddr, method: &str, target: &str, body: &[u8]) -> HttpAnswer {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/x-pki-message\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("the server reads the header");
    stream.write_all(body).expect("the server reads the body");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server answers");
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("an HTTP header ends");
    let (head, body) = answer.split_at(end);
    let head = String::from_utf8_lossy(head).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    HttpAnswer {
        status: status.expect("an HTTP answer has a status"),
        body: body.get(4..).unwrap_or_default().to_vec(),
        head,
    }
}

/// `scep-issuer` in a temporary folder.
#[derive(Debug)]
pub struct Issuer {
    dir: TempDir,
    minted: Mutex<Vec<String>>,
}

impl Issuer {
    /// `scep-issuer init`, for the tenant `contoso`.
    #[must_use]
    pub fn init() -> Self {
        let issuer = Self { dir: temporary(), minted: Mutex::default() };
        must(
            issuer
                .command()
                .args(["init", "--tenant", "contoso", "--dir"])
                .arg(issuer.dir.path().join("issuer")),
        );
        issuer
    }

    /// A command of `scep-issuer`, to which arguments are added.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary("scep-issuer"));
        command.env_remove("SCEP_ISSUER_CONFIG");
        command
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("issuer/issuer.toml")
    }

    /// Its public signing key, for a gateway.
    #[must_use]
    pub fn public_key(&self) -> PathBuf {
        self.dir.path().join("issuer/issuer.pub.pem")
    }

    /// `scep-issuer add-gateway`.
    pub fn add_gateway(&self, group: &str, public_key: &Path) {
        let mut command = self.command();
        command.arg("add-gateway").arg("--config").arg(self.config());
        must(command.args(["--group", group, "--public-key"]).arg(public_key));
    }

    /// `scep-issuer mint`: the challenge's text.
    #[must_use]
    pub fn mint(&self, group: &str, profile: &str, device: &str, about: &[(&str, &str)]) -> String {
        let mut file = tempfile::NamedTempFile::new_in(self.dir.path()).expect("a profile's file");
        file.write_all(profile.as_bytes()).expect("a profile is written");
        let mut command = self.command();
        command.arg("mint").arg("--config").arg(self.config());
        command.args(["--group", group, "--device", device, "--profile"]).arg(file.path());
        for (name, value) in about {
            command.arg("--attribute").arg(format!("{name}={value}"));
        }
        let out = String::from_utf8(must(&mut command)).expect("a challenge is text");
        let challenge = out.trim_end().to_owned();
        let mut minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        minted.push(challenge.clone());
        challenge
    }

    /// Every challenge minted so far.
    #[must_use]
    pub fn minted(&self) -> Vec<String> {
        self.minted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How a [`Site`]'s gateway is made.
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// What names may end with (`--allow-suffix`).
    pub suffixes: Vec<String>,
    /// More arguments of `scep-gateway init`.
    pub init: Vec<String>,
    /// The site rules, instead of those that `init` writes.
    pub site_rules: Option<String>,
    /// Lines of the configuration's `[challenge]`.
    pub challenge: String,
    /// Appended to the configuration: more endpoints, limits, a log format.
    pub config: String,
}

impl Default for SiteOptions {
    fn default() -> Self {
        Self {
            suffixes: vec!["example.org".into()],
            init: Vec::new(),
            site_rules: None,
            challenge: String::new(),
            config: String::new(),
        }
    }
}

/// A whole site: `scep-issuer`, and `scep-gateway serve` with its own CA.
#[derive(Debug)]
pub struct Site {
    issuer: Issuer,
    // Before the folder: the process ends before its files go.
    gateway: Child,
    address: SocketAddr,
    admin: SocketAddr,
    dir: TempDir,
}

/// The group of every site's gateway.
const GROUP: &str = "main";

/// How often another pair of ports is tried.
const ATTEMPTS: usize = 10;

impl Site {
    /// `scep-issuer init`, `scep-gateway init`, `scep-issuer add-gateway`, `scep-gateway serve`.
    #[must_use]
    pub fn start(options: &SiteOptions) -> Self {
        let issuer = Issuer::init();
        let dir = temporary();
        let mut made = None;
        for _ in 0..ATTEMPTS {
            let (address, admin) = (free_address(), free_address());
            let folder = dir.path().join("gw");
            if made.is_some() {
                std::fs::remove_dir_all(&folder).expect("our own folder can be removed");
            }
            init(&folder, &issuer, options, address, admin);
            let mut command = Command::new(binary("scep-gateway"));
            command.env_remove("SCEP_GATEWAY_CONFIG");
            command.arg("serve").arg("--config").arg(folder.join("gateway.toml"));
            let mut gateway = Child::start(&mut command, dir.path(), "gateway");
            if gateway.answers(address) && gateway.ended().is_none() {
                issuer.add_gateway(GROUP, &folder.join("challenge.pub.pem"));
                return Self { issuer, gateway, address, admin, dir };
            }
            let log = gateway.stderr();
            assert!(log.contains("in use"), "scep-gateway serve: {log}");
            made = Some(log);
        }
        panic!("no port stayed free: {made:?}");
    }

    /// Where SCEP is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where `/healthz` and `/metrics` are served.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The URL of a path, which begins with `/`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A file of the gateway's folder: `ca.cert.pem`, `ra-encrypt.cert.pem`, `gateway.toml`, ...
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("gw").join(name)
    }

    /// The CA's certificate.
    #[must_use]
    pub fn ca_certificate(&self) -> PathBuf {
        self.file("ca.cert.pem")
    }

    /// The site's issuer.
    #[must_use]
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// A challenge for this site's gateway.
    #[must_use]
    pub fn mint(&self, profile: &str, device: &str, about: &[(&str, &str)]) -> String {
        self.issuer.mint(GROUP, profile, device, about)
    }

    /// The gateway's log so far. The line of a request is written before its answer is sent.
    #[must_use]
    pub fn log(&self) -> String {
        self.gateway.stderr()
    }

    /// The lines of the log that hold every one of `parts`.
    #[must_use]
    pub fn log_lines(&self, parts: &[&str]) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter(|line| parts.iter().all(|part| line.contains(part)));
        lines.map(str::to_owned).collect()
    }

    /// Everything that the gateway wrote, wherever.
    #[must_use]
    pub fn output(&self) -> String {
        format!("{}{}", self.gateway.stdout(), self.gateway.stderr())
    }

    /// The gateway's process.
    pub fn gateway(&mut self) -> &mut Child {
        &mut self.gateway
    }
}

fn init(
    folder: &Path,
    issuer: &Issuer,
    options: &SiteOptions,
    address: SocketAddr,
    admin: SocketAddr,
) {
    let mut command = Command::new(binary("scep-gateway"));
    command.args(["init", "--tenant", "contoso", "--group", GROUP, "--dir"]).arg(folder);
    command.arg("--issuer-key").arg(issuer.public_key());
    command.args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
    for suffix in &options.suffixes {
        command.args(["--allow-suffix", suffix]);
    }
    must(command.args(&options.init));
    if let Some(rules) = &options.site_rules {
        std::fs::write(folder.join("site-rules.toml"), rules).expect("site rules are written");
    }
    let config = folder.join("gateway.toml");
    let made = std::fs::read_to_string(&config).expect("init wrote a configuration");
    let made = made.replacen("[challenge]\n", &format!("[challenge]\n{}\n", options.challenge), 1);
    std::fs::write(&config, format!("{made}\n{}", options.config)).expect("it is written again");
}

/// An empty folder that goes with its value.
///
/// # Panics
/// When the machine has no place for one.
#[must_use]
pub fn temporary() -> TempDir {
    tempfile::Builder::new().prefix("sceptic-").tempdir().expect("a temporary folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_answers_and_ends_with_its_value() {
        let mut site = Site::start(&SiteOptions::default());
        let answer = http(site.address(), "GET", "/?operation=GetCACaps", b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(String::from_utf8_lossy(&answer.body).contains("SCEPStandard"));
        assert_eq!(site.log_lines(&["GetCACaps"]).len(), 1, "{}", site.log());
        let address = site.address();
        assert!(site.gateway().ended().is_none());
        drop(site);
        assert!(TcpStream::connect_timeout(&address, POLL).is_err());
    }
}
