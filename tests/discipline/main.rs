//! The close discipline, row by row, as official clients take it: who ends, who stays, who comes back.
//!
//! Malformed input is the one row that no official client can produce; it is held on the wire in `tests/proxy/close.rs`.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::large_futures,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and looks at the clock"
)]

mod observer;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use natsentry::demo::idp::{DevIdp, TokenRequest};
use natsentry::demo::servers::{NatsServer, Version, find_or_install};

use observer::{Library, Observer};
use support::cli;
use support::proxy::{self, Proxy, STATIC_USER, Setup};
use support::servers;
use support::tokens::TokenServer;

const ROLES: &str = r#"
roles:
  operator:
    bind: [{ app_role: Nats.Operator }]
    upstream: plant
    publish: ["orders.>"]
    subscribe: ["orders.>"]
"#;

/// The same identity has no role any more.
const NO_ROLES: &str = r#"
roles:
  other:
    bind: [{ app_role: Nats.Nobody }]
    upstream: plant
    publish: ["orders.>"]
"#;

/// Long enough to connect on a busy machine.
const SHORT: Duration = Duration::from_secs(8);

const HOUR: Duration = Duration::from_secs(3600);

/// Tokens of alice: the first one short, the others for an hour; or always spoilt.
fn tokens(idp: &Arc<DevIdp>, spoilt: bool) -> TokenServer {
    let (idp, first) = (Arc::clone(idp), AtomicBool::new(true));
    TokenServer::start(move || {
        let lifetime = if first.swap(false, Ordering::AcqRel) {
            SHORT
        } else {
            HOUR
        };
        let request = TokenRequest::of("alice").lifetime(lifetime);
        let token = idp.mint(&request).expect("alice is known");
        if spoilt { format!("{token}A") } else { token }
    })
}

async fn every_row(library: Library) {
    let idp = Arc::new(proxy::idp().await);
    let mut nats = servers::start(Version::V2_15_1, STATIC_USER);
    let mut setup = Setup::to(nats.port()).roles(ROLES);
    let proxy = Proxy::start(&idp, &setup).await;
    setup.port = proxy.address.port();
    let url = format!("nats://{}", proxy.address);

    // Token bad: the client is told no, and ends.
    let spoilt = tokens(&idp, true);
    let refused = Observer::start(library, &url, &spoilt.url(), 2);
    refused.expect(&["failed"], &["connected"]).await;

    // Operation denied: told, and the session is kept. A denied request fails at once.
    let tokens = tokens(&idp, false);
    let client = Observer::start(library, &url, &tokens.url(), -1);
    client
        .expect(
            &["connected", "error", "request"],
            &["disconnected", "closed"],
        )
        .await;
    let error = client.detail("error").to_lowercase();
    assert!(
        error.contains("permissions violation for publish to \"forbidden.plan\""),
        "{error}"
    );
    assert_eq!(client.detail("request"), "failed fast");

    // Token expired: the connection ends, and the client is back with a fresh token.
    client
        .expect(&["disconnected", "reconnected"], &["closed", "refusal"])
        .await;

    // Upstream gone: closed without an error; back when it is.
    client.forget();
    nats.kill();
    client
        .expect(&["disconnected"], &["closed", "refusal"])
        .await;
    let binary = find_or_install(Version::V2_15_1).expect("a server");
    let _nats = NatsServer::start_at(&binary, STATIC_USER, nats.port()).expect("the same port");
    client
        .expect(&["reconnected"], &["closed", "refusal"])
        .await;

    // Drain, and after it an Entra that cannot be reached: still no error, and back when it can be.
    client.forget();
    idp.set_down(true);
    drop(proxy.stop().await);
    let proxy = Proxy::start(&idp, &setup).await;
    client
        .expect(&["disconnected"], &["closed", "refusal"])
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    client
        .expect(&[], &["reconnected", "closed", "refusal"])
        .await;
    idp.set_down(false);
    client
        .expect(&["reconnected"], &["closed", "refusal"])
        .await;

    // No role any more: the client is told no.
    client.forget();
    let file = proxy.folder.path().join("natsentry.yaml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, text.replace(ROLES, NO_ROLES)).expect("a new one");
    proxy::hang_up();
    client.expect(library.ends_with(), &[]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.expect(&[], &["reconnected"]).await;
    client.stop();

    std::fs::write(&file, &text).expect("the one of before");
    proxy::hang_up();
    reloaded(&proxy, 2).await;
    let client = Observer::start(library, &url, &tokens.url(), -1);
    locked_out(&proxy, client, library).await;
    drop(proxy.stop().await);
}

/// Locked out: the session is cut, and whoever comes back for it is told no.
async fn locked_out(proxy: &Proxy, client: Observer, library: Library) {
    client.expect(&["connected"], &[]).await;
    client.forget();
    let mut command = cli::natsentry(proxy.folder.path());
    let alice = "aaaaaaaa-0000-4000-8000-000000000001";
    command.args(["lock", "-c", "natsentry.yaml", "--oid", alice]);
    let ran = tokio::task::spawn_blocking(move || cli::run(&mut command, b"")).await;
    assert_eq!(ran.expect("no panic").code, Some(0));
    client.expect(library.ends_with(), &["reconnected"]).await;
    client.stop();
}

/// Waits until the file was read anew so many times.
async fn reloaded(proxy: &Proxy, times: usize) {
    let reloads = || {
        let audit = proxy.audit();
        let of_reload = audit
            .iter()
            .filter(|line| line["event"] == "policy_reloaded");
        of_reload.count()
    };
    while reloads() < times {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_py_ends_or_comes_back_as_the_table_says() {
    every_row(Library::NatsPy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_js_ends_or_comes_back_as_the_table_says() {
    every_row(Library::NatsJs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn async_nats_ends_or_comes_back_as_the_table_says() {
    every_row(Library::AsyncNats).await;
}
