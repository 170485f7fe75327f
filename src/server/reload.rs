//! What changes under live sessions. SIGHUP: the policy, the certificates and the upstreams are read anew; a file with
//! mistakes changes nothing. The calendar: roles begin and end by their `valid`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::admission;
use super::groups;
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

async fn reload(shared: &Arc<Shared>, path: &std::path::Path) {
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
    groups::prepare(shared, &config.policy).await;
    let hash = config.policy.hash().to_owned();
    shared.policy.store(config.policy);
    shared.audit.set_policy(&hash);
    shared.metrics.policy_loaded(Some(&hash));
    shared.audit.reopen().await;
    act(shared, ActKind::PolicyReloaded, "SIGHUP", &hash).await;
    judge_all_again(shared);
    tracing::info!(policy = hash, "reloaded");
}

/// How often the calendar is looked at, which is how late a role may begin or end.
const CALENDAR: Duration = Duration::from_secs(1);

/// Looks at the calendar after which inboxes of sessions that ended grow older: a client has two minutes to come back to
/// its own, as long as nats.go tries.
const INBOX_AGE: u32 = 120;

/// Judges live sessions again whenever a role begins or ends, until `stop`.
pub(super) async fn by_calendar(shared: Arc<Shared>, stop: CancellationToken) {
    let mut looked_at = clock::now();
    let mut looks = 0_u32;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CALENDAR) => {}
        }
        let now = clock::now();
        let next = shared.policy().next_change(looked_at);
        if next.is_some_and(|at| at <= now) {
            judge_all_again(&shared);
        }
        looked_at = now;
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(GROUPS_AGAIN) {
            ask_for_open_groups(&shared);
        }
        if looks.is_multiple_of(INBOX_AGE) {
            shared.inboxes.grow_older();
        }
    }
}

/// Looks at the calendar after which Graph is asked again for groups that could not be had for live sessions.
const GROUPS_AGAIN: u32 = 5;

fn ask_for_open_groups(shared: &Arc<Shared>) {
    if shared.groups.is_none() {
        return;
    }
    for handle in shared.sessions.all() {
        let bound = handle.bound();
        if bound.is_some_and(|bound| groups::are_open(shared, &bound.identity)) {
            groups::ask_for_live(shared, &handle);
        }
    }
}

fn judge_all_again(shared: &Arc<Shared>) {
    for handle in shared.sessions.all() {
        judge_again(shared, &handle);
    }
}

/// Judges a live session by the policy now in force; only what it lost is taken from it.
pub(super) fn judge_again(shared: &Arc<Shared>, handle: &Arc<Handle>) {
    let Some(bound) = handle.bound() else { return };
    let policy = shared.policy();
    let assign = |now| {
        admission::assign(
            &policy,
            &bound.identity,
            handle.client,
            bound.requested_role.as_deref(),
            now,
        )
    };
    let open = groups::are_open(shared, &bound.identity);
    let order = match assign(clock::now()) {
        Ok(assignment) if assignment.upstream == bound.connected.upstream => {
            let limits = admission::role_limits(assignment.limits);
            Order::Rights(assignment.permissions, limits)
        }
        // Another upstream: the session has to begin anew there.
        Ok(_) => Order::End(CloseReason::Drained),
        // Only time has passed: for the role, or since its owner signed in. A fresh token may do.
        Err(_) if assign(bound.judged_at).is_ok() => Order::End(CloseReason::Expired),
        // Nothing is certain, so nothing may go on; but it is not no. Its client comes back and is judged anew.
        Err(turned) if open && turned.is_for_unknown_groups() => {
            Order::End(CloseReason::IdentityUnavailable)
        }
        Err(_) => Order::End(CloseReason::RoleLost),
    };
    handle.order(order);
    // After that: what it holds for certain is put in force now, the rest when Graph has answered.
    if open {
        groups::ask_for_live(shared, handle);
    }
}
