//! Where the patterns of a set stand behind one beginning, so that subjects which share it are matched from there on.
//!
//! Must never: answer otherwise than the set would for the whole subject.

use smallvec::SmallVec;

use super::DOT;
use super::filled::FilledSet;

/// Nodes of a set that the tokens of a beginning may lead to; each is a walk of its own for each subject.
const NODES: usize = 4;

/// A set behind a beginning. Made by [`FilledSet::trail`].
#[derive(Clone, Debug)]
pub struct Trail<'a> {
    set: FilledSet<'a>,
    nodes: SmallVec<[u32; NODES]>,
}

impl<'a> FilledSet<'a> {
    /// Where the set stands behind a beginning: no byte at all, or tokens with a dot behind each. None where a pattern matches
    /// whatever follows, where a token is empty, and where the beginning leads to too many places.
    pub fn trail(&self, beginning: &[u8]) -> Option<Trail<'a>> {
        let mut nodes: SmallVec<[u32; NODES]> = SmallVec::new();
        if !self.is_empty() {
            nodes.push(0);
        }
        let mut left = beginning;
        while !left.is_empty() {
            let end = memchr::memchr(DOT, left)?;
            let token = left.get(..end).filter(|token| !token.is_empty())?;
            left = left.get(end.saturating_add(1)..)?;
            if nodes.len() > NODES || self.any_has_rest(&nodes) {
                return None;
            }
            let mut reached = SmallVec::new();
            for node in &nodes {
                self.step(*node, token, |next| reached.push(next));
            }
            nodes = reached;
        }
        let short = nodes.len() <= NODES && !self.any_has_rest(&nodes);
        short.then_some(Trail { set: *self, nodes })
    }

    fn any_has_rest(&self, nodes: &[u32]) -> bool {
        nodes.iter().any(|node| self.has_rest(*node))
    }
}

impl Trail<'_> {
    /// Whether no pattern goes on here, so that none matches whatever follows.
    pub fn is_dead(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether a pattern matches the subject that consists of the beginning and of `below`, as [`FilledSet::matches`] says.
    #[inline]
    pub fn matches(&self, below: &[u8]) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|node| self.set.matches_from(*node, below))
    }
}
