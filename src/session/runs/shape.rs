//! The shape of a message: all of its line but a part of the subject, and how long each part is. Streams with many subjects
//! mostly have names and payloads of one length. Where the next message begins is then known without reading a size, and
//! what is left to ask is whether its subject will do.

use std::ops::Range;

use crate::subject::begins_with;

/// What a message has in common with the one before it when they differ in nothing but subject and payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape<'a> {
    /// The line before the part that varies.
    head: &'a [u8],
    /// Where that part ends.
    end: usize,
    /// The line behind it, with the line end.
    tail: &'a [u8],
    /// The last eight bytes of the line, of which those of the tail count.
    last: u64,
    mask: u64,
    /// Lengths of line and message.
    line: usize,
    pub(super) whole: usize,
    /// Of the payload.
    pub(super) size: u32,
}

impl<'a> Shape<'a> {
    /// The shape of the message at the start of `input`, of `whole` bytes, of whose line nothing may vary but a part of
    /// the subject, which stands at `varies`.
    pub(super) fn of(
        input: &'a [u8],
        varies: Range<usize>,
        (line, whole, size): (usize, usize, u32),
    ) -> Option<Self> {
        let tail = input.get(varies.end..line)?;
        let last = input.get(..line)?.last_chunk()?;
        let others = u32::try_from(8_usize.saturating_sub(tail.len())).ok()?;
        Some(Self {
            head: input.get(..varies.start)?,
            end: varies.end,
            tail,
            last: u64::from_le_bytes(*last),
            mask: u64::MAX.checked_shl(others.wrapping_mul(8))?,
            line,
            whole,
            size,
        })
    }

    /// How many messages of this shape stand at the start of `input`, up to the first of which the part that varies is not
    /// `good`: which says no to a byte up to SP. Each that is good is counted.
    #[inline(always)]
    pub(super) fn count<'b>(
        &self,
        input: &'b [u8],
        mut good: impl FnMut(&'b [u8]) -> bool,
    ) -> usize {
        let mut count = 0_usize;
        let mut at = 0_usize;
        while let Some(message) = input.get(at..at.wrapping_add(self.whole))
            && let Some(varying) = self.varying(message)
            && good(varying)
        {
            at = at.wrapping_add(self.whole);
            count = count.wrapping_add(1);
        }
        count
    }

    /// The part that varies of a message of this shape.
    #[inline(always)]
    fn varying<'b>(&self, message: &'b [u8]) -> Option<&'b [u8]> {
        let line = message.get(..self.line)?;
        let last = u64::from_le_bytes(*line.last_chunk()?);
        let same = (last ^ self.last) & self.mask == 0
            && message.last_chunk() == Some(b"\r\n")
            && begins_with(line, self.head)
            && (self.tail.len() <= 8 || begins_with(line.get(self.end..)?, self.tail));
        if same {
            line.get(self.head.len()..self.end)
        } else {
            None
        }
    }
}
