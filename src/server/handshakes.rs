//! Connections that have not said CONNECT yet: how many there may be, and which of them has to go.
//!
//! Whoever opens connections and says nothing must not keep others out. So a new connection is never refused because of
//! those that wait: the one that has waited longest is closed for it. A client that means it is through in milliseconds.
//!
//! The same for those who begin a long CONNECT and do not end it: each holds a buffer, and buffers of strangers must not be
//! what `limits.memory` goes for, so of these there may be fewer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::spread;

/// Connections between accept and CONNECT.
#[derive(Debug)]
pub(super) struct Handshakes {
    max: usize,
    max_large: usize,
    waiting: Mutex<Waiting>,
}

/// In the order in which they were accepted.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    by_number: BTreeMap<u64, Arc<Notify>>,
    /// Those of them that hold a buffer.
    large: BTreeSet<u64>,
}

impl Waiting {
    fn remove(&mut self, number: u64) -> Option<Arc<Notify>> {
        self.large.remove(&number);
        self.by_number.remove(&number)
    }

    /// Tells one to go. False where it waits no more.
    fn evict(&mut self, number: u64) -> bool {
        let one = self.remove(number);
        one.map(|one| one.notify_one()).is_some()
    }

    /// Tells the oldest to go. False where nobody waits.
    fn evict_oldest(&mut self) -> bool {
        let oldest = self.by_number.first_key_value();
        let oldest = oldest.map(|(number, _)| *number);
        oldest.is_some_and(|oldest| self.evict(oldest))
    }
}

impl Handshakes {
    /// At most `max` of them, and `max_large` that hold a buffer; one of either in any case.
    pub(super) fn new(max: usize, max_large: usize) -> Arc<Self> {
        Arc::new(Self {
            max: max.max(1),
            max_large: max_large.max(1),
            waiting: Mutex::default(),
        })
    }

    /// Enters a connection just accepted; where there are too many, the oldest has to go. It leaves when it is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Handshake {
        let mut waiting = self.lock();
        let in_crowd = waiting.by_number.len() >= CROWD;
        while waiting.by_number.len() >= self.max && waiting.evict_oldest() {}
        let number = waiting.next;
        waiting.next = number.wrapping_add(1);
        let evicted = Arc::new(Notify::new());
        waiting.by_number.insert(number, Arc::clone(&evicted));
        Handshake {
            all: Arc::clone(self),
            number,
            in_crowd,
            evicted,
        }
    }

    /// Whether the next connection, or the next that holds a buffer, drives another one out.
    pub(super) fn is_full(&self) -> bool {
        let waiting = self.lock();
        waiting.by_number.len() >= self.max || waiting.large.len() >= self.max_large
    }

    /// Tells the oldest to go. False where nobody waits.
    pub(super) fn evict(&self) -> bool {
        self.lock().evict_oldest()
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
    /// Many waited already when it came.
    in_crowd: bool,
    evicted: Arc<Notify>,
}

impl Handshake {
    /// How much longer than `limit` this one may take. Nothing, but for crowds: those who came together would be thrown out
    /// together, and come back together, and sessions would wait behind them each time. So in a crowd each gets another
    /// part of half of the time.
    pub(super) fn grace(&self, limit: Duration) -> Duration {
        if !self.in_crowd {
            return Duration::ZERO;
        }
        spread::part(self.number, limit / 2)
    }

    /// Completes when this connection has to go.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Notes that this connection holds a buffer for what it has said so far; where too many do, the oldest of them has to
    /// go.
    pub(super) fn hold_buffer(&self) {
        let mut waiting = self.all.lock();
        if !waiting.by_number.contains_key(&self.number) || !waiting.large.insert(self.number) {
            return;
        }
        if waiting.large.len() > self.all.max_large
            && let Some(oldest) = waiting.large.first().copied()
        {
            waiting.evict(oldest);
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.lock().remove(self.number);
    }
}

/// As many that wait are a crowd.
const CROWD: usize = 256;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn is_evicted(handshake: &Handshake) -> bool {
        handshake.evicted().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_goes_for_a_new_one() {
        let all = Handshakes::new(2, 2);
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

    #[test]
    fn a_crowd_that_comes_together_does_not_end_together() {
        let all = Handshakes::new(10_000, 2);
        let limit = Duration::from_secs(5);
        let first: Vec<_> = (0..CROWD).map(|_| all.begin()).collect();
        assert!(first.iter().all(|one| one.grace(limit).is_zero()));
        let crowd: Vec<_> = (0..4000).map(|_| all.begin()).collect();
        let mut tenths = [0_u32; 25];
        for one in &crowd {
            let grace = one.grace(limit);
            assert!(grace <= limit / 2, "{grace:?}");
            let tenth = usize::try_from(grace.as_millis() / 100).unwrap();
            tenths[tenth.min(24)] += 1;
        }
        assert!(
            tenths.iter().all(|count| (150..170).contains(count)),
            "{tenths:?}"
        );
        drop((first, crowd));
        assert!(all.begin().grace(limit).is_zero());
    }

    #[test]
    fn the_oldest_that_holds_a_buffer_goes_for_another_one() {
        let all = Handshakes::new(10, 2);
        let (silent, first) = (all.begin(), all.begin());
        let (second, third) = (all.begin(), all.begin());
        for _ in 0..3 {
            first.hold_buffer();
            third.hold_buffer();
        }
        assert!(!is_evicted(&first) && !is_evicted(&third));
        second.hold_buffer();
        assert!(is_evicted(&first), "the one that came first");
        first.hold_buffer();
        assert!(!is_evicted(&silent) && !is_evicted(&second) && !is_evicted(&third));
        drop(second);
        let fourth = all.begin();
        fourth.hold_buffer();
        assert!(!is_evicted(&third), "the second is through");
    }
}
