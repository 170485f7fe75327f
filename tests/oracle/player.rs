//! Plays a script to one side and writes down what everybody saw.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Map, Value};

use super::differences::Difference;
use super::frames::{Frame, next};
use super::plan::{Part, Plan};
use super::random::Random;
use super::script::{Op, Script, Step};
use super::subjects::literal_of;

/// How long an answer may take. Then the connection counts as closed.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was seen between two waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) client: Vec<Frame>,
    pub(crate) peer: Vec<Frame>,
}

/// What was seen from CONNECT to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transcript {
    pub(crate) segments: Vec<Segment>,
    pub(crate) closed: bool,
}

impl Transcript {
    pub(crate) fn show(&self) -> String {
        let mut text = String::new();
        for (index, segment) in self.segments.iter().enumerate() {
            text.push_str(&format!("  -- {index}\n"));
            for frame in &segment.client {
                text.push_str(&format!("    client < {}\n", frame.show()));
            }
            for frame in &segment.peer {
                text.push_str(&format!("    third  < {}\n", frame.show()));
            }
        }
        if self.closed {
            text.push_str("  -- closed\n");
        }
        text
    }
}

/// One connection as a client.
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    closed: bool,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        Self {
            stream,
            received: Vec::new(),
            closed: false,
        }
    }

    /// A side that has closed takes nothing more, which is no mistake of ours.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Frames until that many PONGs have come, or the end. PING comes when it likes, and INFO differs from server to
    /// server.
    pub(crate) fn until(&mut self, mut pongs: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut at = 0;
        while pongs > 0 && !self.closed {
            while let Some((frame, len, zeros)) = next(&self.received[at..]) {
                at += len;
                if zeros {
                    Difference::SizesAnew.seen();
                }
                let skipped = matches!(&frame, Frame::Line(line) if line == b"PING" || line.starts_with(b"INFO "));
                let pong = frame.is_pong();
                if !skipped {
                    frames.push(frame);
                }
                pongs -= usize::from(pong);
                if pongs == 0 {
                    self.received.drain(..at);
                    return frames;
                }
            }
            self.received.drain(..at);
            at = 0;
            self.read();
        }
        frames
    }

    fn read(&mut self) {
        let mut buffer = [0; 16_384];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.closed = true,
            // Shown as an end where the other side goes on, with the script that led to it.
            Err(_) => self.closed = true,
        }
    }
}

/// A server, or natsentry before one, with the third party's connection to the account behind it.
pub(crate) struct Side {
    pub(crate) address: SocketAddr,
    /// Who plays, and who somebody else is.
    pub(crate) credentials: [Map<String, Value>; 2],
    pub(crate) is_server: bool,
}

/// The third party: it may do everything.
pub(crate) struct Peer(Connection);

impl Peer {
    /// Connects to `server` as `user`, and listens for answers.
    pub(crate) fn connect(server: SocketAddr, user: &str, password: &str) -> Self {
        let mut connection = Connection::open(server);
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"echo\":false,\"headers\":true,\"no_responders\":true,\
             \"protocol\":1,\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\nSUB _PEER.> 799\r\nPING\r\n"
        );
        connection.send(hello.as_bytes());
        let said = connection.until(1);
        assert!(said.len() == 1 && !connection.closed, "{said:?}");
        Self(connection)
    }

    fn round_trip(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.0.send(&[bytes, b"PING\r\n"].concat());
        let frames = self.0.until(1);
        assert!(!self.0.closed, "the third party was cut off: {frames:?}");
        frames
    }

    /// Waits until nobody but us listens to `subjects`: the connection of a client that was cut off is gone everywhere.
    fn settle(&mut self, subjects: &[Vec<u8>]) {
        loop {
            let asked: Vec<Vec<u8>> = subjects
                .iter()
                .map(|subject| [b"PUB ", &subject[..], b" _PEER.settle 0\r\n\r\n"].concat())
                .collect();
            let answers = self.round_trip(&asked.concat());
            let silent = answers
                .iter()
                .filter(|frame| frame.no_responders().is_some())
                .count();
            if silent == subjects.len() {
                return;
            }
        }
    }
}

/// What every server refuses to everybody, in words of its own (`client.go:processSubEx`).
fn mark(step: usize, op: usize) -> Vec<u8> {
    format!("SUB _mark_.{step}.{op} _sys_ 0\r\n").into_bytes()
}

/// Step and operation of the mark that a line speaks of.
pub(crate) fn marked(frame: &Frame) -> Option<(usize, usize)> {
    let Frame::Line(line) = frame else {
        return None;
    };
    let text = std::str::from_utf8(line).ok()?;
    let rest = text.strip_prefix("-ERR 'Permissions Violation for Subscription to \"_mark_.")?;
    let (place, _) = rest.split_once('"')?;
    let (step, op) = place.split_once('.')?;
    Some((step.parse().ok()?, op.parse().ok()?))
}

/// Plays a script. The account is as quiet afterwards as it was before.
pub(crate) fn play(side: &Side, peer: &mut Peer, script: &Script, plan: &Plan) -> Transcript {
    let mut client = Connection::open(side.address);
    let [own, other] = &side.credentials;
    let mut transcript = Transcript::default();
    client.send(&[&script.options.connect(own)[..], b"PING\r\n"].concat());
    transcript.segments.push(Segment {
        client: client.until(1),
        peer: Vec::new(),
    });
    let forget: Vec<u8> = script
        .sids()
        .iter()
        .flat_map(|sid| format!("UNSUB {sid}\r\n").into_bytes())
        .collect();
    for (number, (step, parts)) in script.steps.iter().zip(&plan.parts).enumerate() {
        if client.closed {
            break;
        }
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut pongs = 1;
        for (index, (op, part)) in step.ops().iter().zip(parts).enumerate() {
            let bytes = op.bytes([own, other]);
            pieces.push(match part {
                Part::Neither => continue,
                Part::Marked { .. } if side.is_server => mark(number, index),
                _ => bytes,
            });
            pongs += usize::from(matches!(op, Op::Ping(_)));
        }
        let mut segment = Segment::default();
        match step {
            Step::Client(_, in_pieces) => {
                pieces.push(b"PING\r\n".to_vec());
                if *in_pieces {
                    // Each goes out by itself, cut in its middle.
                    for piece in &pieces {
                        let (head, tail) = piece.split_at(piece.len() / 2);
                        client.send(head);
                        client.send(tail);
                    }
                } else {
                    client.send(&pieces.concat());
                }
                segment.client = client.until(pongs);
                segment.peer = peer.round_trip(b"");
            }
            Step::Peer(_) => {
                segment.peer = peer.round_trip(&pieces.concat());
                client.send(b"PING\r\n");
                segment.client = client.until(1);
            }
        }
        transcript.segments.push(segment);
    }
    transcript.closed = client.closed;
    if !client.closed {
        client.send(&[&forget[..], b"PING\r\n"].concat());
        client.until(1);
    }
    peer.round_trip(b"UNSUB 70\r\nUNSUB 71\r\nUNSUB 72\r\nUNSUB 73\r\n");
    if transcript.closed {
        peer.settle(&listened_to(script));
    }
    transcript
}

/// A literal for each subscription of the client.
fn listened_to(script: &Script) -> Vec<Vec<u8>> {
    let mut random = Random::new(1);
    let ops = script
        .steps
        .iter()
        .filter(|step| matches!(step, Step::Client(..)))
        .flat_map(Step::ops);
    let mut literals: Vec<Vec<u8>> = ops
        .filter_map(|op| match op {
            Op::Subscribe { subject, .. } => Some(literal_of(&mut random, subject)),
            _ => None,
        })
        .filter(|subject| !subject.starts_with(b"_GR_"))
        .collect();
    literals.sort();
    literals.dedup();
    literals
}
