//! Runs of ordinary deliveries: on subscriptions that no number of them ends, while nothing is under way that would have to
//! be kept back.

use super::super::serve::bytes;
use super::super::{Inbound, Session};
use super::{Tally, begins_with, is_ended, repeats};
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
    /// Deliveries that are not counted yet.
    delivered: u64,
}

impl Session {
    /// Passes the run of ordinary deliveries at the start of `input`, which stands at `at` in the buffer. Returns its
    /// length in bytes.
    pub(in super::super) fn pass_deliveries(&mut self, input: &[u8], at: usize) -> usize {
        let Some(serving) = &mut self.serving else {
            return 0;
        };
        if !serving.fences.are_quiet() || serving.judge.tracks_replies() {
            return 0;
        }
        let filters = serving.judge.filters_deliveries();
        let mut source: Option<Source<'_>> = None;
        let mut passed = Tally::default();
        while let Some(rest) = input.get(passed.used..) {
            let mut known = source.as_ref().and_then(|source| source.size(rest));
            let again = known.is_some();
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
            passed.add(whole, size);
            source.delivered = source.delivered.wrapping_add(1);
            if again {
                let more = repeats(rest, line, whole);
                if more > 0 {
                    passed.add_all(more, whole, size);
                    source.delivered = source.delivered.wrapping_add(more as u64);
                }
            }
        }
        if let Some(source) = source {
            serving.subs.add(source.subscription, source.delivered);
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
        let mut next = sid_end.wrapping_add(1);
        while input.get(next) == Some(&b' ') {
            next = next.wrapping_add(1);
        }
        Some(Self {
            text: input.get(..next)?,
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
