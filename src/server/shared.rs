//! What every connection shares: the adapters, the limits, the table of sessions.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::buffers::BUFFER;
use super::groups::GroupSource;
use super::handshakes::Handshakes;
use super::identities::Identities;
use super::locks::Locks;
use super::memory::Memory;
use super::secrets::Rotation;
use super::sessions::Sessions;
use super::slots::Slots;
use super::to_usize;
use crate::audit::Audit;
use crate::clock;
use crate::config::{self, Config, GraphConfig, ProxyProtocolConfig, TrustConfig};
use crate::entra::{GraphError, Tools};
use crate::http::Http;
use crate::identity::Code;
use crate::jwks::Jwks;
use crate::locks::REVOKED;
use crate::metrics::{Metrics, MetricsError, Names};
use crate::policy::units::ByteSize;
use crate::policy::{self, InboxRegistry, Policy};
use crate::session::{CONNECT_REFUSALS, Limits};
use crate::tls::ServerTls;
use crate::upstream::{UpstreamConfig, Upstreams};
use crate::wire::ServerInfo;

/// TLS towards clients.
pub(super) struct ListenTls {
    pub(super) server: ServerTls,
    pub(super) verifies_clients: bool,
    /// How long to wait for a ClientHello before INFO; zero sends INFO at once.
    pub(super) first_wait: Duration,
}

/// How clients are listened to.
pub(super) struct Listening {
    pub(super) tls: Option<ListenTls>,
    pub(super) proxy_protocol: Option<ProxyProtocolConfig>,
}

/// What every connection shares.
pub(super) struct Shared {
    pub(super) listen: Listening,
    pub(super) limits: Arc<Limits>,
    pub(super) trust: TrustConfig,
    pub(super) jwks: Jwks,
    /// The configuration in force, for reading its secrets again.
    pub(super) running: ArcSwap<Config>,
    /// The file with which the process began: what of it a reload leaves in force.
    pub(super) begun: config::Source,
    pub(super) rotation: Rotation,
    pub(super) groups: Option<Arc<GroupSource>>,
    pub(super) stop_keys: CancellationToken,
    pub(super) policy: ArcSwap<Policy>,
    pub(super) locks: Locks,
    pub(super) inboxes: Arc<InboxRegistry>,
    pub(super) identities: Identities,
    pub(super) upstreams: Upstreams,
    pub(super) upstream_names: Vec<Arc<str>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) audit: Audit,
    pub(super) sessions: Arc<Sessions>,
    pub(super) slots: Arc<Slots>,
    pub(super) handshakes: Arc<Handshakes>,
    pub(super) memory: Arc<Memory>,
    pub(super) tasks: TaskTracker,
    pub(super) unknown: Arc<ServerInfo>,
    pub(super) drain_time: Duration,
    pub(super) draining: AtomicBool,
}

impl Shared {
    /// Starts everything that sessions need. Must be called inside a tokio runtime.
    pub(super) fn start(config: Config) -> anyhow::Result<Self> {
        let tasks = TaskTracker::new();
        let locks = Locks::open(&config.locks)?;
        let metrics = Arc::new(start_metrics(&config)?);
        let audit = Audit::start(config.audit.clone())?;
        audit.set_policy(config.policy.hash());
        let stop_keys = CancellationToken::new();
        let jwks = Jwks::start(
            &config.trust.expectations,
            &config.keys,
            None,
            &tasks,
            &stop_keys,
        )?;
        let groups = start_groups(config.graph.clone(), &config.keys, &tasks, &stop_keys)?;
        let upstreams = Upstreams::start(config.upstreams.clone(), &tasks)?;
        let limits = &config.limits;
        Ok(Self {
            running: ArcSwap::from_pointee(config.clone()),
            begun: config.source.clone(),
            rotation: Rotation::default(),
            listen: Listening {
                tls: listen_tls(&config)?,
                proxy_protocol: config.listen.proxy_protocol.clone(),
            },
            slots: Slots::new(
                to_usize(limits.connections),
                to_usize(limits.connections_per_address),
            ),
            handshakes: Handshakes::new(to_usize(limits.handshakes), strangers_with_buffer(limits)),
            memory: Memory::new(bytes(limits.memory), limits.write_deadline.get()),
            drain_time: limits.drain.get(),
            limits: Arc::new(session_limits(&config)),
            trust: config.trust,
            jwks,
            groups,
            stop_keys,
            policy: ArcSwap::new(config.policy),
            locks,
            inboxes: Arc::default(),
            identities: Identities::default(),
            upstreams,
            upstream_names: names(&config.upstreams),
            metrics,
            audit,
            sessions: Arc::default(),
            tasks,
            unknown: Arc::new(ServerInfo::unknown()),
            draining: AtomicBool::new(false),
        })
    }

    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// INFO of the first upstream that was ever reached: who the client is, and so which upstream it will have, is not
    /// known yet. What differs is told after the first PONG.
    pub(super) fn greeting(&self) -> Arc<ServerInfo> {
        self.upstream_names
            .iter()
            .find_map(|name| self.upstreams.info(name))
            .unwrap_or_else(|| Arc::clone(&self.unknown))
    }
}

fn names(upstreams: &[UpstreamConfig]) -> Vec<Arc<str>> {
    upstreams
        .iter()
        .map(|upstream| Arc::clone(&upstream.name))
        .collect()
}

fn start_metrics(config: &Config) -> Result<Metrics, MetricsError> {
    let roles: Vec<_> = config.policy.role_names().cloned().collect();
    let sources = config.trust.expectations.sources();
    let issuers: Vec<Arc<str>> = sources.iter().map(|source| (*source.name).into()).collect();
    let labels = Names {
        roles: &roles,
        upstreams: &names(&config.upstreams),
        issuers: &issuers,
        refusal_codes: &refusal_codes(),
        postponement_codes: &postponement_codes(),
    };
    let metrics = Metrics::new(labels, clock::now())?;
    metrics.policy_loaded(Some(config.policy.hash()));
    Ok(metrics)
}

/// Every code that a refusal can have, so that each has a series from the first scrape on.
fn refusal_codes() -> Vec<&'static str> {
    let token = Code::ALL.iter().map(|code| code.as_str());
    token
        .chain(policy::Refusal::CODES)
        .chain(GraphError::CODES)
        .chain(CONNECT_REFUSALS)
        .chain([REVOKED])
        .collect()
}

/// Every code of what could not be had.
fn postponement_codes() -> Vec<&'static str> {
    let keys = Code::ALL.iter().filter(|code| code.is_unavailable());
    keys.map(|code| code.as_str())
        .chain(GraphError::CODES)
        .collect()
}

fn start_groups(
    config: Option<GraphConfig>,
    keys: &crate::jwks::Settings,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Arc<GroupSource>>> {
    let Some(config) = config else {
        return Ok(None);
    };
    let tools = Tools {
        http: Http::new(&keys.extra_roots, config.settings.timeout)?,
        tasks: tasks.clone(),
        stop: stop.child_token(),
    };
    let groups = Arc::new(GroupSource::new(config, tools).context("entra.graph.credential")?);
    tasks.spawn(Arc::clone(&groups).watch_permissions(stop.clone()));
    Ok(Some(groups))
}

fn listen_tls(config: &Config) -> anyhow::Result<Option<ListenTls>> {
    let Some(tls) = &config.listen.tls else {
        return Ok(None);
    };
    let server = ServerTls::new(&tls.cert, &tls.key, tls.client_ca.as_ref())?;
    Ok(Some(ListenTls {
        server,
        verifies_clients: tls.client_ca.is_some(),
        first_wait: tls.first_wait,
    }))
}

fn session_limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        control_line: bytes(limits.control_line),
        connect_line: bytes(limits.connect_line),
        payload: u32::try_from(limits.payload.bytes()).unwrap_or(u32::MAX),
        subscriptions: to_usize(limits.subscriptions),
        subscription_bytes: bytes(limits.subscription_bytes),
        pending: bytes(limits.pending),
        handshake: limits.handshake.get(),
        write_deadline: limits.write_deadline.get(),
        ..Limits::default()
    }
}

/// How many of those who have not said CONNECT yet may hold a buffer for what they have said of it: as many as take an eighth
/// of `limits.memory`, each the longest CONNECT.
fn strangers_with_buffer(limits: &config::Limits) -> usize {
    let each = bytes(limits.connect_line).next_multiple_of(BUFFER);
    bytes(limits.memory) / 8 / each.max(BUFFER)
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.bytes()).unwrap_or(usize::MAX)
}
