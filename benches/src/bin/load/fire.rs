//! Fires prepared requests, and says what came of them.

use crate::http::{Answer, Connection};
use crate::stats::Latencies;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Instant;

/// How requests are fired.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) server: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) keep_alive: bool,
    /// Requests a second, each sent when it is due, whatever became of those before it, as long as a connection is
    /// free; its latency counts from then. Without it, each connection sends its next one after an answer.
    pub(crate) rate: Option<f64>,
    pub(crate) sources: &'a AtomicU32,
}

/// What came of them.
#[derive(Debug, Default)]
pub(crate) struct Fired {
    pub(crate) took: Duration,
    /// Of those that brought a certificate.
    pub(crate) latencies: Latencies,
    pub(crate) issued: usize,
    /// Octets of their answers' bodies.
    pub(crate) received: usize,
    /// The rest, by what it was.
    pub(crate) others: BTreeMap<String, usize>,
}

pub(crate) fn fire(load: Load<'_>, requests: &[Vec<u8>]) -> Fired {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let all: Vec<Share> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..load.connections)
            .map(|_| scope.spawn(|| one_connection(load, requests, &next, start)))
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let took = start.elapsed();
    let (mut latencies, mut received, mut others) = (Vec::new(), 0_usize, BTreeMap::new());
    for share in all {
        latencies.extend(share.latencies);
        received = received.saturating_add(share.received);
        for (kind, count) in share.others {
            add(&mut others, kind, count);
        }
    }
    Fired { took, issued: latencies.len(), received, latencies: Latencies::new(latencies), others }
}

/// What came of the requests of one connection.
#[derive(Default)]
struct Share {
    latencies: Vec<Duration>,
    received: usize,
    others: BTreeMap<String, usize>,
}

fn add(kinds: &mut BTreeMap<String, usize>, kind: String, count: usize) {
    let sum = kinds.entry(kind).or_default();
    *sum = sum.saturating_add(count);
}

fn one_connection(
    load: Load<'_>,
    requests: &[Vec<u8>],
    next: &AtomicUsize,
    start: Instant,
) -> Share {
    let mut connection = Connection::new(load.server, load.keep_alive, load.sources);
    let mut share = Share::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = requests.get(number) else { return share };
        let due = load.rate.map(|rate| {
            // Numbers of requests are far below what a double counts exactly.
            #[allow(clippy::cast_precision_loss, reason = "below 2^53")]
            let offset = Duration::from_secs_f64(number as f64 / rate);
            start.checked_add(offset).unwrap_or(start)
        });
        if let Some(due) = due {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let begin = due.unwrap_or_else(Instant::now);
        match connection.exchange(request) {
            Err(error) => add(&mut share.others, format!("connection: {}", error.kind()), 1),
            Ok(answer) => match kind(&answer) {
                None => {
                    share.latencies.push(begin.elapsed());
                    share.received = share.received.saturating_add(answer.body.len());
                }
                Some(kind) => add(&mut share.others, kind, 1),
            },
        }
    }
}

/// What else an answer is than a certificate. The message is not opened: its attributes stand in it in plain text, and the
/// same is asked of every server, whatever it encrypts with.
fn kind(answer: &Answer) -> Option<String> {
    if answer.status != 200 {
        return Some(format!("HTTP {}", answer.status));
    }
    match attribute(&answer.body, 3) {
        Some(b"0") => None,
        Some(b"2") => {
            let names = ["badAlg", "badMessageCheck", "badRequest", "badTime", "badCertId"];
            let number = attribute(&answer.body, 4).and_then(|digits| digits.first().copied());
            let name = number.and_then(|digit| names.get(usize::from(digit.wrapping_sub(b'0'))));
            Some(format!("FAILURE {}", name.unwrap_or(&"without a reason")))
        }
        Some(b"3") => Some("PENDING".to_owned()),
        _ => Some("no SCEP".to_owned()),
    }
}

/// The value of an attribute with one PrintableString, of the arc that SCEP's attributes are in (2.16.840.1.113733.1.9).
fn attribute(message: &[u8], last: u8) -> Option<&[u8]> {
    let oid = [0x06, 0x0a, 0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x45, 0x01, 0x09, last];
    // Behind whatever certificates and content there are.
    let at = message.windows(oid.len()).rposition(|octets| octets == oid)?;
    let value = message.get(at.saturating_add(oid.len())..)?;
    let [0x31, _, 0x13, length, text @ ..] = value else { return None };
    text.get(..usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use scep_testkit::House;
    use sceptic_benches::Bench;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    #[test]
    fn the_status_is_read_from_a_real_answer() {
        let bench = Bench::new();
        let (permit, unsettled, context) =
            bench.admit(bench.until_decided(&bench.prepare().message));
        let conforming = bench.issue(permit, &unsettled);
        let answer = bench.seal(&context, &bench.record(unsettled, conforming));
        assert_eq!(attribute(&answer, 3), Some(b"0".as_slice()));
        assert_eq!(attribute(&answer, 4), None);
        // A request has other attributes.
        assert_eq!(attribute(&bench.prepare().message, 3), None);
        let house = House::new();
        let sent = house.enrolment(&scep_testkit::keys::rsa2048(2));
        assert_eq!(attribute(&sent.bytes, 2), Some(b"19".as_slice()));
    }

    #[test]
    fn every_request_is_fired_once_and_errors_are_counted_by_kind() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        // Two connections of two requests each: one answer each, then the end.
        let serving = std::thread::spawn(move || {
            let mut sources = Vec::new();
            for _ in 0..4 {
                let (mut stream, source) = listener.accept().unwrap();
                let mut request = [0; 4];
                stream.read_exact(&mut request).unwrap();
                let status = if &request == b"good" { "200" } else { "503" };
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 1\r\n\r\nx");
                stream.write_all(head.as_bytes()).unwrap();
                sources.push(source.ip());
            }
            sources
        });
        let sources = AtomicU32::new(7);
        let load =
            Load { server, connections: 2, keep_alive: false, rate: None, sources: &sources };
        let requests: Vec<Vec<u8>> =
            ["good", "late", "late", "late"].map(|text| text.as_bytes().to_vec()).to_vec();
        let fired = fire(load, &requests);
        let mut from = serving.join().unwrap();
        assert_eq!(fired.issued, 0);
        let others: Vec<_> = fired.others.iter().map(|(k, n)| (k.as_str(), *n)).collect();
        assert_eq!(others, [("HTTP 503", 3), ("no SCEP", 1)]);
        // Each connection's requests come from an address of its own.
        from.sort_unstable();
        from.dedup();
        assert!(from.iter().all(|ip| ["127.1.0.7", "127.1.0.8"].contains(&&*ip.to_string())));
    }
}
