//! The question: what does one permission question cost at 10, 1,000 and 100,000 patterns?
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use natsentry::subject::{Pattern, PatternSet, PatternSetBuilder};

fn set(patterns: usize) -> PatternSet {
    let mut builder = PatternSetBuilder::default();
    for n in 0..patterns {
        let text = match n % 4 {
            0 => format!("plant.{n}.state"),
            1 => format!("plant.{n}.*.value"),
            2 => format!("site.*.line.{n}.>"),
            _ => format!("telemetry.{n}.>"),
        };
        let pattern = Pattern::parse(&text).expect("a pattern");
        builder.insert(&pattern, u32::try_from(n).expect("few"));
    }
    builder.build()
}

fn questions(c: &mut Criterion) {
    for patterns in [10, 1_000, 100_000] {
        let set = set(patterns);
        let mut group = c.benchmark_group(format!("{patterns} patterns"));
        let ask: [(&str, &[u8]); 3] = [
            ("matches: hit", b"telemetry.3.temperature"),
            ("matches: hit behind a wildcard", b"site.north.line.2.x.y"),
            ("matches: miss", b"telemetry.none.temperature"),
        ];
        for (name, subject) in ask {
            assert_eq!(
                set.matches(subject).is_some(),
                name.contains("hit"),
                "{name}"
            );
            group.bench_function(name, |b| b.iter(|| set.matches(black_box(subject))));
        }
        group.bench_function("covers", |b| {
            b.iter(|| set.covers(black_box(b"telemetry.3.*")))
        });
        group.bench_function("overlaps", |b| {
            b.iter(|| set.overlaps(black_box(b"telemetry.*.x")))
        });
        group.finish();
    }
}

criterion_group!(benches, questions);
criterion_main!(benches);
