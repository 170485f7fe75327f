//! How fast sessions come: whether there were so many in the last second. Pure; time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// When the last [`MANY`] sessions came.
#[derive(Default)]
pub(super) struct Pace {
    latest: VecDeque<Instant>,
}

impl Pace {
    /// A session came. Gives whether with it there were [`MANY`] within [`SPAN`].
    pub(super) fn note(&mut self, now: Instant) -> bool {
        if self.latest.len() >= MANY {
            self.latest.pop_front();
        }
        self.latest.push_back(now);
        let first = self.latest.front().copied().unwrap_or(now);
        self.latest.len() == MANY && now.saturating_duration_since(first) <= SPAN
    }
}

/// Sessions in [`SPAN`] from which on they are many: one every 10 ms, so that links for the next few do not wait long.
pub(super) const MANY: usize = 100;

const SPAN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_in_a_second_are_many_and_a_quiet_second_begins_anew() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        let many: Vec<_> = (0..120).map(|n| pace.note(at(n * 10))).collect();
        assert_eq!(many.iter().position(|many| *many), Some(99));
        assert!(many[99..].iter().all(|many| *many));
        let slower: Vec<_> = (0..200).map(|n| pace.note(at(10_000 + n * 11))).collect();
        assert!(slower.iter().all(|many| !many));
        let burst: Vec<_> = (0..100).map(|_| pace.note(at(60_000))).collect();
        assert_eq!(burst.iter().position(|many| *many), Some(99));
        assert_eq!(pace.latest.len(), MANY);
    }
}
