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

/// Goes through the arguments of a line.
struct Cursor<'a> {
    line: &'a [u8],
    /// Behind the byte that ended the last word.
    at: usize,
    /// The byte that ended the last word: SP, or CR for the last one.
    stop: u8,
    single_blanks: bool,
}

impl<'a> Cursor<'a> {
    #[inline]
    const fn new(line: &'a [u8], start: usize) -> Self {
        Self {
            line,
            at: start,
            stop: b' ',
            single_blanks: true,
        }
    }

    /// The next word; none behind the last one, and where the line is unfinished or has anything unusual in it.
    #[inline]
    fn word(&mut self) -> Option<&'a [u8]> {
        while self.stop == b' ' {
            let end = next_low(self.line, self.at)?;
            let word = self.line.get(self.at..end)?;
            self.stop = *self.line.get(end)?;
            self.at = end.wrapping_add(1);
            if !word.is_empty() {
                return Some(word);
            }
            self.single_blanks = false;
        }
        None
    }

    /// Length of the line when the last word ended it with CR LF and its arguments, from `start`, are within `limit`.
    #[inline]
    fn end(&self, start: usize, limit: usize) -> Option<usize> {
        let ended = self.stop == b'\r' && self.line.get(self.at) == Some(&b'\n');
        let fits = self.at.wrapping_sub(start) <= limit.wrapping_add(1);
        (ended && fits).then_some(self.at.wrapping_add(1))
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

/// Header length and size of a line with headers, and whether both are without leading zeros.
#[inline]
fn sizes(header: &[u8], size: &[u8]) -> Option<(Option<u32>, u32, bool)> {
    let ((header, short), (size, minimal)) = (number(header)?, number(size)?);
    (header <= size).then_some((Some(header), size, short && minimal))
}

/// `PUB ` or `HPUB ` at the start of `line`; `limit` is the longest argument part allowed, in bytes.
#[inline]
pub(super) fn publish(line: &[u8], limit: usize) -> Option<Quick<Publish<'_>>> {
    if line.starts_with(b"PUB ") {
        let mut cursor = Cursor::new(line, 4);
        let subject = cursor.word()?;
        let (mut reply, mut size) = (None, cursor.word()?);
        if cursor.stop == b' ' {
            (reply, size) = (Some(size), cursor.word()?);
        }
        let len = cursor.end(4, limit)?;
        let (size, minimal) = number(size)?;
        let value = Publish {
            subject,
            reply,
            header_len: None,
            size,
        };
        return Some(Quick {
            value,
            len,
            canonical: cursor.single_blanks && minimal,
        });
    }
    if line.starts_with(b"HPUB ") {
        let mut cursor = Cursor::new(line, 5);
        let subject = cursor.word()?;
        let (mut reply, mut header, mut size) = (None, cursor.word()?, cursor.word()?);
        if cursor.stop == b' ' {
            (reply, header, size) = (Some(header), size, cursor.word()?);
        }
        let len = cursor.end(5, limit)?;
        let (header_len, size, minimal) = sizes(header, size)?;
        let value = Publish {
            subject,
            reply,
            header_len,
            size,
        };
        let canonical = cursor.single_blanks && minimal;
        return Some(Quick {
            value,
            len,
            canonical,
        });
    }
    None
}

/// `MSG ` or `HMSG ` at the start of `line`.
#[inline]
pub(super) fn message(line: &[u8], limit: usize) -> Option<Quick<Message<'_>>> {
    if line.starts_with(b"MSG ") {
        let mut cursor = Cursor::new(line, 4);
        let (subject, sid) = (cursor.word()?, cursor.word()?);
        let (mut reply, mut size) = (None, cursor.word()?);
        if cursor.stop == b' ' {
            (reply, size) = (Some(size), cursor.word()?);
        }
        let len = cursor.end(4, limit)?;
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
            len,
            canonical: cursor.single_blanks && minimal,
        });
    }
    if line.starts_with(b"HMSG ") {
        let mut cursor = Cursor::new(line, 5);
        let (subject, sid) = (cursor.word()?, cursor.word()?);
        let (mut reply, mut header, mut size) = (None, cursor.word()?, cursor.word()?);
        if cursor.stop == b' ' {
            (reply, header, size) = (Some(header), size, cursor.word()?);
        }
        let len = cursor.end(5, limit)?;
        let (header_len, size, minimal) = sizes(header, size)?;
        let value = Message {
            subject,
            sid,
            reply,
            header_len,
            size,
        };
        let canonical = cursor.single_blanks && minimal;
        return Some(Quick {
            value,
            len,
            canonical,
        });
    }
    None
}
