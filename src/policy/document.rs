//! The policy as an operator writes it: roles and tests, with strict keys.
//!
//! Owns: the shape of the YAML and the words in it. Must never: decide anything, or fail on what `compile` can explain
//! better: a subject is a plain text here, so that one run reports every wrong subject with its place.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::units::{ByteRate, ByteSize, Cidr, HumanDuration, Moment, Rate};

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

/// One line of `bind`: exactly one of `app_role`, `app_id`, `group`, `scope` and `user`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// An app role of our registration (`roles` claim), compared exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<String>,
    /// A client application (`azp` or `appid`), as itself: app-only tokens. For people who use an application see
    /// `require.clients`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// A group's object id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// A delegated scope (`scp` claim); people only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// An object id: one person, service principal or managed identity. For another issuer its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only for identities of this tenant (a GUID), or of this issuer (its URL).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// A name for people; never decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Conditions on the token and the connection; all must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Require {
    /// Authentication contexts (`c1`) that the token must state; all of them.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub acrs: Vec<String>,
    /// How well the client application proved itself, at least: 0 not at all, 1 with a secret, 2 with a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2))]
    pub azpacr: Option<u8>,
    /// Where the connection comes from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<Cidr>,
    /// 0 for members of the tenant only, 1 for guests only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1))]
    pub acct: Option<u8>,
    /// Client applications (`azp` or `appid`) that may be used.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub clients: Vec<String>,
    /// How long ago the person may have signed in (`auth_time`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_age: Option<HumanDuration>,
    /// How long ago the token may have been issued (`iat`; Entra backdates it by five minutes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_token_age: Option<HumanDuration>,
    /// Authentication methods of v1 tokens (`mfa`); all of them.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub amr: Vec<String>,
    /// Delegated scopes that the token must have; all of them.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub scopes: Vec<String>,
    /// ARM ids of managed identities (`xms_mirid`), or what they begin with up to a slash; any of them, whatever the
    /// case.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub xms_mirid: Vec<String>,
    /// People only or applications only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<PrincipalKind>,
}

/// What kind of principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalKind {
    /// A person through some application.
    User,
    /// A service principal or managed identity.
    App,
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

/// What a role may do with a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamGrant {
    /// Subjects of the stream to read; `true` for all of them.
    #[serde(skip_serializing_if = "Reach::is_none")]
    pub read: Reach,
    /// Consumers to use: names, which may hold `*` for any part, and `ephemeral` for consumers made on the fly.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub consumers: Vec<String>,
    /// The JetStream domain, where the stream is reached through one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// What a role may do with a key-value bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BucketGrant {
    /// Keys to read and watch; `true` for all of them.
    #[serde(skip_serializing_if = "Reach::is_none")]
    pub read: Reach,
    /// Keys to write and delete; `true` for all of them.
    #[serde(skip_serializing_if = "Reach::is_none")]
    pub write: Reach,
    /// The JetStream domain, where the bucket is reached through one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// What a role may do with an object store. Objects have no subjects of their own, so it is all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectGrant {
    /// Whether objects may be read and listed.
    #[serde(skip_serializing_if = "is_false")]
    pub read: bool,
    /// Whether objects may be written and deleted.
    #[serde(skip_serializing_if = "is_false")]
    pub write: bool,
    /// The JetStream domain, where the store is reached through one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// `true`, `false`, or a list of subjects or keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Reach {
    /// Everything or nothing.
    All(bool),
    /// Those that fit one of the patterns.
    Some(Vec<String>),
    /// Nothing was said.
    #[default]
    None,
}

impl Reach {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl<'de> Deserialize<'de> for Reach {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Reach;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true for everything, or a list such as [\"orders.eu.>\"]")
            }

            fn visit_bool<E: de::Error>(self, all: bool) -> Result<Reach, E> {
                Ok(Reach::All(all))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Reach, E> {
                Ok(Reach::Some(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Reach, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(seq)).map(Reach::Some)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// One entry of `tests`: what an identity may and may not do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestCase {
    /// Who.
    #[serde(rename = "as")]
    pub who: TestIdentity,
    /// What must be allowed: `pub SUBJECT`, `sub SUBJECT`, `sub SUBJECT queue GROUP`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What must be refused; with no role at all everything is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// The roles that must apply, all of them and no other; unchecked where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
}

/// The identity of a test: what its token would say, and where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TestIdentity {
    /// Object id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oid: Option<String>,
    /// Tenant id, or the issuer's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tid: Option<String>,
    /// Pairwise subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Client application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azp: Option<String>,
    /// How the client application proved itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azpacr: Option<u8>,
    /// Person or application; a person where scopes are given, else an application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<PrincipalKind>,
    /// App roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub app_roles: Vec<String>,
    /// Group object ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whether the groups are unknown because there are too many.
    #[serde(skip_serializing_if = "is_false")]
    pub groups_overage: bool,
    /// Delegated scopes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Authentication contexts.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub acrs: Vec<String>,
    /// Authentication methods.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub amr: Vec<String>,
    /// 0 member, 1 guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acct: Option<u8>,
    /// ARM id of a managed identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xms_mirid: Option<String>,
    /// Claims for templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// Address of the client; 127.0.0.1 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<std::net::IpAddr>,
    /// When; the moment of the run where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
    /// The CONNECT `user` field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_role: Option<String>,
}

/// Schema of a list that may be written as one text.
struct OneOrMany;

impl JsonSchema for OneOrMany {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } },
        ] })
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of texts")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<String>, A::Error> {
            Vec::deserialize(de::value::SeqAccessDeserializer::new(seq))
        }
    }
    deserializer.deserialize_any(Either)
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
