//! The table of live sessions: count them, list them, tell one of them something.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::mpsc;

use super::to_usize;
use crate::identity::Identity;
use crate::policy::Permissions;
use crate::session::{CloseReason, Connected, Refusal, RoleLimits, SessionId, Traffic};
use crate::time::Timestamp;

/// What a session can be told.
#[derive(Debug)]
pub(super) enum Order {
    /// End, by the way of the reason.
    End(CloseReason),
    /// End at once: there are no rights any more, not even for a goodbye.
    Cut(CloseReason),
    /// End at once, since a lock refuses the identity.
    Revoke(Refusal),
    /// Go on with these rights.
    Rights(Rights),
}

/// What a session may do from now on.
#[derive(Debug)]
pub(super) struct Rights {
    pub(super) permissions: Arc<Permissions>,
    pub(super) limits: RoleLimits,
    pub(super) term: Term,
}

/// How long rights hold by the calendar.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Term {
    /// When they have to be judged again.
    pub(super) until: Option<Timestamp>,
    /// When nothing is left of them, if that is the next change.
    pub(super) ends_at: Option<Timestamp>,
}

/// Held by an order until the session has carried it out, or has ended.
pub(super) type Told = mpsc::Sender<()>;

/// A live session as the rest of the process sees it.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) id: SessionId,
    pub(super) client: SocketAddr,
    /// Of the session's task, which has the same one for life; kept when it is woken by an order.
    waker: Mutex<Option<Waker>>,
    has_orders: AtomicBool,
    orders: Mutex<VecDeque<(Order, Option<Told>)>>,
    /// Set while the orders are locked: none is taken any more.
    has_ended: AtomicBool,
    bound: Mutex<Option<Arc<Bound>>>,
    traffic: [AtomicU64; 5],
    subscriptions: AtomicU32,
}

/// What is known of a session once it is admitted.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) identity: Arc<Identity>,
    pub(super) connected: Arc<Connected>,
    pub(super) since: Timestamp,
    /// When its token and roles were last accepted from the client.
    pub(super) judged_at: Timestamp,
    pub(super) requested_role: Option<Box<str>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    /// Tells the session something; it hears of it within one turn. `told` is dropped when it has done so.
    pub(super) fn order(&self, order: Order, told: Option<Told>) {
        let mut orders = lock(&self.orders);
        if self.has_ended.load(Ordering::Relaxed) {
            return;
        }
        orders.push_back((order, told));
        drop(orders);
        self.has_orders.store(true, Ordering::Release);
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }

    /// Whom to wake for an order. Orders are to be looked at after this.
    pub(super) fn wakes(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
    }

    pub(super) fn take(&self) -> Option<(Order, Option<Told>)> {
        if !self.has_orders.load(Ordering::Acquire) {
            return None;
        }
        let mut orders = lock(&self.orders);
        let order = orders.pop_front();
        if orders.is_empty() {
            self.has_orders.store(false, Ordering::Release);
        }
        order
    }

    /// The session has ended, and passes nothing whatever it is told. It may still wait for its last words to be recorded.
    pub(super) fn end(&self) {
        let mut orders = lock(&self.orders);
        self.has_ended.store(true, Ordering::Relaxed);
        orders.clear();
    }

    pub(super) fn bind(&self, bound: Bound) {
        *lock(&self.bound) = Some(Arc::new(bound));
    }

    /// Exchanges what is known, unless it is no longer what `before` was.
    pub(super) fn rebind(&self, before: &Arc<Bound>, bound: Bound) -> bool {
        let mut current = lock(&self.bound);
        let same = current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, before));
        if same {
            *current = Some(Arc::new(bound));
        }
        same
    }

    pub(super) fn bound(&self) -> Option<Arc<Bound>> {
        lock(&self.bound).clone()
    }

    pub(super) fn note(&self, traffic: Traffic, subscriptions: usize) {
        let values = [
            traffic.messages_in,
            traffic.bytes_in,
            traffic.messages_out,
            traffic.bytes_out,
            traffic.denied,
        ];
        for (slot, value) in self.traffic.iter().zip(values) {
            slot.store(value, Ordering::Relaxed);
        }
        let subscriptions = u32::try_from(subscriptions).unwrap_or(u32::MAX);
        self.subscriptions.store(subscriptions, Ordering::Relaxed);
    }

    pub(super) fn traffic(&self) -> Traffic {
        let [messages_in, bytes_in, messages_out, bytes_out, denied] = self
            .traffic
            .each_ref()
            .map(|slot| slot.load(Ordering::Relaxed));
        Traffic {
            messages_in,
            bytes_in,
            messages_out,
            bytes_out,
            denied,
            filtered: 0,
        }
    }

    pub(super) fn subscriptions(&self) -> usize {
        to_usize(self.subscriptions.load(Ordering::Relaxed))
    }
}

/// All live sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    next: AtomicU64,
    live: Mutex<BTreeMap<u64, Arc<Handle>>>,
    /// By who holds its permissions, [`Permissions::owner`].
    by_identity: Mutex<HashMap<Arc<str>, usize>>,
}

impl Sessions {
    /// Enters a connection just accepted. It leaves when the entry is dropped.
    pub(super) fn enter(self: &Arc<Self>, client: SocketAddr) -> Entry {
        let id = self.next.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let handle = Arc::new(Handle {
            id: SessionId(id),
            client,
            waker: Mutex::default(),
            has_orders: AtomicBool::new(false),
            orders: Mutex::default(),
            has_ended: AtomicBool::new(false),
            bound: Mutex::default(),
            traffic: Default::default(),
            subscriptions: AtomicU32::new(0),
        });
        lock(&self.live).insert(id, Arc::clone(&handle));
        Entry {
            sessions: Arc::clone(self),
            handle,
            identity: None,
        }
    }

    /// Every live session, admitted or not, in the order of their numbers.
    pub(super) fn all(&self) -> Vec<Arc<Handle>> {
        lock(&self.live).values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.live).len()
    }
}

/// A session's place in the table.
pub(super) struct Entry {
    sessions: Arc<Sessions>,
    pub(super) handle: Arc<Handle>,
    identity: Option<Arc<str>>,
}

impl Entry {
    /// Counts the session as one of an identity. False, and nothing counted, when it has `limit` already.
    pub(super) fn count(&mut self, identity: &Arc<str>, limit: Option<usize>) -> bool {
        let mut by_identity = lock(&self.sessions.by_identity);
        let count = by_identity.entry(Arc::clone(identity)).or_default();
        if limit.is_some_and(|limit| *count >= limit) {
            return false;
        }
        *count = count.saturating_add(1);
        self.identity = Some(Arc::clone(identity));
        true
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.sessions.live).remove(&self.handle.id.0);
        let Some(key) = self.identity.take() else {
            return;
        };
        let mut by_identity = lock(&self.sessions.by_identity);
        if let Some(count) = by_identity.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                by_identity.remove(&key);
            }
        }
    }
}
