//! What changes under live sessions. SIGHUP: the policy, the certificates and the upstreams are read anew; a file with
//! mistakes changes nothing. The calendar: roles begin and end by their `valid`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::admission::{self, Turned};
use super::groups;
use super::locks;
use super::secrets;
use super::sessions::{Bound, Handle, Order, Rights, Term, Told};
use super::{Shared, act};
use crate::audit::ActKind;
use crate::clock;
use crate::config::Config;
use crate::policy::{Assignment, Policy};
use crate::session::CloseReason;
use crate::time::Timestamp;

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

/// Puts certificates and upstreams in force for connections to come.
pub(super) fn exchange(shared: &Shared, config: &Config) {
    if let (Some(ours), Some(tls)) = (&shared.listen.tls, &config.listen.tls)
        && let Err(error) = ours
            .server
            .reload(&tls.cert, &tls.key, tls.client_ca.as_ref())
    {
        tracing::error!(%error, "the certificate was not exchanged");
    }
    if let Err(error) = shared.upstreams.reload(config.upstreams.clone()) {
        tracing::error!(%error, "the upstreams were not exchanged");
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
    let config = match secrets::read(config, secrets::AT_RELOAD).await {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("the new configuration cannot be used; the old one stays: {error:#}");
            shared.metrics.policy_loaded(None);
            let why = "a secret cannot be read from the vault";
            act(shared, ActKind::PolicyRejected, "SIGHUP", why).await;
            return;
        }
    };
    if let Err(error) = locks::exchange(shared, &config.locks).await {
        tracing::error!("the new configuration cannot be used; the old one stays: {error:#}");
        shared.metrics.policy_loaded(None);
        let why = "the locks cannot be read";
        act(shared, ActKind::PolicyRejected, "SIGHUP", why).await;
        return;
    }
    let left = config.source.needs_restart(&shared.begun);
    if !left.is_empty() {
        tracing::warn!(
            "restart natsentry to bring into force what a reload does not: {}",
            left.join(", ")
        );
    }
    exchange(shared, &config);
    shared.running.store(Arc::new(config.clone()));
    groups::prepare(shared, &config.policy).await;
    let hash = config.policy.hash().to_owned();
    shared.policy.store(config.policy);
    shared.audit.set_policy(&hash);
    shared.metrics.policy_loaded(Some(&hash));
    shared.audit.reopen().await;
    // Whoever reads that the policy was reloaded may rely on it: from then on nothing passes that it refuses.
    if !judge_all_again(shared).await {
        tracing::warn!(
            "after {} s some sessions have not taken the new policy; they wait for something else first, and nothing passes \
             in them before they do",
            TAKEN.as_secs()
        );
    }
    act(shared, ActKind::PolicyReloaded, "SIGHUP", &hash).await;
    tracing::info!(policy = hash, "reloaded");
}

/// How long a reload waits for every session to take the new policy. A session whose second CONNECT is being judged takes
/// it when that is over, and passes nothing until then.
const TAKEN: Duration = Duration::from_secs(5);

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
            judge_all_again(&shared).await;
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

/// Judges every live session again. Whether all have taken the outcome in time.
async fn judge_all_again(shared: &Arc<Shared>) -> bool {
    let (told, mut taken) = mpsc::channel(1);
    for handle in shared.sessions.all() {
        judge_again(shared, &handle, Some(told.clone()));
    }
    drop(told);
    // Nothing is ever sent: it ends when the last order is carried out, or gone with its session.
    timeout(TAKEN, taken.recv()).await.is_ok()
}

/// Judges a live session by the policy now in force; only what it lost is taken from it.
pub(super) fn judge_again(shared: &Arc<Shared>, handle: &Arc<Handle>, told: Option<Told>) {
    let Some(bound) = handle.bound() else { return };
    let policy = shared.policy();
    let now = clock::now();
    let open = groups::are_open(shared, &bound.identity);
    let assigned = assign(&policy, handle, &bound, now);
    let roles: &[_] = assigned
        .as_ref()
        .map_or(&bound.connected.roles, |assignment| &assignment.roles);
    if let Some(order) = locks::revocation(shared, &bound, roles, now) {
        handle.order(order, told);
        return;
    }
    let order = match assigned {
        Ok(assignment) if assignment.upstream == bound.connected.upstream => {
            Order::Rights(Rights {
                permissions: shared
                    .identities
                    .share_anew(&bound.identity, assignment.permissions),
                limits: admission::role_limits(assignment.limits),
                term: term(&policy, now, |at| {
                    let then = assign(&policy, handle, &bound, at);
                    then.is_ok_and(|then| then.upstream == bound.connected.upstream)
                }),
            })
        }
        // Another upstream: the session has to begin anew there.
        Ok(_) => Order::End(CloseReason::Drained),
        // Only time has passed: for the role, or since its owner signed in. A fresh token may do.
        Err(_) if assign(&policy, handle, &bound, bound.judged_at).is_ok() => {
            Order::Cut(CloseReason::Expired)
        }
        // Nothing is certain, so nothing may go on; but it is not no. Its client comes back and is judged anew.
        Err(turned) if open && turned.is_for_unknown_groups() => {
            Order::End(CloseReason::IdentityUnavailable)
        }
        Err(_) => Order::End(CloseReason::RoleLost),
    };
    handle.order(order, told);
    // After that: what it holds for certain is put in force now, the rest when Graph has answered.
    if open {
        groups::ask_for_live(shared, handle);
    }
}

/// How long what an identity may do now holds by the calendar. `holds` says whether anything of it does at some time.
pub(super) fn term(policy: &Policy, now: Timestamp, holds: impl Fn(Timestamp) -> bool) -> Term {
    let until = policy.next_change(now);
    Term {
        until,
        ends_at: until.filter(|at| !holds(*at)),
    }
}

fn assign(
    policy: &Policy,
    handle: &Handle,
    bound: &Bound,
    at: Timestamp,
) -> Result<Assignment, Turned> {
    let role = bound.requested_role.as_deref();
    admission::assign(policy, &bound.identity, handle.client, role, at)
}
