//! What is printed.

use crate::fire::Fired;
use crate::speeds::Speeds;
use crate::stats::{each, milliseconds};
use crate::{Against, LedgerKind, Options, Result, machine, ratio, run};
use core::time::Duration;

/// One run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) fired: Fired,
    /// Processor time of the server meanwhile.
    pub(crate) cpu: Duration,
    /// Most memory of the server, KiB.
    pub(crate) peak: u64,
    pub(crate) speeds: Speeds,
    /// The operations of one enrolment; none where they are another server's own.
    pub(crate) needed: Vec<&'static str>,
    /// From the start of the process to its first answer.
    pub(crate) start: Option<Duration>,
    /// Size of the ledger before.
    pub(crate) octets_before: u64,
    /// Its growth for each enrolment.
    pub(crate) octets: f64,
    /// The same for each certificate that was put into it.
    pub(crate) octets_filled: f64,
    /// Octets of a request, with its head.
    pub(crate) sent: f64,
    /// Of the machine at the end, the run itself included.
    pub(crate) load_average: f64,
    /// Whether the server had its processors for itself, as far as this load goes.
    pub(crate) alone: bool,
}

pub(crate) const HEAD: &str = "\
| run | enrolments/s | CPU, µs each | sum of operations, µs | ratio | p50 ms | p90 ms | p99 ms | max ms | peak RSS, MiB | start, ms | other answers |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |";

impl Report {
    pub(crate) fn rate(&self) -> f64 {
        let seconds = self.fired.took.as_secs_f64();
        if seconds > 0.0 { each_of(self.fired.issued) / seconds } else { 0.0 }
    }

    fn sum(&self, one: impl Fn(&Speeds, &str) -> f64) -> f64 {
        self.needed.iter().map(|name| one(&self.speeds, name)).sum()
    }

    pub(crate) fn row(&self, label: &str) -> String {
        let Self { fired, cpu, .. } = self;
        let at = |per_mille| milliseconds(fired.latencies.quantile(per_mille));
        let sum = self.sum(Speeds::usual);
        let (shown, relation) = if self.needed.is_empty() {
            ("".to_owned(), "".to_owned())
        } else {
            (format!("{sum:.0}"), format!("{:.2}", ratio(*cpu, fired.issued, sum)))
        };
        let others: Vec<String> =
            fired.others.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        format!(
            "| {label} | {:.0} | {:.0} | {shown} | {relation} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} |",
            self.rate(),
            each(cpu.as_secs_f64() * 1e6, fired.issued),
            at(500),
            at(900),
            at(990),
            milliseconds(fired.latencies.max()),
            crate::precise(self.peak) / 1024.0,
            self.start.map_or(String::new(), |start| format!("{:.0}", milliseconds(start))),
            if others.is_empty() { "none".to_owned() } else { others.join(", ") },
        )
    }

    /// What is behind a row.
    pub(crate) fn details(&self) {
        println!();
        if !self.needed.is_empty() {
            println!("| operation | usual, µs | fastest, µs |");
            println!("| --- | ---: | ---: |");
            for name in &self.needed {
                let (usual, fastest) = (self.speeds.usual(name), self.speeds.fastest(name));
                println!("| {name} | {usual:.1} | {fastest:.1} |");
            }
            let (usual, fastest) = (self.sum(Speeds::usual), self.sum(Speeds::fastest));
            println!("| **sum** | **{usual:.1}** | **{fastest:.1}** |");
            let (cpu, issued) = (self.cpu, self.fired.issued);
            let ratios = (ratio(cpu, issued, usual), ratio(cpu, issued, fastest));
            println!("| CPU of an enrolment over it | {:.2} | {:.2} |", ratios.0, ratios.1);
            println!();
        }
        println!("{}", self.remarks());
    }

    fn remarks(&self) -> String {
        let mut all = format!(
            "{} enrolments in {:.1} s, {:.1} s of the server's processor time; load average {:.1}.",
            self.fired.issued,
            self.fired.took.as_secs_f64(),
            self.cpu.as_secs_f64(),
            self.load_average
        );
        let received = each(each_of(self.fired.received), self.fired.issued);
        all.push_str(&format!(" Requests of {:.0} octets, answers of {received:.0}.", self.sent));
        if !self.alone {
            all.push_str(" The load itself ran on the server's cores.");
        }
        if self.octets > 0.0 {
            all.push_str(&format!(" The ledger grew by {:.0} octets for each.", self.octets));
        }
        if self.octets_filled > 0.0 {
            let each = self.octets_filled;
            all.push_str(&format!(" Each certificate put into it takes {each:.0} octets."));
        }
        all
    }
}

/// A count as a double.
fn each_of(count: usize) -> f64 {
    crate::precise(u64::try_from(count).unwrap_or(u64::MAX))
}

pub(crate) fn label(options: &Options) -> String {
    let server = match options.against {
        Against::Gateway => "gateway",
        Against::Micromdm => "micromdm",
        Against::StepCa => "step-ca",
    };
    let mut label =
        format!("{server}, {} core(s), {} connections", options.cores, options.connections);
    if options.against == Against::Gateway {
        if options.ledger == LedgerKind::Postgres {
            label.push_str(", PostgreSQL");
        }
        if options.device_keys == "p256" {
            label.push_str(", P-256 devices");
        }
        if options.ca_key != "p256" {
            label.push_str(", RSA CA");
        }
    }
    if options.get {
        label.push_str(", GET");
    }
    if options.no_keep_alive {
        label.push_str(", no keep-alive");
    }
    if let Some(rate) = options.rate {
        label.push_str(&format!(", at {rate:.0}/s"));
    }
    if let Some(rows) = options.fill {
        label.push_str(&format!(", {rows} certificates before"));
    }
    label
}

/// What a reader must know to believe the rest.
pub(crate) fn machine() -> Result<()> {
    let folder = std::env::temp_dir();
    println!(
        "{} × {}, load average {:.1} before; a page is synced to the disk in {:.2} ms (median of 200).",
        machine::processors()?.len(),
        machine::processor_name(),
        machine::load_average(),
        machine::sync_time(&folder)?
    );
    println!();
    Ok(())
}

/// The table of README.md. What cannot run is a row that says why.
pub(crate) fn table(options: &Options) -> Result<()> {
    machine()?;
    println!("{HEAD}");
    let mut remarks = Vec::new();
    let mut show = |options: &Options| {
        let label = label(options);
        match run(options) {
            Ok(report) => {
                println!("{}", report.row(&label));
                remarks.push(format!("- {label}: {}", report.remarks()));
                Some(report)
            }
            Err(error) => {
                println!("| {label} | {error} |");
                None
            }
        }
    };
    let plain = Options { fill: None, rate: None, ..options.clone() };
    let first = show(&plain);
    if let Some(first) = &first {
        // Enough connections that none is waited for.
        let rate = Some((first.rate() * 0.8).floor());
        show(&Options { rate, connections: 64, ..plain.clone() });
    }
    show(&Options { connections: 256, ..plain.clone() });
    show(&Options { get: true, ..plain.clone() });
    show(&Options { no_keep_alive: true, ..plain.clone() });
    show(&Options { device_keys: "p256".to_owned(), ..plain.clone() });
    if machine::processors()?.len() > 1 {
        show(&Options { cores: 2, connections: 16, ..plain.clone() });
    }
    show(&Options { ledger: LedgerKind::Postgres, connections: 32, ..plain.clone() });
    for against in [Against::Micromdm, Against::StepCa] {
        show(&Options { against, ..plain.clone() });
    }
    if options.fill.is_some() {
        show(&Options { fill: options.fill, ..plain.clone() });
        if let Some(first) = &first {
            let rate = Some((first.rate() * 0.8).floor());
            show(&Options { fill: options.fill, rate, connections: 64, ..plain });
        }
    }
    println!();
    for remark in remarks {
        println!("{remark}");
    }
    if let Some(first) = first {
        first.details();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Latencies;

    #[test]
    fn a_row_has_what_the_head_says() {
        let mut report = Report {
            fired: Fired {
                took: Duration::from_secs(2),
                issued: 3000,
                latencies: Latencies::new(vec![Duration::from_millis(4)]),
                ..Fired::default()
            },
            cpu: Duration::from_millis(1500),
            peak: 2048,
            ..Report::default()
        };
        let row = report.row("a");
        assert_eq!(row.matches('|').count(), HEAD.lines().next().unwrap().matches('|').count());
        assert!(
            row.starts_with("| a | 1500 | 500 |  |  | 4.0 | 4.0 | 4.0 | 4.0 | 2.0 |  | none |"),
            "{row}"
        );
        report.fired.others.insert("HTTP 503".to_owned(), 7);
        assert!(report.row("a").ends_with("| 7 HTTP 503 |"));
    }
}
