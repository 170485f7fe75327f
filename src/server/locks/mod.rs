//! Locks in a running process: refused at the admission, cut where a session lives, noticed when they change.
//!
//! Must never: let a session that a lock selects be served between two looks at it. An admission remembers the set of
//! locks that it was judged by, and is judged again when another one is in force by the time that it is known to others.

mod news;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

pub(super) use self::news::tell;
pub(super) use self::watch::watch;
use super::Shared;
use super::admission;
use super::sessions::{Bound, Handle, Order};
use crate::clock;
use crate::identity::Identity;
use crate::locks::{Ban, Lock, LockSet, Presented, Selector};
use crate::revocation::{LocksError, Settings, Source};
use crate::session::Refusal;
use crate::time::Timestamp;

/// Tokens of sessions cut because they were shown before the moment of a lock, kept so that they do not come back.
const SHOWN_MAX: usize = 65_536;

/// The locks of a process.
pub(super) struct Locks {
    source: Arc<Mutex<Source>>,
    in_force: ArcSwap<LockSet>,
    /// By token: the locks that cut a session of it, though by its own word the token was issued later.
    shown: Mutex<HashMap<Box<str>, Box<str>>>,
    /// Those in force of which every live session has heard.
    known: ArcSwap<ById>,
    /// Why the source could not be read when last looked at.
    failing: Mutex<Option<String>>,
    news: news::News,
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
            news: news::News::default(),
        })
    }

    /// The locks in force.
    pub(super) fn current(&self) -> Arc<LockSet> {
        self.in_force.load_full()
    }

    /// The locks in force of which every live session has heard.
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
        let who = Presented::newcomer(identity, roles, now);
        let found = set
            .refusing(&who)
            .map(|lock| Refusal::by_lock(lock, identity));
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
        Some(Refusal::by_lock(lock, who.identity))
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

    /// Puts other locks in force.
    fn exchange(&self, locks: Vec<Lock>) {
        let ids: HashSet<Box<str>> = locks.iter().map(|lock| lock.id.clone()).collect();
        lock(&self.shown).retain(|_, id| ids.contains(id));
        self.in_force.store(Arc::new(LockSet::new(locks)));
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
    Some(Order::Revoke(Refusal::by_lock(lock, &bound.identity)))
}

/// Cuts every live session that a lock refuses. What is returned ends when the last of them has heard of it.
fn cut(shared: &Shared) -> mpsc::Receiver<()> {
    let (told, taken) = mpsc::channel(1);
    let by_role = shared.locks.current().goes_by_role();
    let now = clock::now();
    let mut cut = 0_usize;
    for handle in shared.sessions.all() {
        if let Some(order) = order_for(shared, &handle, by_role, now) {
            cut = cut.saturating_add(1);
            handle.order(order, Some(told.clone()));
        }
    }
    if cut > 0 {
        tracing::warn!(sessions = cut, "locks cut sessions");
    }
    taken
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
