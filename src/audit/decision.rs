//! The number of a decision: what a user is told to quote, and what finds the line in audit and log.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Unique over processes and restarts (48 random bits a process, then a counter). Prints as `5f0c9a3d2e1b-7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DecisionId {
    run: u64,
    number: u64,
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}-{:x}", self.run, self.number)
    }
}

/// Deals out ids.
pub(super) struct Decisions {
    run: u64,
    dealt: AtomicU64,
}

impl Decisions {
    pub(super) fn new() -> Self {
        // The standard library seeds its hash maps from the system's randomness. The id only has to be unique.
        let random = RandomState::new().hash_one("run");
        Self {
            run: random >> 16,
            dealt: AtomicU64::new(0),
        }
    }

    pub(super) fn next(&self) -> DecisionId {
        let number = self.dealt.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        DecisionId {
            run: self.run,
            number,
        }
    }
}
