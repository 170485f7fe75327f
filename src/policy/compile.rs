//! From the document to the policy: every rule checked, every mistake found in one run.
//!
//! Owns: what a sensible role is, and the sentences about roles that are not. Must never: stop at the first mistake, or
//! accept a role that does not say what its author meant.

use std::collections::HashSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::assign::{SharedRights, is_guid};
use super::document::{
    AuditDepth, Bind, Document, InboxMode, Limits, Mode, Require, Respond, Role, SubscribeGrant,
};
use super::require::{BindRule, Who, Window};
use super::rights::{Entry, EntryKind, Responses};
use super::template::Template;
use super::{kv, object, streams};
use crate::subject::{Pattern, tokens};

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
    pub(super) fn is_fixed(&self) -> bool {
        self.subject.is_fixed()
    }

    pub(super) fn entry(&self, role: usize, pattern: Pattern) -> Entry {
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
            let mut writer = RoleWriter {
                claims: &document.template_claims,
                path: vec!["roles".into(), name.as_str().into()],
                grants: Vec::new(),
                mistakes: &mut mistakes,
            };
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

    /// Ids of all groups that roles are bound to, lower case and without repetition: the only ones worth asking Graph for.
    pub fn bound_groups(&self) -> Vec<Box<str>> {
        let mut groups: Vec<Box<str>> = self
            .roles
            .iter()
            .flat_map(|role| &role.binds)
            .filter_map(|bind| match &bind.who {
                Who::Group(id) => Some(id.clone()),
                Who::AppRole(_) | Who::AppId(_) | Who::Scope(_) | Who::User(_) => None,
            })
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

/// Writes one role and notes its mistakes. `streams`, `kv` and `object` use it too.
pub(super) struct RoleWriter<'a> {
    claims: &'a [String],
    path: Vec<Box<str>>,
    grants: Vec<Grant>,
    mistakes: &'a mut Vec<Mistake>,
}

impl RoleWriter<'_> {
    fn role(&mut self, name: &str, role: &Role) -> Compiled {
        if !is_name(name) {
            self.mistake("a role's name is made of letters, figures, `-`, `_` and `.`, 64 at most; it becomes a metric label and an audit word");
        }
        if role.upstream.is_empty() {
            self.mistake(
                "the role names no upstream; write upstream: NAME with a name from upstreams",
            );
        }
        let binds = self.binds(&role.bind);
        let require = role.require.clone().unwrap_or_default();
        self.within(&["require"], |writer| writer.check_require(&require));
        let sound = self.mistakes.len();
        self.core_grants(role);
        self.at("stream", |writer| {
            for (stream, grant) in &role.stream {
                writer.at(stream, |writer| streams::write(writer, stream, grant));
            }
        });
        self.at("kv", |writer| {
            for (bucket, grant) in &role.kv {
                writer.at(bucket, |writer| kv::write(writer, bucket, grant));
            }
        });
        self.at("object", |writer| {
            for (bucket, grant) in &role.object {
                writer.at(bucket, |writer| object::write(writer, bucket, grant));
            }
        });
        let respond = role
            .respond
            .as_ref()
            .and_then(|respond| self.within(&["respond"], |writer| writer.respond(respond)));
        let window = Window::new(&role.valid.clone().unwrap_or_default());
        if window.is_empty() {
            self.within(&["valid"], |writer| {
                writer.mistake("the role is never valid: from is not before until");
            });
        }
        if role.inbox == InboxMode::Shared {
            let subject = Template::fixed("_INBOX.>");
            self.at("inbox", |writer| {
                writer.grant(EntryKind::Subscribe(None), subject, false);
            });
        }
        self.check_limits(&role.limits);
        if self.grants.is_empty() && role.respond.is_none() && self.mistakes.len() == sound {
            self.mistake("the role grants nothing and denies nothing; write publish, subscribe, request, stream, kv, object or deny, or remove the role");
        }
        let jetstream = !(role.stream.is_empty() && role.kv.is_empty() && role.object.is_empty());
        Compiled {
            name: name.into(),
            binds,
            require,
            upstream: role.upstream.as_str().into(),
            priority: role.priority,
            grants: std::mem::take(&mut self.grants),
            respond,
            inbox: role.inbox,
            requests: !role.request.is_empty() || jetstream,
            limits: role.limits.clone(),
            window,
            mode: role.mode,
            audit: role.audit,
        }
    }

    /// `publish`, `request`, `subscribe` and `deny`.
    fn core_grants(&mut self, role: &Role) {
        for (key, subjects) in [("publish", &role.publish), ("request", &role.request)] {
            self.each(key, subjects, |writer, subject| {
                writer.subject(subject, EntryKind::Publish, role.broad);
            });
        }
        self.each("subscribe", &role.subscribe, |writer, grant| {
            let queue = writer.queue(grant);
            let (subject, _) = grant.parts();
            writer.subject(subject, EntryKind::Subscribe(queue), role.broad);
        });
        self.at("deny", |writer| {
            writer.each("publish", &role.deny.publish, |writer, subject| {
                writer.subject(subject, EntryKind::DenyPublish, true);
            });
            writer.each("subscribe", &role.deny.subscribe, |writer, grant| {
                let queue = writer.queue(grant);
                let (subject, _) = grant.parts();
                writer.subject(subject, EntryKind::DenySubscribe(queue), true);
            });
        });
    }

    /// A subject that an operator wrote.
    fn subject(&mut self, text: &str, kind: EntryKind, broad: bool) {
        let Some(template) = self.template(text) else {
            return;
        };
        let sample = template.sample();
        if self.is_wrong_subject(&sample) {
            return;
        }
        let mut parts = tokens(sample.as_bytes());
        let first = parts.next().unwrap_or_default();
        if !broad && matches!(first, b"*" | b">") {
            self.mistake(&format!("{text:?} begins with a wildcard and so reaches into every subject there is, the server's own included; begin with a literal token, or add broad: true to the role if that is meant"));
            return;
        }
        self.grant(kind, template, false);
    }

    /// The queue group of a subscribe grant, if it has a good one.
    fn queue(&mut self, grant: &SubscribeGrant) -> Option<Box<str>> {
        let (_, queue) = grant.parts();
        let queue = queue?;
        let wrong = match Pattern::parse(queue) {
            _ if queue == "_sys_" => Some(
                "the queue group _sys_ is the server's own, which it refuses to everybody"
                    .to_owned(),
            ),
            Err(error) => Some(format!("the queue group {queue:?} is none: {error}")),
            Ok(_) if queue.contains(['{', '}']) => {
                Some("a queue group has no templates; put the template into the subject".to_owned())
            }
            Ok(_) => None,
        };
        if let Some(wrong) = wrong {
            self.mistake(&wrong);
        }
        Some(queue.into())
    }

    fn binds(&mut self, binds: &[Bind]) -> Vec<BindRule> {
        if binds.is_empty() {
            self.mistake("nobody is bound to the role; write bind with at least one of app_role, app_id, group, scope or user");
        }
        let mut known = HashSet::new();
        let mut rules = Vec::new();
        self.each("bind", binds, |writer, bind| {
            let Some(rule) = writer.bind(bind) else {
                return;
            };
            if !known.insert(format!("{rule:?}")) {
                writer.mistake("the same bind stands above already; remove one");
            }
            rules.push(rule);
        });
        rules
    }

    fn bind(&mut self, bind: &Bind) -> Option<BindRule> {
        let lower = |id: &String| id.to_ascii_lowercase().into_boxed_str();
        let keys = [
            bind.app_role
                .as_ref()
                .map(|role| Who::AppRole(role.as_str().into())),
            bind.app_id.as_ref().map(|id| Who::AppId(lower(id))),
            bind.group.as_ref().map(|id| Who::Group(lower(id))),
            bind.scope
                .as_ref()
                .map(|scope| Who::Scope(scope.as_str().into())),
            bind.user.as_ref().map(|id| {
                Who::User(if is_guid(id) {
                    lower(id)
                } else {
                    id.as_str().into()
                })
            }),
        ];
        let mut given = keys.into_iter().flatten();
        let (Some(who), None) = (given.next(), given.next()) else {
            self.mistake("a bind has exactly one of app_role, app_id, group, scope and user; several binds are several lines, of which one must fit");
            return None;
        };
        let wrong = match &who {
            Who::AppRole(word) | Who::Scope(word) | Who::User(word) if word.trim().is_empty() => {
                Some("the value is empty".to_owned())
            }
            Who::Scope(scope) if scope.contains(' ') => {
                Some("a bind names one scope; write several lines for several, or require.scopes where all must be there".to_owned())
            }
            Who::Group(id) if !is_guid(id) => Some(format!("{id:?} is not a group's object id; write the GUID and put the group's name into name")),
            Who::AppId(id) if !is_guid(id) => Some(format!("{id:?} is not an application's client id; write the GUID and put the application's name into name")),
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.mistake(&wrong);
        }
        Some(BindRule {
            who,
            tenant: bind.tenant.as_deref().map(Into::into),
        })
    }

    fn check_require(&mut self, require: &Require) {
        if require.azpacr.is_some_and(|least| least > 2) {
            self.mistake("azpacr is 0, 1 (a secret at least) or 2 (a certificate)");
        }
        if require.acct.is_some_and(|acct| acct > 1) {
            self.mistake("acct is 0 (members of the tenant) or 1 (guests)");
        }
        if let Some(client) = require.clients.iter().find(|client| !is_guid(client)) {
            self.mistake(&format!(
                "clients: {client:?} is not an application's client id; write the GUID"
            ));
        }
        if require.xms_mirid.iter().any(|id| !id.starts_with('/')) {
            self.mistake("xms_mirid begins with a slash, as /subscriptions/...");
        }
    }

    fn respond(&mut self, respond: &Respond) -> Option<Responses> {
        if respond.max == 0 {
            self.mistake(
                "max: 0 would allow no answer; write the number of answers, or -1 for any number",
            );
            return None;
        }
        if respond.ttl.get().is_zero() {
            self.mistake("ttl: 0 would allow no answer; write how long after a request it may be answered, such as 30s");
            return None;
        }
        // A negative number means any number; one beyond u32 may as well.
        let max = u32::try_from(respond.max).ok();
        Some(Responses {
            max,
            ttl: respond.ttl.get(),
        })
    }

    fn check_limits(&mut self, limits: &Limits) {
        let zero = [
            ("connections", limits.connections == Some(0)),
            ("subscriptions", limits.subscriptions == Some(0)),
            (
                "payload",
                limits.payload.is_some_and(|size| size.bytes() == 0),
            ),
            (
                "messages",
                limits.messages.is_some_and(|rate| rate.per_second() == 0),
            ),
            (
                "bytes",
                limits
                    .bytes
                    .is_some_and(|rate| rate.bytes_per_second() == 0),
            ),
        ];
        for (key, _) in zero.into_iter().filter(|(_, zero)| *zero) {
            self.within(&["limits", key], |writer| {
                writer.mistake("a limit of 0 lets nothing through; leave it out for no limit of this role's, or write the figure");
            });
        }
    }

    /// A text with templates; none, and a mistake noted, where it is not one.
    pub(super) fn template(&mut self, text: &str) -> Option<Template> {
        match Template::parse(text, self.claims) {
            Ok(template) => Some(template),
            Err(message) => {
                self.mistake(&message);
                None
            }
        }
    }

    /// Notes a mistake where a text is not a pattern, or has a token that looks like a wildcard and is none.
    pub(super) fn is_wrong_subject(&mut self, text: &str) -> bool {
        if let Err(error) = Pattern::parse(text) {
            self.mistake(&error.to_string());
            return true;
        }
        let Some(token) = text.split('.').find(|token| is_half_wildcard(token)) else {
            return false;
        };
        self.mistake(&format!(
            "the token {token:?} has a wildcard inside it, which NATS takes literally; `*` stands for one whole token and `>` for the rest"
        ));
        true
    }

    /// Adds an entry under the current place.
    pub(super) fn grant(&mut self, kind: EntryKind, subject: Template, globs: bool) {
        let rule = self.rule().into();
        self.grants.push(Grant {
            kind,
            subject,
            globs,
            rule,
        });
    }

    /// Notes a mistake at the current place.
    pub(super) fn mistake(&mut self, message: &str) {
        self.mistakes.push(Mistake {
            path: self.path.clone(),
            message: message.to_owned(),
        });
    }

    /// Works below a key.
    pub(super) fn at(&mut self, key: &str, work: impl FnOnce(&mut Self)) {
        self.within(&[key], work);
    }

    /// Works through a list below a key.
    pub(super) fn each<T>(&mut self, key: &str, items: &[T], mut work: impl FnMut(&mut Self, &T)) {
        for (index, item) in items.iter().enumerate() {
            self.within(&[key, &index.to_string()], |writer| work(writer, item));
        }
    }

    fn within<R>(&mut self, keys: &[&str], work: impl FnOnce(&mut Self) -> R) -> R {
        let depth = self.path.len();
        self.path.extend(keys.iter().map(|key| Box::from(*key)));
        let done = work(self);
        self.path.truncate(depth);
        done
    }

    /// The current place as one text: `roles.telemetry-writer.publish[0]`.
    fn rule(&self) -> String {
        let mut rule = String::new();
        for part in &self.path {
            if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
                rule.push_str(&format!("[{part}]"));
                continue;
            }
            if !rule.is_empty() {
                rule.push('.');
            }
            rule.push_str(part);
        }
        rule
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

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// A token in which a wildcard stands among other bytes.
fn is_half_wildcard(token: &str) -> bool {
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
