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

mod contenders;
mod load;
mod many;
mod natsentry;
mod options;
mod procfs;
mod report;
mod scale;
mod secure;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::contenders::{Contender, Stage};
use self::options::{Options, Part};
use self::procfs::cpu;
use self::report::{Cell, Figure, Report};

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
        idle(&stage, &options, &mut report)?;
    }
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round.saturating_add(1), options.rounds);
        if options.wants(Part::Throughput) {
            for &size in &options.sizes {
                alternate(&stage, round, |contender| {
                    throughput(&stage, contender, size, &options, &mut report)
                })?;
            }
        }
        if options.wants(Part::Subjects) {
            for subjects in [100, 10_000] {
                alternate(&stage, round, |contender| {
                    many_subjects(contender, subjects, &options, &mut report)
                })?;
            }
        }
        if options.wants(Part::Latency) {
            alternate(&stage, round, |contender| {
                latency(contender, &options, &mut report)
            })?;
        }
        if options.wants(Part::Connects) {
            alternate(&stage, round, |contender| {
                connects(contender, &options, &mut report)
            })?;
        }
    }
    // What comes last leaves many closed connections behind, which take a while to go.
    for round in 0..options.rounds {
        if options.wants(Part::Publishers) {
            for count in [1, 100, 1_000] {
                alternate(&stage, round, |contender| {
                    publishers(contender, count, &options, &mut report)
                })?;
            }
        }
        if options.wants(Part::FanOut) {
            alternate(&stage, round, |contender| {
                fan_out(contender, &options, &mut report)
            })?;
        }
    }
    if options.wants(Part::Storm) {
        for round in 0..options.rounds.min(STORMS) {
            alternate(&stage, round, |contender| {
                storm(&stage, contender, &options, &mut report)
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

fn throughput(
    stage: &Stage,
    contender: &Contender,
    size: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let stream = load::Stream::start(contender, size, 1)?;
    stream.run_for(options.warm_up())?;
    let (messages, proxy, server) = (
        stream.received(),
        cpu(contender.pid),
        cpu(Some(stage.server_pid())),
    );
    let took = stream.run_for(options.cell)?;
    let passed = stream.received().saturating_sub(messages);
    let proxy_used = cpu(contender.pid).saturating_sub(proxy);
    let server_used = cpu(Some(stage.server_pid())).saturating_sub(server);
    stream.stop()?;
    let cell = |figure| Cell {
        contender: contender.name.clone(),
        figure,
        size,
    };
    report.add(
        cell(Figure::MessagesPerSecond),
        per(passed, took.as_secs_f64()),
    );
    report.add(cell(Figure::ServerCpu), nanos_each(server_used, passed));
    if contender.pid.is_some() {
        report.add(cell(Figure::CpuPerMessage), nanos_each(proxy_used, passed));
    }
    Ok(())
}

fn many_subjects(
    contender: &Contender,
    subjects: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    if contender.pid.is_none() || contender.trust.is_some() {
        return Ok(());
    }
    let stream = load::Stream::start(contender, 128, subjects)?;
    stream.run_for(options.warm_up())?;
    let (messages, before) = (stream.received(), cpu(contender.pid));
    stream.run_for(options.cell)?;
    let passed = stream.received().saturating_sub(messages);
    let used = cpu(contender.pid).saturating_sub(before);
    stream.stop()?;
    report.add(
        cell(contender, Figure::CpuManySubjects, subjects),
        nanos_each(used, passed),
    );
    Ok(())
}

fn publishers(
    contender: &Contender,
    count: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    if contender.trust.is_some() {
        return Ok(());
    }
    let (came, before, after) =
        many::publishers(contender, count, options.cell, || cpu(contender.pid))?;
    let mut add = |figure, value| report.add(cell(contender, figure, count), value);
    if contender.pid.is_some() {
        let used = after.saturating_sub(before);
        add(Figure::CpuManyPublishers, nanos_each(used, came.messages));
    }
    add(
        Figure::ManyPublishersPerSecond,
        per(came.messages, came.took.as_secs_f64()),
    );
    if count > 1 {
        add(Figure::Fairness, came.fairness);
    }
    Ok(())
}

fn fan_out(contender: &Contender, options: &Options, report: &mut Report) -> Result<()> {
    if contender.trust.is_some() {
        return Ok(());
    }
    let (deliveries, took, before, after) =
        many::fan_out(contender, FAN, options.cell, || cpu(contender.pid))?;
    let mut add = |figure, value| report.add(cell(contender, figure, FAN), value);
    if contender.pid.is_some() {
        let used = after.saturating_sub(before);
        add(Figure::CpuFanOut, nanos_each(used, deliveries));
    }
    add(Figure::FanOutPerSecond, per(deliveries, took.as_secs_f64()));
    Ok(())
}

fn storm(
    stage: &Stage,
    contender: &Contender,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    if contender.trust.is_some() {
        return Ok(());
    }
    // A proxied connection is two open files of the proxy.
    let files = usize::try_from(procfs::open_files()?)?.saturating_sub(200) / 2;
    let count = options.storm_clients.min(files);
    let storm = many::storm(contender, count)?;
    // Clients of this storm that are still leaving would be in the way of the next one.
    for pid in contender.pid.into_iter().chain([stage.server_pid()]) {
        procfs::wait_until_few_files(pid);
    }
    let at = |waits: &[Duration], percent: usize| {
        let place = waits.len().saturating_sub(1).saturating_mul(percent) / 100;
        waits
            .get(place)
            .map_or(f64::NAN, |wait| wait.as_secs_f64() * 1e3)
    };
    let mut add = |figure, value| report.add(cell(contender, figure, count), value);
    add(Figure::StormSeconds, storm.took.as_secs_f64());
    add(Figure::StormP50, at(&storm.waits, 50));
    add(Figure::StormP99, at(&storm.waits, 99));
    add(Figure::StormConnectP99, at(&storm.connects, 99));
    add(
        Figure::StormRefused,
        per(u64::try_from(storm.refused)?, 1.0),
    );
    Ok(())
}

fn cell(contender: &Contender, figure: Figure, size: usize) -> Cell {
    Cell {
        contender: contender.name.clone(),
        figure,
        size,
    }
}

/// Subscribers of one subject.
const FAN: usize = 100;

/// Rounds of storms: each leaves ten thousand ports behind.
const STORMS: usize = 3;

fn latency(contender: &Contender, options: &Options, report: &mut Report) -> Result<()> {
    let mut samples = load::round_trips(contender, options.cell)?;
    samples.sort_unstable();
    let cell = |figure| Cell {
        contender: contender.name.clone(),
        figure,
        size: 0,
    };
    for (figure, percent) in [(Figure::RoundTripP50, 50), (Figure::RoundTripP99, 99)] {
        let at = samples.len().saturating_sub(1).saturating_mul(percent) / 100;
        let micros = samples
            .get(at)
            .map_or(f64::NAN, |sample| sample.as_secs_f64() * 1e6);
        report.add(cell(figure), micros);
    }
    Ok(())
}

fn connects(contender: &Contender, options: &Options, report: &mut Report) -> Result<()> {
    let before = cpu(contender.pid);
    let (count, took) = load::connects(contender, options.cell)?;
    let used = cpu(contender.pid).saturating_sub(before);
    let cell = |figure| Cell {
        contender: contender.name.clone(),
        figure,
        size: 0,
    };
    report.add(
        cell(Figure::ConnectsPerSecond),
        per(count, took.as_secs_f64()),
    );
    if contender.pid.is_some() {
        report.add(cell(Figure::CpuPerConnect), nanos_each(used, count) / 1e3);
    }
    Ok(())
}

fn idle(stage: &Stage, options: &Options, report: &mut Report) -> Result<()> {
    for contender in &stage.contenders {
        let Some(pid) = contender.pid else { continue };
        // What the first sessions bring in (pages of code, pools) is not the price of one more.
        let _first = load::idle(contender, 50)?;
        let before = procfs::resident(pid)?;
        let held = load::idle(contender, options.idle_sessions)?;
        let after = procfs::resident(pid)?;
        drop(held);
        let cell = Cell {
            contender: contender.name.clone(),
            figure: Figure::IdleKiB,
            size: 0,
        };
        let count = u64::try_from(options.idle_sessions)?;
        report.add(
            cell,
            per(after.saturating_sub(before), 1024.0) / per(count, 1.0),
        );
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per(count: u64, unit: f64) -> f64 {
    count as f64 / unit
}

fn nanos_each(used: Duration, count: u64) -> f64 {
    used.as_secs_f64() * 1e9 / per(count.max(1), 1.0)
}
