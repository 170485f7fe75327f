//! The quick way through the lines that make up nearly all traffic: PUB, HPUB, MSG and HMSG with upper-case verbs,
//! blanks that are SP, and CR LF. Whatever else comes is left to [`super::grammar`], which reads the same things out of
//! the lines that both accept (a property test holds them to it).

use super::op::{Message, Publish};

/// A line read the quick way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quick<T> {
    pub(super) value: T,
    /// Length of the line with its CR LF.
    pub(super) len: usize,
    /// Whether the bytes are already the canonical encoding: single blanks, sizes without leading zeros.
    pub(super) canonical: bool,
}

/// The arguments of a line: up to five words, and where the line ends.
struct Words<'a> {
    words: [&'a [u8]; 5],
    count: usize,
    end: usize,
    single_blanks: bool,
}

/// How many whole bytes lie below the lowest bit that is set.
#[inline]
fn bytes_below(word: u64) -> usize {
    usize::try_from(word.trailing_zeros() / 8).unwrap_or(0)
}

/// Place of the first byte at or after `at` that is SP or below, eight bytes at a time.
#[inline]
fn next_low(line: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const FIRST_HIGH: u64 = b'!' as u64;
    while let Some(word) = line.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        // Bytes below `!` borrow, and the lowest that does is certain to be one (Hacker's Delight, 6-1).
        let low = word.wrapping_sub(ONES.wrapping_mul(FIRST_HIGH)) & !word & (ONES << 7);
        if low != 0 {
            return Some(at.wrapping_add(bytes_below(low)));
        }
        at = at.wrapping_add(8);
    }
    let rest = line.get(at..)?;
    rest.iter()
        .position(|byte| *byte <= b' ')
        .map(|offset| at.wrapping_add(offset))
}

/// Splits at SP until CR LF. None when the line is unfinished, too long, or has anything unusual in it.
#[inline]
fn words(line: &[u8], start: usize, limit: usize) -> Option<Words<'_>> {
    let mut found = Words {
        words: [&[]; 5],
        count: 0,
        end: 0,
        single_blanks: true,
    };
    let mut word_start = start;
    loop {
        let at = next_low(line, word_start)?;
        if at > word_start {
            *found.words.get_mut(found.count)? = line.get(word_start..at)?;
            found.count = found.count.wrapping_add(1);
        } else {
            found.single_blanks = false;
        }
        match line.get(at)? {
            b' ' => word_start = at.wrapping_add(1),
            b'\r' if line.get(at.wrapping_add(1)) == Some(&b'\n') => {
                found.end = at.wrapping_add(2);
                return (at.wrapping_sub(start) <= limit).then_some(found);
            }
            _ => return None,
        }
    }
}

/// 1 to 9 digits; the flag is false when there are leading zeros.
#[inline]
fn number(text: &[u8]) -> Option<(u32, bool)> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    let mut value = 0_u32;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u32::from(digit));
    }
    Some((value, text.len() == 1 || text.first() != Some(&b'0')))
}

/// `PUB ` or `HPUB ` at the start of `line`; `limit` is the longest argument part allowed, in bytes.
#[inline]
pub(super) fn publish(line: &[u8], limit: usize) -> Option<Quick<Publish<'_>>> {
    if line.starts_with(b"PUB ") {
        let found = words(line, 4, limit)?;
        let (subject, reply, size) = match (found.count, found.words) {
            (2, [subject, size, ..]) => (subject, None, size),
            (3, [subject, reply, size, ..]) => (subject, Some(reply), size),
            _ => return None,
        };
        let (size, minimal) = number(size)?;
        let value = Publish {
            subject,
            reply,
            header_len: None,
            size,
        };
        return Some(Quick {
            value,
            len: found.end,
            canonical: found.single_blanks && minimal,
        });
    }
    if line.starts_with(b"HPUB ") {
        let found = words(line, 5, limit)?;
        let (subject, reply, header, size) = match (found.count, found.words) {
            (3, [subject, header, size, ..]) => (subject, None, header, size),
            (4, [subject, reply, header, size, _]) => (subject, Some(reply), header, size),
            _ => return None,
        };
        let ((header, short), (size, minimal)) = (number(header)?, number(size)?);
        let value = Publish {
            subject,
            reply,
            header_len: Some(header),
            size,
        };
        let canonical = found.single_blanks && short && minimal;
        return (header <= size).then_some(Quick {
            value,
            len: found.end,
            canonical,
        });
    }
    None
}

/// `MSG ` or `HMSG ` at the start of `line`.
#[inline]
pub(super) fn message(line: &[u8], limit: usize) -> Option<Quick<Message<'_>>> {
    if line.starts_with(b"MSG ") {
        let found = words(line, 4, limit)?;
        let (subject, sid, reply, size) = match (found.count, found.words) {
            (3, [subject, sid, size, ..]) => (subject, sid, None, size),
            (4, [subject, sid, reply, size, _]) => (subject, sid, Some(reply), size),
            _ => return None,
        };
        let (size, minimal) = number(size)?;
        let value = Message {
            subject,
            sid,
            reply,
            header_len: None,
            size,
        };
        return Some(Quick {
            value,
            len: found.end,
            canonical: found.single_blanks && minimal,
        });
    }
    if line.starts_with(b"HMSG ") {
        let found = words(line, 5, limit)?;
        let (subject, sid, reply, header, size) = match (found.count, found.words) {
            (4, [subject, sid, header, size, _]) => (subject, sid, None, header, size),
            (5, [subject, sid, reply, header, size]) => (subject, sid, Some(reply), header, size),
            _ => return None,
        };
        let ((header, short), (size, minimal)) = (number(header)?, number(size)?);
        let value = Message {
            subject,
            sid,
            reply,
            header_len: Some(header),
            size,
        };
        let canonical = found.single_blanks && short && minimal;
        return (header <= size).then_some(Quick {
            value,
            len: found.end,
            canonical,
        });
    }
    None
}
