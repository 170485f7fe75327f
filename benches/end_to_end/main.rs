//! The question: what does a message, a connection and a round trip cost through natsentry, and what through proxies
//! that pass the same bytes blind?
//!
//! `cargo bench --bench end_to_end` answers it on loopback with a real nats-server. Contenders alternate in one run, so
//! that a busy machine is unfair to all of them alike, and ratios are taken within a round. See `benches/README.md`.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "times things and reports them"
)]

mod client;
mod connects;
mod contenders;
mod crowd;
mod figures;
mod many;
mod natsentry;
mod options;
mod plot;
mod procfs;
mod report;
mod requests;
mod scale;
mod scenarios;
mod secure;
mod storm;
mod stream;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use self::contenders::{Contender, Stage};
use self::options::{Options, Part};
use self::report::Report;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let Some(options) = Options::read()? else {
        println!("{}", options::HELP);
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(code) = procfs::rerun_with_more_files()? {
        return Ok(code);
    }
    if let Some(path) = &options.report {
        Report::prepare(path).with_context(|| format!("--report {}", path.display()))?;
    }
    let stage = Stage::set(&options.contenders, &options.binary)?;
    let mut report = Report::new(&stage);
    // Memory first: afterwards, every allocator holds what the load needed.
    if options.wants(Part::Idle) {
        scenarios::idle(&stage, &options, &mut report)?;
    }
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round.saturating_add(1), options.rounds);
        if options.wants(Part::Throughput) {
            for &size in &options.sizes {
                alternate(&stage, round, |contender| {
                    scenarios::throughput(&stage, contender, size, &options, &mut report)
                })?;
            }
        }
        if options.wants(Part::Subjects) {
            for subjects in [100, 10_000] {
                alternate(&stage, round, |contender| {
                    scenarios::many_subjects(contender, subjects, &options, &mut report)
                })?;
            }
        }
        if options.wants(Part::Latency) {
            alternate(&stage, round, |contender| {
                scenarios::latency(contender, &options, &mut report)
            })?;
        }
        if options.wants(Part::Connects) {
            alternate(&stage, round, |contender| {
                scenarios::connects(contender, &options, &mut report)
            })?;
        }
    }
    // What comes last leaves many closed connections behind, which take a while to go.
    for round in 0..options.rounds {
        if options.wants(Part::Publishers) {
            for count in [1, 100, 1_000] {
                alternate(&stage, round, |contender| {
                    scenarios::publishers(contender, count, &options, &mut report)
                })?;
            }
        }
        if options.wants(Part::FanOut) {
            alternate(&stage, round, |contender| {
                scenarios::fan_out(contender, &options, &mut report)
            })?;
        }
    }
    if options.wants(Part::Storm) {
        for round in 0..options.rounds.min(STORMS) {
            alternate(&stage, round, |contender| {
                scenarios::storm(&stage, contender, &options, &mut report)
            })?;
        }
    }
    if options.wants(Part::Scale) {
        for contender in &stage.contenders {
            scale::measure(contender, &options, &mut report)
                .with_context(|| contender.name.clone())?;
        }
    }
    println!("{report}");
    if let Some(path) = &options.report {
        report
            .write_into(path)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &options.svg {
        std::fs::write(path, report.svg())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Each contender in turn; each round begins with another one.
fn alternate(
    stage: &Stage,
    round: usize,
    mut run: impl FnMut(&Contender) -> Result<()>,
) -> Result<()> {
    let count = stage.contenders.len();
    let turns = stage
        .contenders
        .iter()
        .cycle()
        .skip(round.checked_rem(count).unwrap_or(0));
    for contender in turns.take(count) {
        run(contender).with_context(|| contender.name.clone())?;
    }
    Ok(())
}

/// Rounds of storms: each leaves ten thousand ports behind.
const STORMS: usize = 3;
