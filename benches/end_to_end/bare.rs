//! The floor of the machine: a plain tokio loop that only forwards bytes. It is this very program in another process, so
//! that its processor time is told apart from that of the load.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ::natsentry::demo::servers::NatsServer;
use ::natsentry::loopback;
use anyhow::{Context as _, Result};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

use super::contenders::{Contender, blind, free_port};

/// The word before the two addresses when this program is called to forward.
pub(crate) const ROLE: &str = "forward-bytes";

pub(crate) fn start(name: &str, server: &NatsServer, place: &Path) -> Result<Contender> {
    let port = free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(ROLE)
        .arg(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string())
        .arg(server.address().to_string());
    let version = "tokio, one task a session, 256 to 768 KiB a direction".to_owned();
    blind(name, version, port, &mut command, place)
}

/// Forwards between two addresses until it is ended, if the program was called for that.
pub(crate) fn serve_if_called() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [role, listen, upstream] = words.as_slice() else {
        return Ok(());
    };
    if role != ROLE {
        return Ok(());
    }
    let (listen, upstream) = (listen.parse()?, upstream.parse()?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(listen, upstream))
}

async fn serve(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    loopback::tune(&socket, listen.ip());
    socket.bind(listen)?;
    let listener = socket.listen(BACKLOG).context("listening")?;
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(async move {
                    if let Err(error) = forward(client, upstream).await {
                        eprintln!("{error}");
                    }
                });
            }
            Err(error) => {
                eprintln!("accepting: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// One session, both directions in one task, until both have ended.
async fn forward(client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    loopback::tune(&socket, upstream.ip());
    let upstream = socket.connect(upstream).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_upstream, to_upstream) = upstream.into_split();
    tokio::try_join!(
        copy(from_client, to_upstream),
        copy(from_upstream, to_client)
    )?;
    Ok(())
}

async fn copy(from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut room = BUFFER;
    loop {
        from.ready(Interest::READABLE).await?;
        // Not before there is something: an idle session needs none.
        buffer.reserve(room);
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return to.shutdown().await,
            Ok(_) => {
                if buffer.len() == buffer.capacity() {
                    room = LARGE_BUFFER;
                }
                to.write_all(&buffer).await?;
                buffer.clear();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

const BUFFER: usize = 256 * 1024;

/// Of a connection that has filled the other one: what natsentry has there, too.
const LARGE_BUFFER: usize = 768 * 1024;

const BACKLOG: u32 = 4096;
