//! From an identity to its roles, its upstream and its permissions.
//!
//! Owns: which roles match, and why none does. Must never: take unknown groups for no groups, compare a name with an id,
//! or decide by a claim that a person can change.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::compile::{Compiled, Policy};
use super::document::{AuditDepth, InboxMode, Limits, Mode, StreamConfigMode};
use super::places::PlacesBuilder;
use super::refusal::{Lacks, Refusal, Uncertain, no_deny, refusal, split_upstreams};
use super::rights::{Frame, Inboxes, Permissions, Responses, Rights};
use super::template;
use crate::identity::Identity;
use crate::time::Timestamp;

/// What is known of a connection besides its token.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Address of the client.
    pub source: IpAddr,
    /// The time.
    pub now: Timestamp,
    /// The `user` field of CONNECT, with which a client may pick among its upstreams by the name of a role.
    pub requested_role: Option<&'a str>,
}

/// What an identity gets.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Roles that apply, by name.
    pub roles: Vec<Arc<str>>,
    /// The upstream that all of them name.
    pub upstream: Arc<str>,
    /// What the session may do.
    pub permissions: Arc<Permissions>,
    /// Limits of the session.
    pub limits: SessionLimits,
    /// Whether refusals are recorded only: every role says `mode: observe`.
    pub observe: bool,
    /// Whether some role wants every publish in the audit.
    pub audit_messages: bool,
    /// Grants and deny entries that this identity lacks a template's value for. Worth a log line and a count.
    pub vanished: Vec<Vanished>,
}

/// Limits of a session; where a figure is absent, no role states one and the general limit holds.
///
/// Of several roles the most generous figure counts. A role that states none does not lift the limit of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions of the identity at a time.
    pub connections: Option<u32>,
    /// Subscriptions of the session.
    pub subscriptions: Option<u32>,
    /// Bytes of one message, headers included.
    pub payload: Option<u64>,
    /// Messages that the session may publish in a second.
    pub messages_per_s: Option<u64>,
    /// Bytes that the session may publish in a second.
    pub bytes_per_s: Option<u64>,
}

/// An entry that does not exist for an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vanished {
    /// The line of the policy, as `roles.<role>.publish[0]`.
    pub rule: Arc<str>,
    /// The template without a usable value, as `azp`.
    pub template: Box<str>,
}

/// Role sets whose entries are kept compiled.
const KEPT_SETS: usize = 1024;

/// Compiled entries by set of roles.
#[derive(Debug, Default)]
pub(super) struct SharedRights(Mutex<HashMap<Box<[usize]>, Arc<Rights>>>);

/// How one role stands to an identity.
pub(super) enum Standing {
    Holds,
    /// It might hold the role: the role goes by a group, and the groups are not known.
    Perhaps(Uncertain),
    Lacks(Lacks),
}

impl Policy {
    /// The roles, the upstream and the permissions of an identity.
    ///
    /// Deny entries of a role that the identity might hold by a group that is not known (overage, or names instead of
    /// ids) apply too: not knowing never widens what may be done.
    ///
    /// # Errors
    /// The refusal, with a code and a sentence for the log.
    pub fn assign(
        &self,
        identity: &Identity,
        circumstances: &Circumstances<'_>,
    ) -> Result<Assignment, Refusal> {
        let mut held = Vec::new();
        let mut perhaps = Vec::new();
        let mut uncertain = None;
        let mut lacks: Vec<(&Compiled, Lacks)> = Vec::new();
        for (index, role) in self.roles.iter().enumerate() {
            match standing(role, identity, circumstances) {
                Standing::Holds => held.push(index),
                Standing::Perhaps(why) => {
                    perhaps.push(index);
                    uncertain = Some(why);
                }
                Standing::Lacks(why) => lacks.push((role, why)),
            }
        }
        if held.is_empty() {
            return Err(refusal(identity, uncertain, &lacks));
        }
        let upstream = self.pick_upstream(&held, circumstances.requested_role)?;
        let here = |index: &usize| {
            self.roles
                .get(*index)
                .is_some_and(|role| role.upstream == upstream)
        };
        held.retain(here);
        perhaps.retain(here);
        self.grant(identity, upstream, &held, &perhaps)
    }

    fn grant(
        &self,
        identity: &Identity,
        upstream: Arc<str>,
        held: &[usize],
        perhaps: &[usize],
    ) -> Result<Assignment, Refusal> {
        let roles: Vec<&Compiled> = held
            .iter()
            .filter_map(|index| self.roles.get(*index))
            .collect();
        let mut vanished = Vec::new();
        self.check_templates(identity, held, perhaps, &mut vanished)?;
        let inboxes = inboxes(&roles);
        let own_prefix = template::value_of(identity, "oid")
            .filter(|_| inboxes.own)
            .map(|oid| ["_INBOX_", oid, "."].concat().into_bytes().into());
        let observe = roles.iter().all(|role| role.mode == Mode::Observe);
        let frame = Frame {
            inboxes,
            responses: responses(&roles),
            own_prefix,
            owner: owner(identity),
            observe,
        };
        let rights = self.shared_rights(held, perhaps);
        let permissions = Permissions::new(rights, identity, frame);
        Ok(Assignment {
            upstream,
            permissions: Arc::new(permissions),
            limits: limits(&roles),
            observe,
            audit_messages: roles.iter().any(|role| role.audit == AuditDepth::Messages),
            vanished,
            roles: roles.iter().map(|role| Arc::clone(&role.name)).collect(),
        })
    }

    /// Notes the entries that do not exist for the identity since it has no value for a template. A deny entry must.
    fn check_templates(
        &self,
        identity: &Identity,
        held: &[usize],
        perhaps: &[usize],
        vanished: &mut Vec<Vanished>,
    ) -> Result<(), Refusal> {
        for (_, role, deny_only) in self.positions(held, perhaps) {
            let grants = role.grants.iter();
            for grant in grants.filter(|grant| !deny_only || grant.kind.is_deny()) {
                let Some(template) = grant.subject.lacks(identity) else {
                    continue;
                };
                if grant.kind.is_deny() {
                    return Err(no_deny(&grant.rule, template));
                }
                vanished.push(Vanished {
                    rule: Arc::clone(&grant.rule),
                    template: template.into(),
                });
            }
        }
        Ok(())
    }

    /// The compiled entries that all identities with these roles share.
    fn shared_rights(&self, held: &[usize], perhaps: &[usize]) -> Arc<Rights> {
        // The two lists are kept apart by a number that is no index.
        let key: Box<[usize]> = [held, &[usize::MAX], perhaps].concat().into();
        let kept = || self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rights) = kept().get(&key) {
            return Arc::clone(rights);
        }
        let mut entries = Vec::new();
        let mut places = PlacesBuilder::default();
        for (position, role, deny_only) in self.positions(held, perhaps) {
            let grants = role.grants.iter();
            for grant in grants.filter(|grant| !deny_only || grant.kind.is_deny()) {
                if let Some(pattern) = places.pattern(&grant.subject, grant.globs) {
                    entries.push(grant.entry(position, pattern));
                }
            }
        }
        let rights = Arc::new(Rights::compile(held.len(), entries, places.build()));
        let mut sets = kept();
        if sets.len() >= KEPT_SETS {
            sets.clear();
        }
        sets.insert(key, Arc::clone(&rights));
        rights
    }

    /// Roles with their position among the identity's roles, and whether only their deny entries count.
    fn positions<'a>(
        &'a self,
        held: &'a [usize],
        perhaps: &'a [usize],
    ) -> impl Iterator<Item = (usize, &'a Compiled, bool)> {
        let held = held.iter().map(|index| (*index, false));
        let all = held.chain(perhaps.iter().map(|index| (*index, true)));
        all.enumerate()
            .filter_map(|(position, (index, deny_only))| {
                Some((position, self.roles.get(index)?, deny_only))
            })
    }

    /// The one upstream of the roles; among several the one of the role that the client names, else the one of the role
    /// with the highest priority.
    fn pick_upstream(&self, held: &[usize], requested: Option<&str>) -> Result<Arc<str>, Refusal> {
        let roles: Vec<&Compiled> = held
            .iter()
            .filter_map(|index| self.roles.get(*index))
            .collect();
        let one = |roles: &[&Compiled]| -> Option<Arc<str>> {
            let first = roles.first()?;
            let same = roles.iter().all(|role| role.upstream == first.upstream);
            same.then(|| Arc::clone(&first.upstream))
        };
        if let Some(upstream) = one(&roles) {
            return Ok(upstream);
        }
        let named = roles.iter().find(|role| Some(&*role.name) == requested);
        if let Some(role) = named {
            return Ok(Arc::clone(&role.upstream));
        }
        let highest = roles.iter().filter_map(|role| role.priority).max();
        let top: Vec<&Compiled> = roles
            .iter()
            .copied()
            .filter(|role| highest.is_some() && role.priority == highest)
            .collect();
        one(&top).ok_or_else(|| split_upstreams(&roles))
    }
}

/// Whether an identity holds a role now and from here.
pub(super) fn standing(role: &Compiled, identity: &Identity, here: &Circumstances<'_>) -> Standing {
    let bound = role.binds.iter().any(|bind| bind.names(identity));
    let uncertain = (!bound)
        .then(|| {
            let mut binds = role
                .binds
                .iter()
                .filter(|bind| bind.is_for_tenant_of(identity));
            binds.find_map(|bind| bind.uncertain(&identity.groups))
        })
        .flatten();
    if !bound && uncertain.is_none() {
        return Standing::Lacks(Lacks::Bind);
    }
    if !role.window.contains(here.now) {
        return Standing::Lacks(Lacks::Window);
    }
    if let Some(unmet) = role.require.unmet(identity, here.source, here.now) {
        return Standing::Lacks(Lacks::Condition(unmet));
    }
    match uncertain {
        None => Standing::Holds,
        Some(why) => Standing::Perhaps(why),
    }
}

/// Who owns what a session holds. The length keeps two tenants apart whatever their ids hold.
fn owner(identity: &Identity) -> Arc<str> {
    let length = identity.tid.len().to_string();
    let parts = [&*length, " ", &identity.tid, "/", &identity.oid];
    parts.concat().into()
}

/// 8-4-4-4-12 hexadecimal digits.
pub(super) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Rights add up: one role with `private` is enough for inboxes of one's own, one with `shared` or `off` for replies that
/// nobody judges.
fn inboxes(roles: &[&Compiled]) -> Inboxes {
    Inboxes {
        own: roles
            .iter()
            .any(|role| role.inbox == InboxMode::Private || role.requests),
        replies_judged: roles.iter().all(|role| role.inbox == InboxMode::Private),
        streams_judged: roles
            .iter()
            .all(|role| role.stream_config == StreamConfigMode::Judged),
    }
}

/// The most generous number and time of all roles that say `respond`.
fn responses(roles: &[&Compiled]) -> Option<Responses> {
    let stated = roles.iter().filter_map(|role| role.respond);
    stated.reduce(|one, other| Responses {
        max: match (one.max, other.max) {
            (Some(one), Some(other)) => Some(one.max(other)),
            _ => None,
        },
        ttl: one.ttl.max(other.ttl),
    })
}

fn limits(roles: &[&Compiled]) -> SessionLimits {
    fn most<T: Ord>(roles: &[&Compiled], figure: impl Fn(&Limits) -> Option<T>) -> Option<T> {
        roles.iter().filter_map(|role| figure(&role.limits)).max()
    }
    SessionLimits {
        connections: most(roles, |limits| limits.connections),
        subscriptions: most(roles, |limits| limits.subscriptions),
        payload: most(roles, |limits| limits.payload).map(|size| size.bytes()),
        messages_per_s: most(roles, |limits| limits.messages).map(|rate| rate.per_second()),
        bytes_per_s: most(roles, |limits| limits.bytes).map(|rate| rate.bytes_per_second()),
    }
}
