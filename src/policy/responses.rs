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

/// New requests after which old ones are looked for, as in nats-server (`client.go:replyPermLimit`).
const PRUNE_AFTER: usize = 4_096;

/// Time after which old ones are looked for (`client.go:replyPruneTime`).
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// Reply subjects that may be answered. Subjects of up to 64 bytes are kept without an allocation of their own.
#[derive(Debug, Default)]
pub(super) struct OpenRequests {
    requests: HashMap<SmallVec<[u8; 64]>, Request>,
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
        if self.requests.len() >= MOST_REQUESTS && !self.requests.contains_key(reply) {
            return;
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
        }
        within
    }

    fn prune(&mut self, rule: Responses, now: Timestamp) {
        self.requests.retain(|_, request| {
            rule.max.is_none_or(|max| request.answers < max) && now.since(request.at) <= rule.ttl
        });
        self.since_prune = 0;
        self.last_prune = now;
    }
}
