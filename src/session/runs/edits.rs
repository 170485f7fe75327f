//! What makes a line canonical that is so but for its verb, a run of blanks or its line end, and the way of such messages
//! upstream: as they came but for those few bytes.
//!
//! A message with two blanks and the one behind it have everything between those blanks in common: one piece of the buffer
//! that is passed whole. Little is copied, which is cheaper than one more piece in the vectored write. Where nothing but the
//! verb is to be another, nothing is: it is written over where it stands.

use std::ops::Range;

use super::super::outbox::Outbox;
use super::super::serve::COPY_MAX;

/// Bytes of a line that are to be others, counted from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Edits {
    /// The verb has letters in lower case.
    pub(super) verb: bool,
    /// Blanks behind the subject that are too many.
    pub(super) blanks: (usize, usize),
    /// LF alone ends the line, here.
    pub(super) lf: Option<usize>,
}

impl Edits {
    /// Whether the line is canonical as it is.
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the verb alone is to be another one, of the same length.
    fn is_verb_alone(&self) -> bool {
        *self
            == Self {
                verb: true,
                ..Self::default()
            }
    }

    /// Calls `cut` with each range that is to be replaced, in order, for a message at `at`.
    #[inline(always)]
    fn each(&self, at: usize, mut cut: impl FnMut(Range<usize>, &[u8])) {
        if self.verb {
            cut(at..at.wrapping_add(3), b"PUB");
        }
        let (start, end) = self.blanks;
        if start < end {
            cut(at.wrapping_add(start)..at.wrapping_add(end), b"");
        }
        if let Some(lf) = self.lf {
            let lf = at.wrapping_add(lf);
            cut(lf..lf, b"\r");
        }
    }
}

/// The messages of a run, and how far they are pushed.
pub(super) struct Run<'a> {
    input: &'a [u8],
    /// Where the input stands in the buffer.
    at: usize,
    /// What is not pushed begins here.
    unpushed: usize,
    /// Verbs of what is not pushed are to be written over where they stand, so that it cannot be copied before that.
    raised: bool,
}

impl<'a> Run<'a> {
    pub(super) const fn new(input: &'a [u8], at: usize) -> Self {
        Self {
            input,
            at,
            unpushed: 0,
            raised: false,
        }
    }

    /// Passes the messages at `place`, each of `whole` bytes, with the same edits.
    #[inline(never)]
    pub(super) fn edit(
        &mut self,
        to_upstream: &mut Outbox,
        edits: Edits,
        place: Range<usize>,
        whole: usize,
    ) {
        if edits.is_verb_alone() && self.raise(to_upstream, &place, whole) {
            return;
        }
        if self.raised {
            self.push(to_upstream, place.start, true);
        }
        let begins = (place.start..place.end).step_by(whole.max(1));
        let before = place.start.saturating_sub(self.unpushed);
        if whole > COPY_MAX || before > COPY_MAX {
            for at in begins {
                edits.each(at, |range, with| {
                    self.replace(to_upstream, range, |out| out.extend_from_slice(with));
                });
            }
            return;
        }
        let (input, mut from) = (self.input, self.unpushed);
        to_upstream.push_own(|out| {
            for at in begins {
                edits.each(at, |range, with| {
                    out.extend_from_slice(input.get(from..range.start).unwrap_or_default());
                    out.extend_from_slice(with);
                    from = range.end;
                });
            }
        });
        self.unpushed = from;
    }

    /// Has the verbs of the messages at `place` written over where they stand, unless they are small and would be a piece of
    /// their own.
    fn raise(&mut self, to_upstream: &mut Outbox, place: &Range<usize>, whole: usize) -> bool {
        let alone = self.unpushed > 0 || !to_upstream.joins(self.at);
        let copies = alone && whole <= COPY_MAX;
        let [begin, end] = [place.start, place.end].map(|at| self.at.wrapping_add(at));
        let raised = !copies && to_upstream.raise_verbs(begin..end, whole);
        self.raised |= raised;
        raised
    }

    /// Passes what comes before `range` as it came, and what `write` writes in place of the range.
    pub(super) fn replace(
        &mut self,
        to_upstream: &mut Outbox,
        range: Range<usize>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.push(to_upstream, range.start, true);
        self.unpushed = range.end;
        to_upstream.push_own(write);
    }

    /// Passes what is left before `end`.
    pub(super) fn finish(mut self, to_upstream: &mut Outbox, end: usize) {
        let beside_own = self.unpushed > 0;
        self.push(to_upstream, end, beside_own);
    }

    fn push(&mut self, to_upstream: &mut Outbox, end: usize, beside_own: bool) {
        let start = self.unpushed;
        self.unpushed = end;
        let raised = std::mem::take(&mut self.raised);
        if beside_own && !raised && end.wrapping_sub(start) <= COPY_MAX {
            let piece = self.input.get(start..end).unwrap_or_default();
            to_upstream.push_own(|out| out.extend_from_slice(piece));
        } else {
            to_upstream.push_input(self.at.wrapping_add(start), self.at.wrapping_add(end));
        }
    }
}
