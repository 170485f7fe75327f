//! One subject pattern as an operator or a client writes it, parsed once.
//!
//! Owns: the rule of what a pattern is. Must never: exist unparsed; each type has one private field and one constructor.

use std::fmt;

use super::{is_space, is_wildcard, tokens};

/// Why a text is not a pattern. The sentences say what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text is empty.
    #[error("the subject is empty; write at least one token, such as orders.created")]
    Empty,
    /// Two dots in a row, or a dot at either end.
    #[error(
        "the subject has an empty token; write no dot at the beginning or the end and never two in a row"
    )]
    EmptyToken,
    /// `>` is not the last token.
    #[error("`>` stands for the rest of a subject, so it must be the last token")]
    RestNotLast,
    /// Space, TAB, LF, FF or CR.
    #[error(
        "the subject contains white space; subjects have none (a queue group is written as {{ subject: ..., queue: ... }})"
    )]
    Space,
}

/// A subject in which `*` stands for one token and a last `>` for one or more tokens. Also every literal subject.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Box<[u8]>);

impl Pattern {
    /// Parses a pattern: no empty token, `>` last, no space, TAB, LF, FF or CR.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, PatternError> {
        let text = text.as_ref();
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let mut rest_seen = false;
        for token in tokens(text) {
            if token.is_empty() {
                return Err(PatternError::EmptyToken);
            }
            if rest_seen {
                return Err(PatternError::RestNotLast);
            }
            if token.iter().any(|byte| is_space(*byte)) {
                return Err(PatternError::Space);
            }
            rest_seen = token == b">";
        }
        Ok(Self(text.into()))
    }

    /// The pattern as written.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether no token is a wildcard.
    pub fn is_literal(&self) -> bool {
        !tokens(&self.0).any(is_wildcard)
    }

    /// The tokens in order; none is empty.
    pub fn tokens(&self) -> impl Iterator<Item = &[u8]> {
        tokens(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// What a token stands for besides itself, in the places where a policy names things inside a token. NATS has no such
/// form; the wildcards `*` and `>` are not globs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TokenGlob(Box<[u8]>);

impl TokenGlob {
    /// The token that stands for names that client libraries and servers make up for consumers without a name.
    pub const GENERATED: &str = "<generated>";

    /// A token with a `*` besides other bytes (`hist-*`, `*-eu`, `a*b*c`; each `*` stands for any bytes of the token,
    /// also none), or [`Self::GENERATED`]. None for all other tokens.
    pub fn parse(token: &[u8]) -> Option<Self> {
        let globbed = token.contains(&b'*') && token != b"*";
        (globbed || token == Self::GENERATED.as_bytes()).then(|| Self(token.into()))
    }

    /// The token as written.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a literal token fits. Linear in the token for each part between two `*`, without backtracking: the
    /// leftmost place of each part is always the best one. The wildcard tokens `*` and `>` never fit.
    pub fn matches(&self, token: &[u8]) -> bool {
        if *self.0 == *Self::GENERATED.as_bytes() {
            return is_generated_name(token);
        }
        if is_wildcard(token) {
            return false;
        }
        let mut parts = self.0.split(|byte| *byte == b'*');
        let Some(mut left) = parts.next().and_then(|first| token.strip_prefix(first)) else {
            return false;
        };
        let Some(mut part) = parts.next() else {
            return left.is_empty();
        };
        for next in parts {
            let Some(at) = memchr::memmem::find(left, part) else {
                return false;
            };
            left = left
                .get(at.saturating_add(part.len())..)
                .unwrap_or_default();
            part = next;
        }
        left.ends_with(part)
    }
}

/// Whether a consumer's name looks made up: 8 letters and figures (nats-server, nats.go), or 22 of them (NUIDs: nats.js,
/// async-nats), which an ordered consumer may follow with `_` and a number and precede with `oc_`.
fn is_generated_name(token: &[u8]) -> bool {
    let token = token.strip_prefix(b"oc_").unwrap_or(token);
    let mut parts = token.splitn(2, |byte| *byte == b'_');
    let name = parts.next().unwrap_or_default();
    let serial = parts.next();
    matches!(name.len(), 8 | 22)
        && name.iter().all(u8::is_ascii_alphanumeric)
        && serial.is_none_or(|serial| !serial.is_empty() && serial.iter().all(u8::is_ascii_digit))
}
