//! `keyvault`: into what reads the vault, if a reference leads there.

use std::time::Duration;

use super::super::document::Document;
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
    /// What is read.
    pub secrets: Vec<VaultSecret>,
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
    let (first, secrets) = (
        context.vault_paths.first().cloned(),
        std::mem::take(&mut context.vault_secrets),
    );
    let Some((path, written)) = own.or(graph) else {
        if let Some(path) = first
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
        secrets,
    })
}
