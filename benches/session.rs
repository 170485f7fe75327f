//! The question: what does a message cost in the session core, from bytes in the read buffer to spans in the outbox:
//! canonical and tolerant lines, few and many subjects, deliveries with and without a filter?
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a benchmark"
)]

mod support;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use support::{batch, feed_client, feed_upstream, filtered, say, serving, typical};

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish");
    let cases: [(&str, &str, usize); 5] = [
        ("canonical", "PUB bench.{} 16\r\nxxxxxxxxxxxxxxxx\r\n", 1),
        ("two spaces", "PUB bench.{}  16\r\nxxxxxxxxxxxxxxxx\r\n", 1),
        ("lower case", "pub bench.{} 16\r\nxxxxxxxxxxxxxxxx\r\n", 1),
        ("64 subjects", "PUB bench.{} 16\r\nxxxxxxxxxxxxxxxx\r\n", 64),
        (
            "2000 subjects",
            "PUB bench.{} 16\r\nxxxxxxxxxxxxxxxx\r\n",
            2000,
        ),
    ];
    for (name, form, subjects) in cases {
        let (bytes, count) = batch(
            |n| form.replace("{}", &n.to_string()).into_bytes(),
            subjects,
        );
        let mut session = serving(&typical());
        group.throughput(Throughput::Elements(count));
        group.bench_function(name, |b| {
            // What is not canonical is written over: each time begins with what a client sent.
            b.iter_batched_ref(
                || bytes.clone(),
                |read| feed_client(&mut session, black_box(read)),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn deliver(c: &mut Criterion) {
    let mut group = c.benchmark_group("deliver");
    for (name, role, subscription) in [
        ("plain", typical(), &b"SUB bench.* 1\r\n"[..]),
        ("filtered", filtered(), b"SUB bench.* 1\r\n"),
    ] {
        let frame = |n: usize| format!("MSG bench.{n} 1 16\r\nxxxxxxxxxxxxxxxx\r\n").into_bytes();
        let (bytes, count) = batch(frame, 8);
        let mut session = serving(&role);
        assert!(
            say(&mut session, subscription) > 0,
            "the subscription is permitted"
        );
        assert_eq!(
            feed_upstream(&mut session, &bytes),
            bytes.len(),
            "everything is delivered"
        );
        group.throughput(Throughput::Elements(count));
        group.bench_function(name, |b| {
            b.iter(|| feed_upstream(&mut session, black_box(&bytes)))
        });
    }
    group.finish();
}

criterion_group!(benches, publish, deliver);
criterion_main!(benches);
