//! The hop behind natsentry: its upstream. Gives the connection that natsentry opens for a client the real server's
//! connection that waits for that client, with the credentials that the client sent to us.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::lines::{Lines, json_of};
use super::{CREDENTIALS, Refused, Shared, Waiting};

/// How long the client may take to be told that the server refused it.
const TELL: Duration = Duration::from_secs(2);

/// Accepts natsentry's connections for ever.
pub async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    while let Ok((tcp, _)) = listener.accept().await {
        tcp.set_nodelay(true).ok();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _ = serve(&shared, tcp).await;
        });
    }
}

async fn serve(shared: &Shared, mut natsentry: TcpStream) -> io::Result<()> {
    match announced_port(&mut natsentry).await? {
        None => probe(shared, natsentry).await,
        Some(port) => match shared.take(port) {
            Some(waiting) => link(waiting, natsentry).await,
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        },
    }
}

/// The client's port in the PROXY header (version 2); none for a connection of natsentry's own.
async fn announced_port(tcp: &mut TcpStream) -> io::Result<Option<u16>> {
    let mut fixed = [0; 16];
    tcp.read_exact(&mut fixed).await?;
    let mut addresses = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))];
    tcp.read_exact(&mut addresses).await?;
    let local = fixed[12] & 0x0f == 0;
    // IPv4: two addresses of four bytes, then the two ports.
    Ok((!local && addresses.len() >= 12).then(|| u16::from_be_bytes([addresses[8], addresses[9]])))
}

/// natsentry looks whether the server is well: it gets the real INFO, and PONGs of ours, since our credentials may
/// open nothing there.
async fn probe(shared: &Shared, mut natsentry: TcpStream) -> io::Result<()> {
    let mut server = TcpStream::connect(shared.server).await?;
    let info = Lines::default().next(&mut server).await?;
    natsentry.write_all(&info).await?;
    let mut lines = Lines::default();
    loop {
        let line = lines.next(&mut natsentry).await?;
        if line.starts_with(b"PING") {
            natsentry.write_all(b"PONG\r\n").await?;
        }
    }
}

async fn link(waiting: Waiting, mut natsentry: TcpStream) -> io::Result<()> {
    let Waiting {
        mut server,
        info,
        mut lines,
        credentials,
        refused,
    } = waiting;
    natsentry.write_all(&info).await?;
    let mut from_natsentry = Lines::default();
    let connect = from_natsentry.next(&mut natsentry).await?;
    let mut connect = json_of(&connect).ok_or(io::ErrorKind::InvalidData)?;
    if let Value::Object(fields) = &mut connect {
        for name in CREDENTIALS {
            fields.remove(name);
        }
        fields.extend(credentials);
    }
    server
        .write_all(format!("CONNECT {connect}\r\n").as_bytes())
        .await?;
    // CONNECT and PING of natsentry are one write; PING is still with us.
    let ping = from_natsentry.next(&mut natsentry).await?;
    server.write_all(&ping).await?;
    server.write_all(&from_natsentry.into_rest()).await?;
    let first = lines.next(&mut server).await?;
    if first.starts_with(b"-ERR") {
        return refuse(first, refused, natsentry).await;
    }
    drop(refused);
    natsentry.write_all(&first).await?;
    natsentry.write_all(&lines.into_rest()).await?;
    copy_bidirectional(&mut natsentry, &mut server).await?;
    Ok(())
}

/// The server does not want this client. natsentry would say no itself with a token that it does not accept; here it
/// accepted, so the server's own no goes around it. natsentry is then shown a server that is well and hangs up.
async fn refuse(
    said: Vec<u8>,
    refused: oneshot::Sender<Refused>,
    mut natsentry: TcpStream,
) -> io::Result<()> {
    let (told, wait) = oneshot::channel();
    if refused.send(Refused { said, _told: told }).is_ok() {
        let _ = timeout(TELL, wait).await;
    }
    natsentry.write_all(b"PONG\r\n").await
}
