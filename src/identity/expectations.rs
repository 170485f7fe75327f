//! What a token must say to be for us: a fixed table of issuers, each with its keys, audiences and kinds.
//!
//! Owns: the table, and the places where each issuer's keys are to be had. Must never: change while it is in use; a new
//! configuration makes a new table.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::address;
use super::authority::{Accept, Authority, GroupForm, Keys, Shape};
use super::cloud::{self, Cloud, is_guid};
use super::keys::KeyRing;

/// The table. `iss` picks a row by its exact bytes; nothing in a token can make the gate look anywhere else.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    authorities: Vec<Authority>,
    by_issuer: HashMap<Box<str>, usize>,
    sources: Vec<KeySource>,
    clouds: Vec<Cloud>,
    pub(crate) limits: TokenLimits,
    pub(crate) template_claims: Vec<Box<str>>,
}

/// Bounds of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLimits {
    /// Longest token in bytes.
    pub size: usize,
    /// How far ahead of our clock `nbf` and `iat` may lie. `exp` has no leeway.
    pub skew: Duration,
    /// Longest lifetime (`exp` minus the earlier of `nbf` and `iat`); managed identities and continuous access
    /// evaluation reach 28 hours.
    pub lifetime: Duration,
}

impl Default for TokenLimits {
    /// 32 KiB, 60 s, 28 h.
    fn default() -> Self {
        Self {
            size: 32 * 1024,
            skew: Duration::from_secs(60),
            lifetime: Duration::from_secs(28 * 3600),
        }
    }
}

/// Where the keys of an issuer are to be had.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeySource {
    /// Name for logs, metrics and the file of the last good set.
    pub name: Box<str>,
    /// The document to begin with.
    pub location: KeyLocation,
    /// What the metadata's `issuer` must be; `{tenantid}` in the metadata stands for `tid`.
    pub issuer: Box<str>,
    /// Whether the metadata may say another host for it, which tokens then must have.
    pub reads_host: bool,
    /// The tenant that may stand in the place of `{tenantid}`.
    pub tid: Option<Box<str>>,
}

/// The document to begin with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyLocation {
    /// OpenID Connect discovery metadata, which names the key document.
    Metadata(Box<str>),
    /// The key document itself.
    Keys(Box<str>),
}

impl KeyLocation {
    /// The address.
    pub fn url(&self) -> &str {
        match self {
            Self::Metadata(url) | Self::Keys(url) => url,
        }
    }
}

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

impl Expectations {
    /// An empty table, which accepts nothing.
    pub fn new(limits: TokenLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// A table of Entra tenants alone.
    ///
    /// # Errors
    ///
    /// As [`Self::add_entra`].
    pub fn entra(entra: &Entra) -> Result<Self, ExpectationsError> {
        let mut table = Self::default();
        table.add_entra(entra)?;
        Ok(table)
    }

    /// Adds tenants of Entra: a row and a key source for v2.0, and the same for v1.0 where accepted.
    ///
    /// # Errors
    ///
    /// The first thing that makes the table unsafe or impossible.
    pub fn add_entra(&mut self, entra: &Entra) -> Result<(), ExpectationsError> {
        let cloud = &entra.cloud;
        address::authority(&cloud.authority)?;
        audiences(&cloud.authority, &entra.audiences)?;
        somebody(&cloud.authority, entra.accept)?;
        if entra.tenants.is_empty() {
            return Err(ExpectationsError::NoTenant);
        }
        for tid in &entra.tenants {
            if address::ALIASES.contains(&&**tid) {
                return Err(ExpectationsError::Alias(tid.clone()));
            }
            if !is_guid(tid) {
                return Err(ExpectationsError::Tenant(tid.clone()));
            }
            let v2_issuer = cloud.v2_issuer_of(tid);
            let v1_issuer = cloud.v1_issuer_of(tid);
            self.add_tenant(
                entra,
                tid,
                Shape::EntraV2,
                &v2_issuer,
                vec![v2_issuer.clone()],
            )?;
            if entra.v1_tokens {
                let either = vec![v1_issuer.clone(), v2_issuer];
                self.add_tenant(entra, tid, Shape::EntraV1, &v1_issuer, either)?;
            }
        }
        self.clouds.push(cloud.clone());
        Ok(())
    }

    fn add_tenant(
        &mut self,
        entra: &Entra,
        tid: &str,
        shape: Shape,
        issuer: &str,
        key_issuers: Vec<Box<str>>,
    ) -> Result<(), ExpectationsError> {
        let cloud = &entra.cloud;
        let (path, version, reads_host) = if shape == Shape::EntraV1 {
            ("", "v1", cloud.reads_v1_host())
        } else {
            ("/v2.0", "v2", cloud.reads_v2_host())
        };
        let query = entra
            .keys_app_id
            .as_ref()
            .map(|id| format!("?appid={id}"))
            .unwrap_or_default();
        let url = format!(
            "{}/{tid}{path}/.well-known/openid-configuration{query}",
            cloud.authority
        );
        let source = KeySource {
            name: format!("entra-{version}-{tid}").into(),
            location: KeyLocation::Metadata(url.into()),
            issuer: issuer.into(),
            reads_host,
            tid: Some(tid.into()),
        };
        let row = Authority {
            issuer: issuer.into(),
            shape,
            tid: Some(tid.into()),
            key_issuers,
            keys: Keys::One(self.sources.len()),
            reads_host,
            audiences: entra.audiences.clone(),
            accept: entra.accept,
            required_scope: entra.required_scope.clone(),
            groups: entra.groups,
            roles_claim: Vec::new(),
        };
        self.add(row, vec![source])
    }

    /// Adds a tenant of Azure AD B2C: one row, and a key source for each policy.
    ///
    /// # Errors
    ///
    /// The first thing that makes the table unsafe or impossible.
    pub fn add_b2c(&mut self, b2c: &B2c) -> Result<(), ExpectationsError> {
        address::authority(&b2c.authority)?;
        audiences(&b2c.authority, &b2c.audiences)?;
        somebody(&b2c.authority, b2c.accept)?;
        if !is_guid(&b2c.tenant) {
            return Err(ExpectationsError::Tenant(b2c.tenant.clone()));
        }
        if b2c.policies.is_empty() {
            return Err(ExpectationsError::NoPolicy);
        }
        let (authority, tid) = (b2c.authority.trim_end_matches('/'), &b2c.tenant);
        let issuer: Box<str> = format!("{authority}/{tid}/v2.0/").into();
        let (mut sources, mut policies) = (Vec::new(), Vec::new());
        for policy in &b2c.policies {
            let lower = policy.to_ascii_lowercase();
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            if !lower.starts_with("b2c_1") || !lower.bytes().all(plain) {
                return Err(ExpectationsError::Policy(policy.clone()));
            }
            if policies
                .iter()
                .any(|(known, _): &(Box<str>, usize)| **known == *lower)
            {
                return Err(ExpectationsError::PolicyTwice(policy.clone()));
            }
            policies.push((
                lower.as_str().into(),
                self.sources.len().saturating_add(sources.len()),
            ));
            let url = format!("{authority}/{tid}/{policy}/v2.0/.well-known/openid-configuration");
            sources.push(KeySource {
                name: format!("b2c-{lower}-{tid}").into(),
                location: KeyLocation::Metadata(url.into()),
                issuer: issuer.clone(),
                reads_host: false,
                tid: Some(tid.clone()),
            });
        }
        let row = Authority {
            key_issuers: vec![issuer.clone()],
            issuer,
            shape: Shape::B2c,
            tid: Some(tid.clone()),
            keys: Keys::OfPolicy(policies),
            reads_host: false,
            audiences: b2c.audiences.clone(),
            accept: b2c.accept,
            required_scope: b2c.required_scope.clone(),
            groups: GroupForm::Ids,
            roles_claim: Vec::new(),
        };
        self.add(row, sources)
    }

    /// Adds another OpenID Connect issuer.
    ///
    /// # Errors
    ///
    /// The first thing that makes the table unsafe or impossible.
    pub fn add_issuer(&mut self, other: &OtherIssuer) -> Result<(), ExpectationsError> {
        let issuer = &other.issuer;
        address::issuer(issuer)?;
        audiences(issuer, &other.audiences)?;
        somebody(issuer, other.accept)?;
        let location = match &other.keys {
            Some(url) => {
                address::document(url)?;
                KeyLocation::Keys(url.clone())
            }
            // OpenID Connect Discovery 1.0 section 4: the path is appended after removing a final slash.
            None => KeyLocation::Metadata(
                format!(
                    "{}/.well-known/openid-configuration",
                    issuer.trim_end_matches('/')
                )
                .into(),
            ),
        };
        let source = KeySource {
            name: issuer.clone(),
            location,
            issuer: issuer.clone(),
            reads_host: false,
            tid: None,
        };
        let row = Authority {
            issuer: issuer.clone(),
            shape: Shape::Oidc,
            tid: None,
            key_issuers: vec![issuer.clone()],
            keys: Keys::One(self.sources.len()),
            reads_host: false,
            audiences: other.audiences.clone(),
            accept: other.accept,
            required_scope: other.required_scope.clone(),
            groups: other.groups,
            roles_claim: other.roles_claim.clone(),
        };
        self.add(row, vec![source])
    }

    /// Claims to take over as values for templates, if they are strings.
    pub fn set_template_claims(&mut self, names: Vec<Box<str>>) {
        self.template_claims = names;
    }

    /// Where keys are to be had; the index is that of [`super::KeyRing`] and [`super::KeyNeed`].
    pub fn sources(&self) -> &[KeySource] {
        &self.sources
    }

    /// Names of the key sources, in the same order: labels of metrics and of readiness.
    pub fn source_names(&self) -> Vec<Arc<str>> {
        self.sources
            .iter()
            .map(|source| Arc::from(&*source.name))
            .collect()
    }

    /// The bounds.
    pub const fn limits(&self) -> TokenLimits {
        self.limits
    }

    /// The row of an issuer, by its exact bytes. Where the metadata says which host the issuer has, that counts; before
    /// it was fetched, any host may turn out to be the right one.
    pub(crate) fn authority(&self, issuer: &str, ring: &KeyRing) -> Option<&Authority> {
        let exact = self.by_issuer.get(issuer);
        let exact = exact.and_then(|index| self.authorities.get(*index));
        if let Some(row) = exact.filter(|row| !row.reads_host) {
            return Some(row);
        }
        let mut reading = self.authorities.iter().filter(|row| row.reads_host);
        reading.find(|row| match ring.held(row.first_source()) {
            Some(held) => *issuer == **held.issuer.as_ref().unwrap_or(&row.issuer),
            None => cloud::differ_in_host_only(issuer, &row.issuer),
        })
    }

    /// Whether an issuer has a row.
    pub(crate) fn lists(&self, issuer: &str) -> bool {
        self.by_issuer.contains_key(issuer)
    }

    /// The source whose metadata could have named this issuer, and names another.
    pub(crate) fn nearly(&self, issuer: &str) -> Option<&KeySource> {
        let mut reading = self.sources.iter().filter(|source| source.reads_host);
        reading.find(|source| cloud::differ_in_host_only(issuer, &source.issuer))
    }

    /// Tenants of B2C with their authority's issuer.
    pub(crate) fn b2c(&self) -> impl Iterator<Item = &Authority> {
        let b2c = |row: &&Authority| row.shape == Shape::B2c;
        self.authorities.iter().filter(b2c)
    }

    /// Every issuer, for messages.
    pub(crate) fn issuers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.authorities.iter().map(|row| &*row.issuer)
    }

    /// The issuer that differs from this text in case or final slashes alone: the usual mistakes, for messages.
    pub(crate) fn issuer_but_for_spelling(&self, issuer: &str) -> Option<&str> {
        let plain = issuer.trim().trim_end_matches('/');
        self.issuers()
            .find(|known| known.trim_end_matches('/').eq_ignore_ascii_case(plain))
    }

    /// The audiences of the first row of Entra, for messages.
    pub(crate) fn audiences_of_entra(&self) -> &[Box<str>] {
        let row = self.authorities.iter().find(|row| row.shape.is_entra());
        row.or(self.authorities.first())
            .map_or(&[], |row| &row.audiences)
    }

    pub(crate) fn clouds(&self) -> &[Cloud] {
        &self.clouds
    }

    pub(crate) fn tenants(&self) -> impl Iterator<Item = &str> {
        let v2 = |row: &&Authority| matches!(row.shape, Shape::EntraV2 | Shape::B2c);
        self.authorities
            .iter()
            .filter(v2)
            .filter_map(|row| row.tid.as_deref())
    }

    fn add(&mut self, row: Authority, sources: Vec<KeySource>) -> Result<(), ExpectationsError> {
        if self
            .by_issuer
            .insert(row.issuer.clone(), self.authorities.len())
            .is_some()
        {
            return Err(ExpectationsError::Twice(row.issuer));
        }
        self.authorities.push(row);
        self.sources.extend(sources);
        Ok(())
    }
}

fn audiences(issuer: &str, list: &[Box<str>]) -> Result<(), ExpectationsError> {
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

fn somebody(issuer: &str, accept: Accept) -> Result<(), ExpectationsError> {
    if accept.users || accept.apps || accept.id_tokens {
        Ok(())
    } else {
        Err(ExpectationsError::Nobody(issuer.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TID: &str = "7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11";

    fn entra() -> Entra {
        Entra {
            cloud: Cloud::public(),
            tenants: vec![TID.into()],
            audiences: vec!["b3c0f6de-51a2-4a60-8d0e-6a1f20c4a771".into()],
            accept: Accept::ALL,
            v1_tokens: true,
            required_scope: None,
            keys_app_id: None,
            groups: GroupForm::Ids,
        }
    }

    #[test]
    fn a_tenant_has_a_source_for_each_version_of_its_tokens() {
        let table = Expectations::entra(&entra()).unwrap();
        let urls: Vec<_> = table
            .sources()
            .iter()
            .map(|source| source.location.url())
            .collect();
        assert_eq!(
            urls,
            [
                format!(
                    "https://login.microsoftonline.com/{TID}/v2.0/.well-known/openid-configuration"
                ),
                format!("https://login.microsoftonline.com/{TID}/.well-known/openid-configuration"),
            ]
        );
        let without = Expectations::entra(&Entra {
            v1_tokens: false,
            ..entra()
        })
        .unwrap();
        assert_eq!(without.sources().len(), 1);
    }

    #[test]
    fn aliases_and_other_spellings_of_tenants_are_refused() {
        let with = |tid: &str| {
            Expectations::entra(&Entra {
                tenants: vec![tid.into()],
                ..entra()
            })
        };
        for alias in ["common", "organizations", "consumers"] {
            assert!(matches!(with(alias), Err(ExpectationsError::Alias(_))));
        }
        assert!(matches!(
            with(&TID.to_uppercase()),
            Err(ExpectationsError::Tenant(_))
        ));
        let none = Expectations::entra(&Entra {
            tenants: vec![],
            ..entra()
        });
        assert!(matches!(none, Err(ExpectationsError::NoTenant)));
    }

    #[test]
    fn audiences_are_ones_own() {
        let with = |list: Vec<Box<str>>| {
            Expectations::entra(&Entra {
                audiences: list,
                ..entra()
            })
        };
        assert!(matches!(
            with(vec![]),
            Err(ExpectationsError::NoAudience(_))
        ));
        assert!(matches!(
            with(vec!["https://graph.microsoft.com".into()]),
            Err(ExpectationsError::MicrosoftAudience(..))
        ));
    }

    #[test]
    fn an_issuer_listed_twice_is_refused() {
        let mut table = Expectations::entra(&entra()).unwrap();
        assert!(matches!(
            table.add_entra(&entra()),
            Err(ExpectationsError::Twice(_))
        ));
    }
}
