//! Azure Arc: the agent on the machine gives a token to whoever can read a file that only its group may read.
//!
//! The first request is answered 401 with the name of a file; its content goes into the second. Only one folder may be
//! named, or whoever answers on the port could have any file read to it.

use std::path::{Path, PathBuf};

use super::answer;
use super::environment::Environment;
use super::error::CredentialError;
use crate::http::{Address, Answer, Http, Request};
use crate::secret::Secret;

/// The agent's endpoint.
pub(super) struct Arc {
    endpoint: Address,
    folder: PathBuf,
}

const ENDPOINT: &str = "http://127.0.0.1:40342/metadata/identity/oauth2/token";
const FOLDER: &str = "/var/opt/azcmagent/tokens";
const FILE_BYTES_MAX: u64 = 4096;
const WHO: &str = "the agent of Azure Arc";

impl Arc {
    pub(super) fn new(endpoint: Address, environment: &Environment) -> Self {
        let folder = environment.arc_folder.clone();
        Self {
            endpoint,
            folder: folder.unwrap_or_else(|| PathBuf::from(FOLDER)),
        }
    }

    /// The agent at its usual place.
    pub(super) fn local(environment: &Environment) -> Result<Self, CredentialError> {
        let endpoint =
            Address::parse(ENDPOINT).map_err(|unfit| CredentialError::config(unfit.to_string()))?;
        Ok(Self::new(endpoint, environment))
    }

    pub(super) async fn ask(&self, http: &Http, resource: &str) -> Result<Answer, CredentialError> {
        let address = self
            .endpoint
            .clone()
            .with("api-version", "2020-06-01")
            .with("resource", resource);
        let request = || Request::get(&address, answer::MOST_BYTES).header("metadata", b"true");
        let failed = |error| CredentialError::http(WHO, &error);
        let challenge = http.send(request()).await.map_err(failed)?;
        if challenge.status != 401 {
            // Too many requests, not ready yet: the caller knows what to do. A token without the proof would be one that
            // nobody had to prove anything for.
            return match challenge.status {
                200 => Err(CredentialError::malformed(format!(
                    "{WHO} gave a token without asking for proof"
                ))),
                _ => Ok(challenge),
            };
        }
        let realm = challenge
            .header("www-authenticate")
            .and_then(realm)
            .ok_or_else(|| {
                CredentialError::malformed(format!("{WHO} named no file to prove ourselves with"))
            })?;
        let key = self.key(Path::new(realm)).await?;
        let mut basic = zeroize::Zeroizing::new(b"Basic ".to_vec());
        basic.extend_from_slice(key.expose());
        http.send(request().header("authorization", &basic))
            .await
            .map_err(failed)
    }

    /// The content of the file that was named: in the one folder, `*.key`, at most 4096 bytes.
    async fn key(&self, named: &Path) -> Result<Secret, CredentialError> {
        use tokio::io::AsyncReadExt as _;
        let strange = || {
            CredentialError::refused(format!(
                "{WHO} named a file outside of {}, or one that is no .key; it was not read",
                self.folder.display()
            ))
        };
        let plain = named.parent() == Some(&self.folder)
            && named
                .extension()
                .is_some_and(|extension| extension == "key");
        if !plain {
            return Err(strange());
        }
        let unreadable = |error: std::io::Error| {
            CredentialError::config(format!(
                "cannot read {}: {error}; add the user of this process to the group himds",
                named.display()
            ))
        };
        let real = tokio::fs::canonicalize(named).await.map_err(unreadable)?;
        let folder = tokio::fs::canonicalize(&self.folder)
            .await
            .map_err(unreadable)?;
        if real.parent() != Some(&folder) {
            return Err(strange());
        }
        let file = tokio::fs::File::open(&real).await.map_err(unreadable)?;
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        file.take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .await
            .map_err(unreadable)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
            return Err(CredentialError::refused(format!(
                "{} is larger than {FILE_BYTES_MAX} bytes; it was not used",
                named.display()
            )));
        }
        Ok(Secret::new(bytes.as_slice()))
    }
}

/// The file in `Basic realm=/var/opt/azcmagent/tokens/x.key`, with or without quotation marks.
fn realm(challenge: &str) -> Option<&str> {
    let (scheme, rest) = challenge.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let value = rest.trim().strip_prefix("realm=")?.trim();
    Some(value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_realm_is_read_with_and_without_quotation_marks() {
        assert_eq!(realm("Basic realm=/a/b.key"), Some("/a/b.key"));
        assert_eq!(realm("basic realm=\"/a/b.key\""), Some("/a/b.key"));
        assert_eq!(realm("Bearer realm=/a/b.key"), None);
        assert_eq!(realm("Basic"), None);
    }
}
