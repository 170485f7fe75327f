//! Runs of ordinary messages: whole ones, one behind the other, that need no thought because their subjects were
//! granted before. Nearly all traffic is such, so everything that holds for a run is asked once in front of it, and
//! spans, counts and state are written down once behind it.
//!
//! The beginning of a line up to its sizes or its reply is the same in message after message of a stream. Where it is
//! the same bytes as in the message before, within one buffer, its subject is the same and the permit for it holds.
//!
//! Must never: change anything but the way of the messages that it passes; whatever is not ordinary is left to the
//! careful way, one message at a time, and the run goes on behind it.

use super::outbox::Outbox;
use super::serve::{COPY_MAX, bytes};
use super::{Inbound, Session};
use crate::policy::{Judge, Permit};
use crate::wire::canonical::{self, LastSize};
use crate::wire::{SERVER_LINE_MAX, encode};

/// `PUB ` in whatever case, the subject, and blanks.
const SUBJECT_AT: usize = 4;

/// The beginning of the lines of one subject, up to what differs from message to message.
struct Head<'a> {
    text: &'a [u8],
    permit: Permit<'a>,
    /// Whether the verb is in upper case.
    upper: bool,
    /// Length of what is canonical of it but for the case of the verb: up to the first blank behind the subject, where
    /// that and the one before are single SPs. 0 when they are not.
    sound: usize,
}

/// One whole publish that is permitted and has to be encoded.
struct Passed<'a> {
    permit: Permit<'a>,
    size: u32,
    /// Length of its line.
    line: usize,
    canonical: bool,
}

impl<'a> Head<'a> {
    /// The size of a line that begins with this head, where only that follows.
    #[inline(always)]
    fn size(&self, input: &[u8], limit: usize) -> Option<LastSize> {
        let last = canonical::last_size(input, self.text.len())?;
        (self.sound > 0 && last.end <= limit).then_some(last)
    }

    /// Whether the head is its own canonical encoding.
    #[inline(always)]
    const fn is_canonical(&self) -> bool {
        self.upper && self.sound == self.text.len()
    }

    /// The head of a canonical line, up to the blank behind a subject that was granted before.
    #[inline(always)]
    fn of_canonical(input: &'a [u8], judge: &Judge) -> Option<Self> {
        if input.first_chunk()? != b"PUB " {
            return None;
        }
        let end = canonical::word_end(input, SUBJECT_AT)?;
        let subject = input.get(SUBJECT_AT..end)?;
        if subject.first() == Some(&b'$') {
            return None;
        }
        let sound = end.wrapping_add(1);
        if matches!(input.get(sound)?, b' ' | b'\t') {
            return None;
        }
        Some(Self {
            text: input.get(..sound)?,
            permit: judge.recall(subject)?,
            upper: true,
            sound,
        })
    }

    /// What a line that begins with this head says, where a reply and the size follow.
    fn with_reply(&self, input: &'a [u8], limit: usize, judge: &Judge) -> Option<Passed<'a>> {
        let head = self.text.len();
        let reply_end = canonical::word_end(input, head)?;
        let last = canonical::last_size(input, reply_end.wrapping_add(1))?;
        let permit = judge.recall_reply(self.permit, input.get(head..reply_end)?)?;
        (last.end <= limit).then_some(Passed {
            permit,
            size: last.size,
            line: last.end,
            canonical: last.crlf && self.is_canonical(),
        })
    }

    /// The publish at the start of `input` in any form. `head`, if there is one, is what its line begins with, and becomes the
    /// one for those that follow it.
    #[inline(never)]
    fn any(
        head: &mut Option<Self>,
        input: &'a [u8],
        limit: usize,
        judge: &Judge,
    ) -> Option<Passed<'a>> {
        if let Some(known) = head
            && let Some(passed) = known.with_reply(input, limit, judge)
        {
            return Some(passed);
        }
        let read = canonical::publish(input, limit)?;
        let publish = read.value;
        if publish.header_len.is_some() || publish.subject.first() == Some(&b'$') {
            return None;
        }
        let permit = judge.recall(publish.subject)?;
        let text = input.get(..read.head)?;
        let blank = text.get(SUBJECT_AT..)?.strip_prefix(publish.subject);
        let sound = match blank {
            Some([b' ', ..]) => publish.subject.len().wrapping_add(SUBJECT_AT + 1),
            _ => 0,
        };
        *head = Some(Self {
            text,
            permit,
            upper: text.starts_with(b"PUB "),
            sound,
        });
        Some(Passed {
            permit: match publish.reply {
                Some(reply) => judge.recall_reply(permit, reply)?,
                None => permit,
            },
            size: publish.size,
            line: read.len,
            canonical: read.canonical,
        })
    }
}

/// The messages of a run that are pushed, and how far.
struct Run<'a> {
    input: &'a [u8],
    /// Where the input stands in the buffer.
    at: usize,
    used: usize,
    /// What is used and not pushed begins here.
    unpushed: usize,
}

impl Run<'_> {
    /// Pushes what is used up to `end` and then `instead`, and goes on at `next`. Little is copied, which is cheaper than
    /// one more piece in the vectored write.
    #[inline(always)]
    fn cut(&mut self, to_upstream: &mut Outbox, end: usize, instead: &[u8], next: usize) {
        let piece = self.input.get(self.unpushed..end).unwrap_or_default();
        if piece.len() <= COPY_MAX {
            to_upstream.push_own(|out| {
                out.extend_from_slice(piece);
                if !instead.is_empty() {
                    out.extend_from_slice(instead);
                }
            });
        } else {
            let at = self.at;
            to_upstream.push_input(at.wrapping_add(self.unpushed), at.wrapping_add(end));
            to_upstream.push_own(|out| out.extend_from_slice(instead));
        }
        self.unpushed = next;
    }

    /// Makes the next line canonical: its verb in upper case, one blank behind the subject, CR LF.
    #[inline(always)]
    fn repair(&mut self, to_upstream: &mut Outbox, head: &Head<'_>, last: &LastSize) {
        let start = self.used;
        if !head.upper {
            self.cut(to_upstream, start, b"PUB", start.wrapping_add(3));
        }
        let (end, next) = (head.sound, head.text.len());
        if end != next {
            let (end, next) = (start.wrapping_add(end), start.wrapping_add(next));
            self.cut(to_upstream, end, b"", next);
        }
        if !last.crlf {
            let lf = start.wrapping_add(last.end).wrapping_sub(1);
            self.cut(to_upstream, lf, b"\r", lf);
        }
    }

    /// Pushes the canonical encoding of the next line, whatever it looks like.
    fn encode(&mut self, to_upstream: &mut Outbox, passed: &Passed<'_>) {
        let Passed {
            permit, size, line, ..
        } = *passed;
        let start = self.used;
        self.cut(to_upstream, start, b"", start.wrapping_add(line));
        to_upstream.push_own(|out| {
            encode::publish(out, permit.subject(), permit.reply(), None, size);
        });
    }

    /// Pushes the rest of what is used.
    fn finish(&mut self, to_upstream: &mut Outbox) {
        // After a repair the rest is likely to be short and to join what was copied.
        if self.unpushed > 0 {
            self.cut(to_upstream, self.used, b"", self.used);
        } else {
            let at = self.at;
            to_upstream.push_input(at, at.wrapping_add(self.used));
        }
    }
}

impl Session {
    /// Passes the run of ordinary publishes at the start of `input`, which stands at `at` in the buffer. Returns its
    /// length in bytes.
    pub(super) fn pass_publishes(&mut self, input: &[u8], at: usize) -> usize {
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
        let limit = self.opening.limits.control_line;
        let mut run = Run {
            input,
            at,
            used: 0,
            unpushed: 0,
        };
        let mut head: Option<Head<'_>> = None;
        let (mut messages, mut volume) = (0_u64, 0_u64);
        while let Some(rest) = input.get(run.used..) {
            if !matches!(&head, Some(head) if begins_with(rest, head.text)) {
                head = Head::of_canonical(rest, &serving.judge);
            }
            let quick = head.as_ref().and_then(|head| head.size(rest, limit));
            let (passed, size, line) = match quick {
                Some(last) => (None, last.size, last.end),
                None => match Head::any(&mut head, rest, limit, &serving.judge) {
                    Some(passed) => {
                        let (size, line) = (passed.size, passed.line);
                        (Some(passed), size, line)
                    }
                    None => break,
                },
            };
            let whole = line.wrapping_add(bytes(size)).wrapping_add(2);
            if size > serving.payload_max || !is_ended(rest, whole) {
                break;
            }
            match (quick, &head, passed) {
                (Some(last), Some(head), _) if !(last.crlf && head.is_canonical()) => {
                    run.repair(to_upstream, head, &last);
                }
                (_, _, Some(passed)) if !passed.canonical => run.encode(to_upstream, &passed),
                _ => {}
            }
            run.used = run.used.wrapping_add(whole);
            messages = messages.wrapping_add(1);
            volume = volume.wrapping_add(u64::from(size));
        }
        if run.used > 0 {
            run.finish(to_upstream);
            self.inbound = Inbound::Line { searched: 0 };
            self.traffic.messages_in = self.traffic.messages_in.saturating_add(messages);
            self.traffic.bytes_in = self.traffic.bytes_in.saturating_add(volume);
        }
        run.used
    }
}

/// Whether CR LF ends the message of `whole` bytes at the start of `input`.
#[inline(always)]
fn is_ended(input: &[u8], whole: usize) -> bool {
    let message = input.get(..whole).unwrap_or_default();
    message.last_chunk() == Some(b"\r\n")
}

/// Whether `input` begins with `text`: eight bytes at a time, since heads are short and a call costs as much.
#[inline(always)]
fn begins_with(input: &[u8], text: &[u8]) -> bool {
    let Some(input) = input.get(..text.len()) else {
        return false;
    };
    let (Some(one), Some(other)) = (input.last_chunk::<8>(), text.last_chunk::<8>()) else {
        return input.iter().eq(text);
    };
    // Lines of two subjects mostly differ near the end.
    let words = input.as_chunks::<8>().0.iter().zip(text.as_chunks::<8>().0);
    one == other
        && words.fold(0, |unlike, (one, other)| {
            unlike | (u64::from_ne_bytes(*one) ^ u64::from_ne_bytes(*other))
        }) == 0
}

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
    /// Deliveries that are not counted yet.
    delivered: u64,
}

impl Session {
    /// Passes the run of ordinary deliveries at the start of `input`, which stands at `at` in the buffer. Returns its
    /// length in bytes.
    pub(super) fn pass_deliveries(&mut self, input: &[u8], at: usize) -> usize {
        let Some(serving) = &mut self.serving else {
            return 0;
        };
        if !serving.fences.are_quiet() || serving.judge.tracks_replies() {
            return 0;
        }
        let filters = serving.judge.filters_deliveries();
        let mut source: Option<Source<'_>> = None;
        let mut used = 0_usize;
        let (mut messages, mut volume) = (0_u64, 0_u64);
        while let Some(rest) = input.get(used..) {
            let mut known = source.as_ref().and_then(|source| source.size(rest));
            if known.is_none() {
                let Some((head, sizes)) = Delivered::read(rest) else {
                    break;
                };
                if filters && !serving.judge.delivers(head.subject) {
                    break;
                }
                let subscription = match &mut source {
                    Some(before) if is_same(before.sid, head.sid) => before.subscription,
                    before => {
                        let Some(slot) = serving.subs.endless(head.sid) else {
                            break;
                        };
                        if let Some(before) = before {
                            serving.subs.add(before.subscription, before.delivered);
                            before.delivered = 0;
                        }
                        slot
                    }
                };
                source = Some(Source {
                    text: head.text,
                    sid: head.sid,
                    subscription,
                    delivered: source.map_or(0, |before| before.delivered),
                });
                known = Some(sizes);
            }
            let (Some(source), Some((size, line))) = (&mut source, known) else {
                break;
            };
            let whole = line.wrapping_add(bytes(size)).wrapping_add(2);
            if !is_ended(rest, whole) {
                break;
            }
            source.delivered = source.delivered.wrapping_add(1);
            used = used.wrapping_add(whole);
            messages = messages.wrapping_add(1);
            volume = volume.wrapping_add(u64::from(size));
        }
        if let Some(source) = source {
            serving.subs.add(source.subscription, source.delivered);
        }
        if used > 0 {
            self.to_client.push_input(at, at.wrapping_add(used));
            self.outbound = Inbound::Line { searched: 0 };
            self.traffic.messages_out = self.traffic.messages_out.saturating_add(messages);
            self.traffic.bytes_out = self.traffic.bytes_out.saturating_add(volume);
        }
        used
    }
}

impl Source<'_> {
    /// Size of the message at the start of `input`, and length of its line, when that begins like this.
    #[inline(always)]
    fn size(&self, input: &[u8]) -> Option<(u32, usize)> {
        if begins_with(input, self.text) {
            sizes_behind(input, self.text)
        } else {
            None
        }
    }
}

/// The beginning of a line, read.
struct Delivered<'a> {
    text: &'a [u8],
    subject: &'a [u8],
    sid: &'a [u8],
}

impl<'a> Delivered<'a> {
    /// The beginning of the line at the start of `input`; size of the message, and length of the line.
    #[inline(always)]
    fn read(input: &'a [u8]) -> Option<(Self, (u32, usize))> {
        if let Some(head) = Self::of_canonical(input)
            && let Some(sizes) = sizes_behind(input, head.text)
        {
            return Some((head, sizes));
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
        Some(Self {
            text: input.get(..=sid_end)?,
            subject: input.get(start..subject_end)?,
            sid: input.get(sid..sid_end)?,
        })
    }

    #[inline(never)]
    fn of_any(input: &'a [u8]) -> Option<(Self, (u32, usize))> {
        let read = canonical::message(input, SERVER_LINE_MAX)?;
        let message = read.value;
        if message.header_len == Some(message.size) {
            // Such is a 503, which does not count.
            return None;
        }
        let head = Self {
            text: input.get(..read.head)?,
            subject: message.subject,
            sid: message.sid,
        };
        Some((head, (message.size, read.len)))
    }
}

/// Size of the message whose line begins with `text`, and length of the line.
#[inline(always)]
fn sizes_behind(input: &[u8], text: &[u8]) -> Option<(u32, usize)> {
    let headers = text.first() == Some(&b'H');
    if !headers && let Some(last) = canonical::last_size(input, text.len()) {
        return last.crlf.then_some((last.size, last.end));
    }
    canonical::sizes_behind(input, text.len(), headers)
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
