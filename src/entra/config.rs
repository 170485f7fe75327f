//! Which credential, as configured.

use std::path::PathBuf;

use crate::secret::Secret;

/// The proxy's own credential. Secretless kinds come first, and are what to use where there is a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialConfig {
    /// The managed identity of the virtual machine, App Service, Container App or Arc machine that this runs on.
    ManagedIdentity(ManagedId),
    /// A federated token in a file: AKS workload identity, or any other platform that rotates such a file.
    WorkloadIdentity {
        /// Tenant whose tokens are asked for; none: `AZURE_TENANT_ID`.
        tenant: Option<Box<str>>,
        /// Application id; none: `AZURE_CLIENT_ID`.
        client_id: Option<Box<str>>,
        /// The file; none: `AZURE_FEDERATED_TOKEN_FILE`. Read anew for every request, since it is rotated.
        token_file: Option<PathBuf>,
    },
    /// A certificate whose public part is registered with the application.
    ClientCertificate {
        /// Tenant whose tokens are asked for.
        tenant: Box<str>,
        /// Application id.
        client_id: Box<str>,
        /// PEM text; the first certificate in it is the registered one.
        certificate: Secret,
        /// PEM text of its RSA key.
        key: Secret,
    },
    /// A client secret.
    ClientSecret {
        /// Tenant whose tokens are asked for.
        tenant: Box<str>,
        /// Application id.
        client_id: Box<str>,
        /// The secret's value, not its id.
        secret: Secret,
    },
}

/// Which managed identity, where a machine can have several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ManagedId {
    /// The system-assigned one; or the only one, where there is but one.
    #[default]
    System,
    /// A user-assigned one by its application id.
    ClientId(Box<str>),
    /// A user-assigned one by its object id.
    ObjectId(Box<str>),
    /// A user-assigned one by its Azure resource id.
    ResourceId(Box<str>),
}

impl CredentialConfig {
    /// The word of the configuration, for status and messages.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ManagedIdentity(_) => "managed identity",
            Self::WorkloadIdentity { .. } => "workload identity",
            Self::ClientCertificate { .. } => "client certificate",
            Self::ClientSecret { .. } => "client secret",
        }
    }
}
