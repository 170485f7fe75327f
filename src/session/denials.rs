//! What is said of an operation that is denied: the server's text, a 503 where the client asked for one, and the fact.

use std::time::Duration;

use super::event;
use super::subs::Subscription;
use super::{Denied, EventKind, Operation, Session};
use crate::policy::{Denial, DenialReason};
use crate::subject;
use crate::time::Timestamp;
use crate::wire::{PermissionsViolation, Publish, encode};

/// What may be looked through of the subscriptions for an answer that is made here ([`Subscriptions::find_where`]) before the
/// client pays a millisecond for it with time: a hundredth of that, so that many of them and a loop of requests cannot keep a
/// thread busy. What is left over counts for the next request.
///
/// [`Subscriptions::find_where`]: super::subs::Subscriptions::find_where
const LOOKED_FREE: u16 = 5_000;

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
        let Some(sid) = self.look_for(reply, |sub| sub.queue.is_none(), now) else {
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

    /// The id of the first subscription that `fits` an answer to `reply` that is made here.
    pub(super) fn look_for(
        &mut self,
        reply: &[u8],
        fits: impl Fn(&Subscription) -> bool,
        now: Timestamp,
    ) -> Option<Box<[u8]>> {
        let serving = self.serving.as_mut()?;
        let fits = |sub: &Subscription| {
            // Most are no patterns, and then it is one comparison.
            let may_fit = sub.is_pattern || *sub.subject == *reply;
            fits(sub) && may_fit && subject::is_subset(reply, &sub.subject)
        };
        let (found, looked) = serving.subs.find_where(fits);
        let found = found.map(|sub| sub.sid.clone());
        let looked = usize::from(self.looked).saturating_add(looked);
        let free = usize::from(LOOKED_FREE);
        self.looked = u16::try_from(looked % free).unwrap_or(LOOKED_FREE);
        let charge = u64::try_from(looked / free).unwrap_or(u64::MAX);
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use serde_json::json;

    use super::super::tests::{admission, serving};
    use super::super::{Taken, Timer};
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_451_820);

    /// A session that may subscribe to anything, with such subscriptions.
    fn with_subscriptions(text: &str) -> Session {
        let policy = json!({ "w": {
            "bind": [{ "app_role": "w" }], "upstream": "a", "subscribe": [">"], "inbox": "off", "broad": true,
        } });
        let mut session = serving(admission(&policy, &["w"], None));
        for line in text.split_inclusive('\n') {
            session.gives_way();
            let used = session
                .handle_client(&mut line.as_bytes().to_vec(), 0, NOW)
                .used;
            assert_eq!(used, line.len());
            let mut upstream = Vec::new();
            session
                .to_upstream()
                .drain_to(line.as_bytes(), &mut upstream);
            for _ in memchr::memmem::find_iter(&upstream, b"PING") {
                session.handle_upstream(b"PONG\r\n", 0, NOW);
            }
            session.to_client().drain_to(b"", &mut Vec::new());
        }
        session
    }

    /// How long the client is held back for so many denied requests, in milliseconds.
    fn held_for(session: &mut Session, reply: &str, requests: usize) -> u128 {
        let request = format!("PUB bad {reply} 0\r\n\r\n");
        let mut held = 0;
        for _ in 0..requests {
            let Taken { used, .. } =
                session.handle_client(&mut request.clone().into_bytes(), 0, NOW);
            assert_eq!(used, request.len());
            while session.poll_event(NOW).is_some() {}
            session.to_client().drain_to(b"", &mut Vec::new());
            if let Some(until) = session.timers.at(Timer::Resume) {
                held += until.since(NOW).as_millis();
                session.timers.clear(Timer::Resume);
            }
        }
        held
    }

    fn subscribed(subjects: impl Iterator<Item = String>) -> String {
        let mut text = String::new();
        for (sid, subject) in subjects.enumerate() {
            let _ = write!(text, "SUB {subject} {sid}\r\n");
        }
        text
    }

    #[test]
    fn who_has_an_inbox_and_no_more_is_not_held_back() {
        let mut session = with_subscriptions("SUB _INBOX.x.* 1\r\n");
        assert_eq!(held_for(&mut session, "_INBOX.x.1", 100), 0);
    }

    #[test]
    fn requests_are_paid_for_by_what_they_look_through() {
        let each = 24 + 1;
        for (subscriptions, requests) in [(100_usize, 1000), (1000, 100), (10_000, 10)] {
            let text = subscribed((0..subscriptions).map(|number| format!("s{number}.x.y.zzz")));
            let mut session = with_subscriptions(&text);
            let held = held_for(&mut session, "s.x.y.zzz", requests);
            let expected = (subscriptions * requests * each / usize::from(LOOKED_FREE)) as u128;
            assert!(held.abs_diff(expected) < 4, "{held} and not {expected}");
        }
    }

    #[test]
    fn long_subjects_are_paid_for_by_their_length() {
        let long = "a.".repeat(950);
        let text = subscribed((0..1000).map(|number| format!("{long}*.{number}")));
        let mut session = with_subscriptions(&text);
        for reply in [format!("{long}x.y"), "r".to_owned()] {
            let held = held_for(&mut session, &reply, 10);
            assert!(held > 10 * 760, "{held}");
        }
    }

    #[test]
    fn places_of_subscriptions_that_are_gone_are_paid_for_or_given_back() {
        let count = 30_000;
        let mut text = subscribed((0..count).map(|number| format!("s{number}")));
        for sid in 0..count - 1 {
            let _ = write!(text, "UNSUB {sid}\r\n");
        }
        let mut session = with_subscriptions(&text);
        assert_eq!(session.subscriptions(), 1);
        let held = held_for(&mut session, "reply", 10);
        assert!((60..70).contains(&held), "{held}");
        session.handle_client(
            &mut format!("UNSUB {}\r\nSUB t 1\r\n", count - 1).into_bytes(),
            0,
            NOW,
        );
        assert_eq!(
            held_for(&mut session, "reply", 10),
            0,
            "nothing is left of them"
        );
    }
}
