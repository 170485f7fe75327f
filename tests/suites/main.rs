//! The official client suites through natsentry. One program in three roles, by how it is called:
//!
//! - as `nats-server` (a link of that name): the stand-in, which looks like nats-server and has natsentry inside;
//! - with `suite <name> <checkout>`: the runner, which runs a suite directly and through the stand-in and compares;
//! - otherwise: checks that the stand-in works. That is what `cargo test` runs.
//!
//! `README.md` beside this file says what the stand-in does to a connection, and what came of the suites.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::large_futures,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may be loud, and reads the clock"
)]

mod checks;
mod runner;
mod stand_in;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args();
    let called = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    if Path::new(&called)
        .file_name()
        .is_some_and(|name| name == stand_in::NAME)
    {
        return stand_in::run(&words);
    }
    match words.first().map(String::as_str) {
        Some("suite") => runner::run(&words[1..]),
        _ => checks::run(&words),
    }
}
