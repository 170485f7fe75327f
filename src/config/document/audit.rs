//! `audit`: where the trail goes and what happens when it cannot.
//!
//! Owns: its keys. Must never: open the file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::units::{ByteSize, HumanDuration};

/// The audit trail.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Path of the file, or `stdout`.
    pub file: AuditTarget,
    /// What happens when lines come faster than they can be written.
    #[serde(default)]
    pub when_full: AuditWhenFull,
    /// Size from which the file is renamed and a new one begun; `0B` for never.
    #[serde(default = "rotate")]
    pub rotate: ByteSize,
    /// Renamed files that are kept; 0 for all of them.
    #[serde(default)]
    pub keep: u32,
    /// Lines that may wait for the writer.
    #[serde(default = "queue")]
    #[schemars(range(min = 16, max = 1_000_000))]
    pub queue: u32,
    /// How repeated refusals and denials of one identity are thinned out.
    #[serde(default)]
    pub sampling: Sampling,
}

impl Audit {
    /// The defaults, for where nothing is written down.
    pub(in crate::config) fn nowhere() -> Self {
        Self {
            file: AuditTarget(String::new()),
            when_full: AuditWhenFull::default(),
            rotate: rotate(),
            keep: 0,
            queue: queue(),
            sampling: Sampling::default(),
        }
    }
}

const fn rotate() -> ByteSize {
    ByteSize::new(256 << 20)
}

const fn queue() -> u32 {
    8192
}

/// Where lines go: a path, or the word `stdout`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AuditTarget(pub String);

/// What happens when the queue to the writer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuditWhenFull {
    /// Sessions wait where they have something to record.
    #[default]
    Block,
    /// Lines are lost and counted.
    Drop,
}

/// The first lines of an identity in a span of time are written, the rest are counted and said in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Lines written in full at the beginning of each span.
    #[schemars(range(min = 1))]
    pub first: u32,
    /// Length of the span.
    pub per: HumanDuration,
    /// Lines of one kind of event in a span that are about peers without an identity, from all addresses together.
    #[schemars(range(min = 1))]
    pub strangers: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            first: 10,
            per: HumanDuration::new(std::time::Duration::from_secs(10)),
            strangers: 1000,
        }
    }
}
