//! What a token must say to be for us: a fixed table of issuers, each with its keys, audiences and kinds.
//!
//! Owns: the table, and the places where each issuer's keys are to be had. Must never: change while it is in use; a new
//! configuration makes a new table.

mod issuers;

use std::collections::HashMap;
use std::time::Duration;

use super::address;
use super::authority::{Authority, GroupForm, Keys, Shape};
use super::cloud::{self, Cloud, is_guid};
use super::keys::KeyRing;
pub use issuers::{B2c, Entra, ExpectationsError, OtherIssuer};
use issuers::{audiences, somebody};

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
        for mut source in sources {
            // One tenant id in two clouds is two sources, and a name is what metrics tell them by.
            if self.sources.iter().any(|known| known.name == source.name) {
                source.name = format!("{} {}", source.name, source.location.url()).into();
            }
            self.sources.push(source);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
