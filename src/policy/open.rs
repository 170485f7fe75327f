//! Open ground: all subjects below one beginning, granted together, so that the next one of them needs no question.
//!
//! Owns: what a subject must be to lie there. Must never: outlast the permissions it was made from, or take in a subject
//! that a question would be needed for.

use super::verdict::Permit;
use crate::subject::{Below, Reach, are_plain_tokens, begins_with, is_plain_token};

/// Subjects that may be published to, by the grants alone. Made by `Judge::open` for the one pass under way, in which the
/// permissions cannot change.
#[derive(Clone, Copy, Debug)]
pub struct OpenGround<'a> {
    prefix: &'a [u8],
    below: Below,
}

impl<'a> OpenGround<'a> {
    pub(super) fn around(subject: &'a [u8], reach: Reach) -> Option<Self> {
        Some(Self {
            prefix: subject.get(..reach.prefix)?,
            below: reach.below,
        })
    }

    /// What all of its subjects begin with.
    pub const fn beginning(&self) -> &'a [u8] {
        self.prefix
    }

    /// Leave for a publish without a reply, if its subject lies here. It then has no byte up to SP. None says nothing.
    #[inline(always)]
    pub fn permit<'b>(&self, subject: &'b [u8]) -> Option<Permit<'b>> {
        let below = subject.get(self.prefix.len()..)?;
        let here = begins_with(subject, self.prefix) && self.holds(below);
        here.then_some(Permit {
            subject,
            reply: None,
        })
    }

    /// Whether [`Self::permit`] permits the subject that consists of the beginning and of `below`.
    #[inline(always)]
    pub fn holds(&self, below: &[u8]) -> bool {
        // Reserved subjects begin so. Behind a beginning that is not reserved, nothing is.
        let may_be_reserved = self.prefix.is_empty() && matches!(below.first(), Some(b'$' | b'_'));
        !may_be_reserved
            && match self.below {
                Below::OneToken => is_plain_token(below),
                Below::Anything => are_plain_tokens(below),
            }
    }
}
