//! One direction of a session: the buffer that was read from one side and is being judged and written to the other.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers::{self, BUFFER, LARGE_BUFFER};
use crate::session::{Outbox, Taken};

/// A connection that reads at least this many bytes at a time goes on with a large buffer once it has filled a usual one.
const BUSY: usize = BUFFER / 2;

/// Pieces handed to the kernel in one vectored write.
const SLICES: usize = 64;

/// A leftover up to this many bytes is parked in a buffer of its own size while a connection is idle.
const PARK_MAX: usize = 8 * 1024;

/// Bytes under way in one direction.
#[derive(Debug, Default)]
pub(super) struct Lane {
    buffer: Option<Box<[u8]>>,
    /// First byte that is not handled yet.
    start: usize,
    /// End of what was read.
    filled: usize,
    /// Bytes from `start` that must be there before handling makes sense; 0 when there is no such bound.
    wants: usize,
    /// Reads fill the usual buffer.
    busy: bool,
    /// The last write of the other side was not flushed yet.
    unflushed: bool,
}

impl Lane {
    /// A lane that begins with bytes that were read already.
    pub(super) fn with(bytes: Vec<u8>) -> Self {
        let filled = bytes.len();
        Self {
            buffer: Some(bytes.into_boxed_slice()),
            filled,
            ..Self::default()
        }
    }

    /// The whole buffer, which spans of the outbox refer to.
    pub(super) fn buffer(&self) -> &[u8] {
        self.buffer.as_deref().unwrap_or_default()
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

    /// Makes room for at least one more byte, and for what is wanted. Only while no span refers to the buffer.
    fn make_room(&mut self) {
        let held = self.filled.saturating_sub(self.start);
        let usual = if self.busy { LARGE_BUFFER } else { BUFFER };
        let needed = self.wants.max(held.saturating_add(1));
        let len = self.buffer().len();
        let fits = len.saturating_sub(self.start) >= needed && self.filled < len;
        if held > 0 && fits {
            return;
        }
        let size = if needed > usual {
            needed.next_multiple_of(BUFFER)
        } else {
            usual
        };
        match &mut self.buffer {
            Some(buffer) if buffer.len() >= needed.max(usual) => {
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
    }

    /// Reads once. `Ok(0)` is the end of the stream.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
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
                self.rest();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                self.filled = self.filled.saturating_add(count);
                self.busy = count == room || (self.busy && count >= BUSY);
                Poll::Ready(Ok(count))
            }
        }
    }

    /// Gives the buffer back, or parks a small leftover in one of its size.
    fn rest(&mut self) {
        let held = self.filled.saturating_sub(self.start);
        if held > PARK_MAX || self.buffer().len() <= held {
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
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            buffers::give(buffer);
        }
    }
}
