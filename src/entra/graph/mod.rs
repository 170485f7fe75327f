//! Membership of groups, from Microsoft Graph.
//!
//! ```text
//! Memberships -> cache      answers by tenant and object, bounded in number and age
//!             |-> flights   one lookup per principal at a time
//!             \-> client    checkMemberGroups in chunks of 20, with a token of our own
//! ```
//!
//! Must never: say "no groups" where it does not know, count an id that was not asked for, or send our token to another
//! host than Graph's.

mod cache;
mod client;
mod error;
mod permissions;

pub use error::GraphError;
pub use permissions::missing as missing_permissions;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::config::CredentialConfig;
use super::credential::{Credential, Tools};
use super::environment::Environment;
use super::error::CredentialError;
use super::flights::Flights;
use super::own_token::OwnToken;
use crate::clock;
use crate::identity::{Kind, is_guid};
use crate::time::Timestamp;
use cache::Cache;
use client::Client;

/// How Graph is asked and what is remembered.
#[derive(Clone, Debug)]
pub struct GraphSettings {
    /// Scheme and host of Graph, as `https://graph.microsoft.com`.
    pub host: Box<str>,
    /// Login host of the cloud.
    pub authority: Box<str>,
    /// Who asks.
    pub credential: CredentialConfig,
    /// Longest time of one lookup, waiting for its turn included.
    pub timeout: Duration,
    /// Lookups at a time.
    pub lookups: usize,
    /// So long an answer is good without asking again.
    pub fresh: Duration,
    /// So long it is remembered for times when Graph cannot be asked.
    pub stale: Duration,
    /// Principals remembered.
    pub entries: usize,
}

/// Whose groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Tenant.
    pub tid: Box<str>,
    /// Object id.
    pub oid: Box<str>,
    /// Person or service principal.
    pub kind: Kind,
}

/// An answer: which of the groups that were asked for somebody is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Groups that were asked for, sorted, in lower case.
    pub asked: Arc<[Box<str>]>,
    /// Those of them that the principal is in, directly or through other groups.
    pub member: Vec<Box<str>>,
    /// When Graph was asked.
    pub at: Timestamp,
}

impl Membership {
    /// Whether it is not older than `age`. One from ahead of the clock, which was set back, is of an age that nobody knows.
    fn is_within(&self, age: Duration, now: Timestamp) -> bool {
        self.at <= now && now < self.at.plus(age)
    }

    fn covers(&self, asked: &[Box<str>]) -> bool {
        asked.iter().all(|id| self.asked.binary_search(id).is_ok())
    }
}

/// Figures for status and metrics. Totals since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphFigures {
    /// Requests by how they ended: see [`RESULTS`].
    pub requests: [u64; 5],
    /// Lookups that an answer at hand was good enough for.
    pub hits: u64,
    /// Answers that were used although Graph could not be asked.
    pub stale: u64,
    /// Since the last good answer; none before the first.
    pub age: Option<Duration>,
    /// How long Graph is not asked, because it said so or does not answer.
    pub paused: Option<Duration>,
    /// What went wrong last, since the last success.
    pub error: Option<GraphError>,
}

/// How requests end, in the order of [`GraphFigures::requests`]: metric labels.
pub const RESULTS: [&str; 5] = ["ok", "denied", "throttled", "not_found", "failed"];

/// Failures in a row after which Graph is left alone for a moment, so that every connection does not wait for its end.
const FAILURES: u32 = 3;
const LEFT_ALONE: Duration = Duration::from_secs(2);
/// After 403: nothing changes before somebody gives consent.
const DENIED_FOR: Duration = Duration::from_secs(5);
/// Longest `Retry-After` that is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The service. Cloning shares it.
#[derive(Clone)]
pub struct Memberships(Arc<Inner>);

struct Inner {
    client: Client,
    settings: GraphSettings,
    cache: Mutex<Cache>,
    flights: Arc<Flights<FlightKey, Result<Arc<Membership>, GraphError>>>,
    turns: Semaphore,
    state: Mutex<State>,
    hits: AtomicU64,
    stale: AtomicU64,
}

/// Whose groups, and which are asked for: after a change of policy there are others.
type FlightKey = (Principal, Arc<[Box<str>]>);

#[derive(Default)]
struct State {
    /// Tenants whose Graph is not asked before this moment. Throttling is by application and tenant.
    paused: HashMap<Box<str>, (Instant, GraphError)>,
    failures: u32,
    last_ok: Option<Timestamp>,
    error: Option<GraphError>,
}

impl Memberships {
    /// Opens no connection.
    ///
    /// # Errors
    /// [`CredentialError`] as [`Credential::new`]; also when the host is not one that may be asked.
    pub fn new(
        settings: GraphSettings,
        environment: &Environment,
        tools: Tools,
    ) -> Result<Self, CredentialError> {
        let http = tools.http.clone();
        let flights = Flights::new(tools.tasks.clone(), tools.stop.clone());
        let credential = Credential::new(
            &settings.credential,
            &settings.authority,
            environment,
            tools,
        )?;
        let client = Client::new(&settings.host, credential, http)?;
        Ok(Self(Arc::new(Inner {
            client,
            cache: Mutex::new(Cache::new(settings.entries)),
            flights: Arc::new(flights),
            turns: Semaphore::new(settings.lookups),
            state: Mutex::default(),
            hits: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            settings,
        })))
    }

    /// Which of `asked` (sorted, lower case) the principal is in: from an answer that is fresh and covers them, or from
    /// Graph. A lookup goes on when its caller has gone.
    ///
    /// # Errors
    /// [`GraphError`]; never an empty answer in place of one.
    pub async fn of(
        &self,
        principal: &Principal,
        asked: &Arc<[Box<str>]>,
    ) -> Result<Arc<Membership>, GraphError> {
        if let Some(known) = self.known(principal, asked, self.0.settings.fresh) {
            self.0.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(known);
        }
        let inner = Arc::clone(&self.0);
        let key = (principal.clone(), Arc::clone(asked));
        let flight = self.0.flights.join(key.clone(), || async move {
            let (principal, asked) = key;
            inner.look_up(&principal, asked).await
        });
        let broken_off = || Err(GraphError::unavailable("the lookup was broken off"));
        flight.result().await.unwrap_or_else(broken_off)
    }

    /// The last answer, if it covers `asked` and is not older than [`GraphSettings::stale`]: for when Graph cannot be
    /// asked.
    pub fn remembered(
        &self,
        principal: &Principal,
        asked: &Arc<[Box<str>]>,
    ) -> Option<Arc<Membership>> {
        let known = self.known(principal, asked, self.0.settings.stale)?;
        self.0.stale.fetch_add(1, Ordering::Relaxed);
        Some(known)
    }

    fn known(
        &self,
        principal: &Principal,
        asked: &[Box<str>],
        age: Duration,
    ) -> Option<Arc<Membership>> {
        let known = lock(&self.0.cache).get(principal)?;
        (known.is_within(age, clock::now()) && known.covers(asked)).then_some(known)
    }

    /// Whether and as whom Graph may be asked for a tenant: gets a token and reads it.
    ///
    /// # Errors
    /// [`GraphError`] when there is no token.
    pub async fn introduce(&self, tid: &str) -> Result<Option<OwnToken>, GraphError> {
        let token = self.0.client.token(tid).await?;
        Ok(OwnToken::of(&token))
    }

    /// `managed identity`, `client secret` and so on.
    pub fn credential_kind(&self) -> &'static str {
        self.0.client.credential_kind()
    }

    /// Figures for status and metrics.
    pub fn figures(&self) -> GraphFigures {
        let (now, instant) = (clock::now(), Instant::now());
        let state = lock(&self.0.state);
        let paused = state
            .paused
            .values()
            .map(|(until, _)| until.saturating_duration_since(instant))
            .max()
            .filter(|wait| !wait.is_zero());
        GraphFigures {
            requests: self.0.client.requests(),
            hits: self.0.hits.load(Ordering::Relaxed),
            stale: self.0.stale.load(Ordering::Relaxed),
            age: state.last_ok.map(|at| now.since(at)),
            paused,
            error: state.error.clone(),
        }
    }
}

impl Inner {
    async fn look_up(
        &self,
        principal: &Principal,
        asked: Arc<[Box<str>]>,
    ) -> Result<Arc<Membership>, GraphError> {
        if !is_guid(&principal.tid) || !is_guid(&principal.oid) {
            return Err(GraphError::unavailable(
                "tenant and object id are no GUIDs, so Graph is not asked",
            ));
        }
        if let Some(error) = self.paused(&principal.tid) {
            return Err(error);
        }
        let at = clock::now();
        let looking = async {
            let _turn = self.turns.acquire().await;
            // Somebody may have been told to wait in the meantime.
            if let Some(error) = self.paused(&principal.tid) {
                return Err(error);
            }
            self.client.check(principal, &asked).await
        };
        let result = tokio::time::timeout(self.settings.timeout, looking)
            .await
            .unwrap_or_else(|_| {
                Err(GraphError::unavailable(format!(
                    "Graph did not answer within {} ms",
                    self.settings.timeout.as_millis()
                )))
            });
        self.note(&principal.tid, result.as_ref().err());
        let member = result?;
        let membership = Arc::new(Membership { asked, member, at });
        lock(&self.cache).put(principal.clone(), Arc::clone(&membership));
        Ok(membership)
    }

    fn paused(&self, tid: &str) -> Option<GraphError> {
        let state = lock(&self.state);
        let (until, error) = state.paused.get(tid)?;
        let wait = until.saturating_duration_since(Instant::now());
        (!wait.is_zero()).then(|| error.clone().waiting(wait))
    }

    fn note(&self, tid: &str, error: Option<&GraphError>) {
        let mut state = lock(&self.state);
        let Some(error) = error else {
            state.failures = 0;
            state.error = None;
            state.last_ok = Some(clock::now());
            state.paused.remove(tid);
            return;
        };
        if error.is_about_the_principal() {
            // Graph answers well; somebody is not there.
            state.failures = 0;
            state.last_ok = Some(clock::now());
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures.is_power_of_two() {
            tracing::warn!(
                code = error.code(),
                in_a_row = state.failures,
                tenant = tid,
                "groups could not be looked up: {error}"
            );
        }
        let pause = match error.retry_after() {
            Some(wait) => Some(wait.min(LONGEST_WAIT)),
            None if error.is_denied() => Some(DENIED_FOR),
            None if state.failures >= FAILURES => Some(LEFT_ALONE),
            None => None,
        };
        // A pause that is waited out already is not made longer by who was told of it.
        if let Some(pause) = pause
            && !error.was_waiting()
        {
            let until = Instant::now() + pause;
            state.paused.insert(tid.into(), (until, error.clone()));
        }
        state.error = Some(error.clone());
    }
}

/// A panic while the lock was held leaves plain values behind, which are still usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Memberships {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memberships({})", self.0.settings.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_its_time_and_not_before_it() {
        let answer = Membership {
            asked: Arc::new([]),
            member: Vec::new(),
            at: Timestamp::from_secs(1000),
        };
        let minute = Duration::from_secs(60);
        for (now, counts) in [
            (1000, true),
            (1059, true),
            (1060, false),
            (999, false),
            (0, false),
        ] {
            let now = Timestamp::from_secs(now);
            assert_eq!(answer.is_within(minute, now), counts, "{now}");
        }
        assert!(!answer.is_within(Duration::ZERO, answer.at));
    }
}
