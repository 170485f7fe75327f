//! Many sessions that each take what one may: together they get no more than `limits.memory`, and whoever asks for little
//! notices nothing.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::size;
use crate::talk::{Talk, dial};
use crate::under::{KIB, MIB, attack};
use crate::world::World;

/// `limits.memory` of the test.
const LIMIT: u64 = 64 * MIB;

/// What each connection costs besides. README, "Memory".
const EACH: u64 = 80 * KIB;

/// How long an attacker keeps at what it does.
const ATTACK: Duration = Duration::from_secs(2);

/// Takes as much as a session may have of something, which differs from one attacker to the next, and sits on it.
async fn take(mut talk: Talk, number: usize) -> Talk {
    let greed = async {
        match number % 4 {
            // A header block is held until it is there.
            0 => {
                let _ = talk.send("HPUB a 1000000 1000000\r\nNATS/1.0\r\n").await;
                let _ = talk.send(vec![b'x'; 900_000]).await;
            }
            // Subscriptions, until there are no more to be had.
            1 => {
                let long = "s".repeat(3000);
                for first in 0.. {
                    let lines: String = (0..64)
                        .map(|n| format!("SUB {long}.{first}.{n} {first}x{n}\r\n"))
                        .collect();
                    if talk.send(lines + "PING\r\n").await.is_err()
                        || talk.answer().await.as_deref() != Some("PONG")
                    {
                        return;
                    }
                }
            }
            // Refusals that it does not read.
            2 => {
                let publish = format!("PUB secret.{} 0\r\n\r\n", "\u{1}".repeat(1000)).repeat(64);
                while talk.send(&publish).await.is_ok() {}
            }
            // Its own messages, which it does not read.
            _ => {
                let message = [
                    format!("PUB own.{number} 65536\r\n").as_bytes(),
                    &vec![b'o'; 65_536],
                    b"\r\n",
                ]
                .concat();
                let _ = talk.send(format!("SUB own.{number} 1\r\n")).await;
                while talk.send(&message).await.is_ok() {}
            }
        }
    };
    let _ = timeout(ATTACK, greed).await;
    talk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_takes_what_one_session_may() {
    let world = World::start(&json!({ "memory": "64MiB" })).await;
    let count = size(240, 2000);
    let allowed = LIMIT + count as u64 * EACH;
    attack(
        "everybody takes what one session may",
        &world,
        allowed,
        async |world| {
            let connect = world.connect_line("worker");
            let mut talks = Vec::new();
            for _ in 0..count {
                let tcp = dial(world.address(), 2, true).await.expect("a connection");
                let talk = Talk::over(tcp).admitted(&connect).await;
                talks.push(talk.expect("a session"));
            }
            let numbered = talks.into_iter().enumerate();
            let greedy: JoinSet<Talk> = numbered.map(|(number, talk)| take(talk, number)).collect();
            world
                .until("natsentry_memory_refused_total", "", |n| n > 0)
                .await;
            let held = greedy.join_all().await;
            // What they sent last may still be under way.
            let mut before = 0;
            loop {
                let now = world.metric("natsentry_memory_bytes", "").await;
                if now == before {
                    break;
                }
                before = now;
                sleep(Duration::from_millis(500)).await;
            }
            assert!(world.metric("natsentry_memory_bytes", "").await > LIMIT / 4);
            held
        },
    )
    .await;
    assert_eq!(world.metric("natsentry_memory_bytes", "").await, 0);
    assert_eq!(
        world.metric("natsentry_memory_limit_bytes", "").await,
        LIMIT
    );
}

/// Whoever lets memory wait for the rest of an operation is ended where there is none for others, and only there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_waits_for_its_client_is_taken_back_where_it_is_scarce() {
    // Apart, line and block come in two reads: who gets no memory for the block holds none at all, and those who have
    // some fill three quarters and not a byte more.
    for apart in [false, true] {
        scarce_memory_is_taken_back(apart).await;
    }
}

async fn scarce_memory_is_taken_back(apart: bool) {
    let world = World::start(&json!({ "memory": "16MiB", "write_deadline": "1s" })).await;
    let begin = async || {
        let mut talk = world.enter("worker").await.expect("a session");
        talk.send("HPUB a 1000000 1000000\r\nNATS/1.0\r\n")
            .await
            .expect("sent");
        if apart {
            sleep(Duration::from_millis(50)).await;
        }
        let _ = timeout(Duration::from_millis(200), talk.send(vec![b'x'; 900_000])).await;
        talk
    };
    let alone = begin().await;
    sleep(Duration::from_millis(2500)).await;
    world.counts(1).await;
    let mut crowd = vec![alone];
    for _ in 0..40 {
        crowd.push(begin().await);
    }
    world
        .until("natsentry_sessions_closed_total", "client_slow", |n| n > 0)
        .await;
    let mut newcomer = world.enter("worker").await.expect("still served");
    newcomer
        .send("SUB a 1\r\nPUB a 2\r\nhi\r\nPING\r\n")
        .await
        .expect("sent");
    assert_eq!(newcomer.answer().await.as_deref(), Some("MSG a 1 2"));
    drop((crowd, newcomer));
    world.counts(0).await;
}

/// Whoever is always in the middle of some operation, and brings it, lets nobody wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_brings_one_large_header_block_after_the_other_is_not_slow() {
    const BLOCK: usize = 1_000_000;
    // Three quarters have room for twelve and a half of these.
    let world = World::start(&json!({ "memory": "17152KiB", "write_deadline": "2s" })).await;
    let line = format!("HPUB a {BLOCK} {BLOCK}\r\n");
    let block = format!("NATS/1.0\r\nA: {}\r\n\r\n", "x".repeat(BLOCK - 17));
    let (first, second) = block.split_at(BLOCK / 2);
    let begin = format!("{line}{first}");
    let go_on = format!("{second}\r\n{line}{first}");
    let mut crowd = Vec::new();
    for _ in 0..12 {
        let mut talk = world.enter("worker").await.expect("a session");
        talk.send(&begin).await.expect("sent");
        crowd.push(talk);
    }
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        sleep(Duration::from_millis(250)).await;
        for talk in &mut crowd {
            talk.send(&go_on).await.expect("not ended");
        }
    }
    for talk in &mut crowd {
        talk.send(format!("{second}\r\nPING\r\n"))
            .await
            .expect("sent");
        assert_eq!(talk.answer().await.as_deref(), Some("PONG"));
    }
}
