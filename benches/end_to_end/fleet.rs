//! The part `fleet`: more idle sessions than one process may have open files for, held by several of a proxy side by side, as
//! behind a balancer. Each member of the fleet is this program in a process of its own, with a nats-server, a proxy and the
//! clients that it holds: all of them run out of open files at the same number.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::contenders::{Contender, Stage};
use super::crowd::Held;
use super::figures::Figure;
use super::options::Options;
use super::procfs::{self, cpu};
use super::report::{At, Report};
use super::scale::{FIRST, SETTLE, WATCHED, most_sessions};
use super::scenarios::per;

/// The word before contender, its number in the fleet, sessions and binary when this program is called as a member.
const ROLE: &str = "hold-sessions";

/// So many members that all sessions are held at once; what they cost together.
pub(crate) fn measure(contender: &Contender, options: &Options, report: &mut Report) -> Result<()> {
    // Besides those that each begins with.
    let each = most_sessions()?.saturating_sub(FIRST);
    let mut members: Vec<Member> = Vec::new();
    let mut missing = options.fleet;
    while missing > 0 {
        let count = missing.min(each);
        let member = Member::start(&contender.name, members.len(), count, &options.binary)?;
        members.push(member);
        missing = missing.saturating_sub(count);
    }
    let (sessions, bytes) = members.iter().fold((0, 0), |(sessions, bytes), member| {
        (sessions + member.sessions, bytes + member.bytes)
    });
    let before = cpu_of(&mut members)?;
    let watched = WATCHED.min(options.cell.saturating_mul(10));
    std::thread::sleep(watched);
    let used = cpu_of(&mut members)?.saturating_sub(before);
    let at = At::Count(options.fleet);
    let kib = per(bytes, 1024.0) / per(sessions.max(1), 1.0);
    report.add(contender, Figure::FleetKiB, at, kib);
    let a_second = used.as_secs_f64() * 1e3 / watched.as_secs_f64();
    report.add(contender, Figure::FleetIdleCpu, at, a_second);
    let note = format!(
        "{}: processes: {}, of at most {each} sessions each",
        contender.name,
        members.len()
    );
    report.note(Figure::FleetKiB, note);
    Ok(())
}

/// Processor time of all proxies so far.
fn cpu_of(members: &mut [Member]) -> Result<Duration> {
    members
        .iter_mut()
        .try_fold(Duration::ZERO, |sum, member| Ok(sum + member.cpu()?))
}

/// A member, seen from the one who called it; it ends with this value.
struct Member {
    process: Child,
    /// Each line asks for the processor time of its proxy. Its end ends the member.
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    sessions: u64,
    /// What they added to the resident set of its proxy.
    bytes: u64,
}

impl Member {
    /// Calls it, and waits until it holds its sessions.
    fn start(contender: &str, number: usize, sessions: usize, binary: &Path) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([ROLE, contender, &number.to_string(), &sessions.to_string()])
            .arg(binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let asks = process.stdin.take();
        let answers = process.stdout.take().context("it has an output")?;
        let mut member = Self {
            process,
            asks,
            answers: BufReader::new(answers),
            sessions: 0,
            bytes: 0,
        };
        [member.sessions, member.bytes] = member.numbers()?;
        Ok(member)
    }

    fn cpu(&mut self) -> Result<Duration> {
        let asks = self.asks.as_mut().context("it is asked until it ends")?;
        writeln!(asks)?;
        let [nanos] = self.numbers()?;
        Ok(Duration::from_nanos(nanos))
    }

    /// The numbers of its next line.
    fn numbers<const N: usize>(&mut self) -> Result<[u64; N]> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let numbers = line.split_whitespace().map(str::parse);
        let numbers = numbers.collect::<Result<Vec<u64>, _>>()?;
        let numbers = numbers.try_into().ok();
        numbers.with_context(|| format!("a member of the fleet ended, or said {line:?}"))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.asks = None;
        self.process.wait().ok();
    }
}

/// Whether the program was called as a member; if so, it has been one until nobody asked any more.
pub(crate) fn serve_if_called() -> Result<bool> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [role, contender, number, sessions, binary] = words.as_slice() else {
        return Ok(false);
    };
    if role != ROLE {
        return Ok(false);
    }
    let stage = Stage::set(std::slice::from_ref(contender), binary.as_ref())?;
    let contender = stage.contenders.first().context("no contender")?;
    let Some(pid) = contender.pid else {
        bail!("{} holds no sessions", contender.name)
    };
    // 127.0.0.0/16 is where everybody listens.
    let net = number
        .parse::<u8>()?
        .checked_add(10)
        .context("so many members")?;
    let mut held = Held::none_of(net)?;
    // What the first sessions bring in is not the price of one more.
    held.grow(contender, FIRST)?;
    let before = procfs::resident(pid)?;
    held.grow(contender, sessions.parse::<usize>()?.saturating_add(FIRST))?;
    std::thread::sleep(SETTLE);
    let grown = procfs::resident(pid)?.saturating_sub(before);
    println!("{sessions} {grown}");
    for _ask in std::io::stdin().lock().lines() {
        println!("{}", cpu(Some(pid)).as_nanos());
    }
    Ok(true)
}
