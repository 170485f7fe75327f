//! Plays one transcript against the session core, in memory: the part of the pump, with a clock that the file moves.

use std::sync::Arc;
use std::time::Duration;

use natsentry::session::{
    ConnectRequest, Event, EventKind, Need, Opening, Session, SessionId, Taken,
};
use natsentry::time::Timestamp;
use natsentry::wire::{Credential, Listener};

use super::frames::next_frame;
use super::pattern::escaped;
use super::script::{Act, Fact, Input, Script, Start};
use super::world::{Answer, CLIENT, START, World, limits, overlay, reason, usual_connect};

/// How the bytes of one side are cut into reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Everything that comes in a row at once.
    Whole,
    /// One byte at a time.
    Bytes,
    /// At random places, the same ones for the same seed.
    Random(u64),
}

/// What came out of one block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) to_client: Vec<u8>,
    pub(crate) to_upstream: Vec<u8>,
    /// Facts worth counting or auditing, in order.
    pub(crate) facts: Vec<Fact>,
    /// What holds after the block.
    pub(crate) state: Vec<Fact>,
}

/// One side's bytes that the session has not taken.
struct Inbox {
    buffer: Vec<u8>,
    /// First byte that is not taken.
    at: usize,
    wants: usize,
}

impl Inbox {
    /// Begins with bytes that are long gone, so that offsets are not 0.
    fn new() -> Self {
        Self {
            buffer: b"gone".to_vec(),
            at: 4,
            wants: 0,
        }
    }

    fn waiting(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    fn waiting_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.at..]
    }

    fn is_ready(&self) -> bool {
        !self.waiting().is_empty() && self.waiting().len() >= self.wants
    }

    fn taken(&mut self, taken: Taken) {
        self.at += taken.used;
        self.wants = taken.wants;
    }
}

pub(crate) struct Player<'a> {
    script: &'a Script,
    cut: Cut,
    world: World,
    session: Session,
    now: Timestamp,
    client: Inbox,
    upstream: Inbox,
    /// Everything that either side was sent since the beginning.
    sent_client: Vec<u8>,
    sent_upstream: Vec<u8>,
    facts: Vec<Fact>,
    asked: Option<(ConnectRequest, bool)>,
    admission_waits: bool,
    client_stalls: bool,
    upstream_stalls: bool,
}

/// Plays the whole script; one outcome for each block.
pub(crate) fn play(script: &Script, cut: Cut) -> Vec<Outcome> {
    let mut player = Player::new(script, cut);
    player.begin();
    script
        .blocks
        .iter()
        .enumerate()
        .map(|(index, block)| {
            // The greeting belongs to the first block.
            let greeted = if index == 0 {
                0
            } else {
                player.sent_client.len()
            };
            let from = (greeted, player.sent_upstream.len());
            let was_open = player.session.close_reason().is_none();
            for input in block.joined() {
                player.feed(&input);
            }
            player.outcome(from, was_open)
        })
        .collect()
}

impl<'a> Player<'a> {
    fn new(script: &'a Script, cut: Cut) -> Self {
        let world = World::new(script);
        let opening = Opening {
            id: SessionId(42),
            client: CLIENT,
            listener: Listener {
                address: "192.0.2.1:4222".parse().unwrap(),
                tls_required: script.setup.tls,
                tls_verify: false,
            },
            tls: false,
            limits: Arc::new(limits(script)),
            greeting: Arc::new(world.greeting.clone()),
            accepted_at: START,
        };
        Self {
            script,
            cut,
            world,
            session: Session::new(opening),
            now: START,
            client: Inbox::new(),
            upstream: Inbox::new(),
            sent_client: Vec::new(),
            sent_upstream: Vec::new(),
            facts: Vec::new(),
            asked: None,
            admission_waits: script.setup.admission_waits,
            client_stalls: false,
            upstream_stalls: false,
        }
    }

    /// Brings the session to where the transcript begins.
    fn begin(&mut self) {
        let setup = &self.script.setup;
        self.sent_client = self.session.greeting();
        if setup.tls {
            self.session.handle_tls_established();
        }
        if setup.start == Start::Connecting {
            return;
        }
        let connect = overlay(usual_connect(&setup.client), &setup.connect);
        let line = format!("CONNECT {connect}\r\n");
        self.client.buffer.extend_from_slice(line.as_bytes());
        self.pump();
        if setup.start == Start::Serving {
            self.client.buffer.extend_from_slice(b"PING\r\n");
            self.pump();
            self.upstream.buffer.extend_from_slice(b"PONG\r\n");
            self.pump();
        }
        if let Some(reason) = self.session.close_reason() {
            panic!(
                "{} was not admitted: {reason:?} {:?}",
                setup.client, self.facts
            );
        }
        self.sent_client.clear();
        self.sent_upstream.clear();
        self.facts.clear();
    }

    fn feed(&mut self, input: &Input) {
        match input {
            Input::Client(bytes) => {
                for piece in self.pieces(bytes) {
                    self.client.buffer.extend_from_slice(piece);
                    self.pump();
                }
            }
            Input::Upstream(bytes) => {
                for piece in self.pieces(bytes) {
                    self.upstream.buffer.extend_from_slice(piece);
                    self.pump();
                }
            }
            Input::Clock(time) => self.wait(*time),
            Input::Act(act) => {
                self.act(act);
                self.pump();
            }
        }
    }

    fn pieces<'b>(&self, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        match self.cut {
            Cut::Whole => vec![bytes],
            Cut::Bytes => bytes.chunks(1).collect(),
            Cut::Random(seed) => random_pieces(bytes, seed),
        }
    }

    fn act(&mut self, act: &Act) {
        let now = self.now;
        match act {
            Act::End(label) => self.session.handle_end(reason(label), now),
            Act::Policy(role, grants) => {
                self.world.change(role, grants);
                match self.world.permissions(&self.script.setup.client) {
                    Ok(permissions) => self.session.handle_policy(permissions),
                    Err(_) => self.session.handle_end(reason("role_lost"), now),
                }
            }
            Act::Admit => {
                self.admission_waits = false;
                self.answer();
            }
            Act::ClientCloses => self.session.handle_client_eof(now),
            Act::ClientBreaks => self.session.handle_client_lost(now),
            Act::UpstreamCloses => self.session.handle_upstream_eof(now),
            Act::ClientStalls(stalls) => {
                self.client_stalls = *stalls;
                if !stalls {
                    self.session.handle_client_blocked(false, now);
                }
            }
            Act::UpstreamStalls(stalls) => {
                self.upstream_stalls = *stalls;
                if !stalls {
                    self.session.handle_upstream_blocked(false, now);
                }
            }
        }
    }

    /// Moves the clock, and wakes the session whenever it wants to be woken on the way.
    fn wait(&mut self, time: Duration) {
        let target = self.now.plus(time);
        for _ in 0..100_000 {
            match self.session.poll_timeout() {
                Some(at) if at <= target => {
                    self.now = self.now.max(at);
                    self.session.handle_time(self.now);
                    self.pump();
                }
                _ => {
                    self.now = target;
                    self.session.handle_time(target);
                    self.pump();
                    return;
                }
            }
        }
        panic!(
            "the session wants to be woken again and again at {:?}",
            self.now
        );
    }

    /// Moves bytes until nothing moves any more, as the pump does.
    fn pump(&mut self) {
        loop {
            let mut moved = self.flush();
            moved |= self.session.gives_way();
            if self.session.wants_client() && self.client.is_ready() {
                let at = self.client.at;
                let input = self.client.waiting_mut();
                let taken = self.session.handle_client(input, at, self.now);
                moved |= taken.used > 0;
                self.client.taken(taken);
            }
            moved |= self.flush();
            if self.session.wants_upstream() && self.upstream.is_ready() {
                let (input, at) = (self.upstream.waiting(), self.upstream.at);
                let taken = self.session.handle_upstream(input, at, self.now);
                moved |= taken.used > 0;
                self.upstream.taken(taken);
            }
            moved |= self.flush();
            moved |= self.ask();
            while let Some(event) = self.session.poll_event(self.now) {
                self.facts.push(fact(&event));
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    /// Writes what either side takes. Returns whether anything was written.
    fn flush(&mut self) -> bool {
        let before = self.sent_client.len() + self.sent_upstream.len();
        if self.client_stalls {
            let blocked = !self.session.to_client().is_drained();
            self.session.handle_client_blocked(blocked, self.now);
        } else {
            self.session
                .to_client()
                .drain_to(&self.upstream.buffer, &mut self.sent_client);
        }
        if self.upstream_stalls {
            let blocked = !self.session.to_upstream().is_drained();
            self.session.handle_upstream_blocked(blocked, self.now);
        } else {
            self.session
                .to_upstream()
                .drain_to(&self.client.buffer, &mut self.sent_upstream);
        }
        self.sent_client.len() + self.sent_upstream.len() > before
    }

    fn ask(&mut self) -> bool {
        let Some(need) = self.session.poll_need() else {
            return false;
        };
        let (request, again) = match need {
            Need::Admission(request) => (*request, false),
            Need::Readmission(request) => (*request, true),
        };
        self.facts.push(request_fact(&request, again));
        self.asked = Some((request, again));
        if !self.admission_waits {
            self.answer();
        }
        true
    }

    fn answer(&mut self) {
        let Some((request, again)) = self.asked.take() else {
            return;
        };
        let session = self.session.id().0 + u64::from(again);
        match self.world.admit(token(&request), session) {
            Answer::Admitted(admission) if again => {
                self.session.handle_readmitted(*admission, self.now);
            }
            Answer::Admitted(admission) => self.session.handle_admitted(*admission, self.now),
            Answer::Refused(refusal) => self.session.handle_refused(refusal, self.now),
            Answer::Unavailable(reason) => self.session.handle_unavailable(reason, self.now),
        }
    }

    /// What came out since `from`. When the session has ended in this block, a frame that was never finished counts as
    /// nothing: whoever got it throws it away.
    fn outcome(&mut self, from: (usize, usize), was_open: bool) -> Outcome {
        let ended = was_open && self.session.close_reason().is_some();
        let cut = |sent: &[u8], from: usize| {
            let end = if ended {
                whole_frames(sent).max(from)
            } else {
                sent.len()
            };
            sent[from..end].to_vec()
        };
        Outcome {
            to_client: cut(&self.sent_client, from.0),
            to_upstream: cut(&self.sent_upstream, from.1),
            facts: std::mem::take(&mut self.facts),
            state: self.state(),
        }
    }

    fn state(&self) -> Vec<Fact> {
        let traffic = self.session.traffic();
        let mut state = vec![
            Fact::parse(&format!("subscriptions {}", self.session.subscriptions())),
            Fact::parse(&format!(
                "traffic in={} in_bytes={} out={} out_bytes={} denied={} filtered={}",
                traffic.messages_in,
                traffic.bytes_in,
                traffic.messages_out,
                traffic.bytes_out,
                traffic.denied,
                traffic.filtered,
            )),
        ];
        let open = self.session.close_reason().is_none();
        let mut says = |holds: bool, fact: &str| {
            if holds {
                state.push(Fact::parse(fact));
            }
        };
        says(open, "open");
        says(open && !self.session.wants_client(), "client held");
        says(open && !self.session.wants_upstream(), "upstream held");
        let silent = |sent: &[u8]| sent.is_empty() || (!open && whole_frames(sent) == 0);
        says(silent(&self.sent_client), "client silent");
        says(silent(&self.sent_upstream), "upstream silent");
        says(self.session.upstream_is_lame_duck(), "upstream leaves");
        says(open && self.session.ends_upstream(), "upstream is ended");
        if let Some(said) = self.session.upstream_said() {
            state.push(Fact {
                words: vec!["upstream".into(), "said".into(), text(said)],
                pairs: vec![],
            });
        }
        state
    }
}

/// Between 1 and 24 bytes a piece, by a small generator (SplitMix64).
fn random_pieces(bytes: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let len = usize::try_from(next() % 24).unwrap() + 1;
        let (piece, after) = rest.split_at(len.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

fn text(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "\"\"".to_owned();
    }
    escaped(bytes).replace(' ', "\\x20")
}

/// Tokens in transcripts are names.
fn token(request: &ConnectRequest) -> &str {
    request.token.expose_str().unwrap_or("not text")
}

fn request_fact(request: &ConnectRequest, again: bool) -> Fact {
    let via = match request.credential {
        Credential::AuthToken => "auth_token",
        Credential::Password => "pass",
        Credential::Jwt => "jwt",
    };
    let options = &request.options;
    let pairs = [
        ("via", via.to_owned()),
        ("user", request.user.clone()),
        ("echo", options.echo.to_string()),
        ("headers", options.headers.to_string()),
        ("no_responders", options.no_responders.to_string()),
        ("protocol", options.protocol.to_string()),
        ("lang", options.lang.to_string()),
        ("version", options.version.to_string()),
        ("name", options.name.to_string()),
    ];
    let verb = if again { "asked again" } else { "asked" };
    let mut words: Vec<String> = verb.split(' ').map(str::to_owned).collect();
    words.push(token(request).to_owned());
    Fact {
        words,
        pairs: owned(pairs),
    }
}

fn owned<const N: usize>(pairs: [(&str, String); N]) -> Vec<(String, String)> {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn fact(event: &Event) -> Fact {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    match &event.kind {
        EventKind::Connected(connected) => Fact {
            words: words("connected"),
            pairs: owned([
                ("roles", connected.roles.join(",")),
                ("upstream", connected.upstream.to_string()),
                ("library", connected.library.to_string()),
                ("name", connected.name.to_string()),
                (
                    "ends",
                    format!("{}s", connected.ends_at.since(START).as_secs()),
                ),
                ("tls", connected.tls.to_string()),
            ]),
        },
        EventKind::Refused { code, library, .. } => Fact {
            words: vec!["refused".to_owned(), (*code).to_owned()],
            pairs: owned([("library", library.to_string())]),
        },
        EventKind::Denied(denied) => {
            let mut pairs = owned([
                ("reason", denied.reason.label().to_owned()),
                ("size", denied.size.to_string()),
                ("observed", denied.observed.to_string()),
            ]);
            let mut add = |key: &str, value: Option<String>| {
                pairs.extend(value.map(|value| (key.to_owned(), value)));
            };
            add("rule", denied.rule.as_deref().map(str::to_owned));
            add("reply", denied.reply.as_deref().map(text));
            add("queue", denied.queue.as_deref().map(text));
            Fact {
                words: vec![
                    "denied".to_owned(),
                    denied.operation.label().to_owned(),
                    text(&denied.subject),
                ],
                pairs,
            }
        }
        EventKind::Closed(closed) => Fact {
            words: vec!["closed".to_owned(), closed.reason.label().to_owned()],
            pairs: owned([
                ("blame", closed.reason.blame().label().to_owned()),
                ("after", format!("{}ms", closed.duration_ms)),
            ]),
        },
        other => panic!("a fact that transcripts do not know: {other:?}"),
    }
}

/// How many bytes at the front of `stream` are whole frames: lines, and lines with their payload.
fn whole_frames(stream: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(end) = next_frame(&stream[whole..]) {
        whole += end;
    }
    whole
}
