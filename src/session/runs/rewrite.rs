//! The way of a run's messages upstream: as they came, but for the bytes that make them canonical.
//!
//! Those are changed in the read buffer itself, while it is still in the processor's cache. A canonical line is hardly
//! ever longer than what came, so what is behind bytes that are dropped moves up, and everything stays one piece of the
//! vectored write. Nothing but messages that are judged and passed is touched.

use std::ops::Range;

use super::super::outbox::Outbox;
use super::super::serve::COPY_MAX;
use super::edits::{Change, Changes, Edits, How};

/// What stands between two changes and is longer, in bytes, stays where it is and becomes a piece of its own.
const MOVE_MAX: usize = 16 * 1024;

/// A run under way. Places count from the start of its input.
pub(super) struct Rewrite<'a> {
    to_upstream: &'a mut Outbox,
    /// Where the input stands in the buffer.
    at: usize,
    /// `start..to` is as it goes upstream, and not pushed.
    start: usize,
    to: usize,
    /// What came from here on is not looked at. Between `to` and here nothing is needed any more.
    from: usize,
    /// Something is not as it came.
    changed: bool,
}

impl<'a> Rewrite<'a> {
    pub(super) const fn new(to_upstream: &'a mut Outbox, at: usize) -> Self {
        Self {
            to_upstream,
            at,
            start: 0,
            to: 0,
            from: 0,
            changed: false,
        }
    }

    /// Makes these changes to messages of which the places count from `base`.
    pub(super) fn apply(&mut self, input: &mut [u8], base: usize, changes: &Changes) {
        self.changed |= !changes.is_empty();
        for Change { place, whole, how } in &changes.list {
            let place = base.wrapping_add(place.start)..base.wrapping_add(place.end);
            match how {
                How::Edits(edits) => self.edit(input, place, *whole, edits),
                How::Line { len, text } => {
                    let line = changes.lines.get(text.clone()).unwrap_or_default();
                    for at in place.step_by((*whole).max(1)) {
                        self.keep(input, at);
                        self.from = at.wrapping_add(*len);
                        self.put(input, line);
                    }
                }
            }
        }
    }

    #[inline(never)]
    fn edit(&mut self, input: &mut [u8], place: Range<usize>, whole: usize, edits: &Edits) {
        if edits.verb {
            raise_verbs(input.get_mut(place.clone()).unwrap_or_default(), whole);
        }
        let (start, end) = edits.blanks;
        match edits.lf {
            None if start == end => {}
            None => self.close_up(input, place, whole, start..end),
            Some(lf) if start == end && whole <= COPY_MAX => {
                self.copy_lines(input, place, whole, lf);
            }
            Some(lf) => {
                for at in place.step_by(whole.max(1)) {
                    if start < end {
                        self.keep(input, at.wrapping_add(start));
                        self.from = at.wrapping_add(end);
                    }
                    self.keep(input, at.wrapping_add(lf));
                    self.put(input, b"\r");
                }
            }
        }
    }

    /// Drops these bytes of each message.
    fn close_up(
        &mut self,
        input: &mut [u8],
        place: Range<usize>,
        whole: usize,
        dropped: Range<usize>,
    ) {
        self.keep(input, place.start.wrapping_add(dropped.start));
        self.from = place.start.wrapping_add(dropped.end);
        // Between the blanks of one and those of the next stands as much each time.
        let len = whole.wrapping_sub(dropped.len());
        let last = place.end.wrapping_sub(whole).wrapping_add(dropped.start);
        if len > MOVE_MAX {
            while self.from < last {
                self.keep(input, self.from.wrapping_add(len));
                self.from = self.from.wrapping_add(dropped.len());
            }
            return;
        }
        let (mut from, mut to) = (self.from, self.to);
        while from < last
            && let Some(place) = input.get_mut(to..from.wrapping_add(len))
        {
            place.copy_within(from.wrapping_sub(to).., 0);
            to = to.wrapping_add(len);
            from = from.wrapping_add(whole);
        }
        (self.from, self.to) = (from, to);
    }

    /// Copies these messages, of which the lines end with LF alone, there: each becomes longer than it came.
    fn copy_lines(&mut self, input: &mut [u8], place: Range<usize>, whole: usize, lf: usize) {
        self.keep(input, place.start);
        self.push(input, true);
        let mut from = place.start;
        self.to_upstream.push_own(|out| {
            for at in place.step_by(whole.max(1)) {
                let lf = at.wrapping_add(lf);
                out.extend_from_slice(input.get(from..lf).unwrap_or_default());
                out.push(b'\r');
                from = lf;
            }
        });
        self.from = from;
        self.begin_at(from);
    }

    /// What comes before `end` is to go as it came.
    #[inline(always)]
    fn keep(&mut self, input: &mut [u8], end: usize) {
        let len = end.wrapping_sub(self.from);
        let gap = self.from.wrapping_sub(self.to);
        if gap > 0 && len > MOVE_MAX {
            self.push(input, false);
            self.begin_at(self.from);
        } else if gap > 0
            && let Some(place) = input.get_mut(self.to..end)
        {
            place.copy_within(gap.., 0);
        }
        self.to = self.to.wrapping_add(len);
        self.from = end;
    }

    /// Puts bytes behind what goes upstream: into the buffer where something was dropped before, which is mostly longer.
    fn put(&mut self, input: &mut [u8], bytes: &[u8]) {
        let end = self.to.wrapping_add(bytes.len());
        if end <= self.from
            && let Some(place) = input.get_mut(self.to..end)
        {
            place.copy_from_slice(bytes);
            self.to = end;
        } else {
            self.push(input, true);
            self.to_upstream
                .push_own(|out| out.extend_from_slice(bytes));
            self.begin_at(self.from);
        }
    }

    const fn begin_at(&mut self, place: usize) {
        self.start = place;
        self.to = place;
    }

    /// Passes everything before `end`.
    pub(super) fn finish(mut self, input: &mut [u8], end: usize) {
        self.keep(input, end);
        self.push(input, false);
    }

    /// Pushes what is ready. Little of it is copied, beside bytes of our own and where it would be another piece of the
    /// vectored write.
    fn push(&mut self, input: &[u8], beside_own: bool) {
        let (start, end) = (self.start, self.to);
        let apart = self.changed && !self.to_upstream.joins(self.at.wrapping_add(start));
        if (beside_own || apart) && end.wrapping_sub(start) <= COPY_MAX {
            let piece = input.get(start..end).unwrap_or_default();
            self.to_upstream
                .push_own(|out| out.extend_from_slice(piece));
        } else {
            let [start, end] = [start, end].map(|place| self.at.wrapping_add(place));
            self.to_upstream.push_input(start, end);
        }
    }
}

/// Writes `PUB` over the verbs of messages of `whole` bytes.
fn raise_verbs(messages: &mut [u8], whole: usize) {
    for message in messages.chunks_mut(whole.max(1)) {
        if let Some(verb) = message.first_chunk_mut() {
            *verb = *b"PUB";
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;

    /// What goes upstream of messages that stand in the buffer behind other bytes, in which pieces, and how many of them
    /// are of the buffer; each message is changed as `edits` says.
    fn written(messages: &[&[u8]], edits: &[Edits]) -> (Vec<u8>, usize) {
        let mut input = messages.concat();
        let before = b"before".len();
        let mut outbox = Outbox::default();
        let mut rewrite = Rewrite::new(&mut outbox, before);
        let mut changes = Changes::default();
        let mut at = 0;
        for (message, edits) in messages.iter().zip(edits) {
            if !edits.is_none() {
                changes.note(at..at + message.len(), message.len(), *edits);
            }
            at += message.len();
        }
        rewrite.apply(&mut input, 0, &changes);
        rewrite.finish(&mut input, at);
        let buffer = [b"before", &input[..]].concat();
        let (mut out, mut pieces) = (Vec::new(), 0);
        while !outbox.is_drained() {
            let mut slices = [IoSlice::new(&[])];
            outbox.fill(&buffer, &mut slices);
            let [piece] = slices;
            out.extend_from_slice(&piece);
            pieces += 1;
            outbox.advance(piece.len());
        }
        (out, pieces)
    }

    const TWO_BLANKS: Edits = Edits {
        verb: false,
        blanks: (6, 7),
        lf: None,
    };

    const NONE: Edits = Edits {
        verb: false,
        blanks: (0, 0),
        lf: None,
    };

    #[test]
    fn what_is_dropped_leaves_no_gap() {
        let edits = [
            Edits {
                verb: true,
                ..TWO_BLANKS
            },
            NONE,
            TWO_BLANKS,
            Edits {
                lf: Some(8),
                ..TWO_BLANKS
            },
            NONE,
        ];
        let messages: [&[u8]; 5] = [
            b"pub a  1\r\nx\r\n",
            b"PUB b 1\r\ny\r\n",
            b"PUB c  1\r\nz\r\n",
            b"PUB d  1\nv\r\n",
            b"PUB e 1\r\nw\r\n",
        ];
        let (out, pieces) = written(&messages, &edits);
        let whole =
            b"PUB a 1\r\nx\r\nPUB b 1\r\ny\r\nPUB c 1\r\nz\r\nPUB d 1\r\nv\r\nPUB e 1\r\nw\r\n";
        assert_eq!(out, whole);
        assert_eq!(pieces, 1);
    }

    #[test]
    fn a_line_end_for_which_there_is_no_room_is_written_beside_the_buffer() {
        let edits = [Edits {
            lf: Some(7),
            ..NONE
        }; 2];
        let (out, pieces) = written(&[b"PUB a 1\nx\r\n", b"PUB b 1\ny\r\n"], &edits);
        assert_eq!(out, b"PUB a 1\r\nx\r\nPUB b 1\r\ny\r\n");
        assert_eq!(pieces, 1, "little is copied");
    }

    #[test]
    fn long_messages_stay_where_they_are() {
        let message = |name: char| {
            let payload = "x".repeat(MOVE_MAX + 1);
            format!("PUB {name}  {}\r\n{payload}\r\n", payload.len()).into_bytes()
        };
        let messages = ['a', 'b', 'c'].map(message);
        let each: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let (out, pieces) = written(&each, &[TWO_BLANKS; 3]);
        let canonical: Vec<u8> = messages
            .iter()
            .flat_map(|message| [&message[..6], &message[7..]].concat())
            .collect();
        assert!(out == canonical);
        assert_eq!(
            pieces, 4,
            "one more than there are blanks that were dropped"
        );
    }
}
