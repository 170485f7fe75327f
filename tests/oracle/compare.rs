//! Two transcripts of one script: the same, but for the deliberate differences, each of which is looked for by name.

use super::differences::Difference;
use super::frames::Frame;
use super::model::{Model, Ways, matches};
use super::plan::{Part, Plan};
use super::player::{Transcript, marked};
use super::quote::quoted;
use super::rules::{OID, Rules};
use super::script::{Op, Script, Step};
use super::subjects::{collide, show};

/// What differs in which step, or the deliberate differences that occurred.
pub(crate) fn compare(
    rules: &Rules,
    script: &Script,
    plan: &Plan,
    [server, found]: [&Transcript; 2],
    ways: Ways,
) -> Result<Vec<Difference>, String> {
    let mut reader = Reader {
        script,
        model: Model::new(ways, rules.for_server()),
        ways,
        denied: plain_denied(rules),
        seen: Vec::new(),
    };
    let mut closed = server.closed;
    for index in 0..server.segments.len().max(found.segments.len()) {
        let (Some(wanted), Some(got)) = (server.segments.get(index), found.segments.get(index))
        else {
            return Err(format!("step {index}: only one side went on"));
        };
        let (mut frames, ended) = reader.unmarked(&wanted.client, plan);
        let mut got_frames = got.client.clone();
        frames
            .iter_mut()
            .chain(&mut got_frames)
            .for_each(|frame| reader.forget_who_waits(frame));
        if ended {
            closed = true;
        }
        let number = index.checked_sub(1);
        reader.take_own_answers(number, &mut frames, &mut got_frames);
        let step = number.map(|step| &script.steps[step]);
        reader
            .same(&frames, &got_frames, step)
            .map_err(|text| format!("step {index}, client: {text}"))?;
        let (mut peer, mut got_peer) = (wanted.peer.clone(), got.peer.clone());
        peer.iter_mut()
            .chain(&mut got_peer)
            .for_each(|frame| reader.forget_who_waits(frame));
        reader.take_kept_back(&mut peer, &got_peer);
        reader
            .same(&peer, &got_peer, None)
            .map_err(|text| format!("step {index}, third party: {text}"))?;
        if ended {
            break;
        }
    }
    if closed == found.closed {
        Ok(reader.seen)
    } else {
        Err(format!(
            "the server closes: {closed}, natsentry closes: {}",
            found.closed
        ))
    }
}

/// In place of the sid of a subscription that can wait for a reply.
const ANYBODY: &[u8] = b"whoever waits";

struct Reader<'a> {
    script: &'a Script,
    model: Model,
    ways: Ways,
    /// Subjects that deny entries for plain subscriptions name.
    denied: Vec<String>,
    seen: Vec<Difference>,
}

impl Reader<'_> {
    /// What the server would have said, with each mark read as the answer that it stands for. Whether the session ends there.
    fn unmarked(&mut self, frames: &[Frame], plan: &Plan) -> (Vec<Frame>, bool) {
        let mut all = Vec::new();
        for frame in frames {
            match marked(frame) {
                Some((step, op)) => {
                    if let Part::Marked {
                        because,
                        answer,
                        closes,
                    } = &plan.parts[step][op]
                    {
                        self.seen.push(*because);
                        all.extend(answer.iter().cloned().map(Frame::Line));
                        if *closes {
                            return (all, true);
                        }
                    }
                }
                None => all.push(frame.clone()),
            }
        }
        (all, false)
    }

    /// Of several subscriptions that wait for a reply, a server tells one of no responders, whichever it comes upon first.
    fn forget_who_waits(&self, frame: &mut Frame) {
        let Some(to) = frame.no_responders().map(<[u8]>::to_vec) else {
            return;
        };
        if let Frame::Message { sid, .. } = frame
            && self.subscribed(sid, &to)
        {
            *sid = ANYBODY.to_vec();
        }
    }

    /// Takes out what natsentry says by itself: a 503 for a denied request, the answer about the identity. And what the
    /// server says of a message that it kept back.
    fn take_own_answers(
        &mut self,
        number: Option<usize>,
        wanted: &mut Vec<Frame>,
        got: &mut Vec<Frame>,
    ) {
        let Some(number) = number else { return };
        let Step::Client(ops, _) = &self.script.steps[number] else {
            return;
        };
        // Who could tell it from a message of somebody else's that looks like one?
        let mut taken = 0;
        wanted.retain(|frame| {
            let denied = frame
                .no_responders()
                .is_some_and(|to| !self.model.delivers(to));
            taken += usize::from(denied);
            !denied
        });
        self.seen
            .extend((0..taken).map(|_| Difference::KeptBack503));
        let mut kept = Vec::new();
        let mut rest = wanted.clone();
        // From the end: of two that are the same the server's comes later.
        for frame in got.drain(..).rev() {
            if let Some(at) = rest.iter().rposition(|other| *other == frame) {
                rest.remove(at);
                kept.push(frame);
            } else if self.is_answer_about_identity(&frame, ops) {
                self.seen.push(Difference::UserInfo);
            } else if self.is_503_of_denied(&frame, number, wanted) {
                self.seen.push(Difference::DeniedRequest503);
            } else {
                kept.push(frame);
            }
        }
        kept.reverse();
        *got = kept;
        self.take_kept_back(wanted, got);
    }

    fn is_answer_about_identity(&self, frame: &Frame, ops: &[Op]) -> bool {
        let asked = |subject: &[u8]| {
            ops.iter().any(|op| {
                matches!(op, Op::Publish { subject: asked, reply: Some(reply), .. }
                if asked == b"$SYS.REQ.USER.INFO" && reply == subject)
            })
        };
        match frame {
            Frame::Message {
                subject,
                reply,
                header: None,
                body,
                sid,
            } => {
                let text = String::from_utf8_lossy(body);
                let right =
                    text.contains("\"data\":") && text.contains(&format!("\"user\":\"{OID}\""));
                reply.is_empty() && right && asked(subject) && self.subscribed(sid, subject)
            }
            _ => false,
        }
    }

    /// A 503 for a request of this step that was refused, on a subscription of the client that can wait for the answer.
    fn is_503_of_denied(&self, frame: &Frame, step: usize, wanted: &[Frame]) -> bool {
        let (
            Some(to),
            Frame::Message {
                header: Some(header),
                sid,
                ..
            },
        ) = (frame.no_responders(), frame)
        else {
            return false;
        };
        let refused = |names: &[&[u8]]| {
            wanted.iter().any(|frame| matches!(frame, Frame::Line(line) if names.iter().any(|name| {
                let text = String::from_utf8_lossy(line);
                text.starts_with("-ERR 'Permissions Violation for Publish") && text.contains(&quoted(name))
            })))
        };
        let of_op = |op: &Op| {
            let Op::Publish {
                subject,
                reply: Some(reply),
                header: sent,
                ..
            } = op
            else {
                return false;
            };
            let expected = if self.ways.guards_nrg {
                [b"NATS/1.0 503\r\nNats-Subject: ", &subject[..], b"\r\n\r\n"].concat()
            } else {
                b"NATS/1.0 503\r\n\r\n".to_vec()
            };
            let named = sent.as_deref().and_then(|sent| {
                let line = sent.split(|byte| *byte == b'\r').nth(1)?;
                let at = line.windows(2).position(|pair| pair == b": ")?;
                Some(&line[at + 2..])
            });
            let names: Vec<&[u8]> = [Some(&subject[..]), Some(&reply[..]), named]
                .into_iter()
                .flatten()
                .collect();
            reply == to && *header == expected && refused(&names)
        };
        let in_force = self.script.in_force(step);
        let mut ops = self.script.steps[step].ops().iter().zip(&in_force);
        ops.any(|(op, options)| options.no_responders && of_op(op)) && sid == ANYBODY
    }

    /// The client or the third party has at some time subscribed, by this sid, to something that contains `subject`.
    fn subscribed(&self, sid: &[u8], subject: &[u8]) -> bool {
        let mut ops = self.script.steps.iter().flat_map(Step::ops);
        let listens = |op: &Op| {
            matches!(op, Op::Subscribe { subject: pattern, sid: own, .. }
            if own.as_bytes() == sid && matches(pattern, subject))
        };
        ops.any(listens) || (sid == b"799" && subject.starts_with(b"_PEER."))
    }

    /// Whether a message may come beyond the last one of an UNSUB max that natsentry counts: the server has delivered it to
    /// natsentry, which has not yet told it of the end.
    fn is_counted_here(&self, subject: &[u8]) -> bool {
        let ops = || self.script.steps.iter().flat_map(Step::ops);
        let limited = |wanted: &str| {
            ops().any(|op| matches!(op, Op::Unsubscribe { sid, max: Some(_) } if sid == wanted))
        };
        ops().any(|op| match op {
            Op::Subscribe {
                subject: pattern,
                sid,
                ..
            } => {
                let denied = self
                    .denied
                    .iter()
                    .any(|deny| collide(deny.as_bytes(), pattern));
                denied && matches(pattern, subject) && limited(sid)
            }
            _ => false,
        })
    }

    /// Takes out of what the server said each 503 for a request that natsentry has got and kept back: for the server it was
    /// delivered.
    fn take_kept_back(&mut self, wanted: &mut Vec<Frame>, got: &[Frame]) {
        let ops: Vec<&Op> = self.script.steps.iter().flat_map(Step::ops).collect();
        let mut rest = got.to_vec();
        let mut taken = 0;
        wanted.retain(|frame| {
            if let Some(at) = rest.iter().position(|other| other == frame) {
                rest.remove(at);
                return true;
            }
            let beyond = |subject: &[u8]| self.is_counted_here(subject);
            let kept_back = frame.no_responders().is_some_and(|to| {
                ops.iter().any(|op| {
                    matches!(op, Op::Publish { subject, reply: Some(reply), .. }
                    if reply == to && (!self.model.delivers(subject) || beyond(subject)))
                })
            });
            taken += usize::from(kept_back);
            !kept_back
        });
        self.seen
            .extend((0..taken).map(|_| Difference::KeptBackCountsUpstream));
    }

    /// Without each `Invalid Publish Subject` that a server says anew when it finds the payload in another read
    /// (`parser.go:clonePubArg`), where natsentry says none.
    fn without_repeats(&mut self, wanted: &[Frame], got: &[Frame]) -> Vec<Frame> {
        let invalid = Frame::Line(b"-ERR 'Invalid Publish Subject'".to_vec());
        let mut got = got.iter().filter(|frame| frame.is_local()).peekable();
        let mut before = None;
        let mut kept = Vec::new();
        for frame in wanted {
            if frame.is_local() {
                let repeated = *frame == invalid && before == Some(frame);
                before = Some(frame);
                if repeated && got.peek() != Some(&frame) {
                    self.seen.push(Difference::PedanticOnce);
                    continue;
                }
                got.next();
            }
            kept.push(frame.clone());
        }
        kept
    }

    /// The same frames in the same order. Answers made on the way may come earlier than with a server, if there was more
    /// than one operation to answer.
    fn same(&mut self, wanted: &[Frame], got: &[Frame], step: Option<&Step>) -> Result<(), String> {
        let wanted = self.without_repeats(wanted, got);
        let (wanted, got) = (Order::of(&wanted), Order::of(got));
        if let Some(text) = first_difference(&wanted.local, &got.local) {
            return Err(format!("answers differ: {text}"));
        }
        if let Some(text) = first_difference(&wanted.remote, &got.remote) {
            return Err(format!("messages differ: {text}"));
        }
        if wanted.before == got.before {
            return Ok(());
        }
        let several = step.is_some_and(|step| step.ops().len() > 1);
        let later = wanted
            .before
            .iter()
            .zip(&got.before)
            .any(|(wanted, got)| got < wanted);
        if later || !several {
            return Err("an answer came later or earlier than with a server".to_owned());
        }
        self.seen.push(Difference::LocalAnswersOvertake);
        Ok(())
    }
}

fn plain_denied(rules: &Rules) -> Vec<String> {
    let entries = rules.named().deny_subscribe.into_iter();
    let plain = entries.filter(|(_, group)| group.is_none());
    plain.map(|(subject, _)| subject).collect()
}

/// Frames by who says them.
struct Order {
    local: Vec<Frame>,
    /// Messages and PONGs; those of one message in the order of the sids, since a server keeps none.
    remote: Vec<Frame>,
    /// How many local ones come before each remote one.
    before: Vec<usize>,
}

impl Order {
    fn of(frames: &[Frame]) -> Self {
        let mut order = Self {
            local: Vec::new(),
            remote: Vec::new(),
            before: Vec::new(),
        };
        for frame in frames {
            if frame.is_local() {
                order.local.push(frame.clone());
            } else {
                order.before.push(order.local.len());
                order.remote.push(frame.clone());
            }
        }
        let one_message = |a: &Frame, b: &Frame| match (a, b) {
            (
                Frame::Message {
                    subject,
                    reply,
                    header,
                    body,
                    ..
                },
                Frame::Message {
                    subject: s,
                    reply: r,
                    header: h,
                    body: b,
                    ..
                },
            ) => (subject, reply, header, body) == (s, r, h, b),
            _ => false,
        };
        for copies in order.remote.chunk_by_mut(one_message) {
            copies.sort();
        }
        order
    }
}

fn first_difference(wanted: &[Frame], got: &[Frame]) -> Option<String> {
    let at = (0..wanted.len().max(got.len())).find(|at| wanted.get(*at) != got.get(*at))?;
    let text = |frame: Option<&Frame>| frame.map_or_else(|| show(b"nothing"), Frame::show);
    Some(format!(
        "the server says `{}`, natsentry `{}`",
        text(wanted.get(at)),
        text(got.get(at))
    ))
}
