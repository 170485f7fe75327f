//! A new policy takes effect on live sessions: only what was lost is taken away.

use std::time::{Duration, Instant};

use natsentry::demo::servers::Version;

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::wire::Wire;

const BEFORE: &str = r#"
roles:
  operator:
    bind: [{ app_role: Nats.Operator }]
    upstream: plant
    publish: ["orders.>", "audit.>"]
    subscribe: ["orders.>", "audit.>"]
  reader:
    bind: [{ app_role: Nats.Reader }]
    upstream: plant
    subscribe: ["orders.>"]
"#;

const AFTER: &str = r#"
roles:
  operator:
    bind: [{ app_role: Nats.Operator }]
    upstream: plant
    publish: ["orders.>"]
    subscribe: ["orders.>"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_away_what_was_lost_and_nothing_else() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let proxy = Proxy::start(&idp, &Setup::to(nats.port()).roles(BEFORE)).await;
    let (mut alice, _) = Wire::admitted(proxy.address, &proxy::token(&idp, "alice")).await;
    let (mut bob, _) = Wire::admitted(proxy.address, &proxy::token(&idp, "bob")).await;
    alice.send("SUB orders.> 1\r\nSUB audit.> 2\r\n").await;
    assert!(alice.until_pong().await.is_empty());
    assert!(bob.until_pong().await.is_empty());
    let file = proxy.folder.path().join("natsentry.yaml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    // A file with a mistake changes nothing.
    std::fs::write(&file, text.replace("publish:", "publsh:")).expect("a new file");
    proxy::hang_up();
    wait_for(&proxy, "policy_rejected").await;
    alice.send("PUB audit.x 1\r\nx\r\n").await;
    assert_eq!(alice.until_pong().await, ["MSG audit.x 2 1", "x"]);
    std::fs::write(&file, text.replace(BEFORE, AFTER)).expect("a new file");
    proxy::hang_up();
    wait_for(&proxy, "policy_reloaded").await;
    assert_eq!(
        alice.answer().await.as_deref(),
        Some("-ERR 'Permissions Violation for Subscription to \"audit.>\" (sid \"2\")'")
    );
    alice
        .send("PUB audit.x 1\r\nx\r\nPUB orders.x 1\r\ny\r\n")
        .await;
    assert_eq!(
        alice.until_pong().await,
        [
            "-ERR 'Permissions Violation for Publish to \"audit.x\"'",
            "MSG orders.x 1 1",
            "y"
        ]
    );
    let lost = bob.rest().await;
    assert_eq!(
        lost.last().map(String::as_str),
        Some("-ERR 'Authorization Violation'"),
        "{lost:?}"
    );
    drop(proxy.stop().await);
}

async fn wait_for(proxy: &Proxy, event: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !proxy.audit().iter().any(|line| line["event"] == event) {
        assert!(Instant::now() < deadline, "no {event}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
