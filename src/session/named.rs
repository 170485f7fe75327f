//! Subjects that a published message names besides its own: in headers, and in the bodies of requests to JetStream.

use super::bodies::{Asks, BODY_MAX, asks, named};
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
        let overruled = serving.judge.overrule_publish(&all, None, &denial);
        let observed = overruled.is_some();
        let named = Named {
            subject: &all,
            denial,
            observed,
        };
        self.pass_named(publish, named, now)
    }

    /// Likewise the body of a request to JetStream.
    pub(super) fn pass_body(&mut self, publish: &Publish<'_>, body: &[u8], now: Timestamp) -> bool {
        let Some(asks) = asks(publish.subject) else {
            return true;
        };
        let Some(serving) = &mut self.serving else {
            return false;
        };
        let Some((subject, denial)) = judge_body(&mut serving.judge, asks, publish, body) else {
            return true;
        };
        let overruled = serving.judge.overrule_publish(&subject, None, &denial);
        let observed = overruled.is_some();
        let named = Named {
            subject: &subject,
            denial,
            observed,
        };
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
    let readable = publish.size <= BODY_MAX;
    let Some(named) = readable.then(|| named(asks, body).ok()).flatten() else {
        let denial = match asks {
            Asks::Delivery => judge.unreadable_target(),
            Asks::Stream(_) => judge.unreadable_stream(),
        };
        return Some((publish.subject.to_vec(), denial));
    };
    let refused = |subject: &str, judged: Result<(), Denial>| {
        let denial = judged.err()?;
        Some((subject.as_bytes().to_vec(), denial))
    };
    if judge.judges_replies() {
        for subject in &named.deliveries {
            let judged = judge.deliver_subject(subject.as_bytes());
            if let Some(refused) = refused(subject, judged) {
                return Some(refused);
            }
        }
    }
    if !judge.judges_streams() {
        return None;
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

/// The first header of `block` that keeps the message back; where none does, the first that names a subject which is not
/// granted.
fn judge_headers<'a>(serving: &mut Serving, block: &'a [u8]) -> Option<Named<'a>> {
    let mut first = None;
    for (channel, subject) in side_channels(block) {
        let Err(denial) = serving.judge.header_subject(channel, subject) else {
            continue;
        };
        let overruled = serving.judge.overrule_publish(subject, None, &denial);
        let named = Named {
            subject,
            denial,
            observed: overruled.is_some(),
        };
        if !named.observed {
            return Some(named);
        }
        first.get_or_insert(named);
    }
    first
}
