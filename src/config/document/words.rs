//! Small types that several keys share: addresses, keys that are reserved, and "a word or a mapping".
//!
//! Owns: how they are read and how they appear in the schema. Must never: resolve a name.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An IP address with a port, as `0.0.0.0:4222` or `[::1]:9222`. Port 0 lets the system choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IP address and a port such as 0.0.0.0:4222 or [::1]:9222")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Address, E> {
                text.parse()
                    .map(Address)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(\\[[0-9a-fA-F:.]+\\]|[0-9.]+):[0-9]{1,5}$",
            "description": "An IP address and a port such as 0.0.0.0:4222 or [::1]:9222",
        })
    }
}

/// The value of a key that belongs to a later version: anything, kept nowhere, refused by the check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved;

impl<'de> Deserialize<'de> for Reserved {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Serialize for Reserved {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl JsonSchema for Reserved {
    fn schema_name() -> Cow<'static, str> {
        "Reserved".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "Not available in this version.", "deprecated": true })
    }
}

/// What [`word_or_mapping`] found.
pub(super) enum Either<W, M> {
    /// A single word.
    Word(W),
    /// Keys and values.
    Mapping(M),
}

/// Reads a value that is either one word (of the enum `W`) or a mapping `M`. Unlike an untagged enum this keeps the
/// error of the side that was meant.
pub(super) fn word_or_mapping<'de, D, W, M>(
    deserializer: D,
    expected: &'static str,
) -> Result<Either<W, M>, D::Error>
where
    D: Deserializer<'de>,
    W: Deserialize<'de>,
    M: Deserialize<'de>,
{
    struct Sides<W, M>(&'static str, PhantomData<(W, M)>);
    impl<'de, W: Deserialize<'de>, M: Deserialize<'de>> Visitor<'de> for Sides<W, M> {
        type Value = Either<W, M>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
            let read: Result<W, E> = W::deserialize(word.into_deserializer());
            read.map(Either::Word)
                .map_err(|_| E::invalid_value(de::Unexpected::Str(word), &self))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            M::deserialize(de::value::MapAccessDeserializer::new(map)).map(Either::Mapping)
        }
    }
    deserializer.deserialize_any(Sides(expected, PhantomData))
}
