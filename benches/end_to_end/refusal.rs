//! Why a client of a storm was not served: by whose fault, and how far it had come.

use std::fmt;
use std::io;

/// How far a client had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// TCP, and nothing said yet.
    Connecting,
    /// The TLS handshake.
    Tls,
    /// Connected, waiting for INFO.
    BeforeInfo,
    /// CONNECT and PING said, waiting for PONG.
    AfterConnect,
}

/// One reason. Those that are alike count as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// The generator's own fault: it had no file or no port left.
    Generator(String),
    /// Nobody listens, or the listener's queue is told to answer so (`tcp_abort_on_overflow`).
    Refused,
    Reset(Stage),
    /// The end of the stream, and no `-ERR` before it.
    Closed(Stage),
    /// The text of an `-ERR`.
    Error(Stage, String),
    /// No answer in time.
    TimedOut(Stage),
    Other(Stage, String),
}

impl Refusal {
    pub(crate) fn of(stage: Stage, error: &io::Error) -> Self {
        use io::ErrorKind::{
            AddrInUse, AddrNotAvailable, BrokenPipe, ConnectionAborted, ConnectionRefused,
            ConnectionReset, TimedOut, UnexpectedEof,
        };
        if let Some(SaidNo(text)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return Self::Error(stage, text.clone());
        }
        match error.kind() {
            ConnectionRefused => Self::Refused,
            AddrInUse | AddrNotAvailable => Self::Generator(error.to_string()),
            _ if error.raw_os_error().is_some_and(is_lack_of_files) => {
                Self::Generator(error.to_string())
            }
            // Writing to a connection that was reset says broken pipe.
            ConnectionReset | ConnectionAborted | BrokenPipe => Self::Reset(stage),
            UnexpectedEof => Self::Closed(stage),
            TimedOut => Self::TimedOut(stage),
            _ => Self::Other(stage, error.to_string()),
        }
    }
}

/// The line of an `-ERR` on its way through functions that know IO errors alone.
#[derive(Debug)]
struct SaidNo(String);

pub(crate) fn said_no(line: &[u8]) -> io::Error {
    io::Error::other(SaidNo(String::from_utf8_lossy(line).into_owned()))
}

impl fmt::Display for SaidNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SaidNo {}

/// EMFILE and ENFILE (errno(3)).
fn is_lack_of_files(code: i32) -> bool {
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "while connecting",
            Self::Tls => "in the TLS handshake",
            Self::BeforeInfo => "before INFO",
            Self::AfterConnect => "after CONNECT",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generator(what) => write!(f, "the generator itself: {what}"),
            Self::Refused => f.write_str("connection refused"),
            Self::Reset(stage) => write!(f, "reset {stage}"),
            Self::Closed(stage) => write!(f, "closed {stage} without a word"),
            Self::Error(stage, text) => write!(f, "{text} {stage}"),
            Self::TimedOut(stage) => write!(f, "no answer in time {stage}"),
            Self::Other(stage, text) => write!(f, "{text} {stage}"),
        }
    }
}

impl std::error::Error for Refusal {}
