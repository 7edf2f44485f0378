//! A load of enrolments for a gateway, or for another SCEP server: how many a second, how long each takes, and what that
//! costs the server beside the asymmetric operations that an enrolment cannot do without.

mod fill;
mod fire;
mod http;
mod machine;
mod prepare;
mod report;
mod server;
mod speeds;
mod stats;

use clap::{Parser, ValueEnum};
use core::time::Duration;
use fire::{Fired, Load, fire};
use machine::Used;
use prepare::{Challenges, Pool, Target, Transport};
use report::Report;
use scep_keys::{Backend, SoftwareKey, read_public_key};
use server::{Gateway, Peer, ca_certificate};
use speeds::Speeds;
use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;

/// Whatever ends a run.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T> = core::result::Result<T, Error>;

/// Fires prepared enrolments at a SCEP server over loopback.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// Makes the table of benches/README.md: the gateway in several ways, and the other servers that are installed
    #[arg(long)]
    table: bool,
    /// The server
    #[arg(long, value_enum, default_value_t = Against::Gateway)]
    against: Against,
    /// Enrolments that are measured
    #[arg(long, default_value_t = 4000)]
    enrolments: usize,
    /// Enrolments before them
    #[arg(long, default_value_t = 200)]
    warm_up: usize,
    /// Connections, each with one request at a time
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Requests a second, whatever comes back; without it, each connection sends as soon as it has its answer
    #[arg(long)]
    rate: Option<f64>,
    /// A connection for each request
    #[arg(long)]
    no_keep_alive: bool,
    /// GET instead of POST
    #[arg(long)]
    get: bool,
    /// Keys of the devices. P-256: messages are signed by a few RSA keys, at an endpoint that takes any signer
    #[arg(long, default_value = "rsa2048", value_parser = ["rsa2048", "p256"])]
    device_keys: String,
    /// How many devices there are; each comes again and again, with its key and another challenge
    #[arg(long, default_value_t = 512)]
    devices: usize,
    /// Where RSA keys of devices are kept [default: load-rsa2048.keys beside this program]
    #[arg(long)]
    key_cache: Option<PathBuf>,
    /// Key of the gateway's CA
    #[arg(long, default_value = "p256", value_parser = ["p256", "rsa2048"])]
    ca_key: String,
    /// Key that opens challenges
    #[arg(long, default_value = "p256", value_parser = ["p256", "rsa2048"])]
    challenge_key: String,
    /// The gateway's ledger; a PostgreSQL cluster is made for the run, with fsync on
    #[arg(long, value_enum, default_value_t = LedgerKind::Sqlite)]
    ledger: LedgerKind,
    /// limits.threads of the gateway; 0: one for each of its cores
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Cores of the server; the load comes from the others, if there are any
    #[arg(long, default_value_t = 1)]
    cores: usize,
    /// Certificates that are put into the ledger before, by SQL
    #[arg(long)]
    fill: Option<u64>,
    /// The gateway's program [default: scep-gateway beside this program]
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// A gateway that runs already, http://HOST:PORT/PATH. Its tenant is contoso, its group main, and example.org is allowed
    #[arg(long, requires = "issuer_key", requires = "gateway_key")]
    url: Option<String>,
    /// Of --url: the private key that challenges are signed with
    #[arg(long)]
    issuer_key: Option<PathBuf>,
    /// Of --url: the public key that challenges are made for
    #[arg(long)]
    gateway_key: Option<PathBuf>,
    /// Of --url: the process whose processor time and memory are looked at
    #[arg(long)]
    pid: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Against {
    Gateway,
    Micromdm,
    StepCa,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LedgerKind {
    Sqlite,
    Postgres,
}

impl Options {
    fn beside(name: &str) -> Result<PathBuf> {
        Ok(std::env::current_exe()?.with_file_name(name))
    }

    /// The gateway's program.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        let program = self.gateway.clone().map_or_else(|| Self::beside("scep-gateway"), Ok)?;
        if program.is_file() {
            return Ok(program);
        }
        let name = program.display();
        Err(format!("{name} is missing: cargo build --release -p scep-gateway").into())
    }

    const fn transport(&self) -> Transport {
        if self.get { Transport::Get } else { Transport::Post }
    }

    /// The endpoint of a gateway that `init` has made.
    pub(crate) fn path(&self) -> &str {
        if self.device_keys == "p256" { "/certsrv/mscep/mscep.dll" } else { "/" }
    }

    fn pool(&self) -> Result<Pool> {
        if self.device_keys == "p256" {
            return Pool::p256(self.devices);
        }
        let file = self.key_cache.clone().map_or_else(|| Self::beside("load-rsa2048.keys"), Ok)?;
        Pool::rsa(self.devices, &file)
    }
}

fn main() -> std::process::ExitCode {
    let options = Options::parse();
    match if options.table { report::table(&options) } else { single(&options) } {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn single(options: &Options) -> Result<()> {
    report::machine()?;
    let report = run(options)?;
    println!("{}", report::HEAD);
    println!("{}", report.row(&report::label(options)));
    report.details();
    Ok(())
}

/// What runs, and is stopped by being dropped.
enum Running {
    Gateway(Box<Gateway>),
    Peer {
        _server: Peer,
    },
    /// Somebody else's.
    Foreign,
}

/// One run: a new server, prepared requests, and the machine's speed before and after.
pub(crate) fn run(options: &Options) -> Result<Report> {
    let all = machine::processors()?;
    let (servers, rest) = all.split_at_checked(options.cores.max(1)).ok_or("fewer cores")?;
    let clients = if rest.is_empty() { &all } else { rest };
    let pool = options.pool()?;
    let mut report = Report { alone: !rest.is_empty(), ..Report::default() };
    let (mut running, target, pid) = start(options, servers, &pool, &mut report)?;
    let warm_up = pool.requests(&target, 0, options.warm_up)?;
    let requests = pool.requests(&target, options.warm_up, options.enrolments)?;

    let octets: usize = requests.iter().map(Vec::len).sum();
    report.sent = stats::each(precise(u64::try_from(octets)?), requests.len());

    let mut speeds = Speeds::measure(servers)?;
    machine::run_on(clients)?;
    let sources = AtomicU32::new(1);
    let load = Load {
        server: target.server,
        connections: options.connections,
        keep_alive: !options.no_keep_alive,
        rate: None,
        sources: &sources,
    };
    must_issue(&fire(load, &warm_up))?;
    let before = pid.map(Used::by).transpose()?.unwrap_or_default();
    report.fired = fire(Load { rate: options.rate, ..load }, &requests);
    let after = pid.map(Used::by).transpose()?.unwrap_or_default();
    report.load_average = machine::load_average();
    machine::run_on(&all)?;
    speeds.add(Speeds::measure(servers)?);

    report.cpu = after.cpu.saturating_sub(before.cpu);
    report.peak = after.peak;
    report.speeds = speeds;
    if options.against == Against::Gateway {
        let Options { device_keys, ca_key, challenge_key, .. } = options;
        report.needed = speeds::needed(device_keys, ca_key, challenge_key);
    }
    if let Running::Gateway(gateway) = &mut running {
        gateway.stop()?;
        let grown = fill::octets(gateway)?.saturating_sub(report.octets_before);
        // The first one is in what was there before.
        let made = options.warm_up.saturating_add(report.fired.issued);
        report.octets = stats::each(precise(grown), made);
    }
    Ok(report)
}

/// As a double.
#[allow(clippy::cast_precision_loss, reason = "sizes and counts below 2^53")]
pub(crate) fn precise(number: u64) -> f64 {
    number as f64
}

fn start(
    options: &Options,
    processors: &[usize],
    pool: &Pool,
    report: &mut Report,
) -> Result<(Running, Target, Option<u32>)> {
    if let Some(url) = &options.url {
        return Ok((Running::Foreign, foreign(options, url)?, options.pid));
    }
    let peer = match options.against {
        Against::Gateway => None,
        Against::Micromdm => Some(Peer::micromdm(processors)?),
        Against::StepCa => Some(Peer::step_ca(processors)?),
    };
    if let Some(peer) = peer {
        let (target, pid) = (peer.target(options.transport())?, peer.pid());
        return Ok((Running::Peer { _server: peer }, target, Some(pid)));
    }
    let mut gateway = Gateway::init(options, processors)?;
    gateway.start()?;
    let target = gateway.target(options)?;
    // One certificate, for what grows with each, and to make copies of.
    let sources = AtomicU32::new(1);
    let load = Load {
        server: target.server,
        connections: 1,
        keep_alive: false,
        rate: None,
        sources: &sources,
    };
    must_issue(&fire(load, &pool.requests(&target, 0, 1)?))?;
    gateway.stop()?;
    let empty = fill::octets(&gateway)?;
    if let Some(rows) = options.fill {
        let start = std::time::Instant::now();
        fill::fill(&gateway, rows)?;
        eprintln!("filled with {rows} certificates in {:.0} s", start.elapsed().as_secs_f64());
    }
    report.octets_before = fill::octets(&gateway)?;
    if let Some(rows) = options.fill {
        let grown = report.octets_before.saturating_sub(empty);
        report.octets_filled = precise(grown) / precise(rows.max(1));
    }
    report.start = Some(gateway.start()?);
    let pid = gateway.pid()?;
    Ok((Running::Gateway(Box::new(gateway)), target, Some(pid)))
}

/// A load of which nothing is issued measures how fast a server refuses.
fn must_issue(fired: &Fired) -> Result<()> {
    if fired.issued == 0 {
        return Err(format!("nothing is issued: {:?}", fired.others).into());
    }
    Ok(())
}

fn foreign(options: &Options, url: &str) -> Result<Target> {
    let rest = url.strip_prefix("http://").ok_or("--url begins with http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let server = host.to_socket_addrs()?.next().ok_or("--url names no address")?;
    let path = format!("/{path}");
    let (Some(issuer), Some(gateway)) = (&options.issuer_key, &options.gateway_key) else {
        return Err("--url needs --issuer-key and --gateway-key".into());
    };
    Ok(Target {
        server,
        recipient: ca_certificate(server, &path)?,
        path,
        challenges: Challenges::Sealed {
            issuer: SoftwareKey::read(issuer, Backend::AwsLc)?,
            gateway: read_public_key(gateway)?,
        },
        transport: options.transport(),
    })
}

/// How much of a core's time the rest of an enrolment takes.
pub(crate) fn ratio(cpu: Duration, issued: usize, sum: f64) -> f64 {
    if sum > 0.0 { stats::each(cpu.as_secs_f64() * 1e6, issued) / sum } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_options_are_consistent() {
        Options::command().debug_assert();
        let options = Options::try_parse_from(["load"]).unwrap();
        assert_eq!((options.path(), options.transport()), ("/", Transport::Post));
        let options = Options::try_parse_from(["load", "--device-keys", "p256", "--get"]).unwrap();
        assert_eq!(options.path(), "/certsrv/mscep/mscep.dll");
        assert_eq!(options.transport(), Transport::Get);
        assert!(Options::try_parse_from(["load", "--url", "http://127.0.0.1:1/"]).is_err());
    }

    #[test]
    fn the_ratio_is_of_one_enrolment() {
        let twice = ratio(Duration::from_micros(2_000), 2, 500.0);
        assert!((twice - 2.0).abs() < 1e-9, "{twice}");
        assert_eq!(ratio(Duration::ZERO, 0, 0.0).to_bits(), 0.0_f64.to_bits());
    }
}
