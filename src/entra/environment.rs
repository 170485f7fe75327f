//! What Azure puts into the environment of a process, read once at the top and handed down.

use std::path::PathBuf;

/// Variables and places by which a workload finds its identity; the names are those of the Azure SDKs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `IDENTITY_ENDPOINT`: App Service, Container Apps, Azure Arc.
    pub identity_endpoint: Option<String>,
    /// `IDENTITY_HEADER`: the secret of App Service and Container Apps; keeps other processes from asking.
    pub identity_header: Option<crate::secret::Secret>,
    /// `IDENTITY_SERVER_THUMBPRINT`: set on Service Fabric.
    pub identity_server_thumbprint: Option<String>,
    /// `IMDS_ENDPOINT`: set on Azure Arc.
    pub imds_endpoint: Option<String>,
    /// `MSI_ENDPOINT`: Cloud Shell and Azure ML.
    pub msi_endpoint: Option<String>,
    /// `AZURE_POD_IDENTITY_AUTHORITY_HOST`: another address of the metadata service of virtual machines.
    pub imds_host: Option<String>,
    /// `AZURE_CLIENT_ID`.
    pub client_id: Option<String>,
    /// `AZURE_TENANT_ID`.
    pub tenant_id: Option<String>,
    /// `AZURE_FEDERATED_TOKEN_FILE`.
    pub federated_token_file: Option<PathBuf>,
    /// The one folder that challenges of Azure Arc may name files in; none: `/var/opt/azcmagent/tokens`.
    pub arc_folder: Option<PathBuf>,
    /// Whether the agent of Azure Arc is installed, which counts where no variable says what this machine is.
    pub arc_agent: bool,
}

/// The service of the Azure Connected Machine agent.
const ARC_AGENT: &str = "/opt/azcmagent/bin/himds";

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let mut environment = Self::of(|name| std::env::var(name).ok());
        environment.arc_agent = std::path::Path::new(ARC_AGENT).exists();
        environment
    }

    /// From any source of variables. Empty ones count as absent.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        Self {
            identity_endpoint: variable("IDENTITY_ENDPOINT"),
            identity_header: variable("IDENTITY_HEADER").map(crate::secret::Secret::new),
            identity_server_thumbprint: variable("IDENTITY_SERVER_THUMBPRINT"),
            imds_endpoint: variable("IMDS_ENDPOINT"),
            msi_endpoint: variable("MSI_ENDPOINT"),
            imds_host: variable("AZURE_POD_IDENTITY_AUTHORITY_HOST"),
            client_id: variable("AZURE_CLIENT_ID"),
            tenant_id: variable("AZURE_TENANT_ID"),
            federated_token_file: variable("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from),
            arc_folder: None,
            arc_agent: false,
        }
    }
}
