//! The servers of one upstream: who is up, who is tried next, when one that failed is tried again. Opens no
//! connection and resolves no name; time is an argument.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::config::ServerUrl;
use super::early::LastGreeting;
use super::error::DialError;
use super::greeting::LastInfo;
use crate::time::Timestamp;

/// Whether a server can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Not tried yet.
    Unknown,
    /// The last dial or probe went through.
    Up,
    /// The last dial or probe failed.
    Down,
    /// It said that it is about to stop.
    LameDuck,
}

impl ServerState {
    /// Word for metrics and status pages.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
            Self::LameDuck => "lame_duck",
        }
    }
}

/// One server as an operator sees it.
#[derive(Clone, Debug)]
pub struct ServerStatus {
    /// Its address as configured.
    pub server: Arc<str>,
    /// Whether it can be used.
    pub state: ServerState,
    /// Since when.
    pub since: Timestamp,
    /// The last failure, kept after recovery.
    pub last_error: Option<Arc<str>>,
    /// Its version, from INFO.
    pub version: Option<Arc<str>>,
    /// Time of one PING and PONG when last probed.
    pub round_trip: Option<Duration>,
}

/// How a server begins TLS, as learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Unknown,
    InfoFirst,
    HandshakeFirst,
}

/// One server.
pub(super) struct Server {
    pub(super) url: ServerUrl,
    pub(super) label: Arc<str>,
    /// As last resolved; empty before the first time.
    pub(super) addresses: ArcSwap<Vec<SocketAddr>>,
    /// Rung when the prober should look at `next_probe` again.
    pub(super) wake: Notify,
    /// How it greeted last, in clear.
    pub(super) greeting: LastGreeting,
    /// The INFO it began with last.
    pub(super) last_info: LastInfo,
    /// The INFO it answered CONNECT and PING with last.
    pub(super) last_answer: LastInfo,
    style: AtomicU8,
    trial: AtomicBool,
    /// A live link to it broke: it is to be probed at once.
    suspected: AtomicBool,
    /// Another one begins when links dialled ahead are not to be used any more.
    era: AtomicU64,
    /// Links dialled ahead that wait or are under way.
    ahead: AtomicUsize,
    health: Mutex<Health>,
}

struct Health {
    state: ServerState,
    since: Timestamp,
    failures: u32,
    retry_at: Instant,
    /// Only a person can mend it: no client is made to wait for another try.
    hopeless: bool,
    /// Kind of the last failure.
    reason: &'static str,
    last_error: Option<Arc<str>>,
    version: Option<Arc<str>>,
    round_trip: Option<Duration>,
}

/// What changed by a report, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    WentUp,
    /// Or down for another reason than before.
    WentDown,
}

/// Leave to try one server. A server that is down is tried by one dial at a time.
pub(super) struct Turn {
    pub(super) server: Arc<Server>,
    trial: bool,
}

/// The servers of one upstream, in the order of the configuration.
pub(super) struct Servers {
    all: Vec<Arc<Server>>,
    cursor: AtomicUsize,
    /// Rung when a server came back.
    pub(super) recovered: Notify,
}

impl Servers {
    pub(super) fn new(urls: &[ServerUrl], now: Timestamp) -> Self {
        let all = urls
            .iter()
            .map(|url| Arc::new(Server::new(url.clone(), now)))
            .collect();
        Self {
            all,
            cursor: AtomicUsize::new(0),
            recovered: Notify::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.all.iter()
    }

    /// The servers to try, best first: those that are up or untried, in turn; then those whose pause is over; then, so
    /// that a client need not wait out a pause when nobody else is left, the rest, unless only a person can help.
    pub(super) fn order(&self, now: Instant) -> Vec<Arc<Server>> {
        let start = self.cursor.fetch_add(1, Ordering::Relaxed);
        let count = self.all.len().max(1);
        let mut ranked: Vec<_> = (0..self.all.len())
            .filter_map(|step| self.all.get(start.wrapping_add(step) % count))
            .filter_map(|server| Some((server.rank(now)?, Arc::clone(server))))
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, server)| server).collect()
    }

    /// The failure to show when there is nobody to try.
    pub(super) fn last_error(&self) -> Option<Arc<str>> {
        self.all
            .iter()
            .find_map(|server| server.health().last_error.clone())
    }
}

impl Server {
    fn new(url: ServerUrl, now: Timestamp) -> Self {
        let addresses = url.ip().map(|ip| SocketAddr::new(ip, url.port));
        Self {
            label: url.to_string().into(),
            addresses: ArcSwap::from_pointee(addresses.into_iter().collect()),
            url,
            wake: Notify::new(),
            suspected: AtomicBool::new(false),
            era: AtomicU64::new(0),
            ahead: AtomicUsize::new(0),
            greeting: LastGreeting::default(),
            last_info: LastInfo::default(),
            last_answer: LastInfo::default(),
            style: AtomicU8::new(0),
            trial: AtomicBool::new(false),
            health: Mutex::new(Health {
                state: ServerState::Unknown,
                since: now,
                failures: 0,
                retry_at: Instant::now(),
                hopeless: false,
                reason: "",
                last_error: None,
                version: None,
                round_trip: None,
            }),
        }
    }

    /// Leave to try this server now; none while another dial finds out whether it is back.
    pub(super) fn turn(self: &Arc<Self>) -> Option<Turn> {
        let trial = matches!(
            self.health().state,
            ServerState::Down | ServerState::LameDuck
        );
        if trial && self.trial.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(Turn {
            server: Arc::clone(self),
            trial,
        })
    }

    /// Goes on where the same server of an older set was: a reload is no reason to be unready.
    pub(super) fn inherit(&self, before: &Self) {
        self.addresses.store(before.addresses.load_full());
        self.learn_style(before.style());
        let before = before.health();
        let mut health = self.health();
        health.state = before.state;
        health.since = before.since;
        health.last_error.clone_from(&before.last_error);
        health.version.clone_from(&before.version);
        health.round_trip = before.round_trip;
    }

    /// It took a connection.
    pub(super) fn succeeded(&self, version: &str, now: Timestamp) -> Change {
        let mut health = self.health();
        health.failures = 0;
        health.hopeless = false;
        health.reason = "";
        if health.version.as_deref() != Some(version) {
            health.version = Some(version.into());
        }
        health.enter(ServerState::Up, now)
    }

    /// How long a PING took.
    pub(super) fn measured(&self, round_trip: Duration) {
        self.health().round_trip = Some(round_trip);
    }

    /// It did not take a connection. The next try is after a pause that grows with each failure.
    pub(super) fn failed(&self, error: &DialError, at: Instant, now: Timestamp) -> Change {
        let mut health = self.health();
        health.last_error = Some(error.to_string().into());
        health.hopeless = error.needs_a_person();
        let another = std::mem::replace(&mut health.reason, error.label()) != error.label();
        // Dials that were under way together fail together: that is one failure.
        if health.state != ServerState::Down || at >= health.retry_at {
            health.failures = health.failures.saturating_add(1);
            health.retry_at = at + pause(health.failures, health.hopeless);
        }
        let state = match error {
            DialError::LameDuck { .. } => ServerState::LameDuck,
            _ => ServerState::Down,
        };
        let change = health.enter(state, now);
        drop(health);
        self.wake.notify_one();
        if another { Change::WentDown } else { change }
    }

    /// A live link to it broke. Many links that break together cause one probe.
    pub(super) fn suspect(&self) {
        self.suspected.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_up(&self) -> bool {
        self.health().state == ServerState::Up
    }

    pub(super) fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    pub(super) fn begin_era(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn held_ahead(&self) -> usize {
        self.ahead.load(Ordering::Acquire)
    }

    pub(super) fn hold_ahead(&self) {
        self.ahead.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn release_ahead(&self) {
        self.ahead.fetch_sub(1, Ordering::AcqRel);
    }

    /// When the prober looks at it next: soon while it is not up.
    pub(super) fn next_probe(&self, at: Instant) -> Duration {
        if self.suspected.swap(false, Ordering::AcqRel) {
            return Duration::ZERO;
        }
        let health = self.health();
        match health.state {
            ServerState::Unknown => Duration::ZERO,
            ServerState::Up => PROBE_INTERVAL,
            ServerState::Down | ServerState::LameDuck => {
                health.retry_at.saturating_duration_since(at)
            }
        }
    }

    pub(super) fn status(&self) -> ServerStatus {
        let health = self.health();
        ServerStatus {
            server: Arc::clone(&self.label),
            state: health.state,
            since: health.since,
            last_error: health.last_error.clone(),
            version: health.version.clone(),
            round_trip: health.round_trip,
        }
    }

    pub(super) fn style(&self) -> Style {
        match self.style.load(Ordering::Relaxed) {
            1 => Style::InfoFirst,
            2 => Style::HandshakeFirst,
            _ => Style::Unknown,
        }
    }

    pub(super) fn learn_style(&self, style: Style) {
        let code = match style {
            Style::Unknown => 0,
            Style::InfoFirst => 1,
            Style::HandshakeFirst => 2,
        };
        self.style.store(code, Ordering::Relaxed);
    }

    fn rank(&self, now: Instant) -> Option<u8> {
        let health = self.health();
        match health.state {
            ServerState::Up => Some(0),
            ServerState::Unknown => Some(1),
            ServerState::Down if health.retry_at <= now => Some(2),
            ServerState::Down if health.hopeless => None,
            ServerState::Down => Some(3),
            ServerState::LameDuck => Some(4),
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    fn enter(&mut self, state: ServerState, now: Timestamp) -> Change {
        if self.state == state {
            return Change::None;
        }
        self.state = state;
        self.since = now;
        if state == ServerState::Up {
            Change::WentUp
        } else {
            Change::WentDown
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.trial {
            self.server.trial.store(false, Ordering::Release);
        }
    }
}

/// Doubles from [`FIRST_PAUSE`] up to a ceiling, give or take a fifth, so that many proxies do not knock together.
fn pause(failures: u32, hopeless: bool) -> Duration {
    let ceiling = if hopeless {
        HOPELESS_PAUSE
    } else {
        LONGEST_PAUSE
    };
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let jitter = RandomState::new().build_hasher().finish() % 41;
    doubled
        .min(ceiling)
        .saturating_mul(80 + u32::try_from(jitter).unwrap_or(0))
        / 100
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// With [`super::probe`]'s limit on a TCP connection of one second, a server that is back is found within two.
const LONGEST_PAUSE: Duration = Duration::from_millis(700);

/// For what only a person can mend: a server writes a line in its log at every wrong password.
const HOPELESS_PAUSE: Duration = Duration::from_secs(5);

/// A server that is up is looked at this often.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
