//! How a task that still has much to do lets others run.

use std::pin::pin;
use std::task::Context;

/// Has the task polled again after others, those included whom the kernel has news for by then: a task that wakes itself is
/// polled sixty times before tokio asks the kernel, and each of these may take a millisecond. To be followed by `Pending`.
pub(super) fn give_way(cx: &mut Context<'_>) {
    // Whoever yields is pending once, and woken after the kernel was asked.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}
