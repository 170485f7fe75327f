//! Runs of ordinary deliveries: on subscriptions that no number of them ends, while nothing is under way that would have to
//! be kept back.

use std::ops::Range;

use super::super::serve::bytes;
use super::super::{Inbound, Session};
use super::shape::Shape;
use super::{Tally, is_ended, repeats};
use crate::subject::{begins_with, is_word};
use crate::wire::SERVER_LINE_MAX;
use crate::wire::canonical;

/// Whether two short texts are the same, without a call.
#[inline(always)]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && begins_with(one, other)
}

/// The beginning of the lines of one subject and subscription.
struct Source<'a> {
    text: &'a [u8],
    sid: &'a [u8],
    /// Slot of its subscription.
    subscription: usize,
}

impl Session {
    /// Passes the run of ordinary deliveries at the start of `input`, which stands at `at` in the buffer. Returns its
    /// length in bytes.
    pub(in super::super) fn pass_deliveries(&mut self, input: &[u8], at: usize) -> usize {
        let Some(serving) = &mut self.serving else {
            return 0;
        };
        if !serving.fences.are_quiet() {
            return 0;
        }
        // A reply is to be remembered then: one message at a time.
        let replies = !serving.judge.tracks_replies();
        let filters = serving.judge.filters_deliveries();
        let mut source: Option<Source<'_>> = None;
        // With the slot of its subscription.
        let mut kin: Option<(Shape<'_>, usize)> = None;
        let mut passed = Tally::default();
        while let Some(rest) = input.get(passed.used..) {
            if let Some((shape, slot)) = &kin {
                let count = shape.count(rest, is_word);
                if count > 0 {
                    passed.add_all(count, shape.whole, shape.size);
                    serving.subs.add(*slot, count as u64);
                    continue;
                }
            }
            let (sizes, read) = match source
                .as_ref()
                .and_then(|source| source.size(rest, replies))
            {
                Some(sizes) => (sizes, None),
                None => match Delivered::read(rest, replies) {
                    Some((head, sizes)) => (sizes, Some(head)),
                    None => break,
                },
            };
            let changed = read.is_some() && source.is_some();
            if let Some(head) = &read {
                if filters && !serving.judge.delivers(head.subject) {
                    break;
                }
                let subscription = match &source {
                    Some(before) if is_same(before.sid, head.sid) => Some(before.subscription),
                    _ => serving.subs.endless(head.sid),
                };
                let Some(subscription) = subscription else {
                    break;
                };
                source = Some(Source {
                    text: head.text,
                    sid: head.sid,
                    subscription,
                });
            }
            let Some(source) = &source else {
                break;
            };
            let (size, line) = sizes;
            let whole = line.wrapping_add(bytes(size)).wrapping_add(2);
            if !is_ended(rest, whole) {
                break;
            }
            let mut count = 1;
            if !changed {
                count = repeats(rest, line, whole).wrapping_add(1);
            } else if !filters && let Some(subject) = read.and_then(|head| head.subject_at()) {
                let shape = Shape::of(rest, subject, (line, whole, size));
                kin = shape.map(|shape| (shape, source.subscription));
            }
            passed.add_all(count, whole, size);
            serving.subs.add(source.subscription, count as u64);
        }
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

impl Source<'_> {
    /// Size of the message at the start of `input`, and length of its line, when that begins like this. One that has a reply,
    /// or might, only where that is wanted.
    #[inline(always)]
    fn size(&self, input: &[u8], replies: bool) -> Option<(u32, usize)> {
        if begins_with(input, self.text) {
            sizes_behind(input, self.text, replies)
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
    /// Where the subject stands, if that was asked.
    #[inline(always)]
    fn subject_at(&self) -> Option<Range<usize>> {
        let end = self.subject_at.wrapping_add(self.subject.len());
        (self.subject_at > 0).then_some(self.subject_at..end)
    }

    /// The beginning of the line at the start of `input`; size of the message, and length of the line. Of a message with a
    /// reply only where that is wanted.
    #[inline(always)]
    fn read(input: &'a [u8], replies: bool) -> Option<(Self, (u32, usize))> {
        if let Some(head) = Self::of_canonical(input)
            && let Some(sizes) = sizes_behind(input, head.text, replies)
        {
            return Some((head, sizes));
        }
        Self::of_any(input, replies)
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
    fn of_any(input: &'a [u8], replies: bool) -> Option<(Self, (u32, usize))> {
        let read = canonical::message(input, SERVER_LINE_MAX)?;
        let message = read.value;
        if message.reply.is_some() && !replies {
            return None;
        }
        if message.header_len == Some(message.size) {
            // Such is a 503, which does not count.
            return None;
        }
        let head = Self {
            text: input.get(..read.head)?,
            subject_at: 0,
            subject: message.subject,
            sid: message.sid,
        };
        Some((head, (message.size, read.len)))
    }
}

/// Size of the message whose line begins with `text`, and length of the line. Where replies are not wanted, none also of a
/// line with headers, which might have one.
#[inline(always)]
fn sizes_behind(input: &[u8], text: &[u8], replies: bool) -> Option<(u32, usize)> {
    let headers = text.first() == Some(&b'H');
    if !headers && let Some(last) = canonical::last_size(input, text.len()) {
        return last.crlf.then_some((last.size, last.end));
    }
    if replies {
        canonical::sizes_behind(input, text.len(), headers)
    } else {
        None
    }
}
