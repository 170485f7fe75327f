//! What is said of an operation that is denied: the server's text, a 503 where the client asked for one, and the fact.

use super::event;
use super::subs::Subscription;
use super::{Denied, EventKind, Operation, Session};
use crate::policy::{Denial, DenialReason};
use crate::subject;
use crate::wire::{PermissionsViolation, Publish, encode};

/// Subscriptions that are looked through for the one that waits for the answer to a denied request, so that many of them
/// and a loop of denied requests cannot keep a thread busy. Clients wait on one of their first; a request beyond times
/// out, as it does with a server.
const SEARCHED_MAX: usize = 4096;

impl Session {
    pub(super) fn deny_publish(&mut self, publish: &Publish<'_>, denial: Denial) {
        let violation = match (denial.reason, publish.reply) {
            (DenialReason::ReservedReply | DenialReason::ReplyNotOwn, Some(reply)) => {
                PermissionsViolation::PublishReply(reply)
            }
            _ => PermissionsViolation::Publish(publish.subject),
        };
        violation.push(&mut self.deferred);
        self.defer_no_responders(publish);
        self.denied(
            Operation::Publish,
            (publish.subject, publish.reply, None),
            publish.size,
            denial,
            false,
        );
    }

    pub(super) fn deny_header(&mut self, publish: &Publish<'_>, named: &[u8], denial: Denial) {
        PermissionsViolation::Publish(named).push(&mut self.deferred);
        self.defer_no_responders(publish);
        self.denied(
            Operation::Publish,
            (named, publish.reply, None),
            publish.size,
            denial,
            false,
        );
    }

    /// A denied request fails at once instead of timing out, where the client asked to be told.
    pub(super) fn defer_no_responders(&mut self, publish: &Publish<'_>) {
        let (true, Some(reply), Some(serving)) =
            (self.options.no_responders, publish.reply, &self.serving)
        else {
            return;
        };
        let waits =
            |sub: &&Subscription| sub.queue.is_none() && subject::is_subset(reply, &sub.subject);
        let waiting = serving.subs.iter().take(SEARCHED_MAX).find(waits);
        if let Some(sid) = waiting.map(|subscription| subscription.sid.clone()) {
            let named = serving.info.is_at_least_2_12().then_some(publish.subject);
            encode::no_responders(&mut self.deferred, reply, &sid, named);
            self.count_own_delivery(&sid);
        }
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
