//! A NATS client small enough to show every line that it sends and receives.
//!
//! Owns: a TCP connection, CONNECT with a token, and framing of what comes back. Must never: print a token, or reconnect
//! by itself. It is for the demonstration: applications use the official clients.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::terminal::{CLOSED, Direction, Terminal, shorten};

/// How long an answer may take. The story waits for nothing longer than the end of a short token.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most bytes that one connection may have waiting to be read.
const BUFFER_BYTES: usize = 1 << 20;

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// `PONG`, `-ERR ...` or an INFO that announces the end.
    Line(String),
    /// MSG or HMSG.
    Message {
        /// The control line.
        line: String,
        /// Subject.
        subject: String,
        /// The first line of the header block, as `NATS/1.0 503`; empty where there is none.
        status: String,
        /// The payload without headers.
        payload: String,
    },
    /// The connection was closed.
    Closed,
}

impl Heard {
    /// As it is shown.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Line(line) if line.starts_with("INFO ") => "INFO {… \"ldm\":true …}".to_owned(),
            Self::Line(line) => line.clone(),
            Self::Message {
                line,
                status,
                payload,
                ..
            } => {
                let parts = [line, status, payload]
                    .into_iter()
                    .filter(|part| !part.is_empty());
                parts.map(String::as_str).collect::<Vec<_>>().join("  ")
            }
            Self::Closed => CLOSED.to_owned(),
        }
    }

    /// Whether it is the lame duck notice.
    pub(super) fn is_notice(&self) -> bool {
        matches!(self, Self::Line(line) if line.starts_with("INFO "))
    }

    /// Whether it is this line exactly.
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Line(line) if line == wanted)
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    name: &'static str,
    terminal: Terminal,
    stream: TcpStream,
    buffer: Vec<u8>,
    /// INFO as it was greeted with.
    pub(super) info: serde_json::Value,
}

/// What a client proves itself with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Proof<'a> {
    /// Nothing.
    Nothing,
    /// A user name and a password.
    Password(&'a str, &'a str),
    /// An access token, in the place of the password.
    Token(&'a str),
}

impl Client {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    /// When nobody answers there, or not with INFO.
    pub(super) async fn open(
        terminal: Terminal,
        name: &'static str,
        address: SocketAddr,
    ) -> anyhow::Result<Self> {
        let connecting = timeout(PATIENCE, TcpStream::connect(address)).await;
        let stream = connecting
            .map_err(anyhow::Error::from)
            .and_then(|stream| Ok(stream?))
            .with_context(|| format!("{name} cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let info = serde_json::Value::Null;
        let mut client = Self {
            name,
            terminal,
            stream,
            buffer: Vec::new(),
            info,
        };
        let greeting = client.line(Instant::now() + PATIENCE).await?;
        let json = greeting
            .as_deref()
            .and_then(|line| line.strip_prefix("INFO "));
        let json = json.with_context(|| format!("{address} greets with {greeting:?}, not INFO"))?;
        client.info = serde_json::from_str(json).context("INFO is not JSON")?;
        Ok(client)
    }

    /// Sends CONNECT and PING, and returns the answer: PONG, or what came instead of it.
    pub(super) async fn connect(&mut self, proof: Proof<'_>) -> anyhow::Result<Heard> {
        let credentials = |password: &str| match proof {
            Proof::Nothing => String::new(),
            Proof::Password(user, _) => format!("\"user\":\"{user}\",\"pass\":\"{password}\","),
            Proof::Token(_) => format!("\"user\":\"{}\",\"pass\":\"{password}\",", self.name),
        };
        let (secret, shown) = match proof {
            Proof::Nothing => ("", String::new()),
            Proof::Password(_, password) => (password, "********".to_owned()),
            Proof::Token(token) => (token, shorten(token)),
        };
        let rest = "\"lang\":\"demo\",\"version\":\"1\",\"protocol\":1,\"verbose\":false,\
                    \"pedantic\":false,\"headers\":true,\"no_responders\":true";
        let connect = format!("CONNECT {{{}{rest}}}\r\nPING\r\n", credentials(secret));
        self.show(
            Direction::Sent,
            &format!("CONNECT {{{}…}}", credentials(&shown)),
        )?;
        self.stream.write_all(connect.as_bytes()).await?;
        self.hear().await
    }

    /// Subscribes. `number` is the client's own for the subscription.
    pub(super) async fn subscribe(&mut self, subject: &str, number: u32) -> anyhow::Result<()> {
        let line = format!("SUB {subject} {number}");
        self.show(Direction::Sent, &line)?;
        self.stream
            .write_all(format!("{line}\r\n").as_bytes())
            .await?;
        Ok(())
    }

    /// Subscribes to an inbox without a word about it; the number of the subscription is 2.
    pub(super) async fn open_inbox(&mut self, inbox: &str) -> anyhow::Result<()> {
        self.stream
            .write_all(format!("SUB {inbox} 2\r\n").as_bytes())
            .await?;
        Ok(())
    }

    /// Publishes, with a reply subject where it is a request.
    pub(super) async fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        payload: &str,
    ) -> anyhow::Result<()> {
        let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
        let line = format!("PUB {subject} {reply}{}", payload.len());
        self.show(Direction::Sent, format!("{line}  {payload}").trim_end())?;
        self.stream
            .write_all(format!("{line}\r\n{payload}\r\n").as_bytes())
            .await?;
        Ok(())
    }

    /// Shows nothing any more.
    pub(super) const fn mute(&mut self) {
        self.terminal = self.terminal.muted();
    }

    /// Everything that came before the answer to a PING: what was sent earlier has been dealt with then.
    pub(super) async fn settle(&mut self) -> anyhow::Result<Vec<Heard>> {
        self.stream.write_all(b"PING\r\n").await?;
        let mut before = Vec::new();
        loop {
            match self.next(Instant::now() + PATIENCE).await? {
                heard if heard.is("PONG") => return Ok(before),
                Heard::Closed => bail!("{}: the connection was closed after {before:?}", self.name),
                heard => before.push(heard),
            }
        }
    }

    /// The next thing that is worth hearing, shown.
    pub(super) async fn hear(&mut self) -> anyhow::Result<Heard> {
        let heard = self.next(Instant::now() + PATIENCE).await?;
        self.show(Direction::Received, &heard.shown())?;
        Ok(heard)
    }

    fn show(&self, direction: Direction, text: &str) -> anyhow::Result<()> {
        Ok(self.terminal.wire(self.name, direction, text)?)
    }

    /// The next line or message; PING is answered, and an INFO without news is passed over.
    async fn next(&mut self, deadline: Instant) -> anyhow::Result<Heard> {
        loop {
            let Some(line) = self.line(deadline).await? else {
                return Ok(Heard::Closed);
            };
            if line == "PING" {
                self.stream.write_all(b"PONG\r\n").await?;
            } else if line.starts_with("MSG ") || line.starts_with("HMSG ") {
                return self.message(line, deadline).await;
            } else if !line.starts_with("INFO ") || line.contains("\"ldm\":true") {
                return Ok(Heard::Line(line));
            }
        }
    }

    /// `MSG subject sid [reply] size` or `HMSG subject sid [reply] header size`, and what follows.
    async fn message(&mut self, line: String, deadline: Instant) -> anyhow::Result<Heard> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |from_end: usize| -> Option<usize> {
            words.get(words.len().checked_sub(from_end)?)?.parse().ok()
        };
        let headers = if line.starts_with("HMSG ") {
            number(2)
        } else {
            Some(0)
        };
        let (Some(headers), Some(size)) = (headers, number(1)) else {
            bail!("{}: not a message: {line}", self.name);
        };
        let subject = words
            .get(1)
            .map(|subject| (*subject).to_owned())
            .unwrap_or_default();
        let Some(mut block) = self.take(size, deadline).await? else {
            return Ok(Heard::Closed);
        };
        if block.len() < headers || self.take(2, deadline).await?.is_none() {
            bail!("{}: a message ended early: {line}", self.name);
        }
        let payload = block.split_off(headers);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let status = text(&block).lines().next().unwrap_or_default().to_owned();
        Ok(Heard::Message {
            line,
            subject,
            status,
            payload: text(&payload),
        })
    }

    /// One line without its end; none when the connection was closed.
    async fn line(&mut self, deadline: Instant) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                return Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()));
            }
            if !self.fill(deadline).await? {
                return Ok(None);
            }
        }
    }

    /// So many bytes; none when the connection was closed before.
    async fn take(&mut self, count: usize, deadline: Instant) -> anyhow::Result<Option<Vec<u8>>> {
        while self.buffer.len() < count {
            if !self.fill(deadline).await? {
                return Ok(None);
            }
        }
        Ok(Some(self.buffer.drain(..count).collect()))
    }

    /// Reads some bytes. False when the connection was closed.
    async fn fill(&mut self, deadline: Instant) -> anyhow::Result<bool> {
        if self.buffer.len() > BUFFER_BYTES {
            bail!(
                "{}: more than {BUFFER_BYTES} bytes without an end",
                self.name
            );
        }
        let reading = timeout_at(deadline, self.stream.read_buf(&mut self.buffer)).await;
        let Ok(read) = reading else {
            bail!(
                "{} waited {} s for an answer in vain",
                self.name,
                PATIENCE.as_secs()
            );
        };
        // A reset is an end as well.
        Ok(read.is_ok_and(|bytes| bytes > 0))
    }
}
