//! Subjects and queue groups by chance, over a small alphabet so that they meet often; and the relations between them that
//! the deliberate differences are about, written token by token and without a trie.

use super::random::Random;

/// Names of queue groups that clients join. None holds a wildcard inside a token, so that an entry with one (`v*`, a form
/// of natsentry's own) can be written for a server as the names that it stands for.
pub(crate) const GROUPS: [&str; 9] = [
    "v1", "v2", "grp.a", "grp.b", "grp.*", "grp.>", "grp.a.b", "*", ">",
];

/// Odd but legal: no separator among them. Servers echo them in errors, escaped.
const ODD: [&[u8]; 16] = [
    b"a*",
    b"*b",
    b"a>b",
    b"**",
    "\u{e9}".as_bytes(),
    "\u{2028}".as_bytes(),
    "\u{a0}".as_bytes(),
    b"\x01",
    b"\"",
    b"\\",
    b"\x7f",
    b"\xff",
    b"\x0b",
    b"\x0c",
    b"'",
    b"$SYS",
];

const LETTERS: [&[u8]; 3] = [b"a", b"b", b"c"];

/// A valid pattern of up to four tokens.
pub(crate) fn pattern(random: &mut Random) -> String {
    let count = random.between(1, 4);
    let mut parts: Vec<&str> = (0..count)
        .map(|_| *random.pick(&["a", "b", "c", "*"]))
        .collect();
    if random.once_in(3) {
        parts.pop();
        parts.push(">");
    }
    parts.join(".")
}

/// What a client may send: mostly valid, sometimes with `>` in the middle, odd tokens, or none between two dots.
pub(crate) fn subject(random: &mut Random) -> Vec<u8> {
    let count = random.between(1, 4);
    let parts: Vec<&[u8]> = (0..count)
        .map(|_| match random.below(60) {
            0 => &b">"[..],
            1 => b"",
            2 => *random.pick(&ODD),
            3..=5 => b"d",
            6..=12 => b"*",
            n => [&b"a"[..], b"b", b"c"][n % 3],
        })
        .collect();
    let text = parts.join(&b'.');
    if text.is_empty() { b"a".to_vec() } else { text }
}

/// A subject without wildcards or oddities.
pub(crate) fn literal(random: &mut Random) -> Vec<u8> {
    let count = random.between(1, 4);
    let parts: Vec<&str> = (0..count).map(|_| *random.pick(&["a", "b", "c"])).collect();
    parts.join(".").into_bytes()
}

/// A literal that a pattern matches.
pub(crate) fn literal_of(random: &mut Random, pattern: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for token in tokens(pattern) {
        match token {
            b"*" => parts.push(random.pick::<&[u8]>(&LETTERS)),
            b">" => {
                let more = random.between(1, 2);
                parts.extend((0..more).map(|_| random.pick::<&[u8]>(&LETTERS)).copied());
            }
            token => parts.push(token),
        }
    }
    parts.join(&b'.')
}

pub(crate) fn group(random: &mut Random) -> String {
    (*random.pick(&GROUPS)).to_owned()
}

pub(crate) fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> {
    subject.split(|byte| *byte == b'.')
}

pub(crate) fn has_wildcard(subject: &[u8]) -> bool {
    tokens(subject).any(|token| token == b"*" || token == b">")
}

pub(crate) fn has_empty_token(subject: &[u8]) -> bool {
    tokens(subject).any(<[u8]>::is_empty)
}

fn ends_in_rest(subject: &[u8]) -> bool {
    tokens(subject).last() == Some(b">")
}

/// Every subject of `inner` is one of the pattern `outer`. A `>` of `inner` that is not last counts as a literal token.
pub(crate) fn contained_in(inner: &[u8], outer: &[u8]) -> bool {
    let tail = ends_in_rest(inner);
    let takes_tail = || ends_in_rest(outer) && tokens(outer).count() <= tokens(inner).count();
    super::model::matches(outer, inner) && (!tail || takes_tail())
}

/// The two have a subject in common.
pub(crate) fn collide(one: &[u8], other: &[u8]) -> bool {
    let (mut one, mut other) = (tokens(one).peekable(), tokens(other).peekable());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(b""), _) | (_, Some(b"")) | (None, _) | (_, None) => return false,
            (Some(b">"), _) if one.peek().is_none() => return other.all(|token| !token.is_empty()),
            (_, Some(b">")) if other.peek().is_none() => return one.all(|token| !token.is_empty()),
            (Some(b"*" | b">"), _) | (_, Some(b"*" | b">")) => {}
            (Some(a), Some(b)) if a == b => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// For people: what can be shown as it is, the rest escaped.
pub(crate) fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
