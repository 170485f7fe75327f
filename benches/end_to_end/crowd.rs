//! Many clients on one thread that waits for all of them, so that the generator stays cheap; and those that are held.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::contenders::Contender;
use super::refusal::{Refusal, Stage, said_no};

/// What a client has to know about a contender.
#[derive(Clone)]
pub(super) struct Target {
    address: SocketAddr,
    hello: Arc<[u8]>,
    tls: Option<TlsConnector>,
    /// The 127.N.0.0/16 that clients call from with one port, one address each. Without it, the kernel finds a port for each.
    net: Option<u8>,
}

impl Target {
    pub(super) fn of(contender: &Contender) -> Self {
        Self {
            address: contender.address,
            hello: format!("CONNECT {}\r\nPING\r\n", contender.connect)
                .into_bytes()
                .into(),
            tls: contender.trust.clone().map(TlsConnector::from),
            net: None,
        }
    }

    fn source(&self, number: u64) -> SocketAddr {
        let [.., c, d] = number.to_be_bytes();
        let (address, port) = match self.net {
            Some(net) => (Ipv4Addr::new(127, net, c, d), HELD_PORT),
            // One address has 28,000 ports, and closed connections keep theirs for a minute.
            None => (Ipv4Addr::new(127, 1, c, d.max(1)), 0),
        };
        SocketAddr::new(IpAddr::V4(address), port)
    }

    /// TCP from an address of 127/8.
    async fn tcp(&self, number: u64) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(self.source(number))?;
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        // Dropped, it is reset. Closed in order, it would hold its port for a minute, and a port that somebody was bound to is
        // not given to a proxy that dials (Linux, `__inet_hash_connect`): after a few storms there would be none left.
        stream.set_zero_linger()?;
        Ok(stream)
    }
}

/// Sessions that are held.
pub(crate) struct Held {
    runtime: tokio::runtime::Runtime,
    clients: Vec<Client>,
    net: Option<u8>,
}

impl Held {
    pub(crate) fn none() -> Result<Self> {
        Ok(Self {
            runtime: runtime()?,
            clients: Vec::new(),
            net: None,
        })
    }

    /// None yet, of those who will call from 127.N.0.0/16. They leave the ports of the kernel to proxies: a port that somebody was
    /// bound to is not given to one that dials (Linux, `__inet_hash_connect`), and tens of thousands would take all there are.
    pub(crate) fn none_of(net: u8) -> Result<Self> {
        Ok(Self {
            net: Some(net),
            ..Self::none()?
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Opens more until there are `count`, a few at a time, each with one subscription.
    pub(crate) fn grow(&mut self, contender: &Contender, count: usize) -> Result<()> {
        let target = Target {
            net: self.net,
            ..Target::of(contender)
        };
        while self.clients.len() < count {
            let first = u64::try_from(self.clients.len())?;
            let more = count.saturating_sub(self.clients.len()).min(AT_ONCE);
            let opened = self.runtime.block_on(async {
                let mut clients = JoinSet::new();
                for number in (first..).take(more) {
                    let target = target.clone();
                    clients.spawn(async move {
                        let mut client = Client::connect(&target, number).await?;
                        client
                            .settle(&format!("SUB bench.idle.{number} 1\r\n"))
                            .await?;
                        anyhow::Ok(client)
                    });
                }
                clients.join_all().await
            });
            for client in opened {
                self.clients.push(client?);
            }
        }
        Ok(())
    }

    /// Gives each session so many subscriptions more.
    pub(crate) fn subscribe(&mut self, each: usize) -> Result<()> {
        self.runtime.block_on(async {
            for (number, client) in self.clients.iter_mut().enumerate() {
                let lines: String = (0..each)
                    .map(|n| format!("SUB bench.s{number:03}x{n:06} {}\r\n", n.saturating_add(2)))
                    .collect();
                client.settle(&lines).await?;
            }
            Ok(())
        })
    }
}

/// The port of those who have an address each: none that the kernel gives to others.
const HELD_PORT: u16 = 20_222;

/// Sessions that are opened at once.
const AT_ONCE: usize = 64;

/// One of them.
pub(super) struct Client {
    stream: Box<dyn Stream>,
    /// The end of what was read, where a PONG may have been cut.
    tail: Vec<u8>,
    /// From saying CONNECT to PONG.
    pub(super) admitted_after: Duration,
}

impl Client {
    /// Connects, says CONNECT and PING, and waits for PONG; or says how far it came.
    pub(super) async fn connect(target: &Target, number: u64) -> Result<Self, Refusal> {
        let deadline = Instant::now() + PATIENCE;
        let tcp = step(deadline, Stage::Connecting, target.tcp(number)).await?;
        let stream: Box<dyn Stream> = match &target.tls {
            None => Box::new(tcp),
            Some(tls) => {
                let name = IpAddr::V4(Ipv4Addr::LOCALHOST).into();
                Box::new(step(deadline, Stage::Tls, tls.connect(name, tcp)).await?)
            }
        };
        let mut client = Self {
            stream,
            tail: Vec::new(),
            admitted_after: Duration::ZERO,
        };
        step(deadline, Stage::BeforeInfo, client.until(b"\r\n")).await?;
        let asked = Instant::now();
        step(deadline, Stage::AfterConnect, client.say(&target.hello)).await?;
        step(deadline, Stage::AfterConnect, client.pong()).await?;
        client.admitted_after = asked.elapsed();
        Ok(client)
    }

    /// Says something and waits until the server has processed it.
    pub(super) async fn settle(&mut self, lines: &str) -> io::Result<()> {
        self.say(format!("{lines}PING\r\n").as_bytes()).await?;
        self.pong().await?;
        self.tail = Vec::new();
        Ok(())
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        // What TLS still holds.
        self.stream.flush().await
    }

    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer).await
    }

    pub(super) async fn pong(&mut self) -> io::Result<()> {
        self.until(b"PONG\r\n").await
    }

    async fn until(&mut self, wanted: &[u8]) -> io::Result<()> {
        loop {
            let line = memchr::memmem::find(&self.tail, b"\r\n");
            if let Some(end) = line.filter(|_| self.tail.starts_with(b"-ERR")) {
                return Err(said_no(self.tail.get(..end).unwrap_or(&[])));
            }
            if let Some(at) = memchr::memmem::find(&self.tail, wanted) {
                self.tail.drain(..at.saturating_add(wanted.len()));
                return Ok(());
            }
            self.tail.reserve(4096);
            if self.stream.read_buf(&mut self.tail).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// One step on the way in.
async fn step<T>(
    deadline: Instant,
    stage: Stage,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Refusal> {
    match timeout_at(deadline, work).await {
        Ok(done) => done.map_err(|error| Refusal::of(stage, &error)),
        Err(_) => Err(Refusal::TimedOut(stage)),
    }
}

/// What a client speaks on: TCP, or TLS in it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// How long a client waits until it is served.
const PATIENCE: Duration = Duration::from_secs(30);
