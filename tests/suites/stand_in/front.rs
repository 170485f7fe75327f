//! The hop in front of natsentry: the address that clients know. Speaks TLS where the real server would, shows the INFO
//! that natsentry shows, and puts a development token in the place of the client's credentials in CONNECT. Every byte
//! after CONNECT goes through natsentry as it came.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::lines::{Lines, json_of};
use super::{CREDENTIALS, Refused, Shared, Waiting};

/// First byte of a TLS record that carries a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Bytes moved at a time, as natsentry itself does.
const PIECE: usize = 64 * 1024;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Accepts clients for ever.
pub async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    while let Ok((tcp, _)) = listener.accept().await {
        tcp.set_nodelay(true).ok();
        let shared = Arc::clone(&shared);
        let live = shared.live.clone();
        live.spawn(async move {
            let _ = serve(&shared, tcp).await;
        });
    }
}

async fn serve(shared: &Shared, client: TcpStream) -> io::Result<()> {
    let mut server = TcpStream::connect(shared.server).await?;
    server.set_nodelay(true)?;
    let mut lines = Lines::default();
    let server_info = lines.next(&mut server).await?;
    let mut natsentry = TcpStream::connect(shared.natsentry).await?;
    natsentry.set_nodelay(true)?;
    let mut from_natsentry = Lines::default();
    let info = from_natsentry.next(&mut natsentry).await?;
    let info = info_for_client(shared, &info, &server_info).ok_or(io::ErrorKind::InvalidData)?;
    let mut client = greet(shared, client, &info).await?;

    let mut from_client = Lines::default();
    // What the server says first is final: it is full, or does not wait any longer.
    let connect = tokio::select! {
        line = from_client.next(&mut *client) => line?,
        said = lines.next(&mut server) => {
            client.write_all(&said?).await?;
            return client.shutdown().await;
        }
    };
    let (connect, credentials) = with_token(&connect, &shared.token);
    let (refused, verdict) = oneshot::channel();
    let port = natsentry.local_addr()?.port();
    let _place = shared.put(
        port,
        Waiting {
            server,
            info: server_info,
            lines,
            credentials,
            refused,
        },
    );
    natsentry.write_all(&connect).await?;
    natsentry.write_all(&from_client.into_rest()).await?;
    client.write_all(&from_natsentry.into_rest()).await?;
    let refused = {
        let relay = copy_bidirectional_with_sizes(&mut *client, &mut natsentry, PIECE, PIECE);
        tokio::pin!(relay);
        tokio::select! {
            biased;
            said = verdict => match said {
                Ok(refused) => Some(refused),
                // The server took the client.
                Err(_) => {
                    relay.await?;
                    None
                }
            },
            ended = &mut relay => {
                ended?;
                None
            }
        }
    };
    if let Some(Refused { said, _told }) = refused {
        client.write_all(&said).await?;
        client.shutdown().await?;
    }
    Ok(())
}

/// natsentry's INFO with our address, the server's nonce and demand for credentials, and our TLS.
fn info_for_client(shared: &Shared, natsentry: &[u8], server: &[u8]) -> Option<Vec<u8>> {
    let (mut info, server) = (json_of(natsentry)?, json_of(server)?);
    let fields = info.as_object_mut()?;
    fields.insert("host".to_owned(), shared.host.clone().into());
    fields.insert("port".to_owned(), shared.port.into());
    for name in ["nonce", "auth_required"] {
        fields.remove(name);
        if let Some(value) = server.get(name) {
            fields.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(tls) = &shared.tls {
        let word = if tls.optional {
            "tls_available"
        } else {
            "tls_required"
        };
        fields.insert(word.to_owned(), true.into());
        if tls.verifies {
            fields.insert("tls_verify".to_owned(), true.into());
        }
    }
    Some(format!("INFO {info} \r\n").into_bytes())
}

/// INFO and TLS, in the order that the server's configuration says.
async fn greet(shared: &Shared, mut tcp: TcpStream, info: &[u8]) -> io::Result<Box<dyn Stream>> {
    let Some(tls) = &shared.tls else {
        tcp.write_all(info).await?;
        return Ok(Box::new(tcp));
    };
    let first = match tls.first_wait {
        None => false,
        Some(Duration::MAX) => true,
        Some(wait) => matches!(timeout(wait, begins_tls(&tcp)).await, Ok(Ok(true))),
    };
    if !first {
        tcp.write_all(info).await?;
        if !begins_tls(&tcp).await? {
            if tls.optional {
                return Ok(Box::new(tcp));
            }
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
    }
    let mut stream = tls.server.acceptor().accept(tcp).await?;
    if first {
        stream.write_all(info).await?;
    }
    Ok(Box::new(stream))
}

async fn begins_tls(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(tcp.peek(&mut first).await? == 1 && first[0] == TLS_HANDSHAKE)
}

/// A CONNECT with the token in the place of the credentials, which are returned. Anything else stays as it is: natsentry
/// has its own answer to it.
fn with_token(line: &[u8], token: &str) -> (Vec<u8>, Map<String, Value>) {
    let mut credentials = Map::new();
    let is_connect = line
        .get(..7)
        .is_some_and(|verb| verb.eq_ignore_ascii_case(b"CONNECT"));
    let Some(Value::Object(mut fields)) = json_of(line).filter(|_| is_connect) else {
        return (line.to_vec(), credentials);
    };
    for name in CREDENTIALS {
        if let Some(value) = fields.remove(name) {
            credentials.insert(name.to_owned(), value);
        }
    }
    fields.insert("auth_token".to_owned(), token.into());
    (
        format!("CONNECT {}\r\n", Value::Object(fields)).into_bytes(),
        credentials,
    )
}
