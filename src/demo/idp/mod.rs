//! The development identity provider: an Entra look-alike on loopback, for the demonstration and the tests.
//!
//! Owns: discovery, keys, a token endpoint and minting for invented people. Must never: listen on anything but loopback,
//! be started by `natsentry run`, or be part of a package.

pub mod forge;
mod http;
mod keys;
mod mint;
mod people;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use keys::{PublishedKey, Scheme, SigningKey};
pub use mint::{Form, TokenRequest, claims, header, patch, sign};
pub use people::{Application, Directory, Person};

use crate::clock;
use crate::identity::{Accept, Cloud, Entra, OtherIssuer};

/// How to start it.
#[derive(Clone, Debug)]
pub struct IdpConfig {
    /// Where to listen; loopback only. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who it knows.
    pub directory: Directory,
    /// Kind of token where a request does not say.
    pub form: Form,
}

impl Default for IdpConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            directory: Directory::default(),
            form: Form::V2,
        }
    }
}

/// Why it does not start, or does not mint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdpError {
    /// Asked to listen beyond this machine.
    #[error("the development issuer listens on loopback only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    #[error("{address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// No randomness, or the signature primitive failed.
    #[error("RSA key could not be made or used")]
    Key,
    /// A name that the directory does not have.
    #[error("nobody is called '{asked}'; known: {known}")]
    Unknown {
        /// The name.
        asked: String,
        /// Names that would do.
        known: String,
    },
    /// A key that is not there.
    #[error("no key is called '{0}'")]
    UnknownKey(String),
    /// A parameter of the token address that cannot be.
    #[error(
        "parameter {name}={value} is not understood (as, lifetime=20s, form=v2|v1|oidc, aud, roles, groups)"
    )]
    Query {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

/// How it answers fetches of metadata and keys: well, or in one of the ways in which issuers fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// As it should.
    #[default]
    Well,
    /// 503.
    Down,
    /// Well, after a pause.
    Slow(Duration),
    /// 200 with a web page.
    Html,
    /// 200 with 10 MiB.
    Huge,
    /// An empty key document.
    NoKeys,
    /// A redirect.
    Redirect(String),
    /// Metadata that names this issuer instead.
    ForeignIssuer(String),
    /// Metadata that names this key document instead.
    ForeignKeys(String),
}

/// What requests and the owner share.
#[derive(Debug)]
struct Shared {
    base: String,
    directory: Directory,
    form: Form,
    keys: Mutex<Vec<PublishedKey>>,
    answers: Mutex<Answers>,
    metadata_fetches: AtomicU64,
    key_fetches: AtomicU64,
    token_requests: AtomicU64,
    stop: CancellationToken,
}

/// A running issuer; it ends when this is dropped.
#[derive(Debug)]
pub struct DevIdp {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl DevIdp {
    /// Makes two keys, listens and answers.
    ///
    /// # Errors
    ///
    /// [`IdpError`] when the address is not loopback or taken.
    pub async fn start(config: IdpConfig) -> Result<Self, IdpError> {
        if !config.listen.ip().is_loopback() {
            return Err(IdpError::NotLoopback(config.listen));
        }
        let unlistened = |error| IdpError::Listen {
            address: config.listen,
            error,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(unlistened)?;
        let address = listener.local_addr().map_err(unlistened)?;
        // Entra publishes the key that is in use and those that will be.
        let (first, second) = tokio::join!(new_key(), new_key());
        let keys = vec![PublishedKey::own(second?), PublishedKey::own(first?)];
        let shared = Arc::new(Shared {
            base: format!("http://{address}"),
            directory: config.directory,
            form: config.form,
            keys: Mutex::new(keys),
            answers: Mutex::new(Answers::Well),
            metadata_fetches: AtomicU64::new(0),
            key_fetches: AtomicU64::new(0),
            token_requests: AtomicU64::new(0),
            stop: CancellationToken::new(),
        });
        let router = http::router(Arc::clone(&shared));
        let stop = shared.stop.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "the handle is kept and waited for"
        )]
        let task = tokio::spawn(async move {
            let served =
                axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
            if let Err(error) = served.await {
                tracing::error!(%error, "development issuer ended");
            }
        });
        Ok(Self { shared, task })
    }

    /// `http://127.0.0.1:<port>`; also the issuer of plain OpenID Connect tokens.
    pub fn base(&self) -> &str {
        &self.shared.base
    }

    /// Who it knows.
    pub fn directory(&self) -> &Directory {
        &self.shared.directory
    }

    /// Expectations that accept its Entra-shaped tokens of both versions.
    pub fn entra(&self) -> Entra {
        let directory = self.directory();
        Entra {
            cloud: Cloud::custom(self.base()),
            tenants: vec![directory.tid.as_str().into()],
            audiences: vec![
                directory.api.as_str().into(),
                directory.app_id_uri.as_str().into(),
            ],
            accept: Accept::ALL,
            v1_tokens: true,
            required_scope: None,
            keys_app_id: None,
        }
    }

    /// Expectations that accept its plain OpenID Connect tokens.
    pub fn issuer(&self) -> OtherIssuer {
        OtherIssuer {
            issuer: self.base().into(),
            audiences: vec![self.directory().oidc_audience.as_str().into()],
            accept: Accept::ALL,
            required_scope: None,
            keys: None,
        }
    }

    /// Mints a token.
    ///
    /// # Errors
    ///
    /// [`IdpError`] for an unknown name or key.
    pub fn mint(&self, request: &TokenRequest) -> Result<String, IdpError> {
        self.shared.mint(request)
    }

    /// Signs with a new key from now on, published beside those that are there. Returns its name.
    ///
    /// # Errors
    ///
    /// [`IdpError::Key`].
    pub async fn roll_keys(&self) -> Result<String, IdpError> {
        let key = new_key().await?;
        let kid = key.kid().to_owned();
        self.shared.keys().push(PublishedKey::own(key));
        Ok(kid)
    }

    /// Publishes another key; the newest is the one that signs.
    pub fn add_key(&self, key: PublishedKey) {
        self.shared.keys().push(key);
    }

    /// Withdraws a key. Whether it was there.
    pub fn remove_key(&self, kid: &str) -> bool {
        let mut keys = self.shared.keys();
        let before = keys.len();
        keys.retain(|published| published.key.kid() != kid);
        keys.len() < before
    }

    /// Names of the published keys, oldest first; the last one signs.
    pub fn kids(&self) -> Vec<String> {
        self.shared
            .keys()
            .iter()
            .map(|published| published.key.kid().to_owned())
            .collect()
    }

    /// Answers 503 to everything but the paste address, or answers again.
    pub fn set_down(&self, down: bool) {
        self.answer(if down { Answers::Down } else { Answers::Well });
    }

    /// Answers in a certain way from now on.
    pub fn answer(&self, answers: Answers) {
        *self
            .shared
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = answers;
    }

    /// Fetches of metadata so far.
    pub fn metadata_fetches(&self) -> u64 {
        self.shared.metadata_fetches.load(Ordering::Relaxed)
    }

    /// Fetches of key documents so far.
    pub fn key_fetches(&self) -> u64 {
        self.shared.key_fetches.load(Ordering::Relaxed)
    }

    /// Requests to the token endpoint so far.
    pub fn token_requests(&self) -> u64 {
        self.shared.token_requests.load(Ordering::Relaxed)
    }

    /// Ends it and waits until its port is free.
    pub async fn stop(mut self) {
        self.shared.stop.cancel();
        // Idle connections of clients must not hold the end up.
        if tokio::time::timeout(Duration::from_millis(500), &mut self.task)
            .await
            .is_err()
        {
            self.task.abort();
        }
    }
}

impl Drop for DevIdp {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.task.abort();
    }
}

impl Shared {
    fn mint(&self, request: &TokenRequest) -> Result<String, IdpError> {
        let form = request.form.unwrap_or(self.form);
        let key = self.signing_key(request.kid.as_deref())?;
        let mut payload = claims(&self.directory, &self.base, request, form, clock::now())?;
        patch(&mut payload, &request.claims);
        let mut head = header(&key, form);
        patch(&mut head, &request.header);
        let text = |members| serde_json::Value::Object(members).to_string();
        sign(text(head).as_bytes(), text(payload).as_bytes(), &key)
    }

    fn signing_key(&self, kid: Option<&str>) -> Result<Arc<SigningKey>, IdpError> {
        let keys = self.keys();
        let found = match kid {
            Some(kid) => keys.iter().find(|published| published.key.kid() == kid),
            None => keys.last(),
        };
        let missing = || IdpError::UnknownKey(kid.unwrap_or_default().to_owned());
        found
            .map(|published| Arc::clone(&published.key))
            .ok_or_else(missing)
    }

    /// What stands for the tenant in an issuer: the tenant itself, or the placeholder where an alias was asked for.
    fn tenant_in_issuer(&self, asked: &str) -> Option<&str> {
        match asked {
            "common" | "organizations" => Some("{tenantid}"),
            tid if tid == self.directory.tid => Some(&self.directory.tid),
            _ => None,
        }
    }

    fn keys(&self) -> MutexGuard<'_, Vec<PublishedKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn published(&self) -> Vec<PublishedKey> {
        self.keys().clone()
    }

    fn answers(&self) -> Answers {
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn new_key() -> Result<Arc<SigningKey>, IdpError> {
    let made = tokio::task::spawn_blocking(SigningKey::generate).await;
    made.map_err(|_| IdpError::Key)?.map(Arc::new)
}
