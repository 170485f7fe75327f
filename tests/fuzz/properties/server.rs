//! A model of how nats-server reads what a client sends, written from `parser.go` and `client.go` of 2.9.10 and 2.15:
//! byte by byte, with the same dependence on where the reads end. `tests/framing` holds it to real servers.
//!
//! It knows the parser of a client connection after CONNECT and nothing else: no permissions, no subscriptions.

use natsentry::wire::Connect;

/// What the server was told before, and its limits.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// CONNECT said `headers` (and the server has them).
    pub headers: bool,
    /// Largest payload in bytes.
    pub max_payload: usize,
    /// Longest argument part in bytes.
    pub max_control_line: usize,
    /// A later CONNECT takes all subscriptions away (2.11.17).
    pub takes_subscriptions: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            headers: true,
            max_payload: 1024 * 1024,
            max_control_line: 4096,
            takes_subscriptions: false,
        }
    }
}

/// An operation as the server understood it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// PUB, or HPUB with the length of its headers.
    Publish {
        subject: Vec<u8>,
        reply: Option<Vec<u8>>,
        header: Option<usize>,
        payload: Vec<u8>,
    },
    Subscribe {
        subject: Vec<u8>,
        queue: Option<Vec<u8>>,
        sid: Vec<u8>,
    },
    /// UNSUB; without a number also when the number says "now".
    Unsubscribe {
        sid: Vec<u8>,
        max: Option<usize>,
    },
    Ping,
    Pong,
    Connect(Vec<u8>),
    Info(Vec<u8>),
    /// HMSG, which has no effect.
    HeaderMessage,
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let option = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(show);
        match self {
            Self::Publish {
                subject,
                reply,
                header,
                payload,
            } => write!(
                f,
                "PUB({:?}, {:?}, {header:?}, {} bytes {:?})",
                show(subject),
                option(reply),
                payload.len(),
                show(&payload[..payload.len().min(64)])
            ),
            Self::Subscribe {
                subject,
                queue,
                sid,
            } => {
                write!(
                    f,
                    "SUB({:?}, {:?}, {:?})",
                    show(subject),
                    option(queue),
                    show(sid)
                )
            }
            Self::Unsubscribe { sid, max } => write!(f, "UNSUB({:?}, {max:?})", show(sid)),
            Self::Ping => f.write_str("PING"),
            Self::Pong => f.write_str("PONG"),
            Self::Connect(json) => write!(f, "CONNECT({:?})", show(json)),
            Self::Info(json) => write!(f, "INFO({:?})", show(json)),
            Self::HeaderMessage => f.write_str("HMSG"),
        }
    }
}

/// How the server ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Without a word.
    Silent,
    /// With this text in an `-ERR`.
    Said(&'static str),
}

const UNKNOWN: End = End::Said("Unknown Protocol Operation");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Connect,
    Pub,
    Hpub,
    Hmsg,
    Sub,
    Unsub,
    Ping,
    Pong,
    Info,
    Ok,
    Err,
}

const VERBS: [(&[u8], Verb); 11] = [
    (b"CONNECT", Verb::Connect),
    (b"PUB", Verb::Pub),
    (b"HPUB", Verb::Hpub),
    (b"HMSG", Verb::Hmsg),
    (b"SUB", Verb::Sub),
    (b"UNSUB", Verb::Unsub),
    (b"PING", Verb::Ping),
    (b"PONG", Verb::Pong),
    (b"INFO", Verb::Info),
    (b"+OK", Verb::Ok),
    (b"-ERR", Verb::Err),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the letters of a verb.
    Verb,
    /// Behind a verb that must have a blank (`OP_PUB`).
    NeedsBlank(Verb),
    /// In the blanks behind a verb (`OP_PUB_SPC`, `OP_CONNECT`).
    Blanks(Verb),
    /// In the arguments.
    Arguments(Verb),
    /// In the rest of PING, PONG or +OK, which is not looked at.
    Rest(Verb),
    Payload,
    PayloadCr,
    PayloadLf,
}

/// A publish whose payload is still to come (`pubArg`).
#[derive(Clone, Debug, Default)]
struct Announced {
    /// The arguments, which are read a second time when a read ends before the payload does.
    arguments: Vec<u8>,
    subject: Vec<u8>,
    reply: Option<Vec<u8>>,
    /// `pa.hdr`: negative for PUB.
    header: i64,
    size: usize,
    /// HMSG: nothing was announced.
    nothing: bool,
}

/// The parser of one connection.
#[derive(Debug)]
pub struct Parser {
    settings: Settings,
    state: State,
    word: Vec<u8>,
    /// Where the arguments begin in the read (`as`).
    start: usize,
    /// A CR was seen in the arguments (`drop`).
    drop: usize,
    /// What earlier reads held of the arguments (`argBuf`).
    kept: Option<Vec<u8>>,
    announced: Announced,
    payload: Vec<u8>,
    ops: Vec<Op>,
    end: Option<End>,
    /// The connection ends with this read.
    closing: bool,
}

impl Parser {
    /// At the start of a line.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: State::Verb,
            word: Vec::new(),
            start: 0,
            drop: 0,
            kept: None,
            announced: Announced::default(),
            payload: Vec::new(),
            ops: Vec::new(),
            end: None,
            closing: false,
        }
    }

    /// What was read so far.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// How the server ended the connection; none while it lives.
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// Whether no operation is under way.
    pub fn is_between_operations(&self) -> bool {
        self.state == State::Verb && self.word.is_empty()
    }

    /// One read of the server's.
    pub fn read(&mut self, input: &[u8]) {
        if self.end.is_some() || input.is_empty() {
            return;
        }
        let mut at = 0;
        while at < input.len() {
            let step = match self.state {
                State::Payload => {
                    let wanted = self.announced.size - self.payload.len();
                    let here = wanted.min(input.len() - at);
                    self.payload.extend_from_slice(&input[at..at + here]);
                    at += here;
                    if self.payload.len() == self.announced.size {
                        self.state = State::PayloadCr;
                    }
                    continue;
                }
                _ => self.byte(input, at),
            };
            if let Err(end) = step {
                self.end = Some(if self.closing { End::Silent } else { end });
                return;
            }
            at += 1;
        }
        match self.end_of_read(input) {
            Err(end) if !self.closing => self.end = Some(end),
            _ if self.closing => self.end = Some(End::Silent),
            _ => {}
        }
    }

    fn byte(&mut self, input: &[u8], at: usize) -> Result<(), End> {
        let byte = input[at];
        let blank = byte == b' ' || byte == b'\t';
        match self.state {
            State::Verb => self.letter(byte),
            State::NeedsBlank(verb) => {
                self.state = State::Blanks(verb);
                if blank { Ok(()) } else { Err(UNKNOWN) }
            }
            State::Blanks(verb) => {
                // Whatever comes first belongs to the arguments, be it a CR or an LF.
                if !blank {
                    self.state = State::Arguments(verb);
                    self.start = at;
                }
                Ok(())
            }
            State::Arguments(verb) => match byte {
                b'\r' => {
                    self.drop = 1;
                    Ok(())
                }
                b'\n' => {
                    let arguments = match self.kept.take() {
                        Some(kept) => kept,
                        None => input[self.start..at - self.drop].to_vec(),
                    };
                    self.drop = 0;
                    self.line(verb, arguments)
                }
                _ => {
                    if let Some(kept) = &mut self.kept {
                        kept.push(byte);
                    }
                    Ok(())
                }
            },
            State::Rest(verb) => {
                if byte == b'\n' {
                    self.begin();
                    match verb {
                        Verb::Ping => self.ops.push(Op::Ping),
                        Verb::Pong => self.ops.push(Op::Pong),
                        _ => {}
                    }
                }
                Ok(())
            }
            State::PayloadCr if byte == b'\r' => {
                self.state = State::PayloadLf;
                Ok(())
            }
            State::PayloadLf if byte == b'\n' => {
                self.published();
                Ok(())
            }
            State::PayloadCr | State::PayloadLf | State::Payload => Err(UNKNOWN),
        }
    }

    fn begin(&mut self) {
        self.state = State::Verb;
        self.word.clear();
        self.drop = 0;
    }

    fn letter(&mut self, byte: u8) -> Result<(), End> {
        self.word.push(byte.to_ascii_uppercase());
        let word = self.word.as_slice();
        if let Some((_, verb)) = VERBS.iter().find(|(name, _)| *name == word) {
            self.state = match verb {
                Verb::Ping | Verb::Pong | Verb::Ok => State::Rest(*verb),
                Verb::Connect | Verb::Info => State::Blanks(*verb),
                _ => State::NeedsBlank(*verb),
            };
            Ok(())
        } else if VERBS.iter().any(|(name, _)| name.starts_with(word)) {
            Ok(())
        } else {
            Err(UNKNOWN)
        }
    }

    fn check_length(&self, arguments: &[u8]) -> Result<(), End> {
        if arguments.len() > self.settings.max_control_line {
            return Err(End::Said("maximum control line exceeded"));
        }
        Ok(())
    }

    fn line(&mut self, verb: Verb, arguments: Vec<u8>) -> Result<(), End> {
        self.check_length(&arguments)?;
        self.begin();
        match verb {
            Verb::Pub | Verb::Hpub => {
                self.announced = self.announce(verb == Verb::Hpub, arguments)?;
                self.payload.clear();
                self.state = State::Payload;
                if self.announced.size == 0 {
                    self.state = State::PayloadCr;
                }
            }
            Verb::Hmsg => {
                self.announced = Announced {
                    nothing: true,
                    ..Announced::default()
                };
                self.payload.clear();
                self.state = State::PayloadCr;
            }
            Verb::Sub => {
                let words = split(&arguments, b" \t\r\n");
                let (subject, queue, sid) = match *words.as_slice() {
                    [subject, sid] => (subject, None, sid),
                    [subject, queue, sid] => (subject, Some(queue.to_vec()), sid),
                    _ => return Err(End::Silent),
                };
                self.ops.push(Op::Subscribe {
                    subject: subject.to_vec(),
                    queue,
                    sid: sid.to_vec(),
                });
            }
            Verb::Unsub => {
                let words = split(&arguments, b" \t\r\n");
                let (sid, max) = match *words.as_slice() {
                    [sid] => (sid, None),
                    [sid, max] => (sid, parse_size(max).filter(|max| *max > 0)),
                    _ => return Err(End::Silent),
                };
                let sid = sid.to_vec();
                self.ops.push(Op::Unsubscribe { sid, max });
            }
            Verb::Connect => {
                // It goes over what was said before. What it says at all is for other properties to look at.
                let before = Connect {
                    headers: self.settings.headers,
                    ..Connect::default()
                };
                if let Ok(connect) = Connect::parse_onto(before, &arguments) {
                    self.settings.headers = connect.headers;
                }
                self.ops.push(Op::Connect(arguments));
            }
            Verb::Info => {
                // Into a Go struct goes an object or null.
                match serde_json::from_slice(&arguments) {
                    Ok(serde_json::Value::Object(_) | serde_json::Value::Null) => {}
                    _ => return Err(End::Silent),
                }
                self.ops.push(Op::Info(arguments));
            }
            // The connection is closed, and the rest of the read is gone through all the same.
            Verb::Err => self.closing = true,
            Verb::Ping | Verb::Pong | Verb::Ok => {}
        }
        Ok(())
    }

    /// `processPub` and `processHeaderPub`.
    fn announce(&self, headers: bool, arguments: Vec<u8>) -> Result<Announced, End> {
        if headers && !self.settings.headers {
            return Err(End::Silent);
        }
        let words = split(&arguments, b" \t");
        let (subject, reply, header, size) = match (headers, words.as_slice()) {
            (false, [subject, size]) => (*subject, None, -1, *size),
            (false, [subject, reply, size]) => (*subject, Some(*reply), -1, *size),
            (true, [subject, header, size]) => (*subject, None, length(header)?, *size),
            (true, [subject, reply, header, size]) => {
                (*subject, Some(*reply), length(header)?, *size)
            }
            _ => return Err(End::Silent),
        };
        let size = parse_size(size).ok_or(End::Silent)?;
        if header > i64::try_from(size).unwrap_or(i64::MAX) {
            return Err(End::Silent);
        }
        if size > self.settings.max_payload {
            return Err(End::Said("Maximum Payload Violation"));
        }
        Ok(Announced {
            subject: subject.to_vec(),
            reply: reply.map(<[u8]>::to_vec),
            header,
            size,
            arguments,
            nothing: false,
        })
    }

    fn published(&mut self) {
        let announced = std::mem::take(&mut self.announced);
        self.kept = None;
        self.begin();
        if announced.nothing {
            self.ops.push(Op::HeaderMessage);
            return;
        }
        self.ops.push(Op::Publish {
            subject: announced.subject,
            reply: announced.reply,
            header: usize::try_from(announced.header).ok(),
            payload: std::mem::take(&mut self.payload),
        });
    }

    /// What the server does with what is unfinished at the end of a read.
    fn end_of_read(&mut self, input: &[u8]) -> Result<(), End> {
        match self.state {
            State::Arguments(_) => {
                if self.kept.is_none() {
                    // With a CR anywhere before, the last byte is dropped, whatever it is.
                    self.kept = Some(input[self.start..input.len() - self.drop].to_vec());
                }
                self.check_length(self.kept.as_deref().unwrap_or_default())
            }
            State::Payload | State::PayloadCr | State::PayloadLf if self.kept.is_none() => {
                // `clonePubArg`: the arguments are read again from a copy. An HMSG of a client has none.
                let headers = self.announced.header >= 0;
                let arguments = std::mem::take(&mut self.announced.arguments);
                let again = self.announce(headers, arguments).map_err(|_| UNKNOWN)?;
                self.kept = Some(again.arguments.clone());
                self.announced = again;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn length(text: &[u8]) -> Result<i64, End> {
    let length = parse_size(text).ok_or(End::Silent)?;
    i64::try_from(length).map_err(|_| End::Silent)
}

fn split<'a>(arguments: &'a [u8], blanks: &[u8]) -> Vec<&'a [u8]> {
    arguments
        .split(|byte| blanks.contains(byte))
        .filter(|word| !word.is_empty())
        .collect()
}

/// `util.go:parseSize`.
fn parse_size(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > 9 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
