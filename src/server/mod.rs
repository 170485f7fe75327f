//! The server: joins the adapters, accepts clients, and ends in good order.
//!
//! Owns: what every connection shares, and the life of the process from start to drained. Must never: judge anything
//! itself.

mod accept;
mod admission;
mod buffers;
mod client_stream;
mod closing;
mod connection;
mod drain;
mod greeting;
mod groups;
mod handshakes;
mod identities;
mod lane;
mod locks;
mod log;
mod lookup;
mod memory;
mod observed;
mod process;
mod proxy_header;
mod pump;
mod reload;
mod scarcity;
mod secrets;
mod sessions;
mod shared;
mod slots;
mod task;
mod turns;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminState};
use crate::audit::{Act, ActKind};
use crate::clock;
use crate::config::Config;
use crate::loopback;
use crate::session::CloseReason;
pub use lookup::{LookedUp, look_up, would_look_up};
pub use process::run;
use shared::{ListenTls, Shared};

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`. A reconnect storm comes at once.
const BACKLOG: u32 = 8192;

/// A server that is ready to accept.
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    admin: Option<TcpListener>,
    config_path: Option<PathBuf>,
}

impl Server {
    /// As [`Server::build`], with secrets that lie in a vault read first.
    ///
    /// # Errors
    /// As [`Server::build`]; also when a secret cannot be read: at once when the vault says no, after a minute when it
    /// does not answer.
    pub async fn open(config: Config, config_path: Option<PathBuf>) -> anyhow::Result<Self> {
        let config = secrets::read(config, secrets::AT_START).await?;
        Self::build(config, config_path)
    }

    /// Binds the listeners and starts everything that sessions need. Nothing is accepted before [`Server::run`]. Must be called
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// When an address cannot be bound, or the audit cannot be written. An identity provider or upstream that cannot be
    /// reached is no error: it is reported by `/readyz` and tried again.
    pub fn build(config: Config, config_path: Option<PathBuf>) -> anyhow::Result<Self> {
        crate::tls::install_provider();
        if config.unread > 0 {
            anyhow::bail!("secrets that lie in a vault were not read");
        }
        let listener = bind(config.listen.client).context("listen.client")?;
        let admin = match config.admin {
            Some(address) => Some(bind(address).context("admin.listen")?),
            None => None,
        };
        let shared = Arc::new(Shared::start(config)?);
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
        let rotation = secrets::rotate(Arc::clone(&shared), stop.clone());
        shared.tasks.spawn(rotation);
        let calendar = reload::by_calendar(Arc::clone(&shared), stop.clone());
        shared.tasks.spawn(calendar);
        // During the drain as well: sessions are still served.
        let locks = locks::watch(Arc::clone(&shared), admin_stop.clone());
        shared.tasks.spawn(locks);
        let news = locks::tell(Arc::clone(&shared), admin_stop.clone());
        shared.tasks.spawn(news);
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
        shared.tasks.close();
        if tokio::time::timeout(Duration::from_secs(2), shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(tasks = shared.tasks.len(), "some tasks did not end in time");
        }
        Ok(())
    }
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

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        // Connections inherit it (tcp(7)). Without it, small answers wait for acknowledgements of earlier ones.
        SockRef::from(&socket).set_tcp_nodelay(true)?;
        loopback::tune(&socket, address.ip());
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| {
        format!("cannot listen on {address}; is another program there, or the address not ours?")
    })
}

fn to_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Tells every session to end by the way of `reason`.
fn end_all(shared: &Shared, reason: CloseReason) {
    for handle in shared.sessions.all() {
        handle.order(sessions::Order::End(reason), None);
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_on_loopback_is_not_paced() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let control = SockRef::from(&listener).tcp_congestion().unwrap();
        assert!(control.starts_with(b"reno\0"));
    }
}
