//! The proxy's own credential, wherever one is asked for.
//!
//! Owns: the kinds and their keys. Must never: hold a secret other than by reference.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::super::secret::SecretRef;
use super::words::{Either, word_or_mapping};

/// The proxy's own credential: a word for what needs no secret, or a mapping with exactly one kind.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OwnCredential {
    /// A kind that needs nothing more.
    Word(Secretless),
    /// A kind with its keys.
    Kind(Box<CredentialKind>),
}

/// Kinds that need nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Secretless {
    /// The system-assigned managed identity of this machine, App Service or Container App.
    ManagedIdentity,
    /// AKS workload identity, by the variables that its webhook sets.
    WorkloadIdentity,
}

/// The kinds, of which exactly one is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialKind {
    /// A managed identity, user-assigned where one of the keys is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_identity: Option<ManagedIdentity>,
    /// A federated token in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
    /// A certificate that is registered with an application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// A secret of an application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<ClientSecret>,
}

/// Which managed identity; none of the keys: the system-assigned one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ManagedIdentity {
    /// Its application id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its object id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_id: Option<String>,
    /// Its Azure resource id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
}

/// A federated token in a file; what is not given comes from the variables of the workload identity webhook.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkloadIdentity {
    /// Tenant; without it `AZURE_TENANT_ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Application id; without it `AZURE_CLIENT_ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The file, read anew for every request; without it `AZURE_FEDERATED_TOKEN_FILE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
}

/// A certificate that is registered with an application.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// Tenant; without it the first of `entra.tenants`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Application id.
    pub client_id: String,
    /// The certificate in PEM.
    pub cert: SecretRef,
    /// Its RSA key in PEM.
    pub key: SecretRef,
}

/// A secret of an application.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientSecret {
    /// Tenant; without it the first of `entra.tenants`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Application id.
    pub client_id: String,
    /// The secret's value, not its id.
    pub secret: SecretRef,
}

impl<'de> Deserialize<'de> for OwnCredential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "managed-identity, workload-identity, or one of { managed_identity: { client_id: GUID } }, \
                        { workload_identity: {} }, { client_certificate: { client_id: GUID, cert: file:PATH, key: file:PATH } }, \
                        { client_secret: { client_id: GUID, secret: env:VARIABLE } }";
        Ok(match word_or_mapping(deserializer, expected)? {
            Either::Word(word) => Self::Word(word),
            Either::Mapping(kind) => Self::Kind(kind),
        })
    }
}
