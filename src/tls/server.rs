//! The listener's side: one configuration that can be exchanged while connections come in.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::SectionKind;

use super::facts::{CertificateFacts, certificate_facts};
use super::{Pem, TlsError, provider};

/// TLS of a listener. Connections in progress keep the certificate they began with; new ones take the current.
pub struct ServerTls {
    current: ArcSwap<Current>,
    tickets: Mutex<Tickets>,
}

struct Current {
    config: Arc<ServerConfig>,
    facts: CertificateFacts,
}

/// The ticket key outlives a reload, so that clients resume, unless the trust in client certificates changed: a
/// resumed session carries the client certificate that was checked when the ticket was made.
struct Tickets {
    client_ca: Option<Pem>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl ServerTls {
    /// From the certificate chain (own certificate first), its private key and, for mTLS, the CAs whose client
    /// certificates are then required.
    ///
    /// # Errors
    /// One sentence that names the file at fault.
    pub fn new(cert: &Pem, key: &Pem, client_ca: Option<&Pem>) -> Result<Self, TlsError> {
        let tickets = Tickets::new(client_ca)?;
        let current = build(cert, key, client_ca, Arc::clone(&tickets.ticketer))?;
        Ok(Self {
            current: ArcSwap::from_pointee(current),
            tickets: Mutex::new(tickets),
        })
    }

    /// Exchanges certificate, key and client CAs for all connections that begin from now on. On an error everything
    /// stays as it was.
    ///
    /// # Errors
    /// As [`ServerTls::new`].
    pub fn reload(&self, cert: &Pem, key: &Pem, client_ca: Option<&Pem>) -> Result<(), TlsError> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = (tickets.client_ca.as_ref() != client_ca)
            .then(|| Tickets::new(client_ca))
            .transpose()?;
        let ticketer = &renewed.as_ref().unwrap_or(&tickets).ticketer;
        let current = build(cert, key, client_ca, Arc::clone(ticketer))?;
        self.current.store(Arc::new(current));
        if let Some(renewed) = renewed {
            *tickets = renewed;
        }
        Ok(())
    }

    /// The configuration for the next connection.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// An acceptor for the next connection.
    #[must_use]
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        tokio_rustls::TlsAcceptor::from(self.config())
    }

    /// What the current certificate says about itself, for expiry metrics.
    #[must_use]
    pub fn certificate(&self) -> CertificateFacts {
        self.current.load().facts.clone()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("certificate", &self.certificate())
            .finish_non_exhaustive()
    }
}

impl Tickets {
    fn new(client_ca: Option<&Pem>) -> Result<Self, TlsError> {
        let ticketer =
            rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| TlsError::Provider {
                detail: error.to_string(),
            })?;
        Ok(Self {
            client_ca: client_ca.cloned(),
            ticketer,
        })
    }
}

fn build(
    cert: &Pem,
    key: &Pem,
    client_ca: Option<&Pem>,
    ticketer: Arc<dyn ProducesTickets>,
) -> Result<Current, TlsError> {
    let certified = certified_key(cert, key)?;
    let facts = certified
        .cert
        .first()
        .map(|der| certificate_facts(der))
        .unwrap_or_default();
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Provider {
            detail: error.to_string(),
        })?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider())
                    .build()
                    .map_err(|error| TlsError::Certificate {
                        origin: ca.origin().to_owned(),
                        detail: error.to_string(),
                    })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let resolver = rustls::sign::SingleCertAndKey::from(certified);
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.ticketer = ticketer;
    // One is what a client that resumes uses; each costs an encryption in every full handshake.
    config.send_tls13_tickets = 1;
    Ok(Current {
        config: Arc::new(config),
        facts,
    })
}

/// Chain and key, checked to belong together.
pub(super) fn certified_key(cert: &Pem, key: &Pem) -> Result<CertifiedKey, TlsError> {
    let chain = cert.certificates().map_err(|error| match error {
        TlsError::Missing { .. } if cert.has(SectionKind::PrivateKey) => TlsError::Missing {
            origin: format!(
                "{} (it holds a private key; are cert and key swapped?)",
                cert.origin()
            ),
            wanted: "certificate",
            marker: "CERTIFICATE",
        },
        other => other,
    })?;
    let der = key.private_key()?;
    let signing = provider()
        .key_provider
        .load_private_key(der)
        .map_err(|error| TlsError::Key {
            origin: key.origin().to_owned(),
            detail: error.to_string(),
        })?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(certified)
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch {
            cert: cert.origin().to_owned(),
            key: key.origin().to_owned(),
        }),
        Err(error) => Err(TlsError::Certificate {
            origin: cert.origin().to_owned(),
            detail: error.to_string(),
        }),
    }
}

/// Trust anchors: every certificate of the file must be usable as one.
pub(super) fn roots(ca: &Pem) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in ca.certificates()? {
        store
            .add(certificate)
            .map_err(|error| TlsError::Certificate {
                origin: ca.origin().to_owned(),
                detail: error.to_string(),
            })?;
    }
    Ok(store)
}
