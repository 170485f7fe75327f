//! Closed sets of label values, and the figures that the shell hands in because metrics may not import its siblings.

use std::sync::Arc;
use std::time::Duration;

/// Label values that configuration and code know beforehand, so that every series exists from the first scrape on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// Roles of the policy.
    pub roles: &'a [Arc<str>],
    /// Upstreams of the configuration.
    pub upstreams: &'a [Arc<str>],
    /// Issuers of the configuration.
    pub issuers: &'a [Arc<str>],
    /// Every refusal code of the token gate.
    pub refusal_codes: &'a [&'static str],
    /// Every code of what may not be had.
    pub postponement_codes: &'a [&'static str],
}

/// Which limit closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotLimit {
    /// All connections of this process.
    Total,
    /// Connections of one client address or IPv6 /64.
    PerAddress,
    /// Connections that have not said CONNECT: the oldest went for a new one.
    Handshakes,
}

impl SlotLimit {
    /// Metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::PerAddress => "per_address",
            Self::Handshakes => "handshakes",
        }
    }

    /// Every limit.
    pub const ALL: [Self; 3] = [Self::Total, Self::PerAddress, Self::Handshakes];
}

/// How the time between accept and session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeResult {
    /// A session began.
    Admitted,
    /// The token or CONNECT was refused.
    Refused,
    /// Anything else: TLS, time, the peer left, upstream not reachable.
    Failed,
}

impl HandshakeResult {
    /// Metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// Every result.
    pub const ALL: [Self; 3] = [Self::Admitted, Self::Refused, Self::Failed];
}

/// What is known of one issuer's keys, handed in by the shell before a scrape.
#[derive(Clone, Debug)]
pub struct KeyFigures {
    /// The issuer, as configured.
    pub issuer: Arc<str>,
    /// Since the last good fetch; none before the first.
    pub age: Option<Duration>,
    /// Keys held.
    pub keys: usize,
    /// Good fetches since the start.
    pub fetches_ok: u64,
    /// Failed fetches since the start.
    pub fetches_failed: u64,
}

/// What is known of links dialled ahead to one upstream, handed in by the shell before a scrape.
#[derive(Clone, Copy, Debug)]
pub struct AheadFigures {
    /// Links that wait for a session.
    pub waiting: usize,
    /// Links that do not wait any more, by what became of them. Totals since the start.
    pub ended: [(&'static str, u64); 4],
}

impl Default for AheadFigures {
    fn default() -> Self {
        Self {
            waiting: 0,
            ended: ["taken", "expired", "failed", "dropped"].map(|result| (result, 0)),
        }
    }
}

/// What is known of Microsoft Graph, handed in by the shell before a scrape. Totals since the start.
#[derive(Clone, Debug, Default)]
pub struct GraphFigures {
    /// Requests by how they ended.
    pub requests: [(&'static str, u64); 5],
    /// Memberships that were known and fresh.
    pub hits: u64,
    /// Memberships that were used although they were not fresh.
    pub stale: u64,
    /// Since the last good answer; none before the first.
    pub age: Option<Duration>,
    /// How long Graph is not asked.
    pub paused: Option<Duration>,
}

/// What is known of the audit, handed in by the shell before a scrape. Totals since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditFigures {
    /// Lines written.
    pub written: u64,
    /// Lines lost because the queue was full.
    pub dropped: u64,
    /// Lines left out by sampling; each is counted in a summary line.
    pub suppressed: u64,
    /// Whether the last write failed.
    pub failing: bool,
}
