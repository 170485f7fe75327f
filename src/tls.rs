//! TLS on both sides: rustls configurations from PEM bytes, certificate reload, the crypto provider.
//!
//! Owns every decision about protocol versions, trust anchors and tickets. Never opens a file or a socket: callers
//! hand in bytes and the name of the place they came from, so that an error can say which file to mend.

mod client;
mod facts;
mod pem;
mod server;

pub use client::{ClientIdentity, client_config};
pub use facts::{CertificateFacts, certificate_facts, subject_public_key_info, thumbprint_s256};
pub use pem::Pem;
pub use server::ServerTls;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// Why TLS could not be set up. Every sentence names the file and says what to do; none holds key material.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The PEM text has no block of the kind that is needed there.
    #[error(
        "{origin}: no {wanted} in it; expected PEM text with a line `-----BEGIN {marker}-----`"
    )]
    Missing {
        /// Where the bytes came from.
        origin: String,
        /// What was looked for, in words.
        wanted: &'static str,
        /// The PEM label to look for.
        marker: &'static str,
    },
    /// The PEM text is damaged.
    #[error("{origin}: this is not valid PEM ({detail}); export the file again")]
    Pem {
        /// Where the bytes came from.
        origin: String,
        /// What the parser says, without any content.
        detail: &'static str,
    },
    /// The private key is locked with a passphrase.
    #[error(
        "{origin}: the private key is encrypted; remove the passphrase (`openssl pkey -in key -out plain`) and protect the file instead"
    )]
    EncryptedKey {
        /// Where the bytes came from.
        origin: String,
    },
    /// The private key is of a kind that cannot sign here.
    #[error(
        "{origin}: the private key cannot be used ({detail}); use RSA from 2048 bit, ECDSA P-256, P-384, P-521 or Ed25519"
    )]
    Key {
        /// Where the bytes came from.
        origin: String,
        /// What rustls says.
        detail: String,
    },
    /// Certificate and key are both fine and do not belong together.
    #[error(
        "{key} is not the private key of the first certificate in {cert}; put the server's own certificate first, or use its key"
    )]
    Mismatch {
        /// Where the certificate came from.
        cert: String,
        /// Where the key came from.
        key: String,
    },
    /// A certificate cannot be used.
    #[error("{origin}: the certificate cannot be used ({detail})")]
    Certificate {
        /// Where the bytes came from.
        origin: String,
        /// What rustls says.
        detail: String,
    },
    /// The machine has no trust anchors.
    #[error(
        "this machine has no CA certificates ({detail}); install ca-certificates or set `tls.ca`"
    )]
    NoRoots {
        /// What the loader says.
        detail: String,
    },
    /// The crypto library refuses to work.
    #[error("the crypto library cannot be used ({detail})")]
    Provider {
        /// What rustls says.
        detail: String,
    },
}

/// The one crypto provider of this program: aws-lc-rs, with the post-quantum hybrid key exchange preferred.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes [`provider`] the default of the process, which libraries without a provider of their own (the HTTP client)
/// look up. Call once, first thing in `main`; a second call changes nothing.
pub fn install_provider() {
    if CryptoProvider::get_default().is_none() {
        // An error says that another thread was faster, with the only provider there is.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    }
}

#[cfg(test)]
mod tests;
