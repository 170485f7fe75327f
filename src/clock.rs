//! The only reader of the machine's clock. Everything below the shell gets the time as a value.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Timestamp;

/// The wall clock now. A clock set before 1970 reads as the epoch, at which every token is "not yet valid": closed.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    #[cfg(feature = "demo")]
    let now = now.plus(virtual_time::ahead());
    now
}

/// Time that tests let pass without waiting for it. Not in what ships.
#[cfg(feature = "demo")]
pub mod virtual_time {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    static AHEAD_MS: AtomicU64 = AtomicU64::new(0);

    pub(super) fn ahead() -> Duration {
        Duration::from_millis(AHEAD_MS.load(Ordering::Relaxed))
    }

    /// Moves the wall clock of the whole process ahead. Timers do not notice: `tokio::time::advance` moves those.
    pub fn advance(by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        AHEAD_MS.fetch_add(by, Ordering::Relaxed);
    }
}
