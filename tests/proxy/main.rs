//! natsentry in front of real nats-servers: what goes through, what does not, and who sees what of it.
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

mod ahead;
mod balancer;
mod basics;
mod changes;
mod close;
mod cuts;
mod foreign_issuer;
mod groups;
mod half_close;
mod hostile_tokens;
mod inspect;
mod key_flood;
mod nats_cli;
mod outage;
mod policy_change;
mod refusals;
mod reload;
mod rollover;
mod secrets;
mod stream_config;
mod tls;
mod token;
mod vault;
