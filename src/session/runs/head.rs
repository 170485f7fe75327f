//! The beginning of a publish, which is the same in line after line of a stream, and who says that its subject may pass.

use super::edits::Edits;
use crate::policy::{Judge, OpenGround, Permit};
use crate::wire::canonical::{self, LastSize};

/// Behind `PUB `.
pub(super) const SUBJECT_AT: usize = 4;

/// How often a run asks for open ground: one question costs as much as a dozen messages.
pub(super) const QUESTIONS: u32 = 8;

/// How the subjects of a run are judged.
pub(super) struct Subjects<'a, 'j> {
    pub(super) judge: &'j mut Judge,
    pub(super) open: Option<OpenGround<'a>>,
    questions: u32,
}

impl<'a, 'j> Subjects<'a, 'j> {
    /// `questions` of them are left to the run.
    pub(super) const fn new(judge: &'j mut Judge, questions: u32) -> Self {
        Self {
            judge,
            open: None,
            questions,
        }
    }

    /// How many are left to the rest of the run: one at least, where this part had an answer to go by.
    pub(super) fn questions(&self) -> u32 {
        self.questions.max(u32::from(self.open.is_some()))
    }

    /// Leave for a publish on this subject, which is not the one before. Once subjects change, open ground is looked for.
    #[inline(always)]
    fn permit(&mut self, subject: &'a [u8], changed: bool) -> Option<Permit<'a>> {
        if let Some(open) = &self.open
            && let Some(permit) = open.permit(subject)
        {
            return Some(permit);
        }
        if changed
            && !self.judge.is_spent()
            && let Some(questions) = self.questions.checked_sub(1)
        {
            self.questions = questions;
            if let Some(open) = self.judge.open(subject) {
                self.open = Some(open);
                if let Some(permit) = open.permit(subject) {
                    return Some(permit);
                }
            }
        }
        self.judge.grant(subject)
    }
}

/// The beginning of the lines of one subject, up to what differs from message to message.
pub(super) struct Head<'a> {
    pub(super) text: &'a [u8],
    pub(super) permit: Permit<'a>,
    pub(super) edits: Edits,
}

/// One whole publish that is permitted.
pub(super) struct Passed<'a> {
    pub(super) permit: Permit<'a>,
    pub(super) size: u32,
    /// Length of its line.
    pub(super) line: usize,
    /// What makes it canonical; none when another line has to.
    pub(super) edits: Option<Edits>,
}

impl<'a> Head<'a> {
    /// The head of a line that is canonical or nearly so: up to the last blank behind a subject that is granted.
    #[inline(always)]
    pub(super) fn of(
        input: &'a [u8],
        subjects: &mut Subjects<'a, '_>,
        changed: bool,
    ) -> Option<Self> {
        let verb = u32::from_le_bytes(*input.first_chunk()?);
        let upper = verb == u32::from_le_bytes(*b"PUB ");
        if !upper && verb | LOWER != u32::from_le_bytes(*b"pub ") {
            return None;
        }
        let end = canonical::word_end(input, SUBJECT_AT)?;
        let subject = input.get(SUBJECT_AT..end)?;
        if !is_ordinary(subject) {
            return None;
        }
        let first = end.wrapping_add(1);
        let mut next = first;
        while let b' ' | b'\t' = input.get(next)? {
            if input.get(next) == Some(&b'\t') {
                return None;
            }
            next = next.wrapping_add(1);
        }
        Some(Self {
            text: input.get(..next)?,
            permit: subjects.permit(subject, changed)?,
            edits: Edits {
                verb: !upper,
                blanks: if first < next { (first, next) } else { (0, 0) },
                lf: None,
            },
        })
    }

    /// The size that ends a line that begins with this head.
    #[inline(always)]
    pub(super) fn size(&self, input: &[u8], limit: usize) -> Option<LastSize> {
        let last = canonical::last_size(input, self.text.len())?;
        (last.end <= limit).then_some(last)
    }

    /// What makes a line canonical that begins with this head and ends like that.
    #[inline(always)]
    pub(super) const fn edits(&self, last: LastSize) -> Edits {
        let mut edits = self.edits;
        if !last.crlf {
            edits.lf = Some(last.end.wrapping_sub(1));
        }
        edits
    }

    /// What a line that begins with this head says, where a reply and the size follow.
    pub(super) fn with_reply(
        &self,
        input: &'a [u8],
        limit: usize,
        judge: &Judge,
    ) -> Option<Passed<'a>> {
        let head = self.text.len();
        let reply_end = canonical::word_end(input, head)?;
        let last = canonical::last_size(input, reply_end.wrapping_add(1))?;
        let permit = judge.recall_reply(self.permit, input.get(head..reply_end)?)?;
        (last.end <= limit).then_some(Passed {
            permit,
            size: last.size,
            line: last.end,
            edits: Some(self.edits(last)),
        })
    }

    /// The publish at the start of `input` in any form. `head`, if there is one, is what its line begins with.
    #[inline(never)]
    pub(super) fn any(
        head: Option<&Self>,
        input: &'a [u8],
        limit: usize,
        judge: &mut Judge,
    ) -> Option<Passed<'a>> {
        if let Some(known) = head
            && let Some(passed) = known.with_reply(input, limit, judge)
        {
            return Some(passed);
        }
        let read = canonical::publish(input, limit)?;
        let publish = read.value;
        if publish.header_len.is_some() || !is_ordinary(publish.subject) {
            return None;
        }
        let permit = judge.grant(publish.subject)?;
        Some(Passed {
            permit: match publish.reply {
                Some(reply) => judge.recall_reply(permit, reply)?,
                None => permit,
            },
            size: publish.size,
            line: read.len,
            edits: read.canonical.then(Edits::default),
        })
    }
}

/// What makes the letters of `pub ` lower case.
const LOWER: u32 = 0x0020_2020;

/// Whether a subject has no meaning to the server but to be passed on.
#[inline(always)]
pub(super) fn is_ordinary(subject: &[u8]) -> bool {
    subject.first() != Some(&b'$')
}
