//! The signing keys of every issuer: fetched, kept fresh, kept through outages, handed out as snapshots.
//!
//! Owns: fetching and its limits, one task per key source, the file of the last good set, how often an unknown key name
//! may cause a fetch. Must never: let a token choose where to fetch, drop good keys because a fetch failed, or turn
//! "keys cannot be had" into "the token is bad".

mod desk;
mod fetch;
mod source;
mod store;
mod throttle;

#[cfg(all(test, feature = "demo"))]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use fetch::FetchError;

use crate::clock;
use crate::http::ClientError;
use crate::identity::{Accepted, Expectations, Identity, KeyNeed, KeyRing, KeySource, TokenError};
use crate::time::Timestamp;
use fetch::Fetcher;
use source::Source;

/// How keys are fetched and kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the last good sets; none: nothing is kept on disk.
    pub cache: Option<PathBuf>,
    /// Distance between fetches that nobody asks for, ten per cent more or less.
    pub refresh: Duration,
    /// From this age on keys say nothing about a token any more.
    pub max_age: Duration,
    /// Longest pause between attempts while there are no usable keys.
    pub retry: Duration,
    /// One fetch for an unknown key name per source in this time...
    pub unknown_interval: Duration,
    /// ...and so many at once at first.
    pub unknown_burst: u32,
    /// Longest time of one HTTP request.
    pub timeout: Duration,
    /// How long a connection waits for a fetch that it asked for.
    pub patience: Duration,
    /// Certificate authorities besides those of the system.
    pub extra_roots: Vec<CertificateDer<'static>>,
}

impl Default for Settings {
    /// Hourly; a day; 1 s; one in 5 min after a burst of 2; 5 s; 2 s; nothing on disk.
    fn default() -> Self {
        Self {
            cache: None,
            refresh: Duration::from_secs(3600),
            max_age: Duration::from_secs(24 * 3600),
            retry: Duration::from_secs(1),
            unknown_interval: Duration::from_secs(300),
            unknown_burst: 2,
            timeout: Duration::from_secs(5),
            patience: Duration::from_secs(2),
            extra_roots: Vec::new(),
        }
    }
}

/// Keys cannot be fetched at all.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// The HTTP client could not be made.
    #[error("fetching signing keys: {0}")]
    Client(#[from] ClientError),
}

/// The service. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Jwks {
    sources: Arc<[Arc<Source>]>,
    what: Arc<[KeySource]>,
    ring: watch::Receiver<Arc<KeyRing>>,
    accepted: Arc<Accepted>,
    patience: Duration,
    stop: CancellationToken,
}

/// How a request for an unknown key ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// There is a newer snapshot that has it: validate again.
    Fetched,
    /// The issuer was asked and does not have it: the token is bad.
    Absent,
    /// Asking is not allowed yet: not now.
    Throttled(Duration),
    /// The issuer was asked and did not answer well: not now.
    Failed(Arc<str>),
}

/// What is known of one source, for readiness, status and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its name.
    pub name: Arc<str>,
    /// The issuer whose keys these are.
    pub issuer: Arc<str>,
    /// Where they are fetched.
    pub url: Box<str>,
    /// How many usable keys are held.
    pub keys: usize,
    /// When they came from the issuer.
    pub fetched_at: Option<Timestamp>,
    /// How long ago that was.
    pub age: Option<Duration>,
    /// Whether there are keys that are not too old; false means that nobody of this issuer can connect.
    pub usable: bool,
    /// For people: `2 keys, fetched 3 s ago`, and what went wrong since.
    pub detail: String,
    /// What went wrong last, since the last success.
    pub last_error: Option<Arc<str>>,
    /// Fetches that succeeded.
    pub fetches_ok: u64,
    /// Fetches that failed.
    pub fetches_failed: u64,
    /// Requests for unknown keys that came too early.
    pub refreshes_throttled: u64,
}

impl Jwks {
    /// Starts one task per key source of the table on `tasks`; they end with `stop`. Keys that `previous` holds for the
    /// same sources are taken over, so that a new configuration does not begin without keys. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`JwksError`] when no HTTP client can be made.
    pub fn start(
        expectations: &Expectations,
        settings: &Settings,
        previous: Option<&Self>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, JwksError> {
        let what: Arc<[KeySource]> = expectations.sources().into();
        let fetcher = Fetcher::new(&settings.extra_roots, settings.timeout)?;
        let stop = stop.child_token();
        let (sender, ring) = watch::channel(Arc::new(taken_over(&what, previous)));
        let source = |(index, what): (usize, &KeySource)| {
            let (settings, fetcher) = (settings.clone(), fetcher.clone());
            Arc::new(Source::new(
                index,
                what.clone(),
                settings,
                fetcher,
                sender.clone(),
            ))
        };
        let sources: Arc<[Arc<Source>]> = what.iter().enumerate().map(source).collect();
        for source in sources.iter() {
            source.load();
            tasks.spawn(Arc::clone(source).run(stop.clone()));
        }
        Ok(Self {
            stop,
            sources,
            what,
            ring,
            accepted: Arc::default(),
            patience: settings.patience,
        })
    }

    /// The keys as they are now.
    pub fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.borrow())
    }

    /// The keys as they change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<KeyRing>> {
        self.ring.clone()
    }

    /// Fetches the keys of a source for the sake of one that is not there, if that is allowed now, and waits for it,
    /// but not longer than [`Settings::patience`]. Many callers share one fetch.
    pub async fn refresh_for(&self, need: &KeyNeed) -> Refresh {
        let Some(source) = self.sources.get(need.source) else {
            return Refresh::Absent;
        };
        match tokio::time::timeout(self.patience, source.refresh_for(&need.kid)).await {
            Ok(refresh) => refresh,
            Err(_) => {
                let error = source.status().last_error;
                Refresh::Failed(error.unwrap_or_else(|| "no answer in time".into()))
            }
        }
    }

    /// Validates a token, fetching keys once where that may help. `thumbprint` is that of the client's TLS certificate.
    /// The table must be the one that this service was started with.
    ///
    /// # Errors
    ///
    /// [`TokenError`]; with [`TokenError::is_unavailable`] the connection is to be closed without an error text.
    pub async fn validate(
        &self,
        token: &[u8],
        thumbprint: Option<&str>,
        expectations: &Expectations,
    ) -> Result<Arc<Identity>, TokenError> {
        let judge = || {
            let (ring, now) = (self.ring(), clock::now());
            self.accepted
                .validate(token, thumbprint, &ring, expectations, now)
        };
        let error = match judge() {
            Ok(identity) => return Ok(identity),
            Err(error) => error,
        };
        let Some(need) = error.needs_key().cloned() else {
            return Err(error);
        };
        match self.refresh_for(&need).await {
            Refresh::Fetched => judge(),
            Refresh::Absent => Err(error),
            Refresh::Throttled(wait) => Err(error.throttled(wait)),
            Refresh::Failed(why) => Err(error.unanswered(&why)),
        }
    }

    /// Ends the tasks; the snapshots stay as they are.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// What is known of each source, in the order of the table.
    pub fn status(&self) -> Vec<SourceStatus> {
        self.sources.iter().map(|source| source.status()).collect()
    }

    /// Whether every source has keys that are not too old.
    pub fn is_ready(&self) -> bool {
        self.ring.borrow().is_complete(clock::now())
    }
}

/// A ring with the keys of the sources that stay the same.
fn taken_over(what: &[KeySource], previous: Option<&Jwks>) -> KeyRing {
    let mut ring = KeyRing::empty(what.len());
    let Some(previous) = previous else {
        return ring;
    };
    let old = previous.ring();
    for (index, source) in what.iter().enumerate() {
        let same = previous.what.iter().position(|known| known == source);
        if let Some(held) = same.and_then(|at| old.held(at)) {
            ring = ring.with(index, held.as_ref().clone());
        }
    }
    ring
}
