//! The development identity provider in a runtime of its own, for tests that are not asynchronous.

use std::sync::Arc;
use std::time::Duration;

use natsentry::demo::idp::{DevIdp, IdpConfig, TokenRequest};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Serves discovery and keys on loopback until it is dropped.
pub struct Issuer {
    idp: Arc<DevIdp>,
    _runtime: Runtime,
}

impl Issuer {
    /// Starts it with its own directory of invented people.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let idp = runtime.block_on(DevIdp::start(IdpConfig::default()));
        Self {
            idp: Arc::new(idp.expect("loopback has ports")),
            _runtime: runtime,
        }
    }

    /// The provider itself.
    pub fn idp(&self) -> Arc<DevIdp> {
        Arc::clone(&self.idp)
    }

    /// Its entry in the `issuers` of a configuration.
    pub fn entry(&self) -> Value {
        let directory = self.idp.directory();
        json!({
            "issuer": self.idp.base(),
            "profile": "entra",
            "tenant": directory.tid,
            "audiences": [directory.api, directory.app_id_uri],
            "v1_tokens": true,
        })
    }

    /// A token for somebody of the directory.
    pub fn mint(&self, who: &str, lifetime: Duration) -> String {
        mint(&self.idp, who, lifetime)
    }
}

/// As [`Issuer::mint`], for threads that outlive a borrow.
pub fn mint(idp: &DevIdp, who: &str, lifetime: Duration) -> String {
    let request = TokenRequest::of(who).lifetime(lifetime);
    idp.mint(&request).unwrap_or_else(|error| panic!("{error}"))
}
