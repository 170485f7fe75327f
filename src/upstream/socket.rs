//! The socket to a server: how it is set, and whether its connection is there.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::error::Step;
use crate::loopback;

/// A connection that is under way, with its options set: small writes go out at once; across a network, a peer that vanished
/// without a word is noticed within two minutes; on this machine, nothing paces it.
pub(super) fn begin(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::from_std(begun(address)?.into())
}

/// The same with the first bytes sent, as many as go before it is there; on loopback, that is all of them.
pub(super) fn begin_with(address: SocketAddr, bytes: &[u8]) -> io::Result<(TcpStream, usize)> {
    let socket = begun(address)?;
    let sent = match socket.send(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        sent => sent?,
    };
    Ok((TcpStream::from_std(socket.into())?, sent))
}

fn begun(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if !loopback::tune(&socket, address.ip()) {
        // On this machine, nobody vanishes without a word.
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(15))
            .with_retries(4);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// A connection that is there.
pub(super) async fn connected(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = begin(address)?;
    tcp.writable().await?;
    match tcp.take_error()? {
        Some(error) => Err(error),
        None => Ok(tcp),
    }
}

/// Whether a read failed with what only comes of a connection that was there (connect(2), tcp(7)).
pub(super) fn was_connected(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

/// A connection that may still be under way, and notes when it is there: a dial whose time is over says what it waited for.
pub(super) struct Expected<'a> {
    tcp: &'a mut TcpStream,
    step: &'a mut Step,
}

impl<'a> Expected<'a> {
    pub(super) const fn new(tcp: &'a mut TcpStream, step: &'a mut Step) -> Self {
        Self { tcp, step }
    }
}

impl AsyncRead for Expected<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { tcp, step } = self.get_mut();
        if **step == Step::Connect && tcp.try_io(Interest::WRITABLE, || Ok(())).is_ok() {
            **step = Step::Info;
        }
        Pin::new(&mut **tcp).poll_read(cx, buffer)
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_connection_to_this_machine_is_not_paced() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = begun(listener.local_addr().unwrap()).unwrap();
        assert!(socket.tcp_congestion().unwrap().starts_with(b"reno\0"));
        assert!(!socket.keepalive().unwrap());
    }

    #[test]
    fn who_vanishes_across_a_network_is_noticed_within_two_minutes() {
        // An address of nobody (RFC 5737): whether it can be reached is not waited for, or there is no way there at all.
        let Ok(socket) = begun("192.0.2.1:4222".parse().unwrap()) else {
            return;
        };
        let probes = socket.tcp_keepalive_retries().unwrap();
        let silent = socket.tcp_keepalive_time().unwrap()
            + socket.tcp_keepalive_interval().unwrap() * probes;
        assert!(
            socket.keepalive().unwrap() && silent <= Duration::from_secs(120),
            "{silent:?}"
        );
    }
}
