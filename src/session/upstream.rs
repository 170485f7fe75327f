//! What each server operation does: deliveries are filtered and counted, INFO is written anew, errors that are about
//! our own connection stay here.

use super::fences::Pong;
use super::serve::{bytes, ends_well};
use super::subs::Delivery;
use super::{CloseReason, EventKind, Inbound, Operation, Phase, Session, Taken, event};
use crate::policy::Denial;
use crate::time::Timestamp;
use crate::wire::{Frame, Message, ServerInfo, ServerOp, decode_server};

/// Filtered deliveries that are reported one by one in a session; the rest are only counted.
const REPORTED_MAX: u32 = 16;

/// Longest header block that is waited for to see whether it is a 503: its subject fits a control line.
const LONGEST_503: usize = 64 * 1024;

/// Texts of upstream that are about what the client did, and go on to it. Everything else is about our own connection:
/// it would make official clients stop for good, although nothing is wrong with their token.
const CLIENTS_BUSINESS: [&[u8]; 6] = [
    b"Permissions Violation",
    b"maximum subscriptions exceeded",
    b"Invalid Subject",
    b"Invalid Publish Subject",
    b"Maximum Payload Violation",
    b"Stale Connection",
];

impl Session {
    /// Bytes of the upstream, likewise as [`Session::handle_client`].
    pub fn handle_upstream(&mut self, input: &[u8], at: usize, now: Timestamp) -> Taken {
        let mut used = 0_usize;
        while used < input.len() && matches!(self.phase, Phase::Serving | Phase::Readmitting) {
            let mut rest = input.get(used..).unwrap_or_default();
            if matches!(self.outbound, Inbound::Line { .. }) {
                used =
                    used.saturating_add(self.pass_deliveries(rest, at.saturating_add(used), now));
                rest = input.get(used..).unwrap_or_default();
                if rest.is_empty() {
                    break;
                }
            }
            let place = at.saturating_add(used);
            let step = match self.outbound {
                Inbound::Payload { left, forward } => {
                    self.upstream_payload(rest, place, left, forward, now)
                }
                Inbound::Line { searched } => self.upstream_line(rest, place, searched, now),
                Inbound::Tail(_) => None,
            };
            let Some(bytes) = step else {
                let wants = if self.close_reason().is_some() {
                    0
                } else {
                    rest.len().saturating_add(1)
                };
                return Taken { used, wants };
            };
            used = used.saturating_add(bytes);
        }
        Taken {
            used,
            wants: usize::from(used == input.len()),
        }
    }

    fn upstream_line(
        &mut self,
        input: &[u8],
        at: usize,
        searched: usize,
        now: Timestamp,
    ) -> Option<usize> {
        let (op, len) = match decode_server(input, searched) {
            Ok(Frame::Line { op, len, .. }) => (op, len),
            Ok(Frame::Partial { searched }) => {
                self.outbound = Inbound::Line { searched };
                return None;
            }
            Ok(Frame::Tail { .. }) | Err(_) => {
                self.close(CloseReason::UpstreamProtocol, now);
                return None;
            }
        };
        self.outbound = Inbound::Line { searched: 0 };
        match op {
            ServerOp::Message(message) => return self.deliver(message, len, input, at, now),
            ServerOp::Ping => self
                .to_client
                .push_own(|out| out.extend_from_slice(b"PING\r\n")),
            ServerOp::Pong => self.pong(now),
            ServerOp::Info(json) => self.upstream_info(json, now),
            ServerOp::Err(text) => self.upstream_error(text, now),
            // Upstream is never verbose; whatever it means, it is not for the client.
            ServerOp::Ok => {}
        }
        Some(len)
    }

    /// A MSG or HMSG: forwarded, or kept back where a deny entry says so.
    fn deliver(
        &mut self,
        message: Message<'_>,
        line: usize,
        input: &[u8],
        at: usize,
        now: Timestamp,
    ) -> Option<usize> {
        let whole = line.saturating_add(bytes(message.size)).saturating_add(2);
        let here = whole.min(input.len());
        let left = whole.saturating_sub(line) as u64;
        if !ends_well(input.get(line..here).unwrap_or_default(), left) {
            self.close(CloseReason::UpstreamProtocol, now);
            return None;
        }
        let asks = self.options.no_responders && message.header_len == Some(message.size);
        let unanswered = asks && {
            let block = input.get(line..here).unwrap_or_default();
            let Some(unanswered) = is_no_responders(block, bytes(message.size)) else {
                // Not enough of it is there to tell.
                return None;
            };
            unanswered
        };
        let forward = self.judge_delivery(&message, unanswered, now);
        if forward {
            self.to_client.push_input(at, at.saturating_add(here));
        }
        let left = whole.saturating_sub(here) as u64;
        if left > 0 {
            self.outbound = Inbound::Payload { left, forward };
            if forward {
                self.to_client.set_mid_frame(true);
            }
        }
        Some(here)
    }

    fn judge_delivery(&mut self, message: &Message<'_>, unanswered: bool, now: Timestamp) -> bool {
        let Some(serving) = &mut self.serving else {
            return false;
        };
        if serving.judge.filters_deliveries() && !serving.judge.delivers(message.subject) {
            let denial = serving.judge.kept_back(message.subject);
            self.kept_back(message, denial);
            return false;
        }
        if serving.fences.stand() {
            let made_after = serving.subs.find(message.sid).map(|sub| sub.made_after);
            if serving.fences.bars(message.sid, made_after) {
                return false;
            }
        }
        let of_the_past = serving.fences.is_of_the_past(message.sid);
        let delivery = if of_the_past || (unanswered && serving.subs.contains(message.sid)) {
            Delivery::Pass
        } else {
            match serving.subs.count(message.sid) {
                // Of a subscription that is gone: a server would have sent it before it knew.
                Delivery::Nobodys if serving.fences.is_leaving(message.sid) => Delivery::Pass,
                delivery => delivery,
            }
        };
        if delivery == Delivery::Nobodys {
            self.traffic.filtered = self.traffic.filtered.saturating_add(1);
            return false;
        }
        if serving.judge.tracks_replies()
            && let Some(reply) = message.reply
            && !(self.scarce && serving.judge.held() > Self::SMALL)
        {
            serving.judge.delivered(reply, now);
        }
        if let Delivery::Last { tell_upstream } = delivery {
            serving.forget(message.sid);
            if tell_upstream {
                self.end_upstream(vec![message.sid.into()]);
            }
        }
        self.traffic.messages_out = self.traffic.messages_out.saturating_add(1);
        self.traffic.bytes_out = self
            .traffic
            .bytes_out
            .saturating_add(u64::from(message.size));
        true
    }

    fn kept_back(&mut self, message: &Message<'_>, denial: Denial) {
        self.traffic.filtered = self.traffic.filtered.saturating_add(1);
        if self.denied_deliveries >= REPORTED_MAX {
            return;
        }
        self.denied_deliveries = self.denied_deliveries.saturating_add(1);
        self.events.push_back(EventKind::Denied(super::Denied {
            operation: Operation::Deliver,
            subject: event::clip(message.subject),
            reply: message.reply.map(event::clip),
            queue: None,
            size: message.size,
            reason: denial.reason,
            rule: denial.rule,
            observed: false,
        }));
    }

    fn upstream_payload(
        &mut self,
        input: &[u8],
        at: usize,
        left: u64,
        forward: bool,
        now: Timestamp,
    ) -> Option<usize> {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        if !ends_well(input.get(..here).unwrap_or_default(), left) {
            self.close(CloseReason::UpstreamProtocol, now);
            return None;
        }
        if forward {
            self.to_client.push_input(at, at.saturating_add(here));
        }
        let left = left.saturating_sub(here as u64);
        if left == 0 {
            self.outbound = Inbound::Line { searched: 0 };
            self.to_client.set_mid_frame(false);
        } else {
            self.outbound = Inbound::Payload { left, forward };
        }
        Some(here)
    }

    fn pong(&mut self, now: Timestamp) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        if serving.fences.ponged() == Pong::Clients {
            self.answer_ping();
        } else if self.again.is_some() {
            self.go_on_again(now);
        }
    }

    /// PONG, and behind the first one the INFO that waits for it.
    pub(super) fn answer_ping(&mut self) {
        self.to_client
            .push_own(|out| out.extend_from_slice(b"PONG\r\n"));
        let Some(serving) = &mut self.serving else {
            return;
        };
        serving.ponged = true;
        if std::mem::take(&mut serving.info_waits) {
            self.push_info();
        }
    }

    /// Tells the client the INFO as it is now, or with its first PONG where that is still to come.
    pub(super) fn tell_info(&mut self) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        if serving.ponged {
            self.push_info();
        } else {
            serving.info_waits = true;
        }
    }

    fn push_info(&mut self) {
        let Some(serving) = &self.serving else { return };
        if self.options.protocol < 1 {
            return;
        }
        let leaving = self.noticed || serving.info.ldm;
        let mut line = Vec::new();
        self.info(&serving.info, serving.payload_max)
            .with_ldm(leaving)
            .with_connect_info(serving.connect_info)
            .push(&mut line);
        self.to_client.interject(|out| out.extend_from_slice(&line));
    }

    fn upstream_info(&mut self, json: &[u8], now: Timestamp) {
        let Ok(info) = ServerInfo::parse(json) else {
            self.close(CloseReason::UpstreamProtocol, now);
            return;
        };
        let connect_info = info.connect_info;
        let info = self.shared_info(info);
        let Some(serving) = &mut self.serving else {
            return;
        };
        serving.lame_duck |= info.ldm;
        serving.payload_max = info.payload_max().min(serving.bounds.payload);
        serving.connect_info = connect_info;
        serving.info = info;
        self.tell_info();
    }

    fn upstream_error(&mut self, text: &[u8], now: Timestamp) {
        if CLIENTS_BUSINESS.iter().any(|known| text.starts_with(known)) {
            self.to_client.push_own(|out| {
                out.extend_from_slice(b"-ERR '");
                out.extend_from_slice(text);
                out.extend_from_slice(b"'\r\n");
            });
        } else {
            self.upstream_said = Some(event::clip(text));
            self.close(CloseReason::UpstreamError, now);
        }
    }
}

/// Whether a header block of `len` bytes, as far as it is there, is what a server says by itself of a request that nobody
/// answers, which it does not count as a delivery (`client.go:processInboundClientMsg`). None where that cannot be told yet.
fn is_no_responders(block: &[u8], len: usize) -> Option<bool> {
    const STATUS: &[u8] = b"NATS/1.0 503\r\n";
    const NAMED: &[u8] = b"Nats-Subject: ";
    let Some(block) = block.get(..len) else {
        let begins_so = block
            .iter()
            .zip(STATUS)
            .all(|(here, wanted)| here == wanted);
        return (!begins_so || len > LONGEST_503).then_some(false);
    };
    let Some(rest) = block.strip_prefix(STATUS) else {
        return Some(false);
    };
    let named = rest
        .strip_prefix(NAMED)
        .and_then(|rest| rest.strip_suffix(b"\r\n\r\n"));
    Some(rest == b"\r\n" || named.is_some_and(|subject| !subject.contains(&b'\r')))
}
