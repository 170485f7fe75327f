//! What is down is told apart from what is refused, and everything comes back by itself.

use std::time::Duration;

use natsentry::demo::servers::{NatsServer, Version};

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::until::until_told;
use crate::support::wire::{Wire, connect_line};

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_closes_clients_without_a_word_and_is_back_within_two_seconds() {
    let idp = proxy::idp().await;
    let mut nats = servers::start(Version::V2_15_1, STATIC_USER);
    let port = nats.port();
    let proxy = Proxy::start(&idp, &Setup::to(port)).await;
    let token = proxy::token(&idp, "alice");
    let (mut live, _) = Wire::admitted(proxy.address, &token).await;
    nats.kill();
    assert!(
        live.rest()
            .await
            .iter()
            .all(|line| line.starts_with("INFO ")),
        "no -ERR"
    );
    until_told("not ready", Duration::from_secs(5), async || {
        proxy.get("/readyz").await.0 == 503
    })
    .await;
    let (_, body) = proxy.get("/readyz").await;
    assert!(body.contains("upstream plant"), "{body}");
    let mut wire = Wire::connect(proxy.address).await;
    wire.line().await.expect("INFO");
    wire.send(&connect_line(&token, "")).await;
    assert_eq!(wire.rest().await, Vec::<String>::new(), "silence");
    let binary = natsentry::demo::servers::find_or_install(Version::V2_15_1).expect("a server");
    let _back = NatsServer::start_at(&binary, STATIC_USER, port).expect("the same port");
    until_told("back", Duration::from_secs(2), async || {
        let mut wire = Wire::connect(proxy.address).await;
        wire.line().await.expect("INFO");
        wire.send(&connect_line(&token, "")).await;
        wire.send("PING\r\n").await;
        wire.line().await.as_deref() == Some("PONG")
    })
    .await;
    until_told("ready", Duration::from_secs(2), async || {
        proxy.get("/readyz").await.0 == 200
    })
    .await;
    drop(proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_provider_that_is_down_at_start_is_waited_for() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let token = proxy::token(&idp, "alice");
    idp.set_down(true);
    let proxy = Proxy::start(&idp, &Setup::to(nats.port())).await;
    until_told("told", Duration::from_secs(5), async || {
        let (status, body) = proxy.get("/readyz").await;
        status == 503 && body.contains("issuer")
    })
    .await;
    let mut wire = Wire::connect(proxy.address).await;
    wire.line().await.expect("INFO");
    wire.send(&connect_line(&token, "")).await;
    assert_eq!(wire.rest().await, Vec::<String>::new(), "not now is not no");
    idp.set_down(false);
    until_told("back", Duration::from_secs(3), async || {
        proxy.get("/readyz").await.0 == 200
    })
    .await;
    let (mut wire, _) = Wire::admitted(proxy.address, &token).await;
    assert!(wire.until_pong().await.is_empty());
    // From here on the keys are known: the provider may go away, and the proxy start anew.
    idp.set_down(true);
    Wire::admitted(proxy.address, &token).await;
    let folder = proxy.stop().await;
    let proxy = Proxy::start_in(folder, &idp, &Setup::to(nats.port())).await;
    Wire::admitted(proxy.address, &token).await;
    drop(proxy.stop().await);
}
