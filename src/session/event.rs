//! Every fact worth counting or auditing. Metrics and audit read the same stream, so a count and an audit line can
//! never disagree.

use std::net::SocketAddr;
use std::sync::Arc;

use super::close::CloseReason;
use crate::identity::Identity;
use crate::policy::DenialReason;
use crate::time::Timestamp;

/// Number of a session, unique for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// One fact about one session.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it happened.
    pub at: Timestamp,
    /// Which session.
    pub session: SessionId,
    /// Where the client is (after a PROXY header, the address that the header names).
    pub client: SocketAddr,
    /// Who it is; none before the token is accepted.
    pub identity: Option<Arc<Identity>>,
    /// What happened.
    pub kind: EventKind,
}

/// The kinds of fact.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// A client was admitted and bound to an upstream connection. Shared by those who remember it until the session ends.
    Connected(Arc<Connected>),
    /// A token or CONNECT was refused. `code` is one of the closed set of refusal codes (`time.expired`, `authz.norule`),
    /// `sentence` says what to do; neither holds any part of the token's signature.
    Refused {
        /// Closed set; a metric label.
        code: &'static str,
        /// For the log and the audit, never for the client.
        sentence: Box<str>,
        /// Client library and version from CONNECT, clipped.
        library: Box<str>,
    },
    /// Nothing can be said about a token or its groups now: not a refusal. `code` is one of a closed set
    /// (`key.unavailable`, `graph.throttled`), `sentence` says what to do.
    Postponed {
        /// Closed set; a metric label.
        code: &'static str,
        /// For the log and the audit, never for the client.
        sentence: Box<str>,
        /// Client library and version from CONNECT, clipped.
        library: Box<str>,
    },
    /// A live session was revoked; its end follows. `code` and `sentence` as of a refusal.
    Revoked {
        /// Closed set.
        code: &'static str,
        /// For the log and the audit, never for the client.
        sentence: Box<str>,
    },
    /// An operation was denied; the session lives on.
    Denied(Denied),
    /// The session ended.
    Closed(Closed),
}

/// An admitted client.
#[derive(Clone, Debug)]
pub struct Connected {
    /// Roles that apply.
    pub roles: Vec<Arc<str>>,
    /// Name of the upstream.
    pub upstream: Arc<str>,
    /// The upstream server's address.
    pub server: Box<str>,
    /// `lang version` of the client library, clipped to 64 bytes.
    pub library: Box<str>,
    /// CONNECT `name`, clipped to 128 bytes.
    pub name: Box<str>,
    /// When the session will end at the latest.
    pub ends_at: Timestamp,
    /// Whether the client leg is TLS.
    pub tls: bool,
}

/// The operation that was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// PUB or HPUB.
    Publish,
    /// SUB.
    Subscribe,
    /// A message of upstream that a deny entry keeps from the client.
    Deliver,
}

impl Operation {
    /// Metric label and audit word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Deliver => "deliver",
        }
    }

    /// Every operation.
    pub const ALL: [Self; 3] = [Self::Publish, Self::Subscribe, Self::Deliver];
}

/// A denied operation.
#[derive(Clone, Debug)]
pub struct Denied {
    /// What was tried.
    pub operation: Operation,
    /// Subject as sent, bytes; clipped to 256.
    pub subject: Box<[u8]>,
    /// Reply subject, clipped.
    pub reply: Option<Box<[u8]>>,
    /// Queue group, clipped.
    pub queue: Option<Box<[u8]>>,
    /// Payload size in bytes, headers included (0 for SUB).
    pub size: u32,
    /// Why.
    pub reason: DenialReason,
    /// The line of the policy, where one denied it.
    pub rule: Option<Arc<str>>,
    /// The role is in `mode: observe`: the operation went through all the same.
    pub observed: bool,
}

/// The end of a session.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// From accept to close, in milliseconds.
    pub duration_ms: u64,
    /// What passed.
    pub traffic: Traffic,
}

/// Plain counters of a session; the shell exports the difference since its last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages forwarded to upstream.
    pub messages_in: u64,
    /// Payload and header bytes of those.
    pub bytes_in: u64,
    /// Messages forwarded to the client.
    pub messages_out: u64,
    /// Payload and header bytes of those.
    pub bytes_out: u64,
    /// Operations denied.
    pub denied: u64,
    /// Deliveries kept back by a deny entry.
    pub filtered: u64,
}

/// Longest subject, reply or queue kept in an event, in bytes.
const CLIP: usize = 256;

pub(super) fn clip(bytes: &[u8]) -> Box<[u8]> {
    bytes.get(..CLIP).unwrap_or(bytes).into()
}

/// At most `max` bytes of `text`, cut between characters, with `?` for whatever could begin a line or steer a terminal:
/// it is shown in the log.
pub(super) fn clip_text(text: &str, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let ends_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.get(..end).unwrap_or_default().replace(ends_line, "?")
}

impl Traffic {
    /// What passed after `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            messages_in: self.messages_in.saturating_sub(earlier.messages_in),
            bytes_in: self.bytes_in.saturating_sub(earlier.bytes_in),
            messages_out: self.messages_out.saturating_sub(earlier.messages_out),
            bytes_out: self.bytes_out.saturating_sub(earlier.bytes_out),
            denied: self.denied.saturating_sub(earlier.denied),
            filtered: self.filtered.saturating_sub(earlier.filtered),
        }
    }
}
