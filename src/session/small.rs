//! Every operation of a serving session that carries no message: SUB and UNSUB are handed on, the rest is here.

use super::{CloseReason, Inbound, Pulse, Session};
use crate::time::Timestamp;
use crate::wire::{ClientOp, Publish};

impl Session {
    /// Everything but PUB and HPUB.
    pub(super) fn small_op(&mut self, op: ClientOp<'_>, now: Timestamp) {
        match op {
            ClientOp::Subscribe {
                subject,
                queue,
                sid,
            } => self.subscribe(subject, queue, sid),
            ClientOp::Unsubscribe { sid, max } => self.unsubscribe(sid, max),
            ClientOp::Ping => self.pulse(Pulse::Ping),
            ClientOp::Pong => self.pulse(Pulse::Pong),
            ClientOp::Connect(json) => self.connect(json, true, now),
            ClientOp::Ok => self.pulse(Pulse::Ok),
            // The server parses it and does nothing with it.
            ClientOp::Info(json) => {
                if serde_json::from_slice::<serde::de::IgnoredAny>(json).is_err() {
                    self.close(CloseReason::Malformed, now);
                }
            }
            ClientOp::HeaderMessage => self.header_message(now),
            ClientOp::Err | ClientOp::Publish(_) => self.close(CloseReason::Malformed, now),
        }
    }

    /// PING and PONG travel end to end, in order with everything else: clients flush with them.
    pub(super) fn pulse(&mut self, pulse: Pulse) {
        let line: &[u8] = match pulse {
            Pulse::Ping => b"PING\r\n",
            Pulse::Pong => b"PONG\r\n",
            Pulse::Ok => return,
        };
        if let (Pulse::Ping, Some(serving)) = (pulse, &mut self.serving) {
            serving.fences.pinged();
        }
        self.to_upstream
            .interject(|out| out.extend_from_slice(line));
    }

    /// HMSG of a client: the server takes it for a message without a subject and with an empty payload, which nobody
    /// with permissions may publish.
    fn header_message(&mut self, now: Timestamp) {
        let nameless = Publish {
            subject: b"",
            reply: None,
            header_len: None,
            size: 0,
        };
        let Some(serving) = &mut self.serving else {
            return;
        };
        if let Err(denial) = serving.judge.publish(nameless.subject, None, now) {
            self.deny_publish(&nameless, denial, now);
        }
        self.inbound = Inbound::Payload {
            left: 2,
            forward: false,
        };
    }
}
