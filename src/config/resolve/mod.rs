//! From the document to the [`Config`]: references become secrets, words become settings of the adapters, and what does
//! not fit together is a mistake with its place.
//!
//! Owns: every check that looks at more than one key, at a file or at the environment. Must never: stop at the first
//! mistake, or report what only follows from another one.

mod api;
mod audit;
mod credential;
mod graph;
mod issuers;
mod keys;
mod listen;
mod locks;
mod policy;
mod trust;
mod upstreams;
mod vault;

use std::collections::HashMap;
use std::path::Path as FilePath;
use std::sync::Arc;

use super::document::{self, Document};
use super::mistake::{Mistake, Path};
use super::secret::{Found, Resolved, SecretRef};
use super::tree::Node;
use super::{Config, Source};
use crate::entra::{VaultCloud, VaultSecret};
use crate::policy::units::HumanDuration;
use crate::secret::Secret;
use crate::time::Timestamp;

pub use api::ApiConfig;
pub use graph::GraphConfig;
pub use listen::{ListenConfig, ListenTls, ProxyProtocolConfig};
pub use locks::LockConfig;
pub(super) use locks::of_document as locks_of;
pub use trust::TrustConfig;
pub use vault::{VaultConfig, VaultUser};

/// Checks and resolves. `touched` are the paths that an earlier step reported already; `now` is for roles with a
/// beginning or an end. The list of mistakes is empty when everything that is wrong was reported already.
pub(super) fn resolve(
    document: &Document,
    source: Source,
    touched: &[Path],
    folder: &FilePath,
    now: Timestamp,
    vault: &VaultSecrets,
) -> Result<Config, Vec<Mistake>> {
    let tree = source.tree.clone();
    let mut context = Context::new(document, &tree, touched, folder, vault);
    context.version(document);
    let listen = listen::resolve(&mut context, document);
    let trust = trust::resolve(&mut context, document);
    let graph = graph::resolve(&mut context, document);
    let keys = keys::resolve(&mut context, &document.keys);
    let upstreams = upstreams::resolve(&mut context, document);
    let policy = policy::resolve(&mut context, document, now);
    let audit = audit::resolve(&mut context, document.audit.as_ref());
    let locks = locks::resolve(&mut context, &document.locks);
    let vault = vault::resolve(&mut context, document);
    for (key, message) in document.limits.out_of_range() {
        context.mistake(&["limits", key], message);
    }
    let Context {
        mistakes,
        mut warnings,
        in_vault,
        ..
    } = context;
    warnings.sort_by_key(|warning| warning.at);
    let Some(policy) = policy.filter(|_| mistakes.is_empty()) else {
        return Err(mistakes);
    };
    Ok(Config {
        listen,
        admin: document.admin.as_ref().map(|admin| admin.listen.0),
        trust,
        graph,
        vault,
        unread: in_vault,
        secrets: VaultSecrets::new(),
        keys,
        upstreams,
        policy: policy.policy,
        policy_document: policy.document,
        tests_passed: policy.tests_passed,
        audit,
        locks,
        limits: document.limits.clone(),
        warnings,
        source,
        written: Arc::default(),
    })
}

/// A document of which one section is wanted.
pub(super) struct Part<'a> {
    pub(super) document: &'a Document,
    pub(super) tree: &'a Node,
    pub(super) folder: &'a FilePath,
}

/// Where clients get tokens, if all that is said of Entra's tokens is right.
pub(super) fn api_of(part: &Part<'_>) -> Result<Option<ApiConfig>, Vec<Mistake>> {
    let vault = VaultSecrets::new();
    let mut context = Context::new(part.document, part.tree, &[], part.folder, &vault);
    trust::resolve(&mut context, part.document);
    let mut wrong = context.mistakes;
    wrong.retain(|mistake| {
        mistake
            .path
            .first()
            .is_some_and(|first| **first == *"entra")
    });
    match wrong.as_slice() {
        [] => Ok(api::resolve(part.document)),
        _ => Err(wrong),
    }
}

/// What all checks share.
struct Context<'a> {
    tree: &'a Node,
    touched: &'a [Path],
    folder: &'a FilePath,
    mistakes: Vec<Mistake>,
    warnings: Vec<Mistake>,
    /// Login host of the cloud.
    authority: Box<str>,
    /// Secrets that were read from the vault, by reference.
    vault: &'a VaultSecrets,
    /// Where references into the vault stand so far, and what they lead to.
    vault_secrets: Vec<(Path, VaultSecret)>,
    /// How many of them nobody has read.
    in_vault: usize,
}

/// Values of secrets by their reference, `keyvault:https://...`.
pub type VaultSecrets = HashMap<String, Secret>;

/// The login host of the configured cloud; without `entra` the public one.
fn authority(document: &Document) -> Box<str> {
    match &document.entra {
        Some(entra) => trust::cloud(&entra.cloud).authority,
        None => crate::identity::Cloud::public().authority,
    }
}

impl<'a> Context<'a> {
    fn new(
        document: &Document,
        tree: &'a Node,
        touched: &'a [Path],
        folder: &'a FilePath,
        vault: &'a VaultSecrets,
    ) -> Self {
        Self {
            tree,
            touched,
            folder,
            mistakes: Vec::new(),
            warnings: Vec::new(),
            authority: authority(document),
            vault,
            vault_secrets: Vec::new(),
            in_vault: 0,
        }
    }
}

impl Context<'_> {
    /// Notes a mistake, unless its place was reported already.
    fn mistake(&mut self, path: &[&str], message: impl Into<String>) {
        let path: Path = path.iter().map(|segment| (*segment).into()).collect();
        self.mistake_at(path, message.into());
    }

    fn mistake_at(&mut self, path: Path, message: String) {
        if !self.is_touched(&path) {
            let at = self.tree.position(&path, false);
            self.mistakes.push(Mistake { at, path, message });
        }
    }

    /// Notes something that works and is probably not meant.
    fn warning(&mut self, path: &[&str], message: impl Into<String>) {
        let path: Path = path.iter().map(|segment| (*segment).into()).collect();
        if !self.is_touched(&path) {
            let at = self.tree.position(&path, false);
            self.warnings.push(Mistake {
                at,
                path,
                message: message.into(),
            });
        }
    }

    /// Whether something at or above this place was reported by an earlier step.
    fn is_touched(&self, path: &[Box<str>]) -> bool {
        self.touched.iter().any(|touched| path.starts_with(touched))
    }

    /// Whether something right below this place was reported by an earlier step.
    fn lost_a_child(&self, path: &[Box<str>]) -> bool {
        let parents = self
            .touched
            .iter()
            .filter_map(|touched| touched.split_last());
        parents.into_iter().any(|(_, parent)| parent == path)
    }

    /// Whether an earlier step took something out at or below this place.
    fn lost_something(&self, path: &[&str]) -> bool {
        self.touched.iter().any(|touched| {
            touched.len() >= path.len() && touched.iter().zip(path).all(|(a, b)| **a == **b)
        })
    }

    /// The secret behind a reference; a mistake where there is none. None without a mistake for one that lies in a vault
    /// and was not read: whoever uses the configuration has to read it first.
    fn secret(&mut self, path: &[&str], reference: &SecretRef) -> Option<Resolved> {
        match reference.resolve(self.folder) {
            Ok(Found::Here(resolved)) => Some(resolved),
            Ok(Found::InVault(address)) => self.vault_secret(path, &address),
            Err(error) => {
                self.mistake(path, error.to_string());
                None
            }
        }
    }

    fn vault_secret(&mut self, path: &[&str], address: &str) -> Option<Resolved> {
        let secret = match VaultCloud::of_authority(&self.authority).secret(address) {
            Ok(secret) => secret,
            Err(error) => {
                self.mistake(path, error);
                return None;
            }
        };
        let origin = secret.to_string();
        let known = self.vault.get(&origin).cloned();
        if known.is_none() {
            self.in_vault = self.in_vault.saturating_add(1);
        }
        let path = path.iter().map(|segment| (*segment).into()).collect();
        self.vault_secrets.push((path, secret));
        known.map(|secret| Resolved { secret, origin })
    }

    /// PEM text behind a reference.
    fn pem(&mut self, path: &[&str], reference: Option<&SecretRef>) -> Option<crate::tls::Pem> {
        let resolved = self.secret(path, reference?)?;
        Some(crate::tls::Pem::new(
            resolved.origin,
            resolved.secret.expose(),
        ))
    }

    fn version(&mut self, document: &Document) {
        if document.version != document::VERSION {
            self.mistake(
                &["version"],
                format!(
                    "version {} is not known; this program reads version {}",
                    document.version,
                    document::VERSION
                ),
            );
        }
    }

    /// A length of time that must lie within bounds, in milliseconds.
    fn bounded(&mut self, path: &[&str], value: HumanDuration, least_ms: u64, most_ms: u64) {
        let millis = |ms| HumanDuration::new(std::time::Duration::from_millis(ms));
        let (least, most) = (millis(least_ms), millis(most_ms));
        if value < least || value > most {
            self.mistake(
                path,
                format!("{value} is out of range; write {least} to {most}"),
            );
        }
    }
}

/// Which of several PEM texts an error speaks of: the path whose origin its sentence begins with.
fn blamed<'p>(
    error: &crate::tls::TlsError,
    candidates: &[(Option<&crate::tls::Pem>, &'p [&'p str])],
    otherwise: &'p [&'p str],
) -> &'p [&'p str] {
    let sentence = error.to_string();
    candidates
        .iter()
        .find(|(pem, _)| pem.is_some_and(|pem| sentence.starts_with(pem.origin())))
        .map_or(otherwise, |(_, path)| path)
}
