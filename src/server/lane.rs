//! One direction of a session: the buffer that was read from one side and is being judged and written to the other.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers::{self, BUFFER, SIZES};
use super::client_stream::ClientStream;
use super::memory::{Account, Memory, SMALL_BUFFER, Share};
use crate::session::{Outbox, Taken};
use crate::upstream::LinkStream;

/// A peer that takes less than this of what is written to it, in bytes, before its time is over, is too slow.
const STEP: u32 = 256 * 1024;

/// Pieces handed to the kernel in one vectored write.
const SLICES: usize = 64;

/// A leftover up to this many bytes is parked in a buffer of its own size while a connection is idle.
const PARK_MAX: usize = 8 * 1024;

/// A stream that can tell whether there may be something to read.
pub(super) trait Source: AsyncRead + Unpin {
    /// Pending while there is nothing to read, with the task woken when there is. Inside TLS that is not known before.
    fn poll_some(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Source for ClientStream {
    fn poll_some(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            // An error shows in the read.
            Self::Plain(tcp) => tcp.poll_read_ready(cx).map(drop),
            Self::Tls(_) => Poll::Ready(()),
        }
    }
}

impl Source for LinkStream {
    fn poll_some(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(tcp) => tcp.poll_read_ready(cx).map(drop),
            Self::Tls(_) => Poll::Ready(()),
        }
    }
}

/// Bytes under way in one direction.
#[derive(Debug)]
pub(super) struct Lane {
    buffer: Option<Box<[u8]>>,
    /// For the buffer, unless it is a small one.
    account: Account,
    /// First byte that is not handled yet.
    start: usize,
    /// End of what was read.
    filled: usize,
    /// Bytes from `start` that must be there before handling makes sense; 0 when there is no such bound.
    wants: usize,
    /// Which of [`SIZES`] the next buffer has. Reads that fill one bring the next larger one, reads that would fill less than
    /// half of the one before bring that back.
    level: u8,
    /// Bytes written since the peer last took all that there was.
    behind: u32,
    /// The last write of the other side was not flushed yet.
    unflushed: bool,
    /// There was no memory for the buffer that is needed.
    starved: bool,
    /// Nothing more is to be had of this side before the task is woken for it.
    waits: bool,
}

impl Lane {
    pub(super) const fn new(memory: Arc<Memory>) -> Self {
        Self {
            buffer: None,
            account: Account::new(memory),
            start: 0,
            filled: 0,
            wants: 0,
            level: 0,
            behind: 0,
            unflushed: false,
            starved: false,
            waits: false,
        }
    }

    /// The task was woken, perhaps for this side.
    pub(super) const fn wake(&mut self) {
        self.waits = false;
    }

    /// Begins with bytes that were read already.
    pub(super) fn begin_with(&mut self, bytes: Vec<u8>) {
        self.filled = bytes.len();
        self.start = 0;
        self.buffer = Some(bytes.into_boxed_slice());
    }

    /// Whether there was no memory for the buffer that is needed: another read is to be tried later.
    pub(super) const fn is_starved(&self) -> bool {
        self.starved
    }

    /// Whether it holds memory that others could use for an operation of which the rest is still to come.
    pub(super) fn keeps_memory_waiting(&self) -> bool {
        self.wants > 0 && self.filled > self.start && self.size() > PARK_MAX
    }

    /// The whole buffer, which spans of the outbox refer to.
    pub(super) fn buffer(&self) -> &[u8] {
        self.buffer.as_deref().unwrap_or_default()
    }

    /// Bytes of the buffer.
    pub(super) fn size(&self) -> usize {
        self.buffer().len()
    }

    /// What is not handled yet, and where it stands in the buffer.
    pub(super) fn unhandled(&self) -> (&[u8], usize) {
        (
            self.buffer()
                .get(self.start..self.filled)
                .unwrap_or_default(),
            self.start,
        )
    }

    /// Likewise, to be made canonical where it stands.
    pub(super) fn unhandled_mut(&mut self) -> (&mut [u8], usize) {
        let (start, filled) = (self.start, self.filled);
        let buffer = self.buffer.as_deref_mut().unwrap_or_default();
        (buffer.get_mut(start..filled).unwrap_or_default(), start)
    }

    /// Whether there is something to handle without reading more.
    pub(super) const fn is_ready(&self) -> bool {
        let held = self.filled.saturating_sub(self.start);
        held > 0 && held >= self.wants
    }

    /// Notes how far handling came.
    pub(super) const fn handled(&mut self, taken: Taken) {
        self.start = self.start.saturating_add(taken.used);
        self.wants = taken.wants;
    }

    /// Makes room for at least one more byte, and for what is wanted. Only while no span refers to the buffer. False where
    /// there is no memory for that now.
    fn make_room(&mut self) -> bool {
        let held = self.filled.saturating_sub(self.start);
        let needed = self.wants.max(held.saturating_add(1));
        let len = self.size();
        let fits = len.saturating_sub(self.start) >= needed && self.filled < len;
        if held > 0 && fits {
            return true;
        }
        let Some(size) = self.grant(needed) else {
            return false;
        };
        match &mut self.buffer {
            Some(buffer) if buffer.len() >= size => {
                buffer.copy_within(self.start..self.filled, 0);
            }
            place => {
                let mut larger = buffers::take(size);
                if let Some(old) = place.take() {
                    let kept = old.get(self.start..self.filled).unwrap_or_default();
                    if let Some(target) = larger.get_mut(..kept.len()) {
                        target.copy_from_slice(kept);
                    }
                    buffers::give(old);
                }
                *place = Some(larger);
            }
        }
        self.start = 0;
        self.filled = held;
        true
    }

    /// The size of a buffer for `needed` bytes: as large as this connection's reads ask for, or as needed, as far as there is
    /// memory. The buffer that is there may serve.
    fn grant(&mut self, needed: usize) -> Option<usize> {
        let len = self.size();
        let usual = SIZES.get(..=usize::from(self.level)).unwrap_or(&SIZES);
        let largest = usual.last().copied().unwrap_or(BUFFER);
        if len >= needed.max(largest) {
            return Some(len);
        }
        for size in usual.iter().rev().copied() {
            if size >= needed && size > len && self.account.try_hold(size, share(size)) {
                return Some(size);
            }
        }
        if len >= needed {
            Some(len)
        } else if needed > BUFFER {
            // Also who reads more than that at a time, and is refused a buffer of that size.
            let wanted = needed.next_multiple_of(BUFFER);
            let held = self.account.try_hold(wanted, Share::ThreeQuarters);
            held.then_some(wanted)
        } else if needed <= SMALL_BUFFER {
            self.account.hold(0);
            Some(SMALL_BUFFER)
        } else {
            None
        }
    }

    /// Reads once. `Ok(0)` is the end of the stream.
    pub(super) fn poll_read<S: Source>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.waits {
            return Poll::Pending;
        }
        // Most turns find nothing on one of the sides: no buffer is taken for that, and given back.
        if stream.poll_some(cx).is_pending() {
            self.starved = false;
            self.waits = true;
            self.rest();
            return Poll::Pending;
        }
        self.starved = !self.make_room();
        if self.starved {
            return Poll::Pending;
        }
        let Some(space) = self
            .buffer
            .as_deref_mut()
            .and_then(|b| b.get_mut(self.filled..))
        else {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::OutOfMemory)));
        };
        let room = space.len();
        let mut read = ReadBuf::new(space);
        let result = Pin::new(stream).poll_read(cx, &mut read);
        let count = read.filled().len();
        match result {
            Poll::Pending => {
                self.waits = true;
                self.rest();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                self.filled = self.filled.saturating_add(count);
                self.adapt(count, room);
                Poll::Ready(Ok(count))
            }
        }
    }

    /// Chooses the size of the next buffer, after a read of `count` bytes where `room` was.
    fn adapt(&mut self, count: usize, room: usize) {
        if count == room {
            let above = self.level.saturating_add(1);
            if SIZES.get(usize::from(above)).is_some() {
                self.level = above;
            }
        } else if let Some(below) = self.level.checked_sub(1)
            && SIZES
                .get(usize::from(below))
                .is_some_and(|size| count < size / 2)
        {
            self.level = below;
        }
    }

    /// Whether the peer, that has not taken all that there was, has taken a good part of it since this was last asked.
    pub(super) const fn has_taken_a_step(&mut self) -> bool {
        let enough = self.behind >= STEP;
        if enough {
            self.behind = 0;
        }
        enough
    }

    /// Gives the buffer back, or parks a small leftover in one of its size. Only while no span refers to the buffer.
    pub(super) fn rest(&mut self) {
        let held = self.filled.saturating_sub(self.start);
        if held > PARK_MAX || self.size() <= held {
            return;
        }
        let Some(buffer) = self.buffer.take() else {
            return;
        };
        if held > 0 {
            let kept = buffer.get(self.start..self.filled).unwrap_or_default();
            self.buffer = Some(kept.into());
        }
        self.start = 0;
        self.filled = held;
        self.account.hold(0);
        buffers::give(buffer);
    }

    /// Writes what `outbox` holds to `stream` and flushes it. Ready once everything is written.
    pub(super) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        outbox: &mut Outbox,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !outbox.is_drained() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = outbox.fill(self.buffer.as_deref().unwrap_or_default(), &mut slices);
            let slices = slices.get(..filled).unwrap_or_default();
            let result = match slices {
                [one] => Pin::new(&mut *stream).poll_write(cx, one),
                many => Pin::new(&mut *stream).poll_write_vectored(cx, many),
            };
            let written = ready!(result)?;
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero)));
            }
            outbox.advance(written);
            self.behind = self
                .behind
                .saturating_add(u32::try_from(written).unwrap_or(STEP));
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        self.behind = 0;
        Poll::Ready(Ok(()))
    }
}

/// Up to which share of the memory there are buffers of this size.
const fn share(size: usize) -> Share {
    let [usual, large, _] = SIZES;
    if size <= usual {
        Share::All
    } else if size <= large {
        Share::ThreeQuarters
    } else {
        Share::Half
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            buffers::give(buffer);
        }
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
