//! The audit: one JSON object a line for every admission, refusal, denial, end of a session and act of an operator.
//!
//! Owns: the line format, sampling, the queue, the file and the chain. Must never: import another adapter, see a token,
//! or make up a fact of its own; it reads the same [`Event`]s as the metrics.
//!
//! # When the audit cannot be written
//!
//! The writer keeps what it has and tries again every second. Behind it the queue (`queue_lines`) fills. Then, with
//! [`WhenFull::Block`], sessions wait where they have something to record (nobody is admitted and nothing is denied
//! unseen, while messages that need no line keep flowing); with [`WhenFull::Drop`], lines are lost and counted. Either
//! way [`Audit::health`] says so, and the process is not ready.

mod act;
mod chain;
mod decision;
mod line;
mod record;
mod sample;
mod sink;
mod writer;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

pub use self::act::{Act, ActKind};
pub use self::chain::{Fault, FaultKind, Link, Verified, verify};
pub use self::decision::DecisionId;
use self::decision::Decisions;
use self::line::{encode, event_record, summary_line};
use self::record::{Record, Shown};
pub use self::sample::Sampling;
use self::sample::{Sampler, Summary};
pub use self::sink::FileSettings;
use self::sink::{AuditFile, Target};
use self::writer::{Order, Shared};
use crate::session::{CloseReason, Connected, Event, EventKind, SessionId};

/// Why the audit cannot begin, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The file cannot be opened, read to its end, or is written by another process.
    #[error("audit file {path}: {source}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The writer could not be started.
    #[error("audit writer: {0}")]
    Writer(io::Error),
    /// Not everything was written in time.
    #[error("the audit was not written out in time; the last error was: {0}")]
    NotFlushed(String),
}

/// Where lines go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A file.
    File(FileSettings),
    /// Standard output, for collectors that read it.
    Stdout,
    /// Nowhere. Decision ids and sampling still work, since the log uses them.
    Off,
}

/// What happens when the queue to the writer is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Sessions wait.
    Block,
    /// The line is lost and counted.
    Drop,
}

/// How the audit works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where lines go.
    pub destination: Destination,
    /// What happens when the queue is full.
    pub when_full: WhenFull,
    /// Lines between sessions and the writer.
    pub queue_lines: usize,
    /// How denials, refusals and ends without an identity are sampled.
    pub sampling: Sampling,
}

/// What became of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Whether it got a line.
    pub written: bool,
    /// The number that the log shall name too: of an admission, a refusal or a denial that got a line.
    pub decision: Option<DecisionId>,
}

/// How the audit fares. Counts are totals since the start.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Lines written.
    pub written: u64,
    /// Lines lost because the queue was full.
    pub dropped: u64,
    /// Lines left out by sampling.
    pub suppressed: u64,
    /// Why the last write failed; none when it did not.
    pub failing: Option<String>,
    /// The link of the last line written.
    pub head: Link,
}

/// The audit. Share it in an `Arc`.
pub struct Audit {
    queue: mpsc::Sender<Order>,
    when_full: WhenFull,
    off: bool,
    decisions: Decisions,
    shared: Arc<Shared>,
    live: Mutex<Live>,
}

/// What lines need to know of sessions that live, and the policy in force.
#[derive(Default)]
struct Live {
    bound: HashMap<SessionId, Arc<Connected>>,
    policy: Option<Arc<str>>,
}

impl Audit {
    /// Opens the destination and starts the writer, a thread of its own.
    ///
    /// # Errors
    /// When the file cannot be opened or belongs to another process, or no thread can be had.
    pub fn start(settings: Settings) -> Result<Self, AuditError> {
        let (target, head) = match settings.destination {
            Destination::File(file) => {
                let path = file.path.clone();
                let (file, head) =
                    AuditFile::open(file).map_err(|source| AuditError::Open { path, source })?;
                (Some(Target::File(file)), head)
            }
            Destination::Stdout => (Some(Target::Stdout), Link::default()),
            Destination::Off => (None, Link::default()),
        };
        let (queue, orders) = mpsc::channel(settings.queue_lines.max(1));
        let shared = Arc::new(Shared::new(Sampler::new(settings.sampling), head));
        let off = target.is_none();
        if let Some(target) = target {
            writer::start(target, head, orders, Arc::clone(&shared)).map_err(AuditError::Writer)?;
        }
        Ok(Self {
            queue,
            when_full: settings.when_full,
            off,
            decisions: Decisions::new(),
            shared,
            live: Mutex::default(),
        })
    }

    /// Names the policy in force in the lines to come.
    pub fn set_policy(&self, hash: &str) {
        self.live().policy = Some(hash.into());
    }

    /// Records one fact, unless sampling leaves it out. The log goes by the same sampling, or a flood would fill it.
    ///
    /// Waits while the queue is full and [`WhenFull::Block`] holds. A caller that stops waiting loses the line.
    pub async fn record(&self, event: &Event) -> Recorded {
        let (summary, line, decision) = self.compose(event);
        if let Some(line) = summary {
            self.send(line).await;
        }
        let written = line.is_some();
        if let Some(line) = line {
            self.send(line).await;
        }
        Recorded { written, decision }
    }

    /// Records what an operator did. Never sampled.
    pub async fn record_act(&self, act: Act<'_>) {
        let line = {
            let live = self.live();
            encode(&Record {
                time: Shown(act.at),
                event: act.kind.label(),
                by: Some(act.by),
                detail: (!act.detail.is_empty()).then_some(act.detail),
                policy: live.policy.as_deref(),
                ..Record::default()
            })
        };
        self.send(line).await;
    }

    /// How the audit fares.
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// Opens the file anew, after something else renamed it (`logrotate`).
    pub async fn reopen(&self) {
        if !self.off {
            // The writer lives as long as this sender; were it gone, health would say so.
            let _ = self.queue.send(Order::Reopen).await;
        }
    }

    /// Writes everything out, counts of suppressed lines too, and brings it to the disk.
    ///
    /// # Errors
    /// When that is not done `within` the time.
    pub async fn flush(&self, within: Duration) -> Result<(), AuditError> {
        if self.off {
            return Ok(());
        }
        let (done, wait) = oneshot::channel();
        let flushed = async {
            self.queue.send(Order::Flush(done)).await.ok()?;
            wait.await.ok()
        };
        match tokio::time::timeout(within, flushed).await {
            Ok(Some(())) => Ok(()),
            _ => Err(AuditError::NotFlushed(
                self.health()
                    .failing
                    .unwrap_or_else(|| "none; the queue is long".into()),
            )),
        }
    }

    /// The line of the span that ended, the line of the event, and its number.
    fn compose(&self, event: &Event) -> (Option<Vec<u8>>, Option<Vec<u8>>, Option<DecisionId>) {
        let name = match &event.kind {
            EventKind::Connected(_) => "connected",
            EventKind::Refused { .. } => "refused",
            EventKind::Postponed { .. } => "postponed",
            EventKind::Revoked { .. } => "revoked",
            EventKind::Denied(denied) if denied.observed => "observed",
            EventKind::Denied(_) => "denied",
            EventKind::Closed(_) => "closed",
        };
        let mut live = self.live();
        let ended = match &event.kind {
            EventKind::Connected(connected) => {
                live.bound.insert(event.session, Arc::clone(connected));
                None
            }
            EventKind::Closed(_) => live.bound.remove(&event.session),
            EventKind::Refused { .. }
            | EventKind::Postponed { .. }
            | EventKind::Revoked { .. }
            | EventKind::Denied(_) => None,
        };
        let (write, summary) = self.sample(event, name);
        let summary = summary.map(|summary| summary_line(&summary, event.at));
        if !write {
            return (summary, None, None);
        }
        let decision = match &event.kind {
            EventKind::Connected(_)
            | EventKind::Refused { .. }
            | EventKind::Postponed { .. }
            | EventKind::Revoked { .. }
            | EventKind::Denied(_) => Some(self.decisions.next()),
            EventKind::Closed(_) => None,
        };
        if self.off {
            // Of a line that goes nowhere, only that it is one matters: the log goes by that.
            return (summary, Some(Vec::new()), decision);
        }
        let bound = ended.as_ref().or_else(|| live.bound.get(&event.session));
        let mut record = event_record(event, name, bound.map(|bound| &**bound));
        record.decision = decision.map(Shown);
        record.policy = live.policy.as_deref();
        (summary, Some(encode(&record)), decision)
    }

    /// Whether an event gets a line, and what a span left out that ended with it.
    fn sample(&self, event: &Event, name: &'static str) -> (bool, Option<Summary>) {
        match &event.kind {
            EventKind::Connected(_) | EventKind::Revoked { .. } => return (true, None),
            EventKind::Closed(_) if event.identity.is_some() => return (true, None),
            // Health probes of balancers; counted in the metrics.
            EventKind::Closed(closed) if closed.reason == CloseReason::ClientSilent => {
                return (false, None);
            }
            EventKind::Refused { .. }
            | EventKind::Postponed { .. }
            | EventKind::Denied(_)
            | EventKind::Closed(_) => {}
        }
        let sampled = self.shared.sampler().sample(event, name);
        if !sampled.write {
            self.shared.count_suppressed();
        }
        (sampled.write, sampled.ended)
    }

    async fn send(&self, line: Vec<u8>) {
        if self.off {
            return;
        }
        let sent = match self.when_full {
            WhenFull::Block => self.queue.send(Order::Line(line)).await.is_ok(),
            WhenFull::Drop => self.queue.try_send(Order::Line(line)).is_ok(),
        };
        if !sent {
            self.shared.count_dropped();
        }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
