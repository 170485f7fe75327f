//! What a hostile peer can make natsentry hold, and what others notice of it: the real program between a real nats-server and
//! attackers on loopback. Under each attack the resident memory stays below a figure that the README states, a well-behaved
//! client goes on as before, and afterwards everything is counted down to it.
//!
//! `NATSENTRY_ATTACKS=full cargo test --release --test limits -- --nocapture` runs them at full size and holds the p99
//! of the well-behaved client to twice its quiet value; without it they are small, and latency has more room, since
//! machines that test are busy.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::large_futures,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may be loud, and reads the clock"
)]

#[path = "../support/mod.rs"]
mod support;

mod attackers;
mod full;
mod handshakes;
mod honest;
mod loops;
mod sessions;
mod talk;
mod together;
mod under;
mod world;

/// Whether the attacks run at full size.
fn is_full() -> bool {
    std::env::var("NATSENTRY_ATTACKS").is_ok_and(|size| size == "full")
}

/// `small` in an ordinary run, `full` at full size.
fn size(small: usize, full: usize) -> usize {
    if is_full() { full } else { small }
}
