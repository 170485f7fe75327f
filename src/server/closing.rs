//! The end of a connection: the last words, and both sides closed so that they arrive.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::pump::Pump;
use crate::session::Parting;

/// Longest time for the last bytes to be taken by either side.
const FINISH: Duration = Duration::from_secs(2);

/// How long the rest of what a peer sends is read and thrown away, so that closing does not reset the connection
/// before the peer has read our last words.
const LINGER: Duration = Duration::from_millis(500);

/// Most bytes thrown away that way.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

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
            tokio::join!(linger(client), linger(upstream));
        }
    }
}

/// Ends our side, and reads what the peer still sends for a moment: closing a socket with unread bytes would reset the
/// connection, and the peer could lose what we wrote last.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: Option<S>) {
    let Some(mut stream) = stream else { return };
    let ending = async {
        stream.shutdown().await?;
        let mut rest = vec![0_u8; 4096];
        let mut read = 0_usize;
        while read < LINGER_BYTES {
            match stream.read(&mut rest).await? {
                0 => break,
                count => read = read.saturating_add(count),
            }
        }
        io::Result::Ok(())
    };
    // The peer may be gone already; there is nobody to tell.
    let _ = timeout(LINGER, ending).await;
}
