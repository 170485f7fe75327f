//! The file of the last good key set, so that a restart during an outage of the issuer still admits.
//!
//! Public keys are no secret, but who can write them can forge every identity: files are written for their owner alone,
//! and not read when others could have written them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::identity::{KeySet, KeySource};
use crate::time::Timestamp;

/// One source's file.
#[derive(Clone, Debug)]
pub(super) struct Store {
    path: PathBuf,
    location: Box<str>,
    issuer: Box<str>,
}

/// What the file holds.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u8,
    location: Box<str>,
    issuer: Box<str>,
    fetched_at_ms: u64,
    cloud: Option<Box<str>>,
    /// The issuer that the metadata names.
    #[serde(default)]
    said: Option<Box<str>>,
    document: String,
}

/// What was read back.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) keys: KeySet,
    pub(super) cloud: Option<Box<str>>,
    pub(super) issuer: Option<Box<str>>,
    pub(super) fetched_at: Timestamp,
}

/// Why a file was not read; there is nothing to repair, the issuer is asked instead.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error(
        "others than its owner may write it, or it or its folder belongs to neither root nor the user of this process"
    )]
    Ownership,
    #[error("not a key file of this source")]
    Content,
}

impl Store {
    pub(super) fn new(folder: &Path, source: &KeySource) -> Self {
        let digest = Sha256::digest(format!("{}\n{}", source.issuer, source.location.url()));
        let name: String = digest
            .iter()
            .take(12)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            path: folder.join(format!("{name}.jwks.json")),
            location: source.location.url().into(),
            issuer: source.issuer.clone(),
        }
    }

    /// The last good set; `Ok(None)` where there is no file.
    pub(super) fn load(&self) -> Result<Option<Kept>, StoreError> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&self.path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let facts = file.metadata()?;
        let folder = fs::metadata(self.path.parent().unwrap_or(&self.path))?;
        // Who owns the folder decides what lies in it.
        let ours = [0, rustix::process::geteuid().as_raw()];
        let is_ours = |facts: &fs::Metadata| ours.contains(&facts.uid());
        if !facts.is_file() || facts.mode() & 0o022 != 0 || !is_ours(&facts) || !is_ours(&folder) {
            return Err(StoreError::Ownership);
        }
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MOST_BYTES {
            return Err(StoreError::Content);
        }
        let written: Written = serde_json::from_slice(&bytes).map_err(|_| StoreError::Content)?;
        if written.version != VERSION
            || written.location != self.location
            || written.issuer != self.issuer
        {
            return Err(StoreError::Content);
        }
        let keys = KeySet::parse(written.document.as_bytes()).map_err(|_| StoreError::Content)?;
        Ok(Some(Kept {
            keys,
            cloud: written.cloud,
            issuer: written.said,
            fetched_at: Timestamp::from_millis(written.fetched_at_ms),
        }))
    }

    /// Replaces the file in one step.
    pub(super) fn save(
        &self,
        document: &[u8],
        cloud: Option<Box<str>>,
        issuer: Option<Box<str>>,
        fetched_at: Timestamp,
    ) -> Result<(), StoreError> {
        let written = Written {
            version: VERSION,
            location: self.location.clone(),
            issuer: self.issuer.clone(),
            fetched_at_ms: fetched_at.as_millis(),
            cloud,
            said: issuer,
            document: String::from_utf8(document.to_vec()).map_err(|_| StoreError::Content)?,
        };
        let bytes = serde_json::to_vec(&written).map_err(|_| StoreError::Content)?;
        if let Some(folder) = self.path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        // Unique within the process and among processes, so that two writers never share a half-written file.
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let beside = self
            .path
            .with_extension(format!("{}.{turn}.new", std::process::id()));
        let result = write_beside(&beside, &bytes).and_then(|()| fs::rename(&beside, &self.path));
        if result.is_err() {
            // The file of before stays; a leftover beside it would only be litter.
            let _ = fs::remove_file(&beside);
        }
        Ok(result?)
    }
}

fn write_beside(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

const VERSION: u8 = 1;
const MOST_BYTES: u64 = 4 * 1024 * 1024;
static TURN: AtomicU64 = AtomicU64::new(0);
