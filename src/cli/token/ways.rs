//! The ways to a token, in the order in which they are tried, and why each of them did not lead to one.
//!
//! The order is that of the Azure SDKs' default credential: what somebody configured for this process, the identity of
//! the machine, the account of the person. Must never: go on to another identity after one that was configured was
//! refused.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use super::super::output::{self, Table};
use super::get::GLANCE;
use crate::config::secret::SecretRef;
use crate::entra::{
    Credential, CredentialConfig, CredentialError, DeviceFlow, Environment, ManagedId, Scope,
    Tools, azure_cli,
};
use crate::secret::Secret;
use crate::time::Timestamp;

/// Where a token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Way {
    /// Client secret: --secret or AZURE_CLIENT_SECRET.
    Secret,
    /// Client certificate: --certificate or AZURE_CLIENT_CERTIFICATE_PATH.
    Certificate,
    /// Workload identity of a pod: AZURE_FEDERATED_TOKEN_FILE.
    WorkloadIdentity,
    /// Managed identity: IMDS of virtual machines, App Service, Container Apps, Azure Arc.
    ManagedIdentity,
    /// The account that is signed in to the Azure CLI.
    Az,
    /// A person signs in with a browser somewhere; needs --client-id.
    DeviceCode,
}

impl Way {
    const ALL: [Self; 6] = [
        Self::Secret,
        Self::Certificate,
        Self::WorkloadIdentity,
        Self::ManagedIdentity,
        Self::Az,
        Self::DeviceCode,
    ];

    /// As `--from` spells it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Certificate => "certificate",
            Self::WorkloadIdentity => "workload-identity",
            Self::ManagedIdentity => "managed-identity",
            Self::Az => "az",
            Self::DeviceCode => "device-code",
        }
    }

    /// Whether somebody has to set it up for this process: then its failure is the answer.
    const fn is_configured(self) -> bool {
        matches!(
            self,
            Self::Secret | Self::Certificate | Self::WorkloadIdentity
        )
    }

    /// From the word that `--from` takes.
    pub(super) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.word() == word)
    }
}

/// What is asked for, complete.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) scope: Scope,
    pub(super) tenant: Option<Box<str>>,
    pub(super) authority: Box<str>,
    pub(super) from: Option<Way>,
    pub(super) client_id: Option<Box<str>>,
    pub(super) managed: ManagedId,
    pub(super) secret: Option<Box<str>>,
    pub(super) certificate: Option<Box<str>>,
    pub(super) key: Option<Box<str>>,
    pub(super) federated_token_file: Option<PathBuf>,
    pub(super) environment: Environment,
}

/// A token, and how it was had.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) secret: Secret,
    pub(super) expires_at: Timestamp,
    pub(super) way: Way,
}

/// No token, and what was tried.
#[derive(Debug)]
pub(super) struct Failure {
    scope: Scope,
    tried: Vec<(Way, String)>,
    refused: bool,
}

impl Failure {
    /// For people.
    pub(super) fn show(&self) -> String {
        let mut table = Table::default();
        for (way, why) in &self.tried {
            table.row([&format!("  {}", way.word()), why]);
        }
        let scope = &self.scope;
        let how = match (self.tried.as_slice(), self.refused) {
            (_, true) => {
                "; a way that was set up did not lead to one, and no other identity is tried in its place"
            }
            ([_], false) => "",
            (_, false) => "; tried in this order",
        };
        format!(
            "natsentry: no token for {scope}{how}:\n{}",
            table.show().trim_end()
        )
    }
}

/// How one way ended without a token.
enum No {
    /// It is not there.
    Absent(String),
    /// It is there, and did not lead to a token.
    Refused(String),
}

impl From<CredentialError> for No {
    fn from(error: CredentialError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// The token of the first way that leads to one.
///
/// # Errors
/// [`Failure`] with the reason of each way.
pub(super) async fn get(wanted: &Wanted, tools: Tools, patience: Duration) -> Result<Got, Failure> {
    let mut tried = Vec::new();
    let ways = match wanted.from {
        Some(way) => vec![way],
        None => Way::ALL.to_vec(),
    };
    let mut refused = false;
    for way in ways {
        match wanted.by(way, tools.clone(), patience).await {
            Ok(got) => return Ok(got),
            Err(No::Absent(why)) => tried.push((way, why)),
            Err(No::Refused(why)) => {
                tried.push((way, why));
                if way.is_configured() && wanted.from.is_none() {
                    refused = true;
                    break;
                }
            }
        }
    }
    Err(Failure {
        scope: wanted.scope.clone(),
        tried,
        refused,
    })
}

impl Wanted {
    async fn by(&self, way: Way, tools: Tools, patience: Duration) -> Result<Got, No> {
        let token = match way {
            Way::Az => azure_cli(&self.scope, self.tenant.as_deref(), patience)
                .await
                .map_err(|error| match error.code() {
                    "credential.config" => No::Absent(error.to_string()),
                    _ => No::from(error),
                })?,
            Way::DeviceCode => self.device_code(tools).await?,
            Way::Secret => self.credential(self.secret()?, tools).await?,
            Way::Certificate => self.credential(self.certificate()?, tools).await?,
            Way::WorkloadIdentity => self.credential(self.workload()?, tools).await?,
            Way::ManagedIdentity => {
                self.glance().await?;
                let config = CredentialConfig::ManagedIdentity(self.managed.clone());
                self.credential(config, tools).await?
            }
        };
        Ok(Got {
            secret: token.secret().clone(),
            expires_at: token.expires_at(),
            way,
        })
    }

    async fn credential(
        &self,
        config: CredentialConfig,
        tools: Tools,
    ) -> Result<crate::entra::AccessToken, No> {
        let credential = Credential::new(&config, &self.authority, &self.environment, tools)?;
        Ok(credential.token(&self.scope).await?)
    }

    fn secret(&self) -> Result<CredentialConfig, No> {
        let secret = match &self.secret {
            Some(reference) => referenced("--secret", reference)?,
            None => variable("AZURE_CLIENT_SECRET", "--secret").map(Secret::new)?,
        };
        Ok(CredentialConfig::ClientSecret {
            tenant: self.tenant()?,
            client_id: self.client_id()?,
            secret,
        })
    }

    fn certificate(&self) -> Result<CredentialConfig, No> {
        let certificate = match &self.certificate {
            Some(reference) => referenced("--certificate", reference)?,
            None => {
                let path = variable("AZURE_CLIENT_CERTIFICATE_PATH", "--certificate")?;
                referenced("AZURE_CLIENT_CERTIFICATE_PATH", &format!("file:{path}"))?
            }
        };
        let key = match &self.key {
            Some(reference) => referenced("--key", reference)?,
            None => certificate.clone(),
        };
        Ok(CredentialConfig::ClientCertificate {
            tenant: self.tenant()?,
            client_id: self.client_id()?,
            certificate,
            key,
        })
    }

    fn workload(&self) -> Result<CredentialConfig, No> {
        let file = self.federated_token_file.clone();
        if file.is_none() && self.environment.federated_token_file.is_none() {
            let text = "neither --federated-token-file nor AZURE_FEDERATED_TOKEN_FILE is set";
            return Err(No::Absent(text.into()));
        }
        Ok(CredentialConfig::WorkloadIdentity {
            tenant: self.tenant.clone(),
            client_id: self.client_id.clone(),
            token_file: file,
        })
    }

    fn tenant(&self) -> Result<Box<str>, No> {
        let missing =
            || No::Refused("the tenant is missing; give --tenant, or set AZURE_TENANT_ID".into());
        self.tenant.clone().ok_or_else(missing)
    }

    fn client_id(&self) -> Result<Box<str>, No> {
        let missing = || {
            No::Refused("the client id is missing; give --client-id, or set AZURE_CLIENT_ID".into())
        };
        let from_environment = || self.environment.client_id.as_deref().map(Box::from);
        self.client_id
            .clone()
            .or_else(from_environment)
            .ok_or_else(missing)
    }

    /// Whether anything answers where the metadata service of virtual machines would be. Elsewhere that address leads
    /// nowhere, and a request would take as long as its patience.
    async fn glance(&self) -> Result<(), No> {
        let environment = &self.environment;
        let told = environment.identity_endpoint.is_some()
            || environment.msi_endpoint.is_some()
            || environment.arc_agent
            || environment.imds_host.is_some();
        if told || self.from == Some(Way::ManagedIdentity) {
            return Ok(());
        }
        let connecting = tokio::net::TcpStream::connect(("169.254.169.254", 80));
        match tokio::time::timeout(GLANCE, connecting).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(No::Absent(
                "no metadata service answers, and no variable names another: this is not a machine of Azure".into(),
            )),
        }
    }

    async fn device_code(&self, tools: Tools) -> Result<crate::entra::AccessToken, No> {
        let asked_for = self.from == Some(Way::DeviceCode);
        if !asked_for && !std::io::stderr().is_terminal() {
            let text = "nobody is at a terminal; ask for it with --from device-code";
            return Err(No::Absent(text.into()));
        }
        let Some(client_id) = &self.client_id else {
            return Err(No::Absent(
                "needs --client-id: an app registration with \"Allow public client flows\" that may ask for the API"
                    .into(),
            ));
        };
        let tenant = self.tenant()?;
        let flow = DeviceFlow::new(&self.authority, &tenant, client_id, tools.http)?;
        let code = flow.start(&self.scope).await?;
        output::complain(&format!(
            "To sign in, open {} in a browser and enter the code {} within {} minutes.",
            code.address,
            code.user_code,
            code.life.as_secs() / 60
        ));
        Ok(flow.wait(&code).await?)
    }
}

/// The secret behind a reference; relative paths count from where the command runs.
fn referenced(option: &str, reference: &str) -> Result<Secret, No> {
    let opened = SecretRef::from(reference).open(Path::new("."));
    opened.map_err(|error| No::Refused(format!("{option}: {error}")))
}

fn variable(name: &str, option: &str) -> Result<String, No> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    value.ok_or_else(|| No::Absent(format!("neither {option} nor {name} is set")))
}
