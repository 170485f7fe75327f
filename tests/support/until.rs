//! Waiting for what nobody tells of.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// How often somebody is asked.
const ASK: Duration = Duration::from_millis(20);

/// Waits until `holds`, and fails when it does not `within` that time.
pub async fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    every(LOOK, what, within, async || holds()).await;
}

/// The same of what takes a question to somebody.
pub async fn until_told(what: &str, within: Duration, holds: impl AsyncFnMut() -> bool) {
    every(ASK, what, within, holds).await;
}

async fn every(
    pause: Duration,
    what: &str,
    within: Duration,
    mut holds: impl AsyncFnMut() -> bool,
) {
    let deadline = Instant::now() + within;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not in time");
        sleep(pause).await;
    }
}
