//! Fetching metadata and key documents over HTTP.
//!
//! Owns: the rules of where a fetch may go: https, or http to loopback; no redirect; the key document on the host that
//! served the metadata; 1 MiB and 5 s at most. Must never: fetch an address that a token names.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::JwksError;
use crate::identity::{KeyLocation, KeySet, KeySetError, KeySource, Metadata, MetadataError};

/// Why keys could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not an address that keys may come from.
    #[error("{0}: only https, or http to loopback, is fetched")]
    Address(Box<str>),
    /// The key document lies on another host than the metadata.
    #[error("metadata names a key document on another host: {0}")]
    ForeignHost(Box<str>),
    /// The connection, TLS or HTTP failed, or took too long.
    #[error("{url}: {why}")]
    Transport {
        /// What was fetched.
        url: Box<str>,
        /// What the network said.
        why: Box<str>,
    },
    /// Any status but 200; redirects are not followed.
    #[error("{url}: status {status}")]
    Status {
        /// What was fetched.
        url: Box<str>,
        /// HTTP status.
        status: u16,
    },
    /// A body above 1 MiB.
    #[error("{0}: body larger than {MOST_BYTES} bytes")]
    TooLarge(Box<str>),
    /// The metadata cannot be used.
    #[error("{0}")]
    Metadata(#[from] MetadataError),
    /// The key document cannot be used.
    #[error("{0}")]
    Keys(#[from] KeySetError),
}

/// One good answer.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    pub(super) cloud: Option<Box<str>>,
    /// The key document as it came, for the file of the last good set.
    pub(super) document: Vec<u8>,
}

/// Two clients: loopback never goes through a proxy of the environment, everything else may.
#[derive(Clone, Debug)]
pub(super) struct Fetcher {
    loopback: Client,
    outside: Client,
}

impl Fetcher {
    /// Works without any CA store: then no https address can be fetched, which each fetch says.
    pub(super) fn new(
        extra_roots: &[CertificateDer<'static>],
        timeout: Duration,
    ) -> Result<Self, JwksError> {
        let tls = tls(extra_roots)?;
        let build = || {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(Policy::none())
                .timeout(timeout)
                .connect_timeout(timeout)
                .pool_idle_timeout(Duration::from_secs(10))
                .user_agent(concat!("natsentry/", env!("CARGO_PKG_VERSION")))
        };
        Ok(Self {
            loopback: build().no_proxy().build()?,
            outside: build().build()?,
        })
    }

    pub(super) async fn fetch(&self, source: &KeySource) -> Result<Fetched, FetchError> {
        let (url, cloud) = match &source.location {
            KeyLocation::Keys(url) => (parse(url)?, None),
            KeyLocation::Metadata(url) => {
                let from = parse(url)?;
                let metadata = Metadata::parse(&self.body(&from).await?, source)?;
                let keys = parse(&metadata.jwks_uri)?;
                if !same_host(&from, &keys) {
                    return Err(FetchError::ForeignHost(shown(&keys)));
                }
                (keys, metadata.cloud)
            }
        };
        let document = self.body(&url).await?;
        let keys = KeySet::parse(&document)?;
        Ok(Fetched {
            keys,
            cloud,
            document,
        })
    }

    async fn body(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        let failed = |error: reqwest::Error| FetchError::Transport {
            url: shown(url),
            why: cause(error).into(),
        };
        let client = if is_loopback(url) {
            &self.loopback
        } else {
            &self.outside
        };
        let mut answer = client.get(url.clone()).send().await.map_err(failed)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status {
                url: shown(url),
                status: answer.status().as_u16(),
            });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len().saturating_add(chunk.len()) > MOST_BYTES {
                return Err(FetchError::TooLarge(shown(url)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn tls(extra_roots: &[CertificateDer<'static>]) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(extra_roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn parse(text: &str) -> Result<Url, FetchError> {
    let refused = || FetchError::Address(clip(text));
    let url = Url::parse(text).map_err(|_| refused())?;
    let fit = match url.scheme() {
        "https" => url.host_str().is_some(),
        "http" => is_loopback(&url),
        _ => false,
    };
    let plain = url.username().is_empty() && url.password().is_none();
    if fit && plain {
        Ok(url)
    } else {
        Err(refused())
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url
        .host_str()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn same_host(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

fn shown(url: &Url) -> Box<str> {
    clip(url.as_str())
}

fn clip(text: &str) -> Box<str> {
    text.chars()
        .filter(|c| !c.is_control())
        .take(256)
        .collect::<String>()
        .into()
}

/// What the network said, without the address, which the message has already.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    if error.is_timeout() {
        "no answer in time".to_owned()
    } else {
        clip(&text).into()
    }
}

const MOST_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_loopback_is_fetched() {
        for good in [
            "https://login.example/x",
            "http://127.0.0.1:1/x",
            "http://[::1]:1/",
            "http://localhost/",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://login.example/x",
            "http://127.0.0.1.evil.example/",
            "https://user@login.example/",
            "file:///etc/passwd",
            "http://169.254.169.254/",
            "not a url",
            "",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn scheme_host_and_port_make_one_host() {
        let same = |a: &str, b: &str| same_host(&parse(a).unwrap(), &parse(b).unwrap());
        assert!(same("https://a.example/x", "https://a.example:443/y"));
        assert!(!same("https://a.example/x", "https://b.example/x"));
        assert!(!same("https://a.example/x", "https://a.example:444/x"));
        assert!(!same("http://127.0.0.1:1/", "http://127.0.0.1:2/"));
    }
}
