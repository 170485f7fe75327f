//! `locks`: where an operator's locks are kept.
//!
//! Owns: its keys and defaults. Must never: open the file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where an operator's locks are kept (`natsentry lock`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Locks {
    /// Path of the file; changes in it are in force within a second. Every process that is to know of a lock has to read
    /// the same file, and only its owner may write it.
    pub file: String,
    /// Most locks at a time.
    #[schemars(range(min = 1, max = 10_000))]
    pub max: u32,
}

impl Default for Locks {
    fn default() -> Self {
        Self {
            file: "locks.json".to_owned(),
            max: 1_000,
        }
    }
}
