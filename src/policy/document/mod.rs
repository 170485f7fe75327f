//! The policy as an operator writes it: roles and tests, with strict keys.
//!
//! Owns: the shape of the YAML and the words in it. Must never: decide anything, or fail on what `compile` can explain
//! better: a subject is a plain text here, so that one run reports every wrong subject with its place.

mod bind;
mod case;
mod resource;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub use bind::{Bind, PrincipalKind, Require};
pub use case::{TestCase, TestIdentity};
pub use resource::{BucketGrant, ObjectGrant, Reach, StreamGrant};
#[cfg(feature = "shell")]
pub(crate) use text::{OneOrMany, one_or_many};

use super::units::{ByteRate, ByteSize, HumanDuration, Moment, Rate};

/// The policy part of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    /// Named sets of grants.
    pub roles: BTreeMap<String, Role>,
    /// Claims that templates may name besides `oid`, `tid`, `azp` and `sub`.
    pub template_claims: Vec<String>,
    /// What must hold of these roles; run by `natsentry check`.
    pub tests: Vec<TestCase>,
}

/// A named set of grants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Who has the role: an identity that fits any one line.
    #[serde(default)]
    pub bind: Vec<Bind>,
    /// What must hold besides; every condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Require>,
    /// Name of the upstream that the role's sessions go to.
    #[serde(default)]
    pub upstream: String,
    /// Which role picks the upstream when roles of one identity name different ones; the highest wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Subjects to publish to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    /// Subjects to subscribe to, with or without a queue group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<SubscribeGrant>,
    /// Subjects to send requests to; the answers arrive in an inbox of the session's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<String>,
    /// Leave to answer received requests at their reply subject (nats-server's `allow_responses`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond: Option<Respond>,
    /// What is refused whatever else grants it, this role or another.
    #[serde(default, skip_serializing_if = "Deny::is_empty")]
    pub deny: Deny,
    /// How inboxes and reply subjects are treated.
    #[serde(default)]
    pub inbox: InboxMode,
    /// What the configuration of a stream, which a request to JetStream brings, may name.
    #[serde(default, skip_serializing_if = "StreamConfigMode::is_judged")]
    pub stream_config: StreamConfigMode,
    /// Limits of each session or identity.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// When the role exists at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<Valid>,
    /// Whether refusals are carried out or only recorded.
    #[serde(default)]
    pub mode: Mode,
    /// JetStream streams by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stream: BTreeMap<String, StreamGrant>,
    /// Key-value buckets by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kv: BTreeMap<String, BucketGrant>,
    /// Object stores by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub object: BTreeMap<String, ObjectGrant>,
    /// Leave to grant subjects whose first token is a wildcard.
    #[serde(default, skip_serializing_if = "is_false")]
    pub broad: bool,
    /// What the audit records of this role's sessions.
    #[serde(default)]
    pub audit: AuditDepth,
}

/// A subject to subscribe to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum SubscribeGrant {
    /// A subject, for plain subscriptions and for any queue group.
    Plain(String),
    /// A subject for members of one queue group only.
    Queue(QueueGrant),
}

/// A subject with the queue group that may be joined on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueGrant {
    /// The subject.
    pub subject: String,
    /// The queue group: a name, `*` and `>` as tokens of it, or `hist-*` for any end of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
}

impl SubscribeGrant {
    /// Subject and queue group.
    pub fn parts(&self) -> (&str, Option<&str>) {
        match self {
            Self::Plain(subject) => (subject, None),
            Self::Queue(grant) => (&grant.subject, grant.queue.as_deref()),
        }
    }
}

impl<'de> Deserialize<'de> for SubscribeGrant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = SubscribeGrant;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a subject, or { subject: jobs.*, queue: workers }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SubscribeGrant, E> {
                Ok(SubscribeGrant::Plain(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SubscribeGrant, A::Error> {
                QueueGrant::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(SubscribeGrant::Queue)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// `respond`: how often and how long a received request may be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// Answers to one request; -1 for any number.
    #[serde(default = "one")]
    #[schemars(range(min = -1))]
    pub max: i64,
    /// How long after the request.
    #[serde(default = "two_minutes")]
    pub ttl: HumanDuration,
}

/// What is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deny {
    /// Subjects not to publish to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    /// Subjects not to receive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<SubscribeGrant>,
}

impl Deny {
    fn is_empty(&self) -> bool {
        self.publish.is_empty() && self.subscribe.is_empty()
    }
}

/// How inboxes and reply subjects are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InboxMode {
    /// Inboxes of the session's own, and replies only there or where it may publish.
    #[default]
    Private,
    /// Everything below `_INBOX.`; replies are not judged.
    Shared,
    /// No inbox is granted; replies are not judged: nats-server's own semantics.
    Off,
}

/// What may stand in the configuration of a stream, for whoever is granted the request that brings it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamConfigMode {
    /// Subjects that the role may subscribe to, streams that it may read, and destinations that it may publish to.
    #[default]
    Judged,
    /// Anything: with it one can read and write everywhere in the account.
    Any,
}

impl StreamConfigMode {
    const fn is_judged(&self) -> bool {
        matches!(self, Self::Judged)
    }
}

/// Limits. A figure that no role of an identity states is the configuration's general one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Sessions of one identity at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Subscriptions of one session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<u32>,
    /// Size of one message, headers included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<ByteSize>,
    /// Messages that one session may publish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Rate>,
    /// Bytes that one session may publish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteRate>,
}

impl Limits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// When a role exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Valid {
    /// The first moment; a day from its beginning in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Moment>,
    /// The last moment; a day until its end in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
}

/// Whether refusals are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Refusals are carried out.
    #[default]
    Enforce,
    /// Refusals are recorded only, for an identity whose roles all observe.
    Observe,
}

/// What the audit records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditDepth {
    /// Connects, closes, refusals.
    #[default]
    Sessions,
    /// Every publish too.
    Messages,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

const fn one() -> i64 {
    1
}

const fn two_minutes() -> HumanDuration {
    HumanDuration::new(std::time::Duration::from_secs(120))
}
