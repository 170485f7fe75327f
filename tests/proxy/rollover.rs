//! Keys that roll, and key names that are made up, while clients connect as fast as they can.
//!
//! `NATSENTRY_LOAD_SECONDS` makes the runs longer (4 by default), and `NATSENTRY_LOAD_STRICT=1` turns the figures into
//! assertions, for a quiet machine and a release build.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use natsentry::demo::idp::DevIdp;
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

fn load() -> Duration {
    let seconds = std::env::var("NATSENTRY_LOAD_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(4))
}

fn strict() -> bool {
    std::env::var_os("NATSENTRY_LOAD_STRICT").is_some()
}

/// One client after the other from a few addresses, so that no limit for one address is met.
fn address_of(n: u32) -> Ipv4Addr {
    let [_, _, high, low] = (n % 50_000 + 1).to_be_bytes();
    Ipv4Addr::new(127, 77, high, low)
}

fn hello(token: &str) -> Vec<u8> {
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

/// The token under another header; without its key nobody finds out that the signature no longer fits.
fn renamed(token: &str, alg: &str, n: u32) -> String {
    let header = format!("{{\"typ\":\"JWT\",\"alg\":\"{alg}\",\"kid\":\"made-up-{n}\"}}");
    let (_, rest) = token.split_once('.').expect("a token");
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
}

/// The median time of valid connects, while something else goes on or nothing does.
async fn median(address: SocketAddr, idp: &DevIdp, length: Duration) -> Duration {
    let text = hello(&proxy::token(idp, "alice"));
    let end = Instant::now() + length;
    let (mut times, mut n) = (Vec::new(), 30_000);
    while Instant::now() < end || times.len() < 20 {
        let begun = Instant::now();
        assert_eq!(
            say(address, address_of(n), None, &text).await,
            Heard::Admitted
        );
        times.push(begun.elapsed());
        n += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    times.sort_unstable();
    times[times.len() / 2]
}

/// `texts` at 1,000 in a second beside valid connects, whose median time it returns.
async fn beside(
    address: SocketAddr,
    idp: &DevIdp,
    length: Duration,
    make: impl Fn(u32) -> String,
) -> Duration {
    let count = u32::try_from(length.as_millis()).unwrap_or(u32::MAX);
    let texts: Arc<Vec<Vec<u8>>> = Arc::new((0..count).map(|n| hello(&make(n))).collect());
    let next = Arc::new(AtomicU32::new(0));
    let mut flood = JoinSet::new();
    for worker in 0..8 {
        let (texts, next) = (Arc::clone(&texts), Arc::clone(&next));
        // One after the other: a thousand in a second, not eight at once.
        let start = tokio::time::Instant::now() + Duration::from_millis(worker);
        flood.spawn(async move {
            let mut pace = tokio::time::interval_at(start, Duration::from_millis(8));
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                pace.tick().await;
                let n = next.fetch_add(1, Ordering::Relaxed);
                let Some(text) = texts.get(n as usize) else {
                    return;
                };
                let heard = say(address, address_of(n), None, text).await;
                assert_ne!(heard, Heard::Admitted);
            }
        });
    }
    let median = median(address, idp, length).await;
    flood.join_all().await;
    median
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_made_up_key_names_costs_two_fetches_and_valid_clients_no_time_of_its_own() {
    let idp = proxy::idp().await;
    let nats = servers::start(Version::V2_15_1, STATIC_USER);
    let proxy = Proxy::start(&idp, &Setup::to(nats.port())).await;
    let (address, length) = (proxy.address, load());
    let known = proxy::token(&idp, "alice");
    median(address, &idp, Duration::from_millis(300)).await;
    let before = (idp.metadata_fetches(), idp.key_fetches());
    let quiet = median(address, &idp, length / 2).await;
    // As many connections that are refused without a look at any key: what the connections cost by themselves.
    let others = beside(address, &idp, length, |n| renamed(&known, "RS512", n)).await;
    let flooded = beside(address, &idp, length, |n| renamed(&known, "RS256", n)).await;
    let quiet = quiet.min(median(address, &idp, length / 2).await);
    let asked = (
        idp.metadata_fetches() - before.0,
        idp.key_fetches() - before.1,
    );
    let to = |base: Duration| flooded.as_secs_f64() / base.as_secs_f64();
    println!(
        "{} made-up names cost {asked:?} fetches; median connect {quiet:?} quiet, {others:?} beside as many other refusals, \
         {flooded:?} beside the names: {:.2} x and {:.2} x",
        length.as_millis(),
        to(quiet),
        to(others)
    );
    assert!(asked.0 <= 2 && asked.1 <= 2, "{asked:?}");
    // Both floods keep the machine equally busy, so what the names cost on top of that shows on a busy machine too.
    assert!(to(others) < 3.0, "{}", to(others));
    if strict() {
        assert!(to(quiet) <= 1.1, "{}", to(quiet));
    }
}
