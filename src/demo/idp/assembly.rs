//! Starting and ending the emulator, its keys, and what a relying party has to expect of it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::listener::{ResetSwitch, Resettable};
use super::world::World;
use super::{
    Answers, DevIdp, Directory, IdpConfig, IdpError, PublishedKey, Shared, TokenRequest, answers,
    held, http, new_key,
};
use crate::clock;
use crate::identity::{Accept, Cloud, Entra, GroupForm, OtherIssuer};

/// Entries on a page of Graph where a request does not say.
const PAGE_SIZE: usize = 100;

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
        let (first, second, cluster) = tokio::join!(new_key(), new_key(), new_key());
        let keys = vec![PublishedKey::own(second?), PublishedKey::own(first?)];
        let shared = Arc::new(Shared {
            base: format!("http://{address}"),
            world: Mutex::new(World::new(&config.directory, clock::now())),
            directory: config.directory,
            form: config.form,
            keys: Mutex::new(keys),
            answers: Mutex::new(Answers::Well),
            metadata_fetches: AtomicU64::new(0),
            key_fetches: AtomicU64::new(0),
            token_requests: AtomicU64::new(0),
            stop: CancellationToken::new(),
            faults: Mutex::default(),
            devices: Mutex::default(),
            vault: Mutex::default(),
            managed_tokens: Mutex::default(),
            challenges: Mutex::default(),
            used_assertions: Mutex::default(),
            identity_header: answers::request_id(),
            arc_folder: config.arc_folder,
            cluster: cluster?,
            page_size: AtomicUsize::new(PAGE_SIZE),
            delta_tracks_sessions: AtomicBool::new(false),
        });
        let router = http::router(Arc::clone(&shared));
        let stop = shared.stop.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "the handle is kept and waited for"
        )]
        let task = tokio::spawn(async move {
            let service = router.into_make_service_with_connect_info::<ResetSwitch>();
            let served = axum::serve(Resettable(listener), service)
                .with_graceful_shutdown(stop.cancelled_owned());
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
            groups: GroupForm::Ids,
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
            groups: GroupForm::Ids,
            roles_claim: Vec::new(),
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

    /// Publishes a key ahead of its use: Entra does so days before it signs with it. Returns its name.
    ///
    /// # Errors
    ///
    /// [`IdpError::Key`].
    pub async fn publish_ahead(&self) -> Result<String, IdpError> {
        let key = new_key().await?;
        let kid = key.kid().to_owned();
        self.shared.keys().insert(0, PublishedKey::own(key));
        Ok(kid)
    }

    /// Signs with this published key from now on. Whether it was there.
    pub fn sign_with(&self, kid: &str) -> bool {
        let mut keys = self.shared.keys();
        let Some(at) = keys.iter().position(|published| published.key.kid() == kid) else {
            return false;
        };
        let key = keys.remove(at);
        keys.push(key);
        true
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
        *held(&self.shared.answers) = answers;
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
