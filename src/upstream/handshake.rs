//! The conversation with a server up to the first PONG, over any byte stream. Bounded in bytes; the caller bounds the
//! time.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::documents::Info;

/// Longest line a server may send us before PONG. INFO of a large cluster lists hundreds of URLs.
const LINE_LIMIT: usize = 64 * 1024;

/// Lines between CONNECT and PONG, after which a server is not believed to come to the point.
const LINES_BEFORE_PONG: usize = 16;

/// What went wrong, without the name of the server.
#[derive(Debug)]
pub(super) enum Fault {
    /// Reading or writing failed, or the server closed.
    Io(io::Error),
    /// Not NATS.
    Protocol(String),
    /// `-ERR` and its text.
    Err(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// INFO as it came, and as read.
pub(super) struct Greeting {
    pub(super) json: Vec<u8>,
    pub(super) info: Info,
}

/// The answer to CONNECT and PING.
#[derive(Default)]
pub(super) struct Answer {
    /// A later INFO that came before PONG.
    pub(super) greeting: Option<Greeting>,
}

/// Lines off a stream. What was read beyond the last line taken is kept.
pub(super) struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    pub(super) const fn new() -> Self {
        Self { buffer: Vec::new() }
    }

    /// Bytes that were read and not taken.
    pub(super) fn into_rest(self) -> Vec<u8> {
        self.buffer
    }

    /// Whether bytes were read that nobody took.
    pub(super) fn has_rest(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next line without its end. `expected` are the first bytes, in upper case, that any sensible line has: what
    /// begins otherwise is refused before its end came, which may be never.
    async fn next<S>(&mut self, stream: &mut S, expected: &[u8]) -> Result<Vec<u8>, Fault>
    where
        S: AsyncRead + Unpin,
    {
        let mut searched = 0;
        loop {
            if let Some(first) = self.buffer.first()
                && !expected.contains(&first.to_ascii_uppercase())
            {
                return Err(Fault::Protocol(describe(&self.buffer)));
            }
            let fresh = self.buffer.get(searched..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', fresh) {
                let rest = self
                    .buffer
                    .split_off(searched.saturating_add(at).saturating_add(1));
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            searched = self.buffer.len();
            if searched > LINE_LIMIT {
                return Err(Fault::Protocol(format!(
                    "a line of more than {LINE_LIMIT} bytes"
                )));
            }
            self.buffer.reserve(4096);
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// The INFO that a server begins with.
    pub(super) async fn greeting<S>(&mut self, stream: &mut S) -> Result<Greeting, Fault>
    where
        S: AsyncRead + Unpin,
    {
        // `-ERR 'maximum connections exceeded'` can come first from some middle boxes; servers send INFO before it.
        let line = self.next(stream, b"I-").await?;
        match verb(&line) {
            (b"INFO", json) => greeting(json),
            (b"-ERR", text) => Err(Fault::Err(error_text(text))),
            _ => Err(Fault::Protocol(describe(&line))),
        }
    }

    /// Reads up to PONG. PINGs are answered, a later INFO is kept, `-ERR` ends it.
    pub(super) async fn pong<S>(&mut self, stream: &mut S) -> Result<Answer, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut answer = Answer::default();
        for _ in 0..LINES_BEFORE_PONG {
            let line = self.next(stream, b"P+-I").await?;
            match verb(&line) {
                (b"PONG", _) => return Ok(answer),
                (b"PING", _) => {
                    stream.write_all(b"PONG\r\n").await?;
                    stream.flush().await?;
                }
                (b"+OK", _) => {}
                (b"-ERR", text) => return Err(Fault::Err(error_text(text))),
                (b"INFO", json) => answer.greeting = Some(greeting(json)?),
                _ => return Err(Fault::Protocol(describe(&line))),
            }
        }
        Err(Fault::Protocol("it does not answer PING".to_owned()))
    }
}

/// Verb (as a server writes it: upper case) and argument.
fn verb(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line
        .iter()
        .position(|byte| matches!(byte, b' ' | b'\t'))
        .unwrap_or(line.len());
    let (verb, argument) = line.split_at_checked(end).unwrap_or((line, b""));
    (verb, argument.trim_ascii())
}

fn greeting(json: &[u8]) -> Result<Greeting, Fault> {
    match Info::parse(json) {
        Some(info) => Ok(Greeting {
            json: json.to_vec(),
            info,
        }),
        None => Err(Fault::Protocol(format!("INFO with {}", describe(json)))),
    }
}

/// The text between the quotes, clipped, without control characters.
fn error_text(text: &[u8]) -> String {
    printable(
        text.strip_prefix(b"'")
            .and_then(|text| text.strip_suffix(b"'"))
            .unwrap_or(text),
    )
}

fn describe(bytes: &[u8]) -> String {
    match bytes.first() {
        None => "an empty line".to_owned(),
        Some(0x14..=0x17) => "it speaks TLS".to_owned(),
        Some(_) => format!("it sent `{}`", printable(bytes)),
    }
}

fn printable(bytes: &[u8]) -> String {
    let (head, cut) = match bytes.get(..CLIP) {
        Some(head) => (head, "..."),
        None => (bytes, ""),
    };
    format!("{}{cut}", head.escape_ascii())
}

/// Bytes of a server's words that get into a message of ours.
const CLIP: usize = 64;
