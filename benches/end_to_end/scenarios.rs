//! What is measured: each scenario puts a load through one contender and adds figures to the report.

use std::time::Duration;

use anyhow::Result;

use super::contenders::{Contender, Stage};
use super::figures::Figure;
use super::options::Options;
use super::plan::Work;
use super::procfs::{self, cpu};
use super::report::{At, Report};
use super::stream::{Lines, Messages, Stream};
use super::{connects, fleet, many, requests, scale, storm};

/// One piece of work with one contender.
pub(crate) fn run(
    work: Work,
    (stage, contender): (&Stage, &Contender),
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    match work {
        Work::Idle => idle(contender, options, report),
        Work::WarmUp => warm_up(contender, options),
        Work::Throughput(size) => throughput(stage, contender, size, options, report),
        Work::Lines => lines(contender, options, report),
        Work::Subjects(subjects) => many_subjects(contender, subjects, options, report),
        Work::Latency => latency(contender, options, report),
        Work::Requests(window) => asking(contender, window, options, report),
        Work::Connects => connecting(contender, options, report),
        Work::Publishers(count) => publishers(contender, count, options, report),
        Work::FanOut => fan_out(contender, options, report),
        Work::Storm => storm::measure(stage, contender, options, report),
        Work::Scale => scale::measure(contender, options, report),
        Work::Fleet => fleet::measure(contender, options, report),
    }
}

/// What a contender does once only (threads, pools, pages of its code) is done before anything is timed.
fn warm_up(contender: &Contender, options: &Options) -> Result<()> {
    let stream = Stream::start(contender, &Messages::of(1024))?;
    stream.run_for(options.cell)?;
    stream.stop()
}

fn throughput(
    stage: &Stage,
    contender: &Contender,
    size: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let server = || cpu(Some(stage.server_pid()));
    let stream = Stream::start(contender, &Messages::of(size))?;
    stream.run_for(options.warm_up())?;
    let (messages, before) = (stream.received(), (cpu(contender.pid), server()));
    let took = stream.run_for(options.cell)?;
    let passed = stream.received().saturating_sub(messages);
    let used = cpu(contender.pid).saturating_sub(before.0);
    let server_used = server().saturating_sub(before.1);
    stream.stop()?;
    let mut add = |figure, value| report.add(contender, figure, At::Count(size), value);
    add(Figure::MessagesPerSecond, per(passed, took.as_secs_f64()));
    add(Figure::ServerCpu, nanos_each(server_used, passed));
    if contender.pid.is_some() {
        add(Figure::CpuPerMessage, nanos_each(used, passed));
    }
    Ok(())
}

/// Nanoseconds of the proxy for each message of a stream.
fn cpu_of_a_message(contender: &Contender, messages: &Messages, options: &Options) -> Result<f64> {
    let stream = Stream::start(contender, messages)?;
    stream.run_for(options.warm_up())?;
    let (received, before) = (stream.received(), cpu(contender.pid));
    stream.run_for(options.cell)?;
    let passed = stream.received().saturating_sub(received);
    let used = cpu(contender.pid).saturating_sub(before);
    stream.stop()?;
    Ok(nanos_each(used, passed))
}

fn many_subjects(
    contender: &Contender,
    subjects: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let messages = Messages {
        subjects,
        ..Messages::of(SMALL)
    };
    let value = cpu_of_a_message(contender, &messages, options)?;
    report.add(
        contender,
        Figure::CpuManySubjects,
        At::Count(subjects),
        value,
    );
    Ok(())
}

/// The same messages written in each way, one right after the other.
fn lines(contender: &Contender, options: &Options, report: &mut Report) -> Result<()> {
    let mut canonical = f64::NAN;
    for lines in Lines::ALL {
        let messages = Messages {
            lines,
            ..Messages::of(SMALL)
        };
        let value = cpu_of_a_message(contender, &messages, options)?;
        report.add(contender, Figure::CpuByLines, At::Lines(lines), value);
        if lines == Lines::Canonical {
            canonical = value;
        } else {
            let more = value / canonical;
            report.add(contender, Figure::LinesToCanonical, At::Lines(lines), more);
        }
    }
    Ok(())
}

fn publishers(
    contender: &Contender,
    count: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let (came, before, after) =
        many::publishers(contender, count, options.cell, || cpu(contender.pid))?;
    let mut add = |figure, value| report.add(contender, figure, At::Count(count), value);
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
    let (deliveries, took, before, after) =
        many::fan_out(contender, FAN, options.cell, || cpu(contender.pid))?;
    let mut add = |figure, value| report.add(contender, figure, At::Count(FAN), value);
    if contender.pid.is_some() {
        let used = after.saturating_sub(before);
        add(Figure::CpuFanOut, nanos_each(used, deliveries));
    }
    add(Figure::FanOutPerSecond, per(deliveries, took.as_secs_f64()));
    Ok(())
}

fn latency(contender: &Contender, options: &Options, report: &mut Report) -> Result<()> {
    // The slowest of a hundred need some hundreds.
    let mut samples = requests::steady(contender, options.cell.saturating_mul(2))?;
    samples.sort_unstable();
    for (figure, percent) in [(Figure::RoundTripP50, 50), (Figure::RoundTripP99, 99)] {
        let micros = percentile(&samples, percent) * 1e6;
        report.add(contender, figure, At::Whole, micros);
    }
    Ok(())
}

fn asking(
    contender: &Contender,
    window: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let times = (options.warm_up(), options.cell);
    let answered = requests::windowed(contender, window, times, || cpu(contender.pid))?;
    let mut add = |figure, value| report.add(contender, figure, At::Count(window), value);
    add(
        Figure::RequestsPerSecond,
        per(answered.questions, answered.took.as_secs_f64()),
    );
    if contender.pid.is_some() {
        let (before, after) = answered.looks;
        let used = after.saturating_sub(before);
        add(
            Figure::CpuPerRequest,
            nanos_each(used, answered.questions) / 1e3,
        );
    }
    Ok(())
}

fn connecting(contender: &Contender, options: &Options, report: &mut Report) -> Result<()> {
    let before = cpu(contender.pid);
    let (count, took) = connects::connects(contender, options.cell)?;
    let used = cpu(contender.pid).saturating_sub(before);
    let mut add = |figure, value| report.add(contender, figure, At::Whole, value);
    add(Figure::ConnectsPerSecond, per(count, took.as_secs_f64()));
    if contender.pid.is_some() {
        add(Figure::CpuPerConnect, nanos_each(used, count) / 1e3);
    }
    Ok(())
}

fn idle(contender: &Contender, options: &Options, report: &mut Report) -> Result<()> {
    let Some(pid) = contender.pid else {
        return Ok(());
    };
    // What the first sessions bring in (pages of code, pools) is not the price of one more.
    let _first = connects::idle(contender, 50)?;
    let before = procfs::resident(pid)?;
    let held = connects::idle(contender, options.idle_sessions)?;
    let grown = procfs::resident(pid)?.saturating_sub(before);
    drop(held);
    let count = u64::try_from(options.idle_sessions)?;
    let each = per(grown, 1024.0) / per(count, 1.0);
    report.add(contender, Figure::IdleKiB, At::Whole, each);
    Ok(())
}

/// Seconds, of samples in order; not a number where there are none.
pub(crate) fn percentile(samples: &[Duration], percent: usize) -> f64 {
    let at = samples.len().saturating_sub(1).saturating_mul(percent) / 100;
    samples.get(at).map_or(f64::NAN, Duration::as_secs_f64)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn per(count: u64, unit: f64) -> f64 {
    count as f64 / unit
}

pub(crate) fn nanos_each(used: Duration, count: u64) -> f64 {
    used.as_secs_f64() * 1e9 / per(count.max(1), 1.0)
}

/// Bytes of payload where it is not the size that is looked at.
const SMALL: usize = 128;

/// Subscribers of one subject.
const FAN: usize = 100;
