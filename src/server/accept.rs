//! The accept loop: a connection without a slot is closed at once, errors are waited out with a bounded backoff, and every
//! connection runs as a task that the drain can wait for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::slots::Slot;
use super::{Shared, task};
use crate::metrics::SlotLimit;

/// First pause after an error of `accept`, doubled on each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(5);

/// Longest pause. Running out of file descriptors ends by itself when sessions end.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How long a connection that has to go may take to be gone.
const EVICTION: Duration = Duration::from_millis(50);

/// Connections accepted before others get their turn. Each of a thousand that come at once has more to do than its accept,
/// and a session whose message comes then would wait for all of them.
const AT_ONCE: u32 = 8;

/// Connections accepted before a pause while each drives another one out.
const AT_ONCE_CROWDED: u32 = 6;

/// That pause; with the granularity of timers it is 1 to 2 ms. Strangers who come back as fast as they are thrown out get
/// some 3,000 connections a second, which is a third of a core, and not all cores: sessions, and the server on the same
/// machine, have the rest. Who comes meanwhile waits in the listener's queue: usual kernels hold 4,096 there
/// (`net.core.somaxconn`), so that a client's two seconds suffice.
const PAUSE_CROWDED: Duration = Duration::from_millis(1);

/// Accepts until `stop`.
pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) {
    let mut backoff = BACKOFF_MIN;
    let mut at_once = 0_u32;
    // What each connection would be asked for otherwise.
    let address = listener.local_addr().ok();
    let address = address.filter(|address| !address.ip().is_unspecified());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                backoff = BACKOFF_MIN;
                shared.metrics.connection_accepted();
                let Some(slot) = slot(&shared).await else {
                    // Without a word: official clients back off and come back, here or elsewhere.
                    shared.metrics.connection_rejected(SlotLimit::Total);
                    continue;
                };
                let tasks = shared.tasks.clone();
                tasks.spawn(task::serve(Arc::clone(&shared), tcp, (peer, address), slot));
                at_once = at_once.wrapping_add(1);
                give_way(&shared, at_once).await;
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, pause_ms = backoff.as_millis(), "accept failed; pausing");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(backoff) => {}
                }
                backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Lets others have their turn after so many connections.
async fn give_way(shared: &Shared, accepted: u32) {
    let crowded = shared.handshakes.is_full();
    if crowded && accepted.is_multiple_of(AT_ONCE_CROWDED) {
        tokio::time::sleep(PAUSE_CROWDED).await;
    } else if crowded || accepted.is_multiple_of(AT_ONCE) {
        tokio::task::yield_now().await;
    }
}

/// A slot for a new connection. Whoever has not said CONNECT yet does not keep one out.
async fn slot(shared: &Shared) -> Option<Slot> {
    if let Some(slot) = shared.slots.take() {
        return Some(slot);
    }
    if !shared.handshakes.evict() {
        return None;
    }
    shared.slots.take_within(EVICTION).await
}

/// Errors that say something of the connection that was to be accepted, not of the listener (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}
