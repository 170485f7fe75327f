//! Strangers: everything that can be done without a token.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::attackers::Crowd;
use crate::size;
use crate::talk::{Talk, dial};
use crate::under::{KIB, MIB, attack};
use crate::world::World;

/// A connection without CONNECT. README, "Memory".
const STRANGER: u64 = 16 * KIB;

/// What TLS adds to it.
const TLS: u64 = 48 * KIB;

/// Strangers of one loopback address: below `limits.connections_per_address`.
const PER_ADDRESS: usize = 2000;

fn host(index: usize) -> u8 {
    u8::try_from(2 + index / PER_ADDRESS).unwrap()
}

/// Sends a byte at a time until it is thrown out.
async fn drip(mut tcp: TcpStream, first: &[u8], then: u8) {
    if tcp.write_all(first).await.is_err() {
        return;
    }
    let (mut from, mut to) = tcp.split();
    let dripping = async {
        while to.write_all(&[then]).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = dripping => {}
        _ = from.read_to_end(&mut rest) => {}
    }
}

/// So many strangers who each say `first` and then a byte at a time.
fn strangers(address: SocketAddr, count: usize, first: &'static [u8], then: u8) -> Crowd {
    let mut crowd = Crowd::new();
    for index in 0..count {
        crowd.add_persistent(move || async move {
            if let Ok(tcp) = dial(address, host(index), false).await {
                drip(tcp, first, then).await;
            }
        });
    }
    crowd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slowloris_on_connect() {
    let world = World::start(&json!({})).await;
    let count = size(300, 4000);
    // What they have sent of CONNECT is held besides.
    let line: &[u8] = [b"CONNECT {\"name\":\"".as_slice(), &[b'x'; 2000]]
        .concat()
        .leak();
    let allowed = count as u64 * (STRANGER + 4 * KIB);
    attack("slowloris on CONNECT", &world, allowed, async |world| {
        let crowd = strangers(world.address(), count, line, b'x');
        world
            .until("natsentry_handshakes_in_progress", "", |n| {
                n >= count as u64
            })
            .await;
        crowd
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slowloris_on_tls() {
    let world = World::start_tls(&json!({})).await;
    let count = size(300, 4000);
    let allowed = count as u64 * (STRANGER + TLS);
    attack("slowloris on TLS", &world, allowed, async |world| {
        // A record that announces 512 bytes of ClientHello.
        let crowd = strangers(
            world.address(),
            count,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            0,
        );
        world
            .until("natsentry_handshakes_in_progress", "", |n| {
                n >= count as u64
            })
            .await;
        crowd
    })
    .await;
}

/// More of them than are let in, so that the oldest go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_handshakes() {
    let count = size(1500, 9000);
    let limit = count * 2 / 3;
    let world = World::start(&json!({ "handshakes": limit, "connections": 40_000 })).await;
    let allowed = limit as u64 * STRANGER;
    attack("half-open handshakes", &world, allowed, async |world| {
        let address = world.address();
        let mut crowd = Crowd::new();
        for index in 0..count {
            crowd.add_persistent(move || async move {
                let Ok(mut tcp) = dial(address, host(index), false).await else {
                    return;
                };
                let mut rest = Vec::new();
                let _ = tcp.read_to_end(&mut rest).await;
                // They do not come back at once: ten thousand that do are load, not half-open handshakes.
                sleep(Duration::from_secs(2)).await;
            });
        }
        world
            .until("natsentry_connections_rejected_total", "handshakes", |n| {
                n > 0
            })
            .await;
        crowd
    })
    .await;
}

/// `limits.memory` of the test below.
const LIMIT: u64 = 64 * MIB;

/// CONNECTs of more than what is let wait without a buffer, which never end: buffers of strangers are not what
/// `limits.memory` goes for, and whoever has a long CONNECT that does end is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_connects_without_an_end() {
    let world = World::start(&json!({ "memory": "64MiB" })).await;
    let count = size(300, 4000);
    let line: &[u8] = [b"CONNECT {\"name\":\"".as_slice(), &[b'x'; 40_000]]
        .concat()
        .leak();
    let allowed = LIMIT + count as u64 * STRANGER;
    attack(
        "long CONNECTs without an end",
        &world,
        allowed,
        async |world| {
            let crowd = strangers(world.address(), count, line, b'x');
            world
                .until("natsentry_connections_rejected_total", "handshakes", |n| {
                    n > count as u64 / 4
                })
                .await;
            let held = world.metric("natsentry_memory_bytes", "").await;
            // An eighth, and what is read or closed at this moment.
            assert!((1..LIMIT / 5).contains(&held), "{held} bytes held");
            let long = world.connect_line("worker").replacen(
                '{',
                &format!("{{\"pad\":{:?},", "p".repeat(30_000)),
                1,
            );
            let tcp = dial(world.address(), 1, false).await.expect("a connection");
            let served = Talk::over(tcp).admitted(&long).await;
            drop(served.expect("a long CONNECT that ends is served"));
            crowd
        },
    )
    .await;
    assert_eq!(world.metric("natsentry_memory_bytes", "").await, 0);
}
