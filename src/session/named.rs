//! Subjects that a published message names besides its own: in headers, and in the bodies of requests to JetStream.

use super::bodies::{Asks, BODY_MAX, asks, can_ask, named};
use super::{Operation, Serving, Session};
use crate::policy::{Denial, Judge};
use crate::time::Timestamp;
use crate::wire::{Publish, SideChannel, rolls_up_everything, side_channels};

impl Session {
    /// Whether the headers of a publish let it pass; where they don't, what is to be said of that is said.
    pub(super) fn pass_headers(
        &mut self,
        publish: &Publish<'_>,
        block: &[u8],
        now: Timestamp,
    ) -> bool {
        let Some(serving) = &mut self.serving else {
            return false;
        };
        if let Some(named) = judge_headers(serving, block)
            && !self.pass_named(publish, named, now)
        {
            return false;
        }
        self.pass_rollup(publish, block, now)
    }

    /// A rollup of everything in a bucket or an object store deletes all of it, so it takes leave to write all of it.
    fn pass_rollup(&mut self, publish: &Publish<'_>, block: &[u8], now: Timestamp) -> bool {
        let Some(serving) = &mut self.serving else {
            return false;
        };
        // The headers first: only the rare message that has this one may cost memory.
        if !rolls_up_everything(block) {
            return true;
        }
        let Some(all) = everything_beside(publish.subject) else {
            return true;
        };
        let judged = serving
            .judge
            .header_subject(SideChannel::ScheduleTarget, &all);
        let Err(denial) = judged else {
            return true;
        };
        let named = Named::of(&serving.judge, &all, denial);
        self.pass_named(publish, named, now)
    }

    /// Likewise the body of a request to JetStream, and a reply at which the server would take the answer for such a request:
    /// nobody judges the body of that.
    pub(super) fn pass_body(&mut self, publish: &Publish<'_>, body: &[u8], now: Timestamp) -> bool {
        let Some(serving) = &mut self.serving else {
            return false;
        };
        let judged = judge_requesting_reply(&serving.judge, publish.reply).or_else(|| {
            let asks = asks(publish.subject)?;
            judge_body(&mut serving.judge, asks, publish, body)
        });
        let Some((subject, denial)) = judged else {
            return true;
        };
        let named = Named::of(&serving.judge, &subject, denial);
        self.pass_named(publish, named, now)
    }

    fn pass_named(&mut self, publish: &Publish<'_>, named: Named<'_>, now: Timestamp) -> bool {
        if !named.observed {
            self.deny_named(publish, named.subject, named.denial, now);
            return false;
        }
        let names = (named.subject, publish.reply, None);
        self.denied(Operation::Publish, names, publish.size, named.denial, true);
        true
    }
}

impl Serving {
    /// Whether a message is judged by its body too, so that all of it has to be there.
    pub(super) fn waits_for_body(&self, publish: &Publish<'_>) -> bool {
        publish.size <= BODY_MAX
            && asks(publish.subject).is_some_and(|asks| is_judged(&self.judge, asks))
    }
}

/// Whether anything that the body can name is judged in this session.
fn is_judged(judge: &Judge, asks: Asks<'_>) -> bool {
    judge.judges_replies() || (asks != Asks::Delivery && judge.judges_streams())
}

/// A reply that is itself the subject of a request of which the body is judged.
fn judge_requesting_reply(judge: &Judge, reply: Option<&[u8]>) -> Option<(Vec<u8>, Denial)> {
    let reply = reply?;
    let asks = asks(reply)?;
    is_judged(judge, asks).then(|| (reply.to_vec(), unreadable(judge, asks)))
}

fn unreadable(judge: &Judge, asks: Asks<'_>) -> Denial {
    match asks {
        Asks::Delivery => judge.unreadable_target(),
        Asks::Stream(_) | Asks::Restore => judge.unreadable_stream(),
    }
}

/// The first subject in the body of a request to JetStream that is not granted, and why.
fn judge_body(
    judge: &mut Judge,
    asks: Asks<'_>,
    publish: &Publish<'_>,
    body: &[u8],
) -> Option<(Vec<u8>, Denial)> {
    if !is_judged(judge, asks) {
        return None;
    }
    let brings_more = asks == Asks::Restore && judge.judges_streams();
    let readable = publish.size <= BODY_MAX && !brings_more;
    let Some(named) = readable.then(|| named(asks, body).ok()).flatten() else {
        return Some((publish.subject.to_vec(), unreadable(judge, asks)));
    };
    let all = [&named.deliveries, &named.captured, &named.destinations];
    let all = all.into_iter().flatten();
    if !judge.can_judge(all.map(|subject| subject.as_bytes())) {
        return Some((publish.subject.to_vec(), unreadable(judge, asks)));
    }
    let refused = |subject: &str, judged: Result<(), Denial>| {
        let denial = judged.err()?;
        Some((subject.as_bytes().to_vec(), denial))
    };
    if judge.judges_replies() {
        for subject in &named.deliveries {
            let judged = if can_ask(subject) {
                Err(judge.unreadable_target())
            } else {
                judge.deliver_subject(subject.as_bytes())
            };
            if let Some(refused) = refused(subject, judged) {
                return Some(refused);
            }
        }
    }
    if !judge.judges_streams() {
        return None;
    }
    if let Some(request) = named.requests.first() {
        return Some((request.as_bytes().to_vec(), judge.unreadable_stream()));
    }
    let captured = named
        .captured
        .iter()
        .find_map(|subject| refused(subject, judge.stream_subject(subject.as_bytes())));
    captured.or_else(|| {
        named
            .destinations
            .iter()
            .find_map(|subject| refused(subject, judge.stream_destination(subject.as_bytes())))
    })
}

/// All keys of the bucket that a key lies in, or all of its object store; also where it is named by way of a domain.
fn everything_beside(subject: &[u8]) -> Option<Vec<u8>> {
    let mut tokens = subject.split(|byte| *byte == b'.');
    let mut all = Vec::new();
    loop {
        let token = tokens.next()?;
        all.extend_from_slice(token);
        all.push(b'.');
        if token == b"$KV" || token == b"$O" {
            break;
        }
    }
    all.extend_from_slice(tokens.next()?);
    all.extend_from_slice(b".>");
    Some(all)
}

/// A subject in a header or in a body that is not granted.
struct Named<'a> {
    subject: &'a [u8],
    denial: Denial,
    /// The message goes through all the same.
    observed: bool,
}

impl<'a> Named<'a> {
    fn of(judge: &Judge, subject: &'a [u8], denial: Denial) -> Self {
        let overruled = judge.overrule_publish(subject, None, &denial);
        Self {
            subject,
            denial,
            observed: overruled.is_some(),
        }
    }
}

/// The first header of `block` that keeps the message back; where none does, the first that names a subject which is not
/// granted.
fn judge_headers<'a>(serving: &mut Serving, block: &'a [u8]) -> Option<Named<'a>> {
    let mut first = None;
    for (channel, subject) in side_channels(block) {
        let Err(denial) = serving.judge.header_subject(channel, subject) else {
            continue;
        };
        let named = Named::of(&serving.judge, subject, denial);
        if !named.observed {
            return Some(named);
        }
        first.get_or_insert(named);
    }
    first
}
