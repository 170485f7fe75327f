//! The NATS servers behind us: dialling them with credentials that no client sees, knowing which are well, and the
//! INFO they greet with.
//!
//! ```text
//! Upstreams -> failover -> servers                health, order, pauses
//!                 |-> probe                       a watch per server: health without clients, INFO template
//!                 \-> dial -> transport           TCP, PROXY v2, INFO and TLS in either order
//!                       \-> handshake, connect    CONNECT, PONG; credentials of our own
//!                       \-> greeting              what INFO says, and what it said last
//!                       \-> early                 CONNECT before INFO, where the server greeted in clear a moment ago
//!                 \-> ahead -> pace               links dialled ahead while many sessions come
//! ```
//!
//! Never carries a client's token: [`ConnectOptions`] has no field for it. Never forwards bytes of a client's CONNECT:
//! ours is built from an allow-list. A link is bound to one session for its life; what waits in `ahead` was said nothing to.

mod ahead;
mod blame;
mod config;
mod connect;
mod credentials;
mod dial;
mod early;
mod error;
mod failover;
mod greeting;
mod handshake;
mod pace;
mod probe;
mod proxy_header;
mod servers;
mod socket;
mod stream;
mod template;
mod transport;

pub use ahead::{AheadFigures, LINKS_AHEAD};
pub use config::{
    Auth, ConfigError, DEFAULT_DIAL_TIMEOUT, Scheme, ServerUrl, TlsDial, TlsFirst, UpstreamConfig,
};
pub use error::{DialError, Step};
pub use proxy_header::{proxy_v2, proxy_v2_local};
pub use servers::{ServerState, ServerStatus};
pub use stream::LinkStream;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use crate::wire::ServerInfo;
use failover::Upstream;

/// What of the client's CONNECT reaches the server, and the addresses for the PROXY header.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions<'a> {
    /// Where the client is.
    pub client_addr: SocketAddr,
    /// Where it reached us.
    pub listener_addr: SocketAddr,
    /// Whether the server sends a client's own messages back to it.
    pub echo: bool,
    /// Whether headers are wanted; sent as false to a server that has none.
    pub headers: bool,
    /// Whether 503 answers are wanted; sent as false without headers.
    pub no_responders: bool,
    /// 0 or 1; more is sent as 1.
    pub protocol: u8,
    /// Language of the library; the first 32 bytes are sent.
    pub lang: &'a str,
    /// Its version; the first 32 bytes are sent.
    pub version: &'a str,
    /// Name of the connection; the first 128 bytes are sent.
    pub name: &'a str,
}

impl ConnectOptions<'_> {
    /// For connections of our own.
    const fn probe() -> ConnectOptions<'static> {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        ConnectOptions {
            client_addr: nowhere,
            listener_addr: nowhere,
            echo: false,
            headers: true,
            no_responders: false,
            protocol: 1,
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            name: "natsentry probe",
        }
    }
}

/// A connection to a server that has accepted our credentials and answered PING.
#[derive(Debug)]
pub struct Link {
    /// The stream. Nothing of ours is under way on it.
    pub stream: LinkStream,
    /// The last INFO that came before PONG or together with it.
    pub info: Arc<ServerInfo>,
    /// What else the server sent behind PONG and was read already: to be treated before anything read later.
    pub leftover: Vec<u8>,
    /// The server, as it is written in the configuration.
    pub server: Arc<str>,
}

/// One upstream as an operator sees it.
#[derive(Clone, Debug)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Whether a server of it is up.
    pub ready: bool,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<ServerStatus>,
    /// Links dialled ahead.
    pub ahead: AheadFigures,
}

/// All upstreams by name. Cheap to share; [`Upstreams::reload`] exchanges the set for all holders.
pub struct Upstreams {
    current: ArcSwap<Set>,
    draining: AtomicBool,
    tasks: TaskTracker,
}

type Set = HashMap<Arc<str>, Arc<Upstream>>;

impl Upstreams {
    /// Checks the configuration and begins to watch every server. Must be called inside a tokio runtime; the watches
    /// run on `tasks` and end with [`Upstreams::stop`] or when this is dropped.
    ///
    /// # Errors
    /// The first mistake in the configuration.
    pub fn start(configs: Vec<UpstreamConfig>, tasks: &TaskTracker) -> Result<Self, ConfigError> {
        let set = build(configs, None, tasks)?;
        let this = Self {
            current: ArcSwap::from_pointee(set),
            draining: AtomicBool::new(false),
            tasks: tasks.clone(),
        };
        this.watch();
        Ok(this)
    }

    /// Exchanges the set. Links that are open stay as they are, those dialled ahead are closed; INFO of upstreams that keep
    /// their name is kept until there is news. On an error nothing changes.
    ///
    /// # Errors
    /// The first mistake in the configuration.
    pub fn reload(&self, configs: Vec<UpstreamConfig>) -> Result<(), ConfigError> {
        let set = build(configs, Some(&self.current.load()), &self.tasks)?;
        let before = self.current.swap(Arc::new(set));
        close_ahead(&before);
        if self.draining.load(Ordering::SeqCst) {
            close_ahead(&self.current.load());
        }
        self.watch();
        Ok(())
    }

    /// Dials nothing ahead any more, and closes what was. Dials still work.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        close_ahead(&self.current.load());
    }

    /// Ends the watches, and does what [`Upstreams::drain`] does.
    pub fn stop(&self) {
        self.drain();
        for upstream in self.current.load().values() {
            upstream.stop.cancel();
        }
    }

    /// A link for one session: the best server first, the next one when it fails, one deadline over all of it. May be
    /// dropped at any point.
    ///
    /// # Errors
    /// The failure that says most about what is wrong. The client gets a silent close whatever it is.
    pub async fn dial(
        &self,
        upstream: &str,
        options: &ConnectOptions<'_>,
    ) -> Result<Link, DialError> {
        let found = self.current.load().get(upstream).map(Arc::clone);
        match found {
            Some(upstream) => upstream.dial(options).await,
            None => Err(DialError::UnknownUpstream {
                upstream: upstream.to_owned(),
            }),
        }
    }

    /// The INFO to greet clients of this upstream with; none before a server of it was reached for the first time.
    #[must_use]
    pub fn info(&self, upstream: &str) -> Option<Arc<ServerInfo>> {
        self.current.load().get(upstream)?.template.current()
    }

    /// A live link got an INFO with `ldm`: no new links to that server until it is back.
    pub fn lame_duck(&self, upstream: &str, server: &str) {
        let set = self.current.load();
        let Some(upstream) = set.get(upstream) else {
            return;
        };
        for known in upstream
            .servers
            .iter()
            .filter(|known| &*known.label == server)
        {
            let error = DialError::LameDuck {
                server: server.to_owned(),
            };
            upstream.failed(known, &error);
        }
    }

    /// A live link broke: the server is looked at now, not at the next probe.
    pub fn suspect(&self, upstream: &str, server: &str) {
        let set = self.current.load();
        let Some(upstream) = set.get(upstream) else {
            return;
        };
        for known in upstream
            .servers
            .iter()
            .filter(|known| &*known.label == server)
        {
            upstream.suspect(known);
        }
    }

    /// Every upstream, by name.
    #[must_use]
    pub fn status(&self) -> Vec<UpstreamStatus> {
        let mut all: Vec<_> = self
            .current
            .load()
            .values()
            .map(|upstream| upstream.status())
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn watch(&self) {
        for upstream in self.current.load().values() {
            for server in upstream.servers.iter() {
                self.tasks.spawn(probe::watch(
                    Arc::downgrade(upstream),
                    Arc::clone(server),
                    upstream.stop.clone(),
                ));
            }
        }
    }
}

fn close_ahead(set: &Set) {
    for upstream in set.values() {
        upstream.ahead.close();
    }
}

fn build(
    configs: Vec<UpstreamConfig>,
    old: Option<&Set>,
    tasks: &TaskTracker,
) -> Result<Set, ConfigError> {
    let mut set = Set::with_capacity(configs.len());
    for config in configs {
        let name = Arc::clone(&config.name);
        let before = old.and_then(|old| old.get(&name));
        let totals = before.map(|before| before.ahead.totals());
        let upstream = Upstream::new(config, totals.unwrap_or_default(), tasks)?;
        if let Some(before) = before {
            upstream.inherit(before);
        }
        if set.insert(Arc::clone(&name), Arc::new(upstream)).is_some() {
            return Err(ConfigError::Duplicate {
                upstream: name.to_string(),
            });
        }
    }
    Ok(set)
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.status()).finish()
    }
}
