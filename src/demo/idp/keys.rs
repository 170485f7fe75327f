//! RSA keys of the development issuer: made when it starts, held in memory, gone when it ends.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::IdpError;

/// A 2048-bit key pair with its name.
#[derive(Debug)]
pub struct SigningKey {
    pair: KeyPair,
    kid: String,
}

/// The RSA signature schemes; Entra uses the first alone, the others are for hostile tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
}

impl SigningKey {
    /// Makes a key, which takes about a tenth of a second of computing.
    ///
    /// # Errors
    ///
    /// [`IdpError::Key`] when the system has no randomness to give.
    pub fn generate() -> Result<Self, IdpError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| IdpError::Key)?;
        let digest = Sha256::digest(pair.public_key().as_ref());
        let kid = URL_SAFE_NO_PAD.encode(digest.iter().take(20).copied().collect::<Vec<u8>>());
        Ok(Self { pair, kid })
    }

    /// Its name: the shape of Entra's, 27 characters of base64url.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Signs.
    ///
    /// # Errors
    ///
    /// [`IdpError::Key`] when the primitive fails.
    pub fn sign(&self, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, IdpError> {
        let encoding: &'static dyn RsaEncoding = match scheme {
            Scheme::Rs256 => &signature::RSA_PKCS1_SHA256,
            Scheme::Rs384 => &signature::RSA_PKCS1_SHA384,
            Scheme::Rs512 => &signature::RSA_PKCS1_SHA512,
            Scheme::Ps256 => &signature::RSA_PSS_SHA256,
        };
        let mut bytes = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(encoding, &SystemRandom::new(), message, &mut bytes)
            .map_err(|_| IdpError::Key)?;
        Ok(bytes)
    }

    /// The private key as PKCS#8.
    pub(super) fn pkcs8(&self) -> Result<Vec<u8>, IdpError> {
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&self.pair).map_err(|_| IdpError::Key)?;
        Ok(der.as_ref().to_vec())
    }

    /// The modulus, big-endian without leading zeros.
    pub fn modulus(&self) -> Vec<u8> {
        self.pair
            .public_key()
            .modulus()
            .big_endian_without_leading_zero()
            .to_vec()
    }

    /// The public key as PKCS#1 DER.
    pub fn public_der(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// The public key as Entra publishes it: no `alg`.
    pub fn jwk(&self) -> Value {
        let exponent = self
            .pair
            .public_key()
            .exponent()
            .big_endian_without_leading_zero();
        json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": URL_SAFE_NO_PAD.encode(self.modulus()),
            "e": URL_SAFE_NO_PAD.encode(exponent),
        })
    }
}

/// A key as the issuer publishes it.
#[derive(Clone, Debug)]
pub struct PublishedKey {
    /// The key.
    pub key: Arc<SigningKey>,
    /// `issuer` in the v2.0 document; none: the tenant's own template.
    pub issuer: Option<String>,
    /// `cloud_instance_name`; none: left out.
    pub cloud: Option<String>,
    /// A custom signing key of this application (claims mapping): published only where `?appid=` asks for it.
    pub app_id: Option<String>,
}

impl PublishedKey {
    /// A key of the tenant itself.
    pub const fn own(key: Arc<SigningKey>) -> Self {
        Self {
            key,
            issuer: None,
            cloud: None,
            app_id: None,
        }
    }

    /// A custom signing key of one application.
    #[must_use]
    pub fn of_application(mut self, app_id: &str) -> Self {
        self.app_id = Some(app_id.into());
        self
    }

    /// The JWK; the v1.0 document names no issuer.
    pub fn jwk(&self, issuer: Option<&str>) -> Value {
        let mut jwk = self.key.jwk();
        if let (Some(own), Some(members)) = (issuer, jwk.as_object_mut()) {
            let issuer = self.issuer.as_deref().unwrap_or(own);
            members.insert("issuer".into(), issuer.into());
        }
        if let (Some(cloud), Some(members)) = (&self.cloud, jwk.as_object_mut()) {
            members.insert("cloud_instance_name".into(), cloud.as_str().into());
        }
        jwk
    }
}
