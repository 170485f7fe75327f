//! Waiting for what nobody tells of.

use std::time::Duration;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until `holds`, and fails when it does not `within` that time.
pub async fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + within;
    while !holds() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what}: not in time"
        );
        tokio::time::sleep(LOOK).await;
    }
}
