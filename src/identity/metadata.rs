//! OpenID Connect discovery metadata: which issuer, which key document, which cloud.
//!
//! Must never: follow anything by itself; where the key document may lie is the fetcher's rule.

use super::cloud;
use super::expectations::KeySource;
use super::show::Shown;
use super::strict_json::{self, Limits, Value};

/// The members that matter of one metadata document (OpenID Connect Discovery 1.0 section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Where the keys are.
    pub jwks_uri: Box<str>,
    /// Whose it is: what `iss` must be.
    pub issuer: Box<str>,
    /// `cloud_instance_name`, which Entra adds.
    pub cloud: Option<Box<str>>,
}

/// A document that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Not strict JSON.
    #[error("metadata: {0}")]
    Json(Box<str>),
    /// A member is missing or not a string.
    #[error("metadata has no '{0}'")]
    Missing(&'static str),
    /// B2C with the compatible form of the issuer, which names the policy.
    #[error(
        "metadata is of issuer '{0}': the policy issues the tfp form, which is not accepted; set its token \
         compatibility, Issuer (iss) claim, to the form that ends in /v2.0/"
    )]
    Tfp(Box<str>),
    /// Another issuer's document.
    #[error("metadata is of issuer '{found}', expected '{expected}'")]
    Issuer {
        /// Escaped and clipped.
        found: Box<str>,
        /// As configured.
        expected: Box<str>,
    },
}

impl Metadata {
    /// Reads a document and checks that it is the source's own; `{tenantid}` in its issuer stands for the source's
    /// tenant.
    ///
    /// # Errors
    ///
    /// [`MetadataError`].
    pub fn parse(bytes: &[u8], source: &KeySource) -> Result<Self, MetadataError> {
        let document = strict_json::parse(bytes, LIMITS)
            .map_err(|e| MetadataError::Json(e.to_string().into()))?;
        let member = |name| document.as_object().and_then(|object| object.member(name));
        let text = |name| {
            member(name)
                .and_then(Value::as_str)
                .ok_or(MetadataError::Missing(name))
        };
        let found = text("issuer")?;
        let filled = match source.tid.as_deref() {
            Some(tid) => cloud::fill(found, tid),
            None => found.to_owned(),
        };
        let fits = *filled == *source.issuer
            || source.reads_host && cloud::differ_in_host_only(&filled, &source.issuer);
        if !fits {
            if found.contains("/tfp/") {
                return Err(MetadataError::Tfp(Shown(found).to_string().into()));
            }
            return Err(MetadataError::Issuer {
                found: Shown(found).to_string().into(),
                expected: source.issuer.clone(),
            });
        }
        Ok(Self {
            jwks_uri: text("jwks_uri")?.into(),
            issuer: filled.into(),
            cloud: member("cloud_instance_name")
                .and_then(Value::as_str)
                .map(Into::into),
        })
    }
}

const LIMITS: Limits = Limits {
    depth: 8,
    values: 4096,
    names: 256,
};

#[cfg(test)]
mod tests {
    use super::super::expectations::KeyLocation;
    use super::*;

    fn source(issuer: &str) -> KeySource {
        KeySource {
            name: "t".into(),
            location: KeyLocation::Metadata("https://login.example/x".into()),
            issuer: issuer.into(),
            reads_host: false,
            tid: Some("7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11".into()),
        }
    }

    #[test]
    fn a_templated_issuer_stands_for_the_tenant_of_the_source() {
        let ours = source("https://login.example/7a1d0c52-3f0e-4f2b-9d57-0b6f5f1c2e11/v2.0");
        let body = br#"{"issuer":"https://login.example/{tenantid}/v2.0","jwks_uri":"https://login.example/k","cloud_instance_name":"example"}"#;
        let read = Metadata::parse(body, &ours).unwrap();
        assert_eq!(&*read.jwks_uri, "https://login.example/k");
        assert_eq!(read.cloud.as_deref(), Some("example"));
    }

    #[test]
    fn another_issuer_or_a_slash_more_is_refused() {
        let ours = source("https://login.example/v2.0");
        for issuer in [
            "https://login.example/v2.0/",
            "https://evil.example/v2.0",
            "HTTPS://login.example/v2.0",
        ] {
            let body = format!("{{\"issuer\":\"{issuer}\",\"jwks_uri\":\"x\"}}");
            let read = Metadata::parse(body.as_bytes(), &ours);
            assert!(
                matches!(read, Err(MetadataError::Issuer { .. })),
                "{issuer}"
            );
        }
        assert!(matches!(
            Metadata::parse(b"<html>", &ours),
            Err(MetadataError::Json(_))
        ));
        assert!(matches!(
            Metadata::parse(b"{}", &ours),
            Err(MetadataError::Missing("issuer"))
        ));
    }
}
