//! The upstream's side: whom to trust and how to present ourselves.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::facts::certificate_facts;
use super::server::{certified_key, roots};
use super::{Pem, TlsError, provider};
use crate::time::Timestamp;

/// Our own certificate for servers with `tls { verify: true }`.
#[derive(Clone, Copy, Debug)]
pub struct ClientIdentity<'a> {
    /// Certificate chain, own certificate first.
    pub cert: &'a Pem,
    /// Its private key.
    pub key: &'a Pem,
}

/// A client configuration: trust in `ca`, or in the machine's own store where that is none; our certificate where the
/// server asks for one; sessions resumed, no ALPN, no early data.
///
/// # Errors
/// One sentence that names the file at fault.
pub fn client_config(
    ca: Option<&Pem>,
    identity: Option<ClientIdentity<'_>>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let pinned = ca.map(Pem::certificates).transpose()?.unwrap_or_default();
    let store = match ca {
        Some(ca) => roots(ca)?,
        None => native_roots()?,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
        .build()
        .map_err(|error| TlsError::NoRoots {
            detail: error.to_string(),
        })?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Provider {
            detail: error.to_string(),
        })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OrPinned {
            inner: verifier,
            pinned,
        }));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(ClientIdentity { cert, key }) => {
            let certified = certified_key(cert, key)?;
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                certified,
            )))
        }
    };
    config.resumption = Resumption::in_memory_sessions(SESSIONS_REMEMBERED);
    Ok(Arc::new(config))
}

/// Trusts what webpki trusts and, besides, exactly the certificates of the `ca` file as servers' own. Old estates run
/// on self-signed certificates, which webpki refuses as "CA used as end entity" although the operator named them.
#[derive(Debug)]
struct OrPinned {
    inner: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl OrPinned {
    /// A pinned certificate must still be valid now, and be for this name where it names anything.
    fn is_pinned(
        &self,
        presented: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let facts = certificate_facts(presented);
        let now = Timestamp::from_secs(now.as_secs());
        let (Some(from), Some(until)) = (facts.not_before, facts.not_after) else {
            return false;
        };
        self.pinned.iter().any(|pinned| pinned == presented)
            && (from..=until).contains(&now)
            && ParsedCertificate::try_from(presented).is_ok_and(|parsed| is_for(&parsed, name))
    }
}

fn is_for(certificate: &ParsedCertificate<'_>, name: &ServerName<'_>) -> bool {
    match verify_server_name(certificate, name) {
        Ok(()) => true,
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) => presented.is_empty(),
        Err(_) => false,
    }
}

impl ServerCertVerifier for OrPinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verdict {
            Err(_) if self.is_pinned(end_entity, server_name, now) => {
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The machine's trust store. Single certificates that cannot be used are passed over, as every TLS library does.
fn native_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(found.certs);
    if usable == 0 {
        let detail = found
            .errors
            .first()
            .map_or_else(|| "the store is empty".to_owned(), ToString::to_string);
        return Err(TlsError::NoRoots { detail });
    }
    Ok(store)
}

/// Sessions kept for resumption per configuration, over all servers of one upstream.
const SESSIONS_REMEMBERED: usize = 256;
