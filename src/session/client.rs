//! What each client operation does before the session serves: CONNECT, and everything that must not come before it.

use std::sync::Arc;

use super::admission::{
    Admission, ClientOptions, ConnectRequest, Need, Refusal, RoleLimits, is_token,
};
use super::fences::Fences;
use super::rate::Budget;
use super::subs::Subscriptions;
use super::timers::Timer;
use super::{Bounds, CloseReason, Connected, EventKind, Inbound, Phase, Serving, Session, Taken};
use crate::time::Timestamp;
use crate::wire::{ClientOp, Connect, Frame, LineFault, LineLimits, decode_client};

/// Codes with which a CONNECT is refused before its token is looked at.
pub const CONNECT_REFUSALS: [&str; 7] = [
    "connect.first",
    "connect.account",
    "connect.user",
    "connect.no_token",
    "connect.ambiguous",
    "connect.other_identity",
    "connect.other_upstream",
];

impl Session {
    /// Bytes of the client: `input` starts with the first byte not used yet, and stands at offset `at` of the buffer
    /// that spans refer to. Publishes that pass are made canonical there; what is not used stays as it came.
    pub fn handle_client(&mut self, input: &mut [u8], at: usize, now: Timestamp) -> Taken {
        match self.phase {
            Phase::AwaitingConnect => self.await_connect(input, now),
            Phase::Serving => self.serve_client(input, at, now),
            Phase::Admitting | Phase::Readmitting | Phase::Closed(_) => Taken { used: 0, wants: 0 },
        }
    }

    pub(super) fn line_limits(&self) -> LineLimits {
        LineLimits {
            control: self.opening.limits.control_line,
            connect: self.opening.limits.connect_line,
        }
    }

    fn await_connect(&mut self, input: &[u8], now: Timestamp) -> Taken {
        let stop = Taken { used: 0, wants: 0 };
        let Some(first) = input.first() else {
            return Taken { used: 0, wants: 1 };
        };
        if !first.eq_ignore_ascii_case(&b'c') {
            // nats-server judges the first byte alone here (`parser.go:parse`, "authSet").
            self.refuse("connect.first", "an operation came before CONNECT", now);
            return stop;
        }
        let searched = match self.inbound {
            Inbound::Line { searched } => searched,
            Inbound::Payload { .. } | Inbound::Tail(_) => 0,
        };
        match decode_client(input, searched, self.line_limits()) {
            Ok(Frame::Line {
                op: ClientOp::Connect(json),
                len,
                ..
            }) => {
                self.inbound = Inbound::Line { searched: 0 };
                self.connect(json, now);
                Taken {
                    used: len,
                    wants: 0,
                }
            }
            Ok(Frame::Partial { searched }) => {
                self.inbound = Inbound::Line { searched };
                Taken {
                    used: 0,
                    wants: input.len().saturating_add(1),
                }
            }
            Ok(Frame::Line { .. } | Frame::Tail { .. }) | Err(LineFault::UnknownOperation) => {
                self.close(CloseReason::UnknownOperation, now);
                stop
            }
            Err(LineFault::Malformed) => {
                self.close(CloseReason::Malformed, now);
                stop
            }
            Err(LineFault::TooLong) => {
                let sentence = format!(
                    "CONNECT exceeds limits.connect_line of {} bytes; tokens with many groups are large: use app roles",
                    self.opening.limits.connect_line
                );
                self.refused("size", sentence.into());
                self.close(CloseReason::ConnectLineTooLong, now);
                stop
            }
        }
    }

    /// The first CONNECT.
    fn connect(&mut self, json: &[u8], now: Timestamp) {
        let Ok(mut connect) = Connect::parse(json) else {
            self.end_for_fault(CloseReason::Malformed, now);
            return;
        };
        self.options = ClientOptions::of(&connect);
        if self.refuse_account(&connect, now) {
            return;
        }
        if let Some(fault) = Self::fault_of(&connect) {
            self.end_for_fault(fault, now);
            return;
        }
        self.verbose = connect.verbose;
        self.pedantic = connect.pedantic;
        let Some(request) = ConnectRequest::of(&mut connect, &self.options) else {
            self.refuse_credentials(&connect, now);
            return;
        };
        self.phase = Phase::Admitting;
        self.need = Some(Need::Admission(Box::new(request)));
    }

    /// Refuses a CONNECT of somebody who is no client. Whether it did.
    pub(super) fn refuse_account(&mut self, connect: &Connect, now: Timestamp) -> bool {
        let refused = connect.account || (connect.inter_server && connect.lang.is_empty());
        if refused {
            self.refuse(
                "connect.account",
                "CONNECT names an account, or is a route's or leaf node's",
                now,
            );
        }
        refused
    }

    /// What is wrong with a CONNECT besides its credentials.
    pub(super) const fn fault_of(connect: &Connect) -> Option<CloseReason> {
        if connect.protocol < 0 || connect.protocol > 1 {
            Some(CloseReason::InvalidClientProtocol)
        } else if connect.no_responders && !connect.headers {
            Some(CloseReason::NoRespondersWithoutHeaders)
        } else {
            None
        }
    }

    pub(super) fn refuse_credentials(&mut self, connect: &Connect, now: Timestamp) {
        let (code, sentence) = match connect.tokens_given() {
            0 if is_token(&connect.user) => (
                "connect.user",
                "the token came as the user name: send it as the token or as the password",
            ),
            0 => (
                "connect.no_token",
                "no token: send the Entra access token as the token or as the password",
            ),
            _ => (
                "connect.ambiguous",
                "more than one of auth_token, pass and jwt was given, or one of them and a token as the user name: send the \
                 access token in exactly one",
            ),
        };
        self.refuse(code, sentence, now);
    }

    pub(super) fn refuse(&mut self, code: &'static str, sentence: &str, now: Timestamp) {
        self.refused(code, sentence.into());
        self.turn_away(CloseReason::Unauthorized, now);
    }

    fn refused(&mut self, code: &'static str, sentence: Box<str>) {
        let library = self.library();
        self.events.push_back(EventKind::Refused {
            code,
            sentence,
            library,
        });
    }

    fn library(&self) -> Box<str> {
        let ClientOptions { lang, version, .. } = &self.options;
        [&**lang, " ", version].concat().trim().into()
    }

    /// The token or the roles were refused: `Authorization Violation`.
    pub fn handle_refused(&mut self, refusal: Refusal, now: Timestamp) {
        if matches!(self.phase, Phase::Admitting | Phase::Readmitting) {
            self.refused(refusal.code, refusal.sentence);
            self.turn_away(CloseReason::Unauthorized, now);
        }
    }

    /// Nothing can be said about the token or its groups now, and why: not a refusal, so no `-ERR`.
    pub fn handle_postponed(&mut self, why: Refusal, now: Timestamp) {
        if matches!(self.phase, Phase::Admitting | Phase::Readmitting) {
            let library = self.library();
            self.events.push_back(EventKind::Postponed {
                code: why.code,
                sentence: why.sentence,
                library,
            });
            self.turn_away(CloseReason::IdentityUnavailable, now);
        }
    }

    /// Nothing can be said about the token, or no upstream can be had: not a refusal, so no `-ERR`.
    pub fn handle_unavailable(&mut self, reason: CloseReason, now: Timestamp) {
        if matches!(self.phase, Phase::Admitting | Phase::Readmitting) {
            self.turn_away(reason, now);
        }
    }

    /// Its CONNECT is not admitted. What came before a second one is answered first.
    fn turn_away(&mut self, reason: CloseReason, now: Timestamp) {
        self.give_up_again();
        self.end_for_fault(reason, now);
    }

    /// The token is good, the roles grant something, and an upstream connection is bound to this session.
    pub fn handle_admitted(&mut self, admission: Admission, now: Timestamp) {
        if self.phase != Phase::Admitting {
            return;
        }
        let limits = Arc::clone(&self.opening.limits);
        let bounds = Bounds::of(&admission.limits, &limits);
        let payload_max = admission.info.payload_max().min(bounds.payload);
        let info_waits =
            admission.info.connect_info || self.greeting_differs(&admission, payload_max);
        self.events
            .push_back(EventKind::Connected(Arc::new(Connected {
                roles: admission.roles,
                upstream: Arc::clone(&admission.upstream),
                server: admission.server,
                library: self.library(),
                name: self.options.name.clone(),
                ends_at: admission.ends_at,
                tls: self.opening.tls,
            })));
        self.serving = Some(Box::new(Serving {
            identity: admission.identity,
            upstream: admission.upstream,
            judge: admission.judge,
            subs: Subscriptions::default(),
            fences: Fences::default(),
            connect_info: admission.info.connect_info,
            info: admission.info,
            payload_max,
            bounds,
            messages: Budget::at_rate(None, admission.limits.messages_per_second, now),
            bytes: Budget::at_rate(None, admission.limits.bytes_per_second, now),
            info_waits,
            ponged: false,
            lame_duck: false,
        }));
        self.phase = Phase::Serving;
        self.timers.clear(Timer::Handshake);
        self.lease(admission.ends_at, now);
        self.push_ok();
    }

    /// Whether the greeting told the client something that is not so on this connection.
    fn greeting_differs(&self, admission: &Admission, payload_max: u32) -> bool {
        let greeted = &self.opening.greeting;
        let promised = greeted.payload_max().min(self.opening.limits.payload);
        greeted.server_id != admission.info.server_id || promised != payload_max
    }

    /// The limits of the session's roles as they are now, in place of those before.
    pub fn handle_limits(&mut self, limits: &RoleLimits, now: Timestamp) {
        if self.close_reason().is_some() {
            return;
        }
        let before = self.payload_max();
        let Some(serving) = &mut self.serving else {
            return;
        };
        serving.bounds = Bounds::of(limits, &self.opening.limits);
        serving.payload_max = serving.info.payload_max().min(serving.bounds.payload);
        serving.messages =
            Budget::at_rate(serving.messages.take(), limits.messages_per_second, now);
        serving.bytes = Budget::at_rate(serving.bytes.take(), limits.bytes_per_second, now);
        if self.payload_max() != before {
            self.tell_info();
        }
    }

    fn payload_max(&self) -> Option<u32> {
        self.serving.as_ref().map(|serving| serving.payload_max)
    }

    /// `+OK`, for a client that wants one for everything.
    pub(super) fn push_ok(&mut self) {
        if self.verbose {
            self.to_client
                .interject(|out| out.extend_from_slice(b"+OK\r\n"));
        }
    }
}
