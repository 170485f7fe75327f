//! The identity provider is dark for a day of virtual time. A program of its own, since the clock of the whole process
//! moves.
#![cfg(feature = "demo")]
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::large_futures,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may be loud, and reads the clock"
)]

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use natsentry::clock::virtual_time;
use natsentry::demo::servers::Version;

use support::proxy::{self, Proxy, STATIC_USER, Setup};
use support::servers;
use support::wire::{Wire, connect_line};

const HOUR: Duration = Duration::from_secs(3600);

/// Lets time pass: the wall clock and every timer, at once.
async fn pass(time: Duration) {
    tokio::time::pause();
    virtual_time::advance(time);
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits in real time.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain until {what}");
}

async fn failures(proxy: &Proxy) -> f64 {
    proxy
        .metric("natsentry_jwks_fetches_total", "result=\"failed\"")
        .await
}

#[tokio::test]
async fn an_issuer_that_is_dark_for_a_day_costs_nobody_a_no() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    // The keys of both versions; the metric has one line for each.
    let proxy = Proxy::start(&idp, &Setup::to(nats.port()).entra("  v1_tokens: false\n")).await;
    until("it is ready", async || proxy.get("/readyz").await.0 == 200).await;
    let long = proxy::short_token(&idp, "gateway", 27 * HOUR);
    let (mut before, _) = Wire::admitted(proxy.address, &long).await;
    idp.set_down(true);

    for hour in 1..=23 {
        let failed = failures(&proxy).await;
        pass(HOUR).await;
        // The first fetch may be due ten per cent later than after an hour.
        if hour > 1 {
            let what = format!("the issuer was asked in vain in hour {hour}, after {failed}");
            until(&what, async || failures(&proxy).await > failed).await;
        }
        let age = proxy.metric("natsentry_jwks_age_seconds", "").await;
        let expected = f64::from(hour) * 3600.0;
        assert!(
            (expected..expected + 600.0).contains(&age),
            "{age} after {hour} h"
        );
        // A token that was issued just now, with a key that was fetched before the dark.
        let token = proxy::token(&idp, "alice");
        drop(Wire::admitted(proxy.address, &token).await);
    }
    assert_eq!(proxy.get("/readyz").await.0, 200);
    let said = before.until_pong().await;
    assert!(
        said.iter().all(|line| line == "PING"),
        "a session of before goes on: {said:?}"
    );

    pass(HOUR).await;
    let token = proxy::token(&idp, "alice");
    let mut wire = Wire::connect(proxy.address).await;
    wire.line().await.expect("INFO");
    wire.send(&connect_line(&token, "")).await;
    wire.send("PING\r\n").await;
    assert_eq!(
        wire.rest().await,
        Vec::<String>::new(),
        "closed without a word"
    );
    assert_eq!(proxy.get("/readyz").await.0, 503);
    assert!(proxy.metric("natsentry_jwks_age_seconds", "").await >= 86_400.0);
    let said = before.until_pong().await;
    assert!(
        said.iter().all(|line| line == "PING"),
        "what serves, serves: {said:?}"
    );

    idp.set_down(false);
    until("it is ready again", async || {
        proxy.get("/readyz").await.0 == 200
    })
    .await;
    drop(Wire::admitted(proxy.address, &proxy::token(&idp, "alice")).await);
    drop(before);

    // A machine that was suspended for a day, or whose clock was set: timers have not noticed, and nobody has to ask.
    let fetched = proxy
        .metric("natsentry_jwks_fetches_total", "result=\"ok\"")
        .await;
    virtual_time::advance(25 * HOUR);
    until("keys of before are fetched anew", async || {
        let metric = "natsentry_jwks_fetches_total";
        proxy.metric(metric, "result=\"ok\"").await > fetched
    })
    .await;
    assert_eq!(proxy.get("/readyz").await.0, 200);
    drop(Wire::admitted(proxy.address, &proxy::token(&idp, "alice")).await);

    let folder = proxy.stop().await;
    let audit = std::fs::read_to_string(folder.path().join("audit.jsonl")).expect("the audit");
    let lines: Vec<serde_json::Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let not_judged: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "refused" || line["event"] == "postponed")
        .collect();
    assert_eq!(not_judged.len(), 1, "{not_judged:?}");
    assert_eq!(not_judged[0]["reason"], "key.unavailable");
    assert_eq!(not_judged[0]["verdict"], "not_now");
}
