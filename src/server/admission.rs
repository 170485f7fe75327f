//! From a CONNECT to a session that may serve: token, roles, limits, upstream. Nobody whose token is not accepted makes
//! us open a connection, since the dial comes last.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::Shared;
use super::sessions::Entry;
use crate::clock;
use crate::identity::{self, Identity, TokenError};
use crate::jwks::Refreshed;
use crate::policy::{Assignment, Circumstances, Judge, Policy};
use crate::session::{
    Admission, ClientOptions, CloseReason, ConnectRequest, Refusal, RoleLimits,
};
use crate::time::Timestamp;
use crate::upstream::{ConnectOptions, Link};
use crate::wire::ServerInfo;

/// What of the client's connection matters for its admission.
#[derive(Clone, Debug)]
pub(super) struct ClientFacts {
    pub(super) client: SocketAddr,
    pub(super) listener: SocketAddr,
    /// `x5t#S256` of the client's TLS certificate.
    pub(super) thumbprint: Option<String>,
}

/// Why a client is not admitted.
#[derive(Debug)]
pub(super) enum Turned {
    /// It is no.
    Refused(Refusal),
    /// It is "not now".
    Unavailable(CloseReason),
}

/// A client that may serve, and its upstream connection.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) admission: Admission,
    pub(super) link: Link,
}

/// Judges a CONNECT and binds an upstream connection.
pub(super) async fn admit(
    shared: &Shared,
    entry: &mut Entry,
    request: ConnectRequest,
    facts: &ClientFacts,
) -> Result<Admitted, Turned> {
    let options = request.options.clone();
    let mut admission = judge(shared, entry, request, facts).await?;
    let limits: Vec<_> = admission
        .roles
        .iter()
        .map(|role| (Arc::clone(role), shared.policy().connections_of(role)))
        .collect();
    if !entry.count(&limits) {
        return Err(Turned::Unavailable(CloseReason::TooManyConnections));
    }
    let link = dial(shared, &admission.upstream, &options, facts).await?;
    admission.info = ServerInfo::parse(&link.info)
        .map_err(|_| Turned::Unavailable(CloseReason::UpstreamProtocol))?;
    admission.server = (*link.server).into();
    Ok(Admitted { admission, link })
}

/// Judges the token and gives the roles, without an upstream connection.
pub(super) async fn judge(
    shared: &Shared,
    entry: &Entry,
    request: ConnectRequest,
    facts: &ClientFacts,
) -> Result<Admission, Turned> {
    let identity = validate(shared, &request, facts).await?;
    let now = clock::now();
    let policy = shared.policy();
    let requested = Some(request.user.as_str()).filter(|user| !user.is_empty());
    let assignment = assign(&policy, &identity, facts.client, requested, now)?;
    for vanished in &assignment.vanished {
        tracing::warn!(session = entry.handle.id.0, "a grant vanished: {vanished}");
    }
    let ends_at = match shared.trust.max_session(&identity.issuer) {
        Some(max) => identity.expires_at.min(now.plus(max)),
        None => identity.expires_at,
    };
    let judge = Judge::new(
        Arc::clone(&assignment.permissions),
        Arc::clone(&shared.inboxes),
        entry.handle.id.0,
    );
    Ok(Admission {
        identity: Arc::new(identity),
        roles: assignment.roles,
        upstream: assignment.upstream,
        server: "".into(),
        judge,
        limits: RoleLimits {
            payload: assignment.limits.payload,
            subscriptions: assignment.limits.subscriptions,
            messages_per_second: assignment.limits.messages_per_second,
            bytes_per_second: assignment.limits.bytes_per_second,
        },
        ends_at,
        info: ServerInfo::default(),
    })
}

/// The roles of an identity, under the circumstances of its connection.
pub(super) fn assign(
    policy: &Policy,
    identity: &Identity,
    client: SocketAddr,
    requested_role: Option<&str>,
    now: Timestamp,
) -> Result<Assignment, Turned> {
    let circumstances = Circumstances { source: client.ip().to_canonical(), now, requested_role };
    policy.assign(identity, &circumstances).map_err(|refusal| {
        Turned::Refused(Refusal { code: refusal.code(), sentence: refusal.sentence().into() })
    })
}

async fn validate(
    shared: &Shared,
    request: &ConnectRequest,
    facts: &ClientFacts,
) -> Result<Identity, Turned> {
    let first = validate_once(shared, request, facts);
    let Err(error) = first else { return first.map_err(turned) };
    let Some(need) = error.needs_key() else { return Err(turned(error)) };
    // The key may be newer than the set we hold: the connection waits for one fetch, if one is allowed now.
    match shared.jwks.refresh_for(need).await {
        Refreshed::Newer => validate_once(shared, request, facts).map_err(turned),
        Refreshed::Throttled(wait) => Err(turned(error.throttled(wait))),
        Refreshed::Failed(why) => Err(turned(error.unanswered(&why))),
        Refreshed::Unchanged => Err(turned(error)),
    }
}

fn validate_once(
    shared: &Shared,
    request: &ConnectRequest,
    facts: &ClientFacts,
) -> Result<Identity, TokenError> {
    identity::validate_bound(
        request.token.expose(),
        facts.thumbprint.as_deref(),
        &shared.jwks.ring(),
        &shared.trust.expectations,
        clock::now(),
    )
}

fn turned(error: TokenError) -> Turned {
    if error.is_unavailable() {
        tracing::warn!(code = error.code(), "cannot judge a token now: {}", error.sentence());
        return Turned::Unavailable(CloseReason::IdentityUnavailable);
    }
    Turned::Refused(Refusal { code: error.code(), sentence: error.sentence().into() })
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
    shared.metrics.dialled(upstream, result.is_ok(), started.elapsed());
    result.map_err(|error| {
        tracing::warn!(upstream, "cannot bind an upstream connection: {error}");
        Turned::Unavailable(CloseReason::UpstreamUnavailable)
    })
}
