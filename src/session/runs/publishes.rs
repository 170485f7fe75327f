//! Runs of ordinary publishes: permitted ones without headers, canonical or in any other form that servers take.

use super::super::serve::bytes;
use super::super::{Inbound, Session};
use super::edits::{Changes, Edits};
use super::head::{Head, Passed, QUESTIONS, SUBJECT_AT, Subjects, is_ordinary};
use super::rewrite::Rewrite;
use super::shape::Shape;
use super::{Tally, is_ended, repeats};
use crate::policy::{Judge, OpenGround, Permit};
use crate::subject::{begins_with, is_word};
use crate::time::Timestamp;
use crate::wire::canonical::{self, LastSize};
use crate::wire::encode;

/// A shape in which nothing but the subject is to be judged.
struct Kin<'a> {
    shape: Shape<'a>,
    ground: Ground<'a>,
    edits: Edits,
}

/// What permits the subjects of such a shape.
enum Ground<'a> {
    /// What varies of the subject lies here.
    Open(OpenGround<'a>),
    /// Each is the reply of a request.
    Answers,
    /// It is the reply that varies, behind the subject of this permit.
    Replies(Permit<'a>),
    /// Likewise, and every reply lies in one inbox of the session's own.
    OwnReplies,
}

impl Kin<'_> {
    /// How many of its kin stand at the start of `input`. Answers are used up by that.
    #[inline(always)]
    fn count(&self, input: &[u8], judge: &mut Judge, now: Timestamp) -> usize {
        // A copy can stay in registers.
        let shape = self.shape;
        match &self.ground {
            Ground::Open(open) => shape.count(input, |below| open.holds(below)),
            Ground::Answers => shape.count(input, |subject| {
                is_word(subject) && is_ordinary(subject) && judge.answer(subject, now).is_some()
            }),
            Ground::OwnReplies => shape.count(input, is_word),
            Ground::Replies(permit) => shape.count(input, |reply| {
                is_word(reply) && judge.recall_reply(*permit, reply).is_some()
            }),
        }
    }
}

impl Session {
    /// Passes the run of ordinary publishes at the start of `input`, which stands at `at` in the buffer, and makes canonical
    /// there what is not. Returns its length in bytes as it came.
    ///
    /// A function of its own: inlined, it shares registers with everything else that a client can say, and takes up to 17
    /// instructions more per publish.
    #[inline(never)]
    pub(in super::super) fn pass_publishes(
        &mut self,
        input: &mut [u8],
        at: usize,
        now: Timestamp,
    ) -> usize {
        let Self {
            serving: Some(serving),
            to_upstream,
            ..
        } = self
        else {
            return 0;
        };
        if self.verbose || self.pedantic || serving.is_metered() {
            return 0;
        }
        let mut rewrite = Rewrite::new(to_upstream, at);
        let mut changes = Changes::default();
        let mut passed = Tally::default();
        let (mut most, mut questions) = (PART, QUESTIONS);
        loop {
            let rest = input.get(passed.used..).unwrap_or_default();
            let part = rest.get(..most).unwrap_or(rest);
            let mut pass = Pass {
                subjects: Subjects::new(&mut serving.judge, questions),
                changes: &mut changes,
                passed: Tally::default(),
                head: None,
                kin: None,
                control_line: self.opening.limits.control_line,
                payload_max: serving.payload_max,
                now,
            };
            pass.run(part);
            let more = pass.passed;
            questions = pass.subjects.questions();
            let left = part.len().wrapping_sub(more.used);
            let is_last = part.len() == rest.len();
            rewrite.apply(input, passed.used, &changes);
            passed.add(&more);
            // What ends a part is either its end, and that leaves little, or something that is none of a run's business.
            if !changes.is_full() && (is_last || left > PART / 2) {
                break;
            }
            // Parts are of use only where something is changed.
            most = if changes.is_empty() { usize::MAX } else { PART };
            changes.clear();
        }
        if passed.used > 0 {
            rewrite.finish(input, passed.used);
            self.inbound = Inbound::Line { searched: 0 };
            let traffic = &mut self.traffic;
            traffic.messages_in = traffic.messages_in.saturating_add(passed.messages);
            traffic.bytes_in = traffic.bytes_in.saturating_add(passed.volume);
        }
        passed.used
    }
}

/// Bytes that are judged before what is to be changed in them is changed: as long as they are surely in the cache.
const PART: usize = 32 * 1024;

/// A part of a run.
struct Pass<'a, 'j> {
    subjects: Subjects<'a, 'j>,
    changes: &'j mut Changes,
    passed: Tally,
    head: Option<Head<'a>>,
    kin: Option<Kin<'a>>,
    control_line: usize,
    payload_max: u32,
    now: Timestamp,
}

impl<'a> Pass<'a, '_> {
    /// Passes messages until one is none of its business.
    fn run(&mut self, input: &'a [u8]) {
        while !self.changes.is_full()
            && let Some(rest) = input.get(self.passed.used..)
        {
            if let Some(kin) = &self.kin {
                let count = kin.count(rest, self.subjects.judge, self.now);
                if count > 0 {
                    let (whole, edits) = (kin.shape.whole, kin.edits);
                    self.add(count, whole, kin.shape.size, edits);
                    continue;
                }
            }
            let again = matches!(&self.head, Some(head) if begins_with(rest, head.text));
            if !again && self.pass_answer(rest).is_some() {
                continue;
            }
            if !again {
                self.head = Head::of(rest, &mut self.subjects, self.head.is_some());
            }
            let quick = self.head.as_ref().and_then(|head| {
                let last = head.size(rest, self.control_line)?;
                Some((last, head.edits(last)))
            });
            let Some((last, edits)) = quick else {
                if self.pass_any(rest).is_none() {
                    break;
                }
                continue;
            };
            let Some(whole) = self.whole(rest, last.end, last.size) else {
                break;
            };
            let more = if again {
                repeats(rest, last.end, whole)
            } else {
                self.kin = self.kin(rest, last, whole);
                0
            };
            self.add(more.wrapping_add(1), whole, last.size, edits);
        }
    }

    /// Length of a publish with such a line and size, if all of it is there and no more than may be sent.
    #[inline(always)]
    fn whole(&self, input: &[u8], line: usize, size: u32) -> Option<usize> {
        let whole = line.wrapping_add(bytes(size)).wrapping_add(2);
        (size <= self.payload_max && is_ended(input, whole)).then_some(whole)
    }

    /// So many messages are passed.
    #[inline(always)]
    fn add(&mut self, count: usize, whole: usize, size: u32, edits: Edits) {
        let begin = self.passed.used;
        self.passed.add_all(count, whole, size);
        if !edits.is_none() {
            let place = begin..self.passed.used;
            self.changes.note(place, whole, edits);
        }
    }

    /// The kin of the publish at the start of `input`, of `whole` bytes, which is one of the head with nothing but a size.
    #[inline(always)]
    fn kin(&self, input: &'a [u8], last: LastSize, whole: usize) -> Option<Kin<'a>> {
        let (head, open) = (self.head.as_ref()?, self.subjects.open?);
        let varying = open.varying(head.permit.subject())?;
        let at = |place: usize| place.wrapping_add(SUBJECT_AT);
        let varies = at(varying.start)..at(varying.end);
        Some(Kin {
            shape: Shape::of(input, varies, (last.end, whole, last.size))?,
            ground: Ground::Open(open),
            edits: head.edits(last),
        })
    }

    /// Those that differ from the publish at the start of `input` in nothing but the reply, if it has one.
    fn kin_by_reply(&self, input: &'a [u8], publish: &Passed<'a>, whole: usize) -> Option<Kin<'a>> {
        let (subject, edits) = (publish.permit.subject(), publish.edits?);
        let reply = publish.permit.reply()?;
        let begin = match edits.blanks {
            (start, end) if start < end => end,
            _ => SUBJECT_AT.wrapping_add(subject.len()).wrapping_add(1),
        };
        let own = self.subjects.judge.own_beginning(reply);
        let place = begin.wrapping_add(own.unwrap_or(0))..begin.wrapping_add(reply.len());
        Some(Kin {
            shape: Shape::of(input, place, (publish.line, whole, publish.size))?,
            ground: match own {
                Some(_) => Ground::OwnReplies,
                None => Ground::Replies(publish.permit),
            },
            edits,
        })
    }

    /// Passes the publish at the start of `input`, which is canonical, if it answers a request.
    #[inline]
    fn pass_answer(&mut self, input: &'a [u8]) -> Option<()> {
        if !self.subjects.judge.may_answer() || !input.starts_with(b"PUB ") {
            return None;
        }
        let end = canonical::word_end(input, SUBJECT_AT)?;
        let subject = input
            .get(SUBJECT_AT..end)
            .filter(|subject| is_ordinary(subject))?;
        let last = canonical::last_size(input, end.wrapping_add(1))?;
        let whole = self.whole(input, last.end, last.size)?;
        if !last.crlf || last.end > self.control_line {
            return None;
        }
        // Nothing may come between this question and the message's way: it uses an answer up.
        self.subjects.judge.answer(subject, self.now)?;
        let shape = Shape::of(input, SUBJECT_AT..end, (last.end, whole, last.size));
        self.kin = shape.map(|shape| Kin {
            shape,
            ground: Ground::Answers,
            edits: Edits::default(),
        });
        self.add(1, whole, last.size, Edits::default());
        Some(())
    }

    /// Passes the publish at the start of `input`, in whatever form, and those behind it that are the same.
    #[inline(never)]
    fn pass_any(&mut self, input: &'a [u8]) -> Option<()> {
        let head = self.head.as_ref();
        let publish = Head::any(head, input, self.control_line, self.subjects.judge)?;
        let whole = self.whole(input, publish.line, publish.size)?;
        let count = repeats(input, publish.line, whole).wrapping_add(1);
        let begin = self.passed.used;
        self.add(
            count,
            whole,
            publish.size,
            publish.edits.unwrap_or_default(),
        );
        if publish.edits.is_none() {
            let (place, permit) = (begin..self.passed.used, publish.permit);
            self.changes.note_line(place, whole, publish.line, |out| {
                encode::publish(out, permit.subject(), permit.reply(), None, publish.size);
            });
        } else if count == 1 {
            self.kin = self
                .kin_by_reply(input, &publish, whole)
                .or(self.kin.take());
        }
        Some(())
    }
}
