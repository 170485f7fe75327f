//! One publisher and one subscriber at full speed, with prebuilt bytes.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::client::{Client, PATIENCE, frame, is_timeout};
use super::contenders::Contender;

/// One publisher and one subscriber at full speed, with a bounded number of bytes between them.
pub(crate) struct Stream {
    shared: Arc<Shared>,
    publisher: JoinHandle<Result<()>>,
    subscriber: JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Shared {
    received: AtomicU64,
    stop: AtomicBool,
}

/// How a publisher writes its lines. nats-server reads them all alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lines {
    /// As nats-server itself writes.
    Canonical,
    LowerCase,
    /// As nats.py does where there is no reply.
    TwoSpaces,
}

impl Lines {
    pub(crate) const ALL: [Self; 3] = [Self::Canonical, Self::LowerCase, Self::TwoSpaces];

    pub(crate) fn publish(self, subject: &str, size: usize) -> String {
        match self {
            Self::Canonical => format!("PUB {subject} {size}\r\n"),
            Self::LowerCase => format!("pub {subject} {size}\r\n"),
            Self::TwoSpaces => format!("PUB {subject}  {size}\r\n"),
        }
    }
}

/// What a publisher says.
pub(crate) struct Messages {
    /// Bytes of payload.
    pub(crate) size: usize,
    /// Subjects in turn.
    pub(crate) subjects: usize,
    pub(crate) lines: Lines,
}

impl Messages {
    /// On one subject, in canonical lines.
    pub(crate) const fn of(size: usize) -> Self {
        Self {
            size,
            subjects: 1,
            lines: Lines::Canonical,
        }
    }
}

impl Stream {
    pub(crate) fn start(contender: &Contender, messages: &Messages) -> Result<Self> {
        let Messages {
            size,
            subjects,
            lines,
        } = *messages;
        let mut subscriber = Client::connect(contender, 1)?;
        let subscription = if subjects > 1 {
            "bench.*"
        } else {
            contender.subscription
        };
        subscriber.settle(format!("SUB {subscription} 1\r\n").as_bytes())?;
        let publisher = Client::connect(contender, 2)?;
        let shared = Arc::new(Shared::default());
        // All subjects are of one length, so that messages can be counted by their bytes.
        let subject = |n: usize| match subjects {
            1 => "bench.stream".to_owned(),
            _ => format!("bench.s{n:05}"),
        };
        let publish = |n: usize| frame(&lines.publish(&subject(n), size), size);
        let frames: Vec<_> = (0..subjects).map(publish).collect();
        let msg_frame = frame(&format!("MSG {} 1 {size}\r\n", subject(0)), size);
        Ok(Self {
            subscriber: std::thread::spawn({
                let shared = Arc::clone(&shared);
                move || count(subscriber, msg_frame.len(), &shared)
            }),
            publisher: std::thread::spawn({
                let shared = Arc::clone(&shared);
                move || blast(publisher, &frames, &shared)
            }),
            shared,
        })
    }

    /// Lets it run, and returns how long it did.
    pub(crate) fn run_for(&self, time: Duration) -> Result<Duration> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            if self.publisher.is_finished() || self.subscriber.is_finished() {
                bail!("the connection broke: {:?}", self.received());
            }
            std::thread::sleep(time.saturating_sub(begun.elapsed()).min(TICK));
        }
        Ok(begun.elapsed())
    }

    /// Messages that came out so far.
    pub(crate) fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for end in [self.publisher, self.subscriber] {
            end.join()
                .map_err(|_| anyhow::anyhow!("a load thread panicked"))??;
        }
        Ok(())
    }
}

/// Writes batches of the frames in turn, at most [`WINDOW`] bytes ahead of the subscriber.
fn blast(mut client: Client, frames: &[Vec<u8>], shared: &Shared) -> Result<()> {
    let each = frames.first().map_or(1, Vec::len);
    let batch = (BATCH / each).max(1);
    let window = u64::try_from((WINDOW / each).max(batch.saturating_mul(2)))?;
    let mut sent = 0_u64;
    let mut bytes = Vec::with_capacity(batch.saturating_mul(each));
    let mut next = frames.iter().cycle();
    while !shared.stop.load(Ordering::Relaxed) {
        if sent.saturating_sub(shared.received.load(Ordering::Relaxed)) >= window {
            std::thread::sleep(Duration::from_micros(50));
            continue;
        }
        if frames.len() > 1 || bytes.is_empty() {
            bytes.clear();
            next.by_ref()
                .take(batch)
                .for_each(|frame| bytes.extend_from_slice(frame));
        }
        client.say(&bytes)?;
        sent = sent.saturating_add(u64::try_from(batch)?);
    }
    Ok(())
}

/// Counts messages by the bytes they have. A PING of the server among them is a fraction of one.
fn count(mut client: Client, each: usize, shared: &Shared) -> Result<()> {
    client.stream.tcp().set_read_timeout(Some(TICK))?;
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0_u64;
    let each = u64::try_from(each.max(1))?;
    let mut stalled = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        match client.stream.read(&mut buffer) {
            Ok(0) => bail!("closed while messages flowed"),
            Ok(count) => {
                bytes = bytes.saturating_add(u64::try_from(count)?);
                shared.received.store(bytes / each, Ordering::Relaxed);
                stalled = Instant::now();
            }
            Err(error) if is_timeout(&error) && stalled.elapsed() < PATIENCE => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Bytes written at a time.
const BATCH: usize = 256 * 1024;

/// Bytes between publisher and subscriber; nats-server cuts a subscriber 64 MiB behind.
const WINDOW: usize = 8 * 1024 * 1024;

/// How often threads that wait look whether they should go on.
const TICK: Duration = Duration::from_millis(25);
