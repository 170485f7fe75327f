//! One session between its client and the server, driven in small and uneven steps.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use natsentry::policy::Permissions;
use natsentry::session::{CloseReason, Outbox, Session, Taken};
use natsentry::time::Timestamp;

use super::client::{Client, subject};
use super::frames::next_frame;
use super::random::Random;

/// How a client reads and writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Quick,
    /// A byte or two at a time.
    Bytewise,
    /// Seldom reads.
    Slow,
}

/// Bytes that came from one side, of which the session has taken some.
#[derive(Default)]
struct Arrived {
    buffer: Vec<u8>,
    at: usize,
    wants: usize,
}

impl Arrived {
    fn is_ready(&self) -> bool {
        let waiting = self.buffer.len() - self.at;
        waiting > 0 && waiting >= self.wants
    }

    fn taken(&mut self, taken: Taken) -> bool {
        self.at += taken.used;
        self.wants = taken.wants;
        taken.used > 0
    }

    /// Makes the buffer small again. Only while nothing refers to it.
    fn compact(&mut self) {
        self.buffer.drain(..self.at);
        self.at = 0;
    }
}

pub(crate) struct Link {
    pub(crate) session: Session,
    pub(crate) client: Client,
    patience: Patience,
    from_client: Arrived,
    from_upstream: Arrived,
    /// On its way from the server.
    under_way: Vec<u8>,
    /// Everything that the client got.
    received: Vec<u8>,
    /// Everything that went upstream, and how much of it the server has.
    forwarded: Vec<u8>,
    handed_over: usize,
    /// Since when a narrower policy holds, as lengths of `received` and `forwarded`, and until when.
    narrow: Vec<[(usize, usize); 2]>,
    narrow_since: Option<(usize, usize)>,
}

impl Link {
    pub(crate) fn new(session: Session, client: Client, patience: Patience) -> Self {
        Self {
            session,
            client,
            patience,
            from_client: Arrived::default(),
            from_upstream: Arrived::default(),
            under_way: Vec::new(),
            received: Vec::new(),
            forwarded: Vec::new(),
            handed_over: 0,
            narrow: Vec::new(),
            narrow_since: None,
        }
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.session.close_reason()
    }

    /// One thing happens on this link.
    pub(crate) fn step(&mut self, random: &mut Random, now: Timestamp) {
        let quick = self.patience == Patience::Quick;
        let size = if quick {
            1 + random.below(900)
        } else {
            1 + random.below(3)
        } as usize;
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_time(now);
        }
        match random.below(6) {
            0 => {
                let piece = self.client.send(size);
                self.from_client.buffer.extend_from_slice(piece);
            }
            1 => self.arrive(1 + random.below(700) as usize),
            2 => {
                self.judge_client(now);
            }
            3 => {
                self.judge_upstream(now);
            }
            4 if self.patience != Patience::Slow || random.chance(30) => {
                self.write_client(1 + random.below(2_000) as usize, now);
            }
            4 => self.write_client(0, now),
            _ => self.write_upstream(1 + random.below(2_000) as usize, now),
        }
        while self.session.poll_event(now).is_some() {}
    }

    /// Everything at once, until nothing moves. Returns whether anything did.
    pub(crate) fn settle(&mut self, mut now: Timestamp) -> bool {
        let mut ever = false;
        loop {
            let before = (self.received.len(), self.forwarded.len());
            let piece = self.client.send(usize::MAX / 2);
            let mut moved = !piece.is_empty();
            self.from_client.buffer.extend_from_slice(piece);
            self.arrive(usize::MAX / 2);
            moved |= self.judge_client(now);
            self.write_upstream(usize::MAX / 2, now);
            moved |= self.judge_upstream(now);
            self.write_client(usize::MAX / 2, now);
            while self.session.poll_event(now).is_some() {}
            moved |= before != (self.received.len(), self.forwarded.len());
            ever |= moved;
            if moved {
                continue;
            }
            // Whoever had others looked through for a 503 is held back for some milliseconds.
            let soon = now.plus(Duration::from_secs(1));
            match self.session.poll_timeout().filter(|due| *due <= soon) {
                Some(due) => {
                    now = due;
                    self.session.handle_time(now);
                }
                None => return ever,
            }
        }
    }

    fn arrive(&mut self, most: usize) {
        let count = most.min(self.under_way.len());
        self.from_upstream
            .buffer
            .extend(self.under_way.drain(..count));
    }

    fn judge_client(&mut self, now: Timestamp) -> bool {
        self.session.gives_way();
        if !self.session.wants_client() || !self.from_client.is_ready() {
            return false;
        }
        self.from_client.compact();
        let taken = self
            .session
            .handle_client(&mut self.from_client.buffer, 0, now);
        self.from_client.taken(taken)
    }

    fn judge_upstream(&mut self, now: Timestamp) -> bool {
        if !self.session.wants_upstream() || !self.from_upstream.is_ready() {
            return false;
        }
        self.from_upstream.compact();
        let taken = self
            .session
            .handle_upstream(&self.from_upstream.buffer, 0, now);
        self.from_upstream.taken(taken)
    }

    fn write_client(&mut self, most: usize, now: Timestamp) {
        write(
            self.session.to_client(),
            &self.from_upstream.buffer,
            most,
            &mut self.received,
        );
        let blocked = !self.session.to_client().is_drained();
        self.session.handle_client_blocked(blocked, now);
    }

    fn write_upstream(&mut self, most: usize, now: Timestamp) {
        write(
            self.session.to_upstream(),
            &self.from_client.buffer,
            most,
            &mut self.forwarded,
        );
        let blocked = !self.session.to_upstream().is_drained();
        self.session.handle_upstream_blocked(blocked, now);
    }

    /// What the server has not seen yet of what went upstream.
    pub(crate) fn take_sent_upstream(&mut self) -> Vec<u8> {
        let new = self.forwarded[self.handed_over..].to_vec();
        self.handed_over = self.forwarded.len();
        new
    }

    pub(crate) fn receive_upstream(&mut self, bytes: Vec<u8>) {
        self.under_way.extend(bytes);
    }

    pub(crate) fn has_bytes_from_upstream(&self) -> bool {
        !self.under_way.is_empty() || self.from_upstream.is_ready()
    }

    /// Gives another policy, with everything written that was judged before.
    pub(crate) fn change_policy(&mut self, given: Arc<Permissions>, narrow: bool, now: Timestamp) {
        self.write_client(usize::MAX / 2, now);
        self.write_upstream(usize::MAX / 2, now);
        let here = (self.received.len(), self.forwarded.len());
        self.session.handle_policy(given);
        if narrow {
            self.narrow_since = Some(here);
        } else if let Some(since) = self.narrow_since.take() {
            self.narrow.push([since, here]);
        }
    }

    /// While the policy was narrow, no frame began that it does not grant.
    pub(crate) fn check_narrow_times(&self, who: &str) {
        assert!(
            !self.narrow.is_empty(),
            "{who}: the policy was never narrow"
        );
        let open = |frame: &[u8]| subject(frame).starts_with("pub.open.");
        for [since, until] in &self.narrow {
            for (at, frame) in frames(&self.received) {
                let message = frame.starts_with(b"MSG ") || frame.starts_with(b"HMSG ");
                let then = (since.0..until.0).contains(&at);
                assert!(
                    !(then && message) || open(frame),
                    "{who}: {}",
                    frame.escape_ascii()
                );
            }
            for (at, frame) in frames(&self.forwarded) {
                let judged = [&b"PUB "[..], b"HPUB ", b"SUB "]
                    .iter()
                    .any(|verb| frame.starts_with(verb));
                let then = (since.1..until.1).contains(&at);
                assert!(
                    !(then && judged) || open(frame),
                    "{who}: {}",
                    frame.escape_ascii()
                );
            }
        }
    }

    /// Texts of the errors that the client got. Everything that it got is whole frames of a server, up to an end that may
    /// have come in the middle of one.
    pub(crate) fn errors(&self) -> Vec<String> {
        let all = frames(&self.received);
        let whole: usize = all.iter().map(|(_, frame)| frame.len()).sum();
        let rest = &self.received[whole..];
        assert!(
            self.close_reason().is_some() || rest.is_empty(),
            "{}",
            rest.escape_ascii()
        );
        let text = |frame: &[u8]| {
            let line = String::from_utf8_lossy(frame).into_owned();
            let known = ["MSG ", "HMSG ", "PONG\r\n", "PING\r\n", "INFO {", "-ERR '"];
            assert!(
                known.iter().any(|verb| line.starts_with(verb)),
                "no server says {line:?}"
            );
            let text = line.strip_prefix("-ERR '")?.strip_suffix("'\r\n")?;
            Some(text.to_owned())
        };
        all.iter().filter_map(|(_, frame)| text(frame)).collect()
    }

    pub(crate) fn pongs(&self) -> usize {
        frames(&self.received)
            .iter()
            .filter(|(_, frame)| *frame == b"PONG\r\n")
            .count()
    }

    /// Messages that the client got.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        let all = frames(&self.received).into_iter().map(|(_, frame)| frame);
        let messages =
            all.filter(|frame| frame.starts_with(b"MSG ") || frame.starts_with(b"HMSG "));
        messages.map(<[u8]>::to_vec).collect()
    }
}

/// Whole frames with the place where each begins.
fn frames(stream: &[u8]) -> Vec<(usize, &[u8])> {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(len) = next_frame(&stream[at..]) {
        frames.push((at, &stream[at..at + len]));
        at += len;
    }
    frames
}

/// Takes up to `most` bytes out of an outbox.
fn write(outbox: &mut Outbox, input: &[u8], most: usize, out: &mut Vec<u8>) {
    let mut left = most;
    while left > 0 && !outbox.is_drained() {
        let mut slices = [IoSlice::new(&[]), IoSlice::new(&[])];
        let filled = outbox.fill(input, &mut slices);
        let mut taken = 0;
        for slice in &slices[..filled] {
            let count = slice.len().min(left);
            out.extend_from_slice(&slice[..count]);
            left -= count;
            taken += count;
        }
        outbox.advance(taken);
    }
}
