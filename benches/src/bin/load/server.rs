//! The servers, each a process of its own in a temporary folder.

use crate::prepare::{Challenges, Target, Transport};
use crate::{Options, Result, machine};
use rustix::process::{Pid, Signal, kill_process};
use scep_keys::{SoftwareKey, public_key_pem, read_certificates, read_public_key};
use scep_message::{Limits, ca_cert};
use scep_testkit::postgres::{Cluster, Programs};
use scep_testkit::process::step_ca::StepCa;
use scep_testkit::process::{Child, free_address, http, must, temporary};
use scep_types::{CertificateDer, KeyAlgorithm};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than any start may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// The peers' challenge.
const WORD: &str = "secret";

/// `scep-gateway`, made by its `init`.
#[derive(Debug)]
pub(crate) struct Gateway {
    // Before the folder and the database: the process ends first.
    child: Option<Child>,
    cluster: Option<Cluster>,
    folder: TempDir,
    program: PathBuf,
    processors: Vec<usize>,
    issuer: SoftwareKey,
    address: SocketAddr,
    runs: u32,
}

impl Gateway {
    pub(crate) fn init(options: &Options, processors: &[usize]) -> Result<Self> {
        let folder = temporary();
        let issuer = SoftwareKey::generate(KeyAlgorithm::P256)?;
        let issuer_file = folder.path().join("issuer.pub.pem");
        std::fs::write(&issuer_file, public_key_pem(issuer.public_key()))?;
        let (address, admin) = (free_address(), free_address());
        let program = options.program()?;
        let mut init = Command::new(&program);
        init.args(["init", "--tenant", "contoso", "--group", "main"])
            .args(["--allow-suffix", "example.org"])
            .args(["--ca-key", &options.ca_key, "--challenge-key", &options.challenge_key])
            .args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()])
            .arg("--issuer-key")
            .arg(&issuer_file)
            .arg("--dir")
            .arg(folder.path().join("gw"));
        must(&mut init);
        let mut gateway = Self {
            child: None,
            cluster: None,
            folder,
            program,
            processors: processors.to_vec(),
            issuer,
            address,
            runs: 0,
        };
        // The brake is not what is measured.
        gateway.edit("site-rules.toml", |text| {
            text.replacen("issuance_per_hour = 10000\n", "issuance_per_hour = 1000000\n", 1)
        })?;
        gateway.edit("gateway.toml", |text| {
            format!("{text}\n[limits]\nthreads = {}\n", options.threads)
        })?;
        if options.ledger == crate::LedgerKind::Postgres {
            let programs = Programs::find().ok_or("PostgreSQL is not installed")?;
            let cluster = Cluster::start(&programs, &[])?;
            let connection = cluster.by_socket();
            gateway.edit("gateway.toml", |text| {
                let text = text.replacen("ledger = \"ledger.sqlite\"\n", "", 1);
                format!("{text}\n[ledger]\nkind = \"postgres\"\nconnection = \"{connection}\"\n")
            })?;
            gateway.cluster = Some(cluster);
        }
        Ok(gateway)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("gw").join(name)
    }

    fn edit(&self, name: &str, change: impl FnOnce(String) -> String) -> Result<()> {
        let text = std::fs::read_to_string(self.file(name))?;
        let changed = change(text.clone());
        if changed == text {
            return Err(format!("init writes another {name}").into());
        }
        Ok(std::fs::write(self.file(name), changed)?)
    }

    /// Starts it; how long until it has answered a first request.
    pub(crate) fn start(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        let mut command = pinned(&self.processors, &self.program);
        command.arg("serve").arg("--config").arg(self.file("gateway.toml"));
        command.env_remove("SCEP_GATEWAY_CONFIG");
        self.runs = self.runs.saturating_add(1);
        let name = format!("run-{}", self.runs);
        let child = self.child.insert(Child::start(&mut command, self.folder.path(), &name));
        first_answer(child, self.address, "/")?;
        Ok(begin.elapsed())
    }

    /// SIGTERM, and its orderly end.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now().checked_add(PATIENCE).ok_or("the clock is at its end")?;
        while child.ended().is_none() {
            if Instant::now() > deadline {
                return Err("the gateway does not stop".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().ok_or("the gateway does not run")?.id())
    }

    pub(crate) fn target(&self, options: &Options) -> Result<Target> {
        let recipient = read_certificates(&self.file("ra-encrypt.cert.pem"))?;
        Ok(Target {
            server: self.address,
            path: options.path().to_owned(),
            recipient: recipient.into_iter().next().ok_or("the RA has no certificate")?,
            challenges: Challenges::Sealed {
                issuer: self.issuer.clone(),
                gateway: read_public_key(&self.file("challenge.pub.pem"))?,
            },
            transport: options.transport(),
        })
    }

    /// The ledger's file.
    pub(crate) fn sqlite(&self) -> PathBuf {
        self.file("ledger.sqlite")
    }

    /// The ledger's cluster.
    pub(crate) const fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }
}

/// Another SCEP server.
#[derive(Debug)]
pub(crate) enum Peer {
    Micromdm {
        // Before the folder: the process ends before its files go.
        child: Child,
        address: SocketAddr,
        _folder: TempDir,
    },
    StepCa {
        server: StepCa,
        pid: u32,
    },
}

impl Peer {
    /// micromdm/scep, as Debian has it, with an RSA CA of 2048 bits.
    pub(crate) fn micromdm(processors: &[usize]) -> Result<Self> {
        let folder = temporary();
        let mut init = Command::new("scepserver");
        init.current_dir(folder.path()).args(["ca", "-init", "-depot", "depot"]);
        must(init.args(["-keySize", "2048", "-organization", "Example"]));
        // It takes a port, and listens on every address.
        let address = free_address();
        let mut serve = pinned(processors, "scepserver".as_ref());
        serve.current_dir(folder.path()).args(["-depot", "depot", "-allowrenew", "0"]);
        serve.args(["-challenge", WORD, "-port", &address.port().to_string()]);
        let mut child = Child::start(&mut serve, folder.path(), "scepserver");
        first_answer(&mut child, address, "/scep")?;
        Ok(Self::Micromdm { child, address, _folder: folder })
    }

    /// step-ca, with an RSA root and intermediate of 2048 bits.
    pub(crate) fn step_ca(processors: &[usize]) -> Result<Self> {
        let before = machine::processors()?;
        // What is started has the processors of who starts it.
        machine::run_on(processors)?;
        let server = StepCa::start(WORD, None);
        machine::run_on(&before)?;
        Ok(Self::StepCa { pid: machine::child("step-ca")?, server })
    }

    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Micromdm { child, .. } => child.id(),
            Self::StepCa { pid, .. } => *pid,
        }
    }

    pub(crate) fn target(&self, transport: Transport) -> Result<Target> {
        let (server, path) = match self {
            Self::Micromdm { address, .. } => (*address, "/scep"),
            Self::StepCa { server, .. } => (server.address(), "/scep/scep"),
        };
        Ok(Target {
            server,
            path: path.to_owned(),
            recipient: ca_certificate(server, path)?,
            challenges: Challenges::Static(WORD.to_owned()),
            transport,
        })
    }
}

/// A program on these processors alone.
fn pinned(processors: &[usize], program: &std::path::Path) -> Command {
    let list: Vec<String> = processors.iter().map(usize::to_string).collect();
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &list.join(",")]).arg(program);
    command
}

/// Asks for GetCACaps until that is answered.
fn first_answer(child: &mut Child, address: SocketAddr, path: &str) -> Result<()> {
    let deadline = Instant::now().checked_add(PATIENCE).ok_or("the clock is at its end")?;
    let request = format!(
        "GET {path}?operation=GetCACaps HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    );
    loop {
        let answered = TcpStream::connect(address).and_then(|mut stream| {
            let mut answer = Vec::new();
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut answer)?;
            Ok(answer.starts_with(b"HTTP/1.1 200"))
        });
        if answered.unwrap_or(false) {
            return Ok(());
        }
        if child.ended().is_some() || Instant::now() > deadline {
            return Err(format!("it does not start:\n{}{}", child.stdout(), child.stderr()).into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The certificate that a server wants requests to be encrypted to: the first one.
pub(crate) fn ca_certificate(server: SocketAddr, path: &str) -> Result<CertificateDer> {
    let answer = http(server, "GET", &format!("{path}?operation=GetCACert"), b"");
    let all = ca_cert::parse(&answer.body, &Limits::default())?;
    Ok(all.into_iter().next().ok_or("GetCACert is empty")?)
}
