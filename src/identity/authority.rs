//! One row of the table of issuers: how its tokens look, for whom they may be, and where their keys are.
//!
//! Must never: take anything from a token but the name of a row.

use super::error::{Code, TokenError};
use super::show::{self, Shown};
use super::strict_json::{Object, Value};

/// How an issuer's tokens look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Entra v1.0 access tokens.
    EntraV1,
    /// Entra v2.0 access tokens.
    EntraV2,
    /// Access tokens of Azure AD B2C: v2.0 issuers, `ver` 1.0, a policy, and perhaps no `tid`.
    B2c,
    /// Access tokens of any other OpenID Connect issuer.
    Oidc,
}

impl Shape {
    /// Whether Entra issues them, for work or for customers.
    pub(crate) const fn is_entra(self) -> bool {
        !matches!(self, Self::Oidc)
    }
}

/// Which kinds of principal are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// People.
    pub users: bool,
    /// Applications and managed identities.
    pub apps: bool,
    /// People by the ID token of a sign-in at our own registration. Such a token is meant for the application that asked
    /// for it, so it is refused unless this is said by name.
    pub id_tokens: bool,
}

impl Accept {
    /// People and applications, each by an access token.
    pub const ALL: Self = Self {
        users: true,
        apps: true,
        id_tokens: false,
    };
}

/// What the entries of a `groups` claim are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupForm {
    /// Object ids.
    #[default]
    Ids,
    /// Names, which are not unique, can be changed, and can be made by lesser administrators.
    Names,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    pub(crate) issuer: Box<str>,
    pub(crate) shape: Shape,
    /// The tenant, for Entra shapes.
    pub(crate) tid: Option<Box<str>>,
    /// What a key's own `issuer` may be, after `{tenantid}` is filled in.
    pub(crate) key_issuers: Vec<Box<str>>,
    pub(crate) keys: Keys,
    /// Whether the metadata says which host `issuer` has.
    pub(crate) reads_host: bool,
    pub(crate) audiences: Vec<Box<str>>,
    pub(crate) accept: Accept,
    pub(crate) required_scope: Option<Box<str>>,
    pub(crate) groups: GroupForm,
    /// Where the roles are, for shapes other than those of Entra: the names from the payload down.
    pub(crate) roles_claim: Vec<Box<str>>,
}

/// Which key source a token's key comes from.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    One(usize),
    /// B2C: each policy has its own; names in lower case.
    OfPolicy(Vec<(Box<str>, usize)>),
}

impl Authority {
    /// The key source for a token. The policy that the token names picks a row of a fixed table; a policy that is not in
    /// it has no keys.
    pub(crate) fn source(&self, payload: &Object<'_>) -> Result<usize, TokenError> {
        let policies = match &self.keys {
            Keys::One(source) => return Ok(*source),
            Keys::OfPolicy(policies) => policies,
        };
        let named = ["tfp", "acr"]
            .iter()
            .find_map(|name| payload.member(name).and_then(Value::as_str));
        let found = named.and_then(|named| {
            policies
                .iter()
                .find(|(policy, _)| policy.eq_ignore_ascii_case(named))
        });
        found.map(|(_, source)| *source).ok_or_else(|| {
            let listed = show::list(policies.iter().map(|(policy, _)| &**policy));
            let named = named.map_or_else(|| "no policy (tfp)".to_owned(), |n| format!("policy '{}'", Shown(n)));
            TokenError::new(
                Code::IssuerPolicy,
                format!("token names {named}; policies allowed: {listed}. Add it to policies if that is intended"),
            )
        })
    }

    /// A source that stands for all of them.
    pub(crate) fn first_source(&self) -> usize {
        match &self.keys {
            Keys::One(source) => *source,
            Keys::OfPolicy(policies) => policies.first().map_or(0, |(_, source)| *source),
        }
    }
}
