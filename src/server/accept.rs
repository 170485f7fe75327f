//! The accept loop: a slot is taken before a connection is, errors are waited out with a bounded backoff, and every
//! connection runs as a task that the drain can wait for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Shared, connection};

/// First pause after an error of `accept`, doubled on each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(5);

/// Longest pause. Running out of file descriptors ends by itself when sessions end.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Accepts until `stop`.
pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let permit = tokio::select! {
            () = stop.cancelled() => return,
            permit = shared.slots.free() => permit,
        };
        let Some(permit) = permit else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                backoff = BACKOFF_MIN;
                shared.metrics.connection_accepted();
                let slot = shared.slots.occupy(permit);
                let tasks = shared.tasks.clone();
                tasks.spawn(connection::serve(Arc::clone(&shared), tcp, peer, slot));
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

/// Errors that say something of the connection that was to be accepted, not of the listener (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}
