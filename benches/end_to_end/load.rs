//! The load generator: plain blocking sockets and prebuilt bytes, so that it is never what limits a figure.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Socket, Type};

use super::contenders::Contender;
use super::secure::Channel;

/// One connection that has been greeted.
pub(crate) struct Client {
    stream: Channel,
}

impl Client {
    /// Connects from 127.0.`c`.`d`, says CONNECT and waits for PONG.
    pub(crate) fn connect(contender: &Contender, number: u64) -> Result<Self> {
        let [.., c, d] = number.to_be_bytes();
        // Several source addresses, since one has only 28,000 ports and closed connections keep theirs for a minute.
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, c % 64, d.max(1)));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect(&contender.address.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let stream = Channel::open(stream, contender.trust.as_ref())?;
        let mut client = Self { stream };
        client.wait_for(b"\r\n").context("waiting for INFO")?;
        client.say(format!("CONNECT {}\r\nPING\r\n", contender.connect).as_bytes())?;
        client.wait_for(b"PONG\r\n").context("waiting for PONG")?;
        Ok(client)
    }

    fn say(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// Says something and waits until the server has processed it.
    fn settle(&mut self, bytes: &[u8]) -> Result<()> {
        self.say(bytes)?;
        self.say(b"PING\r\n")?;
        self.wait_for(b"PONG\r\n")
    }

    /// Reads until `wanted` came. The server may say PING right behind it; nobody waits for the answer to that.
    fn wait_for(&mut self, wanted: &[u8]) -> Result<()> {
        let mut seen = Vec::new();
        let mut some = [0; 4096];
        while memchr::memmem::find(&seen, wanted).is_none() {
            let count = self.stream.read(&mut some)?;
            if count == 0 {
                bail!("closed after {:?}", String::from_utf8_lossy(&seen));
            }
            seen.extend_from_slice(some.get(..count).unwrap_or(&[]));
            if seen.starts_with(b"-ERR") {
                bail!("{}", String::from_utf8_lossy(&seen));
            }
        }
        Ok(())
    }
}

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

impl Stream {
    /// Of messages of `size` bytes, on so many subjects in turn.
    pub(crate) fn start(contender: &Contender, size: usize, subjects: usize) -> Result<Self> {
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
        let publish = |n: usize| frame(&format!("PUB {} {size}\r\n", subject(n)), size);
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
            std::thread::sleep(
                time.saturating_sub(begun.elapsed())
                    .min(Duration::from_millis(100)),
            );
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
    client
        .stream
        .tcp()
        .set_read_timeout(Some(Duration::from_millis(100)))?;
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

/// Asks at a steady rate and times each answer, over one connection to ask and one that answers.
///
/// A question that is late because the answer before it was, counts from when it was due: a stall shows in all the
/// questions that it kept waiting, not in one.
pub(crate) fn round_trips(contender: &Contender, time: Duration) -> Result<Vec<Duration>> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut answering = Client::connect(contender, 3)?;
    answering.settle(b"SUB bench.ask 1\r\n")?;
    let mut asking = Client::connect(contender, 4)?;
    asking.settle(b"SUB bench.answer 1\r\n")?;
    let responder = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || respond(answering, &stop)
    });
    let question = frame("PUB bench.ask 16\r\n", 16);
    let answer = frame("MSG bench.answer 1 16\r\n", 16).len();
    let mut samples = Vec::new();
    let begun = Instant::now();
    let mut due = begun;
    let mut free = begun;
    while begun.elapsed() < time {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let from = if free > due { due } else { Instant::now() };
        asking.say(&question)?;
        asking.read_message(answer)?;
        free = Instant::now();
        samples.push(free.saturating_duration_since(from));
        due += QUESTION_EVERY;
    }
    stop.store(true, Ordering::Relaxed);
    responder
        .join()
        .map_err(|_| anyhow::anyhow!("the responder panicked"))??;
    // The first ones find cold caches.
    Ok(samples.split_off(samples.len() / 10))
}

fn respond(mut client: Client, stop: &AtomicBool) -> Result<()> {
    client
        .stream
        .tcp()
        .set_read_timeout(Some(Duration::from_millis(100)))?;
    let reply = frame("PUB bench.answer 16\r\n", 16);
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        match client.stream.read(&mut buffer) {
            Ok(0) => bail!("closed while asked"),
            // One question is under way at a time, so that each read has one, or a PING of the server.
            Ok(count)
                if buffer
                    .get(..count)
                    .is_some_and(|read| read.starts_with(b"PING")) =>
            {
                client.say(b"PONG\r\n")?;
            }
            Ok(_) => client.say(&reply)?,
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl Client {
    /// Reads one message of `len` bytes, answering a PING that comes before it.
    fn read_message(&mut self, len: usize) -> Result<()> {
        let mut buffer = [0; 4096];
        let mut got = 0_usize;
        while got < len {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                bail!("closed while waiting for an answer");
            }
            if buffer.get(..count) == Some(b"PING\r\n") {
                self.say(b"PONG\r\n")?;
            } else {
                got = got.saturating_add(count);
            }
        }
        Ok(())
    }
}

/// CONNECT, PING, PONG, close, four at a time; returns how many and in what time.
pub(crate) fn connects(contender: &Contender, time: Duration) -> Result<(u64, Duration)> {
    let begun = Instant::now();
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTORS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut done = 0_u64;
                    while begun.elapsed() < time {
                        let number = done.saturating_mul(CONNECTORS).saturating_add(thread);
                        Client::connect(contender, number)?;
                        done = done.saturating_add(1);
                    }
                    anyhow::Ok(done)
                })
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<u64>>| {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("a connector panicked"))?
        };
        threads.into_iter().map(join).collect::<Result<Vec<u64>>>()
    })?;
    Ok((counts.iter().sum(), begun.elapsed()))
}

/// Sessions with one subscription each that do nothing.
pub(crate) fn idle(contender: &Contender, count: usize) -> Result<Vec<Client>> {
    let mut held = Vec::with_capacity(count);
    for number in 0..u64::try_from(count)? {
        let mut client = Client::connect(contender, number)?;
        client.settle(format!("SUB bench.idle.{number} 1\r\n").as_bytes())?;
        held.push(client);
    }
    Ok(held)
}

pub(crate) fn frame(line: &str, size: usize) -> Vec<u8> {
    let mut frame = line.as_bytes().to_vec();
    frame.resize(frame.len().saturating_add(size), b'x');
    frame.extend_from_slice(b"\r\n");
    frame
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// How long anything may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes written at a time.
const BATCH: usize = 256 * 1024;

/// Bytes between publisher and subscriber; nats-server cuts a subscriber 64 MiB behind.
const WINDOW: usize = 8 * 1024 * 1024;

const QUESTION_EVERY: Duration = Duration::from_micros(1000);

const CONNECTORS: u64 = 4;
