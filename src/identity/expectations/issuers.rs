//! Issuers as configured, and what is wrong with one that cannot be.

use super::super::authority::{Accept, GroupForm};
use super::super::cloud::{self, Cloud};

/// Tenants of Entra, as configured.
#[derive(Clone, Debug)]
pub struct Entra {
    /// Which cloud.
    pub cloud: Cloud,
    /// Tenant ids; aliases (`common`, `organizations`) are refused.
    pub tenants: Vec<Box<str>>,
    /// The client id and the App ID URIs of the API registration, spelled exactly as tokens carry them.
    pub audiences: Vec<Box<str>>,
    /// Kinds of principal.
    pub accept: Accept,
    /// Whether v1.0 tokens are accepted too.
    pub v1_tokens: bool,
    /// A scope that every delegated token must carry.
    pub required_scope: Option<Box<str>>,
    /// Client id to append to the metadata address; needed only where claims mapping gave the registration a signing
    /// key of its own.
    pub keys_app_id: Option<Box<str>>,
    /// What the entries of `groups` are.
    pub groups: GroupForm,
}

/// A tenant of Azure AD B2C, as configured.
#[derive(Clone, Debug)]
pub struct B2c {
    /// `https://<name>.b2clogin.com`, or a domain of one's own.
    pub authority: Box<str>,
    /// Tenant id.
    pub tenant: Box<str>,
    /// User flows and custom policies whose tokens are accepted, as `B2C_1_signin`; their case does not matter.
    pub policies: Vec<Box<str>>,
    /// The client id of the API registration.
    pub audiences: Vec<Box<str>>,
    /// Kinds of principal.
    pub accept: Accept,
    /// A scope that every delegated token must carry.
    pub required_scope: Option<Box<str>>,
}

/// Any other OpenID Connect issuer, as configured.
#[derive(Clone, Debug)]
pub struct OtherIssuer {
    /// `iss`, exactly.
    pub issuer: Box<str>,
    /// Accepted audiences.
    pub audiences: Vec<Box<str>>,
    /// Kinds of principal.
    pub accept: Accept,
    /// A scope that every delegated token must carry.
    pub required_scope: Option<Box<str>>,
    /// Address of the key document; none: discovery below the issuer.
    pub keys: Option<Box<str>>,
    /// What the entries of `groups` are.
    pub groups: GroupForm,
    /// Where the roles are: the names from the payload down; none: `roles`.
    pub roles_claim: Vec<Box<str>>,
}

/// A table that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpectationsError {
    /// An alias in place of a tenant.
    #[error(
        "iss.alias: authority '{0}' has a templated issuer, so that any organisation could sign in; list tenant ids explicitly"
    )]
    Alias(Box<str>),
    /// A tenant that is not a GUID.
    #[error("tenant '{0}' is not a GUID in lower case, as 7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11 is")]
    Tenant(Box<str>),
    /// No tenant.
    #[error("no tenant is listed")]
    NoTenant,
    /// No audience.
    #[error("issuer '{0}' has no audience; without one, a token for any application would do")]
    NoAudience(Box<str>),
    /// A Microsoft API as audience.
    #[error(
        "audience '{0}' is {1}, which every application can get a token for; list your own registration"
    )]
    MicrosoftAudience(Box<str>, &'static str),
    /// Plain http to another machine, or not http at all.
    #[error("'{0}' must be an https address (plain http is accepted on loopback only)")]
    Address(Box<str>),
    /// An address that no issuer has: what is wrong with it, and what to write.
    #[error("{0}")]
    Unfit(Box<str>),
    /// Listed twice.
    #[error("issuer '{0}' is listed twice")]
    Twice(Box<str>),
    /// A policy listed twice; their case does not matter.
    #[error("policy '{0}' is listed twice; keep one")]
    PolicyTwice(Box<str>),
    /// No policy.
    #[error(
        "no policy is listed; write the user flows or custom policies whose tokens are accepted"
    )]
    NoPolicy,
    /// Not the name of a policy.
    #[error("'{0}' is not the name of a policy, as B2C_1_signin or B2C_1A_signin is")]
    Policy(Box<str>),
    /// Nobody accepted.
    #[error("issuer '{0}' accepts neither users nor applications")]
    Nobody(Box<str>),
}

pub(super) fn audiences(issuer: &str, list: &[Box<str>]) -> Result<(), ExpectationsError> {
    if list.is_empty() || list.iter().any(|audience| audience.trim().is_empty()) {
        return Err(ExpectationsError::NoAudience(issuer.into()));
    }
    for audience in list {
        if audience.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(ExpectationsError::Unfit(
                format!("audience '{audience}' has white space in it, which no token's has").into(),
            ));
        }
        if let Some(api) = cloud::microsoft_api(audience) {
            return Err(ExpectationsError::MicrosoftAudience(audience.clone(), api));
        }
    }
    Ok(())
}

pub(super) fn somebody(issuer: &str, accept: Accept) -> Result<(), ExpectationsError> {
    if accept.users || accept.apps || accept.id_tokens {
        Ok(())
    } else {
        Err(ExpectationsError::Nobody(issuer.into()))
    }
}
