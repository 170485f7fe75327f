//! The server: joins the adapters, accepts clients, and ends in good order.
//!
//! Owns: what every connection shares, and the life of the process from start to drained. Must never: judge anything
//! itself.

mod accept;
mod admission;
mod buffers;
mod client_stream;
mod connection;
mod drain;
mod lane;
mod log;
mod observed;
mod process;
mod pump;
mod reload;
mod sessions;
mod slots;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{Admin, AdminState};
use crate::audit::{Act, ActKind, Audit};
use crate::clock;
use crate::config::{Config, TrustConfig};
use crate::identity::Code;
use crate::jwks::{self, Jwks};
use crate::metrics::{Metrics, Names};
use crate::policy::units::ByteSize;
use crate::policy::{self, InboxRegistry, Policy};
use crate::session::{CONNECT_REFUSALS, CloseReason, Limits};
use crate::tls::ServerTls;
use crate::upstream::Upstreams;
use crate::wire::ServerInfo;
pub use process::run;
use sessions::Sessions;
use slots::Slots;

/// TLS towards clients.
pub(crate) struct ListenTls {
    server: ServerTls,
    verifies_clients: bool,
    /// How long to wait for a ClientHello before INFO; zero sends INFO at once.
    first_wait: Duration,
}

/// How clients are listened to.
struct Listening {
    tls: Option<ListenTls>,
}

/// What every connection shares.
pub(crate) struct Shared {
    listen: Listening,
    limits: Arc<Limits>,
    trust: TrustConfig,
    jwks: Jwks,
    stop_keys: CancellationToken,
    policy: ArcSwap<Policy>,
    inboxes: Arc<InboxRegistry>,
    upstreams: Upstreams,
    upstream_names: Vec<Arc<str>>,
    metrics: Arc<Metrics>,
    audit: Audit,
    sessions: Arc<Sessions>,
    slots: Arc<Slots>,
    tasks: TaskTracker,
    unknown: Arc<ServerInfo>,
    greetings: ArcSwap<Greeting>,
    drain_time: Duration,
    draining: std::sync::atomic::AtomicBool,
}

/// The INFO to greet with, and the bytes it was read from.
#[derive(Default)]
struct Greeting {
    source: Option<Arc<[u8]>>,
    info: Arc<ServerInfo>,
}

impl Shared {
    fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// INFO of the first upstream that was ever reached: who the client is, and so which upstream it will have, is not
    /// known yet. What differs is told after the first PONG.
    fn greeting(&self) -> Arc<ServerInfo> {
        let Some(source) = self
            .upstream_names
            .iter()
            .find_map(|name| self.upstreams.info(name))
        else {
            return Arc::clone(&self.unknown);
        };
        let cached = self.greetings.load();
        if cached
            .source
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, &source))
        {
            return Arc::clone(&cached.info);
        }
        let mut info = ServerInfo::parse(&source).unwrap_or_else(|_| ServerInfo::unknown());
        // What is true of the connection that was probed is not true of the one to come.
        info.connect_info = false;
        info.ldm = false;
        let info = Arc::new(info);
        self.greetings.store(Arc::new(Greeting {
            source: Some(source),
            info: Arc::clone(&info),
        }));
        info
    }
}

/// A server that is ready to accept.
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    admin: Option<TcpListener>,
    config_path: Option<PathBuf>,
}

impl Server {
    /// Binds the listeners and starts everything that sessions need. Nothing is accepted before [`Server::run`].
    ///
    /// # Errors
    /// When an address cannot be bound, or the audit cannot be written. An identity provider or upstream that cannot be
    /// reached is no error: it is reported by `/readyz` and tried again.
    pub async fn build(config: Config, config_path: Option<PathBuf>) -> anyhow::Result<Self> {
        crate::tls::install_provider();
        let tasks = TaskTracker::new();
        let listener = bind(config.listen.client).await.context("listen.client")?;
        let admin = match config.admin {
            Some(address) => Some(bind(address).await.context("admin.listen")?),
            None => None,
        };
        let upstream_names: Vec<_> = config
            .upstreams
            .iter()
            .map(|upstream| Arc::clone(&upstream.name))
            .collect();
        let roles: Vec<_> = config.policy.role_names().cloned().collect();
        let sources = config.trust.expectations.sources();
        let issuers: Vec<Arc<str>> = sources.iter().map(|source| (*source.name).into()).collect();
        let refusal_codes = refusal_codes();
        let metrics = Arc::new(Metrics::new(
            Names {
                roles: &roles,
                upstreams: &upstream_names,
                issuers: &issuers,
                refusal_codes: &refusal_codes,
            },
            clock::now(),
        )?);
        let audit = Audit::start(config.audit.clone())?;
        audit.set_policy(config.policy.hash());
        metrics.policy_loaded(Some(config.policy.hash()));
        let stop_keys = CancellationToken::new();
        let settings = jwks::Settings {
            cache: keys_folder(),
            ..jwks::Settings::default()
        };
        let jwks = Jwks::start(
            &config.trust.expectations,
            &settings,
            None,
            &tasks,
            &stop_keys,
        )?;
        let upstreams = Upstreams::start(config.upstreams.clone(), &tasks)?;
        let limits = session_limits(&config);
        let shared = Arc::new(Shared {
            listen: Listening {
                tls: listen_tls(&config)?,
            },
            slots: Slots::new(
                to_usize(config.limits.connections),
                to_usize(config.limits.connections_per_address),
            ),
            drain_time: config.limits.drain.get(),
            limits: Arc::new(limits),
            trust: config.trust,
            jwks,
            stop_keys,
            policy: ArcSwap::new(config.policy),
            inboxes: Arc::default(),
            upstreams,
            upstream_names,
            metrics,
            audit,
            sessions: Arc::default(),
            tasks,
            unknown: Arc::new(ServerInfo::unknown()),
            greetings: ArcSwap::default(),
            draining: std::sync::atomic::AtomicBool::new(false),
        });
        Ok(Self {
            shared,
            listener,
            admin,
            config_path,
        })
    }

    /// The address that clients connect to, with the port that was really bound.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn client_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address of the admin interface, where there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `shutdown`, then drains: no new clients, a notice to every session, and an end for all of them.
    ///
    /// # Errors
    /// When the audit could not be written to its end.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self {
            shared,
            listener,
            admin,
            config_path,
        } = self;
        let stop = CancellationToken::new();
        let admin_stop = CancellationToken::new();
        act(
            &shared,
            ActKind::Started,
            "process",
            env!("CARGO_PKG_VERSION"),
        )
        .await;
        if let Some(listener) = admin {
            let state = AdminState {
                metrics: Arc::clone(&shared.metrics),
                observed: Arc::new(observed::View(Arc::clone(&shared))),
            };
            let stopped = admin_stop.clone().cancelled_owned();
            shared.tasks.spawn(async move {
                if let Err(error) = Admin::serve(listener, state, stopped).await {
                    tracing::error!(%error, "the admin interface ended");
                }
            });
        }
        let accepting =
            shared
                .tasks
                .spawn(accept::run(Arc::clone(&shared), listener, stop.clone()));
        if let Some(path) = config_path {
            shared
                .tasks
                .spawn(reload::on_hangup(Arc::clone(&shared), path, stop.clone()));
        }
        shutdown.await;
        stop.cancel();
        // The loop only ends by the token; a panic in it was reported already.
        let _ = accepting.await;
        drain::run(&shared).await;
        admin_stop.cancel();
        shared.upstreams.stop();
        shared.stop_keys.cancel();
        act(&shared, ActKind::Stopped, "process", "").await;
        shared.audit.flush(Duration::from_secs(5)).await?;
        Ok(())
    }
}

/// Every code that a refusal can have, so that each has a series from the first scrape on.
fn refusal_codes() -> Vec<&'static str> {
    let token = Code::ALL.iter().map(|code| code.as_str());
    token
        .chain(policy::Refusal::CODES)
        .chain(CONNECT_REFUSALS)
        .collect()
}

/// Where the last good key sets are kept: systemd's `CacheDirectory=`, else the user's cache folder.
fn keys_folder() -> Option<PathBuf> {
    let folder = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    folder("CACHE_DIRECTORY")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("natsentry")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache").join("natsentry")))
        .map(|cache| cache.join("keys"))
}

async fn act(shared: &Shared, kind: ActKind, by: &str, detail: &str) {
    shared
        .audit
        .record_act(Act {
            at: clock::now(),
            kind,
            by,
            detail,
        })
        .await;
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; is another program there, or the address not ours?")
    })
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
        pending: bytes(limits.pending),
        handshake: limits.handshake.get(),
        write_deadline: limits.write_deadline.get(),
        ..Limits::default()
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.bytes()).unwrap_or(usize::MAX)
}

fn to_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Tells every session to end by the way of `reason`.
fn end_all(shared: &Shared, reason: CloseReason) {
    for handle in shared.sessions.all() {
        handle.order(sessions::Order::End(reason));
    }
}
