//! What each client operation does while the session serves: judged, and forwarded as what was judged.

use super::timers::Timer;
use super::{CloseReason, Inbound, Operation, Phase, Pulse, Session, Taken};
use crate::policy::Permit;
use crate::subject;
use crate::time::Timestamp;
use crate::wire::{ClientOp, ErrText, Frame, LineFault, Publish, decode_client, encode, skip_tail};

/// A message that is not canonical and at most this long, in bytes, is copied whole: cheaper than one more piece in the
/// vectored write.
pub(super) const COPY_MAX: usize = 512;

/// The request that tells a client who it is (2.10). Upstream would answer for its own user.
const USER_INFO: &[u8] = b"$SYS.REQ.USER.INFO";

/// What one step did.
enum Step {
    /// Used this many bytes.
    Used(usize),
    /// Needs this many bytes from where it stands.
    Wants(usize),
    /// The session has ended or waits.
    Stop,
}

/// A publish at the start of the input.
struct Incoming<'a> {
    publish: Publish<'a>,
    /// Length of its line.
    line: usize,
    canonical: bool,
    /// Everything that is there, from its line on.
    input: &'a [u8],
    /// Where the input stands in the buffer.
    at: usize,
}

impl Session {
    pub(super) fn serve_client(&mut self, input: &mut [u8], at: usize, now: Timestamp) -> Taken {
        let mut used = 0_usize;
        if std::mem::take(&mut self.pong_in_hand) && input.starts_with(b"PING\r\n") {
            self.answer_ping();
            used = b"PING\r\n".len();
        }
        while used < input.len() && self.may_go_on() {
            if matches!(self.inbound, Inbound::Line { .. }) {
                let rest = input.get_mut(used..).unwrap_or_default();
                used = used.saturating_add(self.pass_publishes(rest, at.saturating_add(used), now));
            }
            let rest = input.get(used..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match self.client_step(rest, at.saturating_add(used), now) {
                Step::Used(bytes) => used = used.saturating_add(bytes),
                Step::Wants(wants) => return Taken { used, wants },
                Step::Stop => return Taken { used, wants: 0 },
            }
        }
        Taken {
            used,
            wants: usize::from(used == input.len()),
        }
    }

    fn may_go_on(&self) -> bool {
        self.phase == Phase::Serving
            && self.last_words.is_none()
            && !self.is_held_back()
            && self.is_kept_up_with()
            && !self
                .serving
                .as_ref()
                .is_some_and(|serving| serving.judge.is_spent())
    }

    fn client_step(&mut self, input: &[u8], at: usize, now: Timestamp) -> Step {
        match self.inbound {
            Inbound::Line { searched } => self.client_line(input, at, searched, now),
            Inbound::Payload { left, forward } => {
                self.client_payload(input, at, left, forward, now)
            }
            Inbound::Tail(pulse) => match skip_tail(input) {
                Ok((used, ended)) => {
                    if ended {
                        self.inbound = Inbound::Line { searched: 0 };
                        self.pulse(pulse);
                    }
                    if used == 0 {
                        Step::Wants(2)
                    } else {
                        Step::Used(used)
                    }
                }
                Err(_) => self.stop(CloseReason::UnknownOperation, now),
            },
        }
    }

    fn stop(&mut self, fault: CloseReason, now: Timestamp) -> Step {
        self.end_for_fault(fault, now);
        Step::Stop
    }

    fn client_line(&mut self, input: &[u8], at: usize, searched: usize, now: Timestamp) -> Step {
        let (op, line, canonical) = match decode_client(input, searched, self.line_limits()) {
            Ok(Frame::Line { op, len, canonical }) => (op, len, canonical),
            Ok(Frame::Partial { searched }) => {
                self.inbound = Inbound::Line { searched };
                return Step::Wants(input.len().saturating_add(1));
            }
            Ok(Frame::Tail { op }) => {
                self.inbound = Inbound::Tail(match op {
                    ClientOp::Ping => Pulse::Ping,
                    ClientOp::Pong => Pulse::Pong,
                    _ => Pulse::Ok,
                });
                return Step::Used(input.len());
            }
            Err(LineFault::UnknownOperation) => {
                return self.stop(CloseReason::UnknownOperation, now);
            }
            Err(LineFault::Malformed) => return self.stop(CloseReason::Malformed, now),
            Err(LineFault::TooLong) => return self.stop(CloseReason::ControlLineTooLong, now),
        };
        if let ClientOp::Publish(publish) = op {
            let incoming = Incoming {
                publish,
                line,
                canonical,
                input,
                at,
            };
            return self.publish(&incoming, now);
        }
        self.inbound = Inbound::Line { searched: 0 };
        match op {
            ClientOp::Ping if canonical => {
                self.pulse_in_place(Pulse::Ping, at, at.saturating_add(line));
            }
            ClientOp::Pong if canonical => {
                self.pulse_in_place(Pulse::Pong, at, at.saturating_add(line));
            }
            op => self.small_op(op, now),
        }
        if self.close_reason().is_some() || self.last_words.is_some() {
            Step::Stop
        } else {
            Step::Used(line)
        }
    }

    /// The canonical encoding of what was judged, and `body` behind it.
    #[inline]
    fn push_encoded(&mut self, permit: Permit<'_>, publish: &Publish<'_>, body: &[u8]) {
        let Publish {
            header_len, size, ..
        } = *publish;
        self.to_upstream.push_own(|out| {
            encode::publish(out, permit.subject(), permit.reply(), header_len, size);
            out.extend_from_slice(body);
        });
    }

    fn publish(&mut self, incoming: &Incoming<'_>, now: Timestamp) -> Step {
        let Incoming { publish, line, .. } = *incoming;
        let Some(serving) = &mut self.serving else {
            return Step::Stop;
        };
        if publish.header_len.is_some() && !(self.options.headers && serving.info.headers) {
            return self.stop(CloseReason::HeadersNotSupported, now);
        }
        if publish.size > serving.payload_max {
            return self.stop(CloseReason::PayloadTooLarge, now);
        }
        let header_end = line.saturating_add(bytes(publish.header_len.unwrap_or(0)));
        if publish.header_len.is_some_and(|len| len > 0) && incoming.input.len() < header_end {
            // Headers can name other subjects, so nothing goes out before they are all there.
            self.inbound = Inbound::Line { searched: 0 };
            return Step::Wants(header_end);
        }
        let whole = line.saturating_add(bytes(publish.size)).saturating_add(2);
        let complete = incoming.input.len() >= whole;
        let here = whole.min(incoming.input.len());
        let payload = incoming.input.get(line..here).unwrap_or_default();
        if !ends_well(payload, whole.saturating_sub(line) as u64) {
            return self.stop(CloseReason::UnknownOperation, now);
        }
        if !complete && serving.waits_for_body(&publish) {
            // So can such a body.
            self.inbound = Inbound::Line { searched: 0 };
            return Step::Wants(whole);
        }
        if self.pedantic && !subject::is_valid_literal(publish.subject) {
            self.to_client
                .interject(|out| ErrText::InvalidPublishSubject.push(out));
        }
        let forward = self.judge_publish(incoming, header_end, complete, now);
        self.spend(publish.size, now);
        if complete {
            self.inbound = Inbound::Line { searched: 0 };
            self.end_of_payload(forward);
            return Step::Used(whole);
        }
        let left = whole.saturating_sub(here) as u64;
        self.inbound = Inbound::Payload { left, forward };
        if forward {
            self.to_upstream.set_mid_frame(true);
        }
        Step::Used(here)
    }

    /// Judges a publish and, when it is permitted, pushes what is there of it. Returns whether it is forwarded.
    fn judge_publish(
        &mut self,
        incoming: &Incoming<'_>,
        header_end: usize,
        complete: bool,
        now: Timestamp,
    ) -> bool {
        let Incoming {
            publish,
            line,
            canonical,
            input,
            at,
        } = *incoming;
        let Some(serving) = &mut self.serving else {
            return false;
        };
        if publish.subject == USER_INFO && publish.reply.is_some() {
            self.answer_user_info(publish.reply.unwrap_or_default(), now);
            return false;
        }
        let permit = match serving.judge.publish(publish.subject, publish.reply, now) {
            Ok(permit) => permit,
            Err(denial) => {
                let overruled =
                    serving
                        .judge
                        .overrule_publish(publish.subject, publish.reply, &denial);
                let Some(permit) = overruled else {
                    self.deny_publish(&publish, denial, now);
                    return false;
                };
                let names = (publish.subject, publish.reply, None);
                self.denied(Operation::Publish, names, publish.size, denial, true);
                permit
            }
        };
        let block = input.get(line..header_end).unwrap_or_default();
        if publish.header_len.is_some() && !self.pass_headers(&publish, block, now) {
            return false;
        }
        let body_end = line.saturating_add(bytes(publish.size));
        let body = input.get(header_end..body_end).unwrap_or_default();
        if !self.pass_body(&publish, body, now) {
            return false;
        }
        let size = u64::from(publish.size);
        self.traffic.messages_in = self.traffic.messages_in.saturating_add(1);
        self.traffic.bytes_in = self.traffic.bytes_in.saturating_add(size);
        let end = if complete {
            line.saturating_add(bytes(publish.size)).saturating_add(2)
        } else {
            input.len()
        };
        if canonical {
            self.to_upstream.push_input(at, at.saturating_add(end));
            return true;
        }
        let body = input.get(line..end).unwrap_or_default();
        if complete && body.len() <= COPY_MAX {
            self.push_encoded(permit, &publish, body);
        } else {
            self.push_encoded(permit, &publish, b"");
            self.to_upstream
                .push_input(at.saturating_add(line), at.saturating_add(end));
        }
        true
    }

    fn client_payload(
        &mut self,
        input: &[u8],
        at: usize,
        left: u64,
        forward: bool,
        now: Timestamp,
    ) -> Step {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let piece = input.get(..here).unwrap_or_default();
        if !ends_well(piece, left) {
            return self.stop(CloseReason::UnknownOperation, now);
        }
        if forward {
            self.to_upstream.push_input(at, at.saturating_add(here));
        }
        let left = left.saturating_sub(here as u64);
        if left == 0 {
            self.inbound = Inbound::Line { searched: 0 };
            self.to_upstream.set_mid_frame(false);
            self.end_of_payload(forward);
        } else {
            self.inbound = Inbound::Payload { left, forward };
        }
        Step::Used(here)
    }

    /// A payload has ended: what was to be said of it is said now, as the server does.
    #[inline]
    fn end_of_payload(&mut self, forwarded: bool) {
        if !self.deferred.is_empty() {
            let deferred = std::mem::take(&mut self.deferred);
            self.to_client
                .interject(|out| out.extend_from_slice(&deferred));
        } else if forwarded {
            self.push_ok();
        }
    }

    fn spend(&mut self, size: u32, now: Timestamp) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        let mut resume = None;
        for (budget, tokens) in [
            (&mut serving.messages, 1),
            (&mut serving.bytes, u64::from(size)),
        ] {
            let Some(budget) = budget else { continue };
            budget.spend(tokens);
            if budget.is_spent() {
                budget.refill(now);
            }
            if budget.is_spent() {
                resume = resume.max(Some(budget.positive_at()));
            }
        }
        if let Some(at) = resume {
            self.hold_client(at);
        }
    }

    /// Reads no more of the client until then.
    pub(super) fn hold_client(&mut self, until: Timestamp) {
        let until = self.timers.at(Timer::Resume).max(Some(until));
        if let Some(until) = until {
            self.timers.set(Timer::Resume, until);
        }
    }

    pub(super) fn refill(&mut self, now: Timestamp) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        for budget in [&mut serving.messages, &mut serving.bytes]
            .into_iter()
            .flatten()
        {
            budget.refill(now);
        }
    }
}

/// Whether the bytes of `piece` that belong to the CR LF after a payload are right; `left` counts from its start.
pub(super) fn ends_well(piece: &[u8], left: u64) -> bool {
    let at = |index: u64| {
        usize::try_from(index)
            .ok()
            .and_then(|index| piece.get(index))
    };
    at(left.wrapping_sub(2)).is_none_or(|byte| *byte == b'\r')
        && at(left.wrapping_sub(1)).is_none_or(|byte| *byte == b'\n')
}

pub(super) fn bytes(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
