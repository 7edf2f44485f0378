//! A PostgreSQL cluster of a test's own: made in a temporary folder, durable as a real one, stopped when it is dropped.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a cluster may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// The superuser of every cluster.
pub const USER: &str = "sceptic";
/// Its password, asked for on the loopback port.
pub const PASSWORD: &str = "only a test's";

/// PostgreSQL's programs on this machine.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The newest that Debian's packages have installed, or those on the path.
    #[must_use]
    pub fn find() -> Option<Self> {
        let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        folders.sort_by_key(|folder| version(folder));
        let debian = folders.into_iter().rev().map(|folder| folder.join("bin"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let others: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let all = |folder: &PathBuf| {
            ["initdb", "postgres", "pg_ctl", "pg_isready"]
                .iter()
                .all(|name| folder.join(name).is_file())
        };
        let folder = debian.chain(others).find(all)?;
        Some(Self { folder })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Settings of the machine's own cluster, and its language, do not matter here.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C");
        command
    }
}

/// Whom the server runs as: it refuses the superuser of the machine.
#[derive(Clone, Copy, Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// None when the present user will do.
    fn find() -> io::Result<Option<Self>> {
        use std::os::unix::fs::MetadataExt as _;
        // Whose files are what this process makes.
        let probe = tempfile::tempdir()?;
        if probe.path().metadata()?.uid() != 0 {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd")?;
        let find = |name: &str| {
            accounts.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next() == Some(name)).then_some(())?;
                Some(Self { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
            })
        };
        find("postgres")
            .or_else(|| find("nobody"))
            .map(Some)
            .ok_or_else(|| io::Error::other("no account postgres or nobody"))
    }

    fn take(self, command: &mut Command) {
        use std::os::unix::process::CommandExt as _;
        command.uid(self.uid).gid(self.gid);
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    programs: Programs,
    account: Option<Account>,
    folder: TempDir,
    settings: Vec<String>,
    port: u16,
    server: Option<Child>,
}

impl Cluster {
    /// Makes and starts one with every sync on. `settings` are `name=value`, and come last.
    ///
    /// # Errors
    /// When a program fails; the server's log is in the error.
    pub fn start(programs: &Programs, settings: &[&str]) -> io::Result<Self> {
        let mut cluster = Self {
            programs: programs.clone(),
            account: Account::find()?,
            folder: tempfile::Builder::new().prefix("pg").tempdir()?,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            port: 0,
            server: None,
        };
        cluster.give(cluster.folder.path())?;
        let password = cluster.place("password", PASSWORD.as_bytes())?;
        let data = cluster.data();
        let made = cluster
            .command("initdb")
            .arg("--pgdata")
            .arg(&data)
            .args(["--username", USER, "--encoding", "UTF8", "--locale", "C", "--no-sync"])
            // The socket's folder is private; the port is not.
            .args(["--auth-local", "trust", "--auth-host", "scram-sha-256"])
            .arg("--pwfile")
            .arg(&password)
            .stdout(cluster.log()?)
            .stderr(cluster.log()?)
            .status()?;
        if !made.success() {
            return Err(cluster.failure("initdb"));
        }
        cluster.run()?;
        Ok(cluster)
    }

    /// The folder of the socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The port on 127.0.0.1. It changes with every start.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A connection string by the socket.
    #[must_use]
    pub fn by_socket(&self) -> String {
        let folder = self.folder().display();
        format!("host={folder} port={} user={USER} dbname=postgres", self.port)
    }

    /// A connection string by the port, as this host and with a password.
    #[must_use]
    pub fn by_port(&self, host: &str) -> String {
        format!(
            "host={host} hostaddr=127.0.0.1 port={} user={USER} password='{}' dbname=postgres",
            self.port,
            PASSWORD.replace('\'', "\\'")
        )
    }

    /// Puts a file beside the data that only the server can read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn place(&self, name: &str, contents: &[u8]) -> io::Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder().join(name);
        fs::write(&path, contents)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        self.give(&path)?;
        Ok(path)
    }

    /// Adds a setting, for the next start.
    pub fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    /// Kills the server as a crash would.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut server) = self.server.take() {
            server.kill()?;
            server.wait()?;
        }
        Ok(())
    }

    /// Stops the server in an orderly way: connections are ended, and what was committed stays.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&mut self) -> io::Result<()> {
        self.stop_as("fast")
    }

    /// Starts it again, on the same port, after [`Cluster::kill`] or [`Cluster::stop`].
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> io::Result<()> {
        let deadline = after(PATIENCE);
        loop {
            // What is left of a killed server may still be in the way.
            match self.run_on(self.port) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        self.account.map_or(Ok(()), |account| {
            std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid))
        })
    }

    fn log(&self) -> io::Result<fs::File> {
        fs::OpenOptions::new().create(true).append(true).open(self.folder().join("log"))
    }

    fn failure(&self, what: &str) -> io::Error {
        let log = fs::read_to_string(self.folder().join("log")).unwrap_or_default();
        io::Error::other(format!("{what} failed:\n{log}"))
    }

    fn command(&self, name: &str) -> Command {
        let mut command = self.programs.command(name);
        if let Some(account) = self.account {
            account.take(&mut command);
        }
        command.current_dir(self.folder());
        command
    }

    fn run(&mut self) -> io::Result<()> {
        let mut last = None;
        // Somebody else may take the port in between.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            match self.run_on(port) {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("no port")))
    }

    fn run_on(&mut self, port: u16) -> io::Result<()> {
        self.port = port;
        let own = [
            format!("port={port}"),
            String::from("listen_addresses=127.0.0.1"),
            format!("unix_socket_directories={}", self.folder().display()),
            String::from("fsync=on"),
            String::from("full_page_writes=on"),
            String::from("synchronous_commit=on"),
            String::from("shared_buffers=32MB"),
        ];
        let settings = own.iter().chain(&self.settings).flat_map(|setting| ["-c", setting]);
        let server = self
            .command("postgres")
            .args([OsStr::new("-D"), self.data().as_os_str()])
            .args(settings)
            .stdout(self.log()?)
            .stderr(self.log()?)
            .spawn()?;
        self.server = Some(server);
        let deadline = after(PATIENCE);
        loop {
            let ready = self
                .command("pg_isready")
                .arg("--host")
                .arg(self.folder())
                .args(["--port", &port.to_string(), "--timeout", "5"])
                .status()?;
            if ready.success() {
                return Ok(());
            }
            let ended = match &mut self.server {
                Some(server) => server.try_wait()?.is_some(),
                None => true,
            };
            if ended || Instant::now() >= deadline {
                self.kill()?;
                return Err(self.failure("postgres"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop_as(&mut self, mode: &str) -> io::Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let asked = self
            .command("pg_ctl")
            .args(["stop", "--mode", mode, "--wait", "--pgdata"])
            .arg(self.data())
            .status();
        let asked = asked.is_ok_and(|status| status.success());
        if !asked {
            server.kill()?;
        }
        server.wait()?;
        Ok(())
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The folder goes with it; nothing has to be written any more.
        let _ = self.stop_as("immediate");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_starts_survives_a_crash_and_goes() {
        let name = "a_cluster_starts_survives_a_crash_and_goes";
        let Some(programs) = Programs::find() else {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{name} needs PostgreSQL");
            return;
        };
        let mut cluster = Cluster::start(&programs, &[]).unwrap();
        let folder = cluster.folder().to_owned();
        let port = cluster.port();
        cluster.kill().unwrap();
        cluster.restart().unwrap();
        assert_eq!(cluster.port(), port);
        drop(cluster);
        assert!(!folder.exists());
    }
}
