//! A JSON reader for documents that decide about access: what two readers could understand differently is refused.
//!
//! Owns: UTF-8 without byte order mark, RFC 8259 grammar, no duplicate names (after unescaping), no names that differ
//! in case only, no lone surrogates, no trailing bytes, and bounds on depth, values and names. Must never: recurse on
//! its input, convert a number, or allocate for a string that has no escapes.

use std::borrow::Cow;

use memchr::memchr2;

use super::show::Shown;

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
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

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

/// Reads one document.
pub(crate) fn parse(bytes: &[u8], limits: Limits) -> Result<Value<'_>, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|e| JsonError::Utf8(e.valid_up_to()))?;
    if text.starts_with('\u{feff}') {
        return Err(JsonError::ByteOrderMark);
    }
    let mut reader = Reader {
        text,
        at: 0,
        values: 0,
        limits,
    };
    let value = reader.document()?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err(JsonError::Trailing(reader.at));
    }
    Ok(value)
}

/// An array or object that is still being read.
enum Open<'a> {
    Array(Vec<Value<'a>>),
    Object {
        members: Vec<(Cow<'a, str>, Value<'a>)>,
        name: Cow<'a, str>,
    },
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    values: usize,
    limits: Limits,
}

impl<'a> Reader<'a> {
    /// The value at the position, without recursion: what is open waits on a stack of bounded depth.
    fn document(&mut self) -> Result<Value<'a>, JsonError> {
        let mut open: Vec<Open<'a>> = Vec::new();
        loop {
            let Some(mut value) = self.begin(&mut open)? else {
                continue;
            };
            // Hand the finished value to what is open, which may finish that too.
            loop {
                match open.pop() {
                    None => return Ok(value),
                    Some(parent) => match self.place(parent, value)? {
                        Placed::More(parent) => {
                            open.push(parent);
                            break;
                        }
                        Placed::Finished(finished) => value = finished,
                    },
                }
            }
        }
    }

    /// Reads a scalar or an empty container whole; a container with content is opened and `None` returned.
    fn begin(&mut self, open: &mut Vec<Open<'a>>) -> Result<Option<Value<'a>>, JsonError> {
        self.skip_space();
        self.values = self.values.saturating_add(1);
        if self.values > self.limits.values {
            return Err(JsonError::TooMany(self.limits.values));
        }
        match self.peek() {
            Some(b'"') => self.string().map(|text| Some(Value::String(text))),
            Some(b'{') => {
                self.enter(open.len())?;
                if self.take(b'}') {
                    return Ok(Some(Value::Object(Object::default())));
                }
                let name = self.name()?;
                open.push(Open::Object {
                    members: Vec::with_capacity(16),
                    name,
                });
                Ok(None)
            }
            Some(b'[') => {
                self.enter(open.len())?;
                if self.take(b']') {
                    return Ok(Some(Value::Array(Vec::new())));
                }
                open.push(Open::Array(Vec::new()));
                Ok(None)
            }
            Some(b't') => self.literal("true", Value::Bool(true)).map(Some),
            Some(b'f') => self.literal("false", Value::Bool(false)).map(Some),
            Some(b'n') => self.literal("null", Value::Null).map(Some),
            _ => self.number().map(Some),
        }
    }

    fn enter(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth >= self.limits.depth {
            return Err(JsonError::Depth(self.limits.depth));
        }
        self.at = self.at.saturating_add(1);
        self.skip_space();
        Ok(())
    }

    /// Puts a finished value into its parent and looks at what follows it.
    fn place(&mut self, parent: Open<'a>, value: Value<'a>) -> Result<Placed<'a>, JsonError> {
        self.skip_space();
        match parent {
            Open::Array(mut items) => {
                items.push(value);
                if self.take(b',') {
                    Ok(Placed::More(Open::Array(items)))
                } else if self.take(b']') {
                    Ok(Placed::Finished(Value::Array(items)))
                } else {
                    Err(JsonError::Syntax(self.at))
                }
            }
            Open::Object { mut members, name } => {
                members.push((name, value));
                if members.len() > self.limits.names {
                    return Err(JsonError::TooMany(self.limits.names));
                }
                if self.take(b',') {
                    self.skip_space();
                    let name = self.name()?;
                    Ok(Placed::More(Open::Object { members, name }))
                } else if self.take(b'}') {
                    unique(&members)?;
                    Ok(Placed::Finished(Value::Object(Object(members))))
                } else {
                    Err(JsonError::Syntax(self.at))
                }
            }
        }
    }

    fn name(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let name = self.string()?;
        self.skip_space();
        if self.take(b':') {
            Ok(name)
        } else {
            Err(JsonError::Syntax(self.at))
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        if !self.take(b'"') {
            return Err(JsonError::Syntax(self.at));
        }
        let span = self.plain_span()?;
        if self.take(b'"') {
            return Ok(Cow::Borrowed(span));
        }
        let mut owned = String::from(span);
        loop {
            self.escape(&mut owned)?;
            owned.push_str(self.plain_span()?);
            if self.take(b'"') {
                return Ok(Cow::Owned(owned));
            }
        }
    }

    /// Text up to the next quote or backslash; control characters must be escaped.
    fn plain_span(&mut self) -> Result<&'a str, JsonError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let Some(length) = memchr2(b'"', b'\\', rest.as_bytes()) else {
            return Err(JsonError::Syntax(self.text.len()));
        };
        let span = rest.get(..length).ok_or(JsonError::Syntax(self.at))?;
        if let Some(bad) = span.bytes().position(|b| b < 0x20) {
            return Err(JsonError::Syntax(self.at.saturating_add(bad)));
        }
        self.at = self.at.saturating_add(length);
        Ok(span)
    }

    fn escape(&mut self, out: &mut String) -> Result<(), JsonError> {
        let start = self.at;
        if !self.take(b'\\') {
            return Err(JsonError::Syntax(start));
        }
        let plain = match self.next() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(start, out),
            _ => return Err(JsonError::Syntax(start)),
        };
        out.push(plain);
        Ok(())
    }

    fn unicode_escape(&mut self, start: usize, out: &mut String) -> Result<(), JsonError> {
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !(self.take(b'\\') && self.take(b'u')) {
                    return Err(JsonError::LoneSurrogate(start));
                }
                let second = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(JsonError::LoneSurrogate(start));
                }
                0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff)
            }
            0xdc00..=0xdfff => return Err(JsonError::LoneSurrogate(start)),
            code => code,
        };
        out.push(char::from_u32(code).ok_or(JsonError::LoneSurrogate(start))?);
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let end = self.at.saturating_add(4);
        let digits = self
            .text
            .get(self.at..end)
            .ok_or(JsonError::Syntax(self.at))?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(JsonError::Syntax(self.at));
        }
        self.at = end;
        u32::from_str_radix(digits, 16).map_err(|_| JsonError::Syntax(end))
    }

    /// RFC 8259 section 6: no leading zero, no bare sign, digits on both sides of the point.
    fn number(&mut self) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at = self.at.saturating_add(1);
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        let text = self
            .text
            .get(start..self.at)
            .ok_or(JsonError::Syntax(start))?;
        Ok(Value::Number(text))
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at = self.at.saturating_add(1);
        }
        if self.at == start {
            Err(JsonError::Syntax(start))
        } else {
            Ok(())
        }
    }

    fn literal(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, JsonError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word) {
            return Err(JsonError::Syntax(self.at));
        }
        self.at = self.at.saturating_add(word.len());
        Ok(value)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at = self.at.saturating_add(1);
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at = self.at.saturating_add(1);
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> bool {
        let hit = self.peek() == Some(byte);
        if hit {
            self.at = self.at.saturating_add(1);
        }
        hit
    }
}

enum Placed<'a> {
    More(Open<'a>),
    Finished(Value<'a>),
}

/// Refuses names that are equal, or equal without regard to case. Few names are compared pairwise, which allocates
/// nothing; many, or names outside ASCII, are folded and sorted, so that the cost stays bounded.
fn unique(members: &[(Cow<'_, str>, Value<'_>)]) -> Result<(), JsonError> {
    let small = members.len() <= PAIRWISE && members.iter().all(|(name, _)| name.is_ascii());
    if !small {
        return unique_folded(members);
    }
    let mut rest = members;
    while let Some(((name, _), tail)) = rest.split_first() {
        if let Some((other, _)) = tail.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            return Err(collision(name, other));
        }
        rest = tail;
    }
    Ok(())
}

fn unique_folded(members: &[(Cow<'_, str>, Value<'_>)]) -> Result<(), JsonError> {
    let mut folded: Vec<(String, &str)> = members
        .iter()
        .map(|(name, _)| (fold(name), name.as_ref()))
        .collect();
    folded.sort_unstable();
    for pair in folded.windows(2) {
        if let [(a, a_name), (b, b_name)] = pair
            && a == b
        {
            return Err(collision(a_name, b_name));
        }
    }
    Ok(())
}

/// Case folding that also maps the long s and the Kelvin sign, which Go's JSON reader takes for `s` and `k`.
fn fold(name: &str) -> String {
    name.chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

fn collision(a: &str, b: &str) -> JsonError {
    let clip = |name: &str| name.chars().take(64).collect::<String>().into_boxed_str();
    if a == b {
        JsonError::Duplicate(clip(a))
    } else {
        JsonError::CaseCollision(clip(a), clip(b))
    }
}

const PAIRWISE: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        depth: 16,
        values: 1000,
        names: 100,
    };

    fn read(text: &str) -> Result<Value<'_>, JsonError> {
        parse(text.as_bytes(), LIMITS)
    }

    #[test]
    fn reads_what_serde_json_reads() {
        for text in [
            "{}",
            "[]",
            " { \"a\" : [ 1 , -2.5e+3 , true , false , null , \"x\\u0041\\ud83d\\ude00\\n\" ] } ",
            "{\"a\":{\"b\":{\"c\":[[],[{}]]}}}",
            "0",
            "\"\"",
            "-0",
            "1E5",
        ] {
            assert!(read(text).is_ok(), "{text}");
            assert!(
                serde_json::from_str::<serde_json::Value>(text).is_ok(),
                "{text}"
            );
        }
        let value = read("{\"a\":\"x\\u0041\\ud83d\\ude00\"}").unwrap();
        assert_eq!(
            value.as_object().unwrap().member("a").unwrap().as_str(),
            Some("xA\u{1f600}")
        );
    }

    #[test]
    fn refuses_what_is_not_json() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "1e",
            "tru",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"a\nb\"",
            "nul",
            "{\"a\":1 \"b\":2}",
            "[1 2]",
            "NaN",
            "'a'",
            "[1}",
            "{\"a\":1]",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_trailing_bytes_and_byte_order_marks() {
        assert_eq!(read("{} x"), Err(JsonError::Trailing(3)));
        assert_eq!(read("{}{}"), Err(JsonError::Trailing(2)));
        assert_eq!(read("{}\0"), Err(JsonError::Trailing(2)));
        assert_eq!(read("\u{feff}{}"), Err(JsonError::ByteOrderMark));
        assert_eq!(parse(b"{\"a\":\"\xff\"}", LIMITS), Err(JsonError::Utf8(6)));
    }

    #[test]
    fn refuses_lone_surrogates_in_every_position() {
        for text in [
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800x\"",
            "\"\\ud800\\u0041\"",
            "\"\\ud800\\n\"",
        ] {
            assert_eq!(read(text), Err(JsonError::LoneSurrogate(1)), "{text}");
        }
    }

    #[test]
    fn refuses_duplicate_names_after_unescaping_at_any_level() {
        assert_eq!(
            read("{\"tid\":1,\"\\u0074id\":2}"),
            Err(JsonError::Duplicate("tid".into()))
        );
        assert_eq!(
            read("[{\"x\":{\"a\":1,\"a\":1}}]"),
            Err(JsonError::Duplicate("a".into()))
        );
    }

    #[test]
    fn refuses_names_that_differ_in_case_only() {
        for text in [
            "{\"tid\":1,\"TID\":2}",
            "{\"u\u{17f}er\":1,\"user\":2}",
            "{\"\u{212a}id\":1,\"kid\":2}",
        ] {
            assert!(
                matches!(read(text), Err(JsonError::CaseCollision(..))),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_depth_beyond_the_limit_without_recursion() {
        let deep = format!("{}{}", "[".repeat(17), "]".repeat(17));
        assert_eq!(read(&deep), Err(JsonError::Depth(16)));
        let fits = format!("{}{}", "[".repeat(16), "]".repeat(16));
        assert!(read(&fits).is_ok());
        let hostile = "[".repeat(1_000_000);
        assert_eq!(read(&hostile), Err(JsonError::Depth(16)));
    }

    #[test]
    fn refuses_more_values_or_names_than_the_limit() {
        let many = format!("[{}0]", "0,".repeat(1000));
        assert_eq!(read(&many), Err(JsonError::TooMany(1000)));
        let names: Vec<String> = (0..101).map(|n| format!("\"n{n}\":0")).collect();
        assert_eq!(
            read(&format!("{{{}}}", names.join(","))),
            Err(JsonError::TooMany(100))
        );
    }

    #[test]
    fn finds_duplicates_among_many_names() {
        let mut names: Vec<String> = (0..90).map(|n| format!("\"n{n}\":0")).collect();
        assert!(read(&format!("{{{}}}", names.join(","))).is_ok());
        names.push("\"N45\":0".into());
        assert!(matches!(
            read(&format!("{{{}}}", names.join(","))),
            Err(JsonError::CaseCollision(..))
        ));
    }

    #[test]
    fn an_integer_has_no_fraction_exponent_or_sign() {
        assert_eq!(read("12").unwrap().as_u64(), Some(12));
        for text in [
            "12.0",
            "1e3",
            "-1",
            "18446744073709551616",
            "\"12\"",
            "true",
        ] {
            assert_eq!(read(text).unwrap().as_u64(), None, "{text}");
        }
    }

    /// The same value as serde_json sees it, numbers as text.
    fn as_serde(value: &Value<'_>) -> serde_json::Value {
        match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Number(text) => serde_json::from_str(text).unwrap(),
            Value::String(text) => text.as_ref().into(),
            Value::Array(items) => items.iter().map(as_serde).collect(),
            Value::Object(object) => object
                .iter()
                .map(|(name, value)| (name.to_owned(), as_serde(value)))
                .collect(),
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_accepted_means_the_same_to_another_reader(
            text in "[\\[\\]{}\",:0-9a-c.eE+\\\\ u-]{0,40}",
        ) {
            if let Ok(value) = read(&text)
                && let Ok(theirs) = serde_json::from_str::<serde_json::Value>(&text)
            {
                proptest::prop_assert_eq!(as_serde(&value), theirs);
            } else if let Ok(value) = read(&text) {
                // serde_json alone refuses numbers beyond f64.
                let number = matches!(value, Value::Number(_)) || text.contains(['e', 'E']);
                proptest::prop_assert!(number, "{}", text);
            }
        }

        #[test]
        fn what_serde_json_writes_is_read_back(
            names in proptest::collection::btree_set("[a-z]{1,8}", 0..8), text in ".{0,30}", number in 0_u64..,
        ) {
            let members = names.iter().map(|name| (name.clone(), serde_json::json!([text, number])));
            let value = serde_json::Value::Object(members.collect());
            let written = value.to_string();
            proptest::prop_assert_eq!(as_serde(&read(&written).unwrap()), value);
        }
    }
}
