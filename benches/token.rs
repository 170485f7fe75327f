//! What does the token of a CONNECT cost, in processor time? The goal is 40 us for a token with ten groups, signature and
//! the strict gate included; "seen before" is a token that was let through before. "bad signature" is about what RS256
//! alone costs.
//!
//! Processor time of the measuring thread (`/proc/thread-self/schedstat`), so that other programs on the machine matter
//! little.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up has to fail"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use natsentry::demo::idp::forge::{Forge, Row};
use natsentry::demo::idp::{Directory, Form};
use natsentry::identity::{
    Accept, Accepted, Cloud, Entra, Expectations, GroupForm, HeldKeys, KeyRing, KeySet, validate,
};
use natsentry::time::Timestamp;

const BASE: &str = "http://127.0.0.1:9333";
const NOW: Timestamp = Timestamp::from_secs(1_795_452_000);

/// Nanoseconds that this thread has run.
struct ThreadTime;

fn thread_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

impl Measurement for ThreadTime {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        thread_time()
    }

    fn end(&self, start: u64) -> u64 {
        // At least one, since a share of nothing is nothing to compare with.
        thread_time().saturating_sub(start).max(1)
    }

    fn add(&self, one: &u64, other: &u64) -> u64 {
        one + other
    }

    fn zero(&self) -> u64 {
        0
    }

    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a benchmark")]
    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &Microseconds
    }
}

/// Figures as microseconds of processor time.
struct Microseconds;

impl ValueFormatter for Microseconds {
    fn scale_values(&self, _: f64, values: &mut [f64]) -> &'static str {
        for value in values {
            *value /= 1000.0;
        }
        "us of CPU"
    }

    fn scale_throughputs(&self, _: f64, _: &Throughput, values: &mut [f64]) -> &'static str {
        for value in values {
            *value = 1e9 / *value;
        }
        "a second"
    }

    fn scale_for_machines(&self, _: &mut [f64]) -> &'static str {
        "ns"
    }
}

fn token(forge: &Forge, groups: usize) -> Vec<u8> {
    let guids = serde_json::json!({ "$guids": groups });
    let claims = [("groups".to_owned(), guids)].into_iter().collect();
    let row = Row::of_user("bench", claims);
    forge.token(&row, NOW).unwrap()
}

/// Keys, and the table that trusts them.
fn stage() -> (Forge, Expectations) {
    let forge = Forge::new(BASE, Directory::default()).unwrap();
    let directory = Directory::default();
    let table = Expectations::entra(&Entra {
        cloud: Cloud::custom(BASE),
        tenants: vec![directory.tid.as_str().into()],
        audiences: vec![directory.api.as_str().into()],
        accept: Accept::ALL,
        v1_tokens: false,
        required_scope: None,
        keys_app_id: None,
        groups: GroupForm::Ids,
    })
    .unwrap();
    (forge, table)
}

/// Keys as they are fetched.
fn fresh(forge: &Forge) -> KeyRing {
    let held = HeldKeys {
        keys: KeySet::parse(&forge.key_document(Form::V2)).unwrap(),
        fetched_at: NOW,
        good_until: Timestamp::from_millis(u64::MAX),
        cloud: None,
        issuer: None,
    };
    KeyRing::empty(1).with(0, held)
}

fn gate(c: &mut Criterion<ThreadTime>) {
    let (forge, table) = stage();
    let ring = Arc::new(fresh(&forge));
    let accepted = Accepted::default();
    let mut group = c.benchmark_group("token");
    for groups in [0, 10, 200] {
        let token = token(&forge, groups);
        group.throughput(Throughput::Elements(1));
        group.bench_function(
            format!("accepted, {groups} groups, {} bytes", token.len()),
            |b| {
                b.iter(|| validate(black_box(&token), &ring, &table, NOW).unwrap());
            },
        );
        group.bench_function(format!("accepted, {groups} groups, seen before"), |b| {
            b.iter(|| {
                let token = black_box(&token);
                accepted.validate(token, None, &ring, &table, NOW).unwrap()
            });
        });
        let mut forged = token.clone();
        let end = forged.len() - 8;
        forged.truncate(end);
        forged.extend_from_slice(b"AAAAAAAA");
        group.bench_function(format!("bad signature, {groups} groups"), |b| {
            b.iter(|| validate(black_box(&forged), &ring, &table, NOW).unwrap_err());
        });
    }
    group.finish();
}

/// The one figure that there is a goal for, on one line: a token not seen before, ten groups, every check.
#[expect(clippy::print_stdout, reason = "it is what somebody waits for")]
fn goal(_: &mut Criterion<ThreadTime>) {
    /// The kernel counts a thread's time at its ticks, of 4 ms where they are long: so many take ten of them.
    const TIMES: u32 = 2000;
    let (forge, table) = stage();
    let (token, ring) = (token(&forge, 10), fresh(&forge));
    let mut shares: Vec<f64> = (0..25)
        .map(|_| {
            let begun = thread_time();
            for _ in 0..TIMES {
                black_box(validate(black_box(&token), &ring, &table, NOW).unwrap());
            }
            let spent = thread_time().saturating_sub(begun);
            u32::try_from(spent / 1000).map_or(f64::MAX, f64::from) / f64::from(TIMES)
        })
        .collect();
    shares.sort_unstable_by(f64::total_cmp);
    let [least, median, most] = [0, 12, 24].map(|at| shares.get(at).copied().unwrap_or_default());
    println!(
        "a token with ten groups, strict gate, not seen before: {median:.1} us of CPU, median of 25 x {TIMES} ({least:.1} to \
         {most:.1}); the goal is 40"
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ThreadTime);
    targets = gate, goal
}
criterion_main!(benches);
