//! Subjects as bytes: tokens, validity, patterns and compiled sets of patterns.
//!
//! Owns: what a token is, what a wildcard is, and every question of the form "does this subject lie inside that
//! pattern". Subjects need not be UTF-8; they are compared byte by byte, as nats-server does. Must never: allocate
//! while it answers a question, recurse on the length of a subject, or know what a permission is.

mod build;
mod filled;
mod overlap;
mod pattern;
mod set;
mod trail;
mod words;

#[cfg(test)]
mod tests;

pub use build::{PatternSetBuilder, PatternToken};
pub use filled::{Below, FilledSet, Filling, Reach};
pub use pattern::{Pattern, PatternError, TokenGlob};
pub use set::PatternSet;
pub(crate) use set::mix_bytes;
pub use trail::Trail;
pub(crate) use words::{are_plain_tokens, begins_with, is_plain_token, is_word};

/// The byte between two tokens.
const DOT: u8 = b'.';

/// The tokens of a subject in order. An empty subject has one empty token, `a..b` has an empty one in the middle.
pub fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> {
    subject.split(|byte| *byte == DOT)
}

/// Whether nats-server accepts this subject in SUB (`sublist.go:Insert`): no empty token, `>` only last. Wildcards are
/// welcome. White space is not looked for: the line grammar has excluded all but FF, which the server takes, too.
pub fn is_valid_subject(subject: &[u8]) -> bool {
    let mut rest_seen = false;
    for token in tokens(subject) {
        if token.is_empty() || rest_seen {
            return false;
        }
        rest_seen = token == b">";
    }
    true
}

/// Whether the subject is a literal (`sublist.go:IsValidLiteralSubject`): no empty token and no token that is `*` or
/// `>`. Like the server's function it does not look for white space, which the line grammar has excluded already.
pub fn is_valid_literal(subject: &[u8]) -> bool {
    tokens(subject).all(|token| !token.is_empty() && !is_wildcard(token))
}

/// Whether some token is `*` or `>` (`sublist.go:subjectHasWildcard`).
pub fn has_wildcard(subject: &[u8]) -> bool {
    memchr::memchr2(b'*', b'>', subject).is_some() && tokens(subject).any(is_wildcard)
}

/// Whether a token is empty: the subject is empty, begins or ends with a dot, or has two dots in a row. Such a subject
/// matches no pattern (`sublist.go:match`).
pub fn has_empty_token(subject: &[u8]) -> bool {
    let (Some(first), Some(last)) = (subject.first(), subject.last()) else {
        return true;
    };
    let pairs = subject.iter().zip(subject.iter().skip(1));
    let doubled = pairs.fold(false, |found, (one, next)| {
        found | (*one == DOT && *next == DOT)
    });
    doubled || *first == DOT || *last == DOT
}

/// Whether every subject of pattern `inner` is a subject of pattern `outer` (`sublist.go:subjectIsSubsetMatch`). A
/// `*` of `inner` needs a `*` or a `>` of `outer`; a `>` of `inner` needs a `>`. Nothing holds for invalid input.
pub fn is_subset(inner: &[u8], outer: &[u8]) -> bool {
    let mut inner = tokens(inner);
    for wanted in tokens(outer) {
        let Some(token) = inner.next() else {
            return false;
        };
        if wanted.is_empty() || token.is_empty() {
            return false;
        }
        if wanted == b">" {
            return inner.all(|token| !token.is_empty());
        }
        if token == b">" || (wanted != b"*" && token != wanted) {
            return false;
        }
    }
    inner.next().is_none()
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\x0c' | b'\r')
}

const fn is_wildcard(token: &[u8]) -> bool {
    matches!(token, b"*" | b">")
}
