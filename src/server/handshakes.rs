//! Connections that have not said CONNECT yet: how many there may be, and which of them has to go.
//!
//! Whoever opens connections and says nothing must not keep others out. So a new connection is never refused because of
//! those that wait: the one that has waited longest is closed for it. A client that means it is through in milliseconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Connections between accept and CONNECT.
#[derive(Debug)]
pub(super) struct Handshakes {
    max: usize,
    waiting: Mutex<Waiting>,
}

/// In the order in which they were accepted.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    by_number: BTreeMap<u64, Arc<Notify>>,
}

impl Handshakes {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            waiting: Mutex::default(),
        })
    }

    /// Enters a connection just accepted; where there are too many, the oldest has to go. It leaves when it is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Handshake {
        let mut waiting = self.lock();
        while waiting.by_number.len() >= self.max.max(1) {
            let Some((_, oldest)) = waiting.by_number.pop_first() else {
                break;
            };
            oldest.notify_one();
        }
        let number = waiting.next;
        waiting.next = number.wrapping_add(1);
        let evicted = Arc::new(Notify::new());
        waiting.by_number.insert(number, Arc::clone(&evicted));
        Handshake {
            all: Arc::clone(self),
            number,
            evicted,
        }
    }

    /// Whether the next connection drives the oldest out.
    pub(super) fn is_full(&self) -> bool {
        self.lock().by_number.len() >= self.max.max(1)
    }

    /// Tells the oldest to go. False where nobody waits.
    pub(super) fn evict(&self) -> bool {
        let oldest = self.lock().by_number.pop_first();
        oldest.map(|(_, oldest)| oldest.notify_one()).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection that has not said CONNECT yet.
#[derive(Debug)]
pub(super) struct Handshake {
    all: Arc<Handshakes>,
    number: u64,
    evicted: Arc<Notify>,
}

impl Handshake {
    /// Completes when this connection has to go.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn is_evicted(handshake: &Handshake) -> bool {
        handshake.evicted().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_goes_for_a_new_one() {
        let all = Handshakes::new(2);
        let (first, second) = (all.begin(), all.begin());
        drop(second);
        let third = all.begin();
        assert!(!is_evicted(&first) && !is_evicted(&third));
        let fourth = all.begin();
        assert!(is_evicted(&first));
        assert!(!is_evicted(&third) && !is_evicted(&fourth));
        assert!(all.evict());
        assert!(is_evicted(&third) && !is_evicted(&fourth));
        drop(fourth);
        assert!(!all.evict());
    }
}
