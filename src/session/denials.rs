//! What is said of an operation that is denied: the server's text, a 503 where the client asked for one, and the fact.

use std::time::Duration;

use super::event;
use super::subs::Subscription;
use super::{Denied, EventKind, Operation, Session};
use crate::policy::{Denial, DenialReason};
use crate::subject;
use crate::time::Timestamp;
use crate::wire::{PermissionsViolation, Publish, encode};

/// Subscriptions that can be looked through at no charge for the one that waits for an answer made here. The client pays for
/// more with time, so that many of them and a loop of requests cannot keep a thread busy: a millisecond for each so many, which
/// take a hundredth of that.
const SEARCHED_FREE: usize = 1024;

impl Session {
    pub(super) fn deny_publish(&mut self, publish: &Publish<'_>, denial: Denial, now: Timestamp) {
        let violation = match (denial.reason, publish.reply) {
            (DenialReason::ReservedReply | DenialReason::ReplyNotOwn, Some(reply)) => {
                PermissionsViolation::PublishReply(reply)
            }
            _ => PermissionsViolation::Publish(publish.subject),
        };
        violation.push(&mut self.deferred);
        self.defer_no_responders(publish, now);
        self.denied(
            Operation::Publish,
            (publish.subject, publish.reply, None),
            publish.size,
            denial,
            false,
        );
    }

    /// A publish is denied because of a subject that it names in a header or in its body.
    pub(super) fn deny_named(
        &mut self,
        publish: &Publish<'_>,
        named: &[u8],
        denial: Denial,
        now: Timestamp,
    ) {
        PermissionsViolation::Publish(named).push(&mut self.deferred);
        self.defer_no_responders(publish, now);
        self.denied(
            Operation::Publish,
            (named, publish.reply, None),
            publish.size,
            denial,
            false,
        );
    }

    /// A denied request fails at once instead of timing out, where the client asked to be told.
    fn defer_no_responders(&mut self, publish: &Publish<'_>, now: Timestamp) {
        let (true, Some(reply)) = (self.options.no_responders, publish.reply) else {
            return;
        };
        let waits =
            |sub: &Subscription| sub.queue.is_none() && subject::is_subset(reply, &sub.subject);
        let Some(sid) = self.look_for(waits, now) else {
            return;
        };
        let named = self
            .serving
            .as_ref()
            .is_some_and(|serving| serving.info.is_at_least_2_12())
            .then_some(publish.subject);
        encode::no_responders(&mut self.deferred, reply, &sid, named);
        self.count_own_delivery(&sid);
    }

    /// The id of the first subscription that `fits`, for an answer that is made here.
    pub(super) fn look_for(
        &mut self,
        fits: impl Fn(&Subscription) -> bool,
        now: Timestamp,
    ) -> Option<Box<[u8]>> {
        let subs = &self.serving.as_ref()?.subs;
        let mut seen = 0_usize;
        let found = subs
            .iter()
            .inspect(|_| seen = seen.saturating_add(1))
            .find(|sub| fits(sub))
            .map(|sub| sub.sid.clone());
        let charge = u64::try_from(seen / SEARCHED_FREE).unwrap_or(u64::MAX);
        if charge > 0 {
            self.hold_client(now.plus(Duration::from_millis(charge)));
        }
        found
    }

    pub(super) fn denied(
        &mut self,
        operation: Operation,
        (subject, reply, queue): (&[u8], Option<&[u8]>, Option<&[u8]>),
        size: u32,
        denial: Denial,
        observed: bool,
    ) {
        self.traffic.denied = self.traffic.denied.saturating_add(u64::from(!observed));
        self.events.push_back(EventKind::Denied(Denied {
            operation,
            subject: event::clip(subject),
            reply: reply.map(event::clip),
            queue: queue.map(event::clip),
            size,
            reason: denial.reason,
            rule: denial.rule,
            observed,
        }));
    }
}
