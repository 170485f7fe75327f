//! SUB and UNSUB of a serving session, and the one request that is answered here.

use super::subs::Subscription;
use super::{Operation, Serving, Session};
use crate::subject;
use crate::wire::{ErrText, PermissionsViolation, encode};

impl Session {
    pub(super) fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        let permit = match serving.judge.subscribe(subject, queue) {
            Ok(permit) => permit,
            Err(denial) => {
                let overruled = serving.judge.overrule_subscribe(subject, queue, &denial);
                let names = (subject, None, queue);
                self.denied(Operation::Subscribe, names, 0, denial, overruled.is_some());
                let Some(permit) = overruled else {
                    let violation = match queue {
                        Some(queue) => PermissionsViolation::QueueSubscription(subject, queue),
                        None => PermissionsViolation::Subscription(subject),
                    };
                    self.to_client.interject(|out| violation.push(out));
                    return;
                };
                permit
            }
        };
        let Some(serving) = &mut self.serving else {
            return;
        };
        let refusal = if !subject::is_valid_subject(subject) {
            Some(ErrText::InvalidSubject)
        } else if serving.subs.len() >= serving.subscriptions_max {
            Some(ErrText::MaximumSubscriptionsExceeded)
        } else {
            None
        };
        if let Some(text) = refusal {
            serving.judge.unsubscribed(subject, queue);
            self.to_client.interject(|out| text.push(out));
            return;
        }
        if serving.subs.contains(sid) {
            // The first subscription of a sid stays; the server says nothing of the second.
            serving.judge.unsubscribed(subject, queue);
        } else {
            serving.revoked.remove(sid);
            serving.subs.insert(Subscription {
                sid: sid.into(),
                subject: subject.into(),
                queue: queue.map(Into::into),
                filtered: permit.is_filtered(),
                max: None,
                delivered: 0,
            });
            self.to_upstream
                .interject(|out| encode::subscribe(out, permit.subject(), permit.queue(), sid));
        }
        self.push_ok();
    }

    pub(super) fn unsubscribe(&mut self, sid: &[u8], max: Option<u32>) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        if let Some(subscription) = serving.subs.find(sid) {
            let later = max
                .map(u64::from)
                .filter(|max| *max > subscription.delivered);
            subscription.max = later;
            let filtered = subscription.filtered;
            if later.is_none() {
                serving.forget(sid);
            }
            if !(filtered && later.is_some()) {
                let max = later.and(max);
                self.to_upstream
                    .interject(|out| encode::unsubscribe(out, sid, max));
            }
        }
        self.push_ok();
    }

    /// Answers `$SYS.REQ.USER.INFO` for the Entra identity, on the subscription of this session that waits for it.
    pub(super) fn answer_user_info(&mut self, reply: &[u8]) {
        let Some(serving) = &self.serving else { return };
        let identity = &serving.identity;
        let answer = serde_json::json!({
            "server": {
                "name": serving.info.server_name,
                "id": serving.info.server_id,
                "ver": serving.info.version,
                "jetstream": serving.info.jetstream,
            },
            "data": {
                "user": identity.oid,
                "account": identity.tid,
                "expires": identity.expires_at.as_secs(),
            },
        });
        let payload = answer.to_string().into_bytes();
        let listening = serving
            .subs
            .iter()
            .find(|sub| subject::is_subset(reply, &sub.subject));
        if let Some(subscription) = listening {
            encode::message(&mut self.deferred, reply, &subscription.sid, &payload);
        }
        if self.verbose {
            self.deferred.splice(0..0, *b"+OK\r\n");
        }
    }
}

impl Serving {
    /// Takes a subscription out, and lets go of the inbox it held.
    pub(super) fn forget(&mut self, sid: &[u8]) {
        if let Some(gone) = self.subs.remove(sid) {
            self.judge
                .unsubscribed(&gone.subject, gone.queue.as_deref());
        }
    }
}
