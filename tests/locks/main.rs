//! An operator's locks through the real program, before real nats-servers.
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
    reason = "a test may be loud, and reads the clock"
)]

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod commands;
mod file;
mod many;
mod selectors;
mod world;
