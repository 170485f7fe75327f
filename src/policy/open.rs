//! Open ground: all subjects below one beginning, or between that and one end, granted together, so that the next one of
//! them needs no question.
//!
//! Owns: what a subject must be to lie there. Must never: outlast the permissions it was made from, or take in a subject
//! that a question would be needed for.

use std::ops::Range;

use super::verdict::Permit;
use crate::subject::{Below, Reach, are_plain_tokens, begins_with, is_plain_token};

/// Subjects that may be published to, by the grants alone. Made by `Judge::open` for the one pass under way, in which the
/// permissions cannot change.
#[derive(Clone, Copy, Debug)]
pub struct OpenGround<'a> {
    prefix: &'a [u8],
    below: Below,
    tail: &'a [u8],
}

impl<'a> OpenGround<'a> {
    pub(super) fn around(subject: &'a [u8], reach: Reach) -> Option<Self> {
        let end = subject.len().checked_sub(reach.tail)?;
        Some(Self {
            prefix: subject.get(..reach.prefix)?,
            below: reach.below,
            tail: subject.get(end..)?,
        })
    }

    /// Where in a subject stands what differs from that of the others, if it begins and ends as they do.
    #[inline(always)]
    pub fn varying(&self, subject: &[u8]) -> Option<Range<usize>> {
        let end = subject.len().checked_sub(self.tail.len())?;
        let begin = self.prefix.len();
        let here = begin <= end
            && begins_with(subject, self.prefix)
            && begins_with(subject.get(end..)?, self.tail);
        here.then_some(begin..end)
    }

    /// Leave for a publish without a reply, if its subject lies here. It then has no byte up to SP. None says nothing.
    #[inline(always)]
    pub fn permit<'b>(&self, subject: &'b [u8]) -> Option<Permit<'b>> {
        let varying = subject.get(self.varying(subject)?)?;
        self.holds(varying).then_some(Permit {
            subject,
            reply: None,
        })
    }

    /// Whether [`Self::permit`] permits the subject that consists of the beginning, of `below` and of the end.
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
