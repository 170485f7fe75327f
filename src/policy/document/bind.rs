//! `bind` and `require` as written.
//!
//! Owns: the words for who has a role. Must never: decide anything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{OneOrMany, at_least_one, one_or_more};
use crate::policy::units::{Cidr, HumanDuration};

/// One line of `bind`: exactly one of `app_role`, `app_id`, `group`, `group_name`, `scope` and `user`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// An app role of our registration (`roles` claim), compared exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<String>,
    /// A client application (`azp` or `appid`; of another issuer its name), as itself: app-only tokens. For people who use an application see
    /// `require.clients`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// A group's object id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// A group's name, compared exactly, for issuers with `groups: names`. Names are not unique and can be made anew by
    /// lesser administrators; prefer `group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    /// A delegated scope (`scp` claim); people only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// An object id: one person, service principal or managed identity. For another issuer its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only for identities of this tenant (a GUID), or of this issuer (its URL).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// A name for people; never decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Conditions on the token and the connection; all must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Require {
    /// Authentication contexts (`c1`) that the token must state; all of them.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_more"
    )]
    #[schemars(with = "OneOrMany")]
    pub acrs: Vec<String>,
    /// How well the client application proved itself, at least: 0 not at all, 1 with a secret, 2 with a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2))]
    pub azpacr: Option<u8>,
    /// Where the connection comes from.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "at_least_one"
    )]
    pub source: Vec<Cidr>,
    /// 0 for members of the tenant only, 1 for guests only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1))]
    pub acct: Option<u8>,
    /// Client applications (`azp` or `appid`) that may be used.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_more"
    )]
    #[schemars(with = "OneOrMany")]
    pub clients: Vec<String>,
    /// How long ago the person may have signed in (`auth_time`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_age: Option<HumanDuration>,
    /// How long ago the token may have been issued (`iat`; Entra backdates it by five minutes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_token_age: Option<HumanDuration>,
    /// Authentication methods of v1 tokens (`mfa`); all of them.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_more"
    )]
    #[schemars(with = "OneOrMany")]
    pub amr: Vec<String>,
    /// Delegated scopes that the token must have; all of them.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_more"
    )]
    #[schemars(with = "OneOrMany")]
    pub scopes: Vec<String>,
    /// ARM ids of managed identities (`xms_mirid`), or what they begin with up to a slash; any of them, whatever the
    /// case.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_more"
    )]
    #[schemars(with = "OneOrMany")]
    pub xms_mirid: Vec<String>,
    /// `true`: only tokens that are bound to the client's TLS certificate (`cnf` with `x5t#S256`), which is checked
    /// wherever a token has it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cnf: bool,
    /// People only or applications only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<PrincipalKind>,
}

/// What kind of principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PrincipalKind {
    /// A person through some application.
    User,
    /// A service principal or managed identity.
    App,
}
