//! Compiled permissions: what the grants of all roles of one identity come to.
//!
//! Owns: the verdict over one subject. Must never: remember anything about a session (the `Judge` does), or let a
//! subject through that no grant contains.
//!
//! The entries of a set of roles are compiled once and shared by everybody who has that set. Tokens with templates are
//! places in them, and what fills those is all that an identity holds of its own.
#![expect(
    clippy::cast_possible_truncation,
    reason = "rules and queue groups of a policy are far fewer than 2^32"
)]

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::places::{PlacedPattern, Places};
use super::queues::{QueueSet, QueueSetBuilder};
use super::reserved::is_reserved_subject;
use super::verdict::DenialReason;
use crate::identity::Identity;
use crate::subject::{
    Below, FilledSet, Filling, PatternSet, PatternSetBuilder, PatternToken, Reach, Trail,
    has_wildcard,
};

/// The queue group of the server's own, refused to everybody.
const SYSTEM_QUEUE: &[u8] = b"_sys_";

/// Tokens of a subject that are tried for a beginning below which nothing is denied.
const NARROWINGS: usize = 8;

/// Deny entries that are nothing beside what a question takes anyway.
const FEW: usize = 16;

/// Place of a rule's text.
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
    /// Whether what configurations of streams name is judged.
    pub(super) streams_judged: bool,
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
    pub(super) pattern: PlacedPattern,
    /// Whether tokens of the pattern may be globs.
    pub(super) globs: bool,
    pub(super) rule: Arc<str>,
}

impl Entry {
    fn insert_into(&self, set: &mut PatternSetBuilder, rule: u32) {
        let tokens = self.pattern.iter().map(PatternToken::as_deref);
        set.insert_tokens(tokens, rule, self.globs);
    }
}

/// Everything that one identity may do. Made by `Policy::assign`; shared by the sessions of the identity.
#[derive(Debug)]
pub struct Permissions {
    rights: Arc<Rights>,
    /// What the identity fills the places with.
    fillings: Box<[Option<Filling>]>,
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
    pub(super) fn new(rights: Arc<Rights>, identity: &Identity, frame: Frame) -> Self {
        Self {
            fillings: rights.places.fill(identity),
            rights,
            inboxes: frame.inboxes,
            responses: frame.responses,
            own_prefix: frame.own_prefix,
            owner: frame.owner,
            observe: frame.observe,
        }
    }

    /// Whether these come of the same roles of the same policy, filled alike, so that they answer every question alike.
    pub fn are_those_of(&self, other: &Self) -> bool {
        let Self {
            rights,
            fillings,
            inboxes,
            responses,
            own_prefix,
            owner,
            observe,
        } = self;
        Arc::ptr_eq(rights, &other.rights)
            && *fillings == other.fillings
            && *inboxes == other.inboxes
            && *responses == other.responses
            && *own_prefix == other.own_prefix
            && *owner == other.owner
            && *observe == other.observe
    }

    /// Whether refusals are to be recorded only: every role of the identity says `mode: observe`.
    pub const fn is_observing(&self) -> bool {
        self.observe
    }

    /// Whether some deny entry is about plain subscriptions, so that deliveries may have to be kept back.
    pub fn filters_deliveries(&self) -> bool {
        !self.rights.deny_subscribe.is_empty()
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

    /// Tenant and object id of the identity in one text, which is no other's.
    pub const fn owner(&self) -> &Arc<str> {
        &self.owner
    }

    /// A set of patterns as it is for the identity.
    fn of<'a>(&'a self, set: &'a PatternSet) -> FilledSet<'a> {
        set.filled(&self.fillings)
    }

    fn deny_subscribe(&self) -> FilledSet<'_> {
        self.of(&self.rights.deny_subscribe)
    }

    /// The text of a rule.
    pub(super) fn rule(&self, id: RuleId) -> Option<Arc<str>> {
        self.rights.rules.get(id.0 as usize).cloned()
    }

    /// Whether the subject may be published to. A subject with wildcard tokens must lie inside a grant whole and have
    /// nothing in common with a deny entry: plain NATS reads such tokens as literals, JetStream as wildcards.
    pub(super) fn publish(&self, subject: &[u8]) -> Verdict {
        if is_reserved_subject(subject) {
            return Verdict::Refused(DenialReason::ReservedSubject, None);
        }
        let wide = has_wildcard(subject);
        let grants = self.of(&self.rights.publish);
        let granted = if wide {
            grants.covers(subject)
        } else {
            grants.matches(subject)
        };
        let Some(rule) = granted else {
            return Verdict::Refused(DenialReason::NotGranted, None);
        };
        let denies = self.of(&self.rights.deny_publish);
        let denied = if wide {
            denies.overlaps(subject)
        } else {
            denies.matches(subject)
        };
        match denied {
            Some(rule) => Verdict::Refused(DenialReason::Denied, Some(RuleId(rule))),
            None => Verdict::Granted(RuleId(rule)),
        }
    }

    /// What it may take to say whether a deny entry overlaps with the subject, in places of the entries looked at: one with
    /// wildcards may be compared with each entry.
    pub(super) fn price(&self, subject: &[u8]) -> usize {
        let denies = [&self.rights.deny_publish, &self.rights.deny_subscribe];
        let [one, other] = denies.map(PatternSet::len);
        let most = one.max(other);
        if most <= FEW || !has_wildcard(subject) {
            1
        } else {
            most
        }
    }

    /// Likewise of a queue group, whatever the subject: each entry that is tied to groups may be asked.
    pub(super) fn price_of_queue(&self) -> usize {
        let tied = self.rights.tied_to_queues;
        if tied <= FEW { 0 } else { tied }
    }

    /// How far around a granted subject every other one is granted, too: the reach of a grant, narrowed token by token of
    /// the subject until no deny entry overlaps. Without wildcards in it. Adds to `steps` how many places of the entries
    /// were looked at for that.
    pub(super) fn reach(&self, subject: &[u8], steps: &mut usize) -> Option<Reach> {
        if is_reserved_subject(subject) || has_wildcard(subject) {
            return None;
        }
        let mut reach = self.of(&self.rights.publish).reach(subject)?;
        let reserved = matches!(subject.first(), Some(b'$' | b'_'));
        let tail = subject.get(subject.len().checked_sub(reach.tail)?..)?;
        for _ in 0..NARROWINGS {
            let beginning = subject.get(..reach.prefix)?;
            let may_be_reserved = reserved && beginning.is_empty();
            if !may_be_reserved && !self.denies_between(beginning, reach.below, tail, steps) {
                return Some(reach);
            }
            if !tail.is_empty() {
                return None;
            }
            let token = memchr::memchr(b'.', subject.get(reach.prefix..)?)?;
            reach.prefix = reach.prefix.saturating_add(token).saturating_add(1);
        }
        None
    }

    /// Whether some deny entry matches a subject with this beginning and this end, neither with wildcards.
    fn denies_between(
        &self,
        beginning: &[u8],
        below: Below,
        tail: &[u8],
        steps: &mut usize,
    ) -> bool {
        if self.rights.deny_publish.is_empty() {
            return false;
        }
        let mut pattern: SmallVec<[u8; 128]> = SmallVec::from_slice(beginning);
        pattern.push(match below {
            Below::Anything => b'>',
            Below::OneToken => b'*',
        });
        pattern.extend_from_slice(tail);
        let denies = self.of(&self.rights.deny_publish);
        denies.overlaps_counted(&pattern, steps).is_some()
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
        let mut roles = self.rights.roles.iter();
        let granted = roles.find_map(|role| self.role_grants_subscribe(role, subject, queue));
        let verdict = match granted {
            Some(rule) => Verdict::Granted(RuleId(rule)),
            None => Verdict::Refused(DenialReason::NotGranted, None),
        };
        SubscribeVerdict {
            verdict,
            filtered: queue.is_none() && self.deny_subscribe().overlaps(subject).is_some(),
        }
    }

    /// Whether everything on the subject may be read: as a subscription that no deny entry touches.
    pub(super) fn reads(&self, subject: &[u8]) -> Verdict {
        let judged = self.subscribe(subject, None);
        match self.deny_subscribe().overlaps(subject) {
            Some(rule) if judged.filtered => {
                Verdict::Refused(DenialReason::Denied, Some(RuleId(rule)))
            }
            _ => judged.verdict,
        }
    }

    /// What refuses a subscription whatever grants it, also in an inbox of the session's own.
    pub(super) fn refused_subscribe(
        &self,
        subject: &[u8],
        queue: Option<&[u8]>,
    ) -> Option<Verdict> {
        let refused = |reason, rule| Some(Verdict::Refused(reason, Some(RuleId(rule))));
        if queue == Some(SYSTEM_QUEUE) {
            return Some(Verdict::Refused(DenialReason::SystemQueue, None));
        }
        let denies = self.deny_subscribe();
        if let Some(rule) = denies.matches_literally(subject) {
            return refused(DenialReason::Denied, rule);
        }
        let queue = queue?;
        let denied_queues = self.rights.deny_queues.filled(&self.fillings);
        if let Some(rule) = denied_queues.literal(subject, queue) {
            return refused(DenialReason::Denied, rule);
        }
        let overlapping = denies.overlaps(subject);
        let rule = overlapping.or_else(|| denied_queues.overlapping(subject, queue))?;
        refused(DenialReason::QueueOverlapsDeny, rule)
    }

    fn role_grants_subscribe(
        &self,
        role: &RoleRights,
        subject: &[u8],
        queue: Option<&[u8]>,
    ) -> Option<u32> {
        let queues = role.queues.filled(&self.fillings);
        match queue {
            Some(queue) if queues.concerns(subject) => queues.covering(subject, queue),
            _ => self.of(&role.subscribe).covers(subject),
        }
    }

    /// Whether a message with this subject may be delivered.
    pub(super) fn delivers(&self, subject: &[u8]) -> bool {
        self.deny_subscribe().matches(subject).is_none()
    }

    /// Whether some delivery has to be kept back in earnest.
    pub(super) fn may_keep_back(&self) -> bool {
        !self.observe && self.filters_deliveries()
    }

    /// Where the deny entries about deliveries stand behind a beginning. None where that is no shorter way.
    pub(super) fn denied_behind(&self, beginning: &[u8]) -> Option<Trail<'_>> {
        self.deny_subscribe().trail(beginning)
    }

    /// Whether no subject with this beginning, which ends with a dot, may be published to.
    pub(super) fn grants_nothing_below(&self, beginning: &[u8]) -> bool {
        let granted = self.of(&self.rights.publish).trail(beginning);
        granted.is_some_and(|granted| granted.is_dead())
    }

    /// The deny entry that keeps a message with this subject back.
    pub(super) fn keeps_back(&self, subject: &[u8]) -> Option<RuleId> {
        self.deny_subscribe().matches(subject).map(RuleId)
    }
}

/// The compiled entries of a set of roles.
#[derive(Debug, Default)]
pub(super) struct Rights {
    publish: PatternSet,
    deny_publish: PatternSet,
    deny_subscribe: PatternSet,
    deny_queues: QueueSet,
    /// Entries, granted and denied, that are tied to queue groups.
    tied_to_queues: usize,
    roles: Box<[RoleRights]>,
    rules: Box<[Arc<str>]>,
    places: Places,
}

/// The subscribe grants of one role.
#[derive(Debug, Default)]
struct RoleRights {
    subscribe: PatternSet,
    queues: QueueSet,
}

impl Rights {
    /// Compiles the entries of `roles` roles.
    pub(super) fn compile(roles: usize, entries: Vec<Entry>, places: Places) -> Self {
        let is_tied = |entry: &&Entry| {
            matches!(
                entry.kind,
                EntryKind::Subscribe(Some(_)) | EntryKind::DenySubscribe(Some(_))
            )
        };
        let tied_to_queues = entries.iter().filter(is_tied).count();
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
            tied_to_queues,
            roles: by_role
                .into_iter()
                .map(|(plain, queues)| RoleRights {
                    subscribe: plain.build(),
                    queues: queues.build(),
                })
                .collect(),
            rules: rules.into(),
            places,
        }
    }
}
