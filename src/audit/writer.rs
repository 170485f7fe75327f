//! The writer's thread: takes orders from the queue, seals lines into the chain, and appends them many at a time.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::chain::{self, Link};
use super::sample::{Sampler, Summary};
use super::sink::{RETRY, Target};
use super::{Health, summary_line};
use crate::clock;

/// What the writer is asked to do.
pub(super) enum Order {
    /// Append one JSON object.
    Line(Vec<u8>),
    /// Open the file anew.
    Reopen,
    /// Write out everything, bring it to the disk, then answer.
    Flush(oneshot::Sender<()>),
}

/// What the writer and those who record share.
pub(super) struct Shared {
    written: AtomicU64,
    dropped: AtomicU64,
    suppressed: AtomicU64,
    state: Mutex<(Option<String>, Link)>,
    sampler: Mutex<Sampler>,
}

impl Shared {
    pub(super) fn new(sampler: Sampler, head: Link) -> Self {
        Self {
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
            state: Mutex::new((None, head)),
            sampler: Mutex::new(sampler),
        }
    }

    pub(super) fn health(&self) -> Health {
        let (failing, head) = self.state().clone();
        Health {
            written: self.written.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            suppressed: self.suppressed.load(Ordering::Relaxed),
            failing,
            head,
        }
    }

    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_suppressed(&self) {
        self.suppressed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sampler(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, (Option<String>, Link)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn succeeded(&self, lines: u64, head: Link) {
        self.written.fetch_add(lines, Ordering::Relaxed);
        *self.state() = (None, head);
    }

    fn failed(&self, error: &io::Error) {
        let mut state = self.state();
        if state.0.is_none() {
            tracing::error!(%error, "the audit cannot be written; trying again every second");
        }
        state.0 = Some(error.to_string());
    }
}

/// Starts the thread; it ends when every sender is gone and everything is written.
pub(super) fn start(
    target: Target,
    head: Link,
    orders: mpsc::Receiver<Order>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    // A runtime of its own, since a slow disk may block this thread and must not block sessions.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let writer = Writer {
        target,
        head,
        shared,
        pending: Vec::new(),
        lines: 0,
    };
    std::thread::Builder::new()
        .name("audit".into())
        .spawn(move || runtime.block_on(writer.run(orders)))
        .map(drop)
}

struct Writer {
    target: Target,
    /// The link of the last line made, written or pending.
    head: Link,
    shared: Arc<Shared>,
    /// Sealed lines that are not written yet.
    pending: Vec<u8>,
    /// How many those are.
    lines: u64,
}

impl Writer {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut looked = clock::now();
        let gathers = orders.max_capacity() >= GATHERING;
        loop {
            let received = orders.recv_many(&mut batch, BATCH);
            if let Ok(0) = tokio::time::timeout(TICK, received).await {
                break;
            }
            let now = clock::now();
            // A clock that was set back must not stop this either.
            if now < looked || now.since(looked) >= TICK {
                looked = now;
                let over = self.shared.sampler().end_spans(now);
                self.summaries(&over);
            }
            for order in batch.drain(..) {
                match order {
                    Order::Line(object) => self.seal(object),
                    Order::Reopen => {
                        self.write_out().await;
                        self.attempt(Target::reopen);
                    }
                    Order::Flush(done) => {
                        let over = self.shared.sampler().end_all();
                        self.summaries(&over);
                        self.write_out().await;
                        self.attempt(|target| target.sync());
                        // Whoever asked may have stopped waiting.
                        let _ = done.send(());
                    }
                }
            }
            self.write_out().await;
            if gathers && orders.len() < orders.max_capacity() / 2 {
                tokio::time::sleep(GATHER).await;
            }
        }
        let over = self.shared.sampler().end_all();
        self.summaries(&over);
        if let Err(error) = self
            .target
            .append(&self.pending)
            .and_then(|()| self.target.sync())
        {
            tracing::error!(%error, lines = self.lines, "the audit ends with lines that were not written");
        }
    }

    fn summaries(&mut self, summaries: &[Summary]) {
        for summary in summaries {
            self.seal(summary_line(summary, clock::now()));
        }
    }

    fn seal(&mut self, mut object: Vec<u8>) {
        self.head = chain::seal(&mut object, self.head);
        self.pending.extend_from_slice(&object);
        self.lines = self.lines.saturating_add(1);
    }

    /// Appends what is pending; does not return before that succeeded.
    async fn write_out(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        while let Err(error) = self.target.append(&self.pending) {
            self.shared.failed(&error);
            tokio::time::sleep(RETRY).await;
            if let Err(error) = self.target.reopen() {
                self.shared.failed(&error);
            }
        }
        self.shared.succeeded(self.lines, self.head);
        self.pending.clear();
        self.pending.shrink_to(PENDING_KEPT);
        self.lines = 0;
        self.attempt(Target::rotate_if_due);
    }

    /// Does something that is tried again later by itself, so that a failure is only said.
    fn attempt(&mut self, what: impl FnOnce(&mut Target) -> io::Result<()>) {
        if let Err(error) = what(&mut self.target) {
            self.shared.failed(&error);
        }
    }
}

/// How often ended spans are looked for while nothing else happens.
const TICK: Duration = Duration::from_secs(1);

/// How long lines gather after some were written, unless they are many. To wake this thread costs a session more than to
/// compose its line; this way it is woken for the first line after silence and then for none.
const GATHER: Duration = Duration::from_millis(5);

/// Lines that the queue must hold for that: a short one would be full before the time is over.
const GATHERING: usize = 1024;

/// Orders taken at a time.
const BATCH: usize = 256;

/// Bytes of the buffer that stay after a burst.
const PENDING_KEPT: usize = 64 * 1024;
