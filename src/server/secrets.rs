//! Secrets that lie in a vault: read before the server begins, and again on a schedule, so that upstream credentials and
//! certificates rotate without a restart. New connections use the new secret, live ones stay as they are.
//!
//! Must never: go on with a secret missing, or drop a good one because the vault does not answer.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Shared, act, reload};
use crate::audit::ActKind;
use crate::clock;
use crate::config::{Config, VaultConfig, VaultSecrets, VaultUser};
use crate::entra::{Environment, Tools, Vault, VaultError};
use crate::http::Http;
use crate::time::Timestamp;

/// How long a vault that does not answer is waited for: at the start, and when the file is read again.
pub(super) const AT_START: Duration = Duration::from_secs(60);
pub(super) const AT_RELOAD: Duration = Duration::from_secs(10);

/// Pauses between attempts: first, longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));

/// Longest time of one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How the rotation goes.
#[derive(Debug, Default)]
pub(super) struct Rotation(Mutex<Going>);

#[derive(Debug, Default)]
struct Going {
    read_at: Option<Timestamp>,
    reads: u64,
    failures: u64,
    error: Option<String>,
}

/// Figures for status and metrics. Totals since the start.
pub(super) struct RotationFigures {
    pub(super) age: Option<Duration>,
    pub(super) reads: u64,
    pub(super) failures: u64,
    pub(super) error: Option<String>,
}

impl Rotation {
    pub(super) fn figures(&self) -> RotationFigures {
        let going = self.going();
        RotationFigures {
            age: going.read_at.map(|at| clock::now().since(at)),
            reads: going.reads,
            failures: going.failures,
            error: going.error.clone(),
        }
    }

    fn note(&self, error: Option<&VaultError>) {
        let mut going = self.going();
        match error {
            None => {
                going.reads = going.reads.saturating_add(1);
                going.read_at = Some(clock::now());
                going.error = None;
            }
            Some(error) => {
                going.failures = going.failures.saturating_add(1);
                going.error = Some(error.to_string());
            }
        }
    }

    fn going(&self) -> MutexGuard<'_, Going> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The configuration with everything that its references lead to. A vault that does not answer is asked again for as
/// long as `patience`; one that says no is not, since somebody has to do something first.
///
/// # Errors
/// What could not be read, and what to do; or what the secrets are not fit for.
pub(super) async fn read(config: Config, patience: Duration) -> anyhow::Result<Config> {
    if config.unread == 0 {
        return Ok(config);
    }
    let Some(wanted) = &config.vault else {
        bail!("secrets lie in a vault, and nobody is there to read it");
    };
    let stop = CancellationToken::new();
    let _stopped = stop.clone().drop_guard();
    let vault = open(wanted, &config, &TaskTracker::new(), stop)?;
    let deadline = Instant::now() + patience;
    let mut pause = PAUSES.0;
    let secrets = loop {
        match read_all(&vault, wanted).await {
            Ok(secrets) => break secrets,
            Err(error) if error.transient && Instant::now() + pause < deadline => {
                tracing::warn!("{error}; asking again");
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(PAUSES.1);
            }
            Err(error) => bail!("{error}"),
        }
    };
    match config.with_secrets(&secrets, clock::now()) {
        Ok(config) => Ok(config),
        Err(mistakes) => bail!("the secrets from the vault do not fit\n{mistakes}"),
    }
}

fn open(
    wanted: &VaultConfig,
    config: &Config,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> anyhow::Result<Vault> {
    crate::tls::install_provider();
    let tools = Tools {
        http: Http::new(&config.keys.extra_roots, TIMEOUT)?,
        tasks: tasks.clone(),
        stop,
    };
    let environment = Environment::of_process();
    Vault::new(&wanted.credential, &wanted.authority, &environment, tools)
        .context("keyvault.credential")
}

async fn read_all(vault: &Vault, wanted: &VaultConfig) -> Result<VaultSecrets, VaultError> {
    let mut secrets = VaultSecrets::new();
    for user in &wanted.users {
        read_for(vault, user, &mut secrets).await?;
    }
    Ok(secrets)
}

/// All secrets of one user, beside those that were read for others.
async fn read_for(
    vault: &Vault,
    user: &VaultUser,
    secrets: &mut VaultSecrets,
) -> Result<(), VaultError> {
    for secret in &user.secrets {
        if let Entry::Vacant(unread) = secrets.entry(secret.to_string()) {
            unread.insert(vault.read(secret).await?);
        }
    }
    Ok(())
}

/// Reads the vault on the schedule of the configuration in force, until `stop`.
pub(super) async fn rotate(shared: Arc<Shared>, stop: CancellationToken) {
    let mut opened: Option<(VaultConfig, Vault)> = None;
    loop {
        let running = shared.running.load_full();
        let pause = running
            .vault
            .as_ref()
            .map_or(NO_VAULT, |vault| vault.refresh);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause.mul_f64(jitter())) => {}
        }
        let running = shared.running.load_full();
        let Some(wanted) = &running.vault else {
            continue;
        };
        let same = |(known, _): &(VaultConfig, Vault)| {
            known.credential == wanted.credential && known.authority == wanted.authority
        };
        if !opened.as_ref().is_some_and(same) {
            match open(wanted, &running, &shared.tasks, stop.child_token()) {
                Ok(vault) => opened = Some((wanted.clone(), vault)),
                Err(error) => {
                    tracing::error!("the vault cannot be read: {error:#}");
                    continue;
                }
            }
        }
        if let Some((_, vault)) = &opened {
            tokio::select! {
                () = stop.cancelled() => return,
                () = read_again(&shared, &running, vault, wanted) => {}
            }
        }
    }
}

/// How often the configuration is looked at while it has no vault.
const NO_VAULT: Duration = Duration::from_secs(60);

/// Ten per cent more or less, so that replicas do not ask in step.
fn jitter() -> f64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    let dice = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
        % 2001;
    0.9 + f64::from(u32::try_from(dice).unwrap_or(1000)) / 10_000.0
}

/// Reads everything again, and puts in force what has changed, one user of secrets at a time: one of which a secret cannot
/// be read, or does not fit, goes on with those that it has, and keeps nobody else from going on to new ones.
async fn read_again(shared: &Shared, running: &Arc<Config>, vault: &Vault, wanted: &VaultConfig) {
    let mut read = VaultSecrets::new();
    let mut rotated: Option<Config> = None;
    let mut failed = None;
    for user in &wanted.users {
        if let Err(error) = read_for(vault, user, &mut read).await {
            tracing::warn!(
                "{}: a secret could not be read again, the one at hand stays in use: {error}",
                user.name
            );
            failed = Some(error);
            continue;
        }
        let base = rotated.as_ref().unwrap_or(running);
        let mut secrets = base.secrets.clone();
        for secret in user.secrets.iter().map(ToString::to_string) {
            let value = read.get(&secret).cloned();
            secrets.extend(value.map(|value| (secret, value)));
        }
        if secrets == base.secrets {
            continue;
        }
        match base.with_secrets(&secrets, clock::now()) {
            Ok(config) => rotated = Some(config),
            Err(mistakes) => tracing::error!(
                "{}: a secret was rotated to one that does not fit; the old one stays in use\n{mistakes}",
                user.name
            ),
        }
    }
    shared.rotation.note(failed.as_ref());
    // A new file in the meantime was read with secrets of its own.
    let Some(config) = rotated.filter(|_| Arc::ptr_eq(&shared.running.load(), running)) else {
        return;
    };
    reload::exchange(shared, &config);
    shared.running.store(Arc::new(config));
    act(shared, ActKind::SecretsRotated, "keyvault", "").await;
    tracing::info!("secrets rotated: new connections use the new ones");
}
