//! The close discipline on the wire, row by row. How official clients take it is shown with the real ones.

use std::time::Duration;

use natsentry::demo::idp::TokenRequest;
use natsentry::demo::servers::Version;

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::wire::{Wire, connect_line};

const ROLES: &str = r#"
roles:
  operator:
    bind: [{ app_role: Nats.Operator }]
    upstream: plant
    publish: ["orders.>"]
    subscribe: ["orders.>"]
    limits: { connections: 2, payload: 1KiB, subscriptions: 3 }
"#;

/// INFO, then everything until the end.
async fn said_to(proxy: &Proxy, connect: &str) -> Vec<String> {
    let mut wire = Wire::connect(proxy.address).await;
    wire.line().await.expect("INFO");
    wire.send(connect).await;
    wire.rest().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_is_said_only_when_it_is_no() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let proxy = Proxy::start(&idp, &Setup::to(nats.port()).roles(ROLES)).await;
    let mint = |request: TokenRequest| idp.mint(&request).expect("a token");
    let violation = ["-ERR 'Authorization Violation'"];
    for token in [
        mint(TokenRequest::of("mallory")),
        mint(TokenRequest::of("bob")),
        mint(TokenRequest::of("alice").claim("exp", 1_700_000_000)),
        mint(TokenRequest::of("alice").claim("aud", "https://graph.microsoft.com")),
        format!("{}A", proxy::token(&idp, "alice")),
    ] {
        assert_eq!(said_to(&proxy, &connect_line(&token, "")).await, violation);
    }
    let alice = proxy::token(&idp, "alice");
    assert_eq!(
        said_to(&proxy, &connect_line(&alice, ",\"account\":\"X\"")).await,
        violation
    );
    // A limit is "not now": the third connection of one identity is closed without a word.
    let (mut first, _) = Wire::admitted(proxy.address, &alice).await;
    let (second, _) = Wire::admitted(proxy.address, &alice).await;
    assert_eq!(
        said_to(&proxy, &connect_line(&alice, "")).await,
        Vec::<String>::new()
    );
    drop(second);
    assert!(first.until_pong().await.is_empty());
    drop(proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_keeps_the_session_and_a_denied_request_fails_at_once() {
    let idp = proxy::idp().await;
    for (version, status) in [
        (Version::V2_9_10, "HMSG _INBOX.abcdefghijklmnop.1 9 16 16"),
        (Version::V2_15_1, "HMSG _INBOX.abcdefghijklmnop.1 9 40 40"),
    ] {
        let nats = servers::start(version, STATIC_USER);
        let proxy = Proxy::start(&idp, &Setup::to(nats.port()).roles(ROLES)).await;
        let (mut wire, _) = Wire::admitted(proxy.address, &proxy::token(&idp, "alice")).await;
        wire.send("SUB _INBOX.abcdefghijklmnop.* 9\r\n").await;
        wire.send("PUB svc.call _INBOX.abcdefghijklmnop.1 2\r\nhi\r\n")
            .await;
        let lines = wire.until_pong().await;
        assert_eq!(
            lines[0],
            "-ERR 'Permissions Violation for Publish to \"svc.call\"'"
        );
        assert_eq!(lines[1], status);
        wire.send("SUB other 1\r\nSUB other q 2\r\n").await;
        let lines = wire.until_pong().await;
        assert_eq!(
            lines,
            [
                "-ERR 'Permissions Violation for Subscription to \"other\"'",
                "-ERR 'Permissions Violation for Subscription to \"other\" using queue \"q\"'",
            ]
        );
        wire.send("SUB orders.a 3\r\nPUB orders.a 2\r\nhi\r\n")
            .await;
        assert_eq!(wire.until_pong().await, ["MSG orders.a 3 2", "hi"]);
        wire.send("SUB orders.b 4\r\nSUB orders.c 5\r\n").await;
        assert_eq!(
            wire.until_pong().await,
            ["-ERR 'maximum subscriptions exceeded'"]
        );
        drop(proxy.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_input_gets_the_servers_own_answer() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let roles = ROLES.replace("connections: 2, ", "");
    let proxy = Proxy::start(&idp, &Setup::to(nats.port()).roles(&roles)).await;
    let token = proxy::token(&idp, "alice");
    for (input, answer) in [
        ("FOO\r\n", Some("-ERR 'Unknown Protocol Operation'")),
        (
            "PUB orders.a 2\r\nhixx",
            Some("-ERR 'Unknown Protocol Operation'"),
        ),
        (
            "PUB orders.a\r 22\r\n",
            Some("-ERR 'Unknown Protocol Operation'"),
        ),
        (
            "PUB orders.a 1025\r\n",
            Some("-ERR 'Maximum Payload Violation'"),
        ),
        ("PUB orders.a\r\n", None),
        ("SUB orders.a\r\n", None),
        ("PUB orders.a 0000000001\r\n", None),
        ("-ERR 'x'\r\n", None),
    ] {
        let (mut wire, _) = Wire::admitted(proxy.address, &token).await;
        wire.send(input).await;
        let lines: Vec<_> = wire
            .rest()
            .await
            .into_iter()
            .filter(|line| !line.starts_with("INFO "))
            .collect();
        assert_eq!(lines, answer.into_iter().collect::<Vec<_>>(), "{input:?}");
    }
    let long = format!("SUB {} 1\r\n", "a".repeat(5000));
    let (mut wire, _) = Wire::admitted(proxy.address, &token).await;
    wire.send(&long).await;
    assert_eq!(
        wire.answer().await.as_deref(),
        Some("-ERR 'maximum control line exceeded'")
    );
    drop(proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_and_drain_announce_themselves_and_say_no_error() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let mut proxy = Proxy::start(&idp, &Setup::to(nats.port()).roles(ROLES)).await;
    let short = proxy::short_token(&idp, "alice", Duration::from_secs(3));
    let (mut expiring, _) = Wire::admitted(proxy.address, &short).await;
    let lines = expiring.rest().await;
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("INFO ") || line == "PING"),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.contains("\"ldm\":true")),
        "{lines:?}"
    );
    let (mut draining, _) = Wire::admitted(proxy.address, &proxy::token(&idp, "alice")).await;
    draining
        .send("SUB orders.a 1\r\nPUB orders.a 1\r\nx\r\n")
        .await;
    proxy.begin_drain();
    let lines = draining.rest().await;
    assert!(
        lines.iter().any(|line| line == "MSG orders.a 1 1"),
        "nothing is lost: {lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.contains("\"ldm\":true")),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.starts_with("-ERR")),
        "{lines:?}"
    );
    let reasons: Vec<_> = proxy
        .audit()
        .iter()
        .filter(|line| line["event"] == "closed")
        .map(|line| line["reason"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(reasons.contains(&"expired".to_owned()), "{reasons:?}");
    drop(proxy.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sent_before_it_left_is_not_lost() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let proxy = Proxy::start(&idp, &Setup::to(nats.port())).await;
    let token = proxy::token(&idp, "alice");
    let (mut listener, _) = Wire::admitted(proxy.address, &token).await;
    listener.send("SUB left.> 1\r\n").await;
    assert!(listener.until_pong().await.is_empty());
    let (mut leaver, _) = Wire::admitted(proxy.address, &token).await;
    let mut burst = String::new();
    for number in 0..2000 {
        burst.push_str(&format!("PUB left.{number} 4\r\nlast\r\n"));
    }
    leaver.send(&burst).await;
    drop(leaver);
    for number in 0..2000 {
        assert_eq!(
            listener.answer().await,
            Some(format!("MSG left.{number} 1 4"))
        );
        assert_eq!(listener.answer().await.as_deref(), Some("last"));
    }
    drop(proxy.stop().await);
}
