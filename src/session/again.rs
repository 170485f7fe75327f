//! A second CONNECT on a serving session. It merges into what was said before, authenticates again, and takes effect in its
//! place among the client's operations (nats-server `client.go:processConnect`):
//!
//! 1. Upstream answers a PING of ours, so that all that came before is answered, under the rights of before.
//! 2. The token is judged, where one was given. Without one the server would go by the credentials it has.
//! 3. Rights, limits and, where the server does so, the loss of all subscriptions are put in force.
//! 4. What upstream was told of the client and no longer holds is told anew, and another PING answered.
//!
//! Nothing of the client is read meanwhile.
//!
//! Must never: send a credential upstream, or let a later CONNECT make another identity of the session.

use std::sync::Arc;

use super::timers::Timer;
use super::{Admission, ClientOptions, CloseReason, ConnectRequest, Need, Phase, Session};
use crate::policy::Permissions;
use crate::time::Timestamp;
use crate::wire::{Connect, Reconnect};

/// A second CONNECT under way.
#[derive(Debug)]
pub(super) struct Again {
    options: ClientOptions,
    verbose: bool,
    pedantic: bool,
    /// What else is wrong with it: the server looks at the credentials first.
    fault: Option<CloseReason>,
    /// None where it came without credentials.
    request: Option<Box<ConnectRequest>>,
    stage: Stage,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Upstream's answer to so many PINGs: to what came before.
    Before(u64),
    /// The judgement of its token.
    Judgement,
    /// Upstream's answer to so many PINGs: to our own CONNECT.
    Upstream(u64),
}

impl Session {
    pub(super) fn connect_again(&mut self, json: &[u8], now: Timestamp) {
        let Ok(mut connect) = Connect::parse_onto(self.connected_with(), json) else {
            self.end_for_fault(CloseReason::Malformed, now);
            return;
        };
        if self.refuse_account(&connect, now) {
            return;
        }
        let fault = Self::fault_of(&connect);
        let (verbose, pedantic) = (connect.verbose, connect.pedantic);
        let options = ClientOptions::of(&connect);
        let request = if connect.tokens_given() == 0 {
            if let Some(fault) = fault {
                self.end_for_fault(fault, now);
                return;
            }
            None
        } else if let Some(request) = ConnectRequest::of(&mut connect, &options) {
            Some(Box::new(request))
        } else {
            self.refuse_credentials(&connect, now);
            return;
        };
        self.again = Some(Box::new(Again {
            options,
            verbose,
            pedantic,
            fault,
            request,
            stage: Stage::Judgement,
        }));
        self.phase = Phase::Readmitting;
        if self.may_be_under_way() {
            self.wait_for_upstream(Stage::Before, now);
        } else {
            self.judge_again(now);
        }
    }

    /// Until upstream has answered a PING that follows all that it was told.
    fn wait_for_upstream(&mut self, stage: impl Fn(u64) -> Stage, now: Timestamp) {
        let (Some(serving), Some(again)) = (&mut self.serving, &mut self.again) else {
            return;
        };
        serving.fences.bar(Vec::new());
        again.stage = stage(serving.fences.sent());
        self.to_upstream
            .interject(|out| out.extend_from_slice(b"PING\r\n"));
        self.allow_for_an_answer(now);
    }

    pub(super) fn allow_for_an_answer(&mut self, now: Timestamp) {
        let latest = now.plus(self.opening.limits.write_deadline);
        self.timers.set(Timer::Handshake, latest);
    }

    /// A PONG came.
    pub(super) fn go_on_again(&mut self, now: Timestamp) {
        let (Some(serving), Some(again)) = (&self.serving, &self.again) else {
            return;
        };
        let answered = serving.fences.answered();
        match again.stage {
            Stage::Before(pings) if answered >= pings => self.judge_again(now),
            Stage::Upstream(pings) if answered >= pings => self.end_again(),
            Stage::Before(_) | Stage::Upstream(_) | Stage::Judgement => {}
        }
    }

    fn judge_again(&mut self, now: Timestamp) {
        self.timers.clear(Timer::Handshake);
        let Some(again) = &mut self.again else { return };
        again.stage = Stage::Judgement;
        if let Some(request) = again.request.take() {
            self.need = Some(Need::Readmission(request));
        } else if let Some(serving) = &self.serving {
            let permissions = Arc::clone(serving.judge.permissions());
            self.put_in_force(permissions, now);
        }
    }

    /// The token of a second CONNECT is good. The same identity goes on with its rights and limits judged anew; another
    /// identity is refused, and so are roles of another upstream than the one that this session is bound to. Whether the
    /// session goes on.
    pub fn handle_readmitted(&mut self, admission: Admission, now: Timestamp) -> bool {
        let (Phase::Readmitting, Some(again), Some(serving)) =
            (self.phase, &self.again, &self.serving)
        else {
            return false;
        };
        if again.stage != Stage::Judgement {
            return false;
        }
        let same = serving.identity.tid == admission.identity.tid
            && serving.identity.oid == admission.identity.oid;
        let bound_here = serving.upstream == admission.upstream;
        let fault = again.fault;
        if !same {
            self.refuse(
                "connect.other_identity",
                "a second CONNECT came with another identity",
                now,
            );
        } else if !bound_here {
            self.refuse(
                "connect.other_upstream",
                "a second CONNECT came with roles of another upstream",
                now,
            );
        } else if let Some(fault) = fault {
            self.end_for_fault(fault, now);
        } else {
            if let Some(serving) = &mut self.serving {
                serving.identity = admission.identity;
            }
            self.handle_limits(&admission.limits, now);
            self.lease(admission.ends_at, now);
            self.put_in_force(Arc::clone(admission.judge.permissions()), now);
            return true;
        }
        false
    }

    /// The rights from here on, and what upstream has to know of the client.
    fn put_in_force(&mut self, permissions: Arc<Permissions>, now: Timestamp) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        serving.judge.forget_requests();
        // All subscriptions are judged anew then, which a client is not to have done as often as it likes.
        let changed = !serving.judge.permissions().are_those_of(&permissions);
        if serving.info.connect_takes_subscriptions() {
            self.drop_subscriptions();
            if let Some(serving) = &mut self.serving {
                serving.judge.replace(permissions);
            }
        } else if changed {
            self.handle_policy(permissions);
        }
        if self.tell_upstream_again() {
            self.wait_for_upstream(Stage::Upstream, now);
        } else {
            self.end_again();
        }
    }

    /// Tells upstream what of the client's options has changed. Whether there was anything.
    fn tell_upstream_again(&mut self) -> bool {
        let (Some(serving), Some(again)) = (&self.serving, &self.again) else {
            return false;
        };
        let with_headers = serving.info.headers;
        let told = self.options.for_upstream(with_headers);
        let wanted = again.options.for_upstream(with_headers);
        if told == wanted {
            return false;
        }
        self.to_upstream.interject(|out| wanted.push(out));
        true
    }

    /// It has taken effect.
    fn end_again(&mut self) {
        self.timers.clear(Timer::Handshake);
        let Some(again) = self.again.take() else {
            return;
        };
        self.options = again.options;
        self.verbose = again.verbose;
        self.pedantic = again.pedantic;
        self.phase = Phase::Serving;
        self.push_ok();
    }

    /// It came to nothing, and the session serves no more than to say so.
    pub(super) fn give_up_again(&mut self) {
        if self.phase == Phase::Readmitting {
            self.timers.clear(Timer::Handshake);
            self.again = None;
            self.phase = Phase::Serving;
        }
    }

    /// What earlier CONNECTs said: a later one leaves in place what it does not name.
    fn connected_with(&self) -> Connect {
        Connect {
            verbose: self.verbose,
            pedantic: self.pedantic,
            echo: self.options.echo,
            headers: self.options.headers,
            no_responders: self.options.no_responders,
            protocol: self.options.protocol.into(),
            lang: self.options.lang.to_string(),
            version: self.options.version.to_string(),
            name: self.options.name.to_string(),
            ..Connect::default()
        }
    }
}

impl ClientOptions {
    /// What of it upstream knows.
    fn for_upstream(&self, with_headers: bool) -> Reconnect<'_> {
        let headers = self.headers && with_headers;
        Reconnect {
            echo: self.echo,
            headers,
            no_responders: self.no_responders && headers,
            lang: &self.lang,
            version: &self.version,
            name: &self.name,
        }
    }
}
