//! SIGHUP: the policy, the certificates and the upstreams are read anew. A file with mistakes changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::admission::{self, Turned};
use super::sessions::{Handle, Order};
use super::{Shared, act};
use crate::audit::ActKind;
use crate::clock;
use crate::config::Config;
use crate::session::CloseReason;

/// Waits for SIGHUP until `stop`.
pub(super) async fn on_hangup(shared: Arc<Shared>, path: PathBuf, stop: CancellationToken) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else {
        tracing::warn!("SIGHUP cannot be listened to; a new policy needs a restart");
        return;
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hangups.recv() => reload(&shared, &path).await,
        }
    }
}

async fn reload(shared: &Shared, path: &std::path::Path) {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(mistakes) => {
            tracing::error!("the new configuration has mistakes; the old one stays\n{mistakes}");
            shared.metrics.policy_loaded(None);
            act(
                shared,
                ActKind::PolicyRejected,
                "SIGHUP",
                "the file has mistakes",
            )
            .await;
            return;
        }
    };
    if let (Some(ours), Some(tls)) = (&shared.listen.tls, &config.listen.tls)
        && let Err(error) = ours
            .server
            .reload(&tls.cert, &tls.key, tls.client_ca.as_ref())
    {
        tracing::error!(%error, "the certificate was not exchanged");
    }
    if let Err(error) = shared.upstreams.reload(config.upstreams) {
        tracing::error!(%error, "the upstreams were not exchanged");
    }
    let hash = config.policy.hash().to_owned();
    shared.policy.store(config.policy);
    shared.audit.set_policy(&hash);
    shared.metrics.policy_loaded(Some(&hash));
    shared.audit.reopen().await;
    act(shared, ActKind::PolicyReloaded, "SIGHUP", &hash).await;
    for handle in shared.sessions.all() {
        judge_again(shared, &handle);
    }
    tracing::info!(policy = hash, "reloaded");
}

/// Judges a live session by the policy now in force; only what it lost is taken from it.
fn judge_again(shared: &Shared, handle: &Handle) {
    let Some(bound) = handle.bound() else { return };
    let assigned = admission::assign(
        &shared.policy(),
        &bound.identity,
        handle.client,
        bound.requested_role.as_deref(),
        clock::now(),
    );
    let order = match assigned {
        Ok(assignment) if assignment.upstream == bound.connected.upstream => {
            Order::Permissions(assignment.permissions)
        }
        // Another upstream: the session has to begin anew there.
        Ok(_) => Order::End(CloseReason::Drained),
        Err(Turned::Refused(_) | Turned::Unavailable(_)) => Order::End(CloseReason::RoleLost),
    };
    handle.order(order);
}
