//! The part `scale`: what many sessions, subscriptions and busy connections cost, to reason from.

use std::time::Duration;

use anyhow::Result;

use super::contenders::Contender;
use super::crowd::Held;
use super::figures::Figure;
use super::kernel;
use super::many;
use super::options::Options;
use super::procfs::{self, cpu};
use super::report::{At, Report};
use super::scenarios::{nanos_each, per};

/// Everything of one contender. Sessions that are held grow step by step.
pub(crate) fn measure(contender: &Contender, options: &Options, report: &mut Report) -> Result<()> {
    let Some(pid) = contender.pid.filter(|_| contender.trust.is_none()) else {
        return Ok(());
    };
    let start = procfs::resident(pid)?;
    let mib = per(start, 1024.0 * 1024.0);
    report.add(contender, Figure::StartMiB, At::Whole, mib);
    idle(contender, pid, options, report)?;
    procfs::wait_until_few_files(pid);
    subscriptions(contender, pid, report)?;
    procfs::wait_until_few_files(pid);
    busy(contender, options, report)?;
    procfs::wait_until_few_files(pid);
    Ok(())
}

fn idle(contender: &Contender, pid: u32, options: &Options, report: &mut Report) -> Result<()> {
    let most = most_sessions()?;
    for asked in options.scale.iter().filter(|asked| **asked > most) {
        let note = format!(
            "{asked} sessions were asked for, {most} held: a process may have {} open files here, \
             a proxy {} connections to one address",
            kernel::open_files()?,
            kernel::local_ports()?,
        );
        eprintln!("  {note}");
        report.note(Figure::ScaleKiB, note);
    }
    let mut held = Held::none()?;
    // What the first sessions bring in is not the price of one more.
    held.grow(contender, FIRST)?;
    let (before, first) = (procfs::resident(pid)?, held.len());
    let mut counts: Vec<_> = options.scale.iter().map(|count| most.min(*count)).collect();
    counts.dedup();
    for count in counts {
        held.grow(contender, count)?;
        std::thread::sleep(SETTLE);
        let grown = procfs::resident(pid)?.saturating_sub(before);
        let sessions = u64::try_from(held.len().saturating_sub(first))?;
        let each = per(grown, 1024.0) / per(sessions.max(1), 1.0);
        report.add(contender, Figure::ScaleKiB, At::Count(count), each);
        let used = cpu(contender.pid);
        std::thread::sleep(WATCHED);
        let used = cpu(contender.pid).saturating_sub(used);
        let a_second = used.as_secs_f64() * 1e3 / WATCHED.as_secs_f64();
        report.add(contender, Figure::ScaleIdleCpu, At::Count(count), a_second);
    }
    Ok(())
}

/// Sessions that one process of a proxy can hold on this machine: each is two of its open files, and a port of its own.
pub(super) fn most_sessions() -> Result<usize> {
    let files = usize::try_from(kernel::open_files()?)?;
    Ok((files.saturating_sub(200) / 2).min(kernel::local_ports()?))
}

fn subscriptions(contender: &Contender, pid: u32, report: &mut Report) -> Result<()> {
    let mut held = Held::none()?;
    held.grow(contender, FIRST)?;
    // Once for buffers that stay.
    held.subscribe(1)?;
    let before = procfs::resident(pid)?;
    held.subscribe(SUBSCRIPTIONS_EACH)?;
    let grown = procfs::resident(pid)?.saturating_sub(before);
    let count = FIRST.saturating_mul(SUBSCRIPTIONS_EACH);
    let each = per(grown, 1.0) / per(u64::try_from(count)?, 1.0);
    report.add(contender, Figure::SubscriptionBytes, At::Count(count), each);
    Ok(())
}

fn busy(contender: &Contender, options: &Options, report: &mut Report) -> Result<()> {
    let count = BUSY.min(most_sessions()?);
    let (came, before, after) =
        many::publishers(contender, count, options.cell, || cpu(contender.pid))?;
    let used = after.saturating_sub(before);
    let mut add = |figure, value| report.add(contender, figure, At::Count(count), value);
    add(Figure::CpuManyPublishers, nanos_each(used, came.messages));
    add(
        Figure::ManyPublishersPerSecond,
        per(came.messages, came.took.as_secs_f64()),
    );
    Ok(())
}

/// Sessions before the first step.
pub(super) const FIRST: usize = 100;

const SUBSCRIPTIONS_EACH: usize = 1_000;

/// Busy sessions.
const BUSY: usize = 5_000;

/// How long memory may take to come to rest.
pub(super) const SETTLE: Duration = Duration::from_secs(2);

/// How long idle sessions are watched.
pub(super) const WATCHED: Duration = Duration::from_secs(5);
