//! Loads of many connections: equal publishers side by side, and one message to many.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::frame;
use super::contenders::Contender;
use super::crowd::{Client, Target, runtime};

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
        let target = Target::of(contender);
        // All of them first: those that are busy already would keep the others out for long.
        let mut clients = Vec::with_capacity(count);
        for number in 0..u64::try_from(count)? {
            clients.push(Client::connect(&target, number).await?);
        }
        for (number, (sent, mut client)) in counts.iter().zip(clients).enumerate() {
            let (sent, stop) = (Arc::clone(sent), Arc::clone(&stop));
            let line = format!("PUB bench.p{number} {SIZE}\r\n");
            let mut batch = frame(&line, SIZE).repeat(BATCH);
            batch.extend_from_slice(b"PING\r\n");
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    client.say(&batch).await?;
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
        let target = Target::of(contender);
        let each = u64::try_from(frame(&format!("MSG {subject} 1 {SIZE}\r\n"), SIZE).len())?;
        for number in 0..u64::try_from(count)? {
            let mut client = Client::connect(&target, number).await?;
            client
                .settle(&format!("SUB {} 1\r\n", contender.subscription))
                .await?;
            let (received, stop) = (Arc::clone(&received), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while !stop.load(Ordering::Relaxed) {
                    let read = timeout(TICK, client.read(&mut buffer));
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
        let mut client = Client::connect(&target, 99_999).await?;
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
                client.say(&batch).await?;
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

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn share(least: u64, most: u64) -> f64 {
    least as f64 / most.max(1) as f64
}

/// Bytes of payload.
const SIZE: usize = 128;

/// Messages that a publisher sends before it waits for the answer to a PING.
const BATCH: usize = 64;

const TICK: Duration = Duration::from_millis(25);
