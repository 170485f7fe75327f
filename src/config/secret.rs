//! References to secrets: `env:NAME`, `file:PATH` and `keyvault:ADDRESS`, never the secret itself.
//!
//! Owns: what counts as a reference, and its resolution into [`Secret`]. Must never: show a value, resolved or inline.

use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

use super::mistake::REFERENCE_SCHEMES;
use crate::secret::Secret;

/// Largest file that a reference may name.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What stands in the file where a secret is meant: hopefully a reference. Held as a secret, since people forget.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretRef(Secret);

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An environment variable.
    Env(String),
    /// A secret of Azure Key Vault, by the address behind the colon; the cloud says which are good.
    Vault(String),
    /// A file; relative paths count from the folder of the configuration.
    File(PathBuf),
}

/// Why a reference has no secret behind it. Shows names and paths, never values.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error(
        "a secret must not stand in this file; put it in an environment variable or a file and write env:NAME or file:PATH"
    )]
    Inline,
    #[error("{0} needs a name behind the colon, as env:NATS_PASSWORD or file:/run/secrets/nats")]
    Nameless(&'static str),
    #[error("environment variable {0} is not set; set it, or write file:PATH")]
    Unset(String),
    #[error("environment variable {0} is empty")]
    EmptyVariable(String),
    #[error("cannot read {path}: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("{0} is empty")]
    EmptyFile(String),
    #[error("{0} is larger than 1 MiB; is it the right file?")]
    TooLarge(String),
}

impl SecretRef {
    /// Where it says the secret is.
    pub(super) fn place(&self) -> Result<Place, SecretError> {
        let text = self.0.expose_str().unwrap_or_default();
        if let Some(name) = text.strip_prefix("env:") {
            return match name.trim() {
                "" => Err(SecretError::Nameless("env:")),
                name => Ok(Place::Env(name.to_owned())),
            };
        }
        if let Some(path) = text.strip_prefix("file:") {
            return match path.trim() {
                "" => Err(SecretError::Nameless("file:")),
                path => Ok(Place::File(PathBuf::from(path))),
            };
        }
        if let Some(address) = text.strip_prefix("keyvault:") {
            return Ok(Place::Vault(address.trim().to_owned()));
        }
        Err(SecretError::Inline)
    }

    /// The secret behind the reference. `folder` is where relative paths begin. The line end that editors leave at
    /// the end of a file is taken off.
    pub(super) fn resolve(&self, folder: &Path) -> Result<Found, SecretError> {
        let place = self.place()?;
        let secret = match &place {
            Place::Vault(address) => return Ok(Found::InVault(address.clone())),
            Place::Env(name) => from_environment(name)?,
            Place::File(path) => from_file(&folder.join(path))?,
        };
        Ok(Found::Here(Resolved {
            secret,
            origin: place.to_string(),
        }))
    }

    /// Whether it leads into a vault.
    pub(super) fn is_in_vault(&self) -> bool {
        self.0
            .expose_str()
            .is_some_and(|text| text.starts_with("keyvault:"))
    }

    /// The reference as written, or nothing where it is none.
    fn shown(&self) -> &str {
        let text = self.0.expose_str().unwrap_or_default();
        if REFERENCE_SCHEMES
            .iter()
            .any(|scheme| text.starts_with(scheme))
        {
            text
        } else {
            "(inline)"
        }
    }
}

/// What a reference leads to.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The secret.
    Here(Resolved),
    /// An address in a vault, which nobody reads while a configuration is checked.
    InVault(String),
}

/// A secret with its place of origin, which may be shown.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) secret: Secret,
    pub(super) origin: String,
}

fn from_environment(name: &str) -> Result<Secret, SecretError> {
    use std::os::unix::ffi::OsStringExt as _;
    let value = std::env::var_os(name).ok_or_else(|| SecretError::Unset(name.to_owned()))?;
    let secret = Secret::new(value.into_vec());
    if secret.is_empty() {
        return Err(SecretError::EmptyVariable(name.to_owned()));
    }
    Ok(secret)
}

fn from_file(path: &Path) -> Result<Secret, SecretError> {
    let shown = || path.display().to_string();
    let unreadable = |error: std::io::Error| SecretError::Unreadable {
        path: shown(),
        reason: plain_reason(&error),
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    let mut bytes = zeroize::Zeroizing::new(bytes);
    read.map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(SecretError::TooLarge(shown()));
    }
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(SecretError::EmptyFile(shown()));
    }
    Ok(Secret::new(bytes.as_slice()))
}

/// What the system says, without its error number.
pub(super) fn plain_reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

impl SecretRef {
    /// The secret behind a reference that stands on a command line. `folder` is where relative paths begin.
    ///
    /// # Errors
    /// What is wrong with the reference, without any value.
    pub fn open(&self, folder: &Path) -> Result<Secret, String> {
        match self.resolve(folder) {
            Ok(Found::Here(resolved)) => Ok(resolved.secret),
            Ok(Found::InVault(_)) => Err(
                "secrets of a vault are read for a configuration alone; write env:NAME or file:PATH"
                    .to_owned(),
            ),
            Err(SecretError::Inline) => Err("write env:NAME or file:PATH, not the secret itself, \
                                             which others on this machine could read"
                .to_owned()),
            Err(other) => Err(other.to_string()),
        }
    }
}

impl From<&str> for SecretRef {
    fn from(text: &str) -> Self {
        Self(Secret::new(text))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Vault(address) => write!(f, "keyvault:{address}"),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretRef({})", self.shown())
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(env|file|keyvault):.+$",
            "description": "Where the value is: env:NAME, file:PATH or keyvault:https://NAME.vault.azure.net/secrets/SECRET. Relative paths count from the folder of this file.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> SecretRef {
        SecretRef(Secret::new(text))
    }

    #[test]
    fn a_file_reference_counts_from_the_folder_and_loses_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pw"), "hunter2\r\n").unwrap();
        let here = |text: &str, folder: &Path| match reference(text).resolve(folder).unwrap() {
            Found::Here(resolved) => resolved,
            Found::InVault(address) => panic!("{address}"),
        };
        let resolved = here("file:pw", folder.path());
        assert_eq!(resolved.secret.expose(), b"hunter2");
        assert_eq!(resolved.origin, "file:pw");
        let absolute = format!("file:{}", folder.path().join("pw").display());
        assert_eq!(here(&absolute, Path::new("/")).secret.len(), 7);
    }

    #[test]
    fn every_reference_that_leads_nowhere_says_what_to_do_and_shows_no_value() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        let error = |text: &str| {
            reference(text)
                .resolve(folder.path())
                .unwrap_err()
                .to_string()
        };
        assert!(error("hunter2").starts_with("a secret must not stand in this file"));
        assert!(!error("hunter2").contains("hunter2"));
        assert!(error("env:NATSENTRY_SURELY_UNSET").contains("NATSENTRY_SURELY_UNSET is not set"));
        assert!(error("file:absent").contains("no such file"));
        assert!(error("file:empty").contains("is empty"));
        assert!(error("file:.").contains("cannot read"));
        assert!(error("env:").contains("needs a name"));
        assert_eq!(format!("{:?}", reference("hunter2")), "SecretRef((inline))");
    }
}
