//! Lines off a stream, as the bytes they are, line end included.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest line waited for; the CONNECT of a test of limits is longer than any real one.
const LINE_MAX: usize = 8 * 1024 * 1024;

/// What was read and not taken.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line. Cancelling it loses nothing.
    pub async fn next<S: AsyncRead + Unpin + ?Sized>(
        &mut self,
        stream: &mut S,
    ) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            if self.buffer.len() > LINE_MAX {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
            self.buffer.reserve(4096);
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
    }

    /// Everything else that was read.
    pub fn into_rest(self) -> Vec<u8> {
        self.buffer
    }
}

/// The JSON behind the verb.
pub fn json_of(line: &[u8]) -> Option<Value> {
    let at = line.iter().position(|byte| *byte == b'{')?;
    serde_json::from_slice(&line[at..]).ok()
}
