//! natsentry in front of real nats-servers: what goes through, what does not, and who sees what of it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod basics;
mod outage;
mod secrets;
mod tls;
