//! Fetching metadata and key documents over HTTP.
//!
//! Owns: the rules of where a fetch may go: https, or http to loopback; no redirect to another
//! host; the key document on the host that served the metadata; 1 MiB and 5 s at most. Must never: fetch an address that a token names.

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
    /// A redirect to another host, or too many within one.
    #[error(
        "{url}: redirects to {to}; only redirects within a host are followed, {MOST_REDIRECTS} at most"
    )]
    Redirected {
        /// What was fetched.
        url: Box<str>,
        /// Where it pointed.
        to: Box<str>,
    },
    /// Any other status than 200.
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

    /// The document at an address. A redirect within its host is followed, as a proxy in front of an issuer may send one
    /// for a final slash; one to another host never is.
    async fn body(&self, address: &Address) -> Result<Vec<u8>, FetchError> {
        let mut address = address.clone();
        for _ in 0..=MOST_REDIRECTS {
            let mut answer = self.0.send(Request::get(&address, MOST_BYTES)).await?;
            match (answer.status, answer.header("location")) {
                (200, _) => return Ok(std::mem::take(&mut *answer.body)),
                (301 | 302 | 303 | 307 | 308, Some(location)) => {
                    let next = address.join(location)?;
                    if !address.same_host(&next) {
                        return Err(FetchError::Redirected {
                            url: address.shown(),
                            to: next.shown(),
                        });
                    }
                    address = next;
                }
                (status, _) => {
                    return Err(FetchError::Status {
                        url: address.shown(),
                        status,
                    });
                }
            }
        }
        Err(FetchError::Redirected {
            url: address.shown(),
            to: address.shown(),
        })
    }
}

const MOST_BYTES: usize = 1024 * 1024;
const MOST_REDIRECTS: u8 = 3;
