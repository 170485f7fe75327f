//! The tests that a policy carries: `tests:` in the configuration, run by `natsentry check`.
//!
//! Owns: what a line of a test means, and the sentence about one that fails. Must never: judge by other rules than a
//! session would.

use std::net::{IpAddr, Ipv4Addr};

use super::assign::{Assignment, Circumstances};
use super::compile::{Mistake, Policy};
use super::document::{Document, PrincipalKind, TestCase, TestIdentity};
use super::explain::Explanation;
use crate::identity::{Groups, Identity, Kind};
use crate::time::Timestamp;

/// How long a test's token is good for, in seconds. No condition looks at it.
const TOKEN_SECS: u64 = 3600;

/// Stands where a test names nobody.
const NO_ID: &str = "00000000-0000-0000-0000-000000000000";

/// One line of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Publish(&'a str),
    Subscribe(&'a str, Option<&'a str>),
}

impl Policy {
    /// Runs the tests of a document and answers with those that fail. `now` is the moment that a test means when it
    /// names none.
    pub fn run_tests(&self, document: &Document, now: Timestamp) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for (index, test) in document.tests.iter().enumerate() {
            let path = ["tests".into(), index.to_string().into()];
            self.run_test(test, &path, now, &mut mistakes);
        }
        mistakes
    }

    fn run_test(
        &self,
        test: &TestCase,
        path: &[Box<str>],
        now: Timestamp,
        mistakes: &mut Vec<Mistake>,
    ) {
        let now = test.who.at.map_or(now, |moment| moment.begins());
        let identity = identity(&test.who, now);
        let circumstances = Circumstances {
            source: test.who.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            now,
            requested_role: test.who.requested_role.as_deref(),
        };
        let mut fail = |key: &str, index: Option<usize>, message: String| {
            let mut path = path.to_vec();
            path.push(key.into());
            path.extend(index.map(|index| index.to_string().into()));
            mistakes.push(Mistake { path, message });
        };
        let assigned = self.assign(&identity, &circumstances);
        if let Some(wanted) = &test.roles {
            let found: Vec<&str> = match &assigned {
                Ok(assignment) => assignment.roles.iter().map(|role| &**role).collect(),
                Err(_) => Vec::new(),
            };
            let mut wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            wanted.sort_unstable();
            if found != wanted {
                let found = found.join(", ");
                fail(
                    "roles",
                    None,
                    format!("the identity has the roles [{found}]"),
                );
            }
        }
        for (key, lines, wanted) in [("allow", &test.allow, true), ("deny", &test.deny, false)] {
            for (index, text) in lines.iter().enumerate() {
                let Some(line) = parse(text) else {
                    fail(
                        key,
                        Some(index),
                        format!(
                            "{text:?} is not a test; write `pub SUBJECT`, `sub SUBJECT` or `sub SUBJECT queue GROUP`"
                        ),
                    );
                    continue;
                };
                match &assigned {
                    Err(refusal) if wanted => {
                        fail(
                            key,
                            Some(index),
                            format!(
                                "{text} is refused, since the identity gets no role: {}",
                                refusal.sentence()
                            ),
                        );
                    }
                    Err(_) => {}
                    Ok(assignment) => {
                        let found = self.explain(assignment, line);
                        if found.allowed != wanted {
                            fail(key, Some(index), sentence(text, &found));
                        }
                    }
                }
            }
        }
    }

    fn explain(&self, assignment: &Assignment, line: Line<'_>) -> Explanation {
        match line {
            Line::Publish(subject) => self.explain_publish(assignment, subject.as_bytes()),
            Line::Subscribe(subject, queue) => {
                self.explain_subscribe(assignment, subject.as_bytes(), queue.map(str::as_bytes))
            }
        }
    }
}

/// `pub SUBJECT`, `sub SUBJECT` or `sub SUBJECT queue GROUP`.
fn parse(text: &str) -> Option<Line<'_>> {
    let mut words = text.split_ascii_whitespace();
    let line = match words.next()? {
        "pub" => Line::Publish(words.next()?),
        "sub" => {
            let subject = words.next()?;
            match words.next() {
                None => Line::Subscribe(subject, None),
                Some("queue") => Line::Subscribe(subject, Some(words.next()?)),
                Some(_) => return None,
            }
        }
        _ => return None,
    };
    words.next().is_none().then_some(line)
}

fn sentence(text: &str, found: &Explanation) -> String {
    let rule = found.rule.as_deref();
    match (found.allowed, found.reason) {
        (true, _) => match rule {
            Some(rule) => format!("{text} is allowed by {rule}"),
            None => format!("{text} is allowed, as an inbox of the session's own"),
        },
        (false, reason) => {
            let reason = reason.map_or("not_granted", |reason| reason.label());
            match rule {
                Some(rule) => format!("{text} is refused by {rule} ({reason})"),
                None => format!("{text} is refused ({reason})"),
            }
        }
    }
}

impl TestIdentity {
    /// The identity that is described, with a token that was issued and signed in for at that moment.
    pub fn identity(&self, now: Timestamp) -> Identity {
        identity(self, now)
    }
}

/// The identity that a test describes, with a token that was issued and signed in for at that moment.
fn identity(who: &TestIdentity, now: Timestamp) -> Identity {
    let boxed = |text: &Option<String>| text.as_deref().map(Box::from);
    let list = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
    let kind = match who.kind {
        Some(PrincipalKind::User) => Kind::User,
        Some(PrincipalKind::App) => Kind::App,
        None if who.scopes.is_empty() => Kind::App,
        None => Kind::User,
    };
    let groups = match who.groups_overage {
        true => Groups::Unknown,
        false => Groups::Known(list(&who.groups)),
    };
    let tid = who.tid.as_deref().unwrap_or(NO_ID);
    let oid = who.oid.as_deref().unwrap_or(NO_ID);
    let end = Timestamp::from_secs(now.as_secs().saturating_add(TOKEN_SECS));
    Identity {
        issuer: "tests".into(),
        sub: boxed(&who.sub),
        azp: boxed(&who.azp),
        azpacr: who.azpacr,
        roles: list(&who.app_roles),
        groups,
        scopes: list(&who.scopes),
        acrs: list(&who.acrs),
        amr: list(&who.amr),
        acct: who.acct,
        auth_time: Some(now),
        xms_mirid: boxed(&who.xms_mirid),
        template_claims: who
            .claims
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
            .collect(),
        ..Identity::plain(kind, (tid, oid), (now, end))
    }
}
