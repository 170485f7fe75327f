//! The first words to a client: INFO and TLS, in the order that the client speaks them.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ListenTls;
use super::client_stream::ClientStream;
use crate::tls;

/// First byte of a TLS record that carries a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// A client leg after greeting and TLS.
pub(super) struct Greeted {
    pub(super) stream: ClientStream,
    pub(super) thumbprint: Option<String>,
}

/// INFO and TLS, in the order that the client speaks them.
pub(super) async fn greet(
    mut tcp: TcpStream,
    tls: Option<&ListenTls>,
    greeting: &[u8],
) -> io::Result<Greeted> {
    let Some(tls) = tls else {
        tcp.write_all(greeting).await?;
        return Ok(Greeted {
            stream: ClientStream::Plain(tcp),
            thumbprint: None,
        });
    };
    let wait = tls.first_wait;
    let first =
        !wait.is_zero() && matches!(timeout(wait, first_byte(&tcp)).await, Ok(Ok(TLS_HANDSHAKE)));
    if !first {
        tcp.write_all(greeting).await?;
        if first_byte(&tcp).await? != TLS_HANDSHAKE {
            // nats-server closes silently on plain text where TLS is required.
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
    }
    // What a handshake needs, and what comes of it, would make the way in large for everybody.
    let accepting = Box::pin(tls.server.acceptor().accept(tcp));
    let mut stream = Box::new(accepting.await?);
    if first {
        stream.write_all(greeting).await?;
        stream.flush().await?;
    }
    let thumbprint = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .map(|certificate| tls::thumbprint_s256(certificate));
    Ok(Greeted {
        stream: ClientStream::Tls(stream),
        thumbprint,
    })
}

/// The first byte that the client sends, left where it is.
async fn first_byte(tcp: &TcpStream) -> io::Result<u8> {
    let mut byte = [0_u8];
    match tcp.peek(&mut byte).await? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        _ => Ok(byte[0]),
    }
}
