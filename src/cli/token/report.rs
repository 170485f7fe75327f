//! The answer of `token inspect`: one line for each check of the gate, the roles, and the verdict.

use serde::Serialize;

use super::super::output::Table;
use crate::identity::{Check, Inspection, Outcome, Stage, TokenError};
use crate::policy::RoleStanding;

/// Verdicts, which are part of the JSON output.
pub(super) const ADMITTED: &str = "admitted";
pub(super) const REFUSED: &str = "refused";
pub(super) const UNKNOWN: &str = "unknown";

/// Outcomes of a check, which are part of the JSON output.
const PASS: &str = "pass";
const FAIL: &str = "fail";
const NOT_REACHED: &str = "not reached";
const WOULD_PASS: &str = "would pass";
const WOULD_FAIL: &str = "would fail";
pub(super) const NOT_CHECKED: &str = "not checked";

/// Everything that there is to say about a token.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `admitted`; `refused`; `unknown`: there is no configuration to judge by, or keys cannot be had now.
    pub(super) verdict: &'static str,
    /// Code of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<&'static str>,
    /// As in log, audit and `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sentence: Option<String>,
    /// What to change, in Entra as a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<&'static str>,
    /// What it looks like.
    pub(super) kind: &'static str,
    /// The steps of the gate in their order.
    pub(super) checks: Vec<Line>,
    /// Roles of the configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) roles: Vec<RoleLine>,
    /// The upstream that a session would be bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<String>,
    /// What is worth knowing besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    /// Members of header and payload; the signature is never shown.
    pub(super) token: Vec<(&'static str, String)>,
}

/// One step of the gate.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) check: &'static str,
    pub(super) outcome: &'static str,
    pub(super) seen: String,
}

/// One role and what is missing for it.
#[derive(Debug, Serialize)]
pub(super) struct RoleLine {
    pub(super) role: String,
    pub(super) held: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lacks: Option<String>,
}

impl Line {
    pub(super) fn of(check: &Check, token: &[u8], seen: &Inspection) -> Self {
        let outcome = match check.outcome {
            Outcome::Passed => PASS,
            Outcome::Refused(..) => FAIL,
            Outcome::NotReached => NOT_REACHED,
        };
        Self {
            check: check.stage.label(),
            outcome,
            seen: super::seen::at(check.stage, token, seen),
        }
    }
}

impl From<RoleStanding> for RoleLine {
    fn from(standing: RoleStanding) -> Self {
        Self {
            role: standing.role.to_string(),
            held: standing.lacks.is_none(),
            lacks: standing.lacks,
        }
    }
}

impl Report {
    pub(super) fn new(kind: &'static str, seen: &Inspection) -> Self {
        Self {
            verdict: UNKNOWN,
            code: None,
            sentence: None,
            change: None,
            kind,
            checks: Vec::new(),
            roles: Vec::new(),
            upstream: None,
            notes: seen.trouble.clone(),
            token: seen.facts.clone(),
        }
    }

    pub(super) fn refuse(&mut self, code: &'static str, sentence: String) {
        self.verdict = REFUSED;
        self.code = Some(code);
        self.sentence = Some(sentence);
        self.change = Some(super::advice::change(code));
    }

    /// What the checks would say that were not reached.
    pub(super) fn look_beyond(&mut self, beyond: Vec<(Stage, Result<(), TokenError>)>) {
        for (stage, said) in beyond {
            let unreached =
                |line: &&mut Line| line.check == stage.label() && line.outcome == NOT_REACHED;
            let Some(line) = self.checks.iter_mut().find(unreached) else {
                continue;
            };
            line.outcome = if said.is_ok() { WOULD_PASS } else { WOULD_FAIL };
            // The check that refused it said the same already.
            if let Err(error) = said
                && self.code != Some(error.code())
            {
                self.notes.push(format!(
                    "it would be refused next: {}: {}. What to change: {}",
                    error.code(),
                    error.sentence(),
                    super::advice::change(error.code())
                ));
            }
        }
    }

    /// For people.
    pub(super) fn show(&self) -> String {
        let mut shown = match self.code {
            Some(code) => format!("{}: {code}\n", self.verdict),
            None => format!("{}\n", self.verdict),
        };
        if let Some(sentence) = &self.sentence {
            shown.push_str(sentence);
            shown.push('\n');
        }
        if let Some(change) = self.change {
            shown.push_str("what to change: ");
            shown.push_str(change);
            shown.push('\n');
        }
        for note in &self.notes {
            shown.push_str("note: ");
            shown.push_str(note);
            shown.push('\n');
        }
        shown.push_str(&format!("\nlooks like {}\n\n", self.kind));
        let mut checks = Table::default();
        for line in &self.checks {
            checks.row([line.check, line.outcome, &line.seen]);
        }
        shown.push_str(&checks.show());
        if !self.roles.is_empty() {
            shown.push('\n');
            let mut roles = Table::default();
            for role in &self.roles {
                let word = if role.held { "held" } else { "not held" };
                let why = role.lacks.as_deref().unwrap_or_default();
                roles.row(["role", &role.role, word, why]);
            }
            if let Some(upstream) = &self.upstream {
                roles.row(["upstream", upstream]);
            }
            shown.push_str(&roles.show());
        }
        if !self.token.is_empty() {
            shown.push('\n');
            let mut members = Table::default();
            for (name, value) in &self.token {
                members.row([name, value]);
            }
            shown.push_str(&members.show());
        }
        shown
    }
}
