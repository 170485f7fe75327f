//! The upstream's side: whom to trust and how to present ourselves.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use super::server::{certified_key, roots};
use super::{Pem, TlsError, provider};

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
        .with_custom_certificate_verifier(pinning(verifier, pinned));
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

fn pinning(
    inner: Arc<WebPkiServerVerifier>,
    _pinned: Vec<CertificateDer<'static>>,
) -> Arc<dyn ServerCertVerifier> {
    inner
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
