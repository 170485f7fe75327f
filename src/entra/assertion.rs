//! Assertions signed with the key of a registered certificate.
//!
//! PS256 with `x5t#S256`, as Microsoft's page on certificate credentials asks for; the older RS256 with a SHA-1
//! thumbprint is not made.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::error::CredentialError;
use crate::secret::Secret;
use crate::time::Timestamp;

/// Makes assertions.
pub(super) struct Signer {
    key: EncodingKey,
    header: Header,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: &'a str,
    nbf: u64,
    iat: u64,
    exp: u64,
}

/// Whether a certificate and its key can sign assertions.
///
/// # Errors
/// What is wrong with them.
pub fn check(certificate: &Secret, key: &Secret) -> Result<(), CredentialError> {
    Signer::new(certificate, key).map(drop)
}

/// The part of a PEM text that is the private key: one file often holds certificate and key.
fn private_key(text: &[u8]) -> &[u8] {
    let marks = memchr::memmem::find_iter(text, b"-----BEGIN ");
    let keys = marks.filter_map(|at| text.get(at..)).find(|part| {
        let label = part.split(|byte| *byte == b'\n').next();
        label.is_some_and(|label| label.trim_ascii_end().ends_with(b"PRIVATE KEY-----"))
    });
    keys.unwrap_or(text)
}

/// How long an assertion is valid. Each is used once.
const LIFE: Duration = Duration::from_secs(600);

impl Signer {
    pub(super) fn new(certificate: &Secret, key: &Secret) -> Result<Self, CredentialError> {
        let certificate = CertificateDer::from_pem_slice(certificate.expose()).map_err(|_| {
            CredentialError::config(
                "the client certificate is not PEM text with a line -----BEGIN CERTIFICATE-----",
            )
        })?;
        let key = EncodingKey::from_rsa_pem(private_key(key.expose())).map_err(|_| {
            CredentialError::config(
                "the key of the client certificate is not an RSA key in PEM text; export it without a passphrase",
            )
        })?;
        let mut header = Header::new(Algorithm::PS256);
        header.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate)));
        let signer = Self { key, header };
        // What only signing shows, a key that is too short, is to be known now and not at the first request.
        signer.assertion("check", "check", Timestamp::from_millis(0))?;
        Ok(signer)
    }

    /// An assertion that `client_id` is who asks at `endpoint`.
    pub(super) fn assertion(
        &self,
        endpoint: &str,
        client_id: &str,
        now: Timestamp,
    ) -> Result<Secret, CredentialError> {
        let seconds = now.as_millis() / 1000;
        let claims = Claims {
            aud: endpoint,
            iss: client_id,
            sub: client_id,
            jti: &random_id(),
            nbf: seconds,
            iat: seconds,
            exp: seconds.saturating_add(LIFE.as_secs()),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
            .map(Secret::new)
            .map_err(|_| {
                CredentialError::config("the key of the client certificate cannot sign PS256; use an RSA key of 2048 bits or more")
            })
    }
}

/// 128 random bits, as base64url.
fn random_id() -> String {
    let mut bytes = [0_u8; 16];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // The id keeps one assertion from being taken for another; were there no randomness, TLS would not work either.
    let _ = provider.secure_random.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}
