//! Who a token speaks for, and the strict gate that decides whether it may speak at all.
//!
//! Owns: [`Identity`], the keys and the gate. Must never: open a socket, read a clock, or print a token.

mod accepted;
mod address;
mod authority;
mod checks;
mod claims;
mod cloud;
mod decode;
mod error;
mod expectations;
mod header;
mod inspect;
mod keys;
mod kind;
mod metadata;
mod segments;
mod show;
mod stranger;
mod strict_json;
mod token;
mod typed;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use accepted::Accepted;
pub use authority::{Accept, GroupForm, Shape};
pub use cloud::{Cloud, is_guid};
pub use decode::{beyond, decode};
pub use error::{Code, KeyNeed, Stage, TokenError};
pub use expectations::{
    B2c, Entra, Expectations, ExpectationsError, KeyLocation, KeySource, OtherIssuer, TokenLimits,
};
pub use inspect::{Check, Inspection, Outcome, inspect, steps};
pub use keys::{HeldKeys, Key, KeyRing, KeySet, KeySetError, SkipReason, Skipped};
pub use metadata::{Metadata, MetadataError};
pub use token::{validate, validate_bound};

use crate::time::Timestamp;

/// What kind of principal the token was issued for (`entra-tokens` kinds: delegated, app-only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A person, through some client application (delegated).
    User,
    /// A service principal or managed identity (app-only).
    App,
}

/// Group memberships as the token states them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// The token lists them, or has none and no overage marker.
    Known(Vec<Box<str>>),
    /// Names, from an issuer whose names are taken at their word (`groups: names`); none of them is ever an id.
    Named(Vec<Box<str>>),
    /// Names where ids are expected, or a mixture: they say nothing, which never means none.
    Misnamed,
    /// Not from the token: the directory was asked for some groups. Of others nothing is known.
    Resolved {
        /// Those of the groups that were asked for that the identity is in.
        member: Vec<Box<str>>,
        /// Groups that were asked for, sorted, in lower case.
        asked: Arc<[Box<str>]>,
    },
    /// Overage (`_claim_names.groups`, `hasgroups`): unknown, which never means none.
    Unknown,
}

/// The identity of one accepted token. The key is `(tid, oid)`; names are for people and never decide anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Tenant id, a lower-case GUID; for another OIDC issuer, that issuer's URL.
    pub tid: Box<str>,
    /// Object id, a lower-case GUID; for another OIDC issuer without `oid`, its `sub`.
    pub oid: Box<str>,
    /// The `iss` of the token.
    pub issuer: Box<str>,
    /// Pairwise subject.
    pub sub: Option<Box<str>>,
    /// Client application id: `azp` (v2) or `appid` (v1).
    pub azp: Option<Box<str>>,
    /// How the client application authenticated: 0 public, 1 secret, 2 certificate or assertion.
    pub azpacr: Option<u8>,
    /// Person or application.
    pub kind: Kind,
    /// App roles of our registration.
    pub roles: Vec<Box<str>>,
    /// Group object ids.
    pub groups: Groups,
    /// Delegated scopes.
    pub scopes: Vec<Box<str>>,
    /// Authentication contexts (`c1`...).
    pub acrs: Vec<Box<str>>,
    /// v1 authentication methods.
    pub amr: Vec<Box<str>>,
    /// 0 member, 1 guest.
    pub acct: Option<u8>,
    /// Real sign-in time.
    pub auth_time: Option<Timestamp>,
    /// Issued at (backdated about five minutes by Entra).
    pub issued_at: Timestamp,
    /// The token's end; a session never outlives it.
    pub expires_at: Timestamp,
    /// Token id, for audit.
    pub uti: Option<Box<str>>,
    /// A name for people: `name`, `preferred_username`, `upn` or `unique_name`. Never used to decide.
    pub display_name: Option<Box<str>>,
    /// ARM id of a managed identity.
    pub xms_mirid: Option<Box<str>>,
    /// `cnf.x5t#S256`: the token is bound to the TLS client certificate with this thumbprint.
    pub certificate_thumbprint: Option<Box<str>>,
    /// String claims that the operator listed for templates.
    pub template_claims: BTreeMap<Box<str>, Box<str>>,
}

impl Identity {
    /// Somebody of whom no more is known than who it is and for how long: no role, no scope, no optional claim, in no
    /// group. What else is known is set on top: `Identity { roles, ..Identity::plain(kind, who, times) }`.
    ///
    /// `who` is tenant and object id; the issuer is named after the tenant. `times` are issue and expiry.
    #[must_use]
    pub fn plain(kind: Kind, who: (&str, &str), times: (Timestamp, Timestamp)) -> Self {
        let (tid, oid) = who;
        let (issued_at, expires_at) = times;
        Self {
            tid: tid.into(),
            oid: oid.into(),
            issuer: tid.into(),
            sub: None,
            azp: None,
            azpacr: None,
            kind,
            roles: Vec::new(),
            groups: Groups::Known(Vec::new()),
            scopes: Vec::new(),
            acrs: Vec::new(),
            amr: Vec::new(),
            acct: None,
            auth_time: None,
            issued_at,
            expires_at,
            uti: None,
            display_name: None,
            xms_mirid: None,
            certificate_thumbprint: None,
            template_claims: BTreeMap::new(),
        }
    }
}
