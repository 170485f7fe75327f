//! One YAML file with strict keys; all mistakes at once, each with its line and column.
//!
//! Owns: the document as written, its checks and the resolved [`Config`]. Must never: start anything, or keep a secret
//! outside of [`crate::secret::Secret`].
//!
//! ```text
//! file -> tree (positions, duplicate keys) -> document (serde; what is wrong is noted and taken out) -> resolve -> Config
//! ```

mod described;
mod deserialize;
pub mod document;
mod mistake;
mod recover;
mod resolve;
mod schema;
pub mod secret;
mod source;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use crate::audit;
use crate::clock;
use crate::jwks;
use crate::policy::{self, Policy};
use crate::revocation;
use crate::time::Timestamp;
use crate::upstream::UpstreamConfig;

pub use described::described_identity;
pub use document::{Document, GraphOutage, GroupsOverage, Limits};
pub use mistake::{Mistake, Mistakes, Path, Position, show_path};
pub use resolve::{
    ApiConfig, GraphConfig, ListenConfig, ListenTls, LockConfig, ProxyProtocolConfig, TrustConfig,
    VaultConfig, VaultSecrets, VaultUser,
};
pub use schema::json_schema;
pub use source::Source;

/// Largest configuration file: 4 MiB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A configuration that is complete and free of mistakes, with secrets resolved, as the composition needs it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: ListenConfig,
    /// Where metrics and health are served; none: nowhere.
    pub admin: Option<SocketAddr>,
    /// Whose tokens are accepted.
    pub trust: TrustConfig,
    /// Looking up groups in Graph; none: Graph is never asked.
    pub graph: Option<GraphConfig>,
    /// Secrets that lie in a vault; none: there are none.
    pub vault: Option<VaultConfig>,
    /// How many references lead into the vault and were not read: what depends on them is not there yet.
    pub unread: usize,
    /// Those that were read, by reference.
    pub secrets: VaultSecrets,
    /// How the keys of issuers are kept.
    pub keys: jwks::Settings,
    /// The servers behind us, in the order of their names.
    pub upstreams: Vec<UpstreamConfig>,
    /// The compiled roles.
    pub policy: Arc<Policy>,
    /// The roles as written.
    pub policy_document: Arc<policy::Document>,
    /// How many cases of `tests` were run; all of them hold.
    pub tests_passed: usize,
    /// The audit trail.
    pub audit: audit::Settings,
    /// Where an operator's locks are kept.
    pub locks: revocation::Settings,
    /// Bounds.
    pub limits: Limits,
    /// What works and is probably not meant.
    pub warnings: Vec<Mistake>,
    /// The file, for finding the line of a rule.
    pub source: Source,
    /// The text, to be resolved again when a secret changes.
    written: Arc<Written>,
}

/// A file as it was read.
#[derive(Default)]
struct Written {
    text: Box<str>,
    name: Box<str>,
    folder: PathBuf,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Config {
    /// Reads, checks and resolves a file. Roles and tests are judged at this moment.
    ///
    /// # Errors
    /// Everything that is wrong with the file, and with the files and variables that it refers to.
    pub fn load(path: &FilePath) -> Result<Self, Mistakes> {
        let (text, shown, folder) = open(path)?;
        Self::parse(&text, &shown, folder, clock::now())
    }

    /// What commands that change locks have to know. Nothing else of the file has to be right, and no secret has to be at
    /// hand: whoever locks somebody out is in a hurry.
    ///
    /// # Errors
    /// When the file cannot be read as a configuration at all, or what it says of `locks` is wrong.
    pub fn load_locks(path: &FilePath) -> Result<LockConfig, Mistakes> {
        Self::load_part(path, "locks", |part| Ok(resolve::locks_of(part)))
    }

    /// What commands that get a token have to know; none without `entra`. Nothing else of the file has to be right, and no
    /// secret has to be at hand: whoever needs a token has neither the certificate nor the passwords of the server.
    ///
    /// # Errors
    /// When the file cannot be read as a configuration at all, or what it says of `entra` is wrong.
    pub fn load_api(path: &FilePath) -> Result<Option<ApiConfig>, Mistakes> {
        Self::load_part(path, "entra", resolve::api_of)
    }

    /// One section of a file, whatever may be wrong elsewhere. A default in the place of what was meant would be another
    /// file of locks, or another API: what is wrong with the section itself is always said.
    fn load_part<T>(
        path: &FilePath,
        section: &str,
        resolve: impl FnOnce(&resolve::Part<'_>) -> Result<T, Vec<Mistake>>,
    ) -> Result<T, Mistakes> {
        let (text, shown, folder) = open(path)?;
        let (tree, flaws) = tree::parse(&text);
        let mut mistakes: Vec<Mistake> = flaws.into_iter().map(Into::into).collect();
        let Some(tree) = tree else {
            return Err(Mistakes::new(&shown, &text, mistakes));
        };
        let reading = recover::read::<Document>(&tree);
        mistakes.extend(reading.mistakes);
        let of_section = |path: &Path| path.first().is_some_and(|first| **first == *section);
        let doubtful = mistakes.iter().any(|mistake| of_section(&mistake.path))
            || reading.touched.iter().any(of_section);
        let document = match reading.value {
            Some(document) if !doubtful => document,
            _ => return Err(Mistakes::new(&shown, &text, mistakes)),
        };
        let part = resolve::Part {
            document: &document,
            tree: &tree,
            folder,
        };
        resolve(&part).map_err(|wrong| Mistakes::new(&shown, &text, wrong))
    }

    /// Checks and resolves the text of a file; nothing is read from a vault. `name` is what mistakes call it, `folder` is where relative paths begin.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        text: &str,
        name: &str,
        folder: &FilePath,
        now: Timestamp,
    ) -> Result<Self, Mistakes> {
        let written = Written {
            text: text.into(),
            name: name.into(),
            folder: folder.into(),
        };
        Self::read(&Arc::new(written), now, &VaultSecrets::new())
    }

    /// The same file once more, with secrets that were read from the vault. Variables and files are read anew.
    ///
    /// # Errors
    /// As [`Config::load`]: a secret may turn out not to be what is needed at its place.
    pub fn with_secrets(&self, secrets: &VaultSecrets, now: Timestamp) -> Result<Self, Mistakes> {
        Self::read(&self.written, now, secrets)
    }

    fn read(
        written: &Arc<Written>,
        now: Timestamp,
        secrets: &VaultSecrets,
    ) -> Result<Self, Mistakes> {
        let (text, name, folder) = (&*written.text, &*written.name, &*written.folder);
        let (tree, flaws) = tree::parse(text);
        let mut mistakes: Vec<Mistake> = flaws.into_iter().map(Into::into).collect();
        let Some(tree) = tree else {
            return Err(Mistakes::new(name, text, mistakes));
        };
        let reading = recover::read::<Document>(&tree);
        mistakes.extend(reading.mistakes);
        let Some(document) = reading.value else {
            return Err(Mistakes::new(name, text, mistakes));
        };
        let source = Source::new(name, text, tree);
        match resolve::resolve(&document, source, &reading.touched, folder, now, secrets) {
            Ok(config) if mistakes.is_empty() => Ok(Self {
                written: Arc::clone(written),
                secrets: secrets.clone(),
                ..config
            }),
            Ok(_) => Err(Mistakes::new(name, text, mistakes)),
            Err(more) => {
                mistakes.extend(more);
                Err(Mistakes::new(name, text, mistakes))
            }
        }
    }
}

/// The text of the file, what mistakes call it, and where its relative paths begin.
fn open(path: &FilePath) -> Result<(String, String, &FilePath), Mistakes> {
    let shown = path.display().to_string();
    let text = read_file(path).map_err(|message| {
        let mistake = Mistake {
            at: Position::new(1, 1),
            path: Vec::new(),
            message,
        };
        Mistakes::new(&shown, "", vec![mistake])
    })?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => FilePath::new("."),
    };
    Ok((text, shown, folder))
}

/// The text of the file, or what is wrong with it as a whole.
fn read_file(path: &FilePath) -> Result<String, String> {
    let unreadable = |error| format!("cannot read the file: {}", secret::plain_reason(&error));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err("larger than 4 MiB; is it the right file?".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error
            .as_bytes()
            .iter()
            .take(good)
            .filter(|byte| **byte == b'\n')
            .count();
        format!(
            "not UTF-8 text on line {}; save it as UTF-8",
            line.saturating_add(1)
        )
    })
}
