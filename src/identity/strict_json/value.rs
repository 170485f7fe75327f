//! What a document is read into, and why one is refused.

use std::borrow::Cow;

use super::super::show::Shown;

/// What a document may not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Nested arrays and objects.
    pub(crate) depth: usize,
    /// Values in all.
    pub(crate) values: usize,
    /// Names in one object.
    pub(crate) names: usize,
}

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    /// Starts with U+FEFF.
    #[error("starts with a byte order mark")]
    ByteOrderMark,
    /// Not UTF-8.
    #[error("not UTF-8 at byte {0}")]
    Utf8(usize),
    /// Not JSON.
    #[error("not JSON at byte {0}")]
    Syntax(usize),
    /// A `\uD800`..`\uDFFF` escape without its other half.
    #[error("lone surrogate escape at byte {0}")]
    LoneSurrogate(usize),
    /// Something after the value.
    #[error("bytes after the end at byte {0}")]
    Trailing(usize),
    /// Nested too deeply.
    #[error("nested deeper than {0}")]
    Depth(usize),
    /// More values or names than the limit.
    #[error("more than {0} values or names")]
    TooMany(usize),
    /// A name that an object has twice.
    #[error("name '{}' occurs twice", Shown(.0))]
    Duplicate(Box<str>),
    /// Two names that differ in case only.
    #[error("names '{}' and '{}' differ in case only", Shown(.0), Shown(.1))]
    CaseCollision(Box<str>, Box<str>),
}

/// One value. Numbers stay text, so that whoever reads one decides what it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Self>),
    Object(Object<'a>),
}

impl<'a> Value<'a> {
    /// The text, if it is a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The members, if it is an object.
    pub(crate) const fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub(crate) fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// A number written as plain digits that fits; a fraction, an exponent or a sign is not an integer here.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        }
    }

    /// The type's name, for messages.
    pub(crate) const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// The members of an object in document order; names are unique, also without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Object<'a>(pub(super) Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Object<'a> {
    /// The value of a name, spelled exactly so.
    pub(crate) fn member(&self, name: &str) -> Option<&Value<'a>> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value)
    }

    /// Every member.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }
}
