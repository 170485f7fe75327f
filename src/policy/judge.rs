//! The judge of one session: the only maker of `Permit` and `SubscribePermit`.
//!
//! Owns: what a session's decisions depend on besides its permissions: the inboxes it holds, the requests it may still
//! answer, and a small memory of answers. Must never: read a clock, allocate for an operation that was granted before,
//! or hand out a permit for anything but the very bytes that were judged.

mod named;
mod observe;

use std::sync::Arc;

use super::cache::AnswerCache;
use super::hearing::Hearing;
use super::inbox::{Claim, HeldInboxes, InboxRegistry};
use super::open::OpenGround;
use super::reserved::{is_reserved_reply, is_reserved_subject};
use super::responses::OpenRequests;
use super::rights::{Permissions, RuleId, Verdict};
use super::verdict::{Denial, DenialReason, Permit, SubscribePermit};
use crate::subject::has_wildcard;
use crate::time::Timestamp;

/// Decides for one session. Not shared; give it to the task that owns the session.
#[derive(Debug)]
pub struct Judge {
    permissions: Arc<Permissions>,
    held: HeldInboxes,
    published: AnswerCache,
    delivered: AnswerCache,
    requests: Option<Box<OpenRequests>>,
    /// What was asked of the deny entries since [`Judge::begin`].
    spent: usize,
}

/// What the client may ask of the deny entries before others get their turn ([`Permissions::price`]).
const SPENT_MAX: usize = 20_000;

/// The same for the headers of one message, or one body of a request, of which nothing can be put off.
const SPENT_AT_ONCE_MAX: usize = 50 * SPENT_MAX;

/// Places of the deny entries that can be looked at in the time of a unit ([`Judge::charge`]).
const STEPS_OF_A_UNIT: usize = 4;

impl Judge {
    /// A judge with these permissions. `session` must be unique among the live sessions that share the registry.
    pub fn new(permissions: Arc<Permissions>, inboxes: Arc<InboxRegistry>, session: u64) -> Self {
        let owner = Arc::clone(permissions.owner());
        Self {
            permissions,
            held: HeldInboxes::new(inboxes, owner, session),
            published: AnswerCache::default(),
            delivered: AnswerCache::default(),
            requests: None,
            spent: 0,
        }
    }

    /// Whose permissions these are: [`Permissions::owner`].
    pub fn owner(&self) -> &Arc<str> {
        self.permissions.owner()
    }

    /// The client's turn begins.
    pub const fn begin(&mut self) {
        self.spent = 0;
    }

    /// Whether the client has asked so much in its turn that the rest is to wait for the next one.
    #[inline]
    pub const fn is_spent(&self) -> bool {
        self.spent > SPENT_MAX
    }

    /// Counts to the client's turn what an operation takes besides what is asked here: a unit is some 20 ns.
    pub const fn charge(&mut self, price: usize) {
        self.spent = self.spent.saturating_add(price);
    }

    /// Whether so many subjects with wildcards may be judged at once. They count to the client's turn.
    pub fn can_judge<'a>(&mut self, subjects: impl Iterator<Item = &'a [u8]>) -> bool {
        let prices = subjects.map(|subject| self.permissions.price(subject));
        let price = prices.fold(0, usize::saturating_add);
        self.charge(price);
        price <= SPENT_AT_ONCE_MAX
    }

    /// The permissions in force.
    pub const fn permissions(&self) -> &Arc<Permissions> {
        &self.permissions
    }

    /// Judges a PUB or HPUB, in the order of nats-server (`client.go:processInboundClientMsg`): reserved subject,
    /// permission, open request, reserved reply; then the reply rule of `inbox: private`.
    ///
    /// # Errors
    /// The denial; the session goes on.
    pub fn publish<'a>(
        &mut self,
        subject: &'a [u8],
        reply: Option<&'a [u8]>,
        now: Timestamp,
    ) -> Result<Permit<'a>, Denial> {
        if !self.answers(subject, now) && !self.may_publish(subject) {
            return Err(self.not_published(subject));
        }
        if let Some(reply) = reply {
            self.judge_reply(reply)?;
        }
        Ok(Permit { subject, reply })
    }

    /// Leave for a publish without a reply by the grants alone. None says nothing; [`Self::publish`] does.
    #[inline]
    pub fn grant<'a>(&mut self, subject: &'a [u8]) -> Option<Permit<'a>> {
        (!self.is_spent() && self.may_publish(subject)).then_some(Permit {
            subject,
            reply: None,
        })
    }

    /// Leave for a publish without a reply that answers a request, which uses an answer up. Likewise.
    #[inline]
    pub fn answer<'a>(&mut self, subject: &'a [u8], now: Timestamp) -> Option<Permit<'a>> {
        self.answers(subject, now).then_some(Permit {
            subject,
            reply: None,
        })
    }

    /// Whether any request is open.
    #[inline]
    pub fn may_answer(&self) -> bool {
        self.requests
            .as_ref()
            .is_some_and(|requests| !requests.is_empty())
    }

    /// The open ground around a subject, if it has any, on which further subjects are granted without a question. Not to be
    /// kept beyond the pass under way. What is looked at of the deny entries for that counts to the client's turn.
    pub fn open<'a>(&mut self, subject: &'a [u8]) -> Option<OpenGround<'a>> {
        let mut steps = 0;
        let reach = self.permissions.reach(subject, &mut steps);
        self.charge(steps / STEPS_OF_A_UNIT);
        OpenGround::around(subject, reach?)
    }

    /// Leave for the same publish with a reply: it lies in an inbox that is held, or was granted before or is not judged,
    /// and is not reserved. Likewise.
    #[inline]
    pub fn recall_reply<'a>(&self, permit: Permit<'a>, reply: &'a [u8]) -> Option<Permit<'a>> {
        let judged = self.permissions.inboxes().replies_judged;
        let own = judged && self.held.contains(reply);
        let granted = || !judged || self.published.recall(reply) == Some(true);
        // A subject of the server's own may need more than a grant.
        let good = own || (granted() && reply.first() != Some(&b'$') && !is_reserved_reply(reply));
        good.then_some(Permit {
            reply: Some(reply),
            ..permit
        })
    }

    /// Length of a beginning of the reply below which [`Self::recall_reply`] leaves every reply: all of it lies in an inbox that
    /// is held. Not to be kept beyond the pass under way.
    pub fn own_beginning(&self, reply: &[u8]) -> Option<usize> {
        let judged = self.permissions.inboxes().replies_judged;
        judged.then(|| self.held.beginning(reply)).flatten()
    }

    /// Judges a SUB. A permit for an inbox of the session's own claims it; every permitted subscription that ends, or
    /// that is not made after all, must be told to [`Self::unsubscribed`] once.
    ///
    /// # Errors
    /// The denial; the session goes on.
    pub fn subscribe<'a>(
        &mut self,
        subject: &'a [u8],
        queue: Option<&'a [u8]>,
    ) -> Result<SubscribePermit<'a>, Denial> {
        self.spend(subject);
        if queue.is_some() {
            self.charge(self.permissions.price_of_queue());
        }
        let judged = self.permissions.subscribe(subject, queue);
        let filtered = judged.filtered && !self.permissions.is_observing();
        let permit = SubscribePermit {
            subject,
            queue,
            filtered,
        };
        let (reason, rule) = match judged.verdict {
            Verdict::Granted(_) => {
                // Also replies to an inbox that some other grant contains must be known as the session's own.
                self.claim(subject, queue);
                return Ok(permit);
            }
            Verdict::Refused(reason, rule) => (reason, rule),
        };
        if reason != DenialReason::NotGranted {
            return Err(self.denial(reason, rule));
        }
        if self.permissions.is_below_own_prefix(subject) && queue.is_none() {
            return Ok(permit);
        }
        match self.claim(subject, queue) {
            Claim::Held => Ok(permit),
            Claim::Taken => Err(self.denial(DenialReason::InboxTaken, None)),
            Claim::NotAnInbox => Err(self.denial(reason, rule)),
        }
    }

    /// A permitted subscription ended. Gives its inbox back when it was the last one there.
    pub fn unsubscribed(&mut self, subject: &[u8], queue: Option<&[u8]>) {
        if queue.is_none() {
            self.held.release(subject);
        }
    }

    /// Whether any delivery can be kept back at all; where not, [`Self::delivers`] need not be asked.
    pub fn filters_deliveries(&self) -> bool {
        self.permissions.may_keep_back()
    }

    /// Whether a message with this subject may be delivered to the client. The subject is the message's own, which for
    /// JetStream is not the one of the subscription.
    #[inline]
    pub fn delivers(&mut self, subject: &[u8]) -> bool {
        if let Some(answer) = self.delivered.recall(subject) {
            return answer;
        }
        self.delivers_this(subject)
    }

    fn delivers_this(&mut self, subject: &[u8]) -> bool {
        if !self.filters_deliveries() {
            return true;
        }
        let answer = self.permissions.delivers(subject);
        self.delivered.remember(subject, answer);
        answer
    }

    /// The denial to record for a message that [`Self::delivers`] kept back.
    pub fn kept_back(&self, subject: &[u8]) -> Denial {
        self.denial(DenialReason::Denied, self.permissions.keeps_back(subject))
    }

    /// Whether deliveries with a reply subject have to be told to [`Self::delivered`].
    pub fn tracks_replies(&self) -> bool {
        self.permissions.responses().is_some()
    }

    /// Judges the deliveries of one pass, now.
    #[inline]
    pub fn hear<'a>(&mut self, now: Timestamp) -> Hearing<'a, '_> {
        Hearing::new(
            &self.permissions,
            &mut self.delivered,
            &mut self.requests,
            now,
        )
    }

    /// A message with this reply subject was delivered to the client: it may answer there, unless it may publish there
    /// anyway. With wildcards in it that is not asked: others choose it, and the answer would take long.
    pub fn delivered(&mut self, reply: &[u8], now: Timestamp) {
        let Some(rule) = self.permissions.responses() else {
            return;
        };
        let known = self.published.recall(reply);
        let granted = || self.permissions.publish(reply).is_granted();
        if !known.unwrap_or_else(|| !has_wildcard(reply) && granted()) {
            self.requests.get_or_insert_default().open(reply, rule, now);
        }
    }

    /// Bytes of memory that peers make it hold: of the requests that may be answered.
    pub fn held(&self) -> usize {
        self.requests.as_ref().map_or(0, |requests| requests.held())
    }

    /// Bytes of all memory that it holds: of those and of remembered answers, with the room of what is gone.
    pub fn footprint(&self) -> usize {
        let requests = self.requests.as_ref();
        let answers = self.published.held().saturating_add(self.delivered.held());
        answers.saturating_add(requests.map_or(0, |requests| requests.footprint()))
    }

    /// Puts new permissions in force. What was remembered is forgotten; inboxes and open requests are kept, the latter
    /// as far as the new permissions have `respond`. The identity must be the same one. Every live subscription is to be
    /// judged again by [`Self::subscribe`], which counts it anew.
    pub fn replace(&mut self, permissions: Arc<Permissions>) {
        if permissions.responses().is_none() {
            self.requests = None;
        }
        self.permissions = permissions;
        self.held.count_anew();
        self.forget();
    }

    /// Takes back the leave to answer what was asked before: a second CONNECT puts an end to it (nats-server
    /// `client.go:setPermissions`).
    pub fn forget_requests(&mut self) {
        self.requests = None;
    }

    /// Gives back what can be found out again, and the room of requests that are no longer open; for sessions that went idle.
    pub fn rest(&mut self, now: Timestamp) {
        self.forget();
        if let (Some(requests), Some(rule)) = (&mut self.requests, self.permissions.responses()) {
            requests.rest(rule, now);
        }
        self.requests.take_if(|requests| requests.is_empty());
    }

    fn forget(&mut self) {
        self.published.clear();
        self.delivered.clear();
    }

    fn spend(&mut self, subject: &[u8]) {
        self.charge(self.permissions.price(subject));
    }

    /// Whether the grants alone allow a publish; the answer is remembered.
    #[inline]
    fn may_publish(&mut self, subject: &[u8]) -> bool {
        if let Some(answer) = self.published.recall(subject) {
            return answer;
        }
        self.spend(subject);
        let answer = self.permissions.publish(subject).is_granted();
        self.published.remember(subject, answer);
        answer
    }

    /// Whether the subject is the reply of an open request, of which an answer is used up. As in nats-server an answer to a
    /// received request is not stopped by a deny entry. It asks for the grants first; here a request is not opened at all
    /// where they allow to publish, so that the quicker question can come first.
    #[inline]
    fn answers(&mut self, subject: &[u8], now: Timestamp) -> bool {
        match (&mut self.requests, self.permissions.responses()) {
            (Some(requests), Some(rule)) if !requests.is_empty() => {
                requests.answer(subject, rule, now) && !is_reserved_subject(subject)
            }
            _ => false,
        }
    }

    /// Why a subject may not be published to.
    #[cold]
    fn not_published(&self, subject: &[u8]) -> Denial {
        match self.permissions.publish(subject) {
            Verdict::Refused(reason, rule) => self.denial(reason, rule),
            Verdict::Granted(_) => self.denial(DenialReason::NotGranted, None),
        }
    }

    /// The reply of a publish: never a reserved one; under `inbox: private` in an inbox of the session's own, or a
    /// subject that it may publish to.
    #[inline]
    fn judge_reply(&mut self, reply: &[u8]) -> Result<(), Denial> {
        if self.permissions.inboxes().replies_judged {
            if self.held.contains(reply) || self.permissions.is_below_own_prefix(reply) {
                return Ok(());
            }
            if !is_reserved_reply(reply) && self.may_publish(reply) {
                return Ok(());
            }
        }
        if is_reserved_reply(reply) {
            return Err(self.denial(DenialReason::ReservedReply, None));
        }
        if self.permissions.inboxes().replies_judged {
            return Err(self.denial(DenialReason::ReplyNotOwn, None));
        }
        Ok(())
    }

    fn claim(&mut self, subject: &[u8], queue: Option<&[u8]>) -> Claim {
        if queue.is_some() || !self.permissions.inboxes().own {
            return Claim::NotAnInbox;
        }
        self.held.claim(subject)
    }

    #[cold]
    fn denial(&self, reason: DenialReason, rule: Option<RuleId>) -> Denial {
        Denial {
            reason,
            rule: rule.and_then(|rule| self.permissions.rule(rule)),
        }
    }
}
