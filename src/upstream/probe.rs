//! The watch over one server: a full connect with our own credentials now and then, more often while it is down. It
//! keeps health, addresses and the INFO template fresh when no client comes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::dial::{Dial, Dialled, Purpose};
use super::failover::Upstream;
use super::servers::Server;
use super::transport::resolve;

/// Looks after `server` until `stop`, or until the upstream is gone.
pub(super) async fn watch(upstream: Weak<Upstream>, server: Arc<Server>, stop: CancellationToken) {
    // At once, whatever an older set of upstreams knew.
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // A dial that failed shortens the wait.
            () = server.wake.notified(), if !wait.is_zero() => {
                wait = server.next_probe(Instant::now());
                continue;
            }
            () = sleep(wait) => {}
        }
        let Some(upstream) = upstream.upgrade() else {
            return;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = probe(&upstream, &server) => {}
        }
        wait = server.next_probe(Instant::now()).max(SHORTEST_WAIT);
    }
}

async fn probe(upstream: &Upstream, server: &Server) {
    // Fresh addresses, unless the resolver is in trouble: then those we have. Without any, the dial asks.
    if !server.addresses.load().is_empty() {
        drop(timeout(RESOLVE_LIMIT, resolve(server)).await);
    }
    let dial = Dial {
        config: &upstream.config,
        credentials: &upstream.credentials,
        server,
        purpose: Purpose::Probe,
        deadline: Instant::now() + upstream.config.dial_timeout,
        connect_limit: CONNECT_LIMIT,
    };
    match dial.run().await {
        Ok(Dialled {
            mut link,
            round_trip,
        }) => {
            server.measured(round_trip);
            // Before the report: whoever sees the upstream ready finds a template.
            upstream.template.probed(&link.info);
            upstream.succeeded(server, &link.info);
            // A goodbye, so that a TLS server does not log a broken connection.
            drop(timeout(GOODBYE, link.stream.shutdown()).await);
        }
        Err(error) => upstream.failed(server, &error),
    }
}

/// Between two probes, whatever happens.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);

/// A lost SYN is repeated after a second: a server that is back answers that one, or the next probe's.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

const RESOLVE_LIMIT: Duration = Duration::from_secs(1);

const GOODBYE: Duration = Duration::from_millis(500);
