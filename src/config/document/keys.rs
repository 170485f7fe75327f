//! `keys`: how the signing keys of issuers are kept.
//!
//! Owns: names and defaults. Must never: say where keys are fetched; issuers do.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::units::HumanDuration;

/// How the signing keys of issuers are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// Folder in which the last good keys outlive a restart. Where it is not given: `keys` in systemd's
    /// `CacheDirectory=`, else in the user's cache folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// From this age on keys say nothing about a token any more, and nobody is admitted.
    pub max_age: HumanDuration,
    /// Distance between fetches, ten per cent more or less.
    pub refresh: HumanDuration,
    /// A token whose key is not among those at hand makes the keys be fetched at once: so often within
    /// `unknown_interval`, whatever names attackers send.
    #[schemars(range(min = 1, max = 100))]
    pub unknown_burst: u32,
    /// How long it takes until one more such fetch is allowed. Names that a fetch did not bring are remembered as long.
    pub unknown_interval: HumanDuration,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            cache: None,
            max_age: HumanDuration::new(Duration::from_secs(24 * 3600)),
            refresh: HumanDuration::new(Duration::from_secs(3600)),
            unknown_burst: 2,
            unknown_interval: HumanDuration::new(Duration::from_secs(300)),
        }
    }
}
