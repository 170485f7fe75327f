//! `keyvault`: into what reads the vault, if a reference leads there.

use std::time::Duration;

use super::super::document::Document;
use super::super::mistake::{Path, show_path};
use super::{Context, credential};
use crate::entra::{CredentialConfig, VaultSecret};

/// Secrets that lie in a vault.
#[derive(Clone, Debug)]
pub struct VaultConfig {
    /// Who reads.
    pub credential: CredentialConfig,
    /// Login host of the cloud.
    pub authority: Box<str>,
    /// Distance between readings.
    pub refresh: Duration,
    /// What is read, by who uses it.
    pub users: Vec<VaultUser>,
}

/// A part of the configuration with all of its secrets that lie in the vault. They belong together: a new name is of no
/// use with the old password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultUser {
    /// As `upstreams.plant-a`.
    pub name: Box<str>,
    /// Each once.
    pub secrets: Vec<VaultSecret>,
}

/// By the first two keys of each path: an upstream, or the certificate of the listener.
fn users(secrets: Vec<(Path, VaultSecret)>) -> Vec<VaultUser> {
    let mut users: Vec<VaultUser> = Vec::new();
    for (path, secret) in secrets {
        let name = show_path(path.get(..2).unwrap_or(&path)).into_boxed_str();
        let index = match users.iter().position(|user| user.name == name) {
            Some(index) => index,
            None => {
                users.push(VaultUser {
                    name,
                    secrets: Vec::new(),
                });
                users.len().saturating_sub(1)
            }
        };
        if let Some(user) = users.get_mut(index)
            && !user.secrets.contains(&secret)
        {
            user.secrets.push(secret);
        }
    }
    users
}

/// To be called last: until then references are met.
pub(super) fn resolve(context: &mut Context<'_>, document: &Document) -> Option<VaultConfig> {
    let refresh = document.keyvault.refresh;
    context.bounded(&["keyvault", "refresh"], refresh, 1_000, 24 * 3_600_000);
    let own = document.keyvault.credential.as_ref();
    let own = own.map(|written| (&["keyvault", "credential"][..], written));
    let graph = document
        .entra
        .as_ref()
        .and_then(|entra| entra.graph.as_ref());
    let graph = graph.map(|graph| (&["entra", "graph", "credential"][..], &graph.credential));
    let secrets = std::mem::take(&mut context.vault_secrets);
    let Some((path, written)) = own.or(graph) else {
        if let Some((path, _)) = secrets.into_iter().next()
            && !context.lost_something(&["keyvault"])
        {
            context.mistake_at(
                path,
                "nobody is there to read the vault; write `keyvault: { credential: managed-identity }`".to_owned(),
            );
        }
        return None;
    };
    // What is wrong with Graph's credential was said there.
    let before = context.mistakes.len();
    let credential = credential::resolve(context, path, document, written);
    if own.is_none() {
        context.mistakes.truncate(before);
    }
    let credential = credential?;
    (!secrets.is_empty()).then(|| VaultConfig {
        credential,
        authority: context.authority.clone(),
        refresh: refresh.get(),
        users: users(secrets),
    })
}
