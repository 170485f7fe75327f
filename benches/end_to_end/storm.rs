//! A reconnect storm: clients that all come at once.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::contenders::Contender;
use super::crowd::{Client, hello, runtime};

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
