//! Chaos: the upstream, the identity provider, the network and natsentry itself fail at random, again and again, under load
//! of real clients. What is held:
//!
//! 1. **PONG**: a PUB that was written before a PING on the same connection, whose PONG came back on that connection, was
//!    read by the server. The server `core` is stopped and cut off but never killed; a subscriber on it that does not go
//!    through natsentry has every such message.
//! 2. **PubAck**: a message whose PubAck came back is in the stream. The server `store` is killed and started anew over the
//!    same files (with `sync_interval: always`: without it nats-server itself acknowledges before it writes).
//! 3. **Everybody comes back**: every client gets something acknowledged that it sent after the end of the chaos, within
//!    a minute, by itself. None is told anything that makes it stop.
//!
//! The schedule is made from a seed, which is printed: `NATSENTRY_CHAOS_SEED=7 NATSENTRY_CHAOS=600 cargo test --test chaos -- --nocapture`
//! runs ten minutes of it. The network fails in relays of this process in front of natsentry and of both servers: they cut, stand still, refuse, and delay by 200 ms with one piece in twenty held back for a
//! retransmission longer, which is how a stream over a path with 5 % loss looks from its ends.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::large_futures,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may be loud, and reads the clock"
)]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod ledger;
mod network;
#[allow(dead_code, reason = "the simulation uses all of it")]
#[path = "../sim/random.rs"]
mod random;
mod raw;
mod schedule;
mod stage;

use std::time::Duration;

use clients::Clients;
use ledger::Ledger;
use random::Random;
use schedule::Schedule;
use stage::Stage;

/// How long every client may take to come back after the end.
const RETURN: Duration = Duration::from_secs(60);

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[test]
fn nothing_acknowledged_is_lost_and_everybody_comes_back() {
    let seed = number("NATSENTRY_CHAOS_SEED", 20_261_128);
    let during = Duration::from_secs(number("NATSENTRY_CHAOS", 15));
    println!("chaos: seed {seed}, {} s", during.as_secs());
    let mut stage = Stage::set();
    let ledger = Ledger::default();
    let witness = stage.witness();
    let clients = Clients::start(&stage, &ledger);
    clients.all_have(&ledger, 1, RETURN, "at the beginning");
    let mut schedule = Schedule::new(Random::new(seed), during);
    while let Some(act) = schedule.next() {
        println!("chaos: {act}");
        act.play(&mut stage);
    }
    stage.heal();
    println!("chaos: over");
    clients.all_come_back(&ledger, RETURN);
    clients.stop();
    for (client, counts) in ledger.counts() {
        println!("chaos: {client}: {counts}");
    }
    ledger.check_core(&witness.seen());
    ledger.check_stored(&stage.stored());
    stage.check_afterwards();
}
