//! Dials against real nats-servers, and against servers that misbehave.
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
#![cfg(feature = "demo")]

mod ahead;
mod auth;
mod certificates;
mod early;
mod failures;
mod health;
mod jwt;
mod proxied;
mod support;
mod tls;
