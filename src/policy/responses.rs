//! Received requests that may still be answered: nats-server's `allow_responses`.
//!
//! Owns: which reply subjects a session was sent, when, and how often it answered. Must never: hold more than
//! [`MOST_REQUESTS`] of them, or let an answer through after its time or number.
//!
//! The rule is that of nats-server 2.9 (`client.go:pubAllowedFullCheck`, `deliverMsg`): each delivery starts a reply
//! subject afresh. Servers since 2.11 use an answer up when two requests carry the same reply, which is not what their
//! documentation says.

use std::collections::HashMap;
use std::time::Duration;

use smallvec::SmallVec;

use super::rights::Responses;
use crate::time::Timestamp;

/// Requests that one session may have open at once. nats-server has no bound; a request beyond this one is delivered,
/// and its answer refused.
const MOST_REQUESTS: usize = 16_384;

/// Bytes of their reply subjects together. Inboxes are shorter than 64 on the whole; a request beyond is treated likewise.
const MOST_BYTES: usize = MOST_REQUESTS * 64;

/// Bytes that an open request costs besides its reply subject.
const EACH: usize = 128;

/// New requests after which old ones are looked for, as in nats-server (`client.go:replyPermLimit`).
const PRUNE_AFTER: usize = 4_096;

/// Time after which old ones are looked for (`client.go:replyPruneTime`).
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// Reply subjects that may be answered. Subjects of up to 64 bytes are kept without an allocation of their own.
#[derive(Debug, Default)]
pub(super) struct OpenRequests {
    requests: HashMap<SmallVec<[u8; 64]>, Request>,
    /// Bytes of all reply subjects.
    bytes: usize,
    since_prune: usize,
    last_prune: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    at: Timestamp,
    answers: u32,
}

impl OpenRequests {
    /// A message with this reply subject was delivered.
    pub(super) fn open(&mut self, reply: &[u8], rule: Responses, now: Timestamp) {
        self.since_prune = self.since_prune.saturating_add(1);
        if self.since_prune > PRUNE_AFTER || now.since(self.last_prune) > PRUNE_EVERY {
            self.prune(rule, now);
        }
        if !self.requests.contains_key(reply) {
            let bytes = self.bytes.saturating_add(reply.len());
            if self.requests.len() >= MOST_REQUESTS || bytes > MOST_BYTES {
                return;
            }
            self.bytes = bytes;
        }
        let request = Request {
            at: now,
            answers: 0,
        };
        self.requests.insert(SmallVec::from_slice(reply), request);
    }

    /// Whether the subject is the reply of an open request; an answer is used up if so.
    pub(super) fn answer(&mut self, subject: &[u8], rule: Responses, now: Timestamp) -> bool {
        let Some(request) = self.requests.get_mut(subject) else {
            return false;
        };
        request.answers = request.answers.saturating_add(1);
        let within =
            rule.max.is_none_or(|max| request.answers <= max) && now.since(request.at) <= rule.ttl;
        if !within {
            self.requests.remove(subject);
            self.bytes = self.bytes.saturating_sub(subject.len());
        }
        within
    }

    /// Bytes of memory that they hold.
    pub(super) fn held(&self) -> usize {
        self.bytes
            .saturating_add(self.requests.len().saturating_mul(EACH))
    }

    fn prune(&mut self, rule: Responses, now: Timestamp) {
        self.requests.retain(|_, request| {
            rule.max.is_none_or(|max| request.answers < max) && now.since(request.at) <= rule.ttl
        });
        self.bytes = self.requests.keys().map(SmallVec::len).sum();
        self.since_prune = 0;
        self.last_prune = now;
    }
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
    }
}
