//! Tokens of our own: kept, renewed early, one request at a time.
//!
//! A token is renewed well before its end, while the old one still serves; a renewal that fails costs nothing as long
//! as the old one is valid. Without a valid token everybody waits for one request, and after a failure nobody asks
//! again for a moment, so that a storm of connections is not a storm at Entra.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::CredentialConfig;
use super::environment::Environment;
use super::error::CredentialError;
use super::flights::Flights;
use super::managed::Managed;
use super::scope::Scope;
use super::token_endpoint::TokenEndpoint;
use crate::clock;
use crate::http::Http;
use crate::secret::Secret;
use crate::time::Timestamp;

/// What requests are made with and run on.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The HTTP client.
    pub http: Http,
    /// Where requests run, since they outlive the connection that asked.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

/// A token of our own, and how long it is good for.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken {
    secret: Arc<Secret>,
    expires_at: Timestamp,
    refresh_at: Timestamp,
}

impl AccessToken {
    pub(super) fn new(
        secret: Secret,
        now: Timestamp,
        life: Duration,
        refresh_in: Option<Duration>,
    ) -> Self {
        let refresh_in = refresh_in
            .filter(|refresh_in| *refresh_in < life)
            .unwrap_or_else(|| renewal(life));
        Self {
            secret: Arc::new(secret),
            expires_at: now.plus(life),
            refresh_at: now.plus(shortened(refresh_in)),
        }
    }

    /// The token.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// When it ends.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken(until {})", self.expires_at)
    }
}

/// When a token of this life is renewed: half way for those of hours, five minutes before the end for the others, but
/// not before half way.
fn renewal(life: Duration) -> Duration {
    let half = life / 2;
    if life >= LONG_LIFE {
        return half;
    }
    half.max(life.saturating_sub(BEFORE_END))
}

/// Up to a tenth earlier, so that replicas do not ask in step.
fn shortened(time: Duration) -> Duration {
    use std::hash::{BuildHasher as _, Hasher as _};
    let dice = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
        % 1001;
    let share = f64::from(u32::try_from(dice).unwrap_or(500)) / 10_000.0;
    time.mul_f64(1.0 - share)
}

const LONG_LIFE: Duration = Duration::from_secs(2 * 3600);
const BEFORE_END: Duration = Duration::from_secs(300);

/// A token this near to its end is not handed out: it would end under way.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// Pauses after failures without a valid token: from, to.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Longest `Retry-After` that is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Tenant, where the kind of credential has a choice, and API.
type Key = (Option<Box<str>>, Scope);

/// What is known of one token.
#[derive(Debug, Default)]
struct Slot {
    token: Option<AccessToken>,
    failures: u32,
    error: Option<CredentialError>,
    /// Nobody asks before.
    not_before: Option<Instant>,
}

/// The proxy's own credential. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Credential(Arc<Inner>);

struct Inner {
    kind: &'static str,
    source: Source,
    slots: Mutex<HashMap<Key, Slot>>,
    flights: Arc<Flights<Key, Result<AccessToken, CredentialError>>>,
}

/// Where tokens come from.
enum Source {
    Managed(Managed),
    Endpoint(TokenEndpoint),
}

impl Credential {
    /// Opens no connection. `authority` is the login host of the cloud, as `https://login.microsoftonline.com`.
    ///
    /// # Errors
    /// [`CredentialError`] with code `credential.config` for what can be known to be wrong beforehand: a key that is no
    /// RSA key, an address that may not be asked, a variable that is not set.
    pub fn new(
        config: &CredentialConfig,
        authority: &str,
        environment: &Environment,
        tools: Tools,
    ) -> Result<Self, CredentialError> {
        let Tools { http, tasks, stop } = tools;
        let source = match config {
            CredentialConfig::ManagedIdentity(id) => {
                Source::Managed(Managed::new(id.clone(), environment, http)?)
            }
            other => Source::Endpoint(TokenEndpoint::new(other, authority, environment, http)?),
        };
        Ok(Self(Arc::new(Inner {
            kind: config.kind(),
            source,
            slots: Mutex::default(),
            flights: Arc::new(Flights::new(tasks, stop)),
        })))
    }

    /// A token for an API, in the tenant of the configuration.
    ///
    /// # Errors
    /// [`CredentialError`] when there is no valid one and none can be had.
    pub async fn token(&self, scope: &Scope) -> Result<AccessToken, CredentialError> {
        self.get((None, scope.clone())).await
    }

    /// A token for an API in another tenant. A managed identity has one tenant and ignores this; whoever uses the token
    /// has to look whose it is.
    ///
    /// # Errors
    /// As [`Credential::token`].
    pub async fn token_in(
        &self,
        tenant: &str,
        scope: &Scope,
    ) -> Result<AccessToken, CredentialError> {
        let tenant = match self.0.source {
            Source::Managed(_) => None,
            Source::Endpoint(_) => Some(tenant.into()),
        };
        self.get((tenant, scope.clone())).await
    }

    /// The API did not accept a token that looked valid: the next call gets a new one.
    pub fn reject(&self, token: &AccessToken) {
        for slot in self.0.slots().values_mut() {
            if slot.token.as_ref() == Some(token) {
                slot.token = None;
            }
        }
    }

    /// `managed identity`, `client secret` and so on.
    pub fn kind(&self) -> &'static str {
        self.0.kind
    }

    async fn get(&self, key: Key) -> Result<AccessToken, CredentialError> {
        let broken_off = || CredentialError::unreachable("the request for a token was broken off");
        match self.0.look(&key) {
            Look::Fresh(token) => Ok(token),
            Look::Due(token) => {
                self.renew(key);
                Ok(token)
            }
            Look::TooEarly(error) => Err(error),
            Look::Nothing => self
                .renew(key)
                .result()
                .await
                .unwrap_or_else(|| Err(broken_off())),
        }
    }

    fn renew(&self, key: Key) -> super::flights::Landing<Result<AccessToken, CredentialError>> {
        let inner = Arc::clone(&self.0);
        let wanted = key.clone();
        self.0.flights.join(key, || async move {
            let result = inner.fetch(&wanted).await;
            inner.note(wanted, &result);
            result
        })
    }
}

/// What is at hand for a caller.
enum Look {
    Fresh(AccessToken),
    Due(AccessToken),
    TooEarly(CredentialError),
    Nothing,
}

impl Inner {
    fn look(&self, key: &Key) -> Look {
        let (now, instant) = (clock::now(), Instant::now());
        let slots = self.slots();
        let Some(slot) = slots.get(key) else {
            return Look::Nothing;
        };
        let may_ask = slot.not_before.is_none_or(|at| at <= instant);
        match (&slot.token, &slot.error) {
            (Some(token), _) if now.plus(LAST_MOMENT) < token.expires_at => {
                if now < token.refresh_at || !may_ask {
                    Look::Fresh(token.clone())
                } else {
                    Look::Due(token.clone())
                }
            }
            (_, Some(error)) if !may_ask => Look::TooEarly(error.clone()),
            _ => Look::Nothing,
        }
    }

    async fn fetch(&self, (tenant, scope): &Key) -> Result<AccessToken, CredentialError> {
        match &self.source {
            Source::Managed(managed) => managed.token(scope).await,
            Source::Endpoint(endpoint) => endpoint.token(tenant.as_deref(), scope).await,
        }
    }

    fn note(&self, key: Key, result: &Result<AccessToken, CredentialError>) {
        let scope = key.1.clone();
        let mut slots = self.slots();
        let slot = slots.entry(key).or_default();
        match result {
            Ok(token) => {
                *slot = Slot {
                    token: Some(token.clone()),
                    ..Slot::default()
                };
            }
            Err(error) => {
                slot.failures = slot.failures.saturating_add(1);
                slot.error = Some(error.clone());
                let pause = PAUSES.0.saturating_mul(1 << slot.failures.min(6)) / 2;
                let pause = error
                    .retry_after
                    .map_or(pause.min(PAUSES.1), |wait| wait.min(LONGEST_WAIT));
                slot.not_before = Some(Instant::now() + pause);
                // The first failure, then ever more rarely.
                if slot.failures.is_power_of_two() {
                    tracing::warn!(code = error.code(), %scope, in_a_row = slot.failures, "no token of our own: {error}");
                }
            }
        }
    }

    /// A panic while the lock was held leaves plain values behind, which are still usable.
    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credential").field(&self.kind).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_half_way_or_five_minutes_before_their_end() {
        let minutes = |m: u64| Duration::from_secs(m * 60);
        assert_eq!(renewal(minutes(24 * 60)), minutes(12 * 60));
        assert_eq!(renewal(minutes(60)), minutes(55));
        assert_eq!(renewal(minutes(8)), minutes(4));
        for _ in 0..1000 {
            let time = shortened(minutes(100));
            assert!((minutes(90)..=minutes(100)).contains(&time), "{time:?}");
        }
    }

    #[test]
    fn a_token_shows_its_end_alone() {
        let now = Timestamp::from_millis(0);
        let token = AccessToken::new(Secret::new("hunter2"), now, Duration::from_secs(60), None);
        assert_eq!(
            format!("{token:?}"),
            "AccessToken(until 1970-01-01T00:01:00.000Z)"
        );
    }
}
