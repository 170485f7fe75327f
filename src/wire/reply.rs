//! The closed list of `-ERR` texts that natsentry may say. Official clients match on these texts, and close for good
//! on one that they do not know, so none is ever invented.
//!
//! Source: nats-server `server/errors.go`, `server/client.go` and `server/parser.go`.

use super::quote::push_quoted;

/// Fixed `-ERR` texts, exactly as nats-server spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrText {
    /// Authentication failed, or an operation came before CONNECT.
    AuthorizationViolation,
    /// No CONNECT in time.
    AuthenticationTimeout,
    /// The parser does not know the operation.
    UnknownProtocolOperation,
    /// A control line above the limit.
    MaximumControlLineExceeded,
    /// A payload above the limit.
    MaximumPayloadViolation,
    /// More subscriptions than the connection may have; the session lives on.
    MaximumSubscriptionsExceeded,
    /// CONNECT `protocol` outside 0..=1.
    InvalidClientProtocol,
    /// CONNECT `no_responders` without `headers`.
    NoRespondersRequiresHeaders,
    /// A SUB subject with an empty token or a `>` that is not last; the session lives on.
    InvalidSubject,
    /// Pedantic only: a PUB subject with wildcards or empty tokens; the message is processed.
    InvalidPublishSubject,
    /// PINGs went unanswered.
    StaleConnection,
    /// A live session whose identity was revoked (`server/client.go`, `authViolation` and its like for revoked users).
    UserAuthenticationRevoked,
}

impl ErrText {
    /// The text between the single quotes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationViolation => "Authorization Violation",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::UnknownProtocolOperation => "Unknown Protocol Operation",
            Self::MaximumControlLineExceeded => "maximum control line exceeded",
            Self::MaximumPayloadViolation => "Maximum Payload Violation",
            Self::MaximumSubscriptionsExceeded => "maximum subscriptions exceeded",
            Self::InvalidClientProtocol => "invalid client protocol",
            Self::NoRespondersRequiresHeaders => "no responders requires headers support",
            Self::InvalidSubject => "Invalid Subject",
            Self::InvalidPublishSubject => "Invalid Publish Subject",
            Self::StaleConnection => "Stale Connection",
            Self::UserAuthenticationRevoked => "User Authentication Revoked",
        }
    }

    /// Appends `-ERR '<text>'\r\n`.
    pub fn push(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"-ERR '");
        out.extend_from_slice(self.as_str().as_bytes());
        out.extend_from_slice(b"'\r\n");
    }
}

/// A `Permissions Violation`, with the subject quoted as Go's `%q` does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionsViolation<'a> {
    /// A PUB or HPUB to a subject.
    Publish(&'a [u8]),
    /// A PUB or HPUB with a reply subject that is reserved or not the identity's own.
    PublishReply(&'a [u8]),
    /// A SUB.
    Subscription(&'a [u8]),
    /// A SUB with a queue group: subject, queue.
    QueueSubscription(&'a [u8], &'a [u8]),
    /// A live subscription that a change of policy removed: subject, queue, sid. nats-server names the queue here
    /// since 2.12.14 and 2.14.4.
    LostSubscription(&'a [u8], Option<&'a [u8]>, &'a [u8]),
}

impl PermissionsViolation<'_> {
    /// Appends `-ERR 'Permissions Violation ...'\r\n`.
    pub fn push(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"-ERR 'Permissions Violation for ");
        match self {
            Self::Publish(subject) => {
                out.extend_from_slice(b"Publish to ");
                push_quoted(out, subject);
            }
            Self::PublishReply(reply) => {
                out.extend_from_slice(b"Publish with Reply of ");
                push_quoted(out, reply);
            }
            Self::Subscription(subject) => {
                out.extend_from_slice(b"Subscription to ");
                push_quoted(out, subject);
            }
            Self::QueueSubscription(subject, queue) => {
                push_subscription(out, subject, Some(queue));
            }
            Self::LostSubscription(subject, queue, sid) => {
                push_subscription(out, subject, queue);
                out.extend_from_slice(b" (sid ");
                push_quoted(out, sid);
                out.push(b')');
            }
        }
        out.extend_from_slice(b"'\r\n");
    }
}

fn push_subscription(out: &mut Vec<u8>, subject: &[u8], queue: Option<&[u8]>) {
    out.extend_from_slice(b"Subscription to ");
    push_quoted(out, subject);
    if let Some(queue) = queue {
        out.extend_from_slice(b" using queue ");
        push_quoted(out, queue);
    }
}
