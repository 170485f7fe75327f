//! From a CONNECT to a session that may serve: token, roles, limits, upstream. Nobody whose token is not accepted makes
//! us open a connection, since the dial comes last.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::groups::{self, Completed};
use super::sessions::Entry;
use super::{Shared, to_usize};
use crate::clock;
use crate::identity::{Identity, TokenError};
use crate::locks::LockSet;
use crate::policy::{self, Assignment, Circumstances, Judge, Policy, SessionLimits};
use crate::session::{Admission, ClientOptions, CloseReason, ConnectRequest, Refusal, RoleLimits};
use crate::time::Timestamp;
use crate::upstream::{ConnectOptions, Link};

/// What of the client's connection matters for its admission.
#[derive(Clone, Debug)]
pub(super) struct ClientFacts {
    pub(super) client: SocketAddr,
    pub(super) listener: SocketAddr,
    /// `x5t#S256` of the client's TLS certificate.
    pub(super) thumbprint: Option<Box<str>>,
}

/// Why a client is not admitted.
#[derive(Debug)]
pub(super) enum Turned {
    /// It is no.
    Refused(Refusal),
    /// Nothing can be said about the token or its groups now, and why.
    Postponed(Refusal),
    /// It is "not now".
    Unavailable(CloseReason),
}

impl Turned {
    /// Whether it is no for want of groups that nobody knows.
    pub(super) fn is_for_unknown_groups(&self) -> bool {
        matches!(self, Self::Refused(refusal) if policy::Refusal::speaks_of_unknown_groups(refusal.code))
    }
}

/// A client that may serve, and its upstream connection.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) admission: Admission,
    pub(super) verdict: Verdict,
    pub(super) link: Link,
}

/// What an admission went by. Much can change while the upstream is dialled.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    policy: Arc<Policy>,
    locks: Arc<LockSet>,
    at: Timestamp,
}

impl Verdict {
    /// The policy that was asked, and when.
    pub(super) const fn asked(&self) -> (&Arc<Policy>, Timestamp) {
        (&self.policy, self.at)
    }

    /// Whether `policy` and `locks` would have been asked now in the same words.
    pub(super) fn still_holds(
        &self,
        policy: &Arc<Policy>,
        locks: &Arc<LockSet>,
        now: Timestamp,
    ) -> bool {
        // A clock that was set back can put a lock in force again that had ended.
        let same =
            Arc::ptr_eq(&self.policy, policy) && Arc::ptr_eq(&self.locks, locks) && self.at <= now;
        same && self.policy.next_change(self.at).is_none_or(|at| now < at)
    }
}

/// Judges a CONNECT and binds an upstream connection.
pub(super) async fn admit(
    shared: &Shared,
    entry: &mut Entry,
    request: ConnectRequest,
    facts: &ClientFacts,
) -> Result<Admitted, Turned> {
    let options = request.options.clone();
    let Judged {
        mut admission,
        verdict,
        connections,
    } = judge(shared, entry, request, facts).await?;
    if !entry.count(admission.judge.owner(), connections) {
        return Err(Turned::Unavailable(CloseReason::TooManyConnections));
    }
    let link = dial(shared, &admission.upstream, &options, facts).await?;
    admission.info = Arc::clone(&link.info);
    admission.server = (*link.server).into();
    Ok(Admitted {
        admission,
        verdict,
        link,
    })
}

/// An accepted identity, not yet bound to an upstream connection.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) admission: Admission,
    verdict: Verdict,
    /// Sessions that the identity may have at a time.
    connections: Option<usize>,
}

/// Judges the token and gives the roles, without an upstream connection.
pub(super) async fn judge(
    shared: &Shared,
    entry: &Entry,
    request: ConnectRequest,
    facts: &ClientFacts,
) -> Result<Judged, Turned> {
    let mut identity = validate(shared, &request, facts).await?;
    let (policy, locks) = (shared.policy(), shared.locks.current());
    // Before Graph is asked for somebody who is locked out anyway.
    unlocked(shared, &locks, &identity, &[])?;
    let completed = match &shared.groups {
        Some(groups) => groups.complete(&policy, &mut identity).await?,
        None => Completed::Whole,
    };
    // Looking groups up takes time, in which a token may end; the session would end at once.
    let now = clock::now();
    let assignment = assign(
        &policy,
        &identity,
        facts.client,
        request.requested_role(),
        now,
    );
    let assignment = match (assignment, completed) {
        // It would be no for want of groups, but they are not known because Graph is not there.
        (Err(turned), Completed::Lacking(why)) if turned.is_for_unknown_groups() => {
            return Err(Turned::Postponed(groups::because(&why)));
        }
        (assignment, _) => assignment?,
    };
    unlocked(shared, &locks, &identity, &assignment.roles)?;
    for vanished in &assignment.vanished {
        tracing::warn!(session = entry.handle.id.0, rule = %vanished.rule, template = %vanished.template, "a grant does not exist for this identity: the token has no usable value for its template");
    }
    let ends_at = match shared.trust.max_session(&identity) {
        Some(max) => identity.expires_at.min(now.plus(max)),
        None => identity.expires_at,
    };
    let (identity, permissions) = shared.identities.share(identity, assignment.permissions);
    let inboxes = Arc::clone(&shared.inboxes);
    let judge = Judge::new(permissions, inboxes, entry.handle.id.0);
    let limits = assignment.limits;
    let admission = Admission {
        identity,
        roles: assignment.roles,
        upstream: assignment.upstream,
        server: "".into(),
        judge,
        limits: role_limits(limits),
        ends_at,
        info: Arc::clone(&shared.unknown),
    };
    Ok(Judged {
        admission,
        verdict: Verdict {
            policy,
            locks,
            at: now,
        },
        connections: limits.connections.map(to_usize),
    })
}

/// Refuses whom a lock refuses.
fn unlocked(
    shared: &Shared,
    locks: &LockSet,
    identity: &Identity,
    roles: &[Arc<str>],
) -> Result<(), Turned> {
    let refusal = shared.locks.refusal(locks, identity, roles, clock::now());
    refusal.map_or(Ok(()), |refusal| Err(Turned::Refused(refusal)))
}

/// The limits of roles as a session takes them.
pub(super) fn role_limits(limits: SessionLimits) -> RoleLimits {
    RoleLimits {
        payload: limits
            .payload
            .map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX)),
        subscriptions: limits.subscriptions.map(to_usize),
        messages_per_second: limits.messages_per_s,
        bytes_per_second: limits.bytes_per_s,
    }
}

/// The roles of an identity, under the circumstances of its connection.
pub(super) fn assign(
    policy: &Policy,
    identity: &Identity,
    client: SocketAddr,
    requested_role: Option<&str>,
    now: Timestamp,
) -> Result<Assignment, Turned> {
    let circumstances = Circumstances {
        source: client.ip().to_canonical(),
        now,
        requested_role,
    };
    policy.assign(identity, &circumstances).map_err(|refusal| {
        Turned::Refused(Refusal {
            code: refusal.code(),
            sentence: refusal.sentence().into(),
        })
    })
}

async fn validate(
    shared: &Shared,
    request: &ConnectRequest,
    facts: &ClientFacts,
) -> Result<Arc<Identity>, Turned> {
    let (token, thumbprint) = (request.token.expose(), facts.thumbprint.as_deref());
    shared
        .jwks
        .validate(token, thumbprint, &shared.trust.expectations)
        .await
        .map_err(turned)
}

fn turned(error: TokenError) -> Turned {
    if error.is_unavailable() {
        return Turned::Postponed(Refusal {
            code: error.code(),
            sentence: error.sentence().into(),
        });
    }
    Turned::Refused(Refusal {
        code: error.code(),
        sentence: error.sentence().into(),
    })
}

async fn dial(
    shared: &Shared,
    upstream: &str,
    options: &ClientOptions,
    facts: &ClientFacts,
) -> Result<Link, Turned> {
    let connect = ConnectOptions {
        client_addr: facts.client,
        listener_addr: facts.listener,
        echo: options.echo,
        headers: options.headers,
        no_responders: options.no_responders,
        protocol: 1,
        lang: &options.lang,
        version: &options.version,
        name: &options.name,
    };
    let started = Instant::now();
    let result = shared.upstreams.dial(upstream, &connect).await;
    shared
        .metrics
        .dialled(upstream, result.is_ok(), started.elapsed());
    result.map_err(|error| {
        tracing::warn!(upstream, "cannot bind an upstream connection: {error}");
        Turned::Unavailable(CloseReason::UpstreamUnavailable)
    })
}
