//! `keyvault`: how secrets behind `keyvault:` references are read.
//!
//! Owns: names and defaults. Must never: say where a secret is; the reference does.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential::OwnCredential;
use crate::policy::units::HumanDuration;

/// How secrets behind `keyvault:` references are read.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyVault {
    /// Who reads; without it `entra.graph.credential`. Needs the role *Key Vault Secrets User*.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<OwnCredential>,
    /// Distance between readings, ten per cent more or less: how late a rotated secret is used at the latest.
    pub refresh: HumanDuration,
}

impl Default for KeyVault {
    fn default() -> Self {
        Self {
            credential: None,
            refresh: HumanDuration::new(Duration::from_secs(300)),
        }
    }
}
