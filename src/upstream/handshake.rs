//! The conversation with a server up to the first PONG, over any byte stream. Bounded in bytes; the caller bounds the
//! time.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::greeting::{Greeting, LastInfo};

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

    /// An INFO that was read together with PONG: servers from 2.10 on send the limits of the account so
    /// (`client.go`, `processPing`). None where something else stands there, or only a part of it.
    pub(super) fn info_behind(&mut self, last: &LastInfo) -> Result<Option<Greeting>, Fault> {
        let Some(end) = memchr::memchr(b'\n', &self.buffer) else {
            return Ok(None);
        };
        let line = self.buffer.get(..end).unwrap_or_default();
        let (b"INFO", json) = verb(line) else {
            return Ok(None);
        };
        let greeting = read(json, last)?;
        self.buffer.drain(..=end);
        Ok(Some(greeting))
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
    pub(super) async fn greeting<S>(
        &mut self,
        stream: &mut S,
        last: &LastInfo,
    ) -> Result<Greeting, Fault>
    where
        S: AsyncRead + Unpin,
    {
        // `-ERR 'maximum connections exceeded'` can come first from some middle boxes; servers send INFO before it.
        let line = self.next(stream, b"I-").await?;
        match verb(&line) {
            (b"INFO", json) => read(json, last),
            (b"-ERR", text) => Err(Fault::Err(error_text(text))),
            _ => Err(Fault::Protocol(describe(&line))),
        }
    }

    /// Reads up to PONG. PINGs are answered, a later INFO is kept, `-ERR` ends it.
    pub(super) async fn pong<S>(&mut self, stream: &mut S, last: &LastInfo) -> Result<Answer, Fault>
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
                (b"INFO", json) => answer.greeting = Some(read(json, last)?),
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

fn read(json: &[u8], last: &LastInfo) -> Result<Greeting, Fault> {
    last.read(json)
        .ok_or_else(|| Fault::Protocol(format!("INFO with {}", describe(json))))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `bytes` to a reader, in pieces of `piece` bytes, and gives what was understood.
    async fn greeted(bytes: &[u8], piece: usize) -> Result<(Greeting, Lines), Fault> {
        let (mut near, mut far) = tokio::io::duplex(piece);
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move { far.write_all(&bytes).await });
        let mut lines = Lines::new();
        let result = lines.greeting(&mut near, &LastInfo::default()).await;
        drop(near);
        writer.await.unwrap().ok();
        result.map(|greeting| (greeting, lines))
    }

    async fn answered(bytes: &[u8]) -> (Result<Answer, Fault>, Vec<u8>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        far.write_all(bytes).await.unwrap();
        far.shutdown().await.unwrap();
        let mut lines = Lines::new();
        let result = lines.pong(&mut near, &LastInfo::default()).await;
        drop(near);
        let mut said = Vec::new();
        far.read_to_end(&mut said).await.unwrap();
        (result, lines.into_rest(), said)
    }

    fn protocol_fault<T>(result: Result<T, Fault>) -> String {
        match result {
            Err(Fault::Protocol(detail)) => detail,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("accepted"),
        }
    }

    #[tokio::test]
    async fn info_is_the_same_in_any_pieces_and_what_follows_is_kept() {
        for piece in [1, 2, 7, 1024] {
            let (greeting, lines) = greeted(b"INFO {\"version\":\"2.9.10\"} \r\nPING\r\n", piece)
                .await
                .unwrap();
            assert_eq!(&*greeting.info.version, "2.9.10");
            assert!(b"PING\r\n".starts_with(&lines.into_rest()[..]));
        }
    }

    #[tokio::test]
    async fn what_is_not_nats_is_refused_at_its_first_byte_without_waiting_for_a_line() {
        for (bytes, expected) in [
            (&b"HTTP/1.1 400 Bad Request"[..], "HTTP/1.1"),
            (b"SSH-2.0-OpenSSH", "SSH-2.0"),
            (b"\x15\x03\x01\x00\x02\x02\x46", "it speaks TLS"),
            (b"\x00\x00\x00", "\\x00"),
            (b"\r\n", "\\r\\n"),
            (b"INFO []\r\n", "INFO with"),
            (b"INFORMATION {}\r\n", "INFORMATION"),
        ] {
            let fault = protocol_fault(greeted(bytes, 64).await.map(drop));
            assert!(fault.contains(expected), "{fault}");
            assert!(fault.len() < 400, "{fault}");
        }
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut_at_the_limit() {
        let mut endless = b"INFO {\"x\":\"".to_vec();
        endless.resize(1024 * 1024, b'a');
        let fault = protocol_fault(greeted(&endless, 64 * 1024).await.map(drop));
        assert!(fault.contains("65536"), "{fault}");
    }

    #[tokio::test]
    async fn an_error_or_an_end_instead_of_info_is_told_apart() {
        let error = greeted(b"-ERR 'maximum connections exceeded'\r\n", 64).await;
        assert!(matches!(error, Err(Fault::Err(text)) if text == "maximum connections exceeded"));
        assert!(matches!(greeted(b"", 64).await, Err(Fault::Io(_))));
        assert!(matches!(greeted(b"INFO {", 64).await, Err(Fault::Io(_))));
    }

    #[tokio::test]
    async fn everything_up_to_pong_is_understood_and_the_rest_left_over() {
        let (result, rest, said) =
            answered(b"+OK\r\nPING\r\nINFO {\"ldm\":true}\r\nPONG\r\nINFO {}\r\nMSG a 1").await;
        assert!(result.unwrap().greeting.unwrap().info.ldm);
        assert_eq!(rest, b"INFO {}\r\nMSG a 1");
        assert_eq!(said, b"PONG\r\n");
    }

    #[tokio::test]
    async fn an_info_that_came_with_pong_is_taken_when_all_of_it_is_there() {
        let behind = |rest: &[u8]| {
            let mut lines = Lines {
                buffer: rest.to_vec(),
            };
            let info = lines
                .info_behind(&LastInfo::default())
                .map(|info| info.map(|read| read.info.version.clone()));
            (info.unwrap_or_default(), lines.into_rest())
        };
        assert_eq!(
            behind(b"INFO {\"version\":\"2.12.0\"} \r\nPING\r\n"),
            (Some("2.12.0".to_owned()), b"PING\r\n".to_vec())
        );
        for rest in [&b""[..], b"INFO {", b"-ERR 'x'\r\n", b"PING\r\nINFO {}\r\n"] {
            assert_eq!(behind(rest), (None, rest.to_vec()));
        }
        let mut lines = Lines {
            buffer: b"INFO []\r\n".to_vec(),
        };
        assert!(protocol_fault(lines.info_behind(&LastInfo::default())).contains("INFO with"));
    }

    #[tokio::test]
    async fn a_server_that_never_comes_to_the_point_is_given_up() {
        let (result, ..) = answered(&b"PING\r\n".repeat(1000)).await;
        assert!(protocol_fault(result).contains("does not answer"));
        let (result, ..) = answered(b"MSG a 1 0\r\n\r\n").await;
        assert!(protocol_fault(result).contains("MSG"));
        let (result, ..) = answered(b"-ERR 'Authorization Violation'\r\n").await;
        assert!(matches!(result, Err(Fault::Err(text)) if text == "Authorization Violation"));
    }

    #[tokio::test]
    async fn words_of_a_server_are_clipped_and_made_harmless() {
        let mut line = b"-ERR '\x1b[31m".to_vec();
        line.resize(5000, b'x');
        line.extend_from_slice(b"'\r\n");
        let (result, ..) = answered(&line).await;
        let Err(Fault::Err(text)) = result else {
            panic!()
        };
        assert!(
            text.starts_with("\\x1b[31mx") && text.ends_with("...") && text.len() < 80,
            "{text}"
        );
    }
}
