//! Which buffers a lane takes for what it reads, and when a slow peer has taken a step.

use std::future::poll_fn;
use std::time::Duration;

use super::*;

/// Gives at most so many bytes at a time.
struct Gives(usize);

/// Fills the room, whatever it is.
const fn endless() -> Gives {
    Gives(usize::MAX)
}

impl AsyncRead for Gives {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = buffer.remaining().min(self.0);
        buffer.initialize_unfilled_to(count);
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl Source for Gives {
    fn poll_some(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// Takes so many bytes, and then none.
struct Takes(usize);

impl AsyncWrite for Takes {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.0 == 0 {
            return Poll::Pending;
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn lane(memory: usize) -> Lane {
    Lane::new(Memory::new(memory, Duration::from_secs(1)))
}

/// Reads once, and takes all of it as handled. The size of the buffer that was read into.
async fn read<S: Source>(lane: &mut Lane, stream: &mut S) -> usize {
    let count = poll_fn(|cx| lane.poll_read(stream, cx)).await.unwrap();
    let (held, _) = lane.unhandled();
    assert_eq!(held.len(), count);
    let size = lane.buffer().len();
    lane.handled(Taken {
        used: count,
        wants: 0,
    });
    size
}

const PLENTY: usize = 64 << 20;

#[tokio::test]
async fn whoever_fills_a_buffer_gets_a_larger_one() {
    let mut lane = lane(PLENTY);
    for size in [64, 256, 768, 768] {
        assert_eq!(read(&mut lane, &mut endless()).await, size * 1024);
    }
}

#[tokio::test]
async fn whoever_reads_little_goes_back_step_by_step_once_it_has_nothing_to_read() {
    let mut lane = lane(PLENTY);
    for _ in 0..4 {
        read(&mut lane, &mut endless()).await;
    }
    // A buffer that is there serves on; it goes when there is nothing to read.
    let sizes = [
        (128 * 1024, 768),
        (128 * 1024 - 1, 768),
        (32 * 1024, 256),
        (32 * 1024 - 1, 256),
        (1, 64),
    ];
    for (count, size) in sizes {
        assert_eq!(read(&mut lane, &mut Gives(count)).await, size * 1024);
        lane.rest();
        assert!(lane.buffer().is_empty());
    }
}

#[tokio::test]
async fn the_largest_buffers_go_first_where_memory_is_scarce() {
    const KIB: usize = 1024;
    for (held_by_others, sizes) in [
        (1024, [64, 256, 768]),
        (8 * KIB, [64, 256, 256]),
        (12 * KIB, [64, 64, 64]),
        (16 * KIB, [4, 4, 4]),
    ] {
        let mut lane = lane(16 << 20);
        let mut others = Account::new(Arc::clone(lane.account.memory()));
        others.hold(held_by_others * KIB);
        for size in sizes {
            let got = read(&mut lane, &mut endless()).await;
            assert_eq!(got, size * KIB, "beside {held_by_others} KiB");
        }
    }
}

#[tokio::test]
async fn whoever_reads_much_waits_no_longer_for_what_it_needs_than_others_do() {
    const KIB: usize = 1024;
    for needed in [300 * KIB, 700 * KIB] {
        for reads_much in [false, true] {
            let mut lane = lane(16 << 20);
            let reads = if reads_much { 3 } else { 0 };
            for _ in 0..reads {
                read(&mut lane, &mut endless()).await;
            }
            lane.rest();
            let mut others = Account::new(Arc::clone(lane.account.memory()));
            others.hold(9 << 20);
            // All that fits of an operation of which so much is to come.
            let count = poll_fn(|cx| lane.poll_read(&mut endless(), cx)).await;
            assert!(count.unwrap() < needed);
            lane.handled(Taken {
                used: 0,
                wants: needed,
            });
            let more = poll_fn(|cx| Poll::Ready(lane.poll_read(&mut endless(), cx))).await;
            assert!(more.is_ready(), "{needed}: {lane:?}");
            assert!(lane.size() >= needed);
        }
    }
}

#[tokio::test]
async fn a_slow_peer_has_taken_a_step_with_each_quarter_of_a_mebibyte() {
    let mut lane = lane(PLENTY);
    for _ in 0..2 {
        read(&mut lane, &mut endless()).await;
    }
    let count = poll_fn(|cx| lane.poll_read(&mut endless(), cx))
        .await
        .unwrap();
    let mut outbox = Outbox::of_input(count);
    let mut write = |takes: usize, lane: &mut Lane| {
        let mut peer = Takes(takes);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        lane.poll_flush(&mut outbox, &mut peer, &mut cx)
    };
    let step = 256 * 1024;
    for (takes, step_taken) in [(step - 1, false), (1, true), (1, false), (step, true)] {
        assert!(write(takes, &mut lane).is_pending());
        assert_eq!(lane.has_taken_a_step(), step_taken, "{takes}");
    }
    assert!(write(step, &mut lane).is_ready());
    assert!(!lane.has_taken_a_step(), "nothing is waited for");
}
