//! Fetching metadata and key documents over HTTP.
//!
//! Owns: the rules of where a fetch may go: https, or http to loopback; no redirect; the key document on the host that
//! served the metadata; 1 MiB and 5 s at most. Must never: fetch an address that a token names.

use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::JwksError;
use crate::http::{Address, Http, HttpError, Request, Unfit};
use crate::identity::{KeyLocation, KeySet, KeySetError, KeySource, Metadata, MetadataError};

/// Why keys could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not an address that keys may come from.
    #[error("{0}")]
    Address(#[from] Unfit),
    /// The key document lies on another host than the metadata.
    #[error("metadata names a key document on another host: {0}")]
    ForeignHost(Box<str>),
    /// No answer, or one of more than 1 MiB.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// Any status but 200; redirects are not followed.
    #[error("{url}: status {status}")]
    Status {
        /// What was fetched.
        url: Box<str>,
        /// HTTP status.
        status: u16,
    },
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
    pub(super) issuer: Option<Box<str>>,
    /// The key document as it came, for the file of the last good set.
    pub(super) document: Vec<u8>,
}

/// Fetches the documents of a source.
#[derive(Clone, Debug)]
pub(super) struct Fetcher(Http);

impl Fetcher {
    /// Works without any CA store: then no https address can be fetched, which each fetch says.
    pub(super) fn new(
        extra_roots: &[CertificateDer<'static>],
        timeout: Duration,
    ) -> Result<Self, JwksError> {
        Ok(Self(Http::new(extra_roots, timeout)?))
    }

    pub(super) async fn fetch(&self, source: &KeySource) -> Result<Fetched, FetchError> {
        let (url, cloud, issuer) = match &source.location {
            KeyLocation::Keys(url) => (Address::parse(url)?, None, None),
            KeyLocation::Metadata(url) => {
                let from = Address::parse(url)?;
                let metadata = Metadata::parse(&self.body(&from).await?, source)?;
                let keys = Address::parse(&metadata.jwks_uri)?;
                if !from.same_host(&keys) {
                    return Err(FetchError::ForeignHost(keys.shown()));
                }
                (keys, metadata.cloud, Some(metadata.issuer))
            }
        };
        let document = self.body(&url).await?;
        let keys = KeySet::parse(&document)?;
        Ok(Fetched {
            keys,
            cloud,
            issuer,
            document,
        })
    }

    async fn body(&self, address: &Address) -> Result<Vec<u8>, FetchError> {
        let mut answer = self.0.send(Request::get(address, MOST_BYTES)).await?;
        if answer.status != 200 {
            return Err(FetchError::Status {
                url: address.shown(),
                status: answer.status,
            });
        }
        Ok(std::mem::take(&mut *answer.body))
    }
}

const MOST_BYTES: usize = 1024 * 1024;
