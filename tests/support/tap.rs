//! A TCP relay that keeps every byte that goes to the server, connection by connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

type Streams = Arc<Mutex<Vec<Vec<u8>>>>;

/// A relay on loopback.
pub struct Tap {
    /// Where it listens.
    pub address: SocketAddr,
    to_server: Streams,
    task: JoinHandle<()>,
}

impl Tap {
    /// Relays to `target`.
    pub async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let to_server = Streams::default();
        let streams = Arc::clone(&to_server);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let index = {
                    let mut all = streams.lock().expect("no panic while held");
                    all.push(Vec::new());
                    all.len() - 1
                };
                let Ok(server) = TcpStream::connect(target).await else {
                    continue;
                };
                tokio::spawn(relay(client, server, Arc::clone(&streams), index));
            }
        });
        Self {
            address,
            to_server,
            task,
        }
    }

    /// What went to the server so far, one entry a connection.
    pub fn to_server(&self) -> Vec<Vec<u8>> {
        self.to_server.lock().expect("no panic while held").clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(client: TcpStream, server: TcpStream, streams: Streams, index: usize) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut piece = vec![0_u8; 65_536];
        while let Ok(count) = from_client.read(&mut piece).await {
            if count == 0 {
                break;
            }
            streams.lock().expect("no panic while held")[index].extend_from_slice(&piece[..count]);
            if to_server.write_all(&piece[..count]).await.is_err() {
                break;
            }
        }
        let _ = to_server.shutdown().await;
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(up, down);
}
