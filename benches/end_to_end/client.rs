//! One client of the load generator: a plain blocking socket, so that it is never what limits a figure.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Socket, Type};

use super::contenders::Contender;
use super::secure::Channel;

/// One connection that has been greeted.
pub(crate) struct Client {
    pub(super) stream: Channel,
}

impl Client {
    /// Connects from 127.0.`c`.`d`, says CONNECT and waits for PONG.
    pub(crate) fn connect(contender: &Contender, number: u64) -> Result<Self> {
        let [.., c, d] = number.to_be_bytes();
        // Several source addresses, since one has only 28,000 ports and closed connections keep theirs for a minute.
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, c % 64, d.max(1)));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect(&contender.address.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let stream = Channel::open(stream, contender.trust.as_ref())?;
        let mut client = Self { stream };
        client.wait_for(b"\r\n").context("waiting for INFO")?;
        client.say(format!("CONNECT {}\r\nPING\r\n", contender.connect).as_bytes())?;
        client.wait_for(b"PONG\r\n").context("waiting for PONG")?;
        Ok(client)
    }

    pub(super) fn say(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// Says something and waits until the server has processed it.
    pub(super) fn settle(&mut self, bytes: &[u8]) -> Result<()> {
        self.say(bytes)?;
        self.say(b"PING\r\n")?;
        self.wait_for(b"PONG\r\n")
    }

    /// Reads until `wanted` came. The server may say PING right behind it; nobody waits for the answer to that.
    fn wait_for(&mut self, wanted: &[u8]) -> Result<()> {
        let mut seen = Vec::new();
        let mut some = [0; 4096];
        while memchr::memmem::find(&seen, wanted).is_none() {
            let count = self.stream.read(&mut some)?;
            if count == 0 {
                bail!("closed after {:?}", String::from_utf8_lossy(&seen));
            }
            seen.extend_from_slice(some.get(..count).unwrap_or(&[]));
            if seen.starts_with(b"-ERR") {
                bail!("{}", String::from_utf8_lossy(&seen));
            }
        }
        Ok(())
    }
}

/// A line and a payload of `size` bytes.
pub(crate) fn frame(line: &str, size: usize) -> Vec<u8> {
    let mut frame = line.as_bytes().to_vec();
    frame.resize(frame.len().saturating_add(size), b'x');
    frame.extend_from_slice(b"\r\n");
    frame
}

pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// How long anything may take before the run fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
