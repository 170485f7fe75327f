//! Links dialled ahead: while many sessions come, a few connections wait on which the server's INFO was read and nothing
//! was said. Only a session that got its link causes the next one to be dialled, and whoever takes one says CONNECT on it
//! as on a link of its own: an [`Opened`] is said to once, by value. Record 0022 says why, and what bounds it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::UpstreamConfig;
use super::dial::{Dial, Purpose};
use super::failover::Upstream;
use super::pace::Pace;
use super::servers::Server;
use super::transport::Opened;

/// The links of one upstream that wait for a session.
pub(super) struct Ahead {
    state: Mutex<State>,
    /// Links that wait or are under way.
    held: Arc<AtomicUsize>,
    /// As many of them may be of one server.
    share: usize,
    totals: Arc<Totals>,
    closed: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Default)]
struct State {
    /// The oldest first.
    waiting: VecDeque<Waiting>,
    pace: Pace,
    /// One failed: none is dialled until then.
    paused_until: Option<Instant>,
    /// A task looks after those that wait.
    swept: bool,
}

struct Waiting {
    opened: Opened,
    since: Instant,
    place: Place,
}

/// Room for one link of a server, from before it is dialled until it is taken or closed.
pub(super) struct Place {
    server: Arc<Server>,
    era: u64,
    addresses: Arc<Vec<SocketAddr>>,
    held: Arc<AtomicUsize>,
}

/// What became of links, over all reloads.
#[derive(Default)]
pub(super) struct Totals {
    taken: AtomicU64,
    expired: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// Links dialled ahead, as an operator sees them. The totals are since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AheadFigures {
    /// Links that wait for a session now.
    pub waiting: usize,
    /// Links that a session was bound to.
    pub taken: u64,
    /// Links closed because nobody came for them.
    pub expired: u64,
    /// Links that could not be dialled, or had ended before a session was bound to them.
    pub failed: u64,
    /// Links closed with the configuration they were dialled by, by a failure of their server or by a drain.
    pub dropped: u64,
}

impl Ahead {
    /// An empty pool, closed with `stop`.
    pub(super) fn new(
        config: &UpstreamConfig,
        totals: Arc<Totals>,
        tasks: TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        // A PROXY header names the client, and comes before everything else.
        let share = match config.proxy_protocol {
            true => 0,
            false => (LINKS_AHEAD / config.servers.len().max(1)).max(1),
        };
        Self {
            state: Mutex::default(),
            held: Arc::default(),
            share,
            totals,
            closed: stop.child_token(),
            tasks,
        }
    }

    /// A link to `server` on which it waits for our first word. Those that ended meanwhile are closed.
    pub(super) fn take(&self, server: &Server, now: Instant) -> Option<Opened> {
        // Each is looked at once, however many come in meanwhile.
        for _ in 0..LINKS_AHEAD {
            let mut state = self.state();
            let is_of = |waiting: &Waiting| std::ptr::eq(&*waiting.place.server, server);
            let at = state.waiting.iter().position(is_of)?;
            let mut found = state.waiting.remove(at)?;
            drop(state);
            if found.is_over(now) {
                count(&self.totals.expired);
            } else if !found.place.is_valid() {
                count(&self.totals.dropped);
            } else if !found.opened.stream.is_quiet() {
                self.failed(now);
            } else {
                return Some(found.opened);
            }
        }
        None
    }

    /// A session was bound to a link that had waited.
    pub(super) fn taken(&self) {
        count(&self.totals.taken);
    }

    /// A link could not be dialled, or ended before a session was bound to it: none is dialled for a while.
    pub(super) fn failed(&self, now: Instant) {
        count(&self.totals.failed);
        self.state().paused_until = Some(now + PAUSE);
    }

    /// A session was bound to a link of `server`. Gives places for links that are to be dialled now: none while few come.
    pub(super) fn places(&self, server: &Arc<Server>, now: Instant) -> Vec<Place> {
        if self.share == 0 {
            return Vec::new();
        }
        let mut state = self.state();
        let paused = state.paused_until.is_some_and(|until| now < until);
        if !state.pace.note(now) || paused || self.closed.is_cancelled() || !server.is_up() {
            return Vec::new();
        }
        let of_all = LINKS_AHEAD.saturating_sub(self.held.load(Ordering::Acquire));
        let of_server = self.share.saturating_sub(server.held_ahead());
        (0..of_all.min(of_server))
            .map(|_| Place::new(server, &self.held))
            .collect()
    }

    /// Closes the links of a server that failed, is in doubt or about to stop, those under way as well.
    pub(super) fn let_go(&self, server: &Server) {
        server.begin_era();
        self.close_those(|waiting| std::ptr::eq(&*waiting.place.server, server));
    }

    /// Closes all links, those under way as well. There are none any more afterwards.
    pub(super) fn close(&self) {
        self.closed.cancel();
        self.close_those(|_| true);
    }

    pub(super) fn figures(&self) -> AheadFigures {
        let total = |total: &AtomicU64| total.load(Ordering::Relaxed);
        AheadFigures {
            waiting: self.state().waiting.len(),
            taken: total(&self.totals.taken),
            expired: total(&self.totals.expired),
            failed: total(&self.totals.failed),
            dropped: total(&self.totals.dropped),
        }
    }

    /// What [`Ahead::new`] of the next configuration goes on counting.
    pub(super) fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }

    /// Dials in the background, one link for each place.
    pub(super) fn dial(upstream: &Arc<Upstream>, places: Vec<Place>) {
        for place in places {
            let ahead = &upstream.ahead;
            ahead.tasks.spawn(fetch(Arc::clone(upstream), place));
        }
    }

    fn keep(self: &Arc<Self>, opened: Opened, place: Place) {
        let mut state = self.state();
        // Looked at under the lock: whoever closes comes after us and finds it, or was here before.
        if self.closed.is_cancelled() || !place.is_valid() {
            drop(state);
            return count(&self.totals.dropped);
        }
        state.waiting.push_back(Waiting {
            opened,
            since: Instant::now(),
            place,
        });
        if !std::mem::replace(&mut state.swept, true) {
            self.tasks.spawn(Arc::clone(self).sweep());
        }
    }

    /// Closes links that nobody came for, as long as any wait.
    async fn sweep(self: Arc<Self>) {
        while let Some(next) = self.expire(Instant::now()) {
            let slept = self.closed.run_until_cancelled(sleep_until(next)).await;
            if slept.is_none() {
                return;
            }
        }
    }

    /// When the next one is due.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        while state
            .waiting
            .front()
            .is_some_and(|first| first.is_over(now))
        {
            state.waiting.pop_front();
            count(&self.totals.expired);
        }
        let next = state.waiting.front().map(|first| first.since + KEEP);
        state.swept = next.is_some();
        next
    }

    fn close_those(&self, gone: impl Fn(&Waiting) -> bool) {
        self.state().waiting.retain(|waiting| {
            let gone = gone(waiting);
            if gone {
                count(&self.totals.dropped);
            }
            !gone
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dials one link. What goes wrong is told by the session that dials for itself.
async fn fetch(upstream: Arc<Upstream>, place: Place) {
    let ahead = &upstream.ahead;
    let dial = Dial {
        config: &upstream.config,
        credentials: &upstream.credentials,
        server: &place.server,
        purpose: Purpose::Ahead,
        deadline: Instant::now() + DIAL_LIMIT,
        connect_limit: DIAL_LIMIT,
    };
    // What is handed on by value would be there twice.
    let opened = ahead.closed.run_until_cancelled(pin!(dial.ahead())).await;
    match opened {
        Some(Ok(opened)) => ahead.keep(opened, place),
        Some(Err(error)) => {
            ahead.failed(Instant::now());
            tracing::debug!(upstream = &*upstream.config.name, %error, "no link dialled ahead");
        }
        None => count(&ahead.totals.dropped),
    }
}

impl Waiting {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= KEEP
    }
}

impl Place {
    fn new(server: &Arc<Server>, held: &Arc<AtomicUsize>) -> Self {
        held.fetch_add(1, Ordering::AcqRel);
        server.hold_ahead();
        Self {
            era: server.era(),
            addresses: server.addresses.load_full(),
            server: Arc::clone(server),
            held: Arc::clone(held),
        }
    }

    /// Whether a dial of now would go the same way.
    fn is_valid(&self) -> bool {
        self.era == self.server.era()
            && self.server.is_up()
            && *self.addresses == **self.server.addresses.load()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::AcqRel);
        self.server.release_ahead();
    }
}

fn count(total: &AtomicU64) {
    total.fetch_add(1, Ordering::Relaxed);
}

/// Links of one upstream that wait or are under way.
pub const LINKS_AHEAD: usize = 8;

/// How long one waits. With [`DIAL_LIMIT`] it is over before a server would cut it: nats-server waits 2 s for CONNECT
/// (`auth_timeout`), or 1 s before 2.2.
const KEEP: Duration = Duration::from_millis(500);

const DIAL_LIMIT: Duration = Duration::from_millis(500);

/// After one failed. A server that is full or cuts links at once is not knocked at for nothing.
const PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use nkeys::KeyPair;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::config::Auth;
    use super::super::credentials::Credentials;
    use super::super::servers::Servers;
    use super::super::{ConnectOptions, DialError};
    use super::*;
    use crate::secret::Secret;
    use crate::time::Timestamp;

    /// A server that sends a nonce of its own on each connection, and gives what was said on the only one.
    async fn said(listener: TcpListener, nonce: &'static str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let info = format!("INFO {{\"version\":\"2.9.10\",\"nonce\":\"{nonce}\"}}\r\n");
        stream.write_all(info.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"PING\r\n") {
            assert_ne!(stream.read_buf(&mut said).await.unwrap(), 0);
        }
        stream.write_all(b"PONG\r\n").await.unwrap();
        String::from_utf8(said).unwrap()
    }

    #[tokio::test]
    async fn what_is_said_on_a_link_that_waited_signs_the_nonce_of_that_link() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let user = KeyPair::new_user();
        let auth = Auth::Nkey(Secret::new(user.seed().unwrap()));
        let config = UpstreamConfig::new("plant", vec![url.parse().unwrap()]);
        let credentials = Credentials::prepare(&auth, None).unwrap();
        let servers = Servers::new(&config.servers, Timestamp::default());
        let options = ConnectOptions::probe();
        let ahead = Dial {
            config: &config,
            credentials: &credentials,
            server: servers.iter().next().unwrap(),
            purpose: Purpose::Ahead,
            deadline: Instant::now() + Duration::from_secs(20),
            connect_limit: Duration::from_secs(20),
        };
        let said = async { said(listener, "n0nce").await };
        let dialled = async {
            let mut opened = ahead.ahead().await?;
            assert!(opened.stream.is_quiet());
            let session = Dial {
                purpose: Purpose::Session(&options),
                ..ahead
            };
            Ok::<_, DialError>(session.over(opened).await?.link)
        };
        let (said, link) = tokio::join!(said, dialled);
        drop(link.unwrap());
        let (_, sig) = said.split_once("\"sig\":\"").unwrap();
        let (sig, _) = sig.split_once('"').unwrap();
        assert_eq!(
            credentials.prove(Some("n0nce")).unwrap().sig.as_deref(),
            Some(sig)
        );
    }
}
