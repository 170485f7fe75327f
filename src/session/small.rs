//! Every operation of a serving session that carries no message: SUB and UNSUB are handed on, the rest is here.

use super::{CloseReason, Pulse, Session};
use crate::time::Timestamp;
use crate::wire::{ClientOp, is_info_taken};

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
            ClientOp::Connect(json) => self.connect_again(json, now),
            ClientOp::Ok => self.pulse(Pulse::Ok),
            // The server parses it and does nothing with it.
            ClientOp::Info(json) => {
                if !is_info_taken(json) {
                    self.end_for_fault(CloseReason::Malformed, now);
                }
            }
            ClientOp::Err | ClientOp::Publish(_) => self.end_for_fault(CloseReason::Malformed, now),
        }
    }

    /// PING and PONG travel end to end, in order with everything else: clients flush with them.
    pub(super) fn pulse(&mut self, pulse: Pulse) {
        let line: &[u8] = match pulse {
            Pulse::Ping => b"PING\r\n",
            Pulse::Pong => b"PONG\r\n",
            Pulse::Ok => return,
        };
        self.note_pulse(pulse);
        self.to_upstream
            .interject(|out| out.extend_from_slice(line));
    }

    /// The same for a PING or PONG that came as the canonical line at these bytes of the buffer: it goes as it came, in one
    /// piece with what stands before it, which is one slice less in the write.
    pub(super) fn pulse_in_place(&mut self, pulse: Pulse, start: usize, end: usize) {
        self.note_pulse(pulse);
        self.to_upstream.push_input(start, end);
    }

    fn note_pulse(&mut self, pulse: Pulse) {
        if let (Pulse::Ping, Some(serving)) = (pulse, &mut self.serving) {
            serving.fences.pinged();
        }
    }
}
