//! What a message names besides its subject and its reply: in headers, and in the bodies of requests to JetStream.

use super::{Judge, SPENT_AT_ONCE_MAX};
use crate::policy::rights::Verdict;
use crate::policy::verdict::{Denial, DenialReason};
use crate::wire::SideChannel;

impl Judge {
    /// Judges a subject that a header of a published message names.
    ///
    /// # Errors
    /// [`DenialReason::HeaderSubject`] with the rule, if one refused it; without, where one message asks too much.
    pub fn header_subject(&mut self, name: SideChannel, subject: &[u8]) -> Result<(), Denial> {
        self.spend(subject);
        if self.spent > SPENT_AT_ONCE_MAX {
            return Err(self.denial(DenialReason::HeaderSubject, None));
        }
        let verdict = match name {
            SideChannel::TraceDest | SideChannel::ScheduleTarget => {
                self.permissions.publish(subject)
            }
            SideChannel::ScheduleSource => self.permissions.reads(subject),
        };
        match verdict {
            Verdict::Granted(_) => Ok(()),
            Verdict::Refused(_, rule) => Err(self.denial(DenialReason::HeaderSubject, rule)),
        }
    }

    /// Whether reply subjects, and subjects for the server to deliver to, are judged at all: under `inbox: private`.
    pub fn judges_replies(&self) -> bool {
        self.permissions.inboxes().replies_judged
    }

    /// Judges a subject that the body of a request to JetStream names for the server to deliver to: like a reply, except
    /// that it may lie in an inbox that nobody holds, since some clients listen there only when the consumer is made.
    ///
    /// # Errors
    /// [`DenialReason::DeliverSubject`].
    pub fn deliver_subject(&mut self, subject: &[u8]) -> Result<(), Denial> {
        let own = self.held.contains(subject) || self.permissions.is_below_own_prefix(subject);
        if own || self.may_publish(subject) || self.held.may_claim(subject) {
            return Ok(());
        }
        Err(self.unreadable_target())
    }

    /// The denial of a request of which nobody can say where it has the server deliver to.
    pub fn unreadable_target(&self) -> Denial {
        self.denial(DenialReason::DeliverSubject, None)
    }

    /// Whether what the configuration of a stream names is judged: unless a role has `stream_config: any`.
    pub fn judges_streams(&self) -> bool {
        self.permissions.inboxes().streams_judged
    }

    /// Judges a subject that the server is asked to publish to by the configuration of a stream, `*` and `>` standing for
    /// what is filled in.
    ///
    /// # Errors
    /// [`DenialReason::StreamConfig`] with the rule, if one refused it.
    pub fn stream_destination(&self, subject: &[u8]) -> Result<(), Denial> {
        self.of_stream(self.permissions.publish(subject))
    }

    /// Judges a subject whose messages a stream is to hold.
    ///
    /// # Errors
    /// As [`Self::stream_destination`].
    pub fn stream_subject(&self, subject: &[u8]) -> Result<(), Denial> {
        self.of_stream(self.permissions.reads(subject))
    }

    /// The denial of a configuration of a stream of which nobody can say what it names.
    pub fn unreadable_stream(&self) -> Denial {
        self.denial(DenialReason::StreamConfig, None)
    }

    fn of_stream(&self, verdict: Verdict) -> Result<(), Denial> {
        match verdict {
            Verdict::Granted(_) => Ok(()),
            Verdict::Refused(_, rule) => Err(self.denial(DenialReason::StreamConfig, rule)),
        }
    }
}
