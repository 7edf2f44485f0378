//! `doctor`: asks a SCEP server as the clients of the field do, and says which of them would break, and where.
//!
//! What it sends is of a device that is made for it and forgotten: a request without challenge whose signature is not
//! by its key, which no server may issue a certificate for.

mod checks;
mod message;
mod wire;

use crate::cli::DoctorOptions;
use crate::config::Config;
use crate::error::GatewayError;
use checks::Doctor;
use scep_keys::{AwsLc, read_certificates};
use scep_server::SystemClock;
use scep_types::{Clock as _, CryptoProvider};
use serde::Serialize;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use wire::Wire;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Some old client may break.
    Warn,
    /// Clients break.
    Fail,
}

/// What one check has found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    /// Of the field's list of quirks.
    quirks: &'static [&'static str],
    level: Level,
    found: String,
    clients: Option<&'static str>,
    advice: Option<&'static str>,
}

pub(crate) fn run(options: &DoctorOptions) -> Result<ExitCode, GatewayError> {
    let now = SystemClock.now();
    let url = match (&options.url, &options.config) {
        (Some(url), _) => url.clone(),
        (None, Some(path)) => {
            let provider: Arc<dyn CryptoProvider> = Arc::new(AwsLc);
            let config = Config::load(path, now, &provider)?;
            let path = config.endpoints.first().map(|endpoint| endpoint.path.clone());
            format!("http://{}{}", config.listen, path.unwrap_or_default())
        }
        (None, None) => return Err(GatewayError::config("URL", "give one, or --config")),
    };
    let roots = match &options.tls_root {
        Some(path) => read_certificates(path)?,
        None => Vec::new(),
    };
    let wire = Wire::new(&url, &roots, options.timeout)
        .map_err(|why| GatewayError::config("URL", format!("{url}: {why}")))?;
    let doctor = Doctor::new(wire, now, options.timeout);
    let findings = crate::serve::runtime()?.block_on(doctor.examine());
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Fail);
    let out = std::io::stdout();
    let written = if options.json {
        let all = serde_json::json!({ "url": url, "verdict": worst, "findings": findings });
        writeln!(&out, "{all:#}")
    } else {
        print(&url, &findings, &out)
    };
    written.map_err(GatewayError::file("standard output"))?;
    Ok(match worst {
        Level::Ok => ExitCode::SUCCESS,
        Level::Warn => ExitCode::from(1),
        Level::Fail => ExitCode::from(2),
    })
}

fn print(url: &str, findings: &[Finding], mut out: impl Write) -> std::io::Result<()> {
    writeln!(out, "{url}\n")?;
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        writeln!(out, "{level:5} {:width$}  {}", finding.check, finding.found)?;
        if let Some(clients) = finding.clients {
            writeln!(out, "{:5} {:width$}  who:  {clients}", "", "")?;
        }
        if let Some(advice) = finding.advice {
            writeln!(out, "{:5} {:width$}  what: {advice}", "", "")?;
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    writeln!(
        out,
        "\n{} ok, {} warnings, {} failures",
        count(Level::Ok),
        count(Level::Warn),
        count(Level::Fail)
    )
}
