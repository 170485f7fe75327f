//! How a session ends: its lease, the notice before the end, and the one place where it is closed.

use std::time::Duration;

use super::timers::Timer;
use super::{Blame, CloseReason, Closed, EventKind, Farewell, Opening, Phase, Refusal, Session};
use crate::time::Timestamp;

impl Session {
    /// Gives the client this much more than `limits.handshake`. To be said before its first word.
    pub fn handle_grace(&mut self, grace: Duration) {
        let Opening {
            accepted_at,
            limits,
            ..
        } = &self.opening;
        let until = accepted_at.plus(limits.handshake).plus(grace);
        self.timers.set(Timer::Handshake, until);
    }

    /// Lets timers that are due take effect.
    pub fn handle_time(&mut self, now: Timestamp) {
        while self.close_reason().is_none()
            && let Some(timer) = self.timers.expire(now)
        {
            match timer {
                // The client is slower than upstream, and has a time of its own.
                Timer::Handshake if self.again.is_some() && !self.to_client.is_drained() => {
                    self.allow_for_an_answer(now);
                }
                Timer::Handshake => {
                    let reason = match self.phase {
                        Phase::AwaitingConnect => CloseReason::AuthenticationTimeout,
                        Phase::Readmitting => CloseReason::UpstreamSlow,
                        _ => CloseReason::UpstreamUnavailable,
                    };
                    self.close(reason, now);
                }
                Timer::Notice => self.give_notice(),
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

    /// An operator's or the machine's act: end the session, at once or, for [`Farewell::LameDuck`] reasons, after the
    /// notice. Never later than the session would have ended anyway.
    pub fn handle_end(&mut self, reason: CloseReason, now: Timestamp) {
        let serves = matches!(self.phase, Phase::Serving | Phase::Readmitting);
        if serves && reason.farewell() == Farewell::LameDuck {
            self.ending = Some(reason);
            self.timers.clear(Timer::Notice);
            self.give_notice();
            self.end_by(now.plus(self.opening.limits.notice));
        } else {
            self.close(reason, now);
        }
    }

    /// The rights have ended: so does the session, at once, and nothing more passes in either direction.
    pub fn handle_cut(&mut self, reason: CloseReason, now: Timestamp) {
        self.to_upstream.discard();
        self.close(reason, now);
    }

    /// An operator, or whoever knows, took the identity's access away while it was served: the session ends at once, and
    /// nothing more passes in either direction.
    pub fn handle_revocation(&mut self, why: Refusal, now: Timestamp) {
        if self.close_reason().is_none() {
            self.events.push_back(EventKind::Revoked {
                code: why.code,
                sentence: why.sentence,
            });
            self.handle_cut(CloseReason::Revoked, now);
        }
    }

    /// By the calendar the rights end at `ends_at`: so does the session, if not before, with a notice as for a token.
    pub fn handle_term(&mut self, ends_at: Timestamp, now: Timestamp) {
        let sooner = self.timers.at(Timer::End).is_none_or(|end| ends_at < end);
        if sooner {
            self.lease(ends_at, now);
        }
    }

    /// The token is good until `ends_at`: the session ends then, with a notice before. A drain that is under way goes on.
    pub(super) fn lease(&mut self, ends_at: Timestamp, now: Timestamp) {
        if !matches!(self.ending, None | Some(CloseReason::Expired)) {
            self.end_by(ends_at);
            return;
        }
        self.ending = Some(CloseReason::Expired);
        self.noticed = false;
        self.timers.set(Timer::End, ends_at);
        // Short-lived tokens get a shorter notice, so that it never takes more than a quarter of what is left.
        let notice = self.opening.limits.notice.min(ends_at.since(now) / 4);
        self.timers.set(Timer::Notice, ends_at.minus(notice));
    }

    /// The client said something that ends a session. What upstream still has to say of what came before is delivered
    /// first, as a server writes it before the `-ERR` (`client.go:closeConnection` flushes).
    pub(super) fn end_for_fault(&mut self, fault: CloseReason, now: Timestamp) {
        if self.phase == Phase::Serving && self.may_be_under_way() {
            self.end_after_upstream(fault, now);
        } else {
            self.close(fault, now);
        }
    }

    /// Whether upstream was told anything that it may still be about: whole messages, which others are to have before the
    /// client hears of its end, subscriptions, also such that were given up, or a PING. Where it was not, its connection can
    /// be closed without care: nothing that was said there could be lost.
    pub fn may_be_under_way(&self) -> bool {
        let unfinished = u64::from(self.to_upstream.is_mid_frame());
        let serving = self.serving.as_ref();
        self.traffic.messages_in > unfinished
            || serving.is_some_and(|serving| {
                let fences = &serving.fences;
                serving.subs.len() > 0 || fences.awaits_pong() || !fences.are_quiet()
            })
    }

    /// The client says no more: the session ends when upstream has answered what came before, or never will.
    pub(super) fn end_after_upstream(&mut self, reason: CloseReason, now: Timestamp) {
        self.last_words = Some(reason);
        self.ending = Some(reason);
        self.timers.clear(Timer::Notice);
        self.end_by(now.plus(self.opening.limits.write_deadline));
    }

    fn end_by(&mut self, latest: Timestamp) {
        let end = self
            .timers
            .at(Timer::End)
            .map_or(latest, |end| end.min(latest));
        self.timers.set(Timer::End, end);
    }

    /// `INFO {"ldm":true}`, in place of every INFO from here on.
    fn give_notice(&mut self) {
        self.noticed = true;
        self.tell_info();
    }

    /// Ends the session: the one place where that happens.
    pub(super) fn close(&mut self, reason: CloseReason, now: Timestamp) {
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
