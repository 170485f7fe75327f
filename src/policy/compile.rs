//! From the document to the policy: every rule checked, every mistake found in one run.
//!
//! Owns: what a sensible role is, and the sentences about roles that are not. Must never: stop at the first mistake, or
//! accept a role that does not say what its author meant.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::assign::SharedRights;
use super::document::{AuditDepth, Document, InboxMode, Limits, Mode, Require, StreamConfigMode};
use super::places::PlacedPattern;
use super::require::{BindRule, Who, Window};
use super::rights::{Entry, EntryKind, Responses};
use super::role::RoleWriter;
use super::template::Template;

/// Something in the document that cannot stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where, from the top: `roles`, `telemetry-writer`, `publish`, `0`.
    pub path: Vec<Box<str>>,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// A compiled policy. Immutable; a change of the document makes a new one.
#[derive(Debug)]
pub struct Policy {
    pub(super) roles: Box<[Compiled]>,
    pub(super) shared: SharedRights,
    hash: Box<str>,
}

/// A compiled role.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) name: Arc<str>,
    pub(super) binds: Vec<BindRule>,
    pub(super) require: Require,
    pub(super) upstream: Arc<str>,
    pub(super) priority: Option<i64>,
    pub(super) grants: Vec<Grant>,
    pub(super) respond: Option<Responses>,
    pub(super) inbox: InboxMode,
    pub(super) stream_config: StreamConfigMode,
    /// Whether `request` or a JetStream grant needs answers to arrive somewhere.
    pub(super) requests: bool,
    pub(super) limits: Limits,
    pub(super) window: Window,
    pub(super) mode: Mode,
    pub(super) audit: AuditDepth,
}

/// One entry of a role, perhaps with templates.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) kind: EntryKind,
    pub(super) subject: Template,
    pub(super) globs: bool,
    pub(super) rule: Arc<str>,
}

impl Grant {
    pub(super) fn entry(&self, role: usize, pattern: PlacedPattern) -> Entry {
        Entry {
            role,
            kind: self.kind.clone(),
            pattern,
            globs: self.globs,
            rule: Arc::clone(&self.rule),
        }
    }
}

impl Policy {
    /// Checks and compiles a document.
    ///
    /// # Errors
    /// Every mistake of the document, in its order.
    pub fn compile(document: &Document) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut roles = Vec::new();
        for (name, role) in &document.roles {
            let mut writer = RoleWriter::new(name, &document.template_claims, &mut mistakes);
            roles.push(writer.role(name, role));
        }
        for (index, claim) in document.template_claims.iter().enumerate() {
            if let Some(message) = wrong_claim(claim) {
                mistakes.push(Mistake {
                    path: vec!["template_claims".into(), index.to_string().into()],
                    message,
                });
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Self {
            roles: roles.into(),
            shared: SharedRights::default(),
            hash: hash(document).into(),
        })
    }

    /// SHA-256 of the document in a canonical form, 64 hexadecimal digits. Two documents with the same meaning word for
    /// word have the same hash, whatever their comments, order of keys and layout.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Names of all roles, sorted; metrics make their label values from them.
    pub fn role_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.roles.iter().map(|role| &role.name)
    }

    /// Every role's upstream with the role's name, so that the configuration can check that it exists.
    pub fn upstreams(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.roles.iter().map(|role| (&role.name, &role.upstream))
    }

    /// The next moment at which a role begins or ends by its `valid`, so that sessions are judged anew then.
    pub fn next_change(&self, now: crate::time::Timestamp) -> Option<crate::time::Timestamp> {
        self.roles
            .iter()
            .filter_map(|role| role.window.next_change(now))
            .min()
    }

    /// Ids of the groups that roles are bound to for a tenant, lower case, sorted and without repetition: the only ones
    /// worth asking Graph for.
    pub fn groups_of_tenant(&self, tid: &str) -> Vec<Box<str>> {
        let mut groups: Vec<Box<str>> = self
            .roles
            .iter()
            .flat_map(|role| &role.binds)
            .filter(|bind| bind.is_for_tenant(tid))
            .filter_map(|bind| match &bind.who {
                Who::Group(id) => Some(id.to_ascii_lowercase().into()),
                Who::AppRole(_)
                | Who::AppId(_)
                | Who::GroupName(_)
                | Who::Scope(_)
                | Who::User(_) => None,
            })
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

impl EntryKind {
    pub(super) const fn is_deny(&self) -> bool {
        matches!(self, Self::DenyPublish | Self::DenySubscribe(_))
    }
}

/// Whether a name is fit for streams, buckets and consumers: letters, figures, `-` and `_`, 255 at most.
pub(super) fn is_resource_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// A token in which a wildcard stands among other bytes.
pub(super) fn is_half_wildcard(token: &str) -> bool {
    token.len() > 1 && token.contains(['*', '>'])
}

/// What is wrong with a claim's name as a template.
fn wrong_claim(claim: &str) -> Option<String> {
    const NAMES: [&str; 7] = [
        "name",
        "preferred_username",
        "upn",
        "unique_name",
        "email",
        "given_name",
        "family_name",
    ];
    if NAMES.contains(&claim) {
        return Some(format!(
            "{claim} can be changed, reused or chosen by somebody else's tenant, so rights cannot hang on it; use {{oid}}"
        ));
    }
    if !is_name(claim) {
        return Some(format!(
            "{claim:?} is not a claim's name; write letters, figures, `-`, `_` and `.`"
        ));
    }
    None
}

/// Maps are sorted and keys have one order, so the JSON of a document is canonical.
fn hash(document: &Document) -> String {
    let json = serde_json::to_vec(document).unwrap_or_default();
    let digest = Sha256::digest(&json);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
