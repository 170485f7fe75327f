//! From nothing to a stream on which the server has sent INFO: TCP, PROXY header, TLS before INFO or after it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::config::{Scheme, TlsDial, TlsFirst};
use super::dial::{Dial, Purpose};
use super::error::{DialError, Step};
use super::greeting::Greeting;
use super::handshake::{Fault, Lines};
use super::proxy_header::{proxy_v2, proxy_v2_local};
use super::servers::{Server, Style};
use super::socket::{Expected, begin, connected, was_connected};
use super::stream::LinkStream;

/// Which comes first on a TLS connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// INFO, then TLS where it says so.
    Info,
    /// The handshake.
    Handshake,
    /// INFO if it comes within this time, else the handshake.
    Listen(Duration),
}

/// A stream on which the server has sent INFO. Deliberately not to be cloned: CONNECT is said once.
pub(super) struct Opened {
    pub(super) stream: LinkStream,
    pub(super) lines: Lines,
    pub(super) greeting: Greeting,
    /// The server's, where it has no other and INFO came first.
    pub(super) address: Option<SocketAddr>,
}

impl Dial<'_> {
    fn plan(&self) -> Plan {
        let Some(tls) = &self.config.tls else {
            return Plan::Info;
        };
        match (tls.first, self.server.url.scheme, self.server.style()) {
            (TlsFirst::Yes, _, _) => Plan::Handshake,
            (TlsFirst::No, _, _) | (TlsFirst::Auto, Scheme::Nats, _) => Plan::Info,
            (TlsFirst::Auto, Scheme::Tls, Style::HandshakeFirst) => Plan::Handshake,
            (TlsFirst::Auto, Scheme::Tls, Style::InfoFirst) => Plan::Listen(LISTEN_AGAIN),
            (TlsFirst::Auto, Scheme::Tls, Style::Unknown) => Plan::Listen(LISTEN),
        }
    }

    /// Whether another order may be tried: where the operator said which, it is not ours to send anything in clear.
    fn is_guess(&self, plan: Plan) -> bool {
        plan != Plan::Info
            && self
                .config
                .tls
                .as_ref()
                .is_some_and(|tls| tls.first == TlsFirst::Auto)
    }

    /// A stream on which the server has sent INFO, inside TLS where there is to be TLS.
    pub(super) async fn open(&self, step: &mut Step) -> Result<Opened, DialError> {
        let plan = self.plan();
        let opened = match self.open_as(plan, step).await {
            // The guess was wrong: INFO was under way in clear when we began the handshake.
            Err(OpenError::ClearText) if self.is_guess(plan) => {
                self.server.learn_style(Style::Unknown);
                self.open_as(Plan::Info, step).await
            }
            other => other,
        };
        opened.map_err(|error| match error {
            OpenError::ClearText => {
                self.tls_error("it answered the handshake in clear; set `first: no` or use nats://")
            }
            OpenError::Dial(error) => error,
        })
    }

    async fn open_as(&self, plan: Plan, step: &mut Step) -> Result<Opened, OpenError> {
        *step = Step::Resolve;
        let addresses = self.addresses().await?;
        *step = Step::Connect;
        if let (true, &[address]) = (self.only_listens(plan), addresses.as_slice()) {
            return self.listen_at_once(address, step).await;
        }
        let began = Instant::now();
        let mut tcp = self.connect(&addresses).await?;
        // INFO comes one round trip after the connection, which itself took one.
        let round_trip = began.elapsed();
        *step = Step::Info;
        if self.config.proxy_protocol {
            let header = match self.purpose {
                Purpose::Session(options) => proxy_v2(options.client_addr, options.listener_addr),
                Purpose::Ahead | Purpose::Probe => proxy_v2_local(),
            };
            tcp.write_all(&header)
                .await
                .map_err(|error| self.closed(Step::Info, &error))?;
        }
        let handshake = match plan {
            Plan::Info => false,
            Plan::Handshake => true,
            Plan::Listen(patience) => {
                let limit = Instant::now() + patience + round_trip.saturating_mul(2);
                timeout_at(limit, tcp.peek(&mut [0])).await.is_err()
            }
        };
        if handshake {
            self.handshake_first(tcp, plan, step).await
        } else {
            self.info_first(tcp, step).await
        }
    }

    async fn handshake_first(
        &self,
        tcp: TcpStream,
        plan: Plan,
        step: &mut Step,
    ) -> Result<Opened, OpenError> {
        *step = Step::Tls;
        let mut stream = self.secure(tcp).await?;
        *step = Step::Info;
        let mut lines = Lines::new();
        let greeting = lines
            .greeting(&mut stream, &self.server.last_info)
            .await
            .map_err(|fault| self.fault(Step::Info, fault))?;
        if plan != Plan::Info {
            self.server.learn_style(Style::HandshakeFirst);
        }
        Ok(Opened {
            stream,
            lines,
            greeting,
            address: None,
        })
    }

    /// Whether the server has the first word on the connection, and all of the time for it.
    fn only_listens(&self, plan: Plan) -> bool {
        plan == Plan::Info && !self.config.proxy_protocol && !matches!(self.purpose, Purpose::Probe)
    }

    /// Waits for INFO without waiting for the connection before: one wait less of a dial that has three. What can become of
    /// a connection comes out of the first read as well.
    async fn listen_at_once(
        &self,
        address: SocketAddr,
        step: &mut Step,
    ) -> Result<Opened, OpenError> {
        let mut tcp = begin(address).map_err(|error| self.no_connection(&error))?;
        let mut lines = Lines::new();
        let mut expected = Expected::new(&mut tcp, step);
        let greeting = match lines.greeting(&mut expected, &self.server.last_info).await {
            Err(Fault::Io(error)) if !was_connected(&error) => {
                *step = Step::Connect;
                return Err(self.no_connection(&error).into());
            }
            other => other,
        };
        let opened = self.greeted(tcp, lines, greeting, step).await?;
        Ok(Opened {
            address: Some(address),
            ..opened
        })
    }

    async fn info_first(&self, mut tcp: TcpStream, step: &mut Step) -> Result<Opened, OpenError> {
        let mut lines = Lines::new();
        let greeting = lines.greeting(&mut tcp, &self.server.last_info).await;
        self.greeted(tcp, lines, greeting, step).await
    }

    /// TLS behind INFO, where there is to be TLS.
    async fn greeted(
        &self,
        tcp: TcpStream,
        lines: Lines,
        greeting: Result<Greeting, Fault>,
        step: &mut Step,
    ) -> Result<Opened, OpenError> {
        let greeting = greeting.map_err(|fault| self.fault(Step::Info, fault))?;
        let offered = greeting.info.tls_required || greeting.info.tls_available;
        let demanded = self.server.url.scheme == Scheme::Tls;
        if demanded && !offered {
            return Err(self
                .tls_error("it offers no TLS and its address says tls://; nothing was sent")
                .into());
        }
        if greeting.info.tls_required && self.config.tls.is_none() {
            return Err(self
                .tls_error("it requires TLS; add a `tls` section to this upstream")
                .into());
        }
        if !offered || self.config.tls.is_none() {
            let stream = LinkStream::Plain(tcp);
            return Ok(Opened {
                stream,
                lines,
                greeting,
                address: None,
            });
        }
        // Bytes in clear behind INFO would pass for bytes from inside TLS.
        if lines.has_rest() {
            return Err(self
                .protocol("bytes in clear between INFO and the TLS handshake")
                .into());
        }
        *step = Step::Tls;
        let stream = self.secure(tcp).await?;
        self.server.learn_style(Style::InfoFirst);
        Ok(Opened {
            stream,
            lines,
            greeting,
            address: None,
        })
    }

    async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
        let mut last = None;
        for (index, &address) in addresses.iter().enumerate() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len().saturating_sub(index)).unwrap_or(1);
            let limit = share.min(self.connect_limit);
            match timeout_at(Instant::now() + limit, connected(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => last = Some(self.unreachable(&error)),
                Err(_) => {
                    last = Some(DialError::Timeout {
                        server: self.name(),
                        step: Step::Connect,
                        limit,
                    });
                }
            }
        }
        self.forget_addresses();
        Err(last.unwrap_or_else(|| DialError::Resolve {
            server: self.name(),
            detail: "the name has no address".to_owned(),
        }))
    }

    pub(super) fn no_connection(&self, error: &io::Error) -> DialError {
        self.forget_addresses();
        self.unreachable(error)
    }

    /// Perhaps the name means other addresses by now: the next dial asks again.
    fn forget_addresses(&self) {
        if self.server.url.ip().is_none() {
            self.server.addresses.store(Arc::default());
        }
    }

    async fn addresses(&self) -> Result<Arc<Vec<SocketAddr>>, DialError> {
        let known = self.server.addresses.load_full();
        if !known.is_empty() {
            return Ok(known);
        }
        resolve(self.server).await
    }

    async fn secure(&self, tcp: TcpStream) -> Result<LinkStream, OpenError> {
        let Some(tls) = &self.config.tls else {
            return Err(self.tls_error("there is no `tls` section").into());
        };
        let name = self.server_name(tls)?;
        let connector = TlsConnector::from(Arc::clone(&tls.config));
        // What a handshake needs would make each dial large.
        match Box::pin(connector.connect(name, tcp)).await {
            Ok(stream) => Ok(LinkStream::Tls(Box::new(stream))),
            Err(error) => Err(self.tls_fault(&error)),
        }
    }

    fn server_name(&self, tls: &TlsDial) -> Result<ServerName<'static>, DialError> {
        if let Some(name) = &tls.server_name {
            return Ok(name.clone());
        }
        ServerName::try_from(self.server.url.host.clone())
            .map_err(|_| self.tls_error("its host is not a name that a certificate can have"))
    }
}

/// Looks the server's name up and remembers the answer.
pub(super) async fn resolve(server: &Server) -> Result<Arc<Vec<SocketAddr>>, DialError> {
    if server.url.ip().is_some() {
        return Ok(server.addresses.load_full());
    }
    match lookup_host((server.url.host.as_str(), server.url.port)).await {
        Ok(found) => {
            let found = Arc::new(found.collect::<Vec<_>>());
            server.addresses.store(Arc::clone(&found));
            Ok(found)
        }
        Err(error) => Err(DialError::Resolve {
            server: server.label.to_string(),
            detail: error.to_string(),
        }),
    }
}

/// Why there is no stream to talk on.
pub(super) enum OpenError {
    /// The server answered a TLS handshake with something that is not TLS.
    ClearText,
    Dial(DialError),
}

impl From<DialError> for OpenError {
    fn from(error: DialError) -> Self {
        Self::Dial(error)
    }
}

/// How long INFO may take, beyond two round trips, until the server is taken for one that waits for a handshake.
/// nats-server's own `auto` waits 50 ms for us.
const LISTEN: Duration = Duration::from_millis(100);

/// The same for a server that sent INFO first last time.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
