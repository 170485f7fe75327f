//! The grammar of one finished control line, with nom on complete input. The line comes without its verb and without
//! its line end, and holds no CR and no LF: [`super::frame`] sees to that.
//!
//! Source: nats-server `client.go` (`processPub`, `processHeaderPub`, `parseSub`, `processUnsub`, `splitArg`) and
//! `util.go:parseSize`.

use nom::IResult;
use nom::Parser;
use nom::bytes::complete::{take_while, take_while1};
use nom::character::complete::digit1;
use nom::combinator::{all_consuming, map_opt, verify};
use nom::multi::fold_many0;
use nom::sequence::{preceded, terminated};
use smallvec::SmallVec;

use super::op::{Message, Publish};

/// SP and TAB separate arguments; nothing else does (VT, FF, NUL and NBSP are ordinary subject bytes).
pub(super) const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// One more than any line may have, so that too many arguments can be told from enough.
type Arguments<'a> = SmallVec<[&'a [u8]; 6]>;

fn blanks(input: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while(is_blank)(input)
}

fn argument(input: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while1(|byte| !is_blank(byte))(input)
}

/// Arguments between runs of blanks; leading and trailing blanks are ignored. Stops keeping after six.
fn arguments(line: &[u8]) -> Option<Arguments<'_>> {
    let one = terminated(argument, blanks);
    let many = fold_many0(one, Arguments::new, |mut kept, next| {
        if kept.len() < 6 {
            kept.push(next);
        }
        kept
    });
    let (_, found) = all_consuming(preceded(blanks, many)).parse(line).ok()?;
    Some(found)
}

/// 1 to 9 digits, leading zeros allowed (`util.go:parseSize`).
pub(super) fn size(text: &[u8]) -> Option<u32> {
    let digits = verify(digit1::<&[u8], nom::error::Error<&[u8]>>, |d: &[u8]| {
        d.len() <= 9
    });
    let number = map_opt(digits, |d: &[u8]| std::str::from_utf8(d).ok()?.parse().ok());
    let (_, value) = all_consuming(number).parse(text).ok()?;
    Some(value)
}

/// Arguments of PUB: `subject [reply] size`.
pub(super) fn publish(line: &[u8]) -> Option<Publish<'_>> {
    let (subject, reply, bytes) = match *arguments(line)?.as_slice() {
        [subject, bytes] => (subject, None, bytes),
        [subject, reply, bytes] => (subject, Some(reply), bytes),
        _ => return None,
    };
    Some(Publish {
        subject,
        reply,
        header_len: None,
        size: size(bytes)?,
    })
}

/// Arguments of HPUB: `subject [reply] header_len size`, with `header_len <= size`.
pub(super) fn header_publish(line: &[u8]) -> Option<Publish<'_>> {
    let (subject, reply, header, bytes) = match *arguments(line)?.as_slice() {
        [subject, header, bytes] => (subject, None, header, bytes),
        [subject, reply, header, bytes] => (subject, Some(reply), header, bytes),
        _ => return None,
    };
    let (header_len, size) = (size(header)?, size(bytes)?);
    (header_len <= size).then_some(Publish {
        subject,
        reply,
        header_len: Some(header_len),
        size,
    })
}

/// Subject, queue, sid.
type SubscribeArguments<'a> = (&'a [u8], Option<&'a [u8]>, &'a [u8]);

/// Arguments of SUB: `subject [queue] sid`.
pub(super) fn subscribe(line: &[u8]) -> Option<SubscribeArguments<'_>> {
    match *arguments(line)?.as_slice() {
        [subject, sid] => Some((subject, None, sid)),
        [subject, queue, sid] => Some((subject, Some(queue), sid)),
        _ => None,
    }
}

/// Arguments of UNSUB: `sid [max]`. A useless `max` reads as none.
pub(super) fn unsubscribe(line: &[u8]) -> Option<(&[u8], Option<u32>)> {
    match *arguments(line)?.as_slice() {
        [sid] => Some((sid, None)),
        [sid, max] => Some((sid, size(max).filter(|max| *max > 0))),
        _ => None,
    }
}

/// Arguments of MSG: `subject sid [reply] size`. Servers write two blanks where an internal publisher has no reply.
pub(super) fn message(line: &[u8]) -> Option<Message<'_>> {
    let (subject, sid, reply, bytes) = match *arguments(line)?.as_slice() {
        [subject, sid, bytes] => (subject, sid, None, bytes),
        [subject, sid, reply, bytes] => (subject, sid, Some(reply), bytes),
        _ => return None,
    };
    Some(Message {
        subject,
        sid,
        reply,
        header_len: None,
        size: size(bytes)?,
    })
}

/// Arguments of HMSG: `subject sid [reply] header_len size`.
pub(super) fn header_message(line: &[u8]) -> Option<Message<'_>> {
    let (subject, sid, reply, header, bytes) = match *arguments(line)?.as_slice() {
        [subject, sid, header, bytes] => (subject, sid, None, header, bytes),
        [subject, sid, reply, header, bytes] => (subject, sid, Some(reply), header, bytes),
        _ => return None,
    };
    let (header_len, size) = (size(header)?, size(bytes)?);
    let message = Message {
        subject,
        sid,
        reply,
        header_len: Some(header_len),
        size,
    };
    (header_len <= size).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_one_to_nine_digits() {
        assert_eq!(size(b"0"), Some(0));
        assert_eq!(size(b"00005"), Some(5));
        assert_eq!(size(b"999999999"), Some(999_999_999));
        for bad in [&b"0000000005"[..], b"-5", b"+5", b"0x5", b"", b"5 "] {
            assert_eq!(size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn blanks_collapse_and_other_white_space_is_subject() {
        let read = publish(b" a\x0bb\t \tr\x00  7\t").unwrap();
        assert_eq!(
            (read.subject, read.reply, read.size),
            (&b"a\x0bb"[..], Some(&b"r\x00"[..]), 7)
        );
    }

    #[test]
    fn argument_counts_are_the_servers() {
        assert!(publish(b"a").is_none() && publish(b"a b c 1").is_none() && publish(b"").is_none());
        assert!(header_publish(b"a 1").is_none() && header_publish(b"a b c 1 2").is_none());
        assert!(header_publish(b"a 3 2").is_none() && header_publish(b"a 0 0").is_some());
        assert!(subscribe(b"a").is_none() && subscribe(b"a b c d").is_none());
        assert!(unsubscribe(b"").is_none() && unsubscribe(b"1 2 3").is_none());
        assert_eq!(unsubscribe(b"1 0"), Some((&b"1"[..], None)));
        assert_eq!(unsubscribe(b"1 x"), Some((&b"1"[..], None)));
        assert_eq!(unsubscribe(b"1 07"), Some((&b"1"[..], Some(7))));
        assert!(message(b"a 1 2 3 4").is_none() && message(b"victim.trace 3  629").is_some());
    }
}
