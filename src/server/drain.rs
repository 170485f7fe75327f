//! Drain: every session gets its notice and its end; whoever is still there when the time is over is cut.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Shared, act, end_all};
use crate::audit::ActKind;
use crate::session::CloseReason;

/// How often the table is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Ends all sessions. Takes at most `limits.drain` and a moment.
pub(super) async fn run(shared: &Shared) {
    shared.draining.store(true, Ordering::Relaxed);
    shared.metrics.set_draining(true);
    shared.upstreams.drain();
    let live = shared.sessions.len();
    tracing::info!(sessions = live, "draining");
    act(
        shared,
        ActKind::Draining,
        "process",
        &format!("{live} sessions"),
    )
    .await;
    end_all(shared, CloseReason::Drained);
    wait(shared, shared.drain_time).await;
    let left = shared.sessions.len();
    if left > 0 {
        tracing::warn!(sessions = left, "the time to drain is over; cutting");
        end_all(shared, CloseReason::Killed);
        wait(shared, Duration::from_secs(3)).await;
    }
}

async fn wait(shared: &Shared, within: Duration) {
    let deadline = Instant::now() + within;
    while shared.sessions.len() > 0 && Instant::now() < deadline {
        sleep(LOOK).await;
    }
}
