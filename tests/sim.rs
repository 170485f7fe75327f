//! Many sessions, one small NATS server, a clock of its own, slow peers and cuts anywhere; all of it in memory and decided by
//! one seed. Whatever happens:
//!
//! - what goes upstream is whole canonical frames, and its publishes are those that the role grants, in order, unchanged;
//! - lines of our own never stand inside a frame, and each denied operation gets its one error, in order;
//! - what is denied never gets through, in either direction, also right after a change of policy.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test"
)]

#[path = "sim/client.rs"]
mod client;
#[path = "transcripts/frames.rs"]
mod frames;
#[path = "sim/link.rs"]
mod link;
#[path = "sim/random.rs"]
mod random;
#[path = "sim/server.rs"]
mod server;
#[path = "support/session.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, is_secret};
use link::{Link, Patience};
use natsentry::policy::InboxRegistry;
use natsentry::session::{CloseReason, Limits};
use random::Random;
use serde_json::{Value, json};
use server::Server;
use support::START;

/// Sessions of one world.
const SESSIONS: usize = 14;

/// Operations of one client.
const OPERATIONS: usize = 160;

/// The usual role: everything below `pub`, but nothing secret.
fn role() -> Value {
    json!({
        "publish": ["pub.>"], "subscribe": ["pub.>"], "inbox": "off",
        "deny": {"publish": ["pub.secret.>"], "subscribe": ["pub.secret.>"]},
    })
}

/// What it shrinks to.
fn narrow_role() -> Value {
    json!({"publish": ["pub.open.>"], "subscribe": ["pub.open.>"], "inbox": "off"})
}

/// Nobody is cut for being slow.
fn patient() -> Limits {
    Limits {
        write_deadline: Duration::from_secs(3600),
        ..Limits::default()
    }
}

struct World {
    random: Random,
    server: Server,
    links: Vec<Link>,
    now: natsentry::time::Timestamp,
}

impl World {
    fn new(seed: u64, limits: &Limits) -> Self {
        let mut random = Random::new(seed);
        let inboxes: Arc<InboxRegistry> = Arc::default();
        let links = (0..SESSIONS).map(|index| {
            let name = format!("client-{index}");
            let session = support::serving(index as u64, &name, &role(), limits.clone(), &inboxes);
            let client = Client::new(&mut random, OPERATIONS);
            let patience = match index % 4 {
                0 => Patience::Slow,
                1 => Patience::Bytewise,
                _ => Patience::Quick,
            };
            Link::new(session, client, patience)
        });
        let links: Vec<Link> = links.collect();
        Self {
            server: Server::new(SESSIONS),
            random,
            links,
            now: START,
        }
    }

    /// One small thing happens somewhere.
    fn step(&mut self) {
        self.now = self.now.plus(Duration::from_millis(self.random.below(3)));
        let index = self.random.index(SESSIONS);
        if self.random.chance(40) {
            // Somebody who is not behind us publishes, secrets among it.
            let subject =
                ["pub.secret.k", "pub.open.a", "pub.b.x", "other.x"][self.random.below(4) as usize];
            let payload = format!("outside {} -ERR 'no'", self.now.as_millis());
            self.server
                .publish(&mut self.random, subject, None, payload.as_bytes());
        }
        let link = &mut self.links[index];
        link.step(&mut self.random, self.now);
        let sent = link.take_sent_upstream();
        self.server.receive(&mut self.random, index, &sent);
        self.links[index].receive_upstream(self.server.take(index));
    }

    /// Everybody reads and writes as much as there is, until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for index in 0..SESSIONS {
                let link = &mut self.links[index];
                moved |= link.settle(self.now);
                let sent = link.take_sent_upstream();
                moved |= !sent.is_empty();
                self.server.receive(&mut self.random, index, &sent);
            }
            for index in 0..SESSIONS {
                let more = self.server.take(index);
                moved |= !more.is_empty();
                self.links[index].receive_upstream(more);
            }
            if !moved {
                return;
            }
        }
    }
}

#[test]
fn whatever_is_forwarded_was_judged_and_whatever_was_judged_is_forwarded() {
    let limits = patient();
    for seed in 0..6 {
        let mut world = World::new(seed, &limits);
        for _ in 0..20_000 {
            world.step();
        }
        world.settle();
        let mut passed = 0;
        for (index, link) in world.links.iter().enumerate() {
            assert_eq!(link.close_reason(), None, "seed {seed}, session {index}");
            assert!(
                link.client.is_done(),
                "seed {seed}: session {index} sent not all"
            );
            let forwarded = world.server.publishes(index);
            assert_eq!(
                forwarded,
                link.client.granted(),
                "seed {seed}, session {index}"
            );
            assert_eq!(
                link.errors(),
                link.client.errors(),
                "seed {seed}, session {index}"
            );
            assert_eq!(
                link.pongs(),
                link.client.pings(),
                "seed {seed}, session {index}"
            );
            check_deliveries(link, world.server.sent_to(index), true);
            passed += link.messages().len();
        }
        assert!(
            passed > 500,
            "seed {seed}: only {passed} messages were delivered"
        );
    }
}

/// Every message that the client got was sent to it, in that order and byte for byte; nothing secret; and all of it that is
/// not, where the client never unsubscribed.
fn check_deliveries(link: &Link, sent: &[Vec<u8>], to_the_end: bool) {
    let mut sent = sent.iter().filter(|frame| !is_secret(frame));
    let mut skipped = 0;
    for message in link.messages() {
        assert!(!is_secret(&message), "leaked: {}", message.escape_ascii());
        loop {
            match sent.next() {
                Some(frame) if *frame == message => break,
                Some(_) => skipped += 1,
                None => panic!("out of nowhere: {}", message.escape_ascii()),
            }
        }
    }
    if to_the_end && !link.client.unsubscribes() {
        assert_eq!(skipped + sent.count(), 0, "messages were lost");
    }
}

#[test]
fn cuts_and_slow_peers_leave_whole_frames_and_leak_nothing() {
    // Short deadlines, so that the slowest are cut by us.
    let limits = Limits {
        write_deadline: Duration::from_millis(2_500),
        ..Limits::default()
    };
    let mut reasons = std::collections::BTreeSet::new();
    for seed in 100..106 {
        let mut world = World::new(seed, &limits);
        for _ in 0..12_000 {
            world.step();
            if world.random.chance(250) {
                let index = world.random.index(SESSIONS);
                let (link, now) = (&mut world.links[index], world.now);
                match world.random.below(6) {
                    0 => link.session.handle_client_eof(now),
                    1 => link.session.handle_client_lost(now),
                    2 => link.session.handle_upstream_eof(now),
                    3 => link.session.handle_end(CloseReason::Killed, now),
                    4 => link.session.handle_end(CloseReason::Revoked, now),
                    _ => link.session.handle_end(CloseReason::Drained, now),
                }
            }
        }
        world.settle();
        for (index, link) in world.links.iter().enumerate() {
            reasons.extend(link.close_reason().map(CloseReason::label));
            let forwarded = world.server.publishes(index);
            let granted = link.client.granted();
            assert!(
                granted.starts_with(&forwarded),
                "seed {seed}, session {index}"
            );
            let errors = link.errors();
            let said: Vec<_> = errors
                .iter()
                .filter(|text| !text.contains("Authorization") && !text.contains("Revoked"))
                .cloned()
                .collect();
            assert!(
                link.client.errors().starts_with(&said),
                "seed {seed}, session {index}"
            );
            check_deliveries(link, world.server.sent_to(index), false);
        }
    }
    for reason in [
        "client_lost",
        "client_closed",
        "upstream_closed",
        "killed",
        "revoked",
        "drained",
        "client_slow",
    ] {
        assert!(
            reasons.contains(reason),
            "{reason} never happened: {reasons:?}"
        );
    }
}

/// After a change of policy, no frame begins that the new policy does not grant: not upstream, and not to the client, where
/// messages of lost subscriptions are still under way and their sids are used again.
#[test]
fn a_narrower_policy_holds_from_the_moment_it_is_given() {
    let mut crossings = 0;
    for seed in 200..206 {
        let mut world = World::new(seed, &patient());
        for index in 0..SESSIONS {
            world.links[index].client.subscribe_to_everything();
        }
        for round in 0..8 {
            for _ in 0..600 {
                world.step();
            }
            let narrow = round % 2 == 0;
            let role = if narrow { narrow_role() } else { role() };
            for index in 0..SESSIONS {
                let name = format!("client-{index}");
                let permissions = support::permissions(&role, &name);
                let link = &mut world.links[index];
                crossings += usize::from(link.has_bytes_from_upstream());
                link.change_policy(permissions, narrow, world.now);
            }
        }
        world.settle();
        for (index, link) in world.links.iter().enumerate() {
            assert_eq!(link.close_reason(), None, "seed {seed}, session {index}");
            link.check_narrow_times(&format!("seed {seed}, session {index}"));
        }
    }
    assert!(
        crossings > 100,
        "only {crossings} changes met messages under way"
    );
}
