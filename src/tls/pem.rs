//! PEM text with its place of origin, and what is read out of it. Never logs content.

use rustls_pki_types::pem::{Error as PemFault, PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{CertificateFacts, TlsError, certificate_facts};
use crate::secret::Secret;

/// PEM bytes and the place they came from, `file:tls.key` for example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pem {
    origin: String,
    bytes: Secret,
}

impl Pem {
    /// `origin` is shown in errors: it must name the place and hold nothing secret.
    pub fn new(origin: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            origin: origin.into(),
            bytes: Secret::new(bytes),
        }
    }

    /// Where the bytes came from.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What the first certificate says about itself, so that a check can warn of one that runs out.
    ///
    /// # Errors
    /// When there is no certificate in it.
    pub fn certificate_facts(&self) -> Result<CertificateFacts, TlsError> {
        let certificates = self.certificates()?;
        Ok(certificates
            .first()
            .map(|der| certificate_facts(der))
            .unwrap_or_default())
    }

    /// Every certificate, in file order; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates = CertificateDer::pem_slice_iter(self.bytes.expose())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|fault| self.fault(&fault))?;
        if certificates.is_empty() {
            return Err(self.missing("certificate", "CERTIFICATE"));
        }
        Ok(certificates)
    }

    /// The first private key.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        match PrivateKeyDer::from_pem_slice(self.bytes.expose()) {
            Ok(key) => Ok(key),
            Err(PemFault::NoItemsFound) if self.has_encrypted_key() => {
                Err(TlsError::EncryptedKey {
                    origin: self.origin.clone(),
                })
            }
            Err(PemFault::NoItemsFound) => Err(self.missing("private key", "PRIVATE KEY")),
            Err(fault) => Err(self.fault(&fault)),
        }
    }

    /// Whether there is any PEM section of this kind; used to explain what is wrong.
    pub(super) fn has(&self, kind: SectionKind) -> bool {
        <(SectionKind, Vec<u8>)>::pem_slice_iter(self.bytes.expose())
            .flatten()
            .any(|(found, _)| found == kind)
    }

    #[cfg(test)]
    pub(super) fn private_text(&self) -> &str {
        self.bytes.expose_str().unwrap_or_default()
    }

    fn has_encrypted_key(&self) -> bool {
        self.bytes.expose_str().is_some_and(|text| {
            text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
        })
    }

    fn missing(&self, wanted: &'static str, marker: &'static str) -> TlsError {
        TlsError::Missing {
            origin: self.origin.clone(),
            wanted,
            marker,
        }
    }

    /// The parser's errors quote lines of the file, which may be a key: only the kind of fault is kept.
    fn fault(&self, fault: &PemFault) -> TlsError {
        if self.has_encrypted_key() {
            return TlsError::EncryptedKey {
                origin: self.origin.clone(),
            };
        }
        let detail = match fault {
            PemFault::MissingSectionEnd { .. } => "an END line is missing",
            PemFault::IllegalSectionStart { .. } => "a BEGIN line is malformed",
            PemFault::Base64Decode(_) => "the text between BEGIN and END is not base64",
            _ => "it cannot be read",
        };
        TlsError::Pem {
            origin: self.origin.clone(),
            detail,
        }
    }
}
