//! One dial to one server: TCP, PROXY header, INFO and TLS in either order, CONNECT, PONG. Knows nothing of health or
//! other servers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::config::{Scheme, TlsDial, TlsFirst, UpstreamConfig};
use super::credentials::Credentials;
use super::documents::{Info, connect_and_ping};
use super::error::{DialError, Step};
use super::handshake::{Fault, Greeting, Lines};
use super::proxy_header::{proxy_v2, proxy_v2_local};
use super::servers::{Server, Style};
use super::stream::LinkStream;
use super::{ConnectOptions, Link};

/// Everything one dial needs.
pub(super) struct Dial<'a> {
    pub(super) config: &'a UpstreamConfig,
    pub(super) credentials: &'a Credentials,
    pub(super) server: &'a Server,
    pub(super) purpose: Purpose<'a>,
    /// All of it must be over by then.
    pub(super) deadline: Instant,
    /// One TCP connection may take this long.
    pub(super) connect_limit: Duration,
}

/// For whom the connection is.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    Session(&'a ConnectOptions<'a>),
    Probe,
}

/// A link, and what was read of the server's INFO.
pub(super) struct Dialled {
    pub(super) link: Link,
    pub(super) info: Info,
    pub(super) round_trip: Duration,
}

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

type Opened = (LinkStream, Lines, Greeting);

impl Dial<'_> {
    /// Runs it.
    pub(super) async fn run(&self) -> Result<Dialled, DialError> {
        let mut step = Step::Connect;
        let began = Instant::now();
        match timeout_at(self.deadline, self.steps(&mut step)).await {
            Ok(result) => result,
            Err(_) => Err(DialError::Timeout {
                server: self.name(),
                step,
                limit: began.elapsed(),
            }),
        }
    }

    async fn steps(&self, step: &mut Step) -> Result<Dialled, DialError> {
        let plan = self.plan();
        let opened = match self.open(plan, step).await {
            // The guess was wrong: INFO was under way in clear when we began the handshake.
            Err(OpenError::ClearText) if self.is_guess(plan) => {
                self.server.learn_style(Style::Unknown);
                self.open(Plan::Info, step).await
            }
            other => other,
        };
        let opened = opened.map_err(|error| match error {
            OpenError::ClearText => {
                self.tls_error("it answered the handshake in clear; set `first: no` or use nats://")
            }
            OpenError::Dial(error) => error,
        })?;
        *step = Step::Auth;
        self.authenticate(opened).await
    }

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
    async fn open(&self, plan: Plan, step: &mut Step) -> Result<Opened, OpenError> {
        let began = Instant::now();
        let mut tcp = self.connect(step).await?;
        // INFO comes one round trip after the connection, which itself took one.
        let round_trip = began.elapsed();
        *step = Step::Info;
        if self.config.proxy_protocol {
            let header = match self.purpose {
                Purpose::Session(options) => proxy_v2(options.client_addr, options.listener_addr),
                Purpose::Probe => proxy_v2_local(),
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
            .greeting(&mut stream)
            .await
            .map_err(|fault| self.fault(Step::Info, fault))?;
        if plan != Plan::Info {
            self.server.learn_style(Style::HandshakeFirst);
        }
        Ok((stream, lines, greeting))
    }

    async fn info_first(&self, mut tcp: TcpStream, step: &mut Step) -> Result<Opened, OpenError> {
        let mut lines = Lines::new();
        let greeting = lines
            .greeting(&mut tcp)
            .await
            .map_err(|fault| self.fault(Step::Info, fault))?;
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
            return Ok((LinkStream::Plain(tcp), lines, greeting));
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
        Ok((stream, lines, greeting))
    }

    async fn connect(&self, step: &mut Step) -> Result<TcpStream, DialError> {
        *step = Step::Resolve;
        let addresses = self.addresses().await?;
        *step = Step::Connect;
        let mut last = None;
        for (index, &address) in addresses.iter().enumerate() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len().saturating_sub(index)).unwrap_or(1);
            let limit = share.min(self.connect_limit);
            match timeout_at(Instant::now() + limit, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    configure(&tcp).map_err(|error| self.closed(Step::Connect, &error))?;
                    return Ok(tcp);
                }
                Ok(Err(error)) => last = Some(self.unreachable(&error)),
                Err(_) => {
                    last = Some(DialError::Timeout {
                        server: self.name(),
                        step: *step,
                        limit,
                    });
                }
            }
        }
        // Perhaps the name means other addresses by now: the next dial asks again.
        if self.server.url.ip().is_none() {
            self.server.addresses.store(Arc::default());
        }
        Err(last.unwrap_or_else(|| DialError::Resolve {
            server: self.name(),
            detail: "the name has no address".to_owned(),
        }))
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
        match connector.connect(name, tcp).await {
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

    /// CONNECT and PING in one write, then everything up to PONG.
    #[expect(clippy::too_many_lines, reason = "one straight pass")]
    async fn authenticate(&self, opened: Opened) -> Result<Dialled, DialError> {
        let (mut stream, mut lines, mut greeting) = opened;
        if greeting.info.lame_duck {
            return Err(DialError::LameDuck {
                server: self.name(),
            });
        }
        let credentials = |problem: &dyn std::fmt::Display| DialError::Credentials {
            server: self.name(),
            problem: problem.to_string(),
        };
        let proof = self
            .credentials
            .prove(greeting.info.nonce.as_deref())
            .map_err(|problem| credentials(&problem))?;
        let options = match self.purpose {
            Purpose::Session(options) => *options,
            Purpose::Probe => ConnectOptions::probe(),
        };
        let request = connect_and_ping(&options, &proof, &greeting.info, stream.is_tls())
            .ok_or_else(|| credentials(&"CONNECT could not be encoded"))?;
        let mut sent = Instant::now();
        let write = async {
            stream.write_all(&request).await?;
            stream.flush().await
        };
        // A server that turned us away has closed already, with an -ERR that is still to be read.
        let written = write.await;
        let answer = lines.pong(&mut stream).await;
        if let (Err(error), Err(Fault::Io(_))) = (&written, &answer) {
            return Err(self.closed(Step::Auth, error));
        }
        let mut answer = answer.map_err(|fault| self.fault(Step::Auth, fault))?;
        if matches!(self.purpose, Purpose::Probe) {
            // The account's own limits come in an INFO behind the first PONG (`client.go`, `processPing`).
            sent = Instant::now();
            let ping = async {
                stream.write_all(b"PING\r\n").await?;
                stream.flush().await
            };
            ping.await
                .map_err(|error| self.closed(Step::Auth, &error))?;
            let second = lines
                .pong(&mut stream)
                .await
                .map_err(|fault| self.fault(Step::Auth, fault))?;
            answer.greeting = second.greeting.or(answer.greeting);
        }
        let round_trip = sent.elapsed();
        if let Some(later) = answer.greeting {
            if later.info.lame_duck {
                return Err(DialError::LameDuck {
                    server: self.name(),
                });
            }
            greeting = match self.purpose {
                Purpose::Session(_) => later,
                Purpose::Probe => Greeting {
                    info: Info {
                        max_payload: later.info.max_payload,
                        ..greeting.info
                    },
                    json: greeting.json,
                },
            };
        }
        let Greeting { json, info } = greeting;
        let link = Link {
            stream,
            info: json,
            leftover: lines.into_rest(),
            server: Arc::clone(&self.server.label),
        };
        Ok(Dialled {
            link,
            info,
            round_trip,
        })
    }

    fn name(&self) -> String {
        self.server.label.to_string()
    }

    fn unreachable(&self, error: &io::Error) -> DialError {
        let (server, detail) = (self.name(), error.to_string());
        match error.raw_os_error() {
            Some(code) if OUT_OF_RESOURCES.contains(&code) => DialError::Local { server, detail },
            _ => DialError::Unreachable { server, detail },
        }
    }

    fn closed(&self, step: Step, error: &io::Error) -> DialError {
        let detail = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it closed".to_owned(),
            _ => error.to_string(),
        };
        DialError::Closed {
            server: self.name(),
            step,
            detail,
        }
    }

    fn protocol(&self, detail: impl Into<String>) -> DialError {
        DialError::Protocol {
            server: self.name(),
            detail: detail.into(),
        }
    }

    fn tls_error(&self, detail: impl Into<String>) -> DialError {
        DialError::Tls {
            server: self.name(),
            detail: detail.into(),
        }
    }

    fn tls_fault(&self, error: &io::Error) -> OpenError {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidMessage(_)) => OpenError::ClearText,
            Some(error) => self.tls_error(explain(error)).into(),
            None => self.closed(Step::Tls, error).into(),
        }
    }

    fn fault(&self, step: Step, fault: Fault) -> DialError {
        match fault {
            Fault::Io(error) => {
                // TLS 1.3: a client certificate is refused after the handshake is over on our side.
                let inner = error
                    .get_ref()
                    .and_then(|inner| inner.downcast_ref::<rustls::Error>());
                match inner {
                    Some(inner) => self.tls_error(explain(inner)),
                    None => self.closed(step, &error),
                }
            }
            Fault::Protocol(detail) => self.protocol(detail),
            Fault::Err(text) if is_refusal(&text) => DialError::Refused {
                server: self.name(),
                text,
            },
            Fault::Err(text) => DialError::TurnedAway {
                server: self.name(),
                text,
            },
        }
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
enum OpenError {
    /// The server answered a TLS handshake with something that is not TLS.
    ClearText,
    Dial(DialError),
}

impl From<DialError> for OpenError {
    fn from(error: DialError) -> Self {
        Self::Dial(error)
    }
}

/// Small writes go out at once; a peer that vanished without a word is noticed within two minutes.
fn configure(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15));
    SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

/// The texts of nats-server that are about who we are (`auth.go`, `errors.go`).
fn is_refusal(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let ours = [
        "authorization violation",
        "authentication expired",
        "authentication revoked",
    ];
    ours.iter().any(|words| text.contains(words))
}

/// What rustls says, and what to do about the common cases.
fn explain(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    let advice = match error {
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            "no authority we know signed its certificate; set `tls.ca` to the CA of that server, or to the certificate itself where it is self-signed"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "its certificate is for another name; use that name in the address or set `tls.server_name`"
        }
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired; renew it on that server",
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::HandshakeFailure
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown,
        ) => "it may want a client certificate it trusts; set `tls.cert` and `tls.key`",
        _ => return error.to_string(),
    };
    format!("{error}: {advice}")
}

/// Linux: EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL. Not the server's fault.
const OUT_OF_RESOURCES: [i32; 5] = [24, 23, 105, 12, 99];

/// How long INFO may take, beyond two round trips, until the server is taken for one that waits for a handshake.
/// nats-server's own `auto` waits 50 ms for us.
const LISTEN: Duration = Duration::from_millis(100);

/// The same for a server that sent INFO first last time.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
