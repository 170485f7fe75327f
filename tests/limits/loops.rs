//! Those who have a token, and have little things done in a loop that may be dear: none of it keeps a thread busy.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::attackers::Crowd;
use crate::sessions::{SESSION, SUBSCRIPTION};
use crate::size;
use crate::talk::{Talk, dial};
use crate::under::{attack, attack_above, p99_beside};
use crate::world::World;

/// A session that wants to be told when nobody listens.
async fn asking(world: &World) -> Talk {
    let tcp = dial(world.address(), 2, false).await.expect("a connection");
    let connect = world.connect_line("worker").replace(
        "\"headers\":true",
        "\"headers\":true,\"no_responders\":true",
    );
    Talk::over(tcp).admitted(&connect).await.expect("a session")
}

/// Says `lines` and waits until all of them are handled.
async fn say(talk: &mut Talk, lines: String) {
    talk.send(lines + "PING\r\n").await.expect("sent");
    assert_eq!(talk.answer().await.as_deref(), Some("PONG"));
}

/// Says `lines` again and again, and reads whatever is answered.
fn again(crowd: &mut Crowd, talk: Talk, lines: String) {
    let (mut reader, mut writer) = talk.split();
    crowd.add(async move { while writer.write_all(lines.as_bytes()).await.is_ok() {} });
    crowd.add(async move {
        let mut answers = vec![0; 64 * 1024];
        while reader.read(&mut answers).await.is_ok_and(|count| count > 0) {}
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_requests_with_many_subscriptions() {
    let world = World::start(&json!({})).await;
    let count = size(20_000, 60_000);
    let allowed = SESSION * 2 + count as u64 * (SUBSCRIPTION + 32);
    attack(
        "refused requests with many subscriptions",
        &world,
        allowed,
        async |world| {
            let mut talk = asking(world).await;
            for first in (0..count).step_by(1000) {
                let subs = (first..first + 1000).map(|n| format!("SUB s.{n} {n}\r\n"));
                talk.send(subs.collect::<String>()).await.expect("sent");
            }
            say(&mut talk, "SUB last last\r\n".to_owned()).await;
            // The one that waits is found however many there are.
            let request = "PUB secret.a last 0\r\n\r\nPING\r\n";
            talk.send(request).await.expect("sent");
            let denied = talk.answer().await;
            assert_eq!(
                denied.as_deref(),
                Some("-ERR 'Permissions Violation for Publish to \"secret.a\"'")
            );
            let answer = talk.answer().await.expect("a 503");
            assert!(answer.starts_with("HMSG last last "), "{answer}");
            let mut crowd = Crowd::new();
            again(
                &mut crowd,
                talk,
                "PUB secret.a nowhere 0\r\n\r\n".repeat(64),
            );
            crowd
        },
    )
    .await;
}

/// Of most of them only the places are left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_requests_where_there_were_many_subscriptions() {
    let world = World::start(&json!({})).await;
    let count = size(20_000, 60_000);
    let allowed = SESSION * 4 + 2 * count as u64 * (SUBSCRIPTION + 32);
    attack(
        "refused requests where there were many subscriptions",
        &world,
        allowed,
        async |world| {
            let mut crowd = Crowd::new();
            for _ in 0..2 {
                let mut talk = asking(world).await;
                for first in (0..count).step_by(1000) {
                    let subs = (first..first + 1000).map(|n| format!("SUB s {n}\r\n"));
                    say(&mut talk, subs.collect()).await;
                }
                for first in (0..count).step_by(1000) {
                    let ends = (first..first + 1000).map(|n| format!("UNSUB {n}\r\n"));
                    // One stays: it is behind all of the places.
                    let ends = ends.filter(|line| *line != format!("UNSUB {}\r\n", count - 1));
                    say(&mut talk, ends.collect()).await;
                }
                let request = "PUB secret.a nowhere 0\r\n\r\n";
                again(&mut crowd, talk, request.repeat(2000));
            }
            crowd
        },
    )
    .await;
}

/// Patterns that the reply fits up to their end, and such as it does not fit at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_requests_with_long_subjects() {
    let world = World::start(&json!({})).await;
    let count = size(500, 1000);
    let begin = "a.".repeat(950);
    let allowed = SESSION * 4 + 2 * count as u64 * (SUBSCRIPTION + 2 * begin.len() as u64);
    attack(
        "refused requests with long subjects",
        &world,
        allowed,
        async |world| {
            let mut crowd = Crowd::new();
            for (reply, repeat) in [(format!("{begin}x.y"), 300), ("r".to_owned(), 40_000)] {
                let mut talk = asking(world).await;
                for number in 0..count {
                    say(&mut talk, format!("SUB {begin}*.{number} {number}\r\n")).await;
                }
                let request = format!("PUB secret.a {reply} 0\r\n\r\n");
                again(&mut crowd, talk, request.repeat(repeat));
            }
            crowd
        },
    )
    .await;
}

/// Two publishers of what they may publish, as fast as they can: to keep both cores busy is no attack.
async fn busy(world: &World) -> Duration {
    let busy = p99_beside(world, async |world| {
        let mut crowd = Crowd::new();
        for _ in 0..2 {
            let talk = world.enter("worker").await.expect("a session");
            again(&mut crowd, talk, "PUB nobody 0\r\n\r\n".repeat(40_000));
        }
        crowd
    })
    .await;
    println!("beside busy publishers p99 {busy:?}");
    busy
}

/// As many facts as fit a buffer are not handled in one go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_publishes_in_a_row() {
    let world = World::start(&json!({})).await;
    let busy = busy(&world).await;
    attack_above(
        busy,
        "refused publishes in a row",
        &world,
        SESSION * 4,
        async |world| {
            let mut crowd = Crowd::new();
            for _ in 0..2 {
                let talk = world.enter("worker").await.expect("a session");
                again(&mut crowd, talk, "PUB secret.a 0\r\n\r\n".repeat(40_000));
            }
            crowd
        },
    )
    .await;
}

/// PINGs, then sids that are given up, all of which are remembered until the last PONG has come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_given_up_behind_many_pings() {
    let world = World::start(&json!({})).await;
    let busy = busy(&world).await;
    let count = size(5_000, 20_000);
    attack_above(
        busy,
        "subscriptions given up behind many pings",
        &world,
        SESSION * 4 + 2 * count as u64 * (SUBSCRIPTION + 32),
        async |world| {
            let mut crowd = Crowd::new();
            for _ in 0..2 {
                let talk = world.enter("worker").await.expect("a session");
                let mut lines = "PING\r\n".repeat(10_000);
                for number in 0..count {
                    let _ = write!(lines, "SUB s {number}\r\nUNSUB {number}\r\n");
                }
                again(&mut crowd, talk, lines);
            }
            crowd
        },
    )
    .await;
}
