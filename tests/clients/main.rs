//! Real client libraries against real servers, operation by operation.
//!
//! # The contract with the client programs
//!
//! Each program is started with one argument, `permitted`, `refused`, `expiring` or `brief`, and reads
//! - `NATS_URL`: where to connect; may carry `user:password@`, and be `tls://`;
//! - `NATS_CA`, optional: the certificate to trust, in PEM;
//! - `PATIENCE`: how many seconds an operation may take;
//! - `TOKEN_URL`, optional: GET it for a fresh token. It has to be called from the library's own token callback, on
//!   the first connect and on every reconnect.
//!
//! It prints one JSON line for each operation, `{"op": .., "ok": .., "detail": ..}`, and where it is ready to lose its
//! connection `{"ready": "reconnect"}`. `permitted` performs everything that [`estate::PERMITTED`] lists; `refused`
//! performs the same calls outside the role, `ok` when the library showed a violation, whose text is in `detail`, then
//! a permitted operation on the same connection (`alive`), and says whether it never lost it (`same_session`).
//! `expiring` does the few of [`estate::EXPIRING`], and its connection is ended by the end of its token, or by its server
//! going into lame duck mode. `brief` does those of [`estate::BRIEF`], over TLS or with a password.
//!
//! Every expectation is first held against nats-server itself, with its own users and permissions: what passes there
//! and fails through the proxy is the proxy's doing.
//!
//! `cargo test` runs every client on the oldest and the newest server of those that all tests know.
//! `NATSENTRY_MATRIX=full cargo test --test clients the_table` runs all of them on all of [`servers::Server`] and writes
//! `tests/matrix/README.md`.
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

mod cli_client;
mod driver;
mod estate;
mod matrix;
mod program;
mod report;
mod rust_client;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod target;

use std::time::Duration;

use driver::Mode;
use natsentry::demo::servers::Version;
use program::Client;
use target::Target;

/// The whole matrix of one client on one server, without a proxy between them.
fn holds_directly(client: Client, version: Version) {
    if !version.is_offered_here() {
        println!("not run: {version} is not offered to this machine");
        return;
    }
    let role = Target::role(version.into());
    if !driver::check(client, &role, Mode::Refused) {
        return;
    }
    driver::check(client, &role, Mode::Permitted);
    let token = Target::token(version.into());
    driver::check(client, &token, Mode::Permitted);
    assert!(
        token.tokens_handed_out() >= 2,
        "{client}: no fresh token for the reconnect"
    );
}

/// The same through natsentry, and what only a proxy does: the end of a token.
fn holds_through_the_proxy(client: Client, version: Version) {
    if !version.is_offered_here() {
        println!("not run: {version} is not offered to this machine");
        return;
    }
    let target = Target::proxied(version.into(), HOUR);
    if !driver::check(client, &target, Mode::Refused) {
        return;
    }
    driver::check(client, &target, Mode::Permitted);
    assert!(
        target.tokens_handed_out() >= 3,
        "{client}: no fresh token for the reconnect"
    );
    if client != Client::NatsCli {
        driver::check(
            client,
            &Target::proxied(version.into(), SHORT),
            Mode::Expiring,
        );
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// Long enough to connect on a machine that is busy, short enough to wait for.
const SHORT: Duration = Duration::from_secs(6);

/// Runs everything and writes the table anew with `NATSENTRY_MATRIX=full`, or what it names of the servers; otherwise
/// looks whether the table is there and names what is run.
#[test]
fn the_table_is_what_was_run() {
    match std::env::var("NATSENTRY_MATRIX") {
        Ok(chosen) => matrix::run_and_write(&chosen),
        Err(_) => matrix::names_everything(),
    }
}

macro_rules! matrix {
    ($($client:ident on $version:ident: $directly:ident, $through:ident;)*) => {$(
        #[test]
        fn $directly() {
            holds_directly(Client::$client, Version::$version);
        }

        #[test]
        fn $through() {
            holds_through_the_proxy(Client::$client, Version::$version);
        }
    )*};
}

matrix! {
    AsyncNats on V2_9_10: async_nats_works_with_2_9_10, async_nats_works_through_natsentry_with_2_9_10;
    AsyncNats on V2_15_1: async_nats_works_with_2_15_1, async_nats_works_through_natsentry_with_2_15_1;
    NatsPy on V2_9_10: nats_py_works_with_2_9_10, nats_py_works_through_natsentry_with_2_9_10;
    NatsPy on V2_15_1: nats_py_works_with_2_15_1, nats_py_works_through_natsentry_with_2_15_1;
    NatsJs on V2_9_10: nats_js_works_with_2_9_10, nats_js_works_through_natsentry_with_2_9_10;
    NatsJs on V2_15_1: nats_js_works_with_2_15_1, nats_js_works_through_natsentry_with_2_15_1;
    NatsGo on V2_9_10: nats_go_works_with_2_9_10, nats_go_works_through_natsentry_with_2_9_10;
    NatsGo on V2_15_1: nats_go_works_with_2_15_1, nats_go_works_through_natsentry_with_2_15_1;
    NatsCli on V2_9_10: nats_cli_works_with_2_9_10, nats_cli_works_through_natsentry_with_2_9_10;
    NatsCli on V2_15_1: nats_cli_works_with_2_15_1, nats_cli_works_through_natsentry_with_2_15_1;
    NatsC on V2_9_10: nats_c_works_with_2_9_10, nats_c_works_through_natsentry_with_2_9_10;
    NatsC on V2_15_1: nats_c_works_with_2_15_1, nats_c_works_through_natsentry_with_2_15_1;
    NatsJava on V2_9_10: nats_java_works_with_2_9_10, nats_java_works_through_natsentry_with_2_9_10;
    NatsJava on V2_15_1: nats_java_works_with_2_15_1, nats_java_works_through_natsentry_with_2_15_1;
}
