//! The quick way through the lines that make up nearly all traffic: PUB, HPUB, MSG and HMSG in either case, arguments
//! between blanks, CR LF or LF alone. Whatever else comes is left to [`super::grammar`], which reads the same things out
//! of the lines that both accept (a property test holds them to it).

use std::ops::Range;

use super::grammar::is_blank;
use super::op::{Message, Publish};

/// A line read the quick way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quick<T> {
    pub(crate) value: T,
    /// Length of the line with its line end.
    pub(crate) len: usize,
    /// Where the argument behind the subject (of a message: behind the subscription id) begins: what comes before it is
    /// the same in line after line of a stream.
    pub(crate) head: usize,
    /// Whether the bytes are already the canonical encoding: an upper-case verb, single blanks, sizes without leading
    /// zeros, CR LF.
    pub(crate) canonical: bool,
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// How many whole bytes lie below the lowest bit that is set.
#[inline]
fn bytes_below(word: u64) -> usize {
    usize::try_from(word.trailing_zeros() / 8).unwrap_or(0)
}

/// Place of the first byte at or after `at` that is SP or below, eight bytes at a time.
#[inline(always)]
fn next_low(line: &[u8], mut at: usize) -> Option<usize> {
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

/// A size of 1 to 6 digits without leading zeros that ends its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastSize {
    pub(crate) size: u32,
    /// Behind the line end.
    pub(crate) end: usize,
    /// CR LF, not LF alone.
    pub(crate) crlf: bool,
}

/// The size at `at`, read out of one load of eight bytes; none where it is anything unusual, or near the end of `line`.
#[inline(always)]
pub(crate) fn last_size(line: &[u8], at: usize) -> Option<LastSize> {
    let word = u64::from_le_bytes(*line.get(at..)?.first_chunk::<8>()?);
    let digits = word ^ ONES.wrapping_mul(b'0' as u64);
    // The top bit of each byte that is no digit: 10 to 127 reach it by the sum, others have it.
    let others = (digits.wrapping_add(ONES.wrapping_mul(0x76)) | digits) & (ONES << 7);
    let bits = others.trailing_zeros() & !7;
    if bits == 0 || bits > 48 || (digits & 0xFF == 0 && bits > 8) {
        return None;
    }
    let stop = word.wrapping_shr(bits);
    let crlf = stop & 0xFFFF == u64::from(u16::from_le_bytes(*b"\r\n"));
    if !crlf && stop & 0xFF != u64::from(b'\n') {
        return None;
    }
    // The digits to the top, most significant first, and summed in pairs, fours and all.
    let mut sum = digits.wrapping_shl(64_u32.wrapping_sub(bits));
    sum = sum.wrapping_mul(10).wrapping_add(sum >> 8) & 0x00FF_00FF_00FF_00FF;
    sum = sum.wrapping_mul(100).wrapping_add(sum >> 16) & 0x0000_FFFF_0000_FFFF;
    sum = sum.wrapping_mul(10_000).wrapping_add(sum >> 32) & 0xFFFF_FFFF;
    Some(LastSize {
        size: u32::try_from(sum).ok()?,
        end: at
            .wrapping_add(bytes_below(others))
            .wrapping_add(usize::from(crlf))
            .wrapping_add(1),
        crlf,
    })
}

/// Goes through the arguments of a line.
struct Cursor<'a> {
    line: &'a [u8],
    /// Behind the byte that ended the last word.
    at: usize,
    /// The byte that ended the last word: a blank, or CR or LF for the last one.
    stop: u8,
    canonical: bool,
    /// Whether the verb is in upper case, blanks are SP, and the line ends with CR LF: as servers write.
    usual: bool,
}

impl<'a> Cursor<'a> {
    /// At the arguments of a verb, whose last byte is SP; none when `line` begins otherwise.
    #[inline]
    fn of<const LEN: usize>(line: &'a [u8], verb: &[u8; LEN]) -> Option<Self> {
        let begin = line.first_chunk::<LEN>()?;
        let canonical = begin == verb;
        let same = canonical || (begin.eq_ignore_ascii_case(verb));
        same.then_some(Self {
            line,
            at: LEN,
            stop: b' ',
            canonical,
            usual: canonical,
        })
    }

    /// The next word; none behind the last one, and where the line is unfinished or has anything unusual in it.
    #[inline]
    fn word(&mut self) -> Option<&'a [u8]> {
        while is_blank(self.stop) {
            let end = next_low(self.line, self.at)?;
            let word = self.line.get(self.at..end)?;
            self.stop = *self.line.get(end)?;
            self.at = end.wrapping_add(1);
            self.usual &= self.stop != b'\t';
            self.canonical &= self.usual && !word.is_empty();
            if !word.is_empty() {
                return Some(word);
            }
        }
        None
    }

    /// Where a word begins.
    #[inline]
    fn place_of(&self, word: &[u8]) -> usize {
        self.at.wrapping_sub(1).wrapping_sub(word.len())
    }

    /// Length of the line when the last word ended it and its arguments, from `start`, are within `limit`.
    #[inline]
    fn end(&mut self, start: usize, limit: usize) -> Option<usize> {
        let fits = self.at.wrapping_sub(start) <= limit.wrapping_add(1);
        let len = match self.stop {
            b'\r' if self.line.get(self.at) == Some(&b'\n') => self.at.wrapping_add(1),
            b'\n' => {
                (self.canonical, self.usual) = (false, false);
                self.at
            }
            _ => return None,
        };
        fits.then_some(len)
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

/// Where the word at `at` ends with a single SP; none where it is empty or ends with anything else.
#[inline(always)]
pub(crate) fn word_end(line: &[u8], at: usize) -> Option<usize> {
    let end = next_low(line, at)?;
    (end > at && line.get(end) == Some(&b' ')).then_some(end)
}

/// What stands behind the subscription id of a server's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Behind {
    /// Where the reply stands, if there is one.
    pub(crate) reply: Option<Range<usize>>,
    pub(crate) size: u32,
    /// Behind the line end.
    pub(crate) end: usize,
}

/// The rest of a server's line of which a reply, or with `headers` a reply or none and a header length, begin at `at`. None
/// where it is anything unusual, or has headers and nothing else.
#[inline(never)]
pub(crate) fn behind_id(line: &[u8], at: usize, headers: bool) -> Option<Behind> {
    let end = word_end(line, at)?;
    let next = end.checked_add(1)?;
    let (reply, header, last) = match last_size(line, next) {
        Some(last) if headers => (None, line.get(at..end)?, last),
        Some(last) => (Some(at..end), &b""[..], last),
        None if headers => {
            let header = next..word_end(line, next)?;
            let last = last_size(line, header.end.checked_add(1)?)?;
            (Some(at..end), line.get(header)?, last)
        }
        None => return None,
    };
    let fits = !headers || number(header).is_some_and(|(header, _)| header < last.size);
    (fits && last.crlf).then_some(Behind {
        reply,
        size: last.size,
        end: last.end,
    })
}

/// Header length and size of a line with headers, and whether both are without leading zeros.
#[inline]
fn sizes(header: &[u8], size: &[u8]) -> Option<(Option<u32>, u32, bool)> {
    let ((header, short), (size, minimal)) = (number(header)?, number(size)?);
    (header <= size).then_some((Some(header), size, short && minimal))
}

/// What stands behind the subject, or behind the subscription id: `[reply] [header length] size`.
struct Tail<'a> {
    reply: Option<&'a [u8]>,
    header_len: Option<u32>,
    size: u32,
    len: usize,
    /// Where it begins.
    head: usize,
}

impl<'a> Tail<'a> {
    #[inline]
    fn read(cursor: &mut Cursor<'a>, start: usize, limit: usize, headers: bool) -> Option<Self> {
        let first = cursor.word()?;
        let head = cursor.place_of(first);
        let (reply, header_len, size, minimal);
        if headers {
            let mut words = (None, first, cursor.word()?);
            if is_blank(cursor.stop) {
                words = (Some(first), words.2, cursor.word()?);
            }
            reply = words.0;
            (header_len, size, minimal) = sizes(words.1, words.2)?;
        } else {
            let mut words = (None, first);
            if is_blank(cursor.stop) {
                words = (Some(first), cursor.word()?);
            }
            (reply, header_len) = (words.0, None);
            (size, minimal) = number(words.1)?;
        }
        let len = cursor.end(start, limit)?;
        cursor.canonical &= minimal;
        Some(Self {
            reply,
            header_len,
            size,
            len,
            head,
        })
    }
}

/// PUB or HPUB at the start of `line`; `limit` is the longest argument part allowed, in bytes.
#[inline]
pub(crate) fn publish(line: &[u8], limit: usize) -> Option<Quick<Publish<'_>>> {
    let (mut cursor, headers) = match Cursor::of(line, b"PUB ") {
        Some(cursor) => (cursor, false),
        None => (Cursor::of(line, b"HPUB ")?, true),
    };
    let start = cursor.at;
    let subject = cursor.word()?;
    let tail = Tail::read(&mut cursor, start, limit, headers)?;
    Some(Quick {
        value: Publish {
            subject,
            reply: tail.reply,
            header_len: tail.header_len,
            size: tail.size,
        },
        len: tail.len,
        head: tail.head,
        canonical: cursor.canonical,
    })
}

/// MSG or HMSG at the start of `line`, as servers write it: what they don't write goes to no client.
#[inline]
pub(crate) fn message(line: &[u8], limit: usize) -> Option<Quick<Message<'_>>> {
    let (mut cursor, headers) = match Cursor::of(line, b"MSG ") {
        Some(cursor) => (cursor, false),
        None => (Cursor::of(line, b"HMSG ")?, true),
    };
    let start = cursor.at;
    let (subject, sid) = (cursor.word()?, cursor.word()?);
    let tail = Tail::read(&mut cursor, start, limit, headers)?;
    cursor.usual.then_some(Quick {
        value: Message {
            subject,
            sid,
            reply: tail.reply,
            header_len: tail.header_len,
            size: tail.size,
        },
        len: tail.len,
        head: tail.head,
        canonical: cursor.canonical,
    })
}
