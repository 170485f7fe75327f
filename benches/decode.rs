//! The question: what does reading one frame cost, before anything is decided about it?
#![allow(clippy::expect_used, missing_docs, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use natsentry::wire::{decode_client, decode_server};

fn client(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode client");
    let lines: [(&str, &[u8]); 5] = [
        ("PUB", b"PUB telemetry.oid.temperature 128\r\n"),
        ("PUB, two spaces", b"PUB telemetry.oid.temperature  128\r\n"),
        (
            "PUB with reply",
            b"PUB svc.lookup _INBOX.abcdefghijklmnopqrstuv.1 128\r\n",
        ),
        ("HPUB", b"HPUB telemetry.oid.temperature 42 170\r\n"),
        ("PING", b"PING\r\n"),
    ];
    for (name, line) in lines {
        let limits = natsentry::wire::LineLimits {
            connect: 48 * 1024,
            control: 4096,
        };
        group.bench_function(name, |b| {
            b.iter(|| decode_client(black_box(line), 0, limits).is_ok())
        });
    }
    group.finish();
}

fn server(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode server");
    let lines: [(&str, &[u8]); 2] = [
        ("MSG", b"MSG telemetry.oid.temperature 9 128\r\n"),
        (
            "HMSG with reply",
            b"HMSG telemetry.oid.temperature 9 _INBOX.abcdefghijklmnopqrstuv.1 42 170\r\n",
        ),
    ];
    for (name, line) in lines {
        group.bench_function(name, |b| {
            b.iter(|| decode_server(black_box(line), 0).is_ok())
        });
    }
    group.finish();
}

criterion_group!(benches, client, server);
criterion_main!(benches);
