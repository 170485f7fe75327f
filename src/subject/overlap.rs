//! Which patterns of a set have a subject in common with another pattern.
//!
//! Visits every literal child where the given pattern has a `*`, so it is meant for SUB and for the rare PUB with wildcards,
//! not for every message.

use smallvec::SmallVec;

use super::filled::{FilledSet, INLINE_BRANCHES, token_at};
use super::has_empty_token;
use super::set::NONE;

/// What of the trie is still to be looked at.
#[derive(Clone, Copy)]
struct Ahead {
    nodes: Nodes,
    /// Where the next token of the pattern begins; none where it has ended.
    at: Option<usize>,
    /// Its `>` was passed: everything from here on is in common.
    rest: bool,
}

#[derive(Clone, Copy)]
enum Nodes {
    One(u32),
    /// Literal children of one node, one after the other: mostly the first says enough.
    Children {
        start: u32,
        end: u32,
    },
}

type Open = SmallVec<[Ahead; INLINE_BRANCHES]>;

impl FilledSet<'_> {
    /// The value of a pattern that has at least one subject in common with the given pattern
    /// (`sublist.go:SubjectsCollide`).
    pub fn overlaps(&self, pattern: &[u8]) -> Option<u32> {
        self.overlaps_counted(pattern, &mut 0)
    }

    /// As [`Self::overlaps`]; adds to `steps` how many places of the trie were looked at.
    pub fn overlaps_counted(&self, pattern: &[u8], steps: &mut usize) -> Option<u32> {
        let mut found = None;
        let looked_at = self.each_overlap(pattern, |value| {
            found = Some(value);
            true
        });
        *steps = steps.saturating_add(looked_at);
        found
    }

    /// Calls `visit` with the value of every pattern that [`Self::overlaps`] could have answered with, until it says
    /// stop by answering true. Returns how many places of the trie were looked at.
    pub fn each_overlap(&self, pattern: &[u8], mut visit: impl FnMut(u32) -> bool) -> usize {
        let mut steps = 0_usize;
        if self.set.is_empty() || has_empty_token(pattern) {
            return steps;
        }
        let mut open = Open::new();
        open.push(Ahead {
            nodes: Nodes::One(0),
            at: Some(0),
            rest: false,
        });
        while let Some((ahead, index)) = self.next_of(&mut open) {
            steps = steps.saturating_add(1);
            let ends = ahead.rest || ahead.at.is_none();
            if ends && self.set.value_of(index).is_some_and(&mut visit) {
                break;
            }
            let goes_on = ahead.rest || ahead.at.is_some();
            if goes_on
                && self
                    .go_on(pattern, ahead.at, index, &mut open)
                    .is_some_and(&mut visit)
            {
                break;
            }
        }
        steps
    }

    /// Takes out the node that is next.
    fn next_of(&self, open: &mut Open) -> Option<(Ahead, u32)> {
        loop {
            let ahead = open.pop()?;
            let (start, end) = match ahead.nodes {
                Nodes::One(index) => return Some((ahead, index)),
                Nodes::Children { start, end } => (start, end),
            };
            let after = start.saturating_add(1);
            if after < end {
                let nodes = Nodes::Children { start: after, end };
                open.push(Ahead { nodes, ..ahead });
            }
            if let Some(child) = self.set.children.get(start as usize) {
                return Some((ahead, *child));
            }
        }
    }

    /// Notes which nodes below `index` the pattern leads to with its token at `at`, or with the `>` it has passed. Gives the value of the `>` there, if there is one.
    fn go_on(&self, pattern: &[u8], at: Option<usize>, index: u32, open: &mut Open) -> Option<u32> {
        let node = self.set.nodes.get(index as usize)?;
        let (token, at) = match at {
            Some(at) => token_at(pattern, at),
            None => (&b">"[..], None),
        };
        let rest = token == b">" && at.is_none();
        let any = rest || token == b"*" || token == b">";
        let ahead = |nodes| Ahead { nodes, at, rest };
        let (start, end) = node.children;
        if any && start < end {
            open.push(ahead(Nodes::Children { start, end }));
        }
        let wanted = (!any).then_some(token);
        let edges = self.set.edges_of(node).iter();
        let edges = edges.filter(|edge| self.leads_on(edge, wanted));
        let star = (node.star != NONE).then_some(node.star);
        let one = wanted.and_then(|token| self.set.child(index, token));
        let reached = star
            .into_iter()
            .chain(edges.map(|edge| edge.child))
            .chain(one);
        // The last one is looked at first.
        open.extend(reached.rev().map(|child| ahead(Nodes::One(child))));
        (node.rest != NONE).then_some(node.rest)
    }
}
