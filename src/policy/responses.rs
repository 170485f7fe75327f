//! Received requests that may still be answered: nats-server's `allow_responses`.
//!
//! Owns: which reply subjects a session was sent, when, and how often it answered. Must never: hold more than
//! [`MOST_REQUESTS`] of them, or let an answer through after its time or number.
//!
//! The rule is that of nats-server 2.9 (`client.go:pubAllowedFullCheck`, `deliverMsg`): each delivery starts a reply
//! subject afresh. Servers since 2.11 use an answer up when two requests carry the same reply, which is not what their
//! documentation says.

use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use super::rights::Responses;
use crate::time::Timestamp;

/// Requests that one session may have open at once. nats-server has no bound; a request beyond this one is delivered,
/// and its answer refused.
const MOST_REQUESTS: usize = 16_384;

/// Bytes of their reply subjects together. Inboxes are shorter than 64 on the whole; a request beyond is treated likewise.
const MOST_BYTES: usize = MOST_REQUESTS * 64;

/// Bytes that an open request, or the room for one, costs besides its reply subject.
const EACH: usize = 128;

/// New requests after which old ones are looked for, as in nats-server (`client.go:replyPermLimit`).
const PRUNE_AFTER: usize = 4_096;

/// Time after which old ones are looked for (`client.go:replyPruneTime`).
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// Reply subjects that may be answered. Subjects of up to 64 bytes are kept without an allocation of their own.
#[derive(Debug, Default)]
pub(super) struct OpenRequests {
    requests: HashTable<Request>,
    /// Others choose the subjects: seeded anew for each session.
    hashes: RandomState,
    /// Bytes of all reply subjects.
    bytes: usize,
    since_prune: usize,
    last_prune: Timestamp,
}

#[derive(Debug)]
struct Request {
    reply: SmallVec<[u8; 64]>,
    at: Timestamp,
    answers: u32,
}

impl Request {
    /// Whether it may be answered once more.
    fn is_open(&self, rule: Responses, now: Timestamp) -> bool {
        rule.max.is_none_or(|max| self.answers < max) && now.since(self.at) <= rule.ttl
    }
}

impl OpenRequests {
    /// A message with this reply subject was delivered.
    pub(super) fn open(&mut self, reply: &[u8], rule: Responses, now: Timestamp) {
        self.since_prune = self.since_prune.saturating_add(1);
        if self.since_prune > PRUNE_AFTER || now.since(self.last_prune) > PRUNE_EVERY {
            self.prune(rule, now);
        }
        let Self {
            requests, hashes, ..
        } = self;
        let (len, bytes) = (requests.len(), self.bytes.saturating_add(reply.len()));
        let same = |request: &Request| *request.reply == *reply;
        let hash_of = |request: &Request| hash(hashes, &request.reply);
        match requests.entry(hash(hashes, reply), same, hash_of) {
            Entry::Occupied(mut place) => {
                let request = place.get_mut();
                (request.at, request.answers) = (now, 0);
            }
            Entry::Vacant(_) if len >= MOST_REQUESTS || bytes > MOST_BYTES => {}
            Entry::Vacant(place) => {
                self.bytes = bytes;
                place.insert(Request {
                    reply: SmallVec::from_slice(reply),
                    at: now,
                    answers: 0,
                });
            }
        }
    }

    /// Whether the subject is the reply of an open request; an answer is used up if so. A request of which none is left is
    /// forgotten at once: nats-server keeps it until it looks for old ones, and refuses the next answer all the same.
    pub(super) fn answer(&mut self, subject: &[u8], rule: Responses, now: Timestamp) -> bool {
        let same = |request: &Request| *request.reply == *subject;
        let hash = hash(&self.hashes, subject);
        let Ok(mut place) = self.requests.find_entry(hash, same) else {
            return false;
        };
        let within = place.get().is_open(rule, now);
        let request = place.get_mut();
        request.answers = request.answers.saturating_add(1);
        if !request.is_open(rule, now) {
            place.remove();
            self.bytes = self.bytes.saturating_sub(subject.len());
        }
        within
    }

    /// Whether there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Bytes of memory that they hold.
    pub(super) fn held(&self) -> usize {
        self.bytes
            .saturating_add(self.requests.len().saturating_mul(EACH))
    }

    /// The same, and the room that those had which are gone.
    pub(super) fn footprint(&self) -> usize {
        self.bytes
            .saturating_add(self.requests.capacity().saturating_mul(EACH))
    }

    /// Forgets those that are no longer open, and gives the room back that they had.
    pub(super) fn rest(&mut self, rule: Responses, now: Timestamp) {
        self.prune(rule, now);
        let hashes = &self.hashes;
        self.requests
            .shrink_to_fit(|request| hash(hashes, &request.reply));
    }

    fn prune(&mut self, rule: Responses, now: Timestamp) {
        self.requests.retain(|request| request.is_open(rule, now));
        let replies = self.requests.iter().map(|request| request.reply.len());
        self.bytes = replies.sum();
        self.since_prune = 0;
        self.last_prune = now;
    }
}

/// The bytes alone: their length, which `Hash` would add, is in them.
#[inline]
fn hash(hashes: &RandomState, reply: &[u8]) -> u64 {
    let mut hasher = hashes.build_hasher();
    hasher.write(reply);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reply_subjects_are_bounded_and_counted() {
        let rule = Responses {
            max: Some(1),
            ttl: Duration::from_secs(60),
        };
        let now = Timestamp::from_secs(1);
        let reply = |n: usize| format!("{n:0>4000}").into_bytes();
        let mut requests = OpenRequests::default();
        for n in 0..1000 {
            requests.open(&reply(n), rule, now);
        }
        assert!(requests.bytes <= MOST_BYTES && requests.held() > MOST_BYTES / 2);
        assert!(!requests.answer(&reply(999), rule, now));
        for n in 0..1000 {
            requests.answer(&reply(n), rule, now);
            assert!(!requests.answer(&reply(n), rule, now));
        }
        assert_eq!(requests.held(), 0);
        assert!(requests.footprint() > 0);
        requests.rest(rule, now);
        assert_eq!(requests.footprint(), 0);
    }
}
