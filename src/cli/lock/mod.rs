//! `natsentry lock`, `lock list` and `unlock`: bans that hold at once, in every process that reads the same file.
//!
//! Owns: the words of a lock on the command line, and what is printed. Must never: need a secret or a right
//! configuration in all other respects, since whoever locks somebody out is in a hurry.

mod confirm;
mod show;
mod whom;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args, Subcommand};

use self::confirm::Confirmed;
use self::whom::Whom;
use super::{ConfigFile, Output, output};
use crate::clock;
use crate::config::{Config, LockConfig};
use crate::locks::{Ban, Document, Lock, REASON_BYTES_MAX, printable};
use crate::policy::units::{HumanDuration, Moment};
use crate::revocation;
use crate::time::Timestamp;

/// Options of `lock`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(group(ArgGroup::new("whom").required(true).args(["oid", "azp", "uti", "role", "all"])))]
#[command(group(ArgGroup::new("end").args(["for", "until"])))]
pub(super) struct LockOptions {
    #[command(subcommand)]
    command: Option<LockCommand>,
    #[command(flatten)]
    lock: NewLock,
}

#[derive(Clone, Debug, Subcommand)]
enum LockCommand {
    /// Show the locks, those that have ended left out; exit code 0 also when there is none.
    List(ConfigFile),
}

/// The lock to make.
#[derive(Clone, Debug, Args)]
struct NewLock {
    #[command(flatten)]
    file: Option<ConfigFile>,
    #[command(flatten)]
    whom: Whom,
    /// End of the lock, as a length of time from now: 30m, 2h, 7d. Without an end it holds until `natsentry unlock`.
    #[arg(long = "for", id = "for", value_name = "TIME")]
    length: Option<HumanDuration>,
    /// End of the lock, as 2026-12-01 (the day counts whole) or 2026-12-01T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Refuse only tokens issued before this moment, `now` or a time as for --until: who signs in again is admitted.
    #[arg(long, value_name = "now|TIME")]
    tokens_before: Option<Cut>,
    /// Why; it is shown in log, audit and `lock list`.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Options of `unlock`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).multiple(true)
    .args(["ids", "tid", "oid", "azp", "uti", "role", "all", "every_lock"])))]
pub(super) struct UnlockOptions {
    #[command(flatten)]
    file: ConfigFile,
    /// Ids of locks, as `natsentry lock list` shows them.
    #[arg(value_name = "ID", conflicts_with_all = ["tid", "oid", "azp", "uti", "role", "all", "every_lock"])]
    ids: Vec<String>,
    #[command(flatten)]
    whom: Whom,
    /// Take every lock away.
    #[arg(long, conflicts_with_all = ["tid", "oid", "azp", "uti", "role", "all"])]
    every_lock: bool,
    /// Why; it is shown in log and audit.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// The moment before which tokens are refused.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Now,
    At(Timestamp),
}

impl std::str::FromStr for Cut {
    type Err = crate::policy::units::UnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "now" => Ok(Self::Now),
            text => text.parse::<Moment>().map(|at| Self::At(at.begins())),
        }
    }
}

impl Cut {
    /// Tokens say the second of their issue: of those that were issued within this one, nobody can tell which came before.
    fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Now => Timestamp::from_secs(now.as_secs().saturating_add(1)),
            Self::At(at) => at,
        }
    }
}

pub(super) fn lock(options: &LockOptions, format: Output) -> anyhow::Result<ExitCode> {
    if let Some(LockCommand::List(file)) = &options.command {
        return list(file, format);
    }
    let asked = &options.lock;
    let file = asked.file.as_ref().context("--config FILE is needed")?;
    let Some(config) = load(file)? else {
        return Ok(ExitCode::FAILURE);
    };
    let now = clock::now();
    let mut lock = Lock {
        id: fresh_id(),
        selector: asked.whom.selector(&config)?,
        ban: match asked.tokens_before {
            None => Ban::Everything,
            Some(cut) => Ban::TokensBefore(cut.moment(now)),
        },
        until: match (asked.length, asked.until) {
            (Some(length), _) => Some(now.plus(length.get())),
            (None, until) => until.map(Moment::ends),
        },
        at: now,
        by: whoever_runs_this().into(),
        reason: reason(&asked.reason)?,
    };
    if !lock.is_in_force(now) {
        bail!(
            "the lock would have ended before it begins; give a later --until, or a longer --for"
        );
    }
    let added = revocation::change(&config.settings, now, |document: &mut Document| {
        // Of thousands, two may come to be called the same, and then nobody could read the file.
        while document.knows(&lock.id) {
            lock.id = fresh_id();
        }
        document.locks.push(lock.clone());
        anyhow::Ok(())
    })?;
    added?;
    if let Ban::TokensBefore(cut) = lock.ban
        && matches!(asked.tokens_before, Some(Cut::Now))
    {
        // Who is told that it is done may sign in again, and is not to come too early by less than a second.
        std::thread::sleep(cut.since(clock::now()));
    }
    let confirmed = confirm::in_force(&config, |ids| ids.contains(&lock.id));
    match format {
        Output::Json => output::json(&show::Done::locked(&lock, &confirmed))?,
        Output::Table => {
            output::print(&format!(
                "locked: {}\n{}",
                show::in_words(&lock),
                confirmed.sentence()
            ))?;
        }
    }
    Ok(code(&confirmed))
}

pub(super) fn unlock(options: &UnlockOptions, format: Output) -> anyhow::Result<ExitCode> {
    let Some(config) = load(&options.file)? else {
        return Ok(ExitCode::FAILURE);
    };
    let selector = match options.ids.is_empty() && !options.every_lock {
        true => Some(options.whom.selector(&config)?),
        false => None,
    };
    let (now, by, why) = (clock::now(), whoever_runs_this(), reason(&options.reason)?);
    let lifted = revocation::change(&config.settings, now, |document| {
        let ids: Vec<Box<str>> = match &selector {
            None if options.every_lock => ids_where(document, |_| true),
            None => options.ids.iter().map(|id| id.as_str().into()).collect(),
            Some(selector) => ids_where(document, |lock| lock.selector == *selector),
        };
        let lifted: Vec<Lock> = ids
            .iter()
            .map(|id| {
                let lifted = document.lift(id, now, &by, &why);
                lifted.with_context(|| format!("there is no lock {}", printable(id)))
            })
            .collect::<anyhow::Result<_>>()?;
        match &selector {
            Some(selector) if lifted.is_empty() => bail!("no lock is on {selector}"),
            _ => Ok(lifted),
        }
    })?;
    let lifted = lifted.context("nothing was unlocked; `natsentry lock list` shows the locks")?;
    let gone = |ids: &[Box<str>]| !lifted.iter().any(|lock| ids.contains(&lock.id));
    let confirmed = confirm::in_force(&config, gone);
    match format {
        Output::Json => output::json(&show::Done::unlocked(&lifted, &confirmed))?,
        Output::Table => {
            for lock in &lifted {
                output::print(&format!("unlocked: {}", show::in_words(lock)))?;
            }
            let nothing = || "no lock was in force".to_owned();
            let said = if lifted.is_empty() {
                nothing()
            } else {
                confirmed.sentence()
            };
            output::print(&said)?;
        }
    }
    Ok(code(&confirmed))
}

/// Exit code 1 where a process goes on without the change, though it is written.
fn code(confirmed: &Confirmed) -> ExitCode {
    if confirmed.failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn ids_where(document: &Document, wanted: impl Fn(&Lock) -> bool) -> Vec<Box<str>> {
    let wanted = document.locks.iter().filter(|lock| wanted(lock));
    wanted.map(|lock| lock.id.clone()).collect()
}

fn list(file: &ConfigFile, format: Output) -> anyhow::Result<ExitCode> {
    let Some(config) = load(file)? else {
        return Ok(ExitCode::FAILURE);
    };
    let mut document = revocation::read(&config.settings)?;
    document.drop_ended(clock::now());
    match format {
        Output::Json => output::json(&show::List::of(&document.locks))?,
        Output::Table => output::print(&show::table(&document.locks))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// None, with everything said, when the file has mistakes that matter here.
fn load(file: &ConfigFile) -> anyhow::Result<Option<LockConfig>> {
    match Config::load_locks(&file.config) {
        Ok(config) => Ok(Some(config)),
        Err(mistakes) => {
            output::complain(&mistakes.to_string());
            Ok(None)
        }
    }
}

fn reason(text: &str) -> anyhow::Result<Box<str>> {
    let text = printable(text.trim());
    if text.len() > REASON_BYTES_MAX {
        bail!(
            "--reason: {} bytes; at most {REASON_BYTES_MAX} are kept, so say it shorter",
            text.len()
        );
    }
    Ok(text.into())
}

/// Eight hexadecimal digits of the system's randomness. An id only has to be unique in its file.
fn fresh_id() -> Box<str> {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one("lock") >> 32;
    format!("{random:08x}").into()
}

/// Longest name of a user or of a machine, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// `user@machine`; who came by sudo is named by the name from before.
fn whoever_runs_this() -> String {
    let set = |name: &str| {
        let value = std::env::var(name).ok()?;
        let value: String = printable(&value).chars().take(NAME_BYTES_MAX).collect();
        Some(value).filter(|value| !value.is_empty())
    };
    let uid = || format!("uid {}", rustix::process::getuid().as_raw());
    let user = set("SUDO_USER")
        .or_else(|| set("USER"))
        .or_else(|| set("LOGNAME"));
    let user = user.unwrap_or_else(uid);
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine: String = printable(machine.trim())
        .chars()
        .take(NAME_BYTES_MAX)
        .collect();
    match machine.as_str() {
        "" => user,
        machine => format!("{user}@{machine}"),
    }
}

/// How long a running process is asked whether it has taken a change.
const PATIENCE: Duration = Duration::from_secs(3);
