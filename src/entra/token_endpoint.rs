//! The v2.0 token endpoint: client credentials with a secret, a certificate or a federated token.
//!
//! Source: Microsoft identity platform, OAuth 2.0 client credentials flow; RFC 7523 for assertions.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::answer;
use super::assertion::Signer;
use super::config::CredentialConfig;
use super::credential::AccessToken;
use super::environment::Environment;
use super::error::{self, CredentialError};
use super::scope::Scope;
use crate::clock;
use crate::http::{Address, Http, Request};
use crate::secret::Secret;

/// An application that proves itself at the token endpoint.
pub(super) struct TokenEndpoint {
    authority: Address,
    tenant: Box<str>,
    client_id: Box<str>,
    proof: Proof,
    http: Http,
}

enum Proof {
    Secret(Secret),
    Certificate(Box<Signer>),
    File(PathBuf),
}

/// Attempts when the endpoint is overloaded, and the pause before each but the first.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];

/// Longest `Retry-After` that is waited for at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest federated token.
const FILE_BYTES_MAX: u64 = 64 * 1024;

const JWT_BEARER: &[u8] = b"urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl TokenEndpoint {
    pub(super) fn new(
        config: &CredentialConfig,
        authority: &str,
        environment: &Environment,
        http: Http,
    ) -> Result<Self, CredentialError> {
        let unset = |what: &str, variable: &str| {
            CredentialError::config(format!(
                "workload identity needs {what}, and {variable} is not set; is the pod labelled azure.workload.identity/use and its service account annotated?"
            ))
        };
        let (tenant, client_id, proof) = match config {
            CredentialConfig::ManagedIdentity(_) => {
                return Err(CredentialError::config(
                    "a managed identity does not use the token endpoint",
                ));
            }
            CredentialConfig::WorkloadIdentity {
                tenant,
                client_id,
                token_file,
            } => {
                let text = |given: &Option<Box<str>>, variable: &Option<String>| {
                    given.clone().or_else(|| variable.as_deref().map(Box::from))
                };
                let file = token_file
                    .clone()
                    .or_else(|| environment.federated_token_file.clone());
                (
                    text(tenant, &environment.tenant_id)
                        .ok_or_else(|| unset("a tenant", "AZURE_TENANT_ID"))?,
                    text(client_id, &environment.client_id)
                        .ok_or_else(|| unset("a client id", "AZURE_CLIENT_ID"))?,
                    Proof::File(
                        file.ok_or_else(|| unset("a token file", "AZURE_FEDERATED_TOKEN_FILE"))?,
                    ),
                )
            }
            CredentialConfig::ClientCertificate {
                tenant,
                client_id,
                certificate,
                key,
            } => {
                let signer = Signer::new(certificate, key)?;
                (
                    tenant.clone(),
                    client_id.clone(),
                    Proof::Certificate(Box::new(signer)),
                )
            }
            CredentialConfig::ClientSecret {
                tenant,
                client_id,
                secret,
            } => (
                tenant.clone(),
                client_id.clone(),
                Proof::Secret(secret.clone()),
            ),
        };
        let authority = Address::parse(authority)
            .map_err(|unfit| CredentialError::config(format!("the authority {unfit}")))?;
        Ok(Self {
            authority,
            tenant,
            client_id,
            proof,
            http,
        })
    }

    /// A token in `tenant`, or in that of the configuration.
    pub(super) async fn token(
        &self,
        tenant: Option<&str>,
        scope: &Scope,
    ) -> Result<AccessToken, CredentialError> {
        let tenant = tenant.unwrap_or(&self.tenant);
        let address = self.authority.at(&[tenant, "oauth2", "v2.0", "token"]);
        let who = address.shown();
        let mut pauses = PAUSES.iter();
        loop {
            let begun = clock::now();
            let scope = scope.scope();
            let mut fields: Vec<(&str, &[u8])> = vec![
                ("grant_type", b"client_credentials"),
                ("client_id", self.client_id.as_bytes()),
                ("scope", scope.as_bytes()),
            ];
            let (name, proof) = self.proof(&address).await?;
            if name == "client_assertion" {
                fields.push(("client_assertion_type", JWT_BEARER));
            }
            fields.push((name, proof.expose()));
            let request = Request::form(&address, &fields, answer::MOST_BYTES);
            let answer = self
                .http
                .send(request)
                .await
                .map_err(|error| CredentialError::http("the token endpoint", &error))?;
            if answer.status == 200 {
                return answer::token(&who, &answer.body, begun);
            }
            let error = match answer.status {
                429 | 500.. => CredentialError::unreachable(format!(
                    "{who} answered with status {}",
                    answer.status
                )),
                status => error::refused(&who, status, &answer.body),
            };
            let overloaded = matches!(answer.status, 429 | 500..);
            let wait = answer.retry_after();
            match pauses.next() {
                Some(pause) if overloaded && wait.is_none_or(|wait| wait <= PATIENCE) => {
                    tokio::time::sleep(wait.unwrap_or(*pause)).await;
                }
                _ => return Err(error.after(wait)),
            }
        }
    }

    /// The name of the field that proves who we are, and its value.
    async fn proof(&self, endpoint: &Address) -> Result<(&'static str, Secret), CredentialError> {
        match &self.proof {
            Proof::Secret(secret) => Ok(("client_secret", secret.clone())),
            Proof::Certificate(signer) => {
                let assertion =
                    signer.assertion(&endpoint.shown(), &self.client_id, clock::now())?;
                Ok(("client_assertion", assertion))
            }
            Proof::File(path) => Ok(("client_assertion", federated_token(path).await?)),
        }
    }
}

/// The token in the file, as it is now: the platform rotates it.
async fn federated_token(path: &Path) -> Result<Secret, CredentialError> {
    use tokio::io::AsyncReadExt as _;
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        CredentialError::config(format!(
            "cannot read the federated token {shown}: {error}; is the volume mounted?"
        ))
    };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(unreadable)?;
    let token = bytes.trim_ascii();
    let fit = !token.is_empty()
        && u64::try_from(bytes.len()).unwrap_or(u64::MAX) <= FILE_BYTES_MAX
        && token.iter().all(u8::is_ascii_graphic);
    if !fit {
        return Err(CredentialError::config(format!(
            "{shown} holds no federated token (one line, at most 64 KiB)"
        )));
    }
    Ok(Secret::new(token))
}
