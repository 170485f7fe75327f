//! Compiled permissions: what the grants of all roles of one identity come to.
//!
//! Owns: the verdict over one subject. Must never: remember anything about a session (the `Judge` does), or let a
//! subject through that no grant contains.
//!
//! Rights come in two layers. The grants without templates of a set of roles are compiled once and shared by everybody
//! who has that set; the grants with templates are compiled for each identity and are few.
#![expect(
    clippy::cast_possible_truncation,
    reason = "rules and queue groups of a policy are far fewer than 2^32"
)]

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::queues::{QueueSet, QueueSetBuilder};
use super::reserved::is_reserved_subject;
use super::verdict::DenialReason;
use crate::subject::{Below, Pattern, PatternSet, PatternSetBuilder, Reach, has_wildcard};

/// The queue group of the server's own, refused to everybody.
const SYSTEM_QUEUE: &[u8] = b"_sys_";

/// Marks a rule of the identity's own layer.
const OWN: u32 = 1 << 31;

/// Tokens of a subject that are tried for a beginning below which nothing is denied.
const NARROWINGS: usize = 8;

/// Place of a rule's text in one of the two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuleId(pub(super) u32);

/// The answer to one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Granted by this rule.
    Granted(RuleId),
    /// Refused, by this rule if one says so.
    Refused(DenialReason, Option<RuleId>),
}

impl Verdict {
    pub(super) const fn is_granted(self) -> bool {
        matches!(self, Self::Granted(_))
    }
}

/// The answer for a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SubscribeVerdict {
    pub(super) verdict: Verdict,
    /// Whether a deny entry overlaps, so that deliveries have to be judged too.
    pub(super) filtered: bool,
}

/// `respond` of all roles together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Responses {
    /// Answers to one request; none for any number.
    pub(super) max: Option<u32>,
    /// How long after the request.
    pub(super) ttl: Duration,
}

/// How the session's inboxes are treated; the union over its roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inboxes {
    /// Whether inboxes of the session's own may be subscribed to.
    pub(super) own: bool,
    /// Whether replies have to lie there or be publishable.
    pub(super) replies_judged: bool,
}

/// What one grant or deny entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    Publish,
    Subscribe(Option<Box<str>>),
    DenyPublish,
    DenySubscribe(Option<Box<str>>),
}

/// One entry, ready to be compiled.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Position of its role among the identity's roles.
    pub(super) role: usize,
    pub(super) kind: EntryKind,
    pub(super) pattern: Pattern,
    /// Whether tokens of the pattern may be globs.
    pub(super) globs: bool,
    pub(super) rule: Arc<str>,
}

impl Entry {
    fn insert_into(&self, set: &mut PatternSetBuilder, rule: u32) {
        if self.globs {
            set.insert_globs(&self.pattern, rule);
        } else {
            set.insert(&self.pattern, rule);
        }
    }
}

/// Everything that one identity may do. Made by `Policy::assign`; shared by the sessions of the identity.
#[derive(Debug)]
pub struct Permissions {
    shared: Arc<Rights>,
    own: Option<Box<Rights>>,
    inboxes: Inboxes,
    responses: Option<Responses>,
    own_prefix: Option<Box<[u8]>>,
    owner: Arc<str>,
    observe: bool,
}

/// What is set for a whole identity besides its entries.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) inboxes: Inboxes,
    pub(super) responses: Option<Responses>,
    /// `_INBOX_<oid>.`, where the oid is a token.
    pub(super) own_prefix: Option<Box<[u8]>>,
    /// Tenant and object id with the length of the first, so that two sessions of one identity, and of no other, may
    /// share an inbox.
    pub(super) owner: Arc<str>,
    pub(super) observe: bool,
}

impl Permissions {
    pub(super) fn new(shared: Arc<Rights>, own: Option<Rights>, frame: Frame) -> Self {
        Self {
            shared,
            own: own.map(Box::new),
            inboxes: frame.inboxes,
            responses: frame.responses,
            own_prefix: frame.own_prefix,
            owner: frame.owner,
            observe: frame.observe,
        }
    }

    /// Whether refusals are to be recorded only: every role of the identity says `mode: observe`.
    pub const fn is_observing(&self) -> bool {
        self.observe
    }

    /// Whether some deny entry is about plain subscriptions, so that deliveries may have to be kept back.
    pub fn filters_deliveries(&self) -> bool {
        self.layers()
            .any(|(layer, _)| !layer.deny_subscribe.is_empty())
    }

    pub(super) const fn inboxes(&self) -> Inboxes {
        self.inboxes
    }

    pub(super) const fn responses(&self) -> Option<Responses> {
        self.responses
    }

    /// Whether a subject lies below the inbox prefix that is the identity's own, `_INBOX_<oid>`.
    #[inline]
    pub(super) fn is_below_own_prefix(&self, subject: &[u8]) -> bool {
        let below = self
            .own_prefix
            .as_deref()
            .and_then(|prefix| subject.strip_prefix(prefix));
        below.is_some_and(|below| !below.is_empty())
    }

    pub(super) const fn owner(&self) -> &Arc<str> {
        &self.owner
    }

    fn layers(&self) -> impl Iterator<Item = (&Rights, u32)> {
        std::iter::once((&*self.shared, 0)).chain(self.own.as_deref().map(|own| (own, OWN)))
    }

    /// The text of a rule.
    pub(super) fn rule(&self, id: RuleId) -> Option<Arc<str>> {
        let layer = match id.0 & OWN {
            0 => &*self.shared,
            _ => self.own.as_deref()?,
        };
        layer.rules.get((id.0 & !OWN) as usize).cloned()
    }

    /// The text behind a value of the trie of one layer.
    fn first(&self, ask: impl Fn(&Rights) -> Option<u32>) -> Option<RuleId> {
        if let Some(rule) = ask(&self.shared) {
            return Some(RuleId(rule));
        }
        let own = self.own.as_deref()?;
        ask(own).map(|rule| RuleId(rule | OWN))
    }

    /// Whether the subject may be published to. A subject with wildcard tokens must lie inside a grant whole and have
    /// nothing in common with a deny entry: plain NATS reads such tokens as literals, JetStream as wildcards.
    pub(super) fn publish(&self, subject: &[u8]) -> Verdict {
        if is_reserved_subject(subject) {
            return Verdict::Refused(DenialReason::ReservedSubject, None);
        }
        let wide = has_wildcard(subject);
        let granted = self.first(|layer| {
            if wide {
                layer.publish.covers(subject)
            } else {
                layer.publish.matches(subject)
            }
        });
        let Some(rule) = granted else {
            return Verdict::Refused(DenialReason::NotGranted, None);
        };
        let denied = self.first(|layer| {
            if wide {
                layer.deny_publish.overlaps(subject)
            } else {
                layer.deny_publish.matches(subject)
            }
        });
        match denied {
            Some(rule) => Verdict::Refused(DenialReason::Denied, Some(rule)),
            None => Verdict::Granted(rule),
        }
    }

    /// How far around a granted subject every other one is granted, too: the reach of a grant, narrowed token by token of
    /// the subject until no deny entry overlaps. Without wildcards in it.
    pub(super) fn reach(&self, subject: &[u8]) -> Option<Reach> {
        if is_reserved_subject(subject) || has_wildcard(subject) {
            return None;
        }
        let mut reaches = self
            .layers()
            .filter_map(|(layer, _)| layer.publish.reach(subject));
        let mut reach = reaches.next()?;
        reach = reaches.fold(reach, std::cmp::min);
        let reserved = matches!(subject.first(), Some(b'$' | b'_'));
        for _ in 0..NARROWINGS {
            let beginning = subject.get(..reach.prefix)?;
            let may_be_reserved = reserved && beginning.is_empty();
            if !may_be_reserved && !self.denies_below(beginning, reach.below) {
                return Some(reach);
            }
            let token = memchr::memchr(b'.', subject.get(reach.prefix..)?)?;
            reach.prefix = reach.prefix.saturating_add(token).saturating_add(1);
        }
        None
    }

    /// Whether some deny entry matches a subject with this beginning.
    fn denies_below(&self, beginning: &[u8], below: Below) -> bool {
        let mut denied = self
            .layers()
            .map(|(layer, _)| &layer.deny_publish)
            .filter(|set| !set.is_empty())
            .peekable();
        if denied.peek().is_none() {
            return false;
        }
        let mut pattern: SmallVec<[u8; 128]> = SmallVec::from_slice(beginning);
        pattern.push(match below {
            Below::Anything => b'>',
            Below::OneToken => b'*',
        });
        denied.any(|set| set.overlaps(&pattern).is_some())
    }

    /// Whether the subject may be subscribed to, inboxes of the session's own aside.
    ///
    /// Within one role the queue forms mean what they mean in nats-server (`client.go:canSubscribeInternal`): an entry
    /// with a queue group narrows which groups may be joined on its subjects. Across roles rights add up.
    pub(super) fn subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> SubscribeVerdict {
        if let Some(refused) = self.refused_subscribe(subject, queue) {
            return SubscribeVerdict {
                verdict: refused,
                filtered: false,
            };
        }
        let roles = self.layers().map(|(layer, _)| layer.roles.len()).max();
        let granted = (0..roles.unwrap_or(0))
            .find_map(|role| self.role_grants_subscribe(role, subject, queue));
        let verdict = match granted {
            Some(rule) => Verdict::Granted(rule),
            None => Verdict::Refused(DenialReason::NotGranted, None),
        };
        SubscribeVerdict {
            verdict,
            filtered: queue.is_none()
                && self
                    .first(|layer| layer.deny_subscribe.overlaps(subject))
                    .is_some(),
        }
    }

    /// Whether everything on the subject may be read: as a subscription that no deny entry touches.
    pub(super) fn reads(&self, subject: &[u8]) -> Verdict {
        let judged = self.subscribe(subject, None);
        let overlapping = |layer: &Rights| layer.deny_subscribe.overlaps(subject);
        match self.first(overlapping) {
            Some(rule) if judged.filtered => Verdict::Refused(DenialReason::Denied, Some(rule)),
            _ => judged.verdict,
        }
    }

    /// What refuses a subscription whatever grants it, also in an inbox of the session's own.
    pub(super) fn refused_subscribe(
        &self,
        subject: &[u8],
        queue: Option<&[u8]>,
    ) -> Option<Verdict> {
        let denied = |rule| Some(Verdict::Refused(DenialReason::Denied, Some(rule)));
        if queue == Some(SYSTEM_QUEUE) {
            return Some(Verdict::Refused(DenialReason::SystemQueue, None));
        }
        let literal = |layer: &Rights| layer.deny_subscribe.matches_literally(subject);
        if let Some(rule) = self.first(literal) {
            return denied(rule);
        }
        let queue = queue?;
        let in_group = |layer: &Rights| layer.deny_queues.literal(subject, queue);
        if let Some(rule) = self.first(in_group) {
            return denied(rule);
        }
        let overlapping = |layer: &Rights| {
            let plain = layer.deny_subscribe.overlaps(subject);
            plain.or_else(|| layer.deny_queues.overlapping(subject, queue))
        };
        let rule = self.first(overlapping)?;
        Some(Verdict::Refused(
            DenialReason::QueueOverlapsDeny,
            Some(rule),
        ))
    }

    fn role_grants_subscribe(
        &self,
        role: usize,
        subject: &[u8],
        queue: Option<&[u8]>,
    ) -> Option<RuleId> {
        let of_role = |layer: &Rights, ask: &dyn Fn(&RoleRights) -> Option<u32>| {
            layer.roles.get(role).and_then(ask)
        };
        if let Some(queue) = queue {
            let narrowed = self
                .layers()
                .filter_map(|(layer, _)| layer.roles.get(role))
                .any(|rights| rights.queues.concerns(subject));
            if narrowed {
                return self.first(|layer| {
                    of_role(layer, &|rights| rights.queues.covering(subject, queue))
                });
            }
        }
        self.first(|layer| of_role(layer, &|rights| rights.subscribe.covers(subject)))
    }

    /// Whether a message with this subject may be delivered.
    pub(super) fn delivers(&self, subject: &[u8]) -> bool {
        self.first(|layer| layer.deny_subscribe.matches(subject))
            .is_none()
    }

    /// The deny entry that keeps a message with this subject back.
    pub(super) fn keeps_back(&self, subject: &[u8]) -> Option<RuleId> {
        self.first(|layer| layer.deny_subscribe.matches(subject))
    }
}

/// One layer of compiled entries.
#[derive(Debug, Default)]
pub(super) struct Rights {
    publish: PatternSet,
    deny_publish: PatternSet,
    deny_subscribe: PatternSet,
    deny_queues: QueueSet,
    roles: Box<[RoleRights]>,
    rules: Box<[Arc<str>]>,
}

/// The subscribe grants of one role.
#[derive(Debug, Default)]
struct RoleRights {
    subscribe: PatternSet,
    queues: QueueSet,
}

impl Rights {
    /// Compiles the entries of `roles` roles.
    pub(super) fn compile(roles: usize, entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut rules = Vec::new();
        let mut sets: [PatternSetBuilder; 3] = Default::default();
        let [publish, deny_publish, deny_subscribe] = &mut sets;
        let mut deny_queues = QueueSetBuilder::default();
        let mut by_role: Vec<(PatternSetBuilder, QueueSetBuilder)> = Vec::new();
        by_role.resize_with(roles, Default::default);
        for entry in entries {
            let rule = rules.len() as u32;
            rules.push(Arc::clone(&entry.rule));
            match &entry.kind {
                EntryKind::Publish => {
                    entry.insert_into(publish, rule);
                }
                EntryKind::DenyPublish => {
                    entry.insert_into(deny_publish, rule);
                }
                EntryKind::DenySubscribe(None) => {
                    entry.insert_into(deny_subscribe, rule);
                }
                EntryKind::DenySubscribe(Some(queue)) => {
                    deny_queues.insert(&entry.pattern, queue, rule);
                }
                EntryKind::Subscribe(queue) => {
                    let Some((plain, queues)) = by_role.get_mut(entry.role) else {
                        continue;
                    };
                    match queue {
                        None => {
                            entry.insert_into(plain, rule);
                        }
                        Some(queue) => queues.insert(&entry.pattern, queue, rule),
                    }
                }
            }
        }
        let [publish, deny_publish, deny_subscribe] = sets.map(PatternSetBuilder::build);
        Self {
            publish,
            deny_publish,
            deny_subscribe,
            deny_queues: deny_queues.build(),
            roles: by_role
                .into_iter()
                .map(|(plain, queues)| RoleRights {
                    subscribe: plain.build(),
                    queues: queues.build(),
                })
                .collect(),
            rules: rules.into(),
        }
    }
}
