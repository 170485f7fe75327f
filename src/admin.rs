//! The admin interface: `/livez`, `/readyz`, `/metrics`, `/sessions` and `/locks` over HTTP, for probes, Prometheus and people.
//!
//! Owns: the routes and the bounds on who asks. Must never: change anything, decide what "ready" means (the server hands
//! that in), or show a secret. Only GET is answered; bind it to loopback or keep it inside the cluster, since `/sessions`
//! names people.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::metrics::{self, Metrics};

/// What the admin interface shows; the server knows it.
pub trait Observed: Send + Sync + 'static {
    /// Whether new clients can be served, and why not.
    fn readiness(&self) -> Readiness;

    /// Live sessions with an id above `page.after`, in the order of their ids, at most `page.limit`.
    fn sessions(&self, page: Page) -> SessionList;

    /// The locks that every live session has heard of.
    fn locks(&self) -> LockList;

    /// Hands `metrics` the figures that others keep (keys, audit) before they are scraped.
    fn refresh(&self, metrics: &Metrics);
}

/// Whether new clients can be served.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// Whether a balancer should send clients here.
    pub ready: bool,
    /// What that was concluded from.
    pub checks: Vec<Check>,
}

/// One thing that serving depends on.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// `upstream plant-a`, `issuer https://...`, `audit`.
    pub name: String,
    /// Whether it works.
    pub ok: bool,
    /// For people: `connection refused by 10.0.0.11:4222`, `keys fetched 3 s ago`.
    pub detail: String,
}

/// A part of the list of sessions.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Page {
    /// Only sessions with a higher id; 0 is from the start.
    pub after: u64,
    /// At most so many; never above [`MAX_PAGE`].
    pub limit: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            after: 0,
            limit: DEFAULT_PAGE,
        }
    }
}

/// Live sessions.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SessionList {
    /// Live sessions in all.
    pub total: usize,
    /// This page of them.
    pub sessions: Vec<SessionRow>,
}

/// One live session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionRow {
    /// Number of the session, as in the audit.
    pub id: u64,
    /// When it was admitted, RFC 3339.
    pub since: String,
    /// When it will end at the latest, RFC 3339.
    pub ends_at: String,
    /// Tenant.
    pub tid: String,
    /// Object id of the identity.
    pub oid: String,
    /// Client application, where the token names one.
    pub azp: Option<String>,
    /// A name for people.
    pub name: Option<String>,
    /// Roles that apply.
    pub roles: Vec<Arc<str>>,
    /// Upstream.
    pub upstream: Arc<str>,
    /// The upstream server's address.
    pub server: String,
    /// The client's address.
    pub client: String,
    /// Client library and version.
    pub library: String,
    /// Whether the client leg is TLS.
    pub tls: bool,
    /// Messages to upstream.
    pub messages_in: u64,
    /// Payload and header bytes to upstream.
    pub bytes_in: u64,
    /// Messages to the client.
    pub messages_out: u64,
    /// Payload and header bytes to the client.
    pub bytes_out: u64,
    /// Live subscriptions.
    pub subscriptions: usize,
    /// Operations denied so far.
    pub denied: u64,
}

/// Locks in force.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LockList {
    /// Why the locks cannot be read now; those that were read before stay in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// All of them.
    pub locks: Vec<LockRow>,
}

/// One lock in force.
#[derive(Clone, Debug, Serialize)]
pub struct LockRow {
    /// As in the audit.
    pub id: String,
    /// Whom it selects, for people.
    pub whom: String,
    /// Tokens issued before this moment are refused, RFC 3339; none: everything is.
    pub tokens_before: Option<String>,
    /// When it ends, RFC 3339; none: when it is taken away.
    pub until: Option<String>,
    /// When it was made, RFC 3339.
    pub at: String,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What the routes need.
#[derive(Clone)]
pub struct AdminState {
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// Everything else that is shown.
    pub observed: Arc<dyn Observed>,
}

/// The admin interface.
pub struct Admin;

impl Admin {
    /// Serves until `shutdown` completes, then finishes the answers that are under way.
    ///
    /// Bounds: [`MAX_CONNECTIONS`] at a time, each cut after [`CONNECTION_AGE`] whatever it does; request heads are
    /// bounded by hyper (100 headers, about 400 KiB), bodies are never read.
    ///
    /// # Errors
    /// When the listener is not usable at all; failures to accept are retried.
    pub async fn serve(
        listener: TcpListener,
        state: AdminState,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        axum::serve(BoundedListener { listener, slots }, routes(state))
            .with_graceful_shutdown(shutdown)
            .await
    }
}

/// Connections at a time; more wait in the kernel's queue.
pub const MAX_CONNECTIONS: usize = 64;

/// Life of one connection, kept alive or not. A scrape takes milliseconds; Prometheus connects anew without a complaint.
pub const CONNECTION_AGE: Duration = Duration::from_secs(60);

/// Sessions in one answer where nothing is asked for.
pub const DEFAULT_PAGE: usize = 1_000;

/// Sessions in one answer at most.
pub const MAX_PAGE: usize = 10_000;

fn routes(state: AdminState) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .route("/sessions", get(show_sessions))
        .route("/locks", get(show_locks))
        .layer(middleware::from_fn(read_only))
        .with_state(state)
}

/// Answers anything but GET with 405, and keeps answers out of caches.
async fn read_only(request: Request, next: Next) -> Response {
    let mut response = if request.method() == axum::http::Method::GET {
        next.run(request).await
    } else {
        let allow = [(header::ALLOW, "GET")];
        (
            StatusCode::METHOD_NOT_ALLOWED,
            allow,
            "only GET is answered here\n",
        )
            .into_response()
    };
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The process runs and answers. Says nothing about what it depends on: restarting would not heal that.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(state): State<AdminState>) -> Response {
    let readiness = state.observed.readiness();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, json(&readiness)).into_response()
}

async fn show_metrics(State(state): State<AdminState>) -> Response {
    state.observed.refresh(&state.metrics);
    match state.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => failed(&error),
    }
}

async fn show_sessions(State(state): State<AdminState>, Query(page): Query<Page>) -> Response {
    let page = Page {
        limit: page.limit.min(MAX_PAGE),
        ..page
    };
    json(&state.observed.sessions(page))
}

async fn show_locks(State(state): State<AdminState>) -> Response {
    json(&state.observed.locks())
}

/// Indented, with a line feed at the end, since people read it with curl.
fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => (
            [(header::CONTENT_TYPE, "application/json")],
            format!("{text}\n"),
        )
            .into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "an admin answer could not be made");
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "the answer could not be made; see the log\n",
    )
        .into_response()
}

/// Takes a slot before it accepts.
struct BoundedListener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
}

impl axum::serve::Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed; were it, serving without a slot would be the smaller harm.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok();
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        let end = Box::pin(tokio::time::sleep(CONNECTION_AGE));
        (
            BoundedStream {
                stream,
                end,
                _slot: slot,
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when its time is over, and then returns its slot.
struct BoundedStream {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl BoundedStream {
    /// Fails once the time is over; else arranges to be woken then, so that a silent peer is cut too.
    fn check_age(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_age(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_age(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
