//! A token bucket that answers overload with waiting: the client is not read until its budget is positive again.

use std::time::Duration;

use crate::time::Timestamp;

/// Tokens that refill at a steady rate, up to one second's worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    per_second: u64,
    /// In thousandths of a token, so that milliseconds refill exactly. Negative after a large payload.
    left: i64,
    updated: Timestamp,
}

impl Budget {
    pub(super) fn new(per_second: u64, now: Timestamp) -> Self {
        let per_second = per_second.max(1);
        Self {
            per_second,
            left: thousandths(per_second),
            updated: now,
        }
    }

    /// The budget for a rate that may be another than before. One that stays is kept with what is left of it.
    pub(super) fn at_rate(
        before: Option<Box<Self>>,
        rate: Option<u64>,
        now: Timestamp,
    ) -> Option<Box<Self>> {
        let fresh = Box::new(Self::new(rate?, now));
        before
            .filter(|before| before.per_second == fresh.per_second)
            .or(Some(fresh))
    }

    pub(super) fn spend(&mut self, tokens: u64) {
        self.left = self.left.saturating_sub(thousandths(tokens));
    }

    pub(super) const fn is_spent(&self) -> bool {
        self.left <= 0
    }

    /// Refills for the time since the last call.
    pub(super) fn refill(&mut self, now: Timestamp) {
        let elapsed = u64::try_from(now.since(self.updated).as_millis()).unwrap_or(u64::MAX);
        let gained = elapsed.saturating_mul(self.per_second);
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        self.left = self
            .left
            .saturating_add(gained)
            .min(thousandths(self.per_second));
        self.updated = now;
    }

    /// When it will be positive again.
    pub(super) fn positive_at(&self) -> Timestamp {
        let missing = u64::try_from(self.left.saturating_neg()).unwrap_or(0);
        let millis = (missing / self.per_second).saturating_add(1);
        self.updated.plus(Duration::from_millis(millis))
    }
}

fn thousandths(tokens: u64) -> i64 {
    i64::try_from(tokens.saturating_mul(1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_says_when_it_is_positive_again() {
        let start = Timestamp::from_millis(1_000);
        let mut budget = Budget::new(100, start);
        budget.spend(150);
        assert!(budget.is_spent());
        let again = budget.positive_at();
        assert_eq!(again.since(start), Duration::from_millis(501));
        budget.refill(again);
        assert!(!budget.is_spent());
    }

    #[test]
    fn it_never_holds_more_than_a_second() {
        let start = Timestamp::from_millis(0);
        let mut budget = Budget::new(10, start);
        budget.refill(Timestamp::from_secs(3600));
        budget.spend(10);
        assert!(budget.is_spent());
    }
}
