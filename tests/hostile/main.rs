//! A second reader at work: attempts to get one forbidden message through, in or out, by every way that the wire offers, with
//! real bytes against natsentry in front of real servers. The table in `deploy/design` says what was tried; this runs it.
//!
//! The judge is not natsentry: a subscriber on `>` that is connected to the server itself sees what came in, and messages that a
//! second client publishes there, marked as forbidden, show what came out.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::large_futures,
    clippy::panic,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may be loud"
)]

#[path = "../support/mod.rs"]
mod support;

mod attempts;
mod stage;
mod table;

use natsentry::demo::servers::Version;

use attempts::{Attempt, all};
use stage::Stage;

async fn run(version: Version) {
    let stage = Stage::set(version).await;
    stage.the_judge_can_see().await;
    let mut breaches = Vec::new();
    let mut played = 0;
    for attempt in all() {
        for cut in attempt.cuts() {
            played += 1;
            if let Err(breach) = stage.play(&attempt, cut).await {
                breaches.push(format!("{} (cut at {cut}): {breach}", attempt.name));
            }
        }
    }
    println!(
        "{version:?}: {played} conversations, {} attempts",
        all().len()
    );
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_forbidden_gets_through_on_2_15() {
    run(Version::V2_15_1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_forbidden_gets_through_on_2_9() {
    run(Version::V2_9_10).await;
}

#[test]
fn the_table_names_every_attempt() {
    table::compare(&all().iter().map(Attempt::row).collect::<Vec<_>>());
}
