//! Tells log and audit of locks that came into force or ended, when every session has heard of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::{Shared, act};
use super::{ById, Locks, lock};
use crate::audit::ActKind;
use crate::clock;
use crate::locks::{Ban, Lifted, Lock, LockSet, printable};
use crate::time::Timestamp;

/// How long the news of a lock waits for every session to be cut that it selects.
const TAKEN: Duration = Duration::from_secs(5);

/// What there is to tell.
#[derive(Default)]
pub(super) struct News {
    waiting: Mutex<Waiting>,
    /// Something waits.
    there_is: Notify,
    /// What waited is known.
    settled: Notify,
}

#[derive(Default)]
struct Waiting {
    /// The locks that the last change put in force.
    set: Arc<LockSet>,
    /// Each ends when the sessions that a change cut have heard of it.
    taken: Vec<mpsc::Receiver<()>>,
    /// Locks that were taken away lately, as the source says.
    lifted: Vec<Lifted>,
}

impl News {
    /// These locks are in force now.
    pub(super) fn add(
        &self,
        set: Arc<LockSet>,
        taken: mpsc::Receiver<()>,
        lifted: Option<Vec<Lifted>>,
    ) {
        let mut waiting = lock(&self.waiting);
        waiting.set = set;
        waiting.taken.push(taken);
        if let Some(lifted) = lifted {
            waiting.lifted = lifted;
        }
        drop(waiting);
        self.there_is.notify_one();
    }
}

impl Locks {
    /// Why the source cannot be read; none: it can.
    pub(super) fn note_failure(&self, why: Option<String>) {
        let mut failing = lock(&self.failing);
        if *failing != why {
            *failing = why;
            self.news.settled.notify_one();
        }
    }
}

/// Tells of locks until `stop`.
pub(in crate::server) async fn tell(shared: Arc<Shared>, stop: CancellationToken) {
    // Two, so that an audit that cannot be written keeps nobody from learning that a lock is in force.
    let telling = async {
        tokio::join!(settle(&shared), Told::default().tell(&shared));
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = telling => {}
    }
}

/// Waits until every session has heard of a change, and then makes it known.
async fn settle(shared: &Shared) {
    let news = &shared.locks.news;
    loop {
        news.there_is.notified().await;
        // A set together with the cuts of it and of all before it.
        let (set, taken) = {
            let mut waiting = lock(&news.waiting);
            (Arc::clone(&waiting.set), std::mem::take(&mut waiting.taken))
        };
        if timeout(TAKEN, all_ended(taken)).await.is_err() {
            tracing::warn!(
                "after {} s some sessions have not taken a lock; they wait for something else first, and nothing passes \
                 in them before they do",
                TAKEN.as_secs()
            );
        }
        let now = clock::now();
        let in_force = set.all().iter().filter(|lock| lock.is_in_force(now));
        let in_force: ById = in_force
            .map(|lock| (lock.id.clone(), Arc::clone(lock)))
            .collect();
        shared.locks.known.store(Arc::new(in_force));
        news.settled.notify_one();
    }
}

/// What log and audit know.
#[derive(Default)]
struct Told {
    locks: Arc<ById>,
    failing: Option<String>,
}

impl Told {
    async fn tell(mut self, shared: &Shared) {
        loop {
            shared.locks.news.settled.notified().await;
            self.complain(shared).await;
            self.changes(shared).await;
        }
    }

    /// Says once why the source cannot be read, and that it can be read again.
    async fn complain(&mut self, shared: &Shared) {
        let why = lock(&shared.locks.failing).clone();
        if self.failing == why {
            return;
        }
        match &why {
            Some(why) => {
                tracing::error!("the locks cannot be read, those of before stay in force: {why}");
                act(shared, ActKind::LocksRejected, BY_HAND, why).await;
            }
            None => tracing::info!("the locks can be read again"),
        }
        self.failing = why;
    }

    /// Says which locks are in force that were not, and which are no longer.
    async fn changes(&mut self, shared: &Shared) {
        let now = clock::now();
        let lifted = lock(&shared.locks.news.waiting).lifted.clone();
        let before = std::mem::replace(&mut self.locks, shared.locks.known());
        for (id, lock) in before.iter() {
            if self.locks.get(id) != Some(lock) {
                unlocked(shared, lock, &lifted, now).await;
            }
        }
        for (id, lock) in self.locks.iter() {
            if before.get(id) != Some(lock) {
                locked(shared, lock).await;
            }
        }
    }
}

/// Nothing is ever sent: each ends when its last order is carried out, or gone with its session.
async fn all_ended(taken: Vec<mpsc::Receiver<()>>) {
    for mut one in taken {
        while one.recv().await.is_some() {}
    }
}

/// Whose doing a change by hand was.
const BY_HAND: &str = "file";

async fn locked(shared: &Shared, lock: &Lock) {
    let by = if lock.by.is_empty() {
        BY_HAND
    } else {
        &lock.by
    };
    let refused = match lock.ban {
        Ban::Everything => String::new(),
        Ban::TokensBefore(cut) => format!(" to tokens from before {cut}"),
    };
    let until = lock.until.map(|until| format!(" until {until}"));
    let until = until.unwrap_or_default();
    let detail = format!("{}{refused}{until}; {lock}", lock.selector);
    tracing::warn!(lock = %lock.id, by, "locked: {detail}");
    act(shared, ActKind::Locked, by, &detail).await;
}

async fn unlocked(shared: &Shared, lock: &Lock, lifted: &[Lifted], now: Timestamp) {
    let found = lifted.iter().rev().find(|lifted| lifted.id == lock.id);
    let (by, why) = match found {
        Some(lifted) => (&*lifted.by, &*lifted.reason),
        None if !lock.is_in_force(now) => ("time", "it has ended"),
        None => (BY_HAND, ""),
    };
    let why = match why {
        "" => String::new(),
        why => format!(" ({})", printable(why)),
    };
    let detail = format!("{}{why}; {lock}", lock.selector);
    tracing::warn!(lock = %lock.id, by, "unlocked: {detail}");
    act(shared, ActKind::Unlocked, by, &detail).await;
}
