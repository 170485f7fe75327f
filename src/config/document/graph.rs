//! `entra.graph`: groups that are not in tokens, looked up in Microsoft Graph.
//!
//! Owns: names and defaults. Must never: say where Graph is; the cloud does.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential::OwnCredential;
use crate::policy::units::HumanDuration;

/// Groups that are not in tokens, looked up in Microsoft Graph. Without this section Graph is never asked.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// Who asks. Needs the application permissions `User.Read.All` (people), `Application.Read.All` (applications) and
    /// `GroupMember.Read.All` of Microsoft Graph.
    pub credential: OwnCredential,
    /// Whose groups are looked up.
    #[serde(default)]
    pub groups_overage: GroupsOverage,
    /// What happens while Graph cannot be asked.
    #[serde(default)]
    pub outage: GraphOutage,
    /// What is remembered.
    #[serde(default)]
    pub cache: GraphCache,
    /// Longest time of one lookup; the client waits for it, within `limits.handshake`.
    #[serde(default = "timeout")]
    pub timeout: HumanDuration,
    /// Lookups at a time; others wait for their turn.
    #[serde(default = "lookups")]
    #[schemars(range(min = 1, max = 256))]
    pub lookups: u32,
}

/// Whose groups are looked up. Only groups that roles are bound to are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GroupsOverage {
    /// Of those whose token does not say: people in more than 200 groups, tokens with names where ids are meant, and
    /// applications, whose tokens list no groups.
    #[default]
    Lookup,
    /// Of everybody, whatever the token says: memberships as they are and not as they were when the token was issued.
    Always,
    /// Of nobody: whoever has too many groups for the token gets no role that is bound to a group.
    Refuse,
}

/// What happens to those whose groups are not known while Graph cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GraphOutage {
    /// Not now: the connection is closed without an error, and the client tries again.
    #[default]
    Deny,
    /// The last answer counts, up to `cache.stale`; without one, as `deny`.
    Cached,
    /// Roles that are not bound to groups are given; of those that are, only what they deny counts. Who has no other
    /// role: as `deny`.
    RolesOnly,
}

/// What is remembered of Graph's answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GraphCache {
    /// So long an answer is good without asking again, which is how late a change of membership may be seen by new
    /// sessions.
    pub fresh: HumanDuration,
    /// So long it counts while Graph cannot be asked, with `outage: cached`.
    pub stale: HumanDuration,
    /// Most principals remembered.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub entries: u32,
}

impl Default for GraphCache {
    fn default() -> Self {
        Self {
            fresh: HumanDuration::new(Duration::from_secs(60)),
            stale: HumanDuration::new(Duration::from_secs(3600)),
            entries: 10_000,
        }
    }
}

const fn timeout() -> HumanDuration {
    HumanDuration::new(Duration::from_secs(5))
}

const fn lookups() -> u32 {
    16
}
