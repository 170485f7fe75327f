//! Lists that may be written as one text.
//!
//! Owns: that form and its schema. Must never: take anything else for a text.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Schema of a list that may be written as one text.
pub(crate) struct OneOrMany;

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

/// Reads a text or a list of texts.
pub(crate) fn one_or_many<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
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

/// A condition that asks for nothing would hold for everybody, which whoever writes one does not mean.
const ASKS_NOTHING: &str =
    "an empty list asks for nothing; list what is wanted, or remove this key";

/// As [`one_or_many`], at least one.
pub(crate) fn one_or_more<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    let texts = one_or_many(deserializer)?;
    match texts.iter().any(|text| text.trim().is_empty()) {
        true => Err(de::Error::custom(
            "an empty text asks for nothing; write what is wanted, or remove it",
        )),
        false => some(texts),
    }
}

/// A list of at least one.
pub(crate) fn at_least_one<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    some(Vec::deserialize(deserializer)?)
}

fn some<T, E: de::Error>(list: Vec<T>) -> Result<Vec<T>, E> {
    match list.is_empty() {
        true => Err(E::custom(ASKS_NOTHING)),
        false => Ok(list),
    }
}
