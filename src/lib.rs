//! natsentry: an identity-aware proxy between Microsoft Entra ID and NATS servers that cannot be changed.
//!
//! # The path of a byte
//!
//! ```text
//! accept   slot -> accept -> INFO/TLS -> CONNECT -> token -> roles -> permissions -> upstream   one deadline over all of it
//! serve    read -> frame -> decide -> permit -> write                            one task owns both streams
//! close    CloseReason -> (-ERR, INFO ldm or nothing) -> both closed -> Event -> metrics and audit -> slot returns
//! ```
//!
//! # Layers
//!
//! Imports go down only; `tests/layering.rs` checks it.
//!
//! | layer | modules | rule |
//! |---|---|---|
//! | L0 grammar | [`time`], `spread`, [`secret`], [`wire`], [`subject`] | bytes in, values out; no clock, no IO, no policy |
//! | L1 decisions | [`identity`], [`policy`], [`locks`] | values in, verdict out |
//! | L2 session | [`session`] | sans-IO state machine; time is an input |
//! | L3 adapters | `clock`, `loopback`, `http`, `tls`, `jwks`, `entra`, `upstream`, `revocation`, `metrics`, `audit` | async; know L0 to L2, never each other but `clock`, `loopback` and `http` |
//! | L4 composition | `config`, `server`, `admin`, `cli`, `demo` | the only place that joins adapters |
//!
//! # Words
//!
//! client (who connects to us), upstream (the NATS server behind us), session (one client bound to one upstream
//! connection), identity (who the token speaks for), role (a named set of grants), grant (what a role may do),
//! permit (leave for one operation), denial, revocation, lock (a standing ban with an end), drain.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::too_many_lines,
        reason = "tests spawn tasks, wait by the clock, and hold tables"
    )
)]

// L0: grammar
pub mod secret;
mod spread;
pub mod subject;
pub mod time;
pub mod wire;

// L1: decisions
pub mod identity;
pub mod locks;
pub mod policy;

// L2: session
pub mod session;

// L3: adapters
#[cfg(feature = "shell")]
pub mod audit;
#[cfg(feature = "shell")]
pub mod clock;
#[cfg(feature = "shell")]
pub mod entra;
#[cfg(feature = "shell")]
pub mod http;
#[cfg(feature = "shell")]
pub mod jwks;
#[cfg(feature = "shell")]
pub mod loopback;
#[cfg(feature = "shell")]
pub mod metrics;
#[cfg(feature = "shell")]
pub mod revocation;
#[cfg(feature = "shell")]
pub mod tls;
#[cfg(feature = "shell")]
pub mod upstream;

// L4: composition
#[cfg(feature = "shell")]
pub mod admin;
#[cfg(feature = "shell")]
pub mod cli;
#[cfg(feature = "shell")]
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
#[cfg(feature = "shell")]
pub mod server;
