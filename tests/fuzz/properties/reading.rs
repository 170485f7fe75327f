//! What natsentry makes of a client's stream, worked out beside the session: the operations that it reads, by the decoder
//! that the session uses, and those of them that it lets go upstream, by a judge of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use natsentry::policy::{InboxRegistry, Judge, Permissions};
use natsentry::secret::Secret;
use natsentry::session::CloseReason;
use natsentry::subject::is_valid_subject;
use natsentry::time::Timestamp;
use natsentry::wire::{
    ClientOp, Connect, Frame, LineFault, LineLimits, decode_client, is_info_taken, side_channels,
    skip_tail,
};
use serde_json::{Value, json};

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
    let mut told = first_connect(settings.headers);
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
                if publish.header_len.is_some() && !told.headers {
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
            ClientOp::Connect(json) => {
                if connected_again(json, &mut told) == Some(CloseReason::Malformed) {
                    break Some(CloseReason::Malformed);
                }
                ops.push(Op::Connect(json.to_vec()));
            }
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
    /// A CONNECT without arguments is no operation: there a PING of natsentry's own may stand, which asks whether upstream
    /// has answered everything.
    pub ops: Vec<Op>,
    /// How the session ends; none while it lives.
    pub close: Option<CloseReason>,
    /// The client asked who it is, and the answer counts on whichever subscription waits for it: from then on natsentry counts
    /// what UNSUB says, and upstream hears of its end alone.
    pub counts_itself: bool,
}

/// Judges operations one after the other, of a client that has said at its CONNECT what `settings` say.
pub fn judge(
    permissions: &Arc<Permissions>,
    settings: Settings,
    read: Read,
    now: Timestamp,
) -> Judged {
    let mut judge = Judge::new(
        Arc::clone(permissions),
        Arc::new(InboxRegistry::default()),
        9,
    );
    let (mut ops, mut counts_itself) = (Vec::new(), false);
    let mut told = first_connect(settings.headers);
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
                let before = told.clone();
                let close = connected_again(json, &mut told);
                if close.is_none() || told.tokens_given() > 0 {
                    ops.push(Op::Connect(Vec::new()));
                }
                if close.is_some() {
                    return Judged {
                        ops,
                        close,
                        counts_itself,
                    };
                }
                if settings.takes_subscriptions && !live.is_empty() {
                    let gone = std::mem::take(&mut live).into_iter();
                    ops.extend(gone.map(|sid| Op::Unsubscribe { sid, max: None }));
                    ops.push(Op::Ping);
                }
                if for_upstream(&before) != for_upstream(&told) {
                    ops.push(for_upstream(&told));
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

/// What sessions say of themselves first.
fn first_connect(headers: bool) -> Connect {
    Connect {
        headers,
        protocol: 1,
        lang: "fuzz".to_owned(),
        ..Connect::default()
    }
}

/// What upstream is to know of a client, with the keys in the order of the alphabet.
fn for_upstream(connect: &Connect) -> Op {
    let mut json = json!({
        "verbose": false, "pedantic": false, "protocol": 1, "echo": connect.echo,
        "headers": connect.headers, "no_responders": connect.no_responders,
    });
    let texts = [
        ("lang", &connect.lang, 32),
        ("version", &connect.version, 32),
        ("name", &connect.name, 128),
    ];
    for (key, text, most) in texts {
        let cut = (0..=most.min(text.len())).rev();
        let text = cut.filter_map(|end| text.get(..end)).next();
        let text = text.expect("the empty text, at least");
        let ends_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        let text = text.replace(ends_line, "?");
        if !text.is_empty() {
            json[key] = text.into();
        }
    }
    in_order_of_keys(json.to_string().as_bytes())
}

/// A CONNECT as [`for_upstream`] writes it.
pub fn in_order_of_keys(json: &[u8]) -> Op {
    let json: BTreeMap<String, Value> = serde_json::from_slice(json).expect("an object");
    Op::Connect(serde_json::to_vec(&json).expect("JSON"))
}

/// A later CONNECT, where no token is admitted: how it ends the session. What it says goes over what was `told` before.
fn connected_again(json: &[u8], told: &mut Connect) -> Option<CloseReason> {
    let before = Connect {
        user: String::new(),
        ..told.clone()
    };
    let Ok(connect) = Connect::parse_onto(before, json) else {
        return Some(CloseReason::Malformed);
    };
    told.clone_from(&connect);
    if connect.account || (connect.inter_server && connect.lang.is_empty()) {
        told.auth_token = Secret::default();
        told.pass = Secret::default();
        told.jwt = Secret::default();
        Some(CloseReason::Unauthorized)
    } else if connect.tokens_given() > 0 {
        Some(CloseReason::Unauthorized)
    } else if !(0..=1).contains(&connect.protocol) {
        Some(CloseReason::InvalidClientProtocol)
    } else if connect.no_responders && !connect.headers {
        Some(CloseReason::NoRespondersWithoutHeaders)
    } else {
        None
    }
}
