//! Locks in a running process: refused at the admission, cut where a session lives, noticed when they change.
//!
//! Must never: let a session that a lock selects be served between two looks at it. An admission remembers the set of
//! locks that it was judged by, and is judged again when another one is in force by the time that it is known to others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::admission;
use super::sessions::{Bound, Handle, Order};
use super::{Shared, act};
use crate::audit::ActKind;
use crate::clock;
use crate::identity::Identity;
use crate::locks::{Ban, Document, Lifted, Lock, LockSet, Presented, REVOKED, Selector};
use crate::revocation::{LocksError, Look, Settings, Source};
use crate::session::Refusal;
use crate::time::Timestamp;

/// How often the source is looked at, which is how late a lock may be noticed.
const LOOK: Duration = Duration::from_millis(200);

/// How long the audit line of a lock waits for every session to be cut that it selects.
const TAKEN: Duration = Duration::from_secs(5);

/// Tokens of sessions cut because they were shown before the moment of a lock, kept so that they do not come back.
const SHOWN_MAX: usize = 65_536;

/// The locks of a process.
pub(super) struct Locks {
    source: Arc<Mutex<Source>>,
    in_force: ArcSwap<LockSet>,
    /// By token: the locks that cut a session of it, though by its own word the token was issued later.
    shown: Mutex<HashMap<Box<str>, Box<str>>>,
    /// Those that live sessions have heard of, and the audit.
    known: ArcSwap<ById>,
    /// Why the source could not be read when last looked at.
    failing: Mutex<Option<String>>,
}

/// Locks in force, by their ids.
pub(super) type ById = BTreeMap<Box<str>, Arc<Lock>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Locks {
    /// Reads the locks for the first time.
    ///
    /// # Errors
    /// When they cannot be read: nobody may be served without knowing who is locked out.
    pub(super) fn open(settings: &Settings) -> Result<Self, LocksError> {
        let (source, document) = Source::open(settings, clock::now())?;
        Ok(Self {
            source: Arc::new(Mutex::new(source)),
            in_force: ArcSwap::from_pointee(LockSet::new(document.locks)),
            shown: Mutex::default(),
            known: ArcSwap::default(),
            failing: Mutex::default(),
        })
    }

    /// The locks in force.
    pub(super) fn current(&self) -> Arc<LockSet> {
        self.in_force.load_full()
    }

    /// The locks in force of which every live session and the audit have heard.
    pub(super) fn known(&self) -> Arc<ById> {
        self.known.load_full()
    }

    /// Why an identity that comes now is refused.
    pub(super) fn refusal(
        &self,
        set: &LockSet,
        identity: &Identity,
        roles: &[Arc<str>],
        now: Timestamp,
    ) -> Option<Refusal> {
        let who = Presented {
            identity,
            roles,
            shown_at: None,
            now,
        };
        let found = set.refusing(&who).map(|lock| because(lock, identity));
        found.or_else(|| self.refusal_of_shown(set, &who))
    }

    /// A token that was shown before the moment of a lock was issued before it, whatever it says.
    fn refusal_of_shown(&self, set: &LockSet, who: &Presented<'_>) -> Option<Refusal> {
        if set.all().is_empty() {
            return None;
        }
        let uti = who.identity.uti.as_deref()?;
        let shown = lock(&self.shown);
        let id = shown.get(uti)?;
        let mut selecting = set.selecting(who.identity, who.roles);
        let lock = selecting.find(|lock| lock.id == *id && lock.is_in_force(who.now))?;
        Some(because(lock, who.identity))
    }

    fn note_shown(&self, lock_that_cuts: &Lock, identity: &Identity) {
        if let (Ban::TokensBefore(_), Some(uti)) = (lock_that_cuts.ban, &identity.uti) {
            let mut shown = lock(&self.shown);
            if shown.len() < SHOWN_MAX {
                shown.insert(uti.clone(), lock_that_cuts.id.clone());
            }
        }
    }

    /// How many locks are in force, by whom they select, and why they cannot be read now.
    pub(super) fn figures(&self) -> ([(&'static str, u64); 5], Option<String>) {
        let (set, now) = (self.current(), clock::now());
        let count = |label: &'static str| {
            let of_kind = |one: &&Arc<Lock>| one.selector.label() == label && one.is_in_force(now);
            let count = set.all().iter().filter(of_kind).count();
            (label, u64::try_from(count).unwrap_or(u64::MAX))
        };
        (Selector::LABELS.map(count), lock(&self.failing).clone())
    }

    /// Looks at the source, on a thread that may wait.
    async fn look(&self) -> Option<Look> {
        let source = Arc::clone(&self.source);
        let looking = move || lock(&source).look(clock::now());
        tokio::task::spawn_blocking(looking).await.ok()
    }
}

/// The reason of a refusal by a lock.
pub(super) fn because(lock: &Lock, identity: &Identity) -> Refusal {
    Refusal {
        code: REVOKED,
        sentence: lock.sentence(identity).into(),
    }
}

/// The order that ends a live session, if a lock refuses its identity in these roles.
pub(super) fn revocation(
    shared: &Shared,
    bound: &Bound,
    roles: &[Arc<str>],
    now: Timestamp,
) -> Option<Order> {
    let set = shared.locks.current();
    let who = Presented {
        identity: &bound.identity,
        roles,
        shown_at: Some(bound.judged_at),
        now,
    };
    let lock = set.refusing(&who)?;
    shared.locks.note_shown(lock, &bound.identity);
    Some(Order::Revoke(because(lock, &bound.identity)))
}

/// Looks at the source of locks until `stop`, and puts in force what has changed there.
pub(super) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut watched = Watched {
        looked_at: clock::now(),
        ..Watched::default()
    };
    watched.tell(&shared, &[]).await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        watched.turn(&shared).await;
    }
}

/// What the watch has told the audit of, and when it looked last.
#[derive(Default)]
struct Watched {
    told: Arc<ById>,
    complained: Option<String>,
    looked_at: Timestamp,
    next_end: Option<Timestamp>,
}

impl Watched {
    async fn turn(&mut self, shared: &Arc<Shared>) {
        let now = clock::now();
        let changed = match shared.locks.look().await {
            Some(Look::Changed(document)) => Some(document),
            Some(Look::Failed(error)) => {
                self.complain(shared, Some(error.to_string())).await;
                None
            }
            Some(Look::Same) => {
                self.complain(shared, None).await;
                None
            }
            None => None,
        };
        let set_back = now < self.looked_at;
        let ended = self.next_end.is_some_and(|end| end <= now);
        self.looked_at = now;
        if let Some(Document { locks, lifted }) = changed {
            self.complain(shared, None).await;
            let ids: HashSet<Box<str>> = locks.iter().map(|lock| lock.id.clone()).collect();
            lock(&shared.locks.shown).retain(|_, id| ids.contains(id));
            shared.locks.in_force.store(Arc::new(LockSet::new(locks)));
            cut(shared).await;
            self.tell(shared, &lifted).await;
        } else if set_back || ended {
            // A lock that had ended may have begun again, if the clock was set back.
            cut(shared).await;
            self.tell(shared, &[]).await;
        }
    }

    /// Says once why the source cannot be read, and that it can be read again.
    async fn complain(&mut self, shared: &Arc<Shared>, why: Option<String>) {
        if self.complained == why {
            return;
        }
        match &why {
            Some(why) => {
                tracing::error!("the locks cannot be read, those of before stay in force: {why}");
                act(shared, ActKind::LocksRejected, "file", why).await;
            }
            None => tracing::info!("the locks can be read again"),
        }
        lock(&shared.locks.failing).clone_from(&why);
        self.complained = why;
    }

    /// Tells audit and log which locks are in force that were not, and which are no longer.
    async fn tell(&mut self, shared: &Arc<Shared>, lifted: &[Lifted]) {
        let (set, now) = (shared.locks.current(), clock::now());
        let in_force = set.all().iter().filter(|lock| lock.is_in_force(now));
        let in_force: ById = in_force
            .map(|lock| (lock.id.clone(), Arc::clone(lock)))
            .collect();
        let before = std::mem::replace(&mut self.told, Arc::new(in_force));
        self.next_end = set.next_end(now);
        for (id, lock) in before.iter() {
            if self.told.get(id) != Some(lock) {
                unlocked(shared, lock, lifted, now).await;
            }
        }
        for (id, lock) in self.told.iter() {
            if before.get(id) != Some(lock) {
                locked(shared, lock).await;
            }
        }
        shared.locks.known.store(Arc::clone(&self.told));
    }
}

/// Whose doing a change by hand was.
const BY_HAND: &str = "file";

async fn locked(shared: &Arc<Shared>, lock: &Lock) {
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

async fn unlocked(shared: &Arc<Shared>, lock: &Lock, lifted: &[Lifted], now: Timestamp) {
    let found = lifted.iter().rev().find(|lifted| lifted.id == lock.id);
    let (by, why) = match found {
        Some(lifted) => (&*lifted.by, &*lifted.reason),
        None if !lock.is_in_force(now) => ("time", "it has ended"),
        None => (BY_HAND, ""),
    };
    let why = match why {
        "" => String::new(),
        why => format!(" ({})", crate::locks::printable(why)),
    };
    let detail = format!("{}{why}; {lock}", lock.selector);
    tracing::warn!(lock = %lock.id, by, "unlocked: {detail}");
    act(shared, ActKind::Unlocked, by, &detail).await;
}

/// Cuts every live session that a lock refuses, and waits until they have heard of it.
async fn cut(shared: &Arc<Shared>) {
    let (told, mut taken) = mpsc::channel(1);
    let by_role = shared.locks.current().goes_by_role();
    let now = clock::now();
    let mut cut = 0_usize;
    for handle in shared.sessions.all() {
        if let Some(order) = order_for(shared, &handle, by_role, now) {
            cut = cut.saturating_add(1);
            handle.order(order, Some(told.clone()));
        }
    }
    drop(told);
    // Nothing is ever sent: it ends when the last order is carried out, or gone with its session.
    if timeout(TAKEN, taken.recv()).await.is_err() {
        tracing::warn!(
            "after {} s some sessions have not taken a lock; they wait for something else first, and nothing passes in \
             them before they do",
            TAKEN.as_secs()
        );
    }
    if cut > 0 {
        tracing::warn!(sessions = cut, "sessions were cut by locks");
    }
}

fn order_for(shared: &Shared, handle: &Handle, by_role: bool, now: Timestamp) -> Option<Order> {
    let bound = handle.bound()?;
    if !by_role {
        return revocation(shared, &bound, &[], now);
    }
    // The roles of its admission may not be those of now.
    let role = bound.requested_role.as_deref();
    let policy = shared.policy();
    let assigned = admission::assign(&policy, &bound.identity, handle.client, role, now);
    let roles = assigned.map_or_else(|_| bound.connected.roles.clone(), |now| now.roles);
    revocation(shared, &bound, &roles, now)
}

/// Reads another source from now on, after the configuration named one.
///
/// # Errors
/// When it cannot be read; the source of before stays.
pub(super) async fn exchange(shared: &Arc<Shared>, settings: &Settings) -> anyhow::Result<()> {
    if shared.running.load().locks == *settings {
        return Ok(());
    }
    let (settings, source) = (settings.clone(), Arc::clone(&shared.locks.source));
    let opening = move || -> Result<(), LocksError> {
        let opened = Source::reopen(&settings)?;
        *lock(&source) = opened;
        Ok(())
    };
    tokio::task::spawn_blocking(opening).await??;
    Ok(())
}
