//! Loads of many connections: a reconnect storm, equal publishers side by side, one message to many, and connections that
//! are all a little busy. One thread that waits for all of them, so that the generator stays cheap.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::contenders::Contender;
use super::load::frame;

/// How long anything may take before it counts as refused.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of a storm.
pub(crate) struct Storm {
    /// From the first connection to the last PONG.
    pub(crate) took: Duration,
    /// From connecting to PONG, of those that were served, in order.
    pub(crate) waits: Vec<Duration>,
    /// From saying CONNECT to PONG, likewise.
    pub(crate) connects: Vec<Duration>,
    pub(crate) refused: usize,
}

/// `count` clients that come at once and stay.
pub(crate) fn storm(contender: &Contender, count: usize) -> Result<Storm> {
    runtime()?.block_on(async {
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for number in 0..u64::try_from(count)? {
            let (address, hello) = (contender.address, hello(contender));
            clients.spawn(async move {
                let from = Instant::now();
                let client = timeout(PATIENCE, Client::connect(address, number, &hello)).await;
                match client {
                    Ok(Ok(client)) => Some((client, from.elapsed())),
                    Ok(Err(_)) | Err(_) => None,
                }
            });
        }
        let done = clients.join_all().await;
        let took = begun.elapsed();
        let mut waits: Vec<_> = done.iter().flatten().map(|(_, wait)| *wait).collect();
        waits.sort_unstable();
        let mut connects: Vec<_> = done
            .iter()
            .flatten()
            .map(|(client, _)| client.admitted_after)
            .collect();
        connects.sort_unstable();
        let refused = count.saturating_sub(waits.len());
        Ok(Storm {
            took,
            waits,
            connects,
            refused,
        })
    })
}

/// Sessions that are held.
pub(crate) struct Held {
    runtime: tokio::runtime::Runtime,
    clients: Vec<Client>,
}

impl Held {
    pub(crate) fn none() -> Result<Self> {
        Ok(Self {
            runtime: runtime()?,
            clients: Vec::new(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Opens more until there are `count`, a few at a time, each with one subscription.
    pub(crate) fn grow(&mut self, contender: &Contender, count: usize) -> Result<()> {
        while self.clients.len() < count {
            let first = u64::try_from(self.clients.len())?;
            let more = count.saturating_sub(self.clients.len()).min(AT_ONCE);
            let (address, hello) = (contender.address, hello(contender));
            let opened = self.runtime.block_on(async {
                let mut clients = JoinSet::new();
                for number in (first..).take(more) {
                    let hello = hello.clone();
                    clients.spawn(async move {
                        let mut client = Client::connect(address, number, &hello).await?;
                        client
                            .settle(&format!("SUB bench.idle.{number} 1\r\n"))
                            .await?;
                        anyhow::Ok(client)
                    });
                }
                clients.join_all().await
            });
            for client in opened {
                self.clients.push(client?);
            }
        }
        Ok(())
    }

    /// Gives each session so many subscriptions more.
    pub(crate) fn subscribe(&mut self, each: usize) -> Result<()> {
        self.runtime.block_on(async {
            for (number, client) in self.clients.iter_mut().enumerate() {
                let lines: String = (0..each)
                    .map(|n| format!("SUB bench.s{number:03}x{n:06} {}\r\n", n.saturating_add(2)))
                    .collect();
                client.settle(&lines).await?;
            }
            Ok(())
        })
    }
}

/// Sessions that are opened at once.
const AT_ONCE: usize = 64;

/// What connections that publish at once came to.
pub(crate) struct Publishers {
    pub(crate) messages: u64,
    pub(crate) took: Duration,
    /// Rate of the slowest over that of the fastest.
    pub(crate) fairness: f64,
}

/// `count` equal publishers at full speed, each with one batch under way, and nobody who listens. `look` is
/// called when all of them run, before and after `time`.
pub(crate) fn publishers<T>(
    contender: &Contender,
    count: usize,
    time: Duration,
    mut look: impl FnMut() -> T,
) -> Result<(Publishers, T, T)> {
    runtime()?.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        let counts: Vec<_> = (0..count).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let mut tasks = JoinSet::new();
        // All of them first: those that are busy already would keep the others out for long.
        let mut clients = Vec::with_capacity(count);
        for number in 0..u64::try_from(count)? {
            let client = Client::connect(contender.address, number, &hello(contender)).await?;
            clients.push(client);
        }
        for (number, (sent, mut client)) in counts.iter().zip(clients).enumerate() {
            let (sent, stop) = (Arc::clone(sent), Arc::clone(&stop));
            let line = format!("PUB bench.p{number} {SIZE}\r\n");
            let mut batch = frame(&line, SIZE).repeat(BATCH);
            batch.extend_from_slice(b"PING\r\n");
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    client.stream.write_all(&batch).await?;
                    client.pong().await?;
                    sent.fetch_add(u64::try_from(BATCH)?, Ordering::Relaxed);
                }
                anyhow::Ok(())
            });
        }
        tokio::time::sleep(time / 4).await;
        let read = || {
            counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect::<Vec<_>>()
        };
        let (before, first, begun) = (read(), look(), Instant::now());
        tokio::time::sleep(time).await;
        let (after, second, took) = (read(), look(), begun.elapsed());
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        let passed: Vec<_> = after
            .iter()
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before))
            .collect();
        let (least, most) = (passed.iter().min(), passed.iter().max());
        let ends = least.zip(most).context("no publisher")?;
        let publishers = Publishers {
            messages: passed.iter().sum(),
            took,
            fairness: share(*ends.0, *ends.1),
        };
        Ok((publishers, first, second))
    })
}

/// One publisher and `count` subscribers of its subject. Deliveries in `time`, and what `look` saw before and after.
pub(crate) fn fan_out<T>(
    contender: &Contender,
    count: usize,
    time: Duration,
    mut look: impl FnMut() -> T,
) -> Result<(u64, Duration, T, T)> {
    runtime()?.block_on(async {
        let stop = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        let subject = "bench.stream";
        let each = u64::try_from(frame(&format!("MSG {subject} 1 {SIZE}\r\n"), SIZE).len())?;
        for number in 0..u64::try_from(count)? {
            let mut client = Client::connect(contender.address, number, &hello(contender)).await?;
            let subscribe = format!("SUB {} 1\r\nPING\r\n", contender.subscription);
            client.stream.write_all(subscribe.as_bytes()).await?;
            client.pong().await?;
            let (received, stop) = (Arc::clone(&received), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while !stop.load(Ordering::Relaxed) {
                    let read = timeout(TICK, client.stream.read(&mut buffer));
                    let Ok(read) = read.await else { continue };
                    let bytes = u64::try_from(read?)?;
                    if bytes == 0 {
                        bail!("closed while messages flowed");
                    }
                    received.fetch_add(bytes, Ordering::Relaxed);
                }
                anyhow::Ok(())
            });
        }
        let mut client = Client::connect(contender.address, 99_999, &hello(contender)).await?;
        let (total, ended) = (Arc::clone(&received), Arc::clone(&stop));
        let fan = u64::try_from(count)?;
        tasks.spawn(async move {
            let batch = frame(&format!("PUB {subject} {SIZE}\r\n"), SIZE).repeat(BATCH);
            let mut sent = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                // A few batches ahead of the average subscriber.
                let came = total.load(Ordering::Relaxed) / each.saturating_mul(fan).max(1);
                if sent.saturating_sub(came) > u64::try_from(BATCH)?.saturating_mul(4) {
                    tokio::time::sleep(Duration::from_micros(200)).await;
                    continue;
                }
                client.stream.write_all(&batch).await?;
                sent = sent.saturating_add(u64::try_from(BATCH)?);
            }
            anyhow::Ok(())
        });
        tokio::time::sleep(time / 4).await;
        let (before, first, begun) = (received.load(Ordering::Relaxed), look(), Instant::now());
        tokio::time::sleep(time).await;
        let (after, second, took) = (received.load(Ordering::Relaxed), look(), begun.elapsed());
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok((after.saturating_sub(before) / each, took, first, second))
    })
}

struct Client {
    stream: TcpStream,
    /// The end of what was read, where a PONG may have been cut.
    tail: Vec<u8>,
    /// From saying CONNECT to PONG.
    admitted_after: Duration,
}

impl Client {
    /// Connects from an address of 127/8, says CONNECT and PING, and waits for PONG.
    async fn connect(address: SocketAddr, number: u64, hello: &[u8]) -> Result<Self> {
        let [.., c, d] = number.to_be_bytes();
        let socket = TcpSocket::new_v4()?;
        // One address has 28,000 ports, and closed connections keep theirs for a minute.
        let source = Ipv4Addr::new(127, 1, c, d.max(1));
        socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            tail: Vec::new(),
            admitted_after: Duration::ZERO,
        };
        client.until(b"\r\n").await.context("waiting for INFO")?;
        let asked = Instant::now();
        client.stream.write_all(hello).await?;
        client.pong().await.context("waiting for PONG")?;
        client.admitted_after = asked.elapsed();
        Ok(client)
    }

    /// Says something and waits until the server has processed it.
    async fn settle(&mut self, lines: &str) -> Result<()> {
        let asked = format!("{lines}PING\r\n");
        self.stream.write_all(asked.as_bytes()).await?;
        self.pong().await?;
        self.tail = Vec::new();
        Ok(())
    }

    async fn pong(&mut self) -> Result<()> {
        self.until(b"PONG\r\n").await
    }

    async fn until(&mut self, wanted: &[u8]) -> Result<()> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.tail, wanted) {
                self.tail.drain(..at.saturating_add(wanted.len()));
                return Ok(());
            }
            if self.tail.starts_with(b"-ERR") {
                bail!("{}", String::from_utf8_lossy(&self.tail));
            }
            self.tail.reserve(4096);
            if self.stream.read_buf(&mut self.tail).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

fn hello(contender: &Contender) -> Vec<u8> {
    format!("CONNECT {}\r\nPING\r\n", contender.connect).into_bytes()
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn share(least: u64, most: u64) -> f64 {
    least as f64 / most.max(1) as f64
}

/// Bytes of payload.
const SIZE: usize = 128;

/// Messages that a publisher sends before it waits for the answer to a PING.
const BATCH: usize = 64;

const TICK: Duration = Duration::from_millis(100);
