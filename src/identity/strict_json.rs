//! A JSON reader for documents that decide about access: what two readers could understand differently is refused.
//!
//! Owns: UTF-8 without byte order mark, RFC 8259 grammar, no duplicate names (after unescaping), no names that differ
//! in case only, no lone surrogates, no trailing bytes, and bounds on depth, values and names. Must never: recurse on
//! its input, convert a number, or allocate for a string that has no escapes.

mod unique;
mod value;

use std::borrow::Cow;

use memchr::memchr2;

use unique::unique;
pub(crate) use value::{JsonError, Limits, Object, Value};

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

#[cfg(test)]
mod tests;
