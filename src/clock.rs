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
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
