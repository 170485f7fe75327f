//! The answer of `explain`: verdict, reason, the line of the policy, and what to do.

use serde::Serialize;

use super::super::bearer::RefusedToken;
use super::super::output::Table;
use super::ExplainOptions;
use crate::config::Config;
use crate::identity::{Groups, Identity, Kind};
use crate::policy::{Assignment, DenialReason, Explanation, Refusal};
use crate::session::Refusal as Reason;

/// What is asked.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Question {
    operation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
}

/// Verdicts, which are part of the JSON output.
const ALLOWED: &str = "allowed";
const DENIED: &str = "denied";
const REFUSED: &str = "refused";

/// The answer, for people and for scripts.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Answer {
    /// `allowed`; `denied`: the session lives, the operation does not; `refused`: there is no session.
    verdict: &'static str,
    #[serde(flatten)]
    question: Question,
    /// Code of a refusal or denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// What was found and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    sentence: Option<String>,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// Where it stands, as `FILE:LINE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Who>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    /// What is worth knowing besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// What a refused token seems to say; nothing of it is verified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    token: Vec<(&'static str, String)>,
}

/// The identity as it was judged.
#[derive(Clone, Debug, Serialize)]
struct Who {
    tid: String,
    oid: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    azp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    app_roles: Vec<String>,
    scopes: Vec<String>,
    /// None: unknown, because there are too many for the token.
    groups: Option<Vec<String>>,
    expires_at: String,
}

impl Question {
    pub(super) fn of(options: &ExplainOptions) -> Self {
        let (operation, subject) = match (&options.publish, &options.subscribe) {
            (Some(subject), _) => ("publish", Some(subject.clone())),
            (_, Some(subject)) => ("subscribe", Some(subject.clone())),
            _ => ("connect", None),
        };
        Self {
            operation,
            subject,
            queue: options.queue.clone(),
        }
    }

    fn show(&self) -> String {
        let subject = self
            .subject
            .as_ref()
            .map(|subject| format!(" {subject}"))
            .unwrap_or_default();
        let queue = self
            .queue
            .as_ref()
            .map(|queue| format!(" queue {queue}"))
            .unwrap_or_default();
        format!("{}{subject}{queue}", self.operation)
    }
}

impl Who {
    fn of(identity: &Identity) -> Self {
        let list = |texts: &[Box<str>]| texts.iter().map(|text| text.to_string()).collect();
        Self {
            tid: identity.tid.to_string(),
            oid: identity.oid.to_string(),
            kind: match identity.kind {
                Kind::User => "user",
                Kind::App => "app",
            },
            azp: identity.azp.as_deref().map(Into::into),
            name: identity.display_name.as_deref().map(Into::into),
            app_roles: list(&identity.roles),
            scopes: list(&identity.scopes),
            groups: match &identity.groups {
                Groups::Known(groups) | Groups::Named(groups) => Some(list(groups)),
                Groups::Resolved { member, .. } => Some(list(member)),
                Groups::Unknown | Groups::Misnamed => None,
            },
            expires_at: identity.expires_at.to_string(),
        }
    }

    fn show(&self, table: &mut Table) {
        let name = self
            .name
            .as_ref()
            .map(|name| format!(" ({name})"))
            .unwrap_or_default();
        table.row([
            "identity",
            &format!("{} {}/{}{name}", self.kind, self.tid, self.oid),
        ]);
        if let Some(azp) = &self.azp {
            table.row(["through", azp]);
        }
        for (what, list) in [("app roles", &self.app_roles), ("scopes", &self.scopes)] {
            if !list.is_empty() {
                table.row([what, &list.join(", ")]);
            }
        }
        match &self.groups {
            None => table.row(["groups", "unknown: too many for the token"]),
            Some(groups) if !groups.is_empty() => table.row(["groups", &groups.join(", ")]),
            Some(_) => {}
        }
    }
}

impl Answer {
    fn new(verdict: &'static str, question: Question) -> Self {
        Self {
            verdict,
            question,
            code: None,
            sentence: None,
            rule: None,
            place: None,
            identity: None,
            roles: Vec::new(),
            upstream: None,
            notes: Vec::new(),
            token: Vec::new(),
        }
    }

    /// The gate refused the token.
    pub(super) fn token_refused(question: Question, refused: &RefusedToken) -> Self {
        Self {
            code: Some(refused.error.code()),
            sentence: Some(refused.error.sentence()),
            notes: refused.fetching.iter().cloned().collect(),
            token: refused.facts.clone(),
            ..Self::new(REFUSED, question)
        }
    }

    /// The identity gets nothing.
    pub(super) fn no_role(question: Question, identity: &Identity, refusal: &Refusal) -> Self {
        Self {
            code: Some(refusal.code()),
            sentence: Some(refusal.sentence()),
            identity: Some(Who::of(identity)),
            ..Self::new(REFUSED, question)
        }
    }

    /// There is no admission, for want of groups.
    pub(super) fn turned_away(question: Question, identity: &Identity, why: &Reason) -> Self {
        Self {
            code: Some(why.code),
            sentence: Some(why.sentence.to_string()),
            identity: Some(Who::of(identity)),
            ..Self::new(REFUSED, question)
        }
    }

    /// The same, where Graph could not be asked.
    pub(super) fn noting(mut self, why: &Reason) -> Self {
        self.notes.push(format!("{}: {}", why.code, why.sentence));
        self
    }

    /// The policy decided.
    pub(super) fn judged(
        config: &Config,
        question: Question,
        identity: &Identity,
        assignment: &Assignment,
    ) -> Self {
        let policy = &config.policy;
        let explanation = match (question.operation, question.subject.as_deref()) {
            ("publish", Some(subject)) => {
                Some(policy.explain_publish(assignment, subject.as_bytes()))
            }
            ("subscribe", Some(subject)) => Some(policy.explain_subscribe(
                assignment,
                subject.as_bytes(),
                question.queue.as_deref().map(str::as_bytes),
            )),
            _ => None,
        };
        let allowed = explanation
            .as_ref()
            .is_none_or(|explanation| explanation.allowed);
        let roles: Vec<String> = assignment
            .roles
            .iter()
            .map(|role| role.to_string())
            .collect();
        let mut answer = Self::new(if allowed { ALLOWED } else { DENIED }, question);
        if let Some(explanation) = explanation {
            answer.explain(config, &explanation, &roles);
        }
        if assignment.observe {
            answer
                .notes
                .push("every role says `mode: observe`: refusals are recorded only".to_owned());
        }
        for vanished in &assignment.vanished {
            let place = config.source.line_of(&vanished.rule).unwrap_or_default();
            answer.notes.push(format!(
                "{} ({place}) does not exist for this identity: it has no usable value for {{{}}}",
                vanished.rule, vanished.template
            ));
        }
        answer.identity = Some(Who::of(identity));
        answer.upstream = Some(assignment.upstream.to_string());
        answer.roles = roles;
        answer
    }

    fn explain(&mut self, config: &Config, explanation: &Explanation, roles: &[String]) {
        self.rule = explanation.rule.as_deref().map(Into::into);
        self.place = explanation
            .rule
            .as_deref()
            .and_then(|rule| config.source.line_of(rule));
        self.code = explanation.reason.map(DenialReason::label);
        self.sentence = explanation
            .reason
            .map(|reason| advice(reason, self.question.operation, roles));
        if explanation.allowed && explanation.rule.is_none() {
            self.notes
                .push("an inbox of the session's own (`inbox: private`)".to_owned());
        }
        if explanation.filtered {
            self.notes.push(
                "a deny entry overlaps: messages on denied subjects are kept back".to_owned(),
            );
        }
    }

    pub(super) fn is_allowed(&self) -> bool {
        self.verdict == ALLOWED
    }

    /// For people.
    pub(super) fn show(&self) -> String {
        let mut table = Table::default();
        if let Some(code) = self.code {
            table.row(["reason", code]);
        }
        if let Some(rule) = &self.rule {
            table.row(["rule", rule]);
        }
        if let Some(place) = &self.place {
            table.row(["line", place]);
        }
        if let Some(who) = &self.identity {
            who.show(&mut table);
        }
        if !self.roles.is_empty() {
            table.row(["roles", &self.roles.join(", ")]);
        }
        if let Some(upstream) = &self.upstream {
            table.row(["upstream", upstream]);
        }
        for note in &self.notes {
            table.row(["note", note]);
        }
        for (name, value) in &self.token {
            table.row(["token", &format!("{name} {value}")]);
        }
        let sentence = self
            .sentence
            .as_ref()
            .map(|text| format!("{text}\n"))
            .unwrap_or_default();
        format!(
            "{}: {}\n{sentence}{}",
            self.verdict,
            self.question.show(),
            table.show()
        )
    }
}

/// What to do about a denial.
fn advice(reason: DenialReason, operation: &str, roles: &[String]) -> String {
    match reason {
        DenialReason::NotGranted => {
            let roles = roles.join(", ");
            format!(
                "no role of this identity ({roles}) grants it; add the subject under `{operation}` of a role, \
                 or assign a role that has it"
            )
        }
        DenialReason::Denied => {
            "a deny entry matches, and wins over every grant; narrow the entry if that is not meant".to_owned()
        }
        DenialReason::ReservedSubject => {
            "the subject belongs to the inside of the server and is refused to everybody".to_owned()
        }
        DenialReason::ReservedReply => {
            "the reply subject has a prefix that nats-server reserves".to_owned()
        }
        DenialReason::ReplyNotOwn => {
            "the reply subject is not an inbox of the session's own, nor one that it may publish to".to_owned()
        }
        DenialReason::InboxTaken => "another identity holds this inbox".to_owned(),
        DenialReason::QueueOverlapsDeny => {
            "a deny entry overlaps this queue subscription: the server would pick this member for messages that \
             it may not have; subscribe without the queue group, or to subjects that do not overlap"
                .to_owned()
        }
        DenialReason::SystemQueue => "nats-server refuses the queue group `_sys_` to everybody".to_owned(),
        DenialReason::HeaderSubject => "a header names a subject that is not granted".to_owned(),
        DenialReason::StreamConfig => {
            "the configuration of a stream names a subject, a stream or a destination that is not granted; `stream_config: any` \
             on a role leaves it unjudged"
                .to_owned()
        }
        DenialReason::DeliverSubject => {
            "the body asks the server to deliver to a subject that is neither an inbox of the session's own nor one that it may publish to"
                .to_owned()
        }
    }
}
