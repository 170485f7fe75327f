//! Connections that come and go, and such that stay and do nothing.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::client::Client;
use super::contenders::Contender;

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

const CONNECTORS: u64 = 4;
