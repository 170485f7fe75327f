//! Where one operation begins and ends: verb, limits first, then the line end, then the grammar. Payload bytes are not
//! looked at here; the session counts them.
//!
//! Stricter than nats-server in one way: a CR that is not followed by LF is refused, since the server reads such a line
//! differently depending on how TCP cut it (`parser.go`, states with `drop`).

use memchr::{memchr, memchr2};

use super::canonical;
use super::grammar::{self, is_blank};
use super::op::{ClientOp, ServerOp};

/// Longest line taken from a server, in bytes: INFO with many cluster URLs.
pub const SERVER_LINE_MAX: usize = 256 * 1024;

/// Longest lines taken from a client, in bytes from the first non-blank after the verb up to the line end, as
/// nats-server counts (`max_control_line`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineLimits {
    /// For every operation but CONNECT.
    pub control: usize,
    /// For CONNECT, which carries the token.
    pub connect: usize,
}

/// One step of decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<Op> {
    /// More bytes are needed. The next call may pass `searched` to not look at the same bytes again.
    Partial {
        /// Bytes at the start of the input that hold no line end.
        searched: usize,
    },
    /// One whole line.
    Line {
        /// What it says.
        op: Op,
        /// Its length with the line end, in bytes.
        len: usize,
        /// Whether its bytes are the canonical encoding of `op`.
        canonical: bool,
    },
    /// The verb is whole, the rest of the line has no meaning and no limit, and its end is not here yet
    /// (PING, PONG, `+OK`). All input is used up; the tail is to be skipped by [`skip_tail`].
    Tail {
        /// What the line says.
        op: Op,
    },
}

/// Why a line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// Not an operation, or a CR inside a line.
    #[error("unknown protocol operation")]
    UnknownOperation,
    /// An operation whose arguments nats-server answers with a silent close.
    #[error("malformed arguments")]
    Malformed,
    /// Longer than the limit.
    #[error("control line too long")]
    TooLong,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Pub,
    Hpub,
    Hmsg,
    Sub,
    Unsub,
    Ping,
    Pong,
    Connect,
    Info,
    Ok,
    Err,
    Msg,
}

/// Without HMSG: what nats-server makes of one from a client depends on how TCP cut it. In one piece it swallows an empty
/// payload after it, in two it does not know the operation (`parser.go:clonePubArg`).
const CLIENT_VERBS: [(&[u8], Verb); 10] = [
    (b"PUB", Verb::Pub),
    (b"HPUB", Verb::Hpub),
    (b"SUB", Verb::Sub),
    (b"UNSUB", Verb::Unsub),
    (b"PING", Verb::Ping),
    (b"PONG", Verb::Pong),
    (b"CONNECT", Verb::Connect),
    (b"INFO", Verb::Info),
    (b"+OK", Verb::Ok),
    (b"-ERR", Verb::Err),
];

const SERVER_VERBS: [(&[u8], Verb); 7] = [
    (b"MSG", Verb::Msg),
    (b"HMSG", Verb::Hmsg),
    (b"PING", Verb::Ping),
    (b"PONG", Verb::Pong),
    (b"INFO", Verb::Info),
    (b"+OK", Verb::Ok),
    (b"-ERR", Verb::Err),
];

enum VerbMatch {
    Whole(Verb, usize),
    Prefix,
    None,
}

/// Which verb `input` starts with, each letter in either case.
fn match_verb(input: &[u8], verbs: &[(&[u8], Verb)]) -> VerbMatch {
    let mut prefix = false;
    for &(name, verb) in verbs {
        let len = name.len().min(input.len());
        let same = name
            .iter()
            .zip(input)
            .all(|(a, b)| a.eq_ignore_ascii_case(b));
        if same && len == name.len() {
            return VerbMatch::Whole(verb, len);
        }
        prefix |= same;
    }
    if prefix {
        VerbMatch::Prefix
    } else {
        VerbMatch::None
    }
}

/// A line cut out of the input: arguments, and length with the line end.
struct Cut<'a> {
    arguments: &'a [u8],
    len: usize,
    crlf: bool,
}

enum CutResult<'a> {
    Whole(Cut<'a>),
    Partial,
    /// A CR without LF, where it stands. What is before it may be too long already, which is then what is wrong: in a read
    /// that ended there it would have been.
    LoneCr(usize),
}

/// Finds the line end, or a lone CR. `after` is where the verb ends.
fn cut(input: &[u8], after: usize, searched: usize) -> CutResult<'_> {
    let from = searched.max(after).min(input.len());
    let rest = input.get(from..).unwrap_or_default();
    let end = memchr(b'\n', rest).map(|offset| from.saturating_add(offset));
    let line = input
        .get(after..end.unwrap_or(input.len()))
        .unwrap_or_default();
    if let Some(cr) = memchr(b'\r', line)
        && cr.saturating_add(1) != line.len()
    {
        return CutResult::LoneCr(after.saturating_add(cr));
    }
    let Some(end) = end else {
        return CutResult::Partial;
    };
    let arguments = line.strip_suffix(b"\r").unwrap_or(line);
    let crlf = arguments.len() != line.len();
    CutResult::Whole(Cut {
        arguments,
        len: end.saturating_add(1),
        crlf,
    })
}

/// Bytes of the argument part as nats-server counts them: leading blanks are free, a trailing CR is not part of it.
fn counted(arguments: &[u8]) -> usize {
    let blanks = arguments.iter().take_while(|byte| is_blank(**byte)).count();
    let counted = arguments.len().saturating_sub(blanks);
    if arguments.last() == Some(&b'\r') {
        counted.saturating_sub(1)
    } else {
        counted
    }
}

/// Decodes one operation of a client at the start of `input`.
///
/// # Errors
/// [`LineFault`] as soon as it is certain, also before the line has ended.
#[inline]
pub fn decode_client(
    input: &[u8],
    searched: usize,
    limits: LineLimits,
) -> Result<Frame<ClientOp<'_>>, LineFault> {
    if let Some(quick) = canonical::publish(input, limits.control) {
        return Ok(Frame::Line {
            op: ClientOp::Publish(quick.value),
            len: quick.len,
            canonical: quick.canonical,
        });
    }
    decode_client_slowly(input, searched, limits)
}

fn decode_client_slowly(
    input: &[u8],
    searched: usize,
    limits: LineLimits,
) -> Result<Frame<ClientOp<'_>>, LineFault> {
    let (verb, after) = match match_verb(input, &CLIENT_VERBS) {
        VerbMatch::Whole(verb, after) => (verb, after),
        VerbMatch::Prefix => return Ok(Frame::Partial { searched: 0 }),
        VerbMatch::None => return Err(LineFault::UnknownOperation),
    };
    let spaced = matches!(
        verb,
        Verb::Pub | Verb::Hpub | Verb::Sub | Verb::Unsub | Verb::Err
    );
    match input.get(after) {
        None => return Ok(Frame::Partial { searched: 0 }),
        Some(next) if spaced && !is_blank(*next) => return Err(LineFault::UnknownOperation),
        Some(_) => {}
    }
    let tail = match verb {
        Verb::Ping => Some(ClientOp::Ping),
        Verb::Pong => Some(ClientOp::Pong),
        Verb::Ok => Some(ClientOp::Ok),
        _ => None,
    };
    let limit = if verb == Verb::Connect {
        limits.connect
    } else {
        limits.control
    };
    let cut = match cut(input, after, searched) {
        CutResult::Whole(cut) => cut,
        CutResult::LoneCr(at) => {
            let before = input.get(after..at).unwrap_or_default();
            return Err(if tail.is_none() && counted(before) > limit {
                LineFault::TooLong
            } else {
                LineFault::UnknownOperation
            });
        }
        CutResult::Partial => {
            if let Some(op) = tail {
                // The last byte may be a CR whose LF is still to come: leave it to the next look.
                return if input.last() == Some(&b'\r') {
                    Ok(Frame::Partial {
                        searched: input.len(),
                    })
                } else {
                    Ok(Frame::Tail { op })
                };
            }
            let arguments = input.get(after..).unwrap_or_default();
            if counted(arguments) > limit {
                return Err(LineFault::TooLong);
            }
            return Ok(Frame::Partial {
                searched: input.len(),
            });
        }
    };
    if let Some(op) = tail {
        let canonical = cut.crlf && cut.arguments.is_empty() && is_upper(input, after);
        return Ok(Frame::Line {
            op,
            len: cut.len,
            canonical,
        });
    }
    if counted(cut.arguments) > limit {
        return Err(LineFault::TooLong);
    }
    let op = client_op(verb, cut.arguments).ok_or(LineFault::Malformed)?;
    Ok(Frame::Line {
        op,
        len: cut.len,
        canonical: false,
    })
}

fn has_lower(input: &[u8], len: usize) -> bool {
    input
        .get(..len)
        .is_some_and(|verb| verb.iter().any(u8::is_ascii_lowercase))
}

fn is_message(verb: Verb) -> bool {
    matches!(verb, Verb::Msg | Verb::Hmsg)
}

/// Whether arguments begin behind a blank, and all blanks are SP.
fn is_spaced(arguments: &[u8]) -> bool {
    arguments.first() == Some(&b' ') && memchr(b'\t', arguments).is_none()
}

fn is_upper(input: &[u8], len: usize) -> bool {
    input
        .get(..len)
        .is_some_and(|verb| verb.iter().all(u8::is_ascii_uppercase))
}

fn client_op(verb: Verb, arguments: &[u8]) -> Option<ClientOp<'_>> {
    Some(match verb {
        Verb::Pub => ClientOp::Publish(grammar::publish(arguments)?),
        Verb::Hpub => ClientOp::Publish(grammar::header_publish(arguments)?),
        Verb::Sub => {
            let (subject, queue, sid) = grammar::subscribe(arguments)?;
            ClientOp::Subscribe {
                subject,
                queue,
                sid,
            }
        }
        Verb::Unsub => {
            let (sid, max) = grammar::unsubscribe(arguments)?;
            ClientOp::Unsubscribe { sid, max }
        }
        Verb::Connect => ClientOp::Connect(trim_blanks(arguments)),
        Verb::Info => ClientOp::Info(trim_blanks(arguments)),
        Verb::Err => ClientOp::Err,
        Verb::Ping => ClientOp::Ping,
        Verb::Pong => ClientOp::Pong,
        Verb::Ok => ClientOp::Ok,
        Verb::Msg | Verb::Hmsg => return None,
    })
}

fn trim_blanks(arguments: &[u8]) -> &[u8] {
    let start = arguments.iter().take_while(|byte| is_blank(**byte)).count();
    let rest = arguments.get(start..).unwrap_or_default();
    let trailing = rest
        .iter()
        .rev()
        .take_while(|byte| is_blank(**byte))
        .count();
    rest.get(..rest.len().saturating_sub(trailing))
        .unwrap_or_default()
}

/// Skips the meaningless rest of a PING, PONG or `+OK` line.
///
/// Returns the bytes used up and whether the line has ended; a CR at the very end is left for the next call.
///
/// # Errors
/// [`LineFault::UnknownOperation`] on a CR that is not followed by LF.
pub fn skip_tail(input: &[u8]) -> Result<(usize, bool), LineFault> {
    match memchr2(b'\r', b'\n', input) {
        None => Ok((input.len(), false)),
        Some(at) if input.get(at) == Some(&b'\n') => Ok((at.saturating_add(1), true)),
        Some(at) => match input.get(at.saturating_add(1)) {
            None => Ok((at, false)),
            Some(b'\n') => Ok((at.saturating_add(2), true)),
            Some(_) => Err(LineFault::UnknownOperation),
        },
    }
}

/// Decodes one operation of a server at the start of `input`.
///
/// # Errors
/// [`LineFault`] when the bytes are not what a nats-server sends to a client.
#[inline]
pub fn decode_server(input: &[u8], searched: usize) -> Result<Frame<ServerOp<'_>>, LineFault> {
    if let Some(quick) = canonical::message(input, SERVER_LINE_MAX) {
        return Ok(Frame::Line {
            op: ServerOp::Message(quick.value),
            len: quick.len,
            canonical: quick.canonical,
        });
    }
    decode_server_slowly(input, searched)
}

fn decode_server_slowly(input: &[u8], searched: usize) -> Result<Frame<ServerOp<'_>>, LineFault> {
    let (verb, after) = match match_verb(input, &SERVER_VERBS) {
        VerbMatch::Whole(verb, after) => (verb, after),
        VerbMatch::Prefix => return Ok(Frame::Partial { searched: 0 }),
        VerbMatch::None => return Err(LineFault::UnknownOperation),
    };
    let cut = match cut(input, after, searched) {
        CutResult::LoneCr(at) => {
            return Err(if at >= SERVER_LINE_MAX {
                LineFault::TooLong
            } else {
                LineFault::UnknownOperation
            });
        }
        // What is not as servers write it goes to the client as it came, and who knows how that reads it.
        CutResult::Whole(cut) if !cut.crlf || has_lower(input, after) => {
            return Err(LineFault::UnknownOperation);
        }
        CutResult::Whole(cut) if is_message(verb) && !is_spaced(cut.arguments) => {
            return Err(LineFault::UnknownOperation);
        }
        CutResult::Whole(cut) if cut.len <= SERVER_LINE_MAX => cut,
        CutResult::Partial if input.len() <= SERVER_LINE_MAX => {
            return Ok(Frame::Partial {
                searched: input.len(),
            });
        }
        CutResult::Whole(_) | CutResult::Partial => return Err(LineFault::TooLong),
    };
    let op = match verb {
        Verb::Msg => {
            ServerOp::Message(grammar::message(cut.arguments).ok_or(LineFault::Malformed)?)
        }
        Verb::Hmsg => {
            ServerOp::Message(grammar::header_message(cut.arguments).ok_or(LineFault::Malformed)?)
        }
        Verb::Info => ServerOp::Info(trim_blanks(cut.arguments)),
        Verb::Ping => ServerOp::Ping,
        Verb::Pong => ServerOp::Pong,
        Verb::Ok => ServerOp::Ok,
        Verb::Err => ServerOp::Err(unquote(trim_blanks(cut.arguments))),
        Verb::Pub | Verb::Hpub | Verb::Sub | Verb::Unsub | Verb::Connect => {
            return Err(LineFault::UnknownOperation);
        }
    };
    Ok(Frame::Line {
        op,
        len: cut.len,
        canonical: false,
    })
}

fn unquote(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"'")
        .and_then(|rest| rest.strip_suffix(b"'"))
        .unwrap_or(text)
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
