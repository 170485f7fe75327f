//! A NATS client that says exactly what a test tells it to, and shows exactly what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A raw connection.
pub struct Wire {
    tcp: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects; INFO is not read yet.
    pub async fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.expect("a connection");
        Self {
            tcp,
            buffer: Vec::new(),
        }
    }

    /// Connects with a token and waits for the first PONG. Returns the connection and the first INFO.
    pub async fn admitted(address: SocketAddr, token: &str) -> (Self, String) {
        let mut wire = Self::connect(address).await;
        let info = wire.line().await.expect("INFO");
        wire.send(&connect_line(token, "")).await;
        wire.send("PING\r\n").await;
        let answer = wire.line().await;
        assert_eq!(answer.as_deref(), Some("PONG"), "the token is accepted");
        (wire, info)
    }

    /// The address as the other side sees it.
    pub fn local(&self) -> SocketAddr {
        self.tcp.local_addr().expect("an address")
    }

    /// Sends text as it is.
    pub async fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes()).await;
    }

    /// Sends bytes as they are. Errors are left for the reading side to show.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.tcp.write_all(bytes).await;
    }

    /// The next line without its line end; none at the end of the stream.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let text = line.strip_suffix(b"\r\n").unwrap_or(&line);
                return Some(String::from_utf8_lossy(text).into_owned());
            }
            let mut piece = vec![0_u8; 65_536];
            let read = timeout(PATIENCE, self.tcp.read(&mut piece))
                .await
                .expect("an answer in time");
            match read {
                Ok(count) if count > 0 => self.buffer.extend_from_slice(&piece[..count]),
                Ok(_) | Err(_) => return None,
            }
        }
    }

    /// A payload of so many bytes, without its line end.
    pub async fn payload(&mut self, size: usize) -> Vec<u8> {
        while self.buffer.len() < size + 2 {
            let read = timeout(PATIENCE, self.tcp.read_buf(&mut self.buffer)).await;
            let count = read.expect("in time").expect("a payload");
            assert!(count > 0, "the connection ended inside a payload");
        }
        let mut payload: Vec<u8> = self.buffer.drain(..size + 2).collect();
        payload.truncate(size);
        payload
    }

    /// The next line that is not an INFO.
    pub async fn answer(&mut self) -> Option<String> {
        loop {
            let line = self.line().await?;
            if !line.starts_with("INFO ") {
                return Some(line);
            }
        }
    }

    /// Everything until the end of the stream, line by line.
    pub async fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        lines
    }

    /// Sends PING and returns what came before its PONG, INFO left out.
    pub async fn until_pong(&mut self) -> Vec<String> {
        self.send("PING\r\n").await;
        let mut lines = Vec::new();
        loop {
            match self.answer().await {
                Some(line) if line == "PONG" => return lines,
                Some(line) => lines.push(line),
                None => panic!("closed before PONG, after {lines:?}"),
            }
        }
    }
}

/// A CONNECT with the token as `auth_token`; `more` is JSON members with a leading comma.
pub fn connect_line(token: &str, more: &str) -> String {
    format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"protocol\":1,\"headers\":true,\"no_responders\":true,\
         \"lang\":\"test\",\"version\":\"1\",\"auth_token\":\"{token}\"{more}}}\r\n"
    )
}
