//! A client that ends its side (`nc -N`, a script, a program that just exits): what it is told is what a server tells it, byte for
//! byte, and nothing that it sent is lost.

use std::net::SocketAddr;
use std::time::Duration;

use natsentry::demo::servers::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::wire::{PATIENCE, Wire};

/// Sends everything at once, ends its side, and reads to the end. INFO is left out: it differs by design.
async fn said(address: SocketAddr, credentials: &str, more: &str, script: &[u8]) -> String {
    let mut tcp = TcpStream::connect(address).await.expect("a connection");
    let connect = format!(
        "CONNECT {{\"pedantic\":false,\"protocol\":0,\"headers\":true,{credentials}{more}}}\r\n"
    );
    tcp.write_all(connect.as_bytes()).await.expect("sent");
    tcp.write_all(script).await.expect("sent");
    tcp.shutdown().await.expect("ended");
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, tcp.read_to_end(&mut bytes)).await;
    read.expect("closed in time").expect("closed in order");
    let text = String::from_utf8(bytes).expect("text");
    let (info, rest) = text.split_once("\r\n").expect("INFO");
    assert!(info.starts_with("INFO "), "{info}");
    rest.to_owned()
}

fn scripts() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let own: &[u8] = b"SUB a 1\r\nPUB a 5\r\nhello\r\nPING\r\n";
    let many = |count: usize| {
        let message = [b"PUB a 1024\r\n".as_slice(), &[b'm'; 1024], b"\r\n"].concat();
        [
            b"SUB a 1\r\n".as_slice(),
            &message.repeat(count),
            b"PING\r\n",
        ]
        .concat()
    };
    vec![
        (
            "its own messages and a PONG",
            ",\"verbose\":false",
            own.to_vec(),
        ),
        ("the same, verbose", ",\"verbose\":true", own.to_vec()),
        ("nothing", ",\"verbose\":false", Vec::new()),
        ("nothing, verbose", ",\"verbose\":true", Vec::new()),
        (
            "half a line",
            ",\"verbose\":false",
            b"SUB a 1\r\nPING\r\nPUB a".to_vec(),
        ),
        (
            "half a payload",
            ",\"verbose\":false",
            b"SUB a 1\r\nPING\r\nPUB a 10\r\nhel".to_vec(),
        ),
        (
            "a request that nobody answers",
            ",\"verbose\":false,\"no_responders\":true",
            b"SUB i 1\r\nPUB nobody i 0\r\n\r\nPING\r\n".to_vec(),
        ),
        (
            "UNSUB max",
            ",\"verbose\":false",
            b"SUB a 1\r\nUNSUB 1 2\r\nPUB a 0\r\n\r\nPUB a 0\r\n\r\nPUB a 0\r\n\r\nPING\r\n"
                .to_vec(),
        ),
        ("many messages", ",\"verbose\":false", many(300)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_client_is_answered_as_by_a_server() {
    let idp = proxy::idp().await;
    let token = format!("\"auth_token\":\"{}\"", proxy::token(&idp, "alice"));
    for version in [Version::V2_9_10, Version::V2_15_1] {
        let nats = servers::start(version, STATIC_USER);
        let proxy = Proxy::start(&idp, &Setup::to(nats.port())).await;
        let user = "\"user\":\"svc\",\"pass\":\"correct horse battery\"";
        for (name, more, script) in scripts() {
            let direct = said(nats.address(), user, more, &script).await;
            let through = said(proxy.address, &token, more, &script).await;
            assert_eq!(through, direct, "{version:?}: {name}");
        }
        drop(proxy.stop().await);
    }
}

/// Publishes and is gone at once, often: everything arrives.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_before_the_end_arrives() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let proxy = Proxy::start(&idp, &Setup::to(nats.port())).await;
    let token = proxy::token(&idp, "alice");
    let (mut witness, _) = Wire::admitted(proxy.address, &token).await;
    witness.send("SUB gone.> 1\r\n").await;
    witness.until_pong().await;
    let credentials = format!("\"auth_token\":\"{token}\"");
    for round in 0..20 {
        let script: String = (0..50)
            .map(|n| format!("PUB gone.{round}.{n} 4\r\nlast\r\n"))
            .collect();
        said(
            proxy.address,
            &credentials,
            ",\"verbose\":false",
            script.as_bytes(),
        )
        .await;
    }
    for round in 0..20 {
        for n in 0..50 {
            let line = timeout(Duration::from_secs(10), witness.answer()).await;
            let line = line.expect("in time").expect("a message");
            assert_eq!(line, format!("MSG gone.{round}.{n} 1 4"));
            assert_eq!(witness.payload(4).await, b"last");
        }
    }
    drop(proxy.stop().await);
}
