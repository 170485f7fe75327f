//! What natsentry makes of a client's stream, worked out beside the session: the operations that it reads, by the decoder
//! that the session uses, and those of them that it lets go upstream, by a judge of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use natsentry::policy::{InboxRegistry, Judge, Permissions};
use natsentry::session::CloseReason;
use natsentry::subject::is_valid_subject;
use natsentry::time::Timestamp;
use natsentry::wire::{
    ClientOp, Connect, Frame, LineFault, LineLimits, decode_client, is_info_taken, side_channels,
    skip_tail,
};

use super::server::{Op, Settings};

/// A stream as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// Operations that are complete.
    pub ops: Vec<Op>,
    /// Why the rest is not read; none when more bytes could follow.
    pub fault: Option<CloseReason>,
    /// Where the operation begins that is unfinished or at fault.
    pub rest: usize,
}

/// The first line of some input.
pub enum Line<'a> {
    /// With its length.
    Whole(ClientOp<'a>, usize),
    Unfinished,
    Fault(CloseReason),
}

/// Something that reads one line.
pub type Decode = fn(&[u8], LineLimits) -> Line<'_>;

/// As natsentry reads it.
pub fn natsentry(input: &[u8], limits: LineLimits) -> Line<'_> {
    match decode_client(input, 0, limits) {
        Ok(Frame::Line { op, len, .. }) => Line::Whole(op, len),
        Ok(Frame::Partial { .. }) => Line::Unfinished,
        Ok(Frame::Tail { .. }) => match skip_tail(input) {
            Ok(_) => Line::Unfinished,
            Err(_) => Line::Fault(CloseReason::UnknownOperation),
        },
        Err(LineFault::UnknownOperation) => Line::Fault(CloseReason::UnknownOperation),
        Err(LineFault::Malformed) => Line::Fault(CloseReason::Malformed),
        Err(LineFault::TooLong) => Line::Fault(CloseReason::ControlLineTooLong),
    }
}

/// Reads a whole stream.
pub fn read(stream: &[u8], settings: Settings, decode: Decode) -> Read {
    let limits = LineLimits {
        control: settings.max_control_line,
        connect: settings.max_control_line,
    };
    let (mut ops, mut rest) = (Vec::new(), 0);
    let fault = loop {
        let input = &stream[rest..];
        if input.is_empty() {
            break None;
        }
        let (op, len) = match decode(input, limits) {
            Line::Whole(op, len) => (op, len),
            Line::Unfinished => break None,
            Line::Fault(fault) => break Some(fault),
        };
        match op {
            ClientOp::Publish(publish) => {
                if publish.header_len.is_some() && !settings.headers {
                    break Some(CloseReason::HeadersNotSupported);
                }
                let size = publish.size as usize;
                if size > settings.max_payload {
                    break Some(CloseReason::PayloadTooLarge);
                }
                let payload = &input[len..];
                let end = payload.get(size..).unwrap_or_default();
                match end {
                    [b'\r', b'\n', ..] => {}
                    [] | [b'\r'] => break None,
                    _ => break Some(CloseReason::UnknownOperation),
                }
                ops.push(Op::Publish {
                    subject: publish.subject.to_vec(),
                    reply: publish.reply.map(<[u8]>::to_vec),
                    header: publish.header_len.map(|len| len as usize),
                    payload: payload[..size].to_vec(),
                });
                rest += size + 2;
            }
            ClientOp::Subscribe {
                subject,
                queue,
                sid,
            } => ops.push(Op::Subscribe {
                subject: subject.to_vec(),
                queue: queue.map(<[u8]>::to_vec),
                sid: sid.to_vec(),
            }),
            ClientOp::Unsubscribe { sid, max } => ops.push(Op::Unsubscribe {
                sid: sid.to_vec(),
                max: max.map(|max| max as usize),
            }),
            ClientOp::Ping => ops.push(Op::Ping),
            ClientOp::Pong => ops.push(Op::Pong),
            ClientOp::Ok => {}
            ClientOp::Connect(json)
                if connected_again(json, settings.headers, &mut String::new())
                    == Some(CloseReason::Malformed) =>
            {
                break Some(CloseReason::Malformed);
            }
            ClientOp::Connect(json) => ops.push(Op::Connect(json.to_vec())),
            ClientOp::Info(json) if is_info_taken(json) => ops.push(Op::Info(json.to_vec())),
            ClientOp::Info(_) => break Some(CloseReason::Malformed),
            ClientOp::Err => break Some(CloseReason::Malformed),
        }
        rest += len;
    };
    Read { ops, fault, rest }
}

/// What goes upstream of a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Judged {
    pub ops: Vec<Op>,
    /// How the session ends; none while it lives.
    pub close: Option<CloseReason>,
    /// The client asked who it is, and the answer counts on whichever subscription waits for it: from then on natsentry counts
    /// what UNSUB says, and upstream hears of its end alone.
    pub counts_itself: bool,
}

/// Judges operations one after the other.
pub fn judge(permissions: &Arc<Permissions>, headers: bool, read: Read, now: Timestamp) -> Judged {
    let mut judge = Judge::new(
        Arc::clone(permissions),
        Arc::new(InboxRegistry::default()),
        9,
    );
    let (mut ops, mut counts_itself) = (Vec::new(), false);
    let mut lang = "fuzz".to_owned();
    let mut live: BTreeSet<Vec<u8>> = BTreeSet::new();
    for op in read.ops {
        let passes = match &op {
            Op::Publish {
                subject,
                reply,
                header,
                payload,
            } => {
                let asks_who_it_is = subject == b"$SYS.REQ.USER.INFO" && reply.is_some();
                counts_itself |= asks_who_it_is && !live.is_empty();
                let granted = judge.publish(subject, reply.as_deref(), now).is_ok();
                let block = &payload[..header.unwrap_or(0)];
                let mut named = side_channels(block);
                let all = named.all(|(name, subject)| judge.header_subject(name, subject).is_ok());
                granted && all && !asks_who_it_is
            }
            Op::Subscribe {
                subject,
                queue,
                sid,
            } => {
                let granted = judge.subscribe(subject, queue.as_deref()).is_ok();
                granted && is_valid_subject(subject) && live.insert(sid.clone())
            }
            Op::Unsubscribe { sid, max: None } => live.remove(sid),
            Op::Unsubscribe { sid, max: Some(_) } => live.contains(sid),
            Op::Ping | Op::Pong => true,
            Op::Connect(json) => {
                if let Some(close) = connected_again(json, headers, &mut lang) {
                    return Judged {
                        ops,
                        close: Some(close),
                        counts_itself,
                    };
                }
                if !live.is_empty() {
                    let gone = std::mem::take(&mut live);
                    ops.extend(
                        gone.into_iter()
                            .map(|sid| Op::Unsubscribe { sid, max: None }),
                    );
                    ops.push(Op::Ping);
                }
                false
            }
            Op::Info(_) | Op::HeaderMessage => false,
        };
        if passes {
            ops.push(op);
        }
    }
    Judged {
        ops,
        close: read.fault,
        counts_itself,
    }
}

/// A second CONNECT, where none is admitted: how it ends the session. `headers` is what the
/// first one said of them and of `no_responders`, `lang` what earlier ones said.
fn connected_again(json: &[u8], headers: bool, lang: &mut String) -> Option<CloseReason> {
    let before = Connect {
        headers,
        no_responders: false,
        protocol: 1,
        lang: lang.clone(),
        ..Connect::default()
    };
    let Ok(connect) = Connect::parse_onto(before, json) else {
        return Some(CloseReason::Malformed);
    };
    lang.clone_from(&connect.lang);
    if connect.account || (connect.inter_server && connect.lang.is_empty()) {
        Some(CloseReason::Unauthorized)
    } else if !(0..=1).contains(&connect.protocol) {
        Some(CloseReason::InvalidClientProtocol)
    } else if connect.no_responders && !connect.headers {
        Some(CloseReason::NoRespondersWithoutHeaders)
    } else {
        (connect.tokens_given() > 0).then_some(CloseReason::Unauthorized)
    }
}
