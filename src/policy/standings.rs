//! How each role stands to one identity: held, or what is missing. For people; nothing here decides.
//!
//! Must never: judge by other rules than [`Policy::assign`] does.

use std::sync::Arc;

use super::assign::{Circumstances, Standing, standing};
use super::compile::{Compiled, Policy};
use super::refusal::{Lacks, Uncertain};
use crate::identity::Identity;

/// One role and how an identity stands to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleStanding {
    /// Name of the role.
    pub role: Arc<str>,
    /// The upstream that it is for. An identity that holds roles of several gets those of one.
    pub upstream: Arc<str>,
    /// What is missing; none: the identity holds the role.
    pub lacks: Option<String>,
}

impl Policy {
    /// Every role in the order of the document, and what an identity lacks for it.
    pub fn standings(
        &self,
        identity: &Identity,
        circumstances: &Circumstances<'_>,
    ) -> Vec<RoleStanding> {
        let stands = |role: &Compiled| RoleStanding {
            role: Arc::clone(&role.name),
            upstream: Arc::clone(&role.upstream),
            lacks: match standing(role, identity, circumstances) {
                Standing::Holds => None,
                Standing::Perhaps(Uncertain::Overage) => Some(format!(
                    "{}; the groups are not in the token, because there are too many",
                    bound_to(role)
                )),
                Standing::Perhaps(Uncertain::Names) => Some(format!(
                    "{}; the groups in the token are names instead of ids",
                    bound_to(role)
                )),
                Standing::Perhaps(Uncertain::Ids) => Some(format!(
                    "{}; the groups in the token are ids, or names that entra.groups does not admit",
                    bound_to(role)
                )),
                Standing::Lacks(Lacks::Bind) => {
                    Some(format!("{}, which the token does not have", bound_to(role)))
                }
                Standing::Lacks(Lacks::Window) => Some("not valid at this time (valid)".to_owned()),
                Standing::Lacks(Lacks::Condition(unmet)) => Some(format!("require: {unmet}")),
            },
        };
        self.roles.iter().map(stands).collect()
    }
}

fn bound_to(role: &Compiled) -> String {
    let binds: Vec<String> = role.binds.iter().map(ToString::to_string).collect();
    format!("bound to {}", binds.join(" or "))
}
