//! How the deliveries of one pass are judged: by what was found out about the one before, where that is enough.
//!
//! Owns: from where on the subjects of a pass are asked for. Must never: outlast the pass, in which the permissions cannot
//! change, or answer otherwise than the judge that made it.

use super::cache::AnswerCache;
use super::responses::OpenRequests;
use super::rights::{Permissions, Responses};
use crate::subject::{Trail, begins_with, has_wildcard};
use crate::time::Timestamp;

/// How often a pass looks where two subjects part: one look costs as much as a few messages.
const LOOKS: u32 = 8;

/// Judges the deliveries of one pass. Made by [`super::Judge::hear`].
#[derive(Debug)]
pub struct Hearing<'a, 'j> {
    permissions: &'j Permissions,
    delivered: &'j mut AnswerCache,
    requests: &'j mut Option<Box<OpenRequests>>,
    rule: Option<Responses>,
    now: Timestamp,
    filters: bool,
    parting: Option<Parting<'a, 'j>>,
    looks: u32,
    /// A beginning below which nothing may be published by the grants.
    barred: Option<&'a [u8]>,
}

/// Subjects with one beginning, and what would keep them back. For the one pass under way.
#[derive(Clone, Debug)]
pub struct HeardGround<'j> {
    prefix: usize,
    denied: Option<Trail<'j>>,
}

impl HeardGround<'_> {
    /// Length of the beginning.
    pub const fn beginning(&self) -> usize {
        self.prefix
    }

    /// Whether nothing is kept back here.
    #[inline]
    pub const fn is_open(&self) -> bool {
        self.denied.is_none()
    }

    /// Whether a message may be delivered whose subject is the beginning and `below`.
    #[inline(always)]
    pub fn holds(&self, below: &[u8]) -> bool {
        match &self.denied {
            Some(denied) => !denied.matches(below),
            None => true,
        }
    }
}

/// The beginning that two subjects share, and where the deny entries stand behind it.
#[derive(Debug)]
struct Parting<'a, 'j> {
    beginning: &'a [u8],
    denied: Trail<'j>,
}

impl<'a, 'j> Hearing<'a, 'j> {
    pub(super) fn new(
        permissions: &'j Permissions,
        delivered: &'j mut AnswerCache,
        requests: &'j mut Option<Box<OpenRequests>>,
        now: Timestamp,
    ) -> Self {
        Self {
            permissions,
            delivered,
            requests,
            rule: permissions.responses(),
            now,
            filters: permissions.may_keep_back(),
            parting: None,
            looks: LOOKS,
            barred: None,
        }
    }

    /// Whether any delivery can be kept back.
    #[inline]
    pub const fn filters(&self) -> bool {
        self.filters
    }

    /// Whether replies have to be told to [`Self::opened`].
    #[inline]
    pub const fn tracks_replies(&self) -> bool {
        self.rule.is_some()
    }

    /// Whether a message with this subject may be delivered; `before` is the subject of the delivery before it.
    #[inline]
    pub fn delivers(&mut self, subject: &'a [u8], before: Option<&[u8]>) -> bool {
        if !self.filters {
            return true;
        }
        if let Some(answer) = self.ask_parting(subject) {
            return answer;
        }
        if let Some(before) = before
            && let Some(looks) = self.looks.checked_sub(1)
        {
            self.looks = looks;
            let beginning = subject.get(..shared(subject, before)).unwrap_or_default();
            let denied = self.permissions.denied_behind(beginning);
            self.parting = denied.map(|denied| Parting { beginning, denied });
            if let Some(answer) = self.ask_parting(subject) {
                return answer;
            }
        }
        if let Some(answer) = self.delivered.recall(subject) {
            return answer;
        }
        let answer = self.permissions.delivers(subject);
        self.delivered.remember(subject, answer);
        answer
    }

    #[inline]
    fn ask_parting(&self, subject: &[u8]) -> Option<bool> {
        let parting = self.parting.as_ref()?;
        let below = subject.get(parting.beginning.len()..)?;
        begins_with(subject, parting.beginning).then(|| !parting.denied.matches(below))
    }

    /// What is left to ask for further subjects that begin as this one, which may be delivered.
    #[inline]
    pub fn ground(&self, subject: &[u8]) -> Option<HeardGround<'j>> {
        if !self.filters {
            return Some(HeardGround {
                prefix: 0,
                denied: None,
            });
        }
        let parting = self.parting.as_ref()?;
        begins_with(subject, parting.beginning).then(|| HeardGround {
            prefix: parting.beginning.len(),
            denied: Some(parting.denied.clone()).filter(|denied| !denied.is_dead()),
        })
    }

    /// Bytes of memory that the open requests hold.
    pub fn held(&self) -> usize {
        self.requests.as_ref().map_or(0, |requests| requests.held())
    }

    /// A message with this reply subject is delivered to the client, as [`super::Judge::delivered`].
    #[inline]
    pub fn opened(&mut self, reply: &'a [u8]) {
        let Some(rule) = self.rule else {
            return;
        };
        let barred = self.barred.is_some_and(|below| begins_with(reply, below));
        if barred || has_wildcard(reply) || !self.is_granted(reply) {
            self.requests
                .get_or_insert_default()
                .open(reply, rule, self.now);
        }
    }

    /// Whether the grants allow to publish there. If they allow nothing below its first token, that is noted.
    fn is_granted(&mut self, reply: &'a [u8]) -> bool {
        if self.permissions.publish(reply).is_granted() {
            return true;
        }
        let first = memchr::memchr(b'.', reply).and_then(|dot| reply.get(..=dot));
        self.barred = first.filter(|first| self.permissions.grants_nothing_below(first));
        false
    }
}

/// Length of the beginning that two subjects share, up to and with a dot.
fn shared(one: &[u8], other: &[u8]) -> usize {
    let pairs = one.iter().zip(other);
    let alike = pairs.take_while(|(one, other)| one == other).count();
    let alike = one.get(..alike).unwrap_or_default();
    memchr::memrchr(b'.', alike).map_or(0, |dot| dot.saturating_add(1))
}
