//! Why an identity gets nothing: a code to count and a sentence to act on.
//!
//! Owns: the closed set of refusal codes and their sentences. Must never: be shown to a client, or hold a secret.

use super::compile::Compiled;
use super::require::Unmet;
use crate::identity::{Groups, Identity, Kind};

/// Why an identity gets nothing. The client sees nothing of it but an authorization violation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {sentence}")]
pub struct Refusal {
    code: &'static str,
    sentence: Box<str>,
}

impl Refusal {
    /// Closed set, a metric label: see [`Self::CODES`].
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// For the log and the audit: what was found and what to do.
    pub fn sentence(&self) -> String {
        self.sentence.to_string()
    }

    /// Whether the code of a refusal means that a role might be held, if it were known which groups the identity is in.
    pub fn speaks_of_unknown_groups(code: &str) -> bool {
        matches!(code, OVERAGE | NAMES)
    }

    /// Every code.
    pub const CODES: [&'static str; 7] = [
        NO_RULE, CONDITION, WINDOW, UPSTREAM, OVERAGE, NAMES, VANISHED,
    ];
}

/// No role names the identity.
const NO_RULE: &str = "authz.norule";
/// Roles name the identity, but a `require` of each does not hold.
const CONDITION: &str = "authz.condition";
/// Roles name the identity, but none exists now.
const WINDOW: &str = "authz.window";
/// The roles name different upstreams and nothing picks one.
const UPSTREAM: &str = "authz.upstream";
/// The groups are not in the token because there are too many.
const OVERAGE: &str = "groups.overage";
/// The token has names of groups instead of ids.
const NAMES: &str = "groups.names";
/// A deny entry cannot be made for the identity.
const VANISHED: &str = "authz.template";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Uncertain {
    /// There are too many for the token.
    Overage,
    /// Names where ids are bound.
    Names,
    /// Ids where names are bound, or names that nobody said may be believed.
    Ids,
}

pub(super) enum Lacks {
    Bind,
    Window,
    Condition(Unmet),
}

/// The refusal of an identity that holds no role.
pub(super) fn refusal(
    identity: &Identity,
    uncertain: Option<Uncertain>,
    lacks: &[(&Compiled, Lacks)],
) -> Refusal {
    match uncertain {
        Some(Uncertain::Overage) => {
            return Refusal {
                code: OVERAGE,
                sentence: "user is in more than 200 groups, so the groups are not in the token, and roles go by group here. Look them up in Graph (entra.graph), have only the groups that are assigned to the application put into the token (groupMembershipClaims: ApplicationGroup), or bind by app_role".into(),
            };
        }
        Some(Uncertain::Names) => {
            return Refusal {
                code: NAMES,
                sentence: "the groups claim holds names (sam_account_name or alike); rules are by GUID. Have the app registration emit group ids, bind by app_role, or take names at their word with groups: names at the issuer and bind by group_name".into(),
            };
        }
        Some(Uncertain::Ids) => {
            return Refusal {
                code: NAMES,
                sentence: "roles are bound by group_name, and the names of groups are not taken at their word from this issuer. Set groups: names there knowingly, or bind by group with the ids".into(),
            };
        }
        None => {}
    }
    let unmet: Vec<String> = lacks
        .iter()
        .filter_map(|(role, why)| match why {
            Lacks::Condition(unmet) => Some(format!("{}: {}", role.name, unmet)),
            Lacks::Bind | Lacks::Window => None,
        })
        .collect();
    if !unmet.is_empty() {
        return Refusal {
            code: CONDITION,
            sentence: format!(
                "roles name this identity, but not under these circumstances ({})",
                unmet.join("; ")
            )
            .into(),
        };
    }
    let outside: Vec<String> = lacks
        .iter()
        .filter(|(_, why)| matches!(why, Lacks::Window))
        .map(|(role, _)| format!("{} ({})", role.name, role.window))
        .collect();
    if !outside.is_empty() {
        return Refusal {
            code: WINDOW,
            sentence: format!(
                "roles name this identity, but are not valid at this time: {}. Change their valid if they should exist now",
                outside.join(", ")
            )
            .into(),
        };
    }
    Refusal {
        code: NO_RULE,
        sentence: no_rule(identity).into(),
    }
}

fn no_rule(identity: &Identity) -> String {
    let groups = match &identity.groups {
        Groups::Known(groups) | Groups::Named(groups) | Groups::Resolved { member: groups, .. } => {
            groups.len().to_string()
        }
        Groups::Unknown | Groups::Misnamed => "unknown".to_owned(),
    };
    let kind = match identity.kind {
        Kind::User => "a person",
        Kind::App => "an application",
    };
    format!(
        "authenticated as {}/{} ({kind}) with app roles [{}], scopes [{}], client {}, groups {groups}; no role is bound to any of these. Assign one of the app roles that the roles here bind to, or add this identity to the bind of a role",
        identity.tid,
        identity.oid,
        identity.roles.join(", "),
        identity.scopes.join(", "),
        identity.azp.as_deref().unwrap_or("unknown"),
    )
}

/// The refusal for roles on different upstreams between which nothing decides.
pub(super) fn split_upstreams(roles: &[&Compiled]) -> Refusal {
    let pairs: Vec<String> = roles
        .iter()
        .map(|role| format!("{} on {}", role.name, role.upstream))
        .collect();
    Refusal {
        code: UPSTREAM,
        sentence: format!(
            "the roles of this identity name different upstreams ({}); give one of them the highest priority, or let the client put a role's name into the user field of CONNECT",
            pairs.join(", ")
        )
        .into(),
    }
}

/// The refusal for a deny entry that cannot be made.
pub(super) fn no_deny(rule: &str, template: &str) -> Refusal {
    Refusal {
        code: VANISHED,
        sentence: format!("{rule} denies with {{{template}}}, for which this identity has no value that is one token; what should be denied cannot be known, so nothing is granted").into(),
    }
}
