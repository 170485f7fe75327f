//! Behind a balancer that says by a PROXY protocol header who connects.

use natsentry::demo::servers::Version;

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::wire::{Wire, connect_line};

const V2: [u8; 28] = [
    0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A, 0x21, 0x11, 0x00, 0x0C,
    203, 0, 113, 9, 10, 0, 0, 1, 0x04, 0xD2, 0x10, 0x7E,
];

async fn with_header(proxy: &Proxy, token: &str, header: &[u8]) -> Vec<String> {
    let mut wire = Wire::connect(proxy.address).await;
    wire.send_bytes(header).await;
    let Some(info) = wire.line().await else {
        return Vec::new();
    };
    wire.send(&connect_line(token, "")).await;
    wire.send("PING\r\n").await;
    let answer = wire.line().await;
    vec![info, answer.unwrap_or_default()]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_in_the_header_is_the_clients() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let token = proxy::token(&idp, "alice");
    for mode in ["accept", "require"] {
        let listen = format!("  proxy_protocol: {{ mode: {mode}, trusted: [127.0.0.0/8] }}\n");
        let proxy = Proxy::start(&idp, &Setup::to(nats.port()).listen(&listen)).await;
        for header in [&V2[..], b"PROXY TCP4 203.0.113.9 10.0.0.1 1234 4222\r\n"] {
            let lines = with_header(&proxy, &token, header).await;
            assert!(
                lines[0].contains("\"client_ip\":\"203.0.113.9\""),
                "{lines:?}"
            );
            assert_eq!(lines[1], "PONG");
        }
        let plain = with_header(&proxy, &token, b"").await;
        if mode == "accept" {
            assert!(
                plain[0].contains("\"client_ip\":\"127.0.0.1\""),
                "{plain:?}"
            );
        }
        assert_eq!(
            with_header(&proxy, &token, b"PROXY TCP4 nonsense\r\n").await,
            [""; 0]
        );
        assert!(
            proxy
                .audit()
                .iter()
                .any(|line| line.to_string().contains("203.0.113.9:1234")),
            "the audit names the client, not the balancer"
        );
        drop(proxy.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_may_say_who_they_are() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let token = proxy::token(&idp, "alice");
    for (mode, expected) in [("accept", 2), ("require", 0)] {
        let listen = format!("  proxy_protocol: {{ mode: {mode}, trusted: [192.0.2.0/24] }}\n");
        let proxy = Proxy::start(&idp, &Setup::to(nats.port()).listen(&listen)).await;
        let lines = with_header(&proxy, &token, b"").await;
        assert_eq!(lines.len(), expected, "{lines:?}");
        let forged = with_header(&proxy, &token, &V2).await;
        assert!(
            !forged
                .iter()
                .any(|line| line.contains("203.0.113.9") || line == "PONG")
        );
        drop(proxy.stop().await);
    }
}
