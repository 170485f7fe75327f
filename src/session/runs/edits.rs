//! What makes a line canonical that is so but for its verb, a run of blanks or its line end, and what a run has found to
//! be changed before it goes upstream.

use std::ops::Range;

use smallvec::SmallVec;

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
}

/// Messages that stand one behind the other, as long as each other, in which the same is to be changed.
pub(super) struct Change {
    pub(super) place: Range<usize>,
    pub(super) whole: usize,
    pub(super) how: How,
}

/// How they become canonical.
pub(super) enum How {
    Edits(Edits),
    /// By another line in place of the first `len` bytes: this range of [`Changes::lines`].
    Line {
        len: usize,
        text: Range<usize>,
    },
}

/// How many changes are noted before they are made. They stand on the stack.
const CHANGES_MAX: usize = 64;

/// What is to be changed in a part of a run, in order.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) list: SmallVec<[Change; CHANGES_MAX]>,
    /// Lines that take the place of others.
    pub(super) lines: Vec<u8>,
}

impl Changes {
    /// Notes that these messages are to be edited.
    pub(super) fn note(&mut self, place: Range<usize>, whole: usize, edits: Edits) {
        self.add(place, whole, How::Edits(edits));
    }

    /// Notes that the lines of these messages, of `len` bytes, are to be what `write` writes.
    pub(super) fn note_line(
        &mut self,
        place: Range<usize>,
        whole: usize,
        len: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.lines.len();
        write(&mut self.lines);
        let text = start..self.lines.len();
        self.add(place, whole, How::Line { len, text });
    }

    fn add(&mut self, place: Range<usize>, whole: usize, how: How) {
        debug_assert!(
            !self.is_full(),
            "a list on the heap costs what it is to save"
        );
        self.list.push(Change { place, whole, how });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.lines.clear();
    }

    /// Whether no more are to be noted.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= CHANGES_MAX
    }
}
