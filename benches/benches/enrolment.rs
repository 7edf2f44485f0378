//! Each stage of an enrolment, the asymmetric operations in it, and the whole.
#![allow(missing_docs, reason = "criterion's macros document nothing")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sceptic_benches::Bench;
use std::time::Duration;

fn stages(c: &mut Criterion) {
    let bench = Bench::new();
    let prepared = bench.prepare();
    let mut group = c.benchmark_group("stage");
    group.bench_function("parse and verify message", |b| {
        b.iter(|| bench.verify(&prepared.message));
    });
    group.bench_function("open envelope", |b| {
        let signed = || bench.verify(&prepared.message);
        b.iter_batched(signed, |signed| bench.open_envelope(signed), BatchSize::SmallInput);
    });
    group.bench_function("parse and prove request", |b| {
        b.iter(|| bench.prove(bench.parse_csr(&prepared.csr)));
    });
    group.bench_function("weak-key checks", |b| {
        let csr = bench.parse_csr(&prepared.csr);
        b.iter(|| bench.check_key(&csr));
    });
    group.bench_function("open challenge", |b| b.iter(|| bench.open_challenge(&prepared.blob)));
    group.bench_function("decide", |b| {
        let csr = bench.prove(bench.parse_csr(&prepared.csr));
        let claims = || bench.open_challenge(&prepared.blob);
        b.iter_batched(claims, |claims| bench.decide(&csr, claims), BatchSize::SmallInput);
    });
    group.bench_function("local CA issues", |b| {
        let admitted = || bench.admit(bench.until_decided(&bench.prepare().message));
        b.iter_batched(
            admitted,
            |(permit, unsettled, _)| {
                let conforming = bench.issue(permit, &unsettled);
                (conforming, unsettled)
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("seal reply", |b| {
        let decided = bench.until_decided(&bench.prepare().message);
        let (permit, unsettled, context) = bench.admit(decided);
        let conforming = bench.issue(permit, &unsettled);
        let releasable = bench.record(unsettled, conforming);
        b.iter(|| bench.seal(&context, &releasable));
    });
    group.finish();
}

fn operations(c: &mut Criterion) {
    let bench = Bench::new();
    let mut group = c.benchmark_group("operation");
    for operation in bench.operations() {
        group.bench_function(operation.name, |b| b.iter(&operation.run));
    }
    group.finish();
}

fn whole(c: &mut Criterion) {
    let bench = Bench::new();
    c.bench_function("whole enrolment", |b| {
        b.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let now = left.min(16);
                let prepared: Vec<_> = (0..now).map(|_| bench.prepare()).collect();
                took += bench.whole(&prepared);
                left -= now;
            }
            took
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = stages, operations, whole
}
criterion_main!(benches);
