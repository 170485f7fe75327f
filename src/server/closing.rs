//! The end of a connection: the last words, and both sides closed so that they arrive.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::io::{AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client_stream::ClientStream;
use super::pump::Pump;
use crate::session::Parting;
use crate::upstream::LinkStream;

/// Longest time for the last bytes to be taken by either side.
const FINISH: Duration = Duration::from_secs(2);

/// How long the rest of what a peer sends is read and thrown away, so that closing does not reset the connection
/// before the peer has read our last words.
const LINGER: Duration = Duration::from_millis(500);

/// Most bytes thrown away that way.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Of these at a time.
const PIECE: usize = 256 * 1024;

thread_local! {
    /// Where they go: one for all connections that a thread closes, since thousands may be closed together. On Linux it is
    /// never touched, and so only address space.
    static PLACE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(PIECE));
}

/// Linux throws them away without a copy (tcp(7)), so that many who are ended together keep nobody busy.
const UNSEEN: RecvFlags = if cfg!(target_os = "linux") {
    RecvFlags::TRUNC
} else {
    RecvFlags::empty()
};

/// Writes what is left for both sides, and closes them.
pub(super) async fn close(mut pump: Pump, parting: Parting) {
    // Whatever is not taken within the time is lost: the session has ended.
    let _ = timeout(FINISH, pump.finish()).await;
    let (client, upstream) = pump.into_streams();
    match (parting, client, upstream) {
        (Parting::AtOnce, ..) => {}
        (Parting::Shut, Some(mut client), None) => {
            let _ = timeout(FINISH, client.shutdown()).await;
        }
        (Parting::Shut | Parting::Linger, client, upstream) => {
            tokio::join!(
                linger(client, ClientStream::tcp),
                linger(upstream, LinkStream::tcp)
            );
        }
    }
}

/// Ends our side, and reads what the peer still sends for a moment: closing a socket with unread bytes would reset the
/// connection, and the peer could lose what we wrote last.
async fn linger<S: AsyncWrite + Unpin>(stream: Option<S>, tcp: impl Fn(&S) -> &TcpStream) {
    let Some(mut stream) = stream else { return };
    let ending = async {
        stream.shutdown().await?;
        throw_away(tcp(&stream)).await
    };
    // The peer may be gone already; there is nobody to tell.
    let _ = timeout(LINGER, ending).await;
}

/// Reads up to the end, or to the most that is waited for. Inside TLS it is the same bytes: who says its last word there is
/// waited for until it ends the connection below, too.
async fn throw_away(tcp: &TcpStream) -> io::Result<()> {
    let mut read = 0_usize;
    while read < LINGER_BYTES {
        tokio::task::consume_budget().await;
        tcp.readable().await?;
        match tcp.try_io(Interest::READABLE, || discard(tcp)) {
            Ok(0) => break,
            Ok(count) => read = read.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn discard(tcp: &TcpStream) -> io::Result<usize> {
    PLACE.with_borrow_mut(|place| {
        let place = place.spare_capacity_mut();
        SockRef::from(tcp).recv_with_flags(place, UNSEEN.bits().cast_signed())
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// Both ends of a connection.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await;
        (ours.unwrap(), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn who_has_much_to_say_still_reads_the_last_words() {
        let (mut ours, mut theirs) = connection().await;
        ours.write_all(b"-ERR 'last'\r\n").await.unwrap();
        let ended = tokio::spawn(linger(Some(LinkStream::Plain(ours)), LinkStream::tcp));
        theirs
            .write_all(&vec![b'x'; LINGER_BYTES / 2])
            .await
            .unwrap();
        theirs.shutdown().await.unwrap();
        ended.await.unwrap();
        let mut said = String::new();
        theirs.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "-ERR 'last'\r\n");
    }

    #[tokio::test]
    async fn who_never_ends_is_not_waited_for_beyond_so_many_bytes() {
        let (ours, mut theirs) = connection().await;
        let ended = tokio::spawn(async move { throw_away(&ours).await });
        let mut sent = 0;
        while let Ok(count) = theirs.write(&[b'x'; 65_536]).await {
            sent += count;
            assert!(sent < LINGER_BYTES * 8, "it is read for ever");
        }
        ended.await.unwrap().unwrap();
        assert!(sent >= LINGER_BYTES);
    }
}
