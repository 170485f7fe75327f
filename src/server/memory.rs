//! What all sessions together hold of what peers send, make us say or make us remember: `limits.memory`.
//!
//! Each session is bounded by itself, but their number times that bound fits no machine. So what they hold is counted, and
//! where it comes near the limit those that want more wait, or are ended where others wait for them. What every session may
//! have in any case is not counted: small buffers, a few subscriptions. So whoever asks for little notices nothing.
//!
//! | held of the limit | from there on |
//! |---|---|
//! | a half | no session may add subscriptions or answers of our own to more than [`Session::SMALL`]; no buffer is of the largest size |
//! | three quarters | no buffer is larger than the usual one; who needs one waits |
//! | all | buffers of [`SMALL_BUFFER`] only |
//!
//! Who holds a buffer for more than `limits.write_deadline` and its own part of half of that, waiting for its client, who brings less
//! meanwhile than the buffer holds, is ended where three quarters have no room for another one like it: somebody may be waiting for that.
//!
//! Threads count for themselves and settle now and then, so that no message costs a write to memory that they share.
//!
//! Must never: be asked per message, or keep a session from what it may have in any case.
//!
//! [`Session::SMALL`]: crate::session::Session::SMALL

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The buffer that every session may have in each direction, in bytes. It is not counted.
pub(super) const SMALL_BUFFER: usize = 4 * 1024;

/// What a thread counts before it settles, in bytes, either way.
const CHUNK: usize = 256 * 1024;

/// Threads that count apart from each other; more share.
const SHARDS: usize = 16;

/// A part of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// For what stays as long as its session likes, and for the largest buffers.
    Half,
    /// For more than the usual buffer.
    ThreeQuarters,
    /// For the usual buffer.
    All,
}

/// The count of one thread, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(AtomicIsize);

/// What all sessions hold.
#[derive(Debug)]
pub(super) struct Memory {
    limit: usize,
    patience: Duration,
    settled: AtomicIsize,
    shards: [Shard; SHARDS],
    refused: AtomicU64,
}

impl Memory {
    /// At most `limit` bytes; whoever holds much of it and waits for its client is let be for `patience`.
    pub(super) fn new(limit: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit,
            patience,
            settled: AtomicIsize::new(0),
            shards: Default::default(),
            refused: AtomicU64::new(0),
        })
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    pub(super) const fn patience(&self) -> Duration {
        self.patience
    }

    /// Bytes held, for whoever looks from outside.
    pub(super) fn used(&self) -> usize {
        let open = self
            .shards
            .iter()
            .map(|shard| shard.0.load(Ordering::Relaxed));
        let used = open.fold(self.settled.load(Ordering::Relaxed), isize::saturating_add);
        usize::try_from(used).unwrap_or(0)
    }

    /// How often a session was not given what it wanted.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether more than a share of the limit is held, as far as threads have settled.
    #[inline]
    pub(super) fn is_beyond(&self, share: Share) -> bool {
        !self.has_room_for(0, share)
    }

    /// Whether so many bytes more would stay within a share of the limit, likewise.
    #[inline]
    pub(super) fn has_room_for(&self, bytes: usize, share: Share) -> bool {
        let most = match share {
            Share::Half => self.limit / 2,
            Share::ThreeQuarters => self.limit / 4 * 3,
            Share::All => self.limit,
        };
        let used = usize::try_from(self.settled.load(Ordering::Relaxed)).unwrap_or(0);
        used.saturating_add(bytes) <= most
    }

    fn count(&self, change: isize) {
        let Some(shard) = self.shards.get(shard()) else {
            return;
        };
        let open = shard
            .0
            .fetch_add(change, Ordering::Relaxed)
            .saturating_add(change);
        if open.unsigned_abs() > CHUNK {
            let open = shard.0.swap(0, Ordering::Relaxed);
            self.settled.fetch_add(open, Ordering::Relaxed);
        }
    }
}

/// The shard of this thread.
fn shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
    }
    SHARD.get().unwrap_or_else(|| {
        let shard = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        SHARD.set(Some(shard));
        shard
    })
}

/// What one holder has of it; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Account {
    memory: Arc<Memory>,
    held: usize,
}

impl Account {
    pub(super) const fn new(memory: Arc<Memory>) -> Self {
        Self { memory, held: 0 }
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Counts `bytes` from here on in place of those before, whether there is room or not.
    pub(super) fn hold(&mut self, bytes: usize) {
        if bytes == self.held {
            return;
        }
        let signed = |bytes| isize::try_from(bytes).unwrap_or(isize::MAX);
        self.memory
            .count(signed(bytes).saturating_sub(signed(self.held)));
        self.held = bytes;
    }

    /// The same where there is room, or where it is less than before. Otherwise nothing changes.
    pub(super) fn try_hold(&mut self, bytes: usize, share: Share) -> bool {
        let more = bytes.saturating_sub(self.held);
        if more > 0 && !self.memory.has_room_for(more, share) {
            self.memory.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.hold(bytes);
        true
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.hold(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(limit: usize) -> Arc<Memory> {
        Memory::new(limit, Duration::from_secs(1))
    }

    #[test]
    fn what_is_held_is_counted_once_and_given_back() {
        let memory = memory(16 << 20);
        let mut one = Account::new(Arc::clone(&memory));
        let mut other = Account::new(Arc::clone(&memory));
        one.hold(1000);
        one.hold(5 << 20);
        other.hold(3000);
        assert_eq!(memory.used(), (5 << 20) + 3000);
        one.hold(4000);
        drop(other);
        assert_eq!(memory.used(), 4000);
        drop(one);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn shares_of_the_limit_are_refused_one_after_the_other() {
        let memory = memory(16 << 20);
        let mut large = Account::new(Arc::clone(&memory));
        large.hold(9 << 20);
        assert!(memory.is_beyond(Share::Half) && !memory.is_beyond(Share::ThreeQuarters));
        let mut one = Account::new(Arc::clone(&memory));
        assert!(!one.try_hold(4 << 20, Share::ThreeQuarters));
        assert_eq!(one.held, 0);
        assert!(one.try_hold(4 << 20, Share::All));
        assert!(!one.try_hold(12 << 20, Share::All));
        assert!(one.try_hold(1 << 20, Share::Half), "less than before");
        assert_eq!(memory.refused(), 2);
    }

    #[test]
    fn threads_settle_with_each_other() {
        let memory = memory(1 << 30);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut accounts = Vec::new();
                    for turn in 0..10_000_usize {
                        let mut account = Account::new(Arc::clone(&memory));
                        account.hold(turn % 100_000);
                        accounts.push(account);
                        if turn % 7 == 0 {
                            accounts.pop();
                        }
                    }
                });
            }
        });
        assert_eq!(memory.used(), 0);
        let open = memory.settled.load(Ordering::Relaxed).unsigned_abs();
        assert!(open <= CHUNK * SHARDS, "{open}");
    }
}
