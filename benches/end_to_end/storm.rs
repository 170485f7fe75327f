//! A reconnect storm: clients that all come at once, and why some of them were not served.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use super::contenders::{Contender, Stage};
use super::crowd::{Client, Target, runtime};
use super::figures::Figure;
use super::kernel::{self, Counters};
use super::options::Options;
use super::procfs;
use super::refusal::Refusal;
use super::report::{At, Report};
use super::scenarios::{per, percentile};

/// One storm through one contender, into the report.
pub(crate) fn measure(
    stage: &Stage,
    contender: &Contender,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let count = clients(options.storm_clients)?;
    let (closed, counters, said) = (
        kernel::time_wait(),
        Counters::read(),
        contender.log_length(),
    );
    let (asked, limits) = (options.storm_clients, kernel::limits());
    if count < asked {
        let note = format!("{asked} clients were asked for, and open files allow {count}");
        report.note(Figure::StormSeconds, note);
    }
    report.note(Figure::StormSeconds, format!("limits here: {limits}"));
    let storm = storm(contender, count)?;
    let troubles = Counters::read().grown_since(&counters);
    // Clients of this storm that are still leaving would be in the way of the next one.
    for pid in contender.pid.into_iter().chain([stage.server_pid()]) {
        procfs::wait_until_few_files(pid);
    }
    let refused = count.saturating_sub(storm.waits.len());
    let mut add = |figure, value| report.add(contender, figure, At::Count(count), value);
    if refused < count {
        add(Figure::StormSeconds, storm.took.as_secs_f64());
        add(Figure::StormP50, percentile(&storm.waits, 50) * 1e3);
        add(Figure::StormP99, percentile(&storm.waits, 99) * 1e3);
        add(
            Figure::StormConnectP99,
            percentile(&storm.connects, 99) * 1e3,
        );
    }
    add(Figure::StormRefused, per(u64::try_from(refused)?, 1.0));
    let mut note = String::new();
    if refused > 0 {
        note = format!("{refused} refused ({})", reasons(&storm.refused));
        for line in contender.log_since(said, LINES_OF_LOG) {
            note.push_str(&format!("; its log: `{line}`"));
        }
    }
    if !troubles.is_empty() {
        let troubles: Vec<_> = troubles
            .iter()
            .map(|(name, grown)| format!("{name} {grown}"))
            .collect();
        let begin = if note.is_empty() {
            "none refused"
        } else {
            "; the kernel"
        };
        note.push_str(&format!("{begin}: {}", troubles.join(", ")));
    }
    if !note.is_empty() {
        let note = format!(
            "{}: {note}; {closed} ports in TIME_WAIT before",
            contender.name
        );
        eprintln!("  {note}");
        report.note(Figure::StormRefused, note);
    }
    Ok(())
}

/// As many as were asked for, as far as a proxy has files for: a proxied connection is two of them.
fn clients(asked: usize) -> Result<usize> {
    let files = usize::try_from(kernel::open_files()?)?.saturating_sub(200) / 2;
    Ok(asked.min(files))
}

/// How often each came, the most frequent first.
pub(crate) fn reasons(refused: &[Refusal]) -> String {
    let mut counts: BTreeMap<&Refusal, usize> = BTreeMap::new();
    for refusal in refused {
        let count = counts.entry(refusal).or_default();
        *count = count.saturating_add(1);
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let each: Vec<_> = counts
        .iter()
        .map(|(refusal, count)| format!("{count} {refusal}"))
        .collect();
    each.join(", ")
}

/// What came of a storm.
struct Storm {
    /// From the first connection to the last PONG.
    took: Duration,
    /// From connecting to PONG, of those that were served, in order.
    waits: Vec<Duration>,
    /// From saying CONNECT to PONG, likewise.
    connects: Vec<Duration>,
    refused: Vec<Refusal>,
}

/// `count` clients that come at once and stay.
fn storm(contender: &Contender, count: usize) -> Result<Storm> {
    runtime()?.block_on(async {
        let target = Target::of(contender);
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for number in 0..u64::try_from(count)? {
            let target = target.clone();
            clients.spawn(async move {
                let from = Instant::now();
                let client = Client::connect(&target, number).await?;
                Ok::<_, Refusal>((client, from.elapsed()))
            });
        }
        let done = clients.join_all().await;
        let took = begun.elapsed();
        let mut storm = Storm {
            took,
            waits: Vec::with_capacity(count),
            connects: Vec::with_capacity(count),
            refused: Vec::new(),
        };
        for client in &done {
            match client {
                Ok((client, wait)) => {
                    storm.waits.push(*wait);
                    storm.connects.push(client.admitted_after);
                }
                Err(refusal) => storm.refused.push(refusal.clone()),
            }
        }
        storm.waits.sort_unstable();
        storm.connects.sort_unstable();
        Ok(storm)
    })
}

/// Lines of a contender's log that are shown when it refused somebody.
const LINES_OF_LOG: usize = 3;
