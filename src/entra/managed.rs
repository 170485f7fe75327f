//! Managed identities: the metadata service of virtual machines, App Service and Container Apps, Azure Arc.
//!
//! Source: Microsoft's pages "How to use managed identities on an Azure VM to acquire an access token" (retries),
//! "How to use managed identities for App Service" (REST endpoint), "Authenticate against Azure resources with Azure
//! Arc-enabled servers".

use std::time::Duration;

use super::answer;
use super::arc::Arc;
use super::config::ManagedId;
use super::credential::AccessToken;
use super::environment::Environment;
use super::error::CredentialError;
use super::scope::Scope;
use crate::clock;
use crate::http::{Address, Answer, Http, Request};
use crate::secret::Secret;

/// A managed identity, and the service that speaks for it here.
pub(super) struct Managed {
    host: Host,
    id: ManagedId,
    http: Http,
}

enum Host {
    Imds(Address),
    AppService { endpoint: Address, header: Secret },
    Arc(Arc),
}

/// Where virtual machines find their metadata service.
const IMDS: &str = "http://169.254.169.254";

/// Retries of the metadata service: first pause, longest pause, and how long in all. 410 means that it is being
/// updated, which takes up to 70 s.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
const ATTEMPTS: u32 = 5;
const GONE_FOR: Duration = Duration::from_secs(70);

/// Whether the variables of this process lead to a service that can speak for the identity. Asks nobody.
///
/// # Errors
/// What is wrong with them.
pub fn check(id: &ManagedId, environment: &Environment) -> Result<(), CredentialError> {
    Host::for_identity(id, environment).map(drop)
}

impl Managed {
    pub(super) fn new(
        id: ManagedId,
        environment: &Environment,
        http: Http,
    ) -> Result<Self, CredentialError> {
        let host = Host::for_identity(&id, environment)?;
        Ok(Self { host, id, http })
    }

    pub(super) async fn token(&self, scope: &Scope) -> Result<AccessToken, CredentialError> {
        let who = self.host.name();
        let started = tokio::time::Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0_u32;
        loop {
            attempts = attempts.saturating_add(1);
            let begun = clock::now();
            let answer = self.ask(scope).await?;
            if answer.status == 200 {
                return answer::token(who, &answer.body, begun);
            }
            let again = match answer.status {
                410 => started.elapsed() < GONE_FOR,
                404 | 429 | 500.. => attempts < ATTEMPTS,
                _ => false,
            };
            let wait = answer.retry_after();
            // Asked to wait for longer than anybody would here: whoever asks next is told so.
            if !again || wait.is_some_and(|wait| wait > LONGEST_PAUSE) {
                return Err(self.refused(answer.status).after(wait));
            }
            tokio::time::sleep(wait.unwrap_or(pause)).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    async fn ask(&self, scope: &Scope) -> Result<Answer, CredentialError> {
        let resource = scope.resource();
        let (address, secret) = match &self.host {
            Host::Imds(endpoint) => {
                let address = endpoint
                    .clone()
                    .with("api-version", "2018-02-01")
                    .with("resource", resource);
                (self.identified(address, "msi_res_id"), None)
            }
            Host::AppService { endpoint, header } => {
                let address = endpoint
                    .clone()
                    .with("api-version", "2019-08-01")
                    .with("resource", resource);
                (self.identified(address, "mi_res_id"), Some(header))
            }
            Host::Arc(arc) => return arc.ask(&self.http, resource).await,
        };
        let mut request = Request::get(&address, answer::MOST_BYTES).header("metadata", b"true");
        if let Some(secret) = secret {
            request = request.header("x-identity-header", secret.expose());
        }
        self.http.send(request).await.map_err(|error| {
            CredentialError::unreachable(format!(
                "{} cannot be asked: {error}; does this run on Azure, and is an identity assigned?",
                self.host.name()
            ))
        })
    }

    fn identified(&self, address: Address, resource_id: &str) -> Address {
        match &self.id {
            ManagedId::System => address,
            ManagedId::ClientId(id) => address.with("client_id", id),
            ManagedId::ObjectId(id) => address.with("object_id", id),
            ManagedId::ResourceId(id) => address.with(resource_id, id),
        }
    }

    fn refused(&self, status: u16) -> CredentialError {
        let who = self.host.name();
        match status {
            400 | 403 => CredentialError::refused(format!(
                "{who} has no such identity (status {status}); assign the identity to this machine or app, and check client_id, object_id or resource_id"
            )),
            401 => CredentialError::refused(format!(
                "{who} does not let this process ask (status 401)"
            )),
            _ => CredentialError::unreachable(format!("{who} answered with status {status}")),
        }
    }
}

impl Host {
    fn for_identity(id: &ManagedId, environment: &Environment) -> Result<Self, CredentialError> {
        let host = Self::of(environment)?;
        if matches!(host, Self::Arc(_)) && *id != ManagedId::System {
            return Err(CredentialError::config(
                "machines of Azure Arc have a system-assigned identity alone; remove client_id, object_id and resource_id",
            ));
        }
        Ok(host)
    }

    /// The service that the variables point to, in the order of the Azure SDKs.
    fn of(environment: &Environment) -> Result<Self, CredentialError> {
        let address = |text: &str, variable: &str| {
            Address::parse_metadata(text).map_err(|_| {
                CredentialError::config(format!(
                    "{variable} is no address of this host: only https, or http to loopback and link-local addresses, is asked for a token"
                ))
            })
        };
        let unsupported = |what: &str| {
            CredentialError::config(format!(
                "managed identities of {what} are not supported; use a client certificate or workload identity"
            ))
        };
        if let Some(endpoint) = &environment.identity_endpoint {
            let endpoint = || address(endpoint, "IDENTITY_ENDPOINT");
            return match (&environment.identity_header, &environment.imds_endpoint) {
                (Some(_), _) if environment.identity_server_thumbprint.is_some() => {
                    Err(unsupported("Service Fabric"))
                }
                (Some(header), _) => Ok(Self::AppService {
                    endpoint: endpoint()?,
                    header: header.clone(),
                }),
                (None, Some(_)) => Ok(Self::Arc(Arc::new(endpoint()?, environment))),
                (None, None) => Err(CredentialError::config(
                    "IDENTITY_ENDPOINT is set without IDENTITY_HEADER (App Service) or IMDS_ENDPOINT (Azure Arc)",
                )),
            };
        }
        if environment.msi_endpoint.is_some() {
            return Err(unsupported("Cloud Shell and Azure ML"));
        }
        if environment.arc_agent && environment.imds_host.is_none() {
            return Ok(Self::Arc(Arc::local(environment)?));
        }
        let imds = environment.imds_host.as_deref().unwrap_or(IMDS);
        let endpoint = address(imds, "AZURE_POD_IDENTITY_AUTHORITY_HOST")?;
        Ok(Self::Imds(
            endpoint.at(&["metadata", "identity", "oauth2", "token"]),
        ))
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Imds(_) => "the metadata service (IMDS)",
            Self::AppService { .. } => "the identity endpoint of App Service",
            Self::Arc(_) => "the agent of Azure Arc",
        }
    }
}
