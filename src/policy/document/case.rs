//! `tests` as written.
//!
//! Owns: the words for what a policy promises. Must never: decide anything.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bind::PrincipalKind;
use super::is_false;
use super::text::{OneOrMany, one_or_many};
use crate::policy::units::Moment;

/// One entry of `tests`: what an identity may and may not do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestCase {
    /// Who.
    #[serde(rename = "as")]
    pub who: TestIdentity,
    /// What must be allowed: `pub SUBJECT`, `sub SUBJECT`, `sub SUBJECT queue GROUP`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What must be refused; with no role at all everything is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// The roles that must apply, all of them and no other; unchecked where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
}

/// The identity of a test: what its token would say, and where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TestIdentity {
    /// Object id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oid: Option<String>,
    /// Tenant id, or the issuer's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tid: Option<String>,
    /// Pairwise subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Client application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azp: Option<String>,
    /// How the client application proved itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azpacr: Option<u8>,
    /// Person or application; a person where scopes are given, else an application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<PrincipalKind>,
    /// App roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub app_roles: Vec<String>,
    /// Group object ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whether the groups are unknown because there are too many.
    #[serde(skip_serializing_if = "is_false")]
    pub groups_overage: bool,
    /// Delegated scopes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Authentication contexts.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub acrs: Vec<String>,
    /// Authentication methods.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    #[schemars(with = "OneOrMany")]
    pub amr: Vec<String>,
    /// 0 member, 1 guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acct: Option<u8>,
    /// ARM id of a managed identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xms_mirid: Option<String>,
    /// Claims for templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// Address of the client; 127.0.0.1 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<std::net::IpAddr>,
    /// When; the moment of the run where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
    /// The CONNECT `user` field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_role: Option<String>,
}
