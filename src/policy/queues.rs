//! Subscribe entries that are tied to queue groups.
//!
//! Owns: what a queue group's name in a policy stands for. Must never: let a group through because its subject fits.

use std::collections::HashMap;

use super::places::PlacedPattern;
use crate::subject::{
    FilledSet, Filling, PatternSet, PatternSetBuilder, PatternToken, TokenGlob, tokens,
};

/// Subjects that are each tied to queue groups.
#[derive(Debug, Default)]
pub(super) struct QueueSet {
    subjects: PatternSet,
    groups: Box<[Vec<(QueuePattern, u32)>]>,
}

/// A set as it is for one identity.
#[derive(Clone, Copy, Debug)]
pub(super) struct FilledQueues<'a> {
    subjects: FilledSet<'a>,
    groups: &'a [Vec<(QueuePattern, u32)>],
}

impl QueueSet {
    /// The set as it is for an identity that fills its places like that.
    pub(super) const fn filled<'a>(&'a self, fillings: &'a [Option<Filling>]) -> FilledQueues<'a> {
        FilledQueues {
            subjects: self.subjects.filled(fillings),
            groups: &self.groups,
        }
    }
}

impl FilledQueues<'_> {
    /// Whether some subject matches literally, whatever the group.
    pub(super) fn concerns(&self, subject: &[u8]) -> bool {
        self.subjects.matches_literally(subject).is_some()
    }

    /// A rule whose subject matches literally and whose group fits.
    pub(super) fn literal(&self, subject: &[u8], queue: &[u8]) -> Option<u32> {
        let mut found = None;
        self.subjects.each_match(subject, |group| {
            found = found.or_else(|| self.fitting(group, queue));
        });
        found
    }

    /// A rule whose subject contains the subscription and whose group fits. Asks each group by itself, since the first
    /// subject that contains it need not be the one whose group fits.
    pub(super) fn covering(&self, subject: &[u8], queue: &[u8]) -> Option<u32> {
        let mut found = None;
        self.subjects.each_cover(subject, |group| {
            found = found.or_else(|| self.fitting(group, queue));
        });
        found
    }

    /// A rule whose subject overlaps and whose group fits.
    pub(super) fn overlapping(&self, subject: &[u8], queue: &[u8]) -> Option<u32> {
        let mut found = None;
        self.subjects.each_overlap(subject, |group| {
            found = found.or_else(|| self.fitting(group, queue));
            found.is_some()
        });
        found
    }

    fn fitting(&self, group: u32, queue: &[u8]) -> Option<u32> {
        let groups = self.groups.get(group as usize)?;
        let fits = groups.iter().find(|(pattern, _)| pattern.matches(queue));
        fits.map(|(_, rule)| *rule)
    }
}

#[derive(Debug, Default)]
pub(super) struct QueueSetBuilder {
    subjects: PatternSetBuilder,
    groups: Vec<Vec<(QueuePattern, u32)>>,
    known: HashMap<PlacedPattern, usize>,
}

impl QueueSetBuilder {
    pub(super) fn insert(&mut self, pattern: &PlacedPattern, queue: &str, rule: u32) {
        let next = self.groups.len();
        let group = *self.known.entry(pattern.clone()).or_insert(next);
        if group == next {
            self.groups.push(Vec::new());
            let value = u32::try_from(group).unwrap_or(u32::MAX - 1);
            let tokens = pattern.iter().map(PatternToken::as_deref);
            self.subjects.insert_tokens(tokens, value, false);
        }
        if let Some(queues) = self.groups.get_mut(group) {
            queues.push((QueuePattern(queue.as_bytes().into()), rule));
        }
    }

    pub(super) fn build(self) -> QueueSet {
        QueueSet {
            subjects: self.subjects.build(),
            groups: self.groups.into(),
        }
    }
}

/// A queue group as a policy names it. As in nats-server (`client.go:queueMatches`) equality comes first and the tokens
/// `*` and `>` are wildcards; besides, a `*` within a token stands for any part of it.
#[derive(Debug, Clone)]
struct QueuePattern(Box<[u8]>);

impl QueuePattern {
    fn matches(&self, queue: &[u8]) -> bool {
        if *self.0 == *queue {
            return true;
        }
        let mut given = tokens(queue);
        for wanted in tokens(&self.0) {
            let Some(token) = given.next() else {
                return false;
            };
            if token.is_empty() || wanted.is_empty() {
                return false;
            }
            if wanted == b">" {
                return true;
            }
            let fits = match TokenGlob::parse(wanted) {
                Some(glob) => glob.matches(token),
                None => token != b">" && (wanted == b"*" || wanted == token),
            };
            if !fits {
                return false;
            }
        }
        given.next().is_none()
    }
}
