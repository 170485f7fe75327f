//! The subscriptions of a serving session: SUB, UNSUB, what a change of policy does to them, and the one request that is
//! answered here.

use std::sync::Arc;

use super::subs::{Delivery, Subscription};
use super::{Operation, Outbox, Serving, Session};
use crate::policy::Permissions;
use crate::subject;
use crate::time::Timestamp;
use crate::wire::{ErrText, PermissionsViolation, encode};

/// What a subscription, or its end, counts in the client's turn, and an eighth of the bytes that it names: either takes a
/// microsecond or less for the short ones, and a buffer holds as many as would keep a thread for tens of milliseconds.
const PRICE: usize = 64;

const fn price(named: usize) -> usize {
    PRICE.saturating_add(named / 8)
}

impl Session {
    pub(super) fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        let named = subject.len().saturating_add(sid.len());
        let named = named.saturating_add(queue.map_or(0, <[u8]>::len));
        serving.judge.charge(price(named));
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
        // The order of nats-server: the limit, then a sid that is taken, and only then the subject.
        let taken = serving.subs.contains(sid);
        let refusal = if serving.subs.len() >= serving.bounds.subscriptions
            || serving.subs.bytes().saturating_add(named) > self.opening.limits.subscription_bytes
            || (self.scarce && serving.subs.held().saturating_add(named) > Self::SMALL)
        {
            Some(ErrText::MaximumSubscriptionsExceeded)
        } else if !taken && !subject::is_valid_subject(subject) {
            Some(ErrText::InvalidSubject)
        } else {
            None
        };
        if let Some(text) = refusal {
            serving.judge.unsubscribed(subject, queue);
            self.to_client.interject(|out| text.push(out));
            return;
        }
        if taken {
            // The first subscription of a sid stays; the server says nothing of the second.
            serving.judge.unsubscribed(subject, queue);
        } else {
            serving.subs.insert(Subscription {
                sid: sid.into(),
                subject: subject.into(),
                queue: queue.map(Into::into),
                is_pattern: subject::has_wildcard(subject),
                counted_here: permit.is_filtered(),
                made_after: serving.fences.changes(),
                max: None,
                delivered: 0,
            });
            let part = serving.fences.taken_up(sid);
            if part {
                serving.fences.bar(Vec::new());
            }
            self.to_upstream.interject(|out| {
                if part {
                    out.extend_from_slice(b"PING\r\n");
                }
                encode::subscribe(out, permit.subject(), permit.queue(), sid);
            });
        }
        self.push_ok();
    }

    pub(super) fn unsubscribe(&mut self, sid: &[u8], max: Option<u32>) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        serving.judge.charge(price(sid.len()));
        if let Some(subscription) = serving.subs.find(sid) {
            let later = max
                .map(u64::from)
                .filter(|max| *max > subscription.delivered);
            subscription.max = later;
            let counted_here = subscription.counted_here;
            let ask = if later.is_none() {
                serving.forget(sid);
                serving.fences.left(sid)
            } else {
                !counted_here && serving.fences.limited(sid)
            };
            if !(counted_here && later.is_some()) {
                let max = later.and(max);
                self.to_upstream
                    .interject(|out| encode::unsubscribe(out, sid, max));
            }
            if ask {
                serving.fences.bar(Vec::new());
                self.to_upstream
                    .interject(|out| out.extend_from_slice(b"PING\r\n"));
            }
        }
        self.push_ok();
    }

    /// Ends subscriptions upstream; nothing that is still under way on them is delivered.
    pub(super) fn end_upstream(&mut self, sids: Vec<Box<[u8]>>) {
        if let Some(serving) = &mut self.serving
            && !sids.is_empty()
        {
            push_ends(&mut self.to_upstream, &sids);
            serving.fences.bar(sids);
        }
    }

    /// The policy changed: every live subscription is judged anew, and those that are lost are ended on both sides, as
    /// nats-server does on reload (`client.go:processSubsOnConfigReload`).
    pub fn handle_policy(&mut self, permissions: Arc<Permissions>) {
        if self.close_reason().is_some() {
            return;
        }
        let Some(serving) = &mut self.serving else {
            return;
        };
        serving.judge.replace(permissions);
        let mut lost = Vec::new();
        let mut observed = Vec::new();
        for mut subscription in serving.subs.drain() {
            let (subject, queue) = (&*subscription.subject, subscription.queue.as_deref());
            let permit = match serving.judge.subscribe(subject, queue) {
                Ok(permit) => permit,
                Err(denial) => match serving.judge.overrule_subscribe(subject, queue, &denial) {
                    Some(permit) => {
                        observed.push((subscription.clone(), denial));
                        permit
                    }
                    None => {
                        lost.push((subscription, denial));
                        continue;
                    }
                },
            };
            // Once counted here, upstream does not know the number.
            subscription.counted_here |= permit.is_filtered();
            serving.subs.insert(subscription);
        }
        let sids: Vec<_> = lost.iter().map(|(gone, _)| gone.sid.clone()).collect();
        if serving.subs.ever() {
            push_ends(&mut self.to_upstream, &sids);
            serving.fences.bar_all_but_kept(sids);
        }
        for (kept, denial) in observed {
            let names = (&*kept.subject, None, kept.queue.as_deref());
            self.denied(Operation::Subscribe, names, 0, denial, true);
        }
        for (gone, denial) in lost {
            let queue = gone.queue.as_deref();
            let violation = PermissionsViolation::LostSubscription(&gone.subject, queue, &gone.sid);
            self.to_client.interject(|out| violation.push(out));
            let names = (&*gone.subject, None, queue);
            self.denied(Operation::Subscribe, names, 0, denial, false);
        }
    }

    /// A second CONNECT takes all subscriptions away.
    pub(super) fn drop_subscriptions(&mut self) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        let gone = serving.subs.drain();
        for subscription in &gone {
            serving
                .judge
                .unsubscribed(&subscription.subject, subscription.queue.as_deref());
        }
        self.end_upstream(gone.into_iter().map(|gone| gone.sid).collect());
    }

    /// A message that natsentry itself gives the client on `sid` counts like one of upstream, which does not know of it:
    /// so the number is kept here from then on.
    pub(super) fn count_own_delivery(&mut self, sid: &[u8]) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        if let Some(subscription) = serving.subs.find(sid) {
            subscription.counted_here = true;
        }
        if let Delivery::Last { .. } = serving.subs.count(sid) {
            serving.forget(sid);
            self.end_upstream(vec![sid.into()]);
        }
    }

    /// Answers `$SYS.REQ.USER.INFO` for the Entra identity, on the subscription of this session that waits for it.
    pub(super) fn answer_user_info(&mut self, reply: &[u8], now: Timestamp) {
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
        if let Some(sid) = self.look_for(reply, |_| true, now) {
            encode::message(&mut self.deferred, reply, &sid, &payload);
            self.count_own_delivery(&sid);
        }
        if self.verbose {
            self.deferred.splice(0..0, *b"+OK\r\n");
        }
    }
}

impl Serving {
    /// Whether the role limits messages or bytes per second.
    #[inline]
    pub(super) const fn is_metered(&self) -> bool {
        self.messages.is_some() || self.bytes.is_some()
    }

    /// Takes a subscription out, and lets go of the inbox it held.
    pub(super) fn forget(&mut self, sid: &[u8]) {
        if let Some(gone) = self.subs.remove(sid) {
            self.judge
                .unsubscribed(&gone.subject, gone.queue.as_deref());
        }
    }
}

/// UNSUB for each sid, and the PING that tells when upstream has seen them.
fn push_ends(to_upstream: &mut Outbox, sids: &[Box<[u8]>]) {
    to_upstream.interject(|out| {
        for sid in sids {
            encode::unsubscribe(out, sid, None);
        }
        out.extend_from_slice(b"PING\r\n");
    });
}
