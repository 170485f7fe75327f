//! The session: a sans-IO state machine between one client and one upstream connection.
//!
//! ```text
//! AwaitingConnect --CONNECT--> Admitting --admitted--> Serving --close(reason)--> Closed
//!        |                         |                      |
//!        +------ close(reason) ----+                      +-- second CONNECT: Readmitting --+
//! ```
//!
//! # Contract
//!
//! - `handle_*` put things in: bytes of either side, the time, answers to a [`Need`], acts of an operator.
//! - `poll_*` take things out: a [`Need`], [`Event`]s, the next time to be woken. Poll after every `handle_*`.
//! - Output is in [`Session::to_client`] and [`Session::to_upstream`]. Their spans refer to the buffer that was given to
//!   the last `handle_upstream` and `handle_client`, at the offset `at`; that buffer must stay as it is until the outbox
//!   is drained, and the same side must not be handled again before.
//! - After [`Session::close_reason`] is some, write what the outboxes hold and close both connections.
//!
//! Must never: read a clock, open a socket, or write to upstream anything that has no permit.

mod admission;
mod again;
mod bodies;
mod client;
mod close;
mod denials;
mod ending;
mod event;
mod fences;
mod named;
mod outbox;
mod rate;
mod runs;
mod serve;
mod small;
mod subs;
mod subscribe;
mod timers;
mod upstream;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

pub use admission::{Admission, ClientOptions, ConnectRequest, Limits, Need, Refusal, RoleLimits};
pub use client::CONNECT_REFUSALS;
pub use close::{Blame, CloseReason, Farewell, Parting};
pub use event::{Closed, Connected, Denied, Event, EventKind, Operation, SessionId, Traffic};
pub use outbox::Outbox;

use crate::identity::Identity;
use crate::policy::Judge;
use crate::spread;
use crate::time::Timestamp;
use crate::wire::{ClientInfo, Listener, ServerInfo};
use again::Again;
use fences::Fences;
use rate::Budget;
use subs::Subscriptions;
use timers::{Timer, Timers};

/// Facts that may wait to be taken out before the client's bytes have to: each turn of a driver takes out one, while one
/// buffer of small refused operations makes thousands.
const FACTS_MAX: usize = 64;

/// Subscriptions taken away that upstream may not have confirmed yet before the client's bytes have to wait.
const FENCES_MAX: u32 = 1024;

/// What is known of a client when its connection is accepted.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Number of the session.
    pub id: SessionId,
    /// Where the client is.
    pub client: SocketAddr,
    /// The address that the client reached, and the TLS flags of its INFO.
    pub listener: Listener,
    /// Whether the client leg is TLS by now.
    pub tls: bool,
    /// Limits on the session.
    pub limits: Arc<Limits>,
    /// INFO of an upstream, as last seen, to greet with.
    pub greeting: Arc<ServerInfo>,
    /// When the connection was accepted.
    pub accepted_at: Timestamp,
}

/// How far a `handle_client` or `handle_upstream` came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Bytes used up.
    pub used: usize,
    /// Bytes that must be there, counted from the first one not used, before anything more can be done; 0 when the
    /// session waits for something else.
    pub wants: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    AwaitingConnect,
    Admitting,
    Serving,
    Readmitting,
    Closed(CloseReason),
}

/// Where in the client's stream we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inbound {
    /// At the start of a line, of which the first bytes hold no line end.
    Line { searched: usize },
    /// In a payload: this many bytes are left, its CR LF included.
    Payload { left: u64, forward: bool },
    /// In the meaningless rest of a PING, PONG or `+OK`, which takes effect with the end of its line.
    Tail(Pulse),
}

/// A line whose rest has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulse {
    Ping,
    Pong,
    /// `+OK`, which does nothing.
    Ok,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    opening: Opening,
    phase: Phase,
    inbound: Inbound,
    outbound: Inbound,
    to_client: Outbox,
    to_upstream: Outbox,
    timers: Timers,
    /// One at a time: nothing more is handled before it is answered.
    need: Option<Need>,
    events: VecDeque<EventKind>,
    /// Answers to the operation whose payload is under way; said when the payload has ended.
    deferred: Vec<u8>,
    options: ClientOptions,
    verbose: bool,
    pedantic: bool,
    serving: Option<Box<Serving>>,
    /// A second CONNECT under way.
    again: Option<Box<Again>>,
    /// Why the session will end when [`Timer::End`] is due.
    ending: Option<CloseReason>,
    /// The client was told, or will be with its first PONG, that the end is near.
    noticed: bool,
    /// The client says no more, and the session will end for this reason: upstream is still to answer what came before.
    last_words: Option<CloseReason>,
    /// All sessions together hold much, so this one gets no more than [`Session::SMALL`].
    scarce: bool,
    /// A first PING of the client is answered already.
    pong_in_hand: bool,
    traffic: Traffic,
    denied_deliveries: u32,
    /// What was looked through of the subscriptions for answers made here, and is not paid for yet.
    looked: u16,
    /// The `-ERR` text with which the upstream ended the session.
    upstream_said: Option<Box<[u8]>>,
}

/// What a session has once it is admitted.
#[derive(Debug)]
struct Serving {
    identity: Arc<Identity>,
    /// Name of the upstream that the session is bound to, which no later CONNECT changes.
    upstream: Arc<str>,
    judge: Judge,
    subs: Subscriptions,
    /// Subscriptions that were taken away; nothing that is still under way is delivered on them.
    fences: Fences,
    /// What the server last said of itself, but for the next field.
    info: Arc<ServerInfo>,
    /// Whether it said that of this connection (2.12).
    connect_info: bool,
    payload_max: u32,
    bounds: Bounds,
    messages: Option<Box<Budget>>,
    bytes: Option<Box<Budget>>,
    /// An INFO that waits for the first PONG: some clients take nothing else before it.
    info_waits: bool,
    ponged: bool,
    /// The upstream said that it is about to go away.
    lame_duck: bool,
}

/// The narrower of the limits of the session and of its roles.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    payload: u32,
    subscriptions: usize,
}

impl Bounds {
    fn of(roles: &RoleLimits, session: &Limits) -> Self {
        Self {
            payload: roles.payload.unwrap_or(u32::MAX).min(session.payload),
            subscriptions: roles
                .subscriptions
                .unwrap_or(usize::MAX)
                .min(session.subscriptions),
        }
    }
}

impl Session {
    /// What a session may hold of subscriptions, and of answers of our own, even where memory is scarce; in bytes.
    pub const SMALL: usize = 32 * 1024;

    /// A session of a connection just accepted. The greeting ([`Session::greeting`]) is for the driver to write, since it
    /// may have to go out before TLS.
    pub fn new(opening: Opening) -> Self {
        let mut timers = Timers::default();
        timers.set(
            Timer::Handshake,
            opening.accepted_at.plus(opening.limits.handshake),
        );
        Self {
            opening,
            phase: Phase::AwaitingConnect,
            inbound: Inbound::Line { searched: 0 },
            outbound: Inbound::Line { searched: 0 },
            to_client: Outbox::default(),
            to_upstream: Outbox::default(),
            timers,
            need: None,
            events: VecDeque::new(),
            deferred: Vec::new(),
            options: ClientOptions::default(),
            verbose: false,
            pedantic: false,
            serving: None,
            again: None,
            ending: None,
            noticed: false,
            last_words: None,
            scarce: false,
            pong_in_hand: false,
            traffic: Traffic::default(),
            denied_deliveries: 0,
            looked: 0,
            upstream_said: None,
        }
    }

    /// The first INFO, with its line end.
    pub fn greeting(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.info(&self.opening.greeting, self.opening.limits.payload)
            .push(&mut out);
        out
    }

    /// Says that the client leg is TLS from here on.
    pub const fn handle_tls_established(&mut self) {
        self.opening.tls = true;
    }

    fn info<'a>(&self, server: &'a ServerInfo, payload_max: u32) -> ClientInfo<'a> {
        let Opening {
            id,
            client,
            ref listener,
            ..
        } = self.opening;
        ClientInfo::new(server, listener, client.ip(), id.0, payload_max)
    }

    /// An INFO to keep: the greeting's where it says the same but for `connect_info`, as it does for nearly all sessions.
    fn shared_info(&self, mut info: ServerInfo) -> Arc<ServerInfo> {
        info.connect_info = false;
        if info == *self.opening.greeting {
            Arc::clone(&self.opening.greeting)
        } else {
            Arc::new(info)
        }
    }

    /// Number of the session.
    pub const fn id(&self) -> SessionId {
        self.opening.id
    }

    /// The address that the client reached, and the TLS flags of its INFO.
    pub const fn listener(&self) -> &Listener {
        &self.opening.listener
    }

    /// What is to be written to the client; its spans refer to the upstream's buffer.
    pub const fn to_client(&mut self) -> &mut Outbox {
        &mut self.to_client
    }

    /// What is to be written to the upstream; its spans refer to the client's buffer.
    pub const fn to_upstream(&mut self) -> &mut Outbox {
        &mut self.to_upstream
    }

    /// Why the session has ended; none while it lives.
    pub const fn close_reason(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether the client's bytes are wanted now: not while its own errors pile up, facts about it wait to be recorded, a
    /// rate limit holds it back, or an admission is under way.
    pub fn wants_client(&self) -> bool {
        matches!(self.phase, Phase::AwaitingConnect | Phase::Serving)
            && self.last_words.is_none()
            && self.to_upstream.is_drained()
            && self.is_kept_up_with()
            && !self.is_held_back()
    }

    /// Whether what the client caused so far was taken out fast enough: errors by the client, facts by the driver, fences
    /// by upstream.
    fn is_kept_up_with(&self) -> bool {
        let pending = self.opening.limits.pending;
        let pending = if self.scarce {
            pending.min(Self::SMALL)
        } else {
            pending
        };
        self.to_client.own_bytes() <= pending
            && self.events.len() < FACTS_MAX
            && self
                .serving
                .as_ref()
                .is_none_or(|serving| serving.fences.count() < FENCES_MAX)
    }

    /// Whether a rate limit holds the client back. A payload under way is read to its end all the same: its message was
    /// let through, and nothing of our own could go upstream before that end.
    fn is_held_back(&self) -> bool {
        self.timers.is_set(Timer::Resume) && !matches!(self.inbound, Inbound::Payload { .. })
    }

    /// Whether the upstream's bytes are wanted now.
    pub fn wants_upstream(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Readmitting) && self.to_client.is_drained()
    }

    /// What has passed so far.
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Bytes that the peers make the session hold, besides the buffers that its driver reads into.
    pub fn held(&self) -> usize {
        let serving = self.serving.as_ref();
        let remembered = serving.map_or(0, |serving| {
            let subs = serving.subs.held();
            subs.saturating_add(serving.fences.held())
                .saturating_add(serving.judge.footprint())
        });
        self.to_client
            .held()
            .saturating_add(self.to_upstream.held())
            .saturating_add(remembered)
    }

    /// Whether all sessions together hold so much that none may add to what it holds, beyond a little.
    pub const fn handle_scarcity(&mut self, scarce: bool) {
        self.scarce = scarce;
    }

    /// Live subscriptions.
    pub fn subscriptions(&self) -> usize {
        self.serving
            .as_ref()
            .map_or(0, |serving| serving.subs.len())
    }

    /// Whether the upstream said that it is about to go away.
    pub fn upstream_is_lame_duck(&self) -> bool {
        self.serving
            .as_ref()
            .is_some_and(|serving| serving.lame_duck)
    }

    /// The `-ERR` text with which the upstream ended the session, for the log.
    pub fn upstream_said(&self) -> Option<&[u8]> {
        self.upstream_said.as_deref()
    }

    /// When [`Session::handle_time`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Closed(_) => None,
            _ => self.timers.next(),
        }
    }

    /// Something that the core cannot do itself.
    pub const fn poll_need(&mut self) -> Option<Need> {
        self.need.take()
    }

    /// The next fact worth counting or auditing.
    pub fn poll_event(&mut self, now: Timestamp) -> Option<Event> {
        let kind = self.events.pop_front()?;
        if self.events.is_empty() {
            // Facts are rare, and their queue is large.
            self.events = VecDeque::new();
        }
        Some(Event {
            at: now,
            session: self.opening.id,
            client: self.opening.client,
            identity: self
                .serving
                .as_ref()
                .map(|serving| Arc::clone(&serving.identity)),
            kind,
        })
    }

    /// Whether the client had so much asked of the policy that others are to have their turn now. Said once.
    pub fn gives_way(&mut self) -> bool {
        let serving = self.serving.as_mut();
        serving.is_some_and(|serving| {
            let spent = serving.judge.is_spent();
            if spent {
                serving.judge.begin();
            }
            spent
        })
    }

    /// The upstream has just answered a PING of ours that followed its CONNECT, and nothing went there since: where the
    /// client's next operation is its first PING, and comes at once, that is the answer to it.
    pub const fn handle_pong_in_hand(&mut self) {
        self.pong_in_hand = true;
    }

    /// Nothing is under way just now: gives back what costs nothing to have again.
    pub fn handle_idle(&mut self) {
        self.pong_in_hand = false;
        self.to_client.rest();
        self.to_upstream.rest();
    }

    /// Whether [`Self::handle_rest`] would give anything back.
    pub fn may_rest(&self) -> bool {
        self.serving
            .as_ref()
            .is_some_and(|serving| serving.judge.footprint() > 0)
    }

    /// Nothing was under way for a while: gives back what it would take more than a buffer to find out again.
    pub fn handle_rest(&mut self, now: Timestamp) {
        if let Some(serving) = &mut self.serving {
            serving.judge.rest(now);
        }
    }

    /// The socket of the client took no more bytes, or (`false`) it took all of them.
    pub fn handle_client_blocked(&mut self, blocked: bool, now: Timestamp) {
        self.arm_write(Timer::ClientWrite, blocked, now);
    }

    /// The socket of the upstream took no more bytes, or (`false`) it took all of them.
    pub fn handle_upstream_blocked(&mut self, blocked: bool, now: Timestamp) {
        self.arm_write(Timer::UpstreamWrite, blocked, now);
    }

    fn arm_write(&mut self, timer: Timer, blocked: bool, now: Timestamp) {
        if !blocked {
            self.timers.clear(timer);
        } else if !self.timers.is_set(timer) {
            let mut patience = self.opening.limits.write_deadline;
            if self.scarce {
                // Those who met the limit of memory together would be ended together, and others would wait behind that.
                patience = spread::half_more(self.opening.id.0, patience);
            }
            self.timers.set(timer, now.plus(patience));
        }
    }

    /// Whether our side of the upstream connection is to be ended: the client says no more, and everything that it said
    /// before is written. The upstream then answers what it read, and ends the connection, as a server does with a client
    /// that has ended its side.
    pub fn ends_upstream(&self) -> bool {
        self.last_words.is_some() && self.to_upstream.is_drained()
    }

    /// The client closed its side: everything it sent was handled before. A session that serves goes on until upstream has
    /// answered that, at most for the write deadline; one that upstream has nothing to answer to ends at once.
    pub fn handle_client_eof(&mut self, now: Timestamp) {
        self.give_up_again();
        if self.phase == Phase::Serving && self.may_be_under_way() {
            self.end_after_upstream(CloseReason::ClientClosed, now);
            return;
        }
        let silent =
            self.phase == Phase::AwaitingConnect && self.inbound == Inbound::Line { searched: 0 };
        let reason = if silent {
            CloseReason::ClientSilent
        } else {
            CloseReason::ClientClosed
        };
        self.close(reason, now);
    }

    /// Reading from or writing to the client failed.
    pub fn handle_client_lost(&mut self, now: Timestamp) {
        self.close(self.last_words.unwrap_or(CloseReason::ClientLost), now);
    }

    /// The client holds up memory that others wait for.
    pub fn handle_client_slow(&mut self, now: Timestamp) {
        self.close(CloseReason::ClientSlow, now);
    }

    /// The upstream closed its side, or its connection failed.
    pub fn handle_upstream_eof(&mut self, now: Timestamp) {
        self.close(self.last_words.unwrap_or(CloseReason::UpstreamClosed), now);
    }
}
