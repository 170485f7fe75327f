//! `stream`, `kv` and `object` as written.
//!
//! Owns: the words for what a role may do with JetStream. Must never: decide anything.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::is_false;
use super::text::{OneOrMany, one_or_many};

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
