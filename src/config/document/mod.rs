//! The configuration file as an operator writes it.
//!
//! Owns: the keys, their types and their defaults; the JSON Schema is made from these types. Must never: check one
//! key against another, open a file or look at the environment; `check` does, with positions at hand.

mod audit;
mod credential;
mod graph;
mod keys;
mod limits;
mod listen;
mod locks;
mod trust;
mod upstream;
mod vault;
mod words;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::document::{Role, TestCase};

pub use audit::{Audit, AuditTarget, AuditWhenFull, Sampling};
pub use credential::{
    ClientCertificate, ClientSecret, CredentialKind, ManagedIdentity, OwnCredential, Secretless,
    WorkloadIdentity,
};
pub use graph::{Graph, GraphCache, GraphOutage, GroupsOverage};
pub use keys::Keys;
pub use limits::Limits;
pub use listen::{
    Admin, Listen, ListenTls, ProxyProtocol, ProxyProtocolMode, TlsMode, TrustedProxies,
};
pub use locks::Locks;
pub use trust::{
    Accepted, Cloud, CloudName, CustomCloud, Entra, GroupForm, Issuer, KeySource, Profile,
};
pub use upstream::{
    Credentials, TlsFirst, Upstream, UpstreamAuth, UpstreamProxyProtocol, UpstreamTls,
};
pub use vault::KeyVault;
pub use words::{Address, Reserved};

/// The version of the schema that this program reads.
pub const VERSION: u32 = 1;

/// Configuration of natsentry.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "natsentry configuration")]
pub struct Document {
    /// Version of this schema: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Where clients connect.
    pub listen: Listen,
    /// Metrics and health over HTTP. Without it there is no such listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<Admin>,
    /// Microsoft Entra ID: whose tokens are accepted. `entra`, `issuers` or both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entra: Option<Entra>,
    /// Other OpenID Connect issuers whose access tokens are accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<Issuer>,
    /// How the signing keys of issuers are kept.
    #[serde(default)]
    pub keys: Keys,
    /// How secrets behind `keyvault:` references are read.
    #[serde(default)]
    pub keyvault: KeyVault,
    /// NATS servers behind this proxy, by a name that roles refer to.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Named sets of grants. Nobody may do anything that no role grants.
    #[serde(default)]
    pub roles: BTreeMap<String, Role>,
    /// Claims that templates in subjects may name besides `oid`, `tid`, `azp` and `sub`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub template_claims: Vec<String>,
    /// What must hold of these roles; run by `natsentry check`, and before a configuration takes effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<TestCase>,
    /// The audit trail, one JSON object a line. Without it there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Audit>,
    /// Where an operator's locks are kept.
    #[serde(default)]
    pub locks: Locks,
    /// Bounds on everything that a peer controls.
    #[serde(default)]
    pub limits: Limits,
}
