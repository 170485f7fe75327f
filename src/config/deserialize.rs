//! serde over the located tree: every error carries the path of the node that caused it.
//!
//! Owns: [`NodeReader`], the serde side of a [`Node`], and [`Fault`], its error. Must never: turn a value into text of
//! an error without leaving the decision to show it to whoever knows the path.

use std::fmt;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Unexpected, Visitor};

use super::mistake::Path;
use super::tree::{Entry, Node, PLACEHOLDERS, Value, is_null_word};

/// Why a node could not be read.
#[derive(Debug)]
pub(super) struct Fault {
    /// From the node outwards, so that adding a parent is a push.
    reversed: Path,
    pub(super) kind: Kind,
}

/// The kinds of fault.
#[derive(Debug)]
pub(super) enum Kind {
    /// A required key is absent.
    Missing(&'static str),
    /// A key that the schema does not have.
    Unknown { expected: &'static [&'static str] },
    /// A word that is none of the allowed ones.
    Word {
        found: String,
        expected: &'static [&'static str],
    },
    /// A value of another kind.
    Wrong { found: String, expected: String },
    /// What a type of ours said.
    Other(String),
}

impl Fault {
    fn new(kind: Kind) -> Self {
        Self {
            reversed: Vec::new(),
            kind,
        }
    }

    fn below(mut self, segment: &str) -> Self {
        self.reversed.push(segment.into());
        self
    }

    /// From the root of the file to the node.
    pub(super) fn path(&self) -> Path {
        self.reversed.iter().rev().cloned().collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Missing(key) => write!(f, "`{key}` is missing"),
            Kind::Unknown { .. } => f.write_str("unknown key"),
            Kind::Word { expected, .. } => write!(f, "expected one of {}", expected.join(", ")),
            Kind::Wrong { expected, .. } => write!(f, "expected {expected}"),
            Kind::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Kind::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(Kind::Wrong {
            found: describe(found),
            expected: expected.to_string(),
        })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn de::Expected) -> Self {
        Self::new(Kind::Wrong {
            found: format!("{length} values"),
            expected: expected.to_string(),
        })
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Kind::Word {
            found: found.to_owned(),
            expected,
        })
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Kind::Unknown { expected })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::Missing(field))
    }
}

/// What was found, in the words of somebody who writes YAML.
fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Char(value) => format!("`{value}`"),
        Unexpected::Str(value) => quote(value),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

/// Text in a message: quoted, on one line, and not longer than a line.
pub(super) fn quote(text: &str) -> String {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    let more = if shown.len() < text.len() { "..." } else { "" };
    format!("`{shown}{more}`")
}

/// What a placeholder reads as at this attempt.
fn stand_in(attempt: usize) -> &'static str {
    PLACEHOLDERS.get(attempt).copied().unwrap_or_default()
}

/// The serde side of one node.
#[derive(Clone, Copy)]
pub(super) struct NodeReader<'a>(pub(super) &'a Node);

impl<'a> NodeReader<'a> {
    fn found(self) -> String {
        match &self.0.value {
            Value::Scalar { text, plain: true } if is_null_word(text) => "nothing".to_owned(),
            Value::Scalar { text, .. } => quote(text),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Removed | Value::Placeholder(_) => "nothing".to_owned(),
        }
    }

    fn wrong(self, expected: impl Into<String>) -> Fault {
        Fault::new(Kind::Wrong {
            found: self.found(),
            expected: expected.into(),
        })
    }

    fn scalar(self) -> Option<&'a str> {
        match &self.0.value {
            Value::Scalar { text, .. } if !self.0.is_null() => Some(text),
            _ => None,
        }
    }

    fn is_placeholder(self) -> bool {
        matches!(self.0.value, Value::Placeholder(_))
    }

    /// A number of any width: the text is parsed by the type that asked for it.
    fn number<T: std::str::FromStr + Default>(self, expected: &str) -> Result<T, Fault> {
        if self.is_placeholder() {
            return Ok(T::default());
        }
        let parsed = self
            .scalar()
            .and_then(|text| text.trim_start_matches('+').parse().ok());
        parsed.ok_or_else(|| self.wrong(expected))
    }

    fn sequence<V: Visitor<'a>>(self, items: &'a [Node], visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(Items { items, index: 0 })
    }

    fn mapping<V: Visitor<'a>>(self, entries: &'a [Entry], visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(Keys { entries, index: 0 })
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $kind:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let expected = format!("a whole number from {} to {}", <$kind>::MIN, <$kind>::MAX);
            visitor.$visit(self.number::<$kind>(&expected)?)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for NodeReader<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Sequence(items) => self.sequence(items, visitor),
            Value::Mapping(entries) => self.mapping(entries, visitor),
            Value::Removed => visitor.visit_unit(),
            Value::Placeholder(attempt) => visitor.visit_borrowed_str(stand_in(*attempt)),
            Value::Scalar { text, plain: false } => visitor.visit_borrowed_str(text),
            Value::Scalar { text, .. } if is_null_word(text) => visitor.visit_unit(),
            Value::Scalar { text, .. } => match &**text {
                "true" | "True" | "TRUE" => visitor.visit_bool(true),
                "false" | "False" | "FALSE" => visitor.visit_bool(false),
                text => {
                    if let Ok(number) = text.parse::<u64>() {
                        visitor.visit_u64(number)
                    } else if let Ok(number) = text.parse::<i64>() {
                        visitor.visit_i64(number)
                    } else {
                        visitor.visit_borrowed_str(text)
                    }
                }
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_placeholder() {
            return visitor.visit_bool(false);
        }
        match self.scalar() {
            Some("true" | "True" | "TRUE") => visitor.visit_bool(true),
            Some("false" | "False" | "FALSE") => visitor.visit_bool(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    numbers!(
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64
    );

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_f32(self.number("a number")?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_f64(self.number("a number")?)
    }

    /// Text takes any scalar as it is written, so that `0123` and `1.20` keep their spelling.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Placeholder(attempt) => visitor.visit_borrowed_str(stand_in(*attempt)),
            Value::Scalar { text, plain: false } => visitor.visit_borrowed_str(text),
            _ => match self.scalar() {
                Some(text) => visitor.visit_borrowed_str(text),
                None => Err(self.wrong("text")),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0.is_null() || self.is_placeholder() {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0.is_null() || self.is_placeholder() {
            return visitor.visit_unit();
        }
        Err(self.wrong("nothing"))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// A list; a key without a value is an empty one.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Sequence(items) => self.sequence(items, visitor),
            Value::Placeholder(_) => self.sequence(&[], visitor),
            Value::Scalar { .. } if self.0.is_null() => self.sequence(&[], visitor),
            Value::Scalar { .. } => Err(self.wrong("a list, as `[a, b]`")),
            _ => Err(self.wrong("a list")),
        }
    }

    /// A mapping; a key without a value is an empty one.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Mapping(entries) => self.mapping(entries, visitor),
            Value::Placeholder(_) => self.mapping(&[], visitor),
            Value::Scalar { .. } if self.0.is_null() => self.mapping(&[], visitor),
            _ => Err(self.wrong("a mapping of keys and values")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Mapping(_) | Value::Placeholder(_) => self.deserialize_map(visitor),
            Value::Scalar { .. } if self.0.is_null() => self.deserialize_map(visitor),
            _ => Err(self.wrong(format!("a mapping with {}", fields.join(", ")))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Placeholder(_) => visitor.visit_enum(
                variants
                    .first()
                    .copied()
                    .unwrap_or_default()
                    .into_deserializer(),
            ),
            Value::Mapping(entries) => match entries.as_slice() {
                [entry] => visitor.visit_enum(de::value::MapAccessDeserializer::new(Keys {
                    entries: std::slice::from_ref(entry),
                    index: 0,
                })),
                _ => Err(self.wrong(format!("one of {}", variants.join(", ")))),
            },
            _ => match self.scalar() {
                Some(text) => visitor.visit_enum(text.into_deserializer()),
                None => Err(self.wrong(format!("one of {}", variants.join(", ")))),
            },
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        char bytes byte_buf unit_struct tuple tuple_struct
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }
}

/// Walks a list and adds the index to the path of an error.
struct Items<'a> {
    items: &'a [Node],
    index: usize,
}

impl<'a> de::SeqAccess<'a> for Items<'a> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'a>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        while let Some(node) = self.items.get(self.index) {
            let index = self.index;
            self.index = index.saturating_add(1);
            if !matches!(node.value, Value::Removed) {
                let read = seed.deserialize(NodeReader(node));
                return read
                    .map(Some)
                    .map_err(|fault| fault.below(&index.to_string()));
            }
        }
        Ok(None)
    }
}

/// Walks a mapping and adds the key to the path of an error.
struct Keys<'a> {
    entries: &'a [Entry],
    index: usize,
}

impl<'a> de::MapAccess<'a> for Keys<'a> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        while let Some(entry) = self.entries.get(self.index) {
            if !matches!(entry.node.value, Value::Removed) {
                let key: KeyReader<'a> = KeyReader(&entry.key);
                return seed
                    .deserialize(key)
                    .map(Some)
                    .map_err(|fault| fault.below(&entry.key));
            }
            self.index = self.index.saturating_add(1);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(entry) = self.entries.get(self.index) else {
            return Err(de::Error::custom("a value was asked for without its key"));
        };
        self.index = self.index.saturating_add(1);
        seed.deserialize(NodeReader(&entry.node))
            .map_err(|fault| fault.below(&entry.key))
    }
}

/// A key is text, whatever it looks like.
struct KeyReader<'de>(&'de str);

impl<'de> de::Deserializer<'de> for KeyReader<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
