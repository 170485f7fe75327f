//! The development identity provider: an emulator of Entra ID, Graph, Key Vault and managed identities on loopback, for
//! the demonstration and the tests.
//!
//! Owns: the shapes that those services answer in, an invented company, and the ways in which they fail. Must never:
//! listen on anything but loopback, be started by `natsentry run`, or be part of a package.
//!
//! | service | where | what |
//! |---|---|---|
//! | Entra ID | `/{tenant}[/v2.0]/.well-known/openid-configuration`, `/{tenant}/discovery[/v2.0]/keys` | metadata and keys of v1.0 and v2.0, `common`, `?appid=` |
//! | | `/{tenant}/oauth2/v2.0/token`, `/devicecode` | secret, certificate, workload identity, device code, refresh token |
//! | IMDS | `/metadata/identity/oauth2/token` | managed identities of the machine |
//! | App Service | `/msi/token` | the same, as [`DevIdp::app_service`] says |
//! | Azure Arc | `/arc/metadata/identity/oauth2/token` | the same, with the challenge of a file |
//! | Graph | `/v1.0/...` | users, service principals, groups, memberships, assignments, delta queries |
//! | Key Vault | `/secrets/{name}[/{version}]` | secrets with versions |
//! | its own | `/token?as=alice`, `/devicelogin?code=...&as=alice`, `/emulator/...` | tokens to paste, sign-in, faults and changes |
//!
//! Tokens of Graph name `https://graph.microsoft.com` as audience, those of the vault `https://vault.azure.net`; scopes
//! may also name the emulator's own base address, which stands for its Graph.

mod answers;
mod assembly;
mod control;
mod corpus;
mod delegated;
mod device;
mod faults;
pub mod forge;
mod graph;
mod http;
mod keys;
mod listener;
mod managed;
mod mint;
mod own;
mod people;
mod token;
mod vault;
mod verify;
mod world;

#[cfg(test)]
mod emulator_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use faults::{Endpoint, Fault, Seen};
pub use keys::{PublishedKey, Scheme, SigningKey};
pub use mint::{Form, TokenRequest, claims, header, patch, sign};
pub use people::{Application, Directory, Federated, GRAPH, Person};
pub use world::Replica;

use crate::clock;
use device::Devices;
use faults::Faults;
use vault::Vault;
use world::World;

/// How to start it.
#[derive(Clone, Debug)]
pub struct IdpConfig {
    /// Where to listen; loopback only. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who it knows.
    pub directory: Directory,
    /// Kind of token where a request does not say: what the API's registration asks for.
    pub form: Form,
    /// Where the Arc agent leaves the files of its challenges; none: no Arc agent runs.
    pub arc_folder: Option<PathBuf>,
}

impl Default for IdpConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            directory: Directory::default(),
            form: Form::V2,
            arc_folder: None,
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
    /// The company as it was at the beginning; [`World`] has it as it is.
    directory: Directory,
    form: Form,
    keys: Mutex<Vec<PublishedKey>>,
    answers: Mutex<Answers>,
    metadata_fetches: AtomicU64,
    key_fetches: AtomicU64,
    token_requests: AtomicU64,
    stop: CancellationToken,
    world: Mutex<World>,
    faults: Mutex<Faults>,
    devices: Mutex<Devices>,
    vault: Mutex<Vault>,
    /// Tokens that Azure would keep, by identity and resource, with their ends in seconds.
    managed_tokens: Mutex<BTreeMap<(String, String), (String, u64)>>,
    /// Contents of Arc files that have not been shown yet.
    challenges: Mutex<BTreeSet<String>>,
    used_assertions: Mutex<BTreeSet<String>>,
    /// What App Service puts into `IDENTITY_HEADER`.
    identity_header: String,
    arc_folder: Option<PathBuf>,
    /// Signs tokens of workloads, as a Kubernetes cluster would.
    cluster: Arc<SigningKey>,
    page_size: AtomicUsize,
    delta_tracks_sessions: AtomicBool,
}

/// A running issuer; it ends when this is dropped.
#[derive(Debug)]
pub struct DevIdp {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
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
        let directory = self.world().directory();
        let mut payload = claims(&directory, &self.base, request, form, clock::now())?;
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
            None => keys.iter().rfind(|published| published.app_id.is_none()),
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

    /// A published key, for checking a signature of our own.
    fn key_named(&self, kid: &str) -> Option<Arc<SigningKey>> {
        self.signing_key(Some(kid)).ok()
    }

    /// `iss` of the cluster whose workloads applications may trust.
    fn cluster_issuer(&self) -> String {
        format!("{}/cluster", self.base)
    }

    /// The key documents' contents, with the custom keys of an application where it is asked for.
    fn published(&self, app_id: Option<&str>) -> Vec<PublishedKey> {
        let keys = self.keys();
        let fit = keys
            .iter()
            .filter(|key| key.app_id.is_none() || key.app_id.as_deref() == app_id);
        fit.cloned().collect()
    }

    fn page_size(&self) -> usize {
        self.page_size.load(Ordering::Relaxed)
    }

    fn delta_tracks_sessions(&self) -> bool {
        self.delta_tracks_sessions.load(Ordering::Relaxed)
    }

    fn answers(&self) -> Answers {
        held(&self.answers).clone()
    }

    fn keys(&self) -> MutexGuard<'_, Vec<PublishedKey>> {
        held(&self.keys)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        held(&self.world)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        held(&self.faults)
    }

    fn devices(&self) -> MutexGuard<'_, Devices> {
        held(&self.devices)
    }

    fn vault(&self) -> MutexGuard<'_, Vault> {
        held(&self.vault)
    }

    fn managed_tokens(&self) -> MutexGuard<'_, BTreeMap<(String, String), (String, u64)>> {
        held(&self.managed_tokens)
    }

    fn challenges(&self) -> MutexGuard<'_, BTreeSet<String>> {
        held(&self.challenges)
    }

    fn used_assertions(&self) -> MutexGuard<'_, BTreeSet<String>> {
        held(&self.used_assertions)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn new_key() -> Result<Arc<SigningKey>, IdpError> {
    let made = tokio::task::spawn_blocking(SigningKey::generate).await;
    made.map_err(|_| IdpError::Key)?.map(Arc::new)
}
