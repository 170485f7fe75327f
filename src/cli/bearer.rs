//! A token that somebody shows us on the command line: read, and validated with keys from a file or from the issuer.
//!
//! Must never: judge by other rules than the server does, or word a refusal in another way.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::identity::{self, Code, HeldKeys, Identity, KeyRing, KeySet, TokenError};
use crate::jwks::{Jwks, Settings};
use crate::locks::{LockSet, Presented};
use crate::revocation;
use crate::secret::Secret;
use crate::server::{LookedUp, look_up, would_look_up};
use crate::session::Refusal;
use crate::time::Timestamp;

/// Largest file that may be a token: more than the gate accepts, so that the gate says what is wrong.
const TOKEN_BYTES_MAX: u64 = 256 << 10;

/// Largest key set.
const KEYS_BYTES_MAX: u64 = 4 << 20;

/// How long the issuer may take to hand out its keys.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keys are taken as good for so long after the moment that is asked about.
const KEYS_GOOD_FOR: Duration = Duration::from_secs(3600);

/// A token that was refused.
pub(super) struct RefusedToken {
    pub(super) error: TokenError,
    /// Why the issuer's keys could not be fetched, where that is the reason.
    pub(super) fetching: Option<String>,
    /// What the token seems to say.
    pub(super) facts: Vec<(&'static str, String)>,
}

/// The token from a file, or from standard input, without the line end after it.
pub(super) fn read(file: Option<&Path>) -> anyhow::Result<Secret> {
    let mut bytes = Zeroizing::new(Vec::new());
    match file {
        Some(path) => {
            let file = std::fs::File::open(path)
                .with_context(|| format!("--token-file {}", path.display()))?;
            file.take(TOKEN_BYTES_MAX).read_to_end(&mut bytes)?;
        }
        None => {
            std::io::stdin()
                .lock()
                .take(TOKEN_BYTES_MAX)
                .read_to_end(&mut bytes)?;
        }
    }
    Ok(Secret::new(bytes.trim_ascii_end()))
}

/// How a token is validated besides its configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// The issuer's keys; none: they are fetched.
    pub(super) keys: Option<&'a Path>,
    /// The moment that is asked about.
    pub(super) now: Timestamp,
    /// `x5t#S256` of the TLS certificate that the client would show.
    pub(super) thumbprint: Option<&'a str>,
}

/// Validates as the server would at `now`.
///
/// # Errors
/// When the key file cannot be used. A refused token is an answer, not an error.
pub(super) fn validate(
    config: &Config,
    token: &Secret,
    terms: Terms<'_>,
) -> anyhow::Result<Result<Identity, RefusedToken>> {
    let expectations = &config.trust.expectations;
    let Terms {
        keys,
        now,
        thumbprint,
    } = terms;
    let judge = |ring: &KeyRing| {
        identity::validate_bound(token.expose(), thumbprint, ring, expectations, now)
    };
    let refused = |error: TokenError, fetching: Option<String>| RefusedToken {
        error,
        fetching,
        facts: identity::inspect(token.expose()).facts,
    };
    let sources = expectations.sources().len();
    if let Some(path) = keys {
        let ring = filled(sources, &key_file(path)?, now);
        return Ok(judge(&ring).map_err(|error| refused(error, None)));
    }
    // What needs no key is said without asking anybody.
    match judge(&KeyRing::empty(sources)) {
        Ok(identity) => Ok(Ok(identity)),
        Err(error) if error.kind() != Code::KeyUnavailable && error.needs_key().is_none() => {
            Ok(Err(refused(error, None)))
        }
        Err(_) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let (verdict, fetching) = runtime.block_on(fetch_and_judge(config, now, &judge))?;
            Ok(verdict.map_err(|error| refused(error, fetching)))
        }
    }
}

type Verdict = (Result<Identity, TokenError>, Option<String>);

/// Fetches keys until the verdict no longer depends on them, or patience ends.
async fn fetch_and_judge(
    config: &Config,
    now: Timestamp,
    judge: &impl Fn(&KeyRing) -> Result<Identity, TokenError>,
) -> anyhow::Result<Verdict> {
    let expectations = &config.trust.expectations;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let settings = Settings {
        patience: PATIENCE,
        // A question deserves the issuer's answer of now, and must not touch what a server keeps.
        cache: None,
        ..config.keys.clone()
    };
    let jwks = Jwks::start(expectations, &settings, None, &tasks, &stop)?;
    let mut rings = jwks.subscribe();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let verdict = loop {
        let ring = at_the_moment(
            &rings.borrow_and_update(),
            expectations.sources().len(),
            now,
        );
        let verdict = judge(&ring);
        let waits = matches!(&verdict, Err(error) if error.kind() == Code::KeyUnavailable);
        if !waits {
            break (verdict, None);
        }
        let changed = tokio::time::timeout_at(deadline, rings.changed()).await;
        if !matches!(changed, Ok(Ok(()))) {
            let errors: Vec<String> = jwks
                .status()
                .into_iter()
                .filter_map(|status| Some(format!("{}: {}", status.url, status.last_error?)))
                .collect();
            break (verdict, (!errors.is_empty()).then(|| errors.join("; ")));
        }
    };
    stop.cancel();
    Ok(verdict)
}

/// The identity with its groups, asked of Graph where an admission would; with keys from a file nobody is asked.
///
/// # Errors
/// When the credential of the configuration cannot be used.
pub(super) fn complete(
    config: &Config,
    identity: &mut Identity,
    offline: bool,
) -> anyhow::Result<LookedUp> {
    if config.graph.is_none() {
        return Ok(LookedUp::Whole);
    }
    if offline {
        return Ok(match would_look_up(config, identity)? {
            false => LookedUp::Whole,
            true => LookedUp::Lacking(Refusal {
                code: "groups.overage",
                sentence: "the groups are not in the token; natsentry would ask Graph for them, which --keys keeps it \
                           from doing here"
                    .into(),
            }),
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(look_up(config, identity))
}

/// The locks that a server with this configuration would have.
///
/// # Errors
/// When they cannot be read, as a server then would not start.
pub(super) fn locks(config: &Config) -> anyhow::Result<LockSet> {
    Ok(LockSet::new(revocation::read(&config.locks)?.locks))
}

/// Why an admission would refuse an identity that a lock selects.
pub(super) fn locked(
    locks: &LockSet,
    identity: &Identity,
    roles: &[Arc<str>],
    now: Timestamp,
) -> Option<Refusal> {
    let lock = locks.refusing(&Presented::newcomer(identity, roles, now))?;
    Some(Refusal::by_lock(lock, identity))
}

/// The ring as if it had been fetched at the moment that is asked about.
fn at_the_moment(ring: &KeyRing, sources: usize, now: Timestamp) -> KeyRing {
    (0..sources).fold(ring.clone(), |moved, source| match ring.held(source) {
        None => moved,
        Some(held) => moved.with(
            source,
            HeldKeys {
                fetched_at: now,
                good_until: now.plus(KEYS_GOOD_FOR),
                ..held.as_ref().clone()
            },
        ),
    })
}

/// A ring with the same keys for every source.
fn filled(sources: usize, keys: &KeySet, now: Timestamp) -> KeyRing {
    (0..sources).fold(KeyRing::empty(sources), |ring, source| {
        let held = HeldKeys {
            keys: keys.clone(),
            fetched_at: now,
            good_until: now.plus(KEYS_GOOD_FOR),
            cloud: None,
            issuer: None,
        };
        ring.with(source, held)
    })
}

fn key_file(path: &Path) -> anyhow::Result<KeySet> {
    let context = || format!("--keys {}", path.display());
    let file = std::fs::File::open(path).with_context(context)?;
    let mut bytes = Vec::new();
    file.take(KEYS_BYTES_MAX)
        .read_to_end(&mut bytes)
        .with_context(context)?;
    KeySet::parse(&bytes).with_context(context)
}
