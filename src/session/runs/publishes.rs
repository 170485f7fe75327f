//! Runs of ordinary publishes: permitted ones without headers, canonical or in any other form that servers take.

use std::ops::Range;

use super::super::outbox::Outbox;
use super::super::serve::{COPY_MAX, bytes};
use super::super::{Inbound, Session};
use super::{Tally, begins_with, is_ended, repeats};
use crate::policy::{Judge, Permit};
use crate::wire::canonical::{self, LastSize};
use crate::wire::encode;

/// Behind `PUB `.
const SUBJECT_AT: usize = 4;

/// The beginning of the lines of one subject, up to what differs from message to message.
struct Head<'a> {
    text: &'a [u8],
    permit: Permit<'a>,
    /// Its canonical encoding, where it is not that itself.
    instead: Option<Short>,
}

/// How a publish goes upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it came.
    Canonical,
    /// With another head; the line ends with CR LF or, if not `crlf`, with LF, and is canonical otherwise.
    Headed { crlf: bool },
    /// With another line.
    Other,
}

/// One whole publish that is permitted.
struct Passed<'a> {
    permit: Permit<'a>,
    size: u32,
    /// Length of its line.
    line: usize,
    form: Form,
}

impl<'a> Head<'a> {
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
        let next = end.wrapping_add(1);
        if matches!(input.get(next)?, b' ' | b'\t') {
            return None;
        }
        Some(Self {
            text: input.get(..next)?,
            permit: judge.recall(subject)?,
            instead: None,
        })
    }

    /// What a line that begins with this head says, where only the size follows.
    #[inline(always)]
    fn with_size(&self, input: &[u8], limit: usize) -> Option<Passed<'a>> {
        let last = canonical::last_size(input, self.text.len())?;
        (last.end <= limit).then_some(self.passed(self.permit, last))
    }

    #[inline(always)]
    const fn passed(&self, permit: Permit<'a>, last: LastSize) -> Passed<'a> {
        Passed {
            permit,
            size: last.size,
            line: last.end,
            form: if last.crlf && self.instead.is_none() {
                Form::Canonical
            } else {
                Form::Headed { crlf: last.crlf }
            },
        }
    }

    /// What a line that begins with this head says, where a reply and the size follow.
    fn with_reply(&self, input: &'a [u8], limit: usize, judge: &Judge) -> Option<Passed<'a>> {
        let head = self.text.len();
        let reply_end = canonical::word_end(input, head)?;
        let last = canonical::last_size(input, reply_end.wrapping_add(1))?;
        let permit = judge.recall_reply(self.permit, input.get(head..reply_end)?)?;
        (last.end <= limit).then_some(self.passed(permit, last))
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
        let instead = Short::head(publish.subject)?;
        *head = Some(Self {
            text,
            permit,
            instead: (instead.as_slice() != text).then_some(instead),
        });
        Some(Passed {
            permit: match publish.reply {
                Some(reply) => judge.recall_reply(permit, reply)?,
                None => permit,
            },
            size: publish.size,
            line: read.len,
            form: if read.canonical {
                Form::Canonical
            } else {
                Form::Other
            },
        })
    }
}

impl Passed<'_> {
    /// Writes the canonical line of `message`, which begins with `head` where it is of that form.
    #[inline(always)]
    fn write_line(&self, out: &mut Vec<u8>, head: Option<&Head<'_>>, message: &[u8]) {
        let (Form::Headed { crlf }, Some(head)) = (self.form, head) else {
            return encode::publish(
                out,
                self.permit.subject(),
                self.permit.reply(),
                None,
                self.size,
            );
        };
        let old = head.text.len();
        out.extend_from_slice(head.instead.as_ref().map_or(head.text, Short::as_slice));
        if crlf {
            out.extend_from_slice(message.get(old..self.line).unwrap_or_default());
        } else {
            let lf = self.line.wrapping_sub(1);
            out.extend_from_slice(message.get(old..lf).unwrap_or_default());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A canonical head. A subject that is remembered as granted is not longer than a line of the memory of answers, so that
/// all of them fit.
struct Short {
    bytes: [u8; SHORT],
    len: usize,
}

/// `PUB `, the longest subject that is remembered, and a blank.
const SHORT: usize = 64;

impl Short {
    fn head(subject: &[u8]) -> Option<Self> {
        let mut bytes = [0; SHORT];
        let (verb, rest) = bytes.split_first_chunk_mut()?;
        *verb = *b"PUB ";
        rest.get_mut(..subject.len())?.copy_from_slice(subject);
        *rest.get_mut(subject.len())? = b' ';
        let len = subject.len().wrapping_add(SUBJECT_AT + 1);
        Some(Self { bytes, len })
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The messages of a run, and how far they are pushed.
struct Run<'a> {
    input: &'a [u8],
    /// Where the input stands in the buffer.
    at: usize,
    /// What is not pushed begins here.
    unpushed: usize,
}

impl Run<'_> {
    /// Pushes what comes before `end` as it came. Little is copied where a piece of our own stands beside it, which is cheaper
    /// than one more piece in the vectored write.
    fn push(&mut self, to_upstream: &mut Outbox, end: usize, beside_own: bool) {
        let start = self.unpushed;
        self.unpushed = end;
        if beside_own && end.wrapping_sub(start) <= COPY_MAX {
            let piece = self.input.get(start..end).unwrap_or_default();
            to_upstream.push_own(|out| out.extend_from_slice(piece));
        } else {
            to_upstream.push_input(self.at.wrapping_add(start), self.at.wrapping_add(end));
        }
    }

    /// Pushes the canonical encoding of the messages at `place`, all of one length, which begin with the same line.
    #[inline(never)]
    fn encode(
        &mut self,
        to_upstream: &mut Outbox,
        head: Option<&Head<'_>>,
        publish: &Passed<'_>,
        place: Range<usize>,
    ) {
        if self.unpushed < place.start {
            self.push(to_upstream, place.start, true);
        }
        self.unpushed = place.end;
        let line = publish.line;
        let whole = line.wrapping_add(bytes(publish.size)).wrapping_add(2);
        let messages = self.input.get(place.clone()).unwrap_or_default();
        let small = whole.wrapping_sub(line) <= COPY_MAX;
        if small
            && publish.form == (Form::Headed { crlf: true })
            && let Some(head) = head
            && let Some(instead) = &head.instead
        {
            // Two pieces a message where the rest of the line is as it should be: two blanks, a lower-case verb.
            let old = head.text.len();
            to_upstream.push_own(|out| {
                let mut rest = messages;
                while let Some((message, next)) = rest.split_at_checked(whole) {
                    rest = next;
                    out.extend_from_slice(instead.as_slice());
                    out.extend_from_slice(message.get(old..).unwrap_or_default());
                }
            });
            return;
        }
        let messages = messages.chunks_exact(whole);
        if small {
            to_upstream.push_own(|out| {
                for message in messages {
                    publish.write_line(out, head, message);
                    out.extend_from_slice(message.get(line..).unwrap_or_default());
                }
            });
            return;
        }
        let mut body = self.at.wrapping_add(place.start).wrapping_add(line);
        for message in messages {
            to_upstream.push_own(|out| publish.write_line(out, head, message));
            let end = body.wrapping_add(whole).wrapping_sub(line);
            to_upstream.push_input(body, end);
            body = body.wrapping_add(whole);
        }
    }
}

impl Session {
    /// Passes the run of ordinary publishes at the start of `input`, which stands at `at` in the buffer. Returns its
    /// length in bytes.
    pub(in super::super) fn pass_publishes(&mut self, input: &[u8], at: usize) -> usize {
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
            unpushed: 0,
        };
        let mut passed = Tally::default();
        let mut head: Option<Head<'_>> = None;
        while let Some(rest) = input.get(passed.used..) {
            let again = matches!(&head, Some(head) if begins_with(rest, head.text));
            if !again {
                head = Head::of_canonical(rest, &serving.judge);
            }
            let quick = head.as_ref().and_then(|head| head.with_size(rest, limit));
            let Some(publish) = quick.or_else(|| Head::any(&mut head, rest, limit, &serving.judge))
            else {
                break;
            };
            let size = publish.size;
            let whole = publish.line.wrapping_add(bytes(size)).wrapping_add(2);
            if size > serving.payload_max || !is_ended(rest, whole) {
                break;
            }
            let begin = passed.used;
            passed.add(whole, size);
            if again {
                let more = repeats(rest, publish.line, whole);
                if more > 0 {
                    passed.add_all(more, whole, size);
                }
            }
            if publish.form != Form::Canonical {
                run.encode(to_upstream, head.as_ref(), &publish, begin..passed.used);
            }
        }
        if passed.used > 0 {
            let beside_own = run.unpushed > 0;
            run.push(to_upstream, passed.used, beside_own);
            self.inbound = Inbound::Line { searched: 0 };
            let traffic = &mut self.traffic;
            traffic.messages_in = traffic.messages_in.saturating_add(passed.messages);
            traffic.bytes_in = traffic.bytes_in.saturating_add(passed.volume);
        }
        passed.used
    }
}
