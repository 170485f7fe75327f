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
mod client;
mod close;
mod denials;
mod event;
mod outbox;
mod rate;
mod serve;
mod subs;
mod subscribe;
mod timers;
mod upstream;

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

pub use admission::{Admission, ClientOptions, ConnectRequest, Limits, Need, Refusal, RoleLimits};
pub use client::CONNECT_REFUSALS;
pub use close::{Blame, CloseReason, Farewell};
pub use event::{Closed, Connected, Denied, Event, EventKind, Operation, SessionId, Traffic};
pub use outbox::Outbox;

use crate::identity::Identity;
use crate::policy::{Judge, Permissions};
use crate::time::Timestamp;
use crate::wire::{ClientInfo, Listener, PermissionsViolation, ServerInfo, encode};
use rate::Budget;
use subs::Subscriptions;
use timers::{Timer, Timers};

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
    /// In the meaningless rest of a PING, PONG or `+OK`.
    Tail,
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
    needs: VecDeque<Need>,
    events: VecDeque<EventKind>,
    /// Answers to the operation whose payload is under way; said when the payload has ended.
    deferred: Vec<u8>,
    options: ClientOptions,
    verbose: bool,
    pedantic: bool,
    serving: Option<Box<Serving>>,
    /// Why the session will end when [`Timer::End`] is due.
    ending: Option<CloseReason>,
    traffic: Traffic,
    denied_deliveries: u32,
    /// The `-ERR` text with which the upstream ended the session.
    upstream_said: Option<Box<[u8]>>,
}

/// What a session has once it is admitted.
#[derive(Debug)]
struct Serving {
    identity: Arc<Identity>,
    judge: Judge,
    subs: Subscriptions,
    /// Subscriptions that a change of policy took away; nothing more is delivered on them.
    revoked: HashSet<Box<[u8]>>,
    info: ServerInfo,
    payload_max: u32,
    role_payload_max: u32,
    subscriptions_max: usize,
    messages: Option<Budget>,
    bytes: Option<Budget>,
    /// An INFO that waits for the first PONG: some clients take nothing else before it.
    info_waits: bool,
    ponged: bool,
    /// The upstream said that it is about to go away.
    lame_duck: bool,
}

impl Session {
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
            needs: VecDeque::new(),
            events: VecDeque::new(),
            deferred: Vec::new(),
            options: ClientOptions::default(),
            verbose: false,
            pedantic: false,
            serving: None,
            ending: None,
            traffic: Traffic::default(),
            denied_deliveries: 0,
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

    /// Number of the session.
    pub const fn id(&self) -> SessionId {
        self.opening.id
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

    /// Whether the client's bytes are wanted now: not while its own errors pile up, a rate limit holds it back, or an
    /// admission is under way.
    pub fn wants_client(&self) -> bool {
        matches!(self.phase, Phase::AwaitingConnect | Phase::Serving)
            && self.to_upstream.is_drained()
            && self.to_client.own_bytes() <= self.opening.limits.pending
            && !self.timers.is_set(Timer::Resume)
    }

    /// Whether the upstream's bytes are wanted now.
    pub fn wants_upstream(&self) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Readmitting) && self.to_client.is_drained()
    }

    /// What has passed so far.
    pub const fn traffic(&self) -> Traffic {
        self.traffic
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
    pub fn poll_need(&mut self) -> Option<Need> {
        self.needs.pop_front()
    }

    /// The next fact worth counting or auditing.
    pub fn poll_event(&mut self, now: Timestamp) -> Option<Event> {
        let kind = self.events.pop_front()?;
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

    /// Lets timers that are due take effect.
    pub fn handle_time(&mut self, now: Timestamp) {
        while self.close_reason().is_none()
            && let Some(timer) = self.timers.expire(now)
        {
            match timer {
                Timer::Handshake => {
                    let reason = match self.phase {
                        Phase::AwaitingConnect => CloseReason::AuthenticationTimeout,
                        _ => CloseReason::UpstreamUnavailable,
                    };
                    self.close(reason, now);
                }
                Timer::Notice => self.push_lame_duck(),
                Timer::End => {
                    let reason = self.ending.unwrap_or(CloseReason::Expired);
                    self.close(reason, now);
                }
                Timer::ClientWrite => self.close(CloseReason::ClientSlow, now),
                Timer::UpstreamWrite => self.close(CloseReason::UpstreamSlow, now),
                Timer::Resume => self.refill(now),
            }
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
            self.timers
                .set(timer, now.plus(self.opening.limits.write_deadline));
        }
    }

    /// The client closed its side: everything it sent was handled before.
    pub fn handle_client_eof(&mut self, now: Timestamp) {
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
        self.close(CloseReason::ClientLost, now);
    }

    /// The upstream closed its side, or its connection failed.
    pub fn handle_upstream_eof(&mut self, now: Timestamp) {
        self.close(CloseReason::UpstreamClosed, now);
    }

    /// An operator's or the machine's act: end the session, at once or, for [`Farewell::LameDuck`] reasons, after the
    /// notice.
    pub fn handle_end(&mut self, reason: CloseReason, now: Timestamp) {
        if self.phase == Phase::Serving && reason.farewell() == Farewell::LameDuck {
            self.ending = Some(reason);
            self.timers.clear(Timer::Notice);
            self.push_lame_duck();
            let end = now.plus(self.opening.limits.notice);
            self.timers.set(Timer::End, end);
        } else {
            self.close(reason, now);
        }
    }

    /// The policy changed: every live subscription is judged anew, and those that are lost are ended on both sides, as
    /// nats-server does on reload (`client.go:processSubsOnConfigReload`).
    pub fn handle_policy(&mut self, permissions: Arc<Permissions>) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        serving.judge.replace(permissions);
        for mut subscription in serving.subs.drain() {
            let queue = subscription.queue.as_deref();
            match serving.judge.subscribe(&subscription.subject, queue) {
                Ok(permit) => {
                    subscription.filtered = permit.is_filtered();
                    serving.subs.insert(subscription);
                }
                Err(denial) => {
                    let (subject, sid) = (&subscription.subject, &subscription.sid);
                    self.to_upstream
                        .interject(|out| encode::unsubscribe(out, sid, None));
                    let lost = PermissionsViolation::LostSubscription(subject, queue, sid);
                    self.to_client.interject(|out| lost.push(out));
                    self.traffic.denied = self.traffic.denied.saturating_add(1);
                    self.events.push_back(EventKind::Denied(Denied {
                        operation: Operation::Subscribe,
                        subject: event::clip(subject),
                        reply: None,
                        queue: queue.map(event::clip),
                        size: 0,
                        reason: denial.reason,
                        rule: denial.rule,
                        observed: false,
                    }));
                    serving.revoked.insert(subscription.sid);
                }
            }
        }
    }

    fn push_lame_duck(&mut self) {
        let Some(serving) = &self.serving else { return };
        if self.options.protocol < 1 {
            return;
        }
        let info = self.info(&serving.info, serving.payload_max).with_ldm(true);
        let mut line = Vec::new();
        info.push(&mut line);
        self.to_client.interject(|out| out.extend_from_slice(&line));
    }

    /// Ends the session: the one place where that happens.
    fn close(&mut self, reason: CloseReason, now: Timestamp) {
        if self.close_reason().is_some() {
            return;
        }
        self.phase = Phase::Closed(reason);
        if let Farewell::Error(text) = reason.farewell()
            && !self.to_client.is_mid_frame()
        {
            self.to_client.push_own(|out| text.push(out));
        }
        if reason.blame() == Blame::Operator && reason != CloseReason::Drained {
            // What was permitted before the verdict changed must not get through after it.
            self.to_upstream.discard();
        }
        let duration = now.since(self.opening.accepted_at);
        self.events.push_back(EventKind::Closed(Closed {
            reason,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            traffic: self.traffic,
        }));
    }
}
