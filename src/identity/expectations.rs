//! What a token must say to be for us: a fixed table of issuers, each with its keys, audiences and kinds.
//!
//! Owns: the table, and the places where each issuer's keys are to be had. Must never: change while it is in use; a new
//! configuration makes a new table.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::cloud::{Cloud, is_guid};

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

/// How an issuer's tokens look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Entra v1.0 access tokens.
    EntraV1,
    /// Entra v2.0 access tokens.
    EntraV2,
    /// Access tokens of any other OpenID Connect issuer.
    Oidc,
}

/// Which kinds of principal are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// People.
    pub users: bool,
    /// Applications and managed identities.
    pub apps: bool,
}

impl Accept {
    /// Both kinds.
    pub const ALL: Self = Self {
        users: true,
        apps: true,
    };
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
    pub(crate) source: usize,
    pub(crate) audiences: Vec<Box<str>>,
    pub(crate) accept: Accept,
    pub(crate) required_scope: Option<Box<str>>,
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
}

/// A table that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpectationsError {
    /// An alias in place of a tenant.
    #[error(
        "authority '{0}' has a templated issuer, so that any organisation could sign in; list tenant ids explicitly"
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
    /// Listed twice.
    #[error("issuer '{0}' is listed twice")]
    Twice(Box<str>),
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
        address(&cloud.authority)?;
        audiences(&cloud.authority, &entra.audiences)?;
        somebody(&cloud.authority, entra.accept)?;
        if entra.tenants.is_empty() {
            return Err(ExpectationsError::NoTenant);
        }
        for tid in &entra.tenants {
            if matches!(&**tid, "common" | "organizations" | "consumers") {
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
        let (path, version) = if shape == Shape::EntraV1 {
            ("", "v1")
        } else {
            ("/v2.0", "v2")
        };
        let query = entra
            .keys_app_id
            .as_ref()
            .map(|id| format!("?appid={id}"))
            .unwrap_or_default();
        let url = format!(
            "{}/{tid}{path}/.well-known/openid-configuration{query}",
            entra.cloud.authority
        );
        let source = KeySource {
            name: format!("entra-{version}-{tid}").into(),
            location: KeyLocation::Metadata(url.into()),
            issuer: issuer.into(),
            tid: Some(tid.into()),
        };
        let row = Authority {
            issuer: issuer.into(),
            shape,
            tid: Some(tid.into()),
            key_issuers,
            source: self.sources.len(),
            audiences: entra.audiences.clone(),
            accept: entra.accept,
            required_scope: entra.required_scope.clone(),
        };
        self.add(row, source)
    }

    /// Adds another OpenID Connect issuer.
    ///
    /// # Errors
    ///
    /// The first thing that makes the table unsafe or impossible.
    pub fn add_issuer(&mut self, other: &OtherIssuer) -> Result<(), ExpectationsError> {
        let issuer = &other.issuer;
        address(issuer)?;
        audiences(issuer, &other.audiences)?;
        somebody(issuer, other.accept)?;
        let location = match &other.keys {
            Some(url) => {
                address(url)?;
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
            tid: None,
        };
        let row = Authority {
            issuer: issuer.clone(),
            shape: Shape::Oidc,
            tid: None,
            key_issuers: vec![issuer.clone()],
            source: self.sources.len(),
            audiences: other.audiences.clone(),
            accept: other.accept,
            required_scope: other.required_scope.clone(),
        };
        self.add(row, source)
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

    pub(crate) fn authority(&self, issuer: &str) -> Option<&Authority> {
        self.authorities.get(*self.by_issuer.get(issuer)?)
    }

    pub(crate) fn clouds(&self) -> &[Cloud] {
        &self.clouds
    }

    pub(crate) fn tenants(&self) -> impl Iterator<Item = &str> {
        let v2 = |row: &&Authority| row.shape == Shape::EntraV2;
        self.authorities
            .iter()
            .filter(v2)
            .filter_map(|row| row.tid.as_deref())
    }

    fn add(&mut self, row: Authority, source: KeySource) -> Result<(), ExpectationsError> {
        if self
            .by_issuer
            .insert(row.issuer.clone(), self.authorities.len())
            .is_some()
        {
            return Err(ExpectationsError::Twice(row.issuer));
        }
        self.authorities.push(row);
        self.sources.push(source);
        Ok(())
    }
}

/// https, or http to this machine.
fn address(url: &str) -> Result<(), ExpectationsError> {
    let fits = url
        .strip_prefix("https://")
        .is_some_and(|rest| !rest.is_empty())
        || url
            .strip_prefix("http://")
            .is_some_and(is_loopback_authority);
    if fits {
        Ok(())
    } else {
        Err(ExpectationsError::Address(url.into()))
    }
}

/// Whether `host[:port][/path]` names this machine by a literal address or as `localhost`; user information does not.
fn is_loopback_authority(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let literal = host
        .parse::<std::net::IpAddr>()
        .is_ok_and(|ip| ip.is_loopback());
    !authority.contains('@') && (host == "localhost" || literal)
}

fn audiences(issuer: &str, list: &[Box<str>]) -> Result<(), ExpectationsError> {
    if list.is_empty() || list.iter().any(|audience| audience.trim().is_empty()) {
        return Err(ExpectationsError::NoAudience(issuer.into()));
    }
    for audience in list {
        if let Some(api) = super::cloud::microsoft_api(audience) {
            return Err(ExpectationsError::MicrosoftAudience(audience.clone(), api));
        }
    }
    Ok(())
}

fn somebody(issuer: &str, accept: Accept) -> Result<(), ExpectationsError> {
    if accept.users || accept.apps {
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
    fn plain_http_is_for_loopback_alone() {
        for good in [
            "https://a.example",
            "http://127.0.0.1:9333",
            "http://[::1]:1/x",
            "http://localhost",
        ] {
            assert_eq!(address(good), Ok(()), "{good}");
        }
        for bad in [
            "http://a.example",
            "http://127.0.0.1@evil.example",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example/",
            "ftp://127.0.0.1",
            "https://",
            "",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
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
