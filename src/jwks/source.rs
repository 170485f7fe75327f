//! One key source: the task that keeps its keys fresh, and waits for those who need a key that is not held.
//!
//! Owns: when to fetch (at start, hourly, after failures, for an unknown key), one fetch at a time. Must never: drop a
//! good set because a fetch failed.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::desk::{Answer, Desk};
use super::fetch::{FetchError, Fetched, Fetcher};
use super::store::Store;
use super::{Refresh, Settings, SourceStatus};
use crate::clock;
use crate::identity::{HeldKeys, KeyRing, KeySource};
use crate::time::Timestamp;

/// State of one source, shared between its task and the connections.
#[derive(Debug)]
pub(super) struct Source {
    index: usize,
    what: KeySource,
    settings: Settings,
    fetcher: Fetcher,
    store: Option<Store>,
    ring: watch::Sender<Arc<KeyRing>>,
    desk: Mutex<Desk>,
    wake: Notify,
    /// The last finished round and how it ended.
    rounds: watch::Sender<Round>,
}

#[derive(Clone, Debug, Default)]
struct Round {
    finished: u64,
    error: Option<Arc<str>>,
}

impl Source {
    pub(super) fn new(
        index: usize,
        what: KeySource,
        settings: Settings,
        fetcher: Fetcher,
        ring: watch::Sender<Arc<KeyRing>>,
    ) -> Self {
        let store = settings
            .cache
            .as_deref()
            .map(|folder| Store::new(folder, &what));
        let desk = Desk::new(&settings, Instant::now());
        Self {
            index,
            what,
            settings,
            fetcher,
            store,
            ring,
            desk: Mutex::new(desk),
            wake: Notify::new(),
            rounds: watch::Sender::new(Round::default()),
        }
    }

    /// Takes over the last good set from its file, unless it is too old or newer keys are held already.
    pub(super) fn load(&self) {
        let Some(store) = &self.store else { return };
        match store.load() {
            Ok(Some(kept)) => {
                let now = clock::now();
                let good_until = kept.fetched_at.plus(self.settings.max_age);
                // A file from the future is one whose age nobody knows.
                if kept.fetched_at > now || good_until <= now || self.has_keys() {
                    return;
                }
                tracing::info!(source = %self.what.name, keys = kept.keys.len(), fetched_at = %kept.fetched_at, "keys loaded from the last good set");
                self.publish(HeldKeys {
                    keys: kept.keys,
                    fetched_at: kept.fetched_at,
                    good_until,
                    cloud: kept.cloud,
                    issuer: kept.issuer,
                });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(source = %self.what.name, %error, "last good key set not read");
            }
        }
    }

    /// Fetches until told to stop.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.round() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.due() => {}
            }
        }
    }

    /// Until the next fetch is due: after the usual pause, at once for a connection that may ask, when the bucket has
    /// grown back for those that asked too early, and when the wall clock has left the timers behind. So a flood of
    /// invented names cannot keep the name of a new key unknown for longer than it takes one token of the bucket to grow.
    async fn due(&self) {
        let usual = Instant::now() + self.pause();
        // After a good fetch they are, unless the clock was set during it.
        let were_in_order = self.desk().facts().failures_in_a_row == 0 || self.is_in_order();
        loop {
            let owed = self.desk().owed();
            let at = owed.map_or(usual, |owed| owed.min(usual));
            let glance = Instant::now() + GLANCE;
            tokio::select! {
                () = tokio::time::sleep_until(at.min(glance)) => {
                    if at > glance {
                        if were_in_order && !self.is_in_order() {
                            return;
                        }
                        continue;
                    }
                    if owed == Some(at) {
                        self.desk().pay(Instant::now());
                    }
                    return;
                }
                () = self.wake.notified() => {
                    if self.desk().is_asked_for() {
                        return;
                    }
                }
            }
        }
    }

    /// Whether there are keys whose age is known and not too old. Timers stand still while a machine is suspended, and do
    /// not notice when its clock is set: what was to be fetched within the hour may then be a day old.
    fn is_in_order(&self) -> bool {
        let now = clock::now();
        let ring = self.ring.borrow();
        ring.held(self.index)
            .is_some_and(|held| now < held.good_until && held.fetched_at <= now.plus(AHEAD))
    }

    /// One fetch from beginning to end.
    async fn round(&self) {
        let number = self.desk().begin();
        let error = match self.fetcher.fetch(&self.what).await {
            Ok(fetched) => {
                self.succeeded(fetched).await;
                None
            }
            Err(error) => Some(self.failed(&error)),
        };
        self.rounds.send_replace(Round {
            finished: number,
            error,
        });
    }

    async fn succeeded(&self, fetched: Fetched) {
        let Fetched {
            keys,
            cloud,
            issuer,
            document,
        } = fetched;
        for skipped in keys.skipped() {
            tracing::warn!(source = %self.what.name, kid = %skipped.kid, why = %skipped.why, "key not used");
        }
        tracing::debug!(source = %self.what.name, keys = keys.len(), "keys fetched");
        let fetched_at = clock::now();
        let good_until = fetched_at.plus(self.settings.max_age);
        self.publish(HeldKeys {
            keys,
            fetched_at,
            good_until,
            cloud: cloud.clone(),
            issuer: issuer.clone(),
        });
        self.desk().note_success();
        let Some(store) = self.store.clone() else {
            return;
        };
        let saved =
            tokio::task::spawn_blocking(move || store.save(&document, cloud, issuer, fetched_at));
        if let Ok(Err(error)) = saved.await {
            tracing::warn!(source = %self.what.name, %error, "last good key set not written");
        }
    }

    fn failed(&self, error: &FetchError) -> Arc<str> {
        let text: Arc<str> = error.to_string().into();
        let in_a_row = self.desk().note_failure(Arc::clone(&text));
        // The first failure, then ever more rarely, so that an outage of hours does not fill the log.
        if in_a_row.is_power_of_two() {
            tracing::warn!(source = %self.what.name, error = %text, in_a_row, "keys could not be fetched; those at hand stay in use");
        }
        text
    }

    /// How long until the next fetch that nobody asks for. Without usable keys nobody can sign in, so the issuer is asked
    /// again within a second; with keys at hand, at growing distances up to a minute.
    fn pause(&self) -> Duration {
        let failures = self.desk().facts().failures_in_a_row;
        let pause = if failures == 0 {
            self.settings.refresh
        } else {
            let doubled =
                |first: Duration| first.saturating_mul(1 << failures.min(8).saturating_sub(1));
            if self.has_keys() {
                doubled(Duration::from_secs(1)).min(Duration::from_secs(60))
            } else {
                doubled(Duration::from_millis(200)).min(self.settings.retry)
            }
        };
        jittered(pause)
    }

    /// Has the key fetched, if asking is allowed now. May be dropped at any point.
    pub(super) async fn refresh_for(&self, kid: &str) -> Refresh {
        if !self.has_keys() {
            return self.first_keys().await;
        }
        let mut joined = false;
        loop {
            if self.has_key(kid) {
                return Refresh::Fetched;
            }
            let (round, answers) = match self.ask(kid, joined) {
                Answer::Absent => return Refresh::Absent,
                Answer::Throttled(wait) => return Refresh::Throttled(wait),
                Answer::Join(round) => (round, false),
                Answer::Wait(round) => (round, true),
            };
            joined = true;
            let ended = self.finished(round).await;
            if self.has_key(kid) {
                return Refresh::Fetched;
            }
            if let Some(error) = ended.error {
                return Refresh::Failed(error);
            }
            if answers {
                self.desk().note_absent(kid, Instant::now());
            }
        }
    }

    /// Waits for the first keys, which the task fetches at its own pace; asking more often would not help.
    async fn first_keys(&self) -> Refresh {
        let mut ring = self.ring.subscribe();
        let held = ring
            .wait_for(|ring| {
                ring.held(self.index)
                    .is_some_and(|h| clock::now() < h.good_until)
            })
            .await;
        match held {
            Ok(_) => Refresh::Fetched,
            Err(_) => Refresh::Failed("shutting down".into()),
        }
    }

    fn ask(&self, kid: &str, joined: bool) -> Answer {
        let finished = self.rounds.borrow().finished;
        let (answer, is_news) = self.desk().ask(kid, joined, finished, Instant::now());
        if is_news {
            self.wake.notify_one();
        }
        answer
    }

    async fn finished(&self, round: u64) -> Round {
        let mut rounds = self.rounds.subscribe();
        match rounds.wait_for(|r| r.finished >= round).await {
            Ok(ended) => ended.clone(),
            Err(_) => Round {
                finished: round,
                error: Some("shutting down".into()),
            },
        }
    }

    pub(super) fn status(&self) -> SourceStatus {
        let facts = self.desk().facts().clone();
        let ring = self.ring.borrow();
        let held = ring.held(self.index);
        let now = clock::now();
        SourceStatus {
            name: Arc::from(&*self.what.name),
            issuer: Arc::from(&*self.what.issuer),
            url: self.what.location.url().into(),
            keys: held.map_or(0, |held| held.keys.len()),
            fetched_at: held.map(|held| held.fetched_at),
            age: held.map(|held| now.since(held.fetched_at)),
            usable: held.is_some_and(|held| now < held.good_until),
            detail: detail(held.map(AsRef::as_ref), facts.last_error.as_deref(), now),
            last_error: facts.last_error,
            fetches_ok: facts.fetches_ok,
            fetches_failed: facts.fetches_failed,
            refreshes_throttled: facts.throttled,
        }
    }

    fn publish(&self, held: HeldKeys) {
        self.ring
            .send_modify(|ring| *ring = Arc::new(ring.with(self.index, held)));
    }

    fn has_keys(&self) -> bool {
        let now = clock::now();
        self.ring
            .borrow()
            .held(self.index)
            .is_some_and(|held| now < held.good_until)
    }

    fn has_key(&self, kid: &str) -> bool {
        self.ring
            .borrow()
            .held(self.index)
            .is_some_and(|held| held.keys.key(kid).is_some())
    }

    /// A panic while the lock was held leaves plain figures behind, which are still usable.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `2 keys, fetched 3 s ago; last fetch: <what went wrong>`.
fn detail(held: Option<&HeldKeys>, error: Option<&str>, now: Timestamp) -> String {
    let keys = match held {
        Some(held) => {
            let age = now.since(held.fetched_at).as_secs();
            let old = if now < held.good_until {
                ""
            } else {
                ", too old to be used"
            };
            format!("{} keys, fetched {age} s ago{old}", held.keys.len())
        }
        None => "no keys yet".to_owned(),
    };
    match error {
        Some(error) => format!("{keys}; last fetch: {error}"),
        None => keys,
    }
}

/// The pause, up to ten per cent shorter or longer, so that replicas do not ask in step.
fn jittered(pause: Duration) -> Duration {
    let dice = RandomState::new().build_hasher().finish() % 2001;
    let share = f64::from(u32::try_from(dice).unwrap_or(1000)) / 10_000.0;
    pause.mul_f64(0.9 + share)
}

/// How often the wall clock is looked at between fetches.
const GLANCE: Duration = Duration::from_secs(1);

/// How far ahead of the clock keys may have been fetched: more is a clock that was set back.
const AHEAD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_ten_per_cent() {
        for _ in 0..1000 {
            let pause = jittered(Duration::from_secs(1000)).as_secs_f64();
            assert!((899.9..=1100.1).contains(&pause), "{pause}");
        }
    }
}
