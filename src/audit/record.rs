//! One fact as one JSON object: the field names and their order, which are public interface.
//!
//! Must never: hold a token, a password or a message payload. Text that a peer chose is clipped, and bytes are written so
//! that any of them can be had back.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::decision::DecisionId;
use crate::identity::{Groups, Identity, Kind};
use crate::session::{Closed, Connected, Denied, Traffic};
use crate::time::Timestamp;

/// Everything a line may hold. What does not apply is left out.
#[derive(Default, Serialize)]
pub(super) struct Record<'a> {
    pub(super) time: Shown<Timestamp>,
    pub(super) event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decision: Option<Shown<DecisionId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verdict: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<u64>,
    #[serde(flatten)]
    pub(super) who: Who<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<Shown<SocketAddr>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_ip: Option<IpAddr>,
    #[serde(flatten)]
    pub(super) bound: BoundFields<'a>,
    #[serde(flatten)]
    pub(super) operation: Option<OperationFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) blame: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<&'a str>,
    #[serde(flatten)]
    pub(super) admitted: Option<AdmittedFields<'a>>,
    #[serde(flatten)]
    pub(super) end: Option<EndFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) suppressed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Shown<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<&'a str>,
}

/// The identity.
#[derive(Default, Serialize)]
pub(super) struct Who<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    azp: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uti: Option<&'a str>,
    /// Where the groups come from, unless it is the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<&'static str>,
}

impl<'a> Who<'a> {
    pub(super) fn of(identity: Option<&'a Identity>) -> Self {
        let Some(identity) = identity else {
            return Self::default();
        };
        Self {
            tid: Some(&identity.tid),
            oid: Some(&identity.oid),
            azp: identity.azp.as_deref(),
            kind: Some(match identity.kind {
                Kind::User => "user",
                Kind::App => "app",
            }),
            name: identity
                .display_name
                .as_deref()
                .map(|name| clip(name, NAME_BYTES)),
            uti: identity.uti.as_deref().map(|uti| clip(uti, NAME_BYTES)),
            groups: match identity.groups {
                Groups::Resolved { .. } => Some("graph"),
                Groups::Unknown | Groups::Misnamed => Some("unknown"),
                Groups::Known(_) | Groups::Named(_) => None,
            },
        }
    }
}

/// What stays true of a session from its admission to its end; in every line of it, so that each stands alone.
#[derive(Default, Serialize)]
pub(super) struct BoundFields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<&'a [Arc<str>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    library: Option<&'a str>,
}

impl<'a> BoundFields<'a> {
    pub(super) fn of(connected: &'a Connected) -> Self {
        Self {
            roles: Some(&connected.roles),
            upstream: Some(&connected.upstream),
            library: Some(&connected.library),
        }
    }

    /// A client that named its library and was not admitted.
    pub(super) fn library(library: &'a str) -> Self {
        Self {
            library: Some(library),
            ..Self::default()
        }
    }
}

/// The denied operation.
#[derive(Serialize)]
pub(super) struct OperationFields<'a> {
    op: &'static str,
    subject: Bytes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Bytes<'a>>,
    size: u32,
}

impl<'a> OperationFields<'a> {
    pub(super) fn of(denied: &'a Denied) -> Self {
        Self {
            op: denied.operation.label(),
            subject: Bytes(&denied.subject),
            reply: denied.reply.as_deref().map(Bytes),
            queue: denied.queue.as_deref().map(Bytes),
            size: denied.size,
        }
    }
}

/// How a client was admitted.
#[derive(Serialize)]
pub(super) struct AdmittedFields<'a> {
    server: &'a str,
    connection_name: &'a str,
    tls: bool,
    ends_at: Shown<Timestamp>,
}

impl<'a> AdmittedFields<'a> {
    pub(super) fn of(connected: &'a Connected) -> Self {
        Self {
            server: &connected.server,
            connection_name: &connected.name,
            tls: connected.tls,
            ends_at: Shown(connected.ends_at),
        }
    }
}

/// How long it lived and what passed.
#[derive(Serialize)]
pub(super) struct EndFields {
    duration_ms: u64,
    messages_in: u64,
    bytes_in: u64,
    messages_out: u64,
    bytes_out: u64,
    denied: u64,
    filtered: u64,
}

impl EndFields {
    pub(super) const fn of(closed: &Closed) -> Self {
        let Traffic {
            messages_in,
            bytes_in,
            messages_out,
            bytes_out,
            denied,
            filtered,
        } = closed.traffic;
        Self {
            duration_ms: closed.duration_ms,
            messages_in,
            bytes_in,
            messages_out,
            bytes_out,
            denied,
            filtered,
        }
    }
}

/// Written with its `Display`.
#[derive(Default)]
pub(super) struct Shown<T>(pub(super) T);

impl<T: std::fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Bytes as text; see [`push_bytes`].
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.0.len());
        push_bytes(&mut text, self.0);
        serializer.serialize_str(&text)
    }
}

/// Appends bytes as text from which they can be had back: UTF-8 stays, a backslash is doubled, any other byte is `\xNN`.
/// (NATS subjects need not be UTF-8. JSON escapes come on top.)
fn push_bytes(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                text.push('\\');
            }
            text.push(c);
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
}

/// At most `limit` bytes, ending where a character ends.
fn clip(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or("")
}

/// Names are for people; nobody's is longer.
const NAME_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        let mut text = String::new();
        push_bytes(&mut text, bytes);
        text
    }

    /// The inverse of `push_bytes`, as a reader of the audit would write it.
    fn read_back(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            rest = match (first, tail.first()) {
                (b'\\', Some(b'x')) => {
                    let digits = std::str::from_utf8(&tail[1..3]).unwrap();
                    out.push(u8::from_str_radix(digits, 16).unwrap());
                    &tail[3..]
                }
                (b'\\', Some(_)) => {
                    out.push(b'\\');
                    &tail[1..]
                }
                _ => {
                    out.push(first);
                    tail
                }
            };
        }
        out
    }

    #[test]
    fn any_bytes_can_be_had_back() {
        assert_eq!(shown("a.grün.\\x".as_bytes()), "a.grün.\\\\x");
        assert_eq!(shown(b"a.\xff\xc3("), "a.\\xff\\xc3(");
        let every: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        assert_eq!(read_back(&shown(&every)), every);
    }

    #[test]
    fn a_clipped_name_ends_where_a_character_ends() {
        assert_eq!(clip("grün", 3), "gr");
        assert_eq!(clip("grün", 4), "grü");
        assert_eq!(clip("grün", 400), "grün");
    }
}
