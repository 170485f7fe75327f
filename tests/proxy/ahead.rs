//! Links dialled ahead, from the side of clients: who is not admitted causes none.

use futures_util::future::join_all;
use natsentry::demo::servers::{NatsServer, Version};

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup, http_get};
use crate::support::servers;
use crate::support::wire::{Wire, connect_line};

/// Connections that the server ever took.
async fn taken(nats: &NatsServer) -> u64 {
    let monitor = ([127, 0, 0, 1], nats.monitor_port()).into();
    let (_, body) = http_get(monitor, "/varz").await;
    let varz: serde_json::Value = serde_json::from_str(&body).unwrap();
    varz["total_connections"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_tokens_cause_no_link_however_many_come() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::LATEST, STATIC_USER);
    let proxy = Proxy::start(&idp, &Setup::to(nats.port())).await;
    let good = proxy::token(&idp, "alice");
    let mut bad = good.clone();
    bad.replace_range(bad.len() - 8.., "AAAAAAAA");
    // An admitted one, so that there is an upstream to dial ahead to.
    let (_alice, _) = Wire::admitted(proxy.address, &good).await;
    let before = taken(&nats).await;
    for _ in 0..10 {
        let refused = (0..30).map(|_| async {
            let mut wire = Wire::connect(proxy.address).await;
            wire.send(&connect_line(&bad, "")).await;
            wire.send("PING\r\n").await;
            let heard = wire.rest().await;
            assert!(
                heard.iter().any(|line| line.contains("Authorization")),
                "{heard:?}"
            );
        });
        join_all(refused).await;
    }
    let ahead = |name: &'static str| proxy.metric(name, "plant");
    assert_eq!(ahead("natsentry_upstream_links_ahead_total").await, 0.0);
    assert_eq!(ahead("natsentry_upstream_links_ahead").await, 0.0);
    // A probe may have come by, which is a connection of ours and has nothing to do with them.
    let more = taken(&nats).await - before;
    assert!(more <= 10, "{more} connections");
    drop(proxy.stop().await);
}
