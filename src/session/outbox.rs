//! What is to be written to one side: spans of the buffer that was read from the other side, and bytes of our own, in
//! order. Payload bytes stay in the buffer that they were read into; only lines that natsentry itself writes are copied.
//!
//! Lines of our own (errors, `+OK`, UNSUB) may only stand between two frames. While a frame is under way they wait.

use std::io::IoSlice;

use smallvec::SmallVec;

/// One piece of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    /// A range of the buffer that was read from the other side.
    Input { start: usize, end: usize },
    /// A range of [`Outbox::scratch`].
    Scratch { start: usize, end: usize },
}

impl Segment {
    const fn len(self) -> usize {
        match self {
            Self::Input { start, end } | Self::Scratch { start, end } => end.saturating_sub(start),
        }
    }
}

/// Output to one side, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    /// One is enough for a pass in which nothing was kept back or encoded anew.
    segments: SmallVec<[Segment; 1]>,
    scratch: Vec<u8>,
    /// Segments before this one are written.
    next: usize,
    /// Bytes of the next segment that are written.
    offset: usize,
    /// A frame has begun and not ended.
    mid_frame: bool,
    /// Lines of our own that wait for the end of the frame.
    waiting: Vec<u8>,
}

impl Outbox {
    /// The first `len` bytes of the input, for tests of those who write it.
    #[cfg(test)]
    pub(crate) fn of_input(len: usize) -> Self {
        let mut outbox = Self::default();
        outbox.push_input(0, len);
        outbox
    }

    /// Whether everything is written.
    pub fn is_drained(&self) -> bool {
        self.next == self.segments.len()
    }

    /// Bytes of our own that are not written yet: what a peer that does not read can make us hold.
    pub fn own_bytes(&self) -> usize {
        self.scratch.len().saturating_add(self.waiting.len())
    }

    /// Bytes of memory that it holds.
    pub(super) fn held(&self) -> usize {
        let spilled = if self.segments.spilled() {
            self.segments
                .capacity()
                .saturating_mul(size_of::<Segment>())
        } else {
            0
        };
        spilled
            .saturating_add(self.scratch.capacity())
            .saturating_add(self.waiting.capacity())
    }

    /// Appends bytes `start..end` of the input buffer; they join the last span when they follow it.
    #[inline]
    pub(super) fn push_input(&mut self, start: usize, end: usize) {
        if start == end {
            return;
        }
        if let Some(Segment::Input { end: last, .. }) = self.segments.last_mut()
            && *last == start
        {
            *last = end;
            return;
        }
        self.segments.push(Segment::Input { start, end });
    }

    /// Appends what `write` writes, as bytes of our own inside the stream of frames.
    #[inline]
    pub(super) fn push_own(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.scratch.len();
        write(&mut self.scratch);
        let end = self.scratch.len();
        if let Some(Segment::Scratch { end: last, .. }) = self.segments.last_mut()
            && *last == start
        {
            *last = end;
            return;
        }
        if end > start {
            self.segments.push(Segment::Scratch { start, end });
        }
    }

    /// Whether a span that begins at `at` of the input would be the first piece, or join the last one.
    pub(super) fn joins(&self, at: usize) -> bool {
        match self.segments.last() {
            None => true,
            Some(Segment::Input { end, .. }) => *end == at,
            Some(Segment::Scratch { .. }) => false,
        }
    }

    /// Appends whole lines of our own, at once between two frames, else as soon as the frame under way has ended.
    pub(super) fn interject(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.mid_frame {
            write(&mut self.waiting);
        } else {
            self.push_own(write);
        }
    }

    /// Says that a frame is under way, or that it has ended.
    pub(super) fn set_mid_frame(&mut self, mid_frame: bool) {
        self.mid_frame = mid_frame;
        if !mid_frame && !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            self.push_own(|out| out.extend_from_slice(&waiting));
        }
    }

    /// Whether a frame is under way, so that nothing of our own can be written before its end.
    pub(super) const fn is_mid_frame(&self) -> bool {
        self.mid_frame
    }

    /// Forgets everything that is not written.
    pub(super) fn discard(&mut self) {
        self.segments.clear();
        self.scratch.clear();
        self.waiting.clear();
        self.next = 0;
        self.offset = 0;
    }

    /// Gives the memory back when everything is written.
    pub(super) fn rest(&mut self) {
        if !self.is_drained() {
            return;
        }
        if self.segments.spilled() {
            self.segments = SmallVec::new();
        }
        if self.scratch.capacity() > 0 {
            self.scratch = Vec::new();
        }
        if self.waiting.is_empty() && self.waiting.capacity() > 0 {
            self.waiting = Vec::new();
        }
    }

    /// The next pieces to write, at most `slices.len()`; `input` is the buffer that spans refer to.
    ///
    /// Returns how many were filled in.
    pub fn fill<'a>(&'a self, input: &'a [u8], slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut offset = self.offset;
        for (slot, segment) in slices
            .iter_mut()
            .zip(self.segments.get(self.next..).unwrap_or_default())
        {
            let bytes = match *segment {
                Segment::Input { start, end } => input.get(start..end),
                Segment::Scratch { start, end } => self.scratch.get(start..end),
            };
            let bytes = bytes.unwrap_or_default().get(offset..).unwrap_or_default();
            *slot = IoSlice::new(bytes);
            offset = 0;
            filled += 1;
        }
        filled
    }

    /// Says that `written` bytes were taken by the socket.
    pub fn advance(&mut self, written: usize) {
        let mut left = written.saturating_add(self.offset);
        while let Some(segment) = self.segments.get(self.next) {
            let len = segment.len();
            if left < len {
                self.offset = left;
                return;
            }
            left = left.saturating_sub(len);
            self.next = self.next.saturating_add(1);
        }
        self.offset = 0;
        self.next = 0;
        self.segments.clear();
        self.scratch.clear();
    }

    /// Copies everything that is not written to `out` and takes it as written. For tests and for drivers in memory.
    pub fn drain_to(&mut self, input: &[u8], out: &mut Vec<u8>) {
        loop {
            let mut slices = [IoSlice::new(&[])];
            if self.fill(input, &mut slices) == 0 {
                return;
            }
            let [piece] = slices;
            let len = piece.len();
            out.extend_from_slice(&piece);
            self.advance(len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_touch_are_one_span() {
        let mut outbox = Outbox::default();
        outbox.push_input(0, 3);
        outbox.push_input(3, 6);
        outbox.push_own(|out| out.extend_from_slice(b"xy"));
        outbox.push_own(|out| out.extend_from_slice(b"z"));
        outbox.push_input(7, 9);
        assert_eq!(outbox.segments.len(), 3);
        let mut all = Vec::new();
        outbox.drain_to(b"abcdefghi", &mut all);
        assert_eq!(all, b"abcdefxyzhi");
        assert!(outbox.is_drained());
    }

    #[test]
    fn partial_writes_go_on_where_they_stopped() {
        for step in 1..9 {
            let mut outbox = Outbox::default();
            outbox.push_input(1, 4);
            outbox.push_own(|out| out.extend_from_slice(b"12"));
            outbox.push_input(6, 9);
            let mut all = Vec::new();
            while !outbox.is_drained() {
                let mut slices = [IoSlice::new(&[]), IoSlice::new(&[])];
                let filled = outbox.fill(b"abcdefghi", &mut slices);
                let offered: Vec<u8> = slices
                    .iter()
                    .take(filled)
                    .flat_map(|slice| slice.to_vec())
                    .collect();
                let taken = offered.len().min(step);
                all.extend_from_slice(offered.get(..taken).unwrap());
                outbox.advance(taken);
            }
            assert_eq!(all, b"bcd12ghi", "step {step}");
        }
    }

    #[test]
    fn own_lines_wait_for_the_end_of_a_frame() {
        let mut outbox = Outbox::default();
        outbox.push_input(0, 2);
        outbox.set_mid_frame(true);
        outbox.interject(|out| out.extend_from_slice(b"+OK"));
        outbox.push_input(2, 4);
        outbox.set_mid_frame(false);
        let mut all = Vec::new();
        outbox.drain_to(b"abcd", &mut all);
        assert_eq!(all, b"abcd+OK");
    }
}
