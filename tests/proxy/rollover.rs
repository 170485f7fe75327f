//! Keys that roll while clients connect as fast as they can.
//!
//! `NATSENTRY_LOAD_SECONDS` makes the runs longer (4 by default), and `NATSENTRY_LOAD_STRICT=1` turns the figures into
//! assertions, for a quiet machine and a release build.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use natsentry::demo::servers::Version;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::hostile_tokens::world::{Heard, say};
use crate::support::proxy::{self, Proxy, STATIC_USER, Setup};
use crate::support::servers;
use crate::support::wire::connect_line;

/// Connects in a second that are asked for; a machine that has less gives less.
const RATE: u32 = 2000;
const WORKERS: u32 = 16;

pub(crate) fn load() -> Duration {
    let seconds = std::env::var("NATSENTRY_LOAD_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(4))
}

pub(crate) fn strict() -> bool {
    std::env::var_os("NATSENTRY_LOAD_STRICT").is_some()
}

/// One client after the other from a few addresses, so that no limit for one address is met.
pub(crate) fn address_of(n: u32) -> Ipv4Addr {
    let [_, _, high, low] = (n % 50_000 + 1).to_be_bytes();
    Ipv4Addr::new(127, 77, high, low)
}

pub(crate) fn hello(token: &str) -> Vec<u8> {
    format!("{}PING\r\n", connect_line(token, "")).into_bytes()
}

/// Connects at the rate until `end`, with the newest of the tokens, and counts what clients heard.
async fn storm(
    address: SocketAddr,
    tokens: watch::Receiver<String>,
    end: Instant,
) -> (u64, Vec<Heard>) {
    let (admitted, next) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU32::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let (admitted, next, tokens) = (Arc::clone(&admitted), Arc::clone(&next), tokens.clone());
        workers.spawn(async move {
            let mut others = Vec::new();
            let mut pace = tokio::time::interval(Duration::from_secs(1) * WORKERS / RATE);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while Instant::now() < end {
                pace.tick().await;
                let from = address_of(next.fetch_add(1, Ordering::Relaxed));
                let text = hello(&tokens.borrow().clone());
                match say(address, from, None, &text).await {
                    Heard::Admitted => drop(admitted.fetch_add(1, Ordering::Relaxed)),
                    other => others.push(other),
                }
            }
            others
        });
    }
    let others = workers.join_all().await.concat();
    (admitted.load(Ordering::Relaxed), others)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_roll_under_load_and_no_valid_token_is_refused() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let proxy = Proxy::start(&idp, &Setup::to(nats.port())).await;
    let (sender, tokens) = watch::channel(proxy::token(&idp, "alice"));
    assert_eq!(
        say(
            proxy.address,
            address_of(0),
            None,
            &hello(&tokens.borrow().clone())
        )
        .await,
        Heard::Admitted
    );
    let before = (idp.metadata_fetches(), idp.key_fetches());
    let length = load();
    let end = Instant::now() + length;
    let storm = tokio::spawn(storm(proxy.address, tokens, end));

    // One key is published ahead of its use, as Entra does; two are used at once, as after an emergency.
    let ahead = idp.publish_ahead().await.expect("a key");
    let first = idp.kids().pop().expect("a key");
    let fresh = || drop(sender.send(proxy::token(&idp, "alice")));
    let fifth = length / 6;
    tokio::time::sleep(fifth).await;
    idp.roll_keys().await.expect("a key");
    fresh();
    tokio::time::sleep(fifth).await;
    assert!(idp.sign_with(&ahead));
    fresh();
    tokio::time::sleep(fifth).await;
    idp.roll_keys().await.expect("a key");
    fresh();
    tokio::time::sleep(fifth).await;
    assert!(idp.remove_key(&first));
    fresh();
    let (admitted, others) = storm.await.expect("no panic");
    let rate = admitted as f64 / length.as_secs_f64();
    println!("{admitted} connects, {rate:.0} in a second, three changes of key");
    assert!(
        others.is_empty(),
        "{} not admitted: {:?}",
        others.len(),
        others.first()
    );
    let asked = (
        idp.metadata_fetches() - before.0,
        idp.key_fetches() - before.1,
    );
    assert_eq!(asked, (2, 2), "one for each key that nobody had announced");
    if strict() {
        assert!(rate >= f64::from(RATE) * 0.95, "{rate}");
    }
}
