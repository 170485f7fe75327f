//! Those who have a token and mean no good, and servers that do not read.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::time::Instant;

use crate::attackers::Crowd;
use crate::size;
use crate::talk::{PATIENCE, Talk, dial};
use crate::under::{KIB, MIB, attack};
use crate::world::World;

/// A session and the buffers of both directions at their largest. README, "Memory".
pub(crate) const SESSION: u64 = 1_600 * KIB;

/// A subscription, besides its subject, queue group and id.
pub(crate) const SUBSCRIPTION: u64 = 512;

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process");
    kill_process(pid, signal).expect("the process is ours");
}

/// So many sessions in a role, with small receive buffers.
async fn sessions(world: &World, role: &str, count: usize) -> Vec<Talk> {
    let connect = world.connect_line(role);
    let mut all = Vec::new();
    for _ in 0..count {
        let tcp = dial(world.address(), 2, true).await.expect("a connection");
        all.push(Talk::over(tcp).admitted(&connect).await.expect("a session"));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_announced_and_never_sent() {
    let world = World::start(&json!({})).await;
    let count = size(100, 1000);
    let allowed = count as u64 * SESSION;
    attack(
        "payloads announced and never sent",
        &world,
        allowed,
        async |world| {
            let mut all = sessions(world, "worker", count).await;
            for talk in &mut all {
                talk.send("PUB a 1000000\r\nxxxx").await.expect("sent");
            }
            all
        },
    )
    .await;
}

/// A header block is held until it is there, since it can name other subjects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_blocks_that_never_end() {
    let world = World::start(&json!({})).await;
    let count = size(20, 100);
    let allowed = count as u64 * (SESSION + MIB);
    attack(
        "header blocks that never end",
        &world,
        allowed,
        async |world| {
            let mut all = sessions(world, "worker", count).await;
            for talk in &mut all {
                talk.send("HPUB a 1000000 1000000\r\nNATS/1.0\r\n")
                    .await
                    .expect("sent");
                talk.send(vec![b'x'; 900_000]).await.expect("taken");
            }
            all
        },
    )
    .await;
}

/// Subscribers of a flood who read nothing are closed, and cost what is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read() {
    let world = World::start(&json!({ "write_deadline": "1s" })).await;
    let count = size(10, 100);
    let allowed = count as u64 * SESSION;
    attack("clients that never read", &world, allowed, async |world| {
        let mut all = sessions(world, "worker", count).await;
        for talk in &mut all {
            talk.send("SUB flood 1\r\n").await.expect("sent");
        }
        let mut publisher = world.enter("worker").await.expect("a session");
        let message = [
            b"PUB flood 65536\r\n".as_slice(),
            &vec![b'f'; 65_536],
            b"\r\n",
        ]
        .concat();
        let deadline = Instant::now() + PATIENCE;
        while world
            .metric("natsentry_sessions_closed_total", "client_slow")
            .await
            < count as u64
        {
            assert!(Instant::now() < deadline, "those who do not read stay");
            for _ in 0..16 {
                publisher
                    .send(&message)
                    .await
                    .expect("the publisher is served");
            }
            publisher
                .send("PING\r\n")
                .await
                .expect("the publisher is served");
            assert_eq!(publisher.answer().await.as_deref(), Some("PONG"));
        }
        drop(publisher);
        all
    })
    .await;
}

/// Whoever makes natsentry say no again and again and reads nothing of it is read no further, and closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_their_refusals() {
    let world = World::start(&json!({ "write_deadline": "1s" })).await;
    let count = size(10, 50);
    let allowed = count as u64 * (SESSION + MIB + MIB);
    attack(
        "clients that never read their refusals",
        &world,
        allowed,
        async |world| {
            let mut crowd = Crowd::new();
            for mut talk in sessions(world, "worker", count).await {
                let subject = "\u{1}".repeat(4000);
                let publish = format!("PUB secret.{subject} 0\r\n\r\n").repeat(16);
                crowd.add(async move { while talk.send(&publish).await.is_ok() {} });
            }
            world
                .until("natsentry_sessions_closed_total", "client_slow", |n| {
                    n >= count as u64
                })
                .await;
            crowd
        },
    )
    .await;
}

/// A server that stops reading costs what is under way to it, and others on other servers notice nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_reads() {
    let world = World::start(&json!({ "write_deadline": "1s" })).await;
    let count = size(10, 100);
    let allowed = count as u64 * SESSION;
    attack(
        "a server that never reads",
        &world,
        allowed,
        async |world| {
            let all = sessions(world, "other", count).await;
            signal(world.other.pid(), Signal::STOP);
            let mut crowd = Crowd::new();
            for mut talk in all {
                let message =
                    [b"PUB a 65536\r\n".as_slice(), &vec![b'a'; 65_536], b"\r\n"].concat();
                crowd.add(async move { while talk.send(&message).await.is_ok() {} });
            }
            world
                .until("natsentry_sessions_closed_total", "upstream_slow", |n| {
                    n >= count as u64
                })
                .await;
            crowd
        },
    )
    .await;
    signal(world.other.pid(), Signal::CONT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_subscriptions() {
    let count = size(50_000, 1_000_000);
    let bytes = count as u64 * 16;
    let world =
        World::start(&json!({ "subscriptions": count, "subscription_bytes": bytes + 4096 })).await;
    let allowed = SESSION + bytes + 4096 + count as u64 * SUBSCRIPTION;
    attack("a million subscriptions", &world, allowed, async |world| {
        let mut talk = world.enter("worker").await.expect("a session");
        for first in (0..count).step_by(1000) {
            let lines: String = (first..first + 1000)
                .map(|n| format!("SUB s.{n} {n}\r\n"))
                .collect();
            talk.send(lines).await.expect("sent");
            talk.send("PING\r\n").await.expect("sent");
            assert_eq!(talk.answer().await.as_deref(), Some("PONG"));
        }
        talk.send("SUB one.more x\r\nPING\r\n").await.expect("sent");
        assert_eq!(
            talk.answer().await.as_deref(),
            Some("-ERR 'maximum subscriptions exceeded'")
        );
        assert_eq!(talk.answer().await.as_deref(), Some("PONG"));
        talk
    })
    .await;
}
