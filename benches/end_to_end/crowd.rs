//! Many clients on one thread that waits for all of them, so that the generator stays cheap; and those that are held.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::contenders::Contender;

/// Sessions that are held.
pub(crate) struct Held {
    runtime: tokio::runtime::Runtime,
    clients: Vec<Client>,
}

impl Held {
    pub(crate) fn none() -> Result<Self> {
        Ok(Self {
            runtime: runtime()?,
            clients: Vec::new(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Opens more until there are `count`, a few at a time, each with one subscription.
    pub(crate) fn grow(&mut self, contender: &Contender, count: usize) -> Result<()> {
        while self.clients.len() < count {
            let first = u64::try_from(self.clients.len())?;
            let more = count.saturating_sub(self.clients.len()).min(AT_ONCE);
            let (address, hello) = (contender.address, hello(contender));
            let opened = self.runtime.block_on(async {
                let mut clients = JoinSet::new();
                for number in (first..).take(more) {
                    let hello = hello.clone();
                    clients.spawn(async move {
                        let mut client = Client::connect(address, number, &hello).await?;
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

/// Sessions that are opened at once.
const AT_ONCE: usize = 64;

/// One of them.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    /// The end of what was read, where a PONG may have been cut.
    tail: Vec<u8>,
    /// From saying CONNECT to PONG.
    pub(super) admitted_after: Duration,
}

impl Client {
    /// Connects from an address of 127/8, says CONNECT and PING, and waits for PONG.
    pub(super) async fn connect(address: SocketAddr, number: u64, hello: &[u8]) -> Result<Self> {
        let [.., c, d] = number.to_be_bytes();
        let socket = TcpSocket::new_v4()?;
        // One address has 28,000 ports, and closed connections keep theirs for a minute.
        let source = Ipv4Addr::new(127, 1, c, d.max(1));
        socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            tail: Vec::new(),
            admitted_after: Duration::ZERO,
        };
        client.until(b"\r\n").await.context("waiting for INFO")?;
        let asked = Instant::now();
        client.stream.write_all(hello).await?;
        client.pong().await.context("waiting for PONG")?;
        client.admitted_after = asked.elapsed();
        Ok(client)
    }

    /// Says something and waits until the server has processed it.
    pub(super) async fn settle(&mut self, lines: &str) -> Result<()> {
        let asked = format!("{lines}PING\r\n");
        self.stream.write_all(asked.as_bytes()).await?;
        self.pong().await?;
        self.tail = Vec::new();
        Ok(())
    }

    pub(super) async fn pong(&mut self) -> Result<()> {
        self.until(b"PONG\r\n").await
    }

    async fn until(&mut self, wanted: &[u8]) -> Result<()> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.tail, wanted) {
                self.tail.drain(..at.saturating_add(wanted.len()));
                return Ok(());
            }
            if self.tail.starts_with(b"-ERR") {
                bail!("{}", String::from_utf8_lossy(&self.tail));
            }
            self.tail.reserve(4096);
            if self.stream.read_buf(&mut self.tail).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

pub(super) fn hello(contender: &Contender) -> Vec<u8> {
    format!("CONNECT {}\r\nPING\r\n", contender.connect).into_bytes()
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}
