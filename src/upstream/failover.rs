//! One upstream: a dial goes to the best of its servers and, when that fails, to the next.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::ahead::{Ahead, Totals};
use super::config::{ConfigError, UpstreamConfig};
use super::credentials::Credentials;
use super::dial::{Dial, Dialled, Purpose};
use super::error::DialError;
use super::servers::{Change, Server, ServerState, Servers};
use super::template::Template;
use super::{ConnectOptions, Link, UpstreamStatus};
use crate::clock;
use crate::wire::ServerInfo;

/// One upstream. Its watches end when it is dropped.
pub(super) struct Upstream {
    pub(super) config: UpstreamConfig,
    pub(super) credentials: Credentials,
    pub(super) servers: Servers,
    pub(super) template: Template,
    pub(super) ahead: Arc<Ahead>,
    pub(super) stop: CancellationToken,
    _stops: DropGuard,
}

impl Upstream {
    pub(super) fn new(
        config: UpstreamConfig,
        totals: Arc<Totals>,
        tasks: &TaskTracker,
    ) -> Result<Self, ConfigError> {
        let credentials = config.prepare()?;
        let servers = Servers::new(&config.servers, clock::now());
        let stop = CancellationToken::new();
        let ahead = Ahead::new(&config, totals, tasks.clone(), &stop);
        let stops = stop.clone().drop_guard();
        Ok(Self {
            config,
            credentials,
            servers,
            template: Template::new(),
            ahead: Arc::new(ahead),
            stop,
            _stops: stops,
        })
    }

    /// Goes on where the upstream of this name was.
    pub(super) fn inherit(&self, before: &Self) {
        self.template.inherit(&before.template);
        for server in self.servers.iter() {
            let same = before.servers.iter().find(|known| known.url == server.url);
            if let Some(same) = same {
                server.inherit(same);
            }
        }
    }

    pub(super) async fn dial(
        self: &Arc<Self>,
        options: &ConnectOptions<'_>,
    ) -> Result<Link, DialError> {
        let deadline = Instant::now() + self.config.dial_timeout;
        let recovery = self.servers.recovered.notified();
        match self.pass(options, deadline).await {
            // Others are finding out whether a server is back: many clients come at once when one was away.
            Err(DialError::Down { .. }) => {}
            result => return result,
        }
        drop(timeout_at(deadline.min(Instant::now() + RECOVERY_PATIENCE), recovery).await);
        self.pass(options, deadline).await
    }

    /// Every server that may be tried, once.
    async fn pass(
        self: &Arc<Self>,
        options: &ConnectOptions<'_>,
        deadline: Instant,
    ) -> Result<Link, DialError> {
        let order = self.servers.order(Instant::now());
        let mut worst: Option<DialError> = None;

        for (index, server) in order.iter().enumerate() {
            let Some(turn) = server.turn() else { continue };
            let left = deadline.saturating_duration_since(Instant::now());
            let others = order.len().saturating_sub(index);
            let dial = Dial {
                config: &self.config,
                credentials: &self.credentials,
                server: &turn.server,
                purpose: Purpose::Session(options),
                deadline: Instant::now() + share(left, others),
                connect_limit: left,
            };
            match self.link(dial).await {
                Ok(Dialled { link, .. }) => {
                    self.template.dialled(&link.info);
                    self.succeeded(server, &link.info);
                    Ahead::dial(self, self.ahead.places(server, Instant::now()));
                    return Ok(link);
                }
                Err(error) => {
                    self.failed(server, &error);
                    if worst
                        .as_ref()
                        .is_none_or(|worst| worst.weight() <= error.weight())
                    {
                        worst = Some(error);
                    }
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(worst.unwrap_or_else(|| DialError::Down {
            upstream: self.config.name.to_string(),
            last: self
                .servers
                .last_error()
                .as_deref()
                .unwrap_or("not tried yet")
                .to_owned(),
        }))
    }

    /// Over a connection that was dialled ahead, if one waits; over a new one if none does, or if that one had ended: nothing
    /// of the client's went over it.
    async fn link(&self, dial: Dial<'_>) -> Result<Dialled, DialError> {
        let now = Instant::now();
        if let Some(opened) = self.ahead.take(dial.server, now) {
            let half = dial.deadline.saturating_duration_since(now) / 2;
            let mut over = Box::pin(dial.over(opened));
            match timeout_at(now + half, &mut over).await {
                Ok(Err(error)) if error.is_of_the_connection() => {
                    self.ahead.failed(Instant::now());
                }
                Ok(result) => {
                    self.ahead.taken();
                    return result;
                }
                // It died without a word, or the server is slow with everybody.
                Err(_) => {
                    self.ahead.failed(Instant::now());
                    return first_of(over, Box::pin(self.fresh(dial))).await;
                }
            }
        }
        self.fresh(dial).await
    }

    async fn fresh(&self, dial: Dial<'_>) -> Result<Dialled, DialError> {
        match dial.run().await {
            // The server may be full with what we dialled ahead.
            Err(error @ DialError::TurnedAway { .. }) => {
                let Some(opened) = self.ahead.take(dial.server, Instant::now()) else {
                    return Err(error);
                };
                self.ahead.taken();
                Box::pin(dial.over(opened)).await
            }
            result => result,
        }
    }

    /// Nothing that was learned of this server before is to be built on.
    fn doubt(&self, server: &Server) {
        self.ahead.let_go(server);
        server.greeting.forget();
    }

    /// A live link to this server broke: it is in doubt.
    pub(super) fn suspect(&self, server: &Server) {
        self.doubt(server);
        server.suspect();
    }

    /// A dial or probe went through.
    pub(super) fn succeeded(&self, server: &Server, info: &ServerInfo) {
        if server.succeeded(&info.version, clock::now()) == Change::WentUp {
            self.servers.recovered.notify_waiters();
            let (upstream, version) = (&*self.config.name, &*info.version);
            tracing::info!(upstream, server = &*server.label, version, "server is up");
        }
    }

    /// A dial or probe failed, or a live link said that the server is about to stop.
    pub(super) fn failed(&self, server: &Server, error: &DialError) {
        self.doubt(server);
        // That this machine is short of something says nothing about a server that was well.
        let ours = matches!(error, DialError::Local { .. });
        if ours && server.status().state == ServerState::Up {
            return;
        }
        if server.failed(error, Instant::now(), clock::now()) == Change::WentDown {
            tracing::warn!(upstream = &*self.config.name, server = &*server.label, %error, "server is down");
        }
    }

    pub(super) fn status(&self) -> UpstreamStatus {
        let servers: Vec<_> = self.servers.iter().map(|server| server.status()).collect();
        let ready = servers.iter().any(|server| server.state == ServerState::Up);
        UpstreamStatus {
            name: Arc::clone(&self.config.name),
            ready,
            servers,
            ahead: self.ahead.figures(),
        }
    }
}

/// What goes through first; if neither does, how the second failed.
async fn first_of<T, E>(
    one: impl Future<Output = Result<T, E>> + Unpin,
    other: impl Future<Output = Result<T, E>> + Unpin,
) -> Result<T, E> {
    match select(one, other).await {
        Either::Left((Ok(done), _)) | Either::Right((Ok(done), _)) => Ok(done),
        Either::Left((Err(_), other)) => other.await,
        Either::Right((Err(error), one)) => one.await.map_err(|_| error),
    }
}

/// How much of the time left one server may take when others wait behind it: an even part, but at least a second.
fn share(left: Duration, candidates: usize) -> Duration {
    let part = left / u32::try_from(candidates.max(1)).unwrap_or(u32::MAX);
    part.max(Duration::from_secs(1)).min(left)
}

/// How long a dial waits for a server that another dial or probe is trying.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(1);
