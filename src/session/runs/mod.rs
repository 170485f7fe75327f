//! Runs of ordinary messages: whole ones, one behind the other, that need no thought because their subjects were
//! granted before. Nearly all traffic is such, so everything that holds for a run is asked once in front of it, and
//! spans, counts and state are written down once behind it.
//!
//! The beginning of a line up to its sizes or its reply is the same in message after message of a stream. Where it is
//! the same bytes as in the message before, within one buffer, its subject is the same and the permit for it holds. Where
//! the whole line is the same bytes, everything that was found out about the message before holds. Where it is the same
//! but for the subject, which is as long, nothing but the subject is to be judged ([`shape`]).
//!
//! Must never: change anything but the way of the messages that it passes; whatever is not ordinary is left to the
//! careful way, one message at a time, and the run goes on behind it.

mod deliveries;
mod edits;
mod head;
mod publishes;
mod rewrite;
mod shape;

use crate::subject::begins_with;

/// How many more messages of `whole` bytes stand behind the first one of `input` that begin with the very same `line` bytes:
/// whatever holds for that one holds for them.
///
/// Streams often have payloads of one length. Where the next message begins is then known without reading the line before
/// it, so that the processor looks at several at once.
#[inline(always)]
fn repeats(input: &[u8], line: usize, whole: usize) -> usize {
    // Mostly it is the size that differs, which stands at the end of the line.
    let end_of_line = |at: usize| input.get(..at.wrapping_add(line))?.last_chunk::<8>();
    if end_of_line(whole) == end_of_line(0) {
        count_repeats(input, line, whole)
    } else {
        0
    }
}

#[inline(never)]
fn count_repeats(input: &[u8], line: usize, whole: usize) -> usize {
    let line = input.get(..line).unwrap_or_default();
    let mut count = 0_usize;
    let mut at = whole;
    while let Some(message) = input.get(at..at.wrapping_add(whole))
        && begins_with(message, line)
        && message.last_chunk() == Some(b"\r\n")
    {
        at = at.wrapping_add(whole);
        count = count.wrapping_add(1);
    }
    count
}

/// What of a run has passed.
#[derive(Clone, Copy, Default)]
struct Tally {
    /// In bytes of the input.
    used: usize,
    messages: u64,
    /// Bytes of payload and headers.
    volume: u64,
}

impl Tally {
    fn add(&mut self, more: &Self) {
        self.used = self.used.wrapping_add(more.used);
        self.messages = self.messages.wrapping_add(more.messages);
        self.volume = self.volume.wrapping_add(more.volume);
    }

    /// So many messages of `whole` bytes, and `size` of payload each.
    #[inline(always)]
    fn add_all(&mut self, count: usize, whole: usize, size: u32) {
        self.used = self.used.wrapping_add(whole.wrapping_mul(count));
        self.messages = self.messages.wrapping_add(count as u64);
        self.volume = self
            .volume
            .wrapping_add(u64::from(size).wrapping_mul(count as u64));
    }
}

/// Whether CR LF ends the message of `whole` bytes at the start of `input`.
#[inline(always)]
fn is_ended(input: &[u8], whole: usize) -> bool {
    let message = input.get(..whole).unwrap_or_default();
    message.last_chunk() == Some(b"\r\n")
}

#[cfg(test)]
mod tests;
