//! Tokens that are kept between commands, for who asks for it: one file each, readable by its owner alone.
//!
//! Only access tokens are kept, never refresh tokens: a stolen file is good for one API and about an hour. Must never:
//! use a file that somebody else could have written or read.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::ways::{Got, Wanted, Way};
use crate::clock;
use crate::secret::Secret;
use crate::time::Timestamp;

/// A token is used until so long before its end.
const BEFORE_END: Duration = Duration::from_secs(300);

/// Largest file that may be one of ours.
const FILE_BYTES_MAX: u64 = 128 << 10;

/// Where one token is kept.
pub(super) struct Cache(Option<PathBuf>);

#[derive(Deserialize, Serialize)]
struct Kept<'a> {
    access_token: &'a str,
    expires_on: u64,
    from: &'a str,
}

impl Cache {
    /// The place for a question. Different questions have different places.
    pub(super) fn of(wanted: &Wanted) -> Self {
        let question = format!("{wanted:?}");
        let digest = Sha256::digest(question);
        let name: String = digest
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self(folder().map(|folder| folder.join(format!("{name}.json"))))
    }

    /// The token that is kept, if it is still good.
    ///
    /// # Errors
    /// When the file is not as it was left.
    pub(super) fn load(&self) -> anyhow::Result<Option<Got>> {
        let Some(path) = &self.0 else {
            return Ok(None);
        };
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(path.display().to_string()),
        };
        let facts = file.metadata()?;
        let ours = path
            .parent()
            .map(fs::metadata)
            .transpose()?
            .map(|folder| folder.uid());
        if !facts.is_file() || facts.mode() & 0o077 != 0 || Some(facts.uid()) != ours {
            bail!(
                "{}: others can read or write it; it is not used. Remove it",
                path.display()
            );
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        let Ok(kept) = serde_json::from_slice::<Kept<'_>>(&bytes) else {
            // A file of another version is as good as none.
            return Ok(None);
        };
        let expires_at = Timestamp::from_secs(kept.expires_on);
        let way = Way::named(kept.from);
        Ok(way
            .filter(|_| clock::now().plus(BEFORE_END) < expires_at)
            .map(|way| Got {
                secret: Secret::new(kept.access_token),
                expires_at,
                way,
            }))
    }

    /// Keeps a token.
    ///
    /// # Errors
    /// When there is no place, or the file cannot be written.
    pub(super) fn store(&self, got: &Got) -> anyhow::Result<()> {
        let path = self
            .0
            .as_ref()
            .context("--cache: neither XDG_CACHE_HOME nor HOME is set")?;
        let folder = path.parent().context("a file is in a folder")?;
        let failed = || format!("--cache: {}", path.display());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(failed)?;
        let kept = Kept {
            access_token: got.secret.expose_str().unwrap_or_default(),
            expires_on: got.expires_at.as_secs(),
            from: got.way.word(),
        };
        let text = Zeroizing::new(serde_json::to_vec(&kept)?);
        // A name of its own, so that two commands at once do not write into one file; the rename is what counts.
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            fs::remove_file(&new).ok();
        }
        written.with_context(failed)
    }
}

fn folder() -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
    Some(cache.join("natsentry").join("tokens"))
}
