//! Runs of ordinary deliveries: on subscriptions that no number of them ends, while nothing is under way that would have to
//! be kept back.
//!
//! Where the role has `respond`, each reply of a run is remembered when its delivery is found to pass: before a byte of it is
//! written, and never for one that is kept back.

use std::ops::Range;

use super::super::serve::bytes;
use super::super::subs::Subscriptions;
use super::super::{Inbound, Session};
use super::shape::Shape;
use super::{Tally, is_ended, repeats};
use crate::policy::{HeardGround, Hearing};
use crate::subject::{begins_with, is_word};
use crate::time::Timestamp;
use crate::wire::SERVER_LINE_MAX;
use crate::wire::canonical::{self, Behind};

/// Whether two short texts are the same, without a call.
#[inline(always)]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && begins_with(one, other)
}

/// The beginning of the lines of one subject and subscription.
struct Source<'a> {
    text: &'a [u8],
    subject: &'a [u8],
    sid: &'a [u8],
    /// Slot of its subscription.
    subscription: usize,
}

/// What is to be asked of the part of a line that varies.
enum Varies<'j> {
    Subject(HeardGround<'j>),
    Reply,
}

/// Deliveries that differ in nothing but one part of their lines.
struct Kin<'a, 'j> {
    shape: Shape<'a>,
    varies: Varies<'j>,
    /// Slot of their subscription.
    subscription: usize,
}

/// Who hears the deliveries of a run, and what of it may be remembered.
struct Ears<'a, 'j> {
    hearing: Hearing<'a, 'j>,
    /// Bytes of open requests beyond which none is added.
    room: usize,
}

impl<'a, 'j> Ears<'a, 'j> {
    /// Notes the reply of a delivery that passes.
    #[inline(always)]
    fn note(&mut self, reply: &'a [u8]) {
        if self.hearing.tracks_replies()
            && (self.room == usize::MAX || self.hearing.held() <= self.room)
        {
            self.hearing.opened(reply);
        }
    }

    /// How many of its kin stand at the start of `input`.
    #[inline(always)]
    fn count(&mut self, kin: &Kin<'a, 'j>, input: &'a [u8]) -> usize {
        // A copy can stay in registers.
        let shape = kin.shape;
        match &kin.varies {
            Varies::Subject(ground) if ground.is_open() => shape.count(input, is_word),
            Varies::Subject(ground) => {
                shape.count(input, |below| is_word(below) && ground.holds(below))
            }
            Varies::Reply => shape.count(input, |reply| {
                let good = is_word(reply);
                if good {
                    self.note(reply);
                }
                good
            }),
        }
    }
}

impl Session {
    /// Passes the run of ordinary deliveries at the start of `input`, which stands at `at` in the buffer. Returns its
    /// length in bytes.
    pub(in super::super) fn pass_deliveries(
        &mut self,
        input: &[u8],
        at: usize,
        now: Timestamp,
    ) -> usize {
        let Some(serving) = &mut self.serving else {
            return 0;
        };
        if !serving.fences.are_quiet() {
            return 0;
        }
        let mut pass = Pass {
            ears: Ears {
                hearing: serving.judge.hear(now),
                room: if self.scarce { Self::SMALL } else { usize::MAX },
            },
            subs: &mut serving.subs,
            source: None,
            kin: None,
            passed: Tally::default(),
        };
        pass.run(input);
        let passed = pass.passed;
        if passed.used > 0 {
            self.to_client.push_input(at, at.wrapping_add(passed.used));
            self.outbound = Inbound::Line { searched: 0 };
            let traffic = &mut self.traffic;
            traffic.messages_out = traffic.messages_out.saturating_add(passed.messages);
            traffic.bytes_out = traffic.bytes_out.saturating_add(passed.volume);
        }
        passed.used
    }
}

/// The run under way.
struct Pass<'a, 'j> {
    ears: Ears<'a, 'j>,
    subs: &'j mut Subscriptions,
    source: Option<Source<'a>>,
    kin: Option<Kin<'a, 'j>>,
    passed: Tally,
}

impl<'a> Pass<'a, '_> {
    /// Passes deliveries until one is none of its business.
    #[inline(always)]
    fn run(&mut self, input: &'a [u8]) {
        while let Some(rest) = input.get(self.passed.used..) {
            if let Some(kin) = &self.kin {
                let count = self.ears.count(kin, rest);
                if count > 0 {
                    self.passed.add_all(count, kin.shape.whole, kin.shape.size);
                    self.subs.add(kin.subscription, count as u64);
                    continue;
                }
            }
            if self.pass_one(rest).is_none() {
                break;
            }
        }
    }

    /// Passes the delivery at the start of `input`, and those behind it that are the same.
    #[inline(always)]
    fn pass_one(&mut self, input: &'a [u8]) -> Option<()> {
        let known = self.source.as_ref();
        let (behind, read) = match known.and_then(|source| source.behind(input)) {
            Some(behind) => (behind, None),
            None => {
                let (head, behind) = Delivered::read(input)?;
                (behind, Some(head))
            }
        };
        let whole = behind.end.wrapping_add(bytes(behind.size)).wrapping_add(2);
        if !is_ended(input, whole) {
            return None;
        }
        let first = self.source.is_none();
        if let Some(head) = &read {
            self.source = Some(self.source_of(head)?);
        }
        let subscription = self.source.as_ref()?.subscription;
        // It passes, from here on for sure.
        let mut varying = None;
        if let Some(place) = &behind.reply {
            self.ears.note(input.get(place.clone()).unwrap_or_default());
            varying = Some((Varies::Reply, place.clone()));
        }
        let mut count = 1;
        if read.is_none() {
            count = repeats(input, behind.end, whole).wrapping_add(1);
        } else if !first
            && behind.reply.is_none()
            && let Some(head) = read
            && let Some(ground) = self.ears.hearing.ground(head.subject)
            && let Some(place) = head.varying(&ground)
        {
            varying = Some((Varies::Subject(ground), place));
        }
        if count == 1
            && let Some((varies, place)) = varying
        {
            let shape = Shape::of(input, place, (behind.end, whole, behind.size));
            self.kin = shape.map(|shape| Kin {
                shape,
                varies,
                subscription,
            });
        }
        self.passed.add_all(count, whole, behind.size);
        self.subs.add(subscription, count as u64);
        Some(())
    }

    /// Whose deliveries begin like that, if they are to be delivered.
    #[inline(always)]
    fn source_of(&mut self, head: &Delivered<'a>) -> Option<Source<'a>> {
        let before = self.source.as_ref();
        let subject = before.map(|before| before.subject);
        if !self.ears.hearing.delivers(head.subject, subject) {
            return None;
        }
        let subscription = match before {
            Some(before) if is_same(before.sid, head.sid) => before.subscription,
            _ => self.subs.endless(head.sid)?,
        };
        Some(Source {
            text: head.text,
            subject: head.subject,
            sid: head.sid,
            subscription,
        })
    }
}

impl Source<'_> {
    /// What stands behind the subscription id in the line at the start of `input`, when that begins like this.
    #[inline(always)]
    fn behind(&self, input: &[u8]) -> Option<Behind> {
        if begins_with(input, self.text) {
            behind(input, self.text)
        } else {
            None
        }
    }
}

/// The beginning of a line, read.
struct Delivered<'a> {
    text: &'a [u8],
    /// Where the subject stands; 0 where that was not asked.
    subject_at: usize,
    subject: &'a [u8],
    sid: &'a [u8],
}

impl<'a> Delivered<'a> {
    /// The part of the subject that may vary for others to be judged in short.
    #[inline(always)]
    fn varying(&self, ground: &HeardGround<'_>) -> Option<Range<usize>> {
        let begin = ground.beginning();
        let end = self.subject_at.wrapping_add(self.subject.len());
        (self.subject_at > 0).then_some(self.subject_at.wrapping_add(begin)..end)
    }

    /// The beginning of the line at the start of `input`, and what stands behind it.
    #[inline(always)]
    fn read(input: &'a [u8]) -> Option<(Self, Behind)> {
        if let Some(head) = Self::of_canonical(input)
            && let Some(behind) = behind(input, head.text)
        {
            return Some((head, behind));
        }
        Self::of_any(input)
    }

    #[inline(always)]
    fn of_canonical(input: &'a [u8]) -> Option<Self> {
        let start = match input.first_chunk()? {
            b"MSG " => 4,
            b"HMSG" if input.get(4) == Some(&b' ') => 5,
            _ => return None,
        };
        let subject_end = canonical::word_end(input, start)?;
        let sid = subject_end.wrapping_add(1);
        let sid_end = canonical::word_end(input, sid)?;
        let mut next = sid_end.wrapping_add(1);
        while input.get(next) == Some(&b' ') {
            next = next.wrapping_add(1);
        }
        Some(Self {
            text: input.get(..next)?,
            subject_at: start,
            subject: input.get(start..subject_end)?,
            sid: input.get(sid..sid_end)?,
        })
    }

    #[inline(never)]
    fn of_any(input: &'a [u8]) -> Option<(Self, Behind)> {
        let read = canonical::message(input, SERVER_LINE_MAX)?;
        let message = read.value;
        if message.header_len == Some(message.size) {
            // Such is a 503, which does not count.
            return None;
        }
        let reply = message.reply.map(|reply| {
            // It is the word behind the head.
            read.head..read.head.wrapping_add(reply.len())
        });
        let head = Self {
            text: input.get(..read.head)?,
            subject_at: 0,
            subject: message.subject,
            sid: message.sid,
        };
        Some((
            head,
            Behind {
                reply,
                size: message.size,
                end: read.len,
            },
        ))
    }
}

/// What stands behind `text`, with which the line at the start of `input` begins.
#[inline(always)]
fn behind(input: &[u8], text: &[u8]) -> Option<Behind> {
    let headers = text.first() == Some(&b'H');
    if !headers && let Some(last) = canonical::last_size(input, text.len()) {
        return last.crlf.then_some(Behind {
            reply: None,
            size: last.size,
            end: last.end,
        });
    }
    canonical::behind_id(input, text.len(), headers)
}
