//! A full process: who is thrown out, and who is not let in.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};

use crate::attackers::Crowd;
use crate::talk::{PATIENCE, dial};
use crate::world::World;

/// Whoever says nothing keeps nobody out, even when every slot is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_on_all_slots_keep_nobody_out() {
    let world = World::start(&json!({ "connections": 40 })).await;
    let address = world.address();
    let mut crowd = Crowd::new();
    for _ in 0..40 {
        crowd.add_persistent(move || async move {
            let Ok(mut tcp) = dial(address, 2, false).await else {
                return;
            };
            let mut rest = Vec::new();
            let _ = tcp.read_to_end(&mut rest).await;
        });
    }
    world.until("natsentry_connections", "", |n| n >= 40).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        // As a client would: again when the way in was lost to another one.
        let deadline = Instant::now() + PATIENCE;
        loop {
            match world.enter("worker").await {
                Ok(talk) => {
                    held.push(talk);
                    break;
                }
                Err(error) => assert!(Instant::now() < deadline, "not served: {error}"),
            }
        }
    }
    drop(crowd);
    world.counts(5).await;
    drop(held);
    world.counts(0).await;
}

/// With every slot taken by a session, one more is closed at once, without a word, and nobody is thrown out for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_full_of_sessions_turns_away_at_once() {
    let world = World::start(&json!({ "connections": 5 })).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(world.enter("worker").await.expect("a session"));
    }
    let mut refused = dial(world.address(), 1, false).await.expect("a connection");
    let mut said = Vec::new();
    let closed = timeout(Duration::from_secs(10), refused.read_to_end(&mut said)).await;
    closed.expect("closed at once").ok();
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(
        world
            .metric("natsentry_connections_rejected_total", "total")
            .await,
        1
    );
    for talk in &mut held {
        talk.send("PING\r\n").await.expect("sent");
        assert_eq!(talk.answer().await.as_deref(), Some("PONG"));
    }
    held.pop();
    world.counts(4).await;
    held.push(world.enter("worker").await.expect("there is room again"));
    drop(held);
    world.counts(0).await;
}

/// One address has a limit of its own, and its sessions do not count for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_its_own_limit() {
    let world = World::start(&json!({ "connections_per_address": 3 })).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(dial(world.address(), 9, false).await.expect("a connection"));
    }
    world.until("natsentry_connections", "", |n| n == 3).await;
    let mut refused = dial(world.address(), 9, false).await.expect("a connection");
    let mut said = Vec::new();
    let closed = timeout(Duration::from_secs(10), refused.read_to_end(&mut said)).await;
    closed.expect("closed at once").ok();
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(
        world
            .metric("natsentry_connections_rejected_total", "per_address")
            .await,
        1
    );
    drop(
        world
            .enter("worker")
            .await
            .expect("another address is served"),
    );
    drop(held);
    world.counts(0).await;
}
