//! What is measured: each scenario puts a load through one contender and adds figures to the report.

use std::time::Duration;

use anyhow::Result;

use super::contenders::{Contender, Stage};
use super::figures::Figure;
use super::options::Options;
use super::procfs::{self, cpu};
use super::report::{Cell, Report};
use super::stream::Stream;
use super::{connects, many, requests, storm};

pub(crate) fn throughput(
    stage: &Stage,
    contender: &Contender,
    size: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let stream = Stream::start(contender, size, 1)?;
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

pub(crate) fn many_subjects(
    contender: &Contender,
    subjects: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    if contender.pid.is_none() || contender.trust.is_some() {
        return Ok(());
    }
    let stream = Stream::start(contender, 128, subjects)?;
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

pub(crate) fn publishers(
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

pub(crate) fn fan_out(contender: &Contender, options: &Options, report: &mut Report) -> Result<()> {
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

pub(crate) fn storm(
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
    let storm = storm::storm(contender, count)?;
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

pub(crate) fn cell(contender: &Contender, figure: Figure, size: usize) -> Cell {
    Cell {
        contender: contender.name.clone(),
        figure,
        size,
    }
}

/// Subscribers of one subject.
const FAN: usize = 100;

pub(crate) fn latency(contender: &Contender, options: &Options, report: &mut Report) -> Result<()> {
    let mut samples = requests::round_trips(contender, options.cell)?;
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

pub(crate) fn connects(
    contender: &Contender,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let before = cpu(contender.pid);
    let (count, took) = connects::connects(contender, options.cell)?;
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

pub(crate) fn idle(stage: &Stage, options: &Options, report: &mut Report) -> Result<()> {
    for contender in &stage.contenders {
        let Some(pid) = contender.pid else { continue };
        // What the first sessions bring in (pages of code, pools) is not the price of one more.
        let _first = connects::idle(contender, 50)?;
        let before = procfs::resident(pid)?;
        let held = connects::idle(contender, options.idle_sessions)?;
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
pub(crate) fn per(count: u64, unit: f64) -> f64 {
    count as f64 / unit
}

pub(crate) fn nanos_each(used: Duration, count: u64) -> f64 {
    used.as_secs_f64() * 1e9 / per(count.max(1), 1.0)
}
