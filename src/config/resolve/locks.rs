//! `locks`: into the settings of the source of locks, and what a command has to know to change them.

use std::net::SocketAddr;
use std::path::Path as FilePath;

use super::super::document::Locks;
use super::{Context, Part};
use crate::revocation::Settings;

/// What commands that change locks have to know. It needs no secret, so that whoever runs them need not have any.
#[derive(Clone, Debug)]
pub struct LockConfig {
    /// Where locks are kept.
    pub settings: Settings,
    /// Whose tokens are accepted: tenant ids, and of other issuers their URLs.
    pub tenants: Vec<String>,
    /// Names of roles.
    pub roles: Vec<String>,
    /// Where a running process shows what it does.
    pub admin: Option<SocketAddr>,
}

pub(super) fn resolve(context: &mut Context<'_>, written: &Locks) -> Settings {
    if !(1..=10_000).contains(&written.max) {
        context.mistake(
            &["locks", "max"],
            format!("{} is out of range; write 1 to 10000", written.max),
        );
    }
    if written.file.is_empty() {
        context.mistake(&["locks", "file"], "a path is needed");
    }
    let settings = settings(context.folder, written);
    let folder = settings.file.parent().unwrap_or(context.folder);
    if !folder.is_dir() {
        let shown = folder.display().to_string();
        context.mistake(
            &["locks", "file"],
            format!("folder {shown} does not exist; create it"),
        );
    } else if settings.file.is_dir() {
        context.mistake(&["locks", "file"], "this is a folder; name a file in it");
    }
    settings
}

fn settings(folder: &FilePath, written: &Locks) -> Settings {
    Settings {
        file: folder.join(&written.file),
        max: usize::try_from(written.max).unwrap_or(usize::MAX),
    }
}

/// The part of a document that commands need.
pub(in crate::config) fn of_document(part: &Part<'_>) -> LockConfig {
    let (document, folder) = (part.document, part.folder);
    let entra = document.entra.iter().flat_map(|entra| entra.tenants.iter());
    let issuers = document
        .issuers
        .iter()
        .map(|issuer| issuer.tenant.as_ref().unwrap_or(&issuer.issuer));
    LockConfig {
        settings: settings(folder, &document.locks),
        tenants: entra.chain(issuers).cloned().collect(),
        roles: document.roles.keys().cloned().collect(),
        admin: document.admin.as_ref().map(|admin| admin.listen.0),
    }
}
