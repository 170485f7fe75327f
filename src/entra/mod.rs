//! The proxy as a client of Microsoft Entra: a credential of its own, group membership from Graph, secrets from Key
//! Vault.
//!
//! ```text
//! Credential -> flights                one request per token at a time, also when its caller has gone
//!            |-> managed, arc          IMDS, App Service and Container Apps, Azure Arc
//!            \-> token_endpoint        client secret, client certificate, federated token of a workload
//! graph                                  which groups somebody is in
//! device, azure_cli                    tokens of a person, for the command line alone
//! vault                                  secrets of Key Vault
//! ```
//!
//! Owns: which hosts see which token of ours. Must never: log a token or a secret, follow an address that an answer or a
//! client's token names, or turn "Entra does not answer" into "no groups".

mod answer;
mod arc;
mod assertion;
mod azure_cli;
mod config;
mod credential;
mod device;
mod environment;
mod error;
mod flights;
mod graph;
mod managed;
mod own_token;
mod scope;
#[cfg(test)]
mod tests;
mod token_endpoint;
mod vault;

pub use assertion::check as check_certificate;
pub use azure_cli::azure_cli;
pub use config::{CredentialConfig, ManagedId};
pub use credential::{AccessToken, Credential, Tools};
pub use device::{DeviceCode, DeviceFlow};
pub use environment::Environment;
pub use error::CredentialError;
pub use graph::{
    GraphError, GraphFigures, GraphSettings, Membership, Memberships, Principal, RESULTS,
    missing_permissions,
};
pub use managed::check as check_managed;
pub use own_token::OwnToken;
pub use scope::Scope;
pub use vault::{Vault, VaultCloud, VaultError, VaultSecret};
