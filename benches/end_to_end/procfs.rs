//! What Linux says about a process: processor time and memory.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Processor time that a process, its threads and its children have used so far; zero of none.
///
/// From `schedstat`, which counts nanoseconds; where the kernel has none, from `stat`, which counts ticks of 10 ms.
pub(crate) fn cpu(pid: Option<u32>) -> Duration {
    let Some(pid) = pid else {
        return Duration::ZERO;
    };
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let own = threads(pid).unwrap_or_else(|| ticks(pid));
    children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .fold(own, |sum, child| sum.saturating_add(cpu(Some(child))))
}

fn threads(pid: u32) -> Option<Duration> {
    let mut sum = 0_u64;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        sum = sum.saturating_add(text.split_whitespace().next()?.parse().ok()?);
    }
    Some(Duration::from_nanos(sum))
}

fn ticks(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces; utime and stime are the 12th and 13th field after it (proc(5)).
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let used = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(used.sum::<u64>().saturating_mul(10))
}

/// Resident memory in bytes, of the process and its children.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut sum = kib.saturating_mul(1024);
    for child in children.split_whitespace() {
        sum = sum.saturating_add(resident(child.parse()?)?);
    }
    Ok(sum)
}

/// Waits until a process and its children hold few files again, as after a load that has ended.
pub(crate) fn wait_until_few_files(pid: u32) {
    for _ in 0..100 {
        if held_files(pid) < FEW_FILES {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn held_files(pid: u32) -> usize {
    let own = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .fold(own, |sum, child| sum.saturating_add(held_files(child)))
}

/// Files that a proxy without clients may hold.
const FEW_FILES: usize = 200;

/// Runs this program again with as many open files as the system lets it have (root may raise the hard limit), unless that
/// was done. Some when the other run did the work.
pub(crate) fn rerun_with_more_files() -> Result<Option<ExitCode>> {
    const DONE: &str = "NATSENTRY_BENCH_FILES_RAISED";
    const MORE_FILES: &str = "(ulimit -n 262144) 2>/dev/null && ulimit -n 262144 || ulimit -n \"$(ulimit -Hn)\"; exec \"$@\"";
    if std::env::var_os(DONE).is_some() {
        return Ok(None);
    }
    let status = Command::new("sh")
        .args(["-c", MORE_FILES, "sh"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(DONE, "1")
        .status()?;
    Ok(Some(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }))
}
