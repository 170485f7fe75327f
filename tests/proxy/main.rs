//! natsentry in front of real nats-servers: what goes through, what does not, and who sees what of it.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, has no task tracker, and may look at the clock"
)]

#[path = "../support/mod.rs"]
mod support;

mod basics;
mod outage;
mod secrets;
mod tls;
