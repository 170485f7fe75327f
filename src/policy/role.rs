//! Writes one role: its grants with the place of each, and its mistakes.
//!
//! Owns: what a sensible role is, and the sentences about one that is not. Must never: stop at the first mistake.

use std::collections::HashSet;

use super::assign::is_guid;
use super::compile::{Compiled, Grant, Mistake, is_half_wildcard, is_name};
use super::document::{Bind, InboxMode, Limits, Respond, Role, SubscribeGrant};
use super::require::{BindRule, Who, Window};
use super::rights::{EntryKind, Responses};
use super::template::Template;
use super::{kv, object, streams};
use crate::subject::{Pattern, tokens};

/// Writes one role and notes its mistakes. `streams`, `kv` and `object` use it too.
pub(super) struct RoleWriter<'a> {
    claims: &'a [String],
    path: Vec<Box<str>>,
    grants: Vec<Grant>,
    mistakes: &'a mut Vec<Mistake>,
}

impl<'a> RoleWriter<'a> {
    /// A writer for the role of this name.
    pub(super) fn new(name: &str, claims: &'a [String], mistakes: &'a mut Vec<Mistake>) -> Self {
        Self {
            claims,
            path: vec!["roles".into(), name.into()],
            grants: Vec::new(),
            mistakes,
        }
    }

    /// Checks and compiles the role.
    pub(super) fn role(&mut self, name: &str, role: &Role) -> Compiled {
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
        for (key, wrong) in require.mistakes() {
            self.within(&["require", key], |writer| writer.mistake(&wrong));
        }
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
            stream_config: role.stream_config,
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
            self.mistake("nobody is bound to the role; write bind with at least one of app_role, app_id, group, group_name, scope or user");
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
        // Other issuers name people and applications as they like, and their letters count.
        let named = |id: &String| match is_guid(id) {
            true => lower(id),
            false => id.as_str().into(),
        };
        let keys = [
            bind.app_role
                .as_ref()
                .map(|role| Who::AppRole(role.as_str().into())),
            bind.app_id.as_ref().map(|id| Who::AppId(named(id))),
            bind.group.as_ref().map(|id| Who::Group(lower(id))),
            bind.group_name
                .as_ref()
                .map(|name| Who::GroupName(name.as_str().into())),
            bind.scope
                .as_ref()
                .map(|scope| Who::Scope(scope.as_str().into())),
            bind.user.as_ref().map(|id| Who::User(named(id))),
        ];
        let mut given = keys.into_iter().flatten();
        let (Some(who), None) = (given.next(), given.next()) else {
            self.mistake("a bind has exactly one of app_role, app_id, group, group_name, scope and user; several binds are several lines, of which one must fit");
            return None;
        };
        let wrong = match &who {
            Who::AppRole(word) | Who::AppId(word) | Who::GroupName(word) | Who::Scope(word) | Who::User(word)
                if word.trim().is_empty() => {
                Some("the value is empty".to_owned())
            }
            Who::AppRole(word) if word.trim() != &**word => {
                Some(format!("{word:?} has white space around it, which no token has"))
            }
            Who::Scope(scope) if scope.contains("://") => {
                Some(format!("{scope:?} is no scope as tokens have it; write it without its api:// prefix, as Nats.Access"))
            }
            Who::Scope(scope) if scope.contains(' ') => {
                Some("a bind names one scope; write several lines for several, or require.scopes where all must be there".to_owned())
            }
            Who::Group(id) if !is_guid(id) => Some(format!("{id:?} is not a group's object id; write the GUID and put the group's name into name")),
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
