//! Secrets from Azure Key Vault.
//!
//! Source: Key Vault REST reference, Get Secret, version 7.4. Must never: send our token to a host that is no vault of the
//! configured cloud, show a value, or follow the address in a challenge.

use std::fmt;

use serde::Deserialize;
use zeroize::{Zeroize as _, Zeroizing};

use super::config::CredentialConfig;
use super::credential::{Credential, Tools};
use super::environment::Environment;
use super::error::CredentialError;
use super::own_token::OwnToken;
use super::scope::Scope;
use crate::http::{Address, Http, Request};
use crate::secret::Secret;

/// Secrets are 25 KiB at most.
const MOST_BYTES: usize = 256 * 1024;

/// Where vaults of a cloud are, and what their tokens are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultCloud {
    /// The domain that names of vaults stand before; none: vaults on loopback alone, for development.
    domain: Option<&'static str>,
    resource: &'static str,
}

impl VaultCloud {
    /// The cloud with this login host. Any other login host is a look-alike, whose vaults are on this machine.
    pub fn of_authority(authority: &str) -> Self {
        let (domain, resource) = match authority.trim_end_matches('/') {
            "https://login.microsoftonline.com" => {
                (Some("vault.azure.net"), "https://vault.azure.net")
            }
            "https://login.microsoftonline.us" => (
                Some("vault.usgovcloudapi.net"),
                "https://vault.usgovcloudapi.net",
            ),
            "https://login.partner.microsoftonline.cn" => {
                (Some("vault.azure.cn"), "https://vault.azure.cn")
            }
            _ => (None, "https://vault.azure.net"),
        };
        Self { domain, resource }
    }

    /// A secret by its address: `https://plant.vault.azure.net/secrets/nats-password`, with a version or without.
    ///
    /// # Errors
    /// What is wrong with it and what to write.
    pub fn secret(&self, address: &str) -> Result<VaultSecret, String> {
        let example = self.domain.unwrap_or("vault.azure.net");
        let wrong = |why: &str| {
            Err(format!(
                "{why}; write keyvault:https://NAME.{example}/secrets/SECRET, with /VERSION behind it or without"
            ))
        };
        let Ok(parsed) = Address::parse(address) else {
            return wrong("it is not the https address of a secret");
        };
        let host = parsed.host();
        let ours = match self.domain {
            Some(domain) => host
                .strip_suffix(domain)
                .and_then(|name| name.strip_suffix('.'))
                .is_some_and(|name| is_name(name, 24)),
            None => parsed.is_loopback(),
        };
        if !ours {
            return wrong(&format!("{host} is no vault of the configured cloud"));
        }
        let segments = parsed.segments();
        let fit = match segments.as_slice() {
            ["secrets", name] => is_name(name, 127),
            ["secrets", name, version] => is_name(name, 127) && is_name(version, 64),
            _ => false,
        };
        if !fit || !parsed.is_plain() {
            return wrong("the path is not /secrets/SECRET");
        }
        Ok(VaultSecret(parsed))
    }
}

/// Names of vaults, secrets and versions: letters, figures and `-`.
fn is_name(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Where a secret is. Its value is elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultSecret(Address);

impl fmt::Display for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keyvault:{}", self.0.shown())
    }
}

impl fmt::Debug for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a secret could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct VaultError {
    sentence: Box<str>,
    /// Whether asking again later may help without anybody mending anything.
    pub transient: bool,
}

impl VaultError {
    fn lasting(sentence: String) -> Self {
        Self {
            sentence: sentence.into(),
            transient: false,
        }
    }

    fn transient(sentence: String) -> Self {
        Self {
            sentence: sentence.into(),
            transient: true,
        }
    }
}

/// Reads secrets with a credential of our own. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Vault {
    credential: Credential,
    scope: Scope,
    http: Http,
}

#[derive(Deserialize)]
struct Written {
    value: String,
}

impl Vault {
    /// Opens no connection.
    ///
    /// # Errors
    /// As [`Credential::new`].
    pub fn new(
        credential: &CredentialConfig,
        authority: &str,
        environment: &Environment,
        tools: Tools,
    ) -> Result<Self, CredentialError> {
        let http = tools.http.clone();
        Ok(Self {
            credential: Credential::new(credential, authority, environment, tools)?,
            scope: Scope::new(VaultCloud::of_authority(authority).resource),
            http,
        })
    }

    /// The value now. The line end that tools leave at its end is taken off.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn read(&self, secret: &VaultSecret) -> Result<Secret, VaultError> {
        let mut rejected = false;
        loop {
            let token = self.credential.token(&self.scope).await.map_err(|error| {
                let sentence = format!("{secret}: no token for Key Vault: {error}");
                match error.is_transient() {
                    true => VaultError::transient(sentence),
                    false => VaultError::lasting(sentence),
                }
            })?;
            let mut bearer = Zeroizing::new(b"Bearer ".to_vec());
            bearer.extend_from_slice(token.secret().expose());
            let address = secret.0.clone().with("api-version", "7.4");
            let request = Request::get(&address, MOST_BYTES).header("authorization", &bearer);
            let answer = self
                .http
                .send(request)
                .await
                .map_err(|error| VaultError::transient(format!("{secret}: {error}")))?;
            return match answer.status {
                200 => value(secret, &answer.body),
                401 if !rejected => {
                    rejected = true;
                    self.credential.reject(&token);
                    continue;
                }
                403 => {
                    let oid = OwnToken::of(&token).and_then(|own| own.oid);
                    let who = oid.map_or_else(String::new, |oid| format!(" {oid}"));
                    Err(VaultError::lasting(format!(
                        "{secret}: the vault refused identity{who} (403); give it the role Key Vault Secrets User, let this network in, and see that the secret is enabled"
                    )))
                }
                404 => Err(VaultError::lasting(format!(
                    "{secret}: the vault has no such secret (404)"
                ))),
                status @ (408 | 429 | 500..) => Err(VaultError::transient(format!(
                    "{secret}: the vault answered with status {status}"
                ))),
                status => Err(VaultError::lasting(format!(
                    "{secret}: the vault answered with status {status}"
                ))),
            };
        }
    }
}

fn value(secret: &VaultSecret, body: &[u8]) -> Result<Secret, VaultError> {
    let Ok(Written { mut value }) = serde_json::from_slice(body) else {
        return Err(VaultError::transient(format!(
            "{secret}: the vault answered with something that is no secret"
        )));
    };
    let found = Secret::new(value.trim_end_matches(['\n', '\r']).as_bytes());
    value.zeroize();
    if found.is_empty() {
        return Err(VaultError::lasting(format!("{secret} is empty")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_vaults_of_the_cloud_are_asked() {
        let public = VaultCloud::of_authority("https://login.microsoftonline.com");
        for good in [
            "https://plant.vault.azure.net/secrets/nats",
            "https://plant-1.vault.azure.net/secrets/nats/0123456789abcdef0123456789abcdef",
        ] {
            let secret = public.secret(good).unwrap();
            assert_eq!(secret.to_string(), format!("keyvault:{good}"));
        }
        for bad in [
            "https://vault.azure.net/secrets/nats",
            "https://a.b.vault.azure.net/secrets/nats",
            "https://plant.vault.azure.net.evil.example/secrets/nats",
            "https://evilvault.azure.net/secrets/nats",
            "https://plant.vault.usgovcloudapi.net/secrets/nats",
            "http://plant.vault.azure.net/secrets/nats",
            "http://127.0.0.1:1/secrets/nats",
            "https://plant.vault.azure.net/keys/nats",
            "https://plant.vault.azure.net/secrets/",
            "https://plant.vault.azure.net/secrets/a/b/c",
            "https://plant.vault.azure.net/secrets/na%2fts",
            "https://plant.vault.azure.net/secrets/nats?x=1",
            "https://me:pw@plant.vault.azure.net/secrets/nats",
            "plant/nats",
        ] {
            let error = public.secret(bad).unwrap_err();
            assert!(
                error.contains("write keyvault:https://NAME.vault.azure.net/secrets/SECRET"),
                "{bad}: {error}"
            );
        }
        let custom = VaultCloud::of_authority("http://127.0.0.1:9333");
        assert!(custom.secret("http://127.0.0.1:9333/secrets/nats").is_ok());
        assert!(
            custom
                .secret("https://plant.vault.azure.net/secrets/nats")
                .is_err()
        );
    }
}
