//! One table: how long an enrolment takes in process, and how long the asymmetric operations that it cannot do
//! without. Slices of all of them take turns, and the fastest slice of each counts, as other work on the machine only
//! ever makes one slower.

use sceptic_benches::Bench;
use std::time::{Duration, Instant};

/// Enrolments, or operations, in one slice.
const SLICE: u32 = 16;
const ROUNDS: u32 = 150;

fn slice(run: impl Fn()) -> Duration {
    let start = Instant::now();
    for _ in 0..SLICE {
        run();
    }
    start.elapsed()
}

fn microseconds(slice: Duration) -> f64 {
    slice.as_secs_f64() * 1e6 / f64::from(SLICE)
}

fn main() {
    // `cargo test --benches` only asks whether it runs.
    let rounds = if std::env::args().any(|argument| argument == "--test") { 1 } else { ROUNDS };
    let bench = Bench::new();
    let operations = bench.operations();
    let mut least = vec![Duration::MAX; operations.len()];
    let (mut whole, mut weak) = (Duration::MAX, Duration::MAX);
    let csr = bench.parse_csr(&bench.prepare().csr);
    for _ in 0..rounds {
        let prepared: Vec<_> = (0..SLICE).map(|_| bench.prepare()).collect();
        whole = whole.min(bench.whole(&prepared));
        for (least, operation) in least.iter_mut().zip(&operations) {
            *least = (*least).min(slice(&operation.run));
        }
        weak = weak.min(slice(|| bench.check_key(&csr)));
    }

    println!("| operation | µs |");
    println!("| --- | ---: |");
    for (operation, least) in operations.iter().zip(&least) {
        println!("| {} | {:.1} |", operation.name, microseconds(*least));
    }
    let sum = microseconds(least.iter().sum());
    let (whole, weak) = (microseconds(whole), microseconds(weak));
    println!("| **sum of the operations** | **{sum:.1}** |");
    println!("| whole enrolment | {whole:.1} |");
    println!("| of which weak-key checks | {weak:.1} |");
    println!("| whole / sum | {:.2} |", whole / sum);
    println!("| without weak-key checks / sum | {:.2} |", (whole - weak) / sum);
}
