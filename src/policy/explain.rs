//! Why something is allowed or not, for people: `natsentry explain` and the tests that a policy carries.
//!
//! Owns: one operation judged as a fresh session would judge it, with the line of the policy that decided. Must never:
//! judge by other rules than the [`Judge`] does.

use std::sync::Arc;

use super::assign::Assignment;
use super::compile::Policy;
use super::inbox::InboxRegistry;
use super::judge::Judge;
use super::rights::{Permissions, Verdict};
use super::verdict::{Denial, DenialReason};
use crate::time::Timestamp;

/// What came of one operation, and which line of the policy decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The line that grants or refuses it, as `roles.<role>.publish[0]`; none where nothing grants it, and for inboxes.
    pub rule: Option<Arc<str>>,
    /// Why it is refused; none where it is allowed.
    pub reason: Option<DenialReason>,
    /// For an allowed subscription: whether deliveries are filtered by a deny entry.
    pub filtered: bool,
}

impl Policy {
    /// Whether an identity with this assignment may publish to the subject, and why.
    pub fn explain_publish(&self, assignment: &Assignment, subject: &[u8]) -> Explanation {
        let permissions = &assignment.permissions;
        match judge(permissions).publish(subject, None, Timestamp::default()) {
            Ok(_) => Explanation {
                allowed: true,
                rule: granted_by(permissions, permissions.publish(subject)),
                reason: None,
                filtered: false,
            },
            Err(denial) => refused(denial),
        }
    }

    /// Whether an identity with this assignment may subscribe, and why. An inbox of one's own is judged as one that
    /// nobody else holds.
    pub fn explain_subscribe(
        &self,
        assignment: &Assignment,
        subject: &[u8],
        queue: Option<&[u8]>,
    ) -> Explanation {
        let permissions = &assignment.permissions;
        match judge(permissions).subscribe(subject, queue) {
            Ok(permit) => Explanation {
                allowed: true,
                rule: granted_by(permissions, permissions.subscribe(subject, queue).verdict),
                reason: None,
                filtered: permit.is_filtered(),
            },
            Err(denial) => refused(denial),
        }
    }
}

fn judge(permissions: &Arc<Permissions>) -> Judge {
    Judge::new(
        Arc::clone(permissions),
        Arc::new(InboxRegistry::default()),
        0,
    )
}

fn granted_by(permissions: &Permissions, verdict: Verdict) -> Option<Arc<str>> {
    match verdict {
        Verdict::Granted(rule) => permissions.rule(rule),
        Verdict::Refused(..) => None,
    }
}

fn refused(denial: Denial) -> Explanation {
    Explanation {
        allowed: false,
        rule: denial.rule,
        reason: Some(denial.reason),
        filtered: false,
    }
}
