//! `mode: observe`: what was denied passes all the same, as far as the server itself would let it.

use super::Judge;
use crate::policy::reserved::{is_reserved_reply, is_reserved_subject};
use crate::policy::verdict::{Denial, DenialReason, Permit, SubscribePermit};

impl Judge {
    /// In `mode: observe`, leave for a publish that was just denied. The denial is to be recorded all the same. What the
    /// server itself would refuse stays refused.
    pub fn overrule_publish<'a>(
        &self,
        subject: &'a [u8],
        reply: Option<&'a [u8]>,
        denial: &Denial,
    ) -> Option<Permit<'a>> {
        let overruled = self.overrules(denial)
            && !is_reserved_subject(subject)
            && !reply.is_some_and(is_reserved_reply);
        overruled.then_some(Permit { subject, reply })
    }

    /// In `mode: observe`, leave for a subscription that was just denied. As [`Self::overrule_publish`].
    pub fn overrule_subscribe<'a>(
        &self,
        subject: &'a [u8],
        queue: Option<&'a [u8]>,
        denial: &Denial,
    ) -> Option<SubscribePermit<'a>> {
        self.overrules(denial).then_some(SubscribePermit {
            subject,
            queue,
            filtered: false,
        })
    }

    fn overrules(&self, denial: &Denial) -> bool {
        use DenialReason as R;
        let ours = match denial.reason {
            R::NotGranted
            | R::Denied
            | R::ReplyNotOwn
            | R::InboxTaken
            | R::QueueOverlapsDeny
            | R::HeaderSubject
            | R::DeliverSubject
            | R::StreamConfig => true,
            R::ReservedSubject | R::ReservedReply | R::SystemQueue => false,
        };
        ours && self.permissions.is_observing()
    }
}
