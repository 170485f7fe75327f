//! An upstream that lets a session wait in the middle of its admission.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A server that answers the first PING of a session when it is let, and that of a probe at once.
pub struct Gate {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether a session has come that waits.
    pub arrived: Arc<AtomicBool>,
    /// Lets one session in.
    pub open: Arc<Notify>,
    /// Everything that sessions sent, line by line.
    pub heard: Arc<Mutex<Vec<String>>>,
}

impl Gate {
    /// Listens on loopback.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has ports");
        let gate = Self {
            address: listener.local_addr().expect("an address"),
            arrived: Arc::default(),
            open: Arc::default(),
            heard: Arc::default(),
        };
        let (arrived, open) = (Arc::clone(&gate.arrived), Arc::clone(&gate.open));
        let heard = Arc::clone(&gate.heard);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (arrived, open) = (Arc::clone(&arrived), Arc::clone(&open));
                tokio::spawn(answer(tcp, arrived, open, Arc::clone(&heard)));
            }
        });
        gate
    }
}

async fn answer(
    tcp: TcpStream,
    arrived: Arc<AtomicBool>,
    open: Arc<Notify>,
    heard: Arc<Mutex<Vec<String>>>,
) {
    let (read, mut write) = tcp.into_split();
    let info = json!({
        "server_id": "N", "server_name": "n", "version": "2.15.1", "proto": 1, "headers": true,
        "max_payload": 1_048_576, "host": "127.0.0.1", "port": 4222,
    });
    let greeting = format!("INFO {info} \r\n");
    let _ = write.write_all(greeting.as_bytes()).await;
    let mut lines = BufReader::new(read).lines();
    let mut waits = false;
    while let Ok(Some(line)) = lines.next_line().await {
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line.clone());
        waits |= line.starts_with("CONNECT") && !line.contains("natsentry probe");
        if line.starts_with("PING") {
            if std::mem::take(&mut waits) {
                arrived.store(true, Ordering::Release);
                open.notified().await;
            }
            let _ = write.write_all(b"PONG\r\n").await;
        }
    }
}
