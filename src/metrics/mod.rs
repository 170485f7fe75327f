//! Metrics: counts what [`Event`]s say and what the shell measures, and prints it for Prometheus.
//!
//! Owns: the registry, the metric names and their labels. Must never: import another adapter (the shell hands figures
//! in), take a label value from a peer, or allocate on the data path (handles are resolved once per session).

mod families;
mod handles;
mod labels;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Encoder, IntCounter, IntCounterVec, Registry, TextEncoder};

use self::families::Families;
pub use self::handles::{Raised, SessionMetrics, TrafficHandles, add_traffic};
use self::handles::{TrafficCounters, raise_to};
pub use self::labels::{
    AheadFigures, AuditFigures, GraphFigures, HandshakeResult, KeyFigures, Names, SlotLimit,
};
use crate::identity::Kind;
use crate::policy::DenialReason;
use crate::session::{CloseReason, Event, EventKind, Operation};
use crate::time::Timestamp;

/// Content type of the text exposition format 0.0.4; Prometheus 3 refuses a scrape without a known one.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Why metrics could not be made or printed; a fault of this program, never of a peer.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A family clashed with another one, or could not be encoded.
    #[error("metrics registry: {0}")]
    Registry(#[from] prometheus::Error),
}

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    families: Families,
    closed: [IntCounter; CloseReason::ALL.len()],
    denied: Denials,
    observed: Denials,
    /// Shared by the sessions of an upstream.
    traffic: Mutex<HashMap<Box<str>, TrafficHandles>>,
}

/// Counters by operation and reason.
type Denials = [[IntCounter; DenialReason::ALL.len()]; Operation::ALL.len()];

impl Metrics {
    /// Registers every family and makes the series of every label value known beforehand.
    ///
    /// # Errors
    /// Only if two families share a name, which a test excludes.
    pub fn new(names: Names<'_>, started: Timestamp) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        families
            .build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        families
            .start_time
            .with_label_values::<&str>(&[])
            .set(seconds(started.since(Timestamp::default())));
        let closed = CloseReason::ALL.map(|reason| {
            families
                .closed
                .with_label_values(&[reason.label(), reason.blame().label()])
        });
        let of = |family: &IntCounterVec| {
            Operation::ALL.map(|op| {
                DenialReason::ALL
                    .map(|reason| family.with_label_values(&[op.label(), reason.label()]))
            })
        };
        let (denied, observed) = (of(&families.denials), of(&families.observed));
        let metrics = Self {
            registry,
            families,
            closed,
            denied,
            observed,
            traffic: Mutex::default(),
        };
        metrics.prepare(names);
        Ok(metrics)
    }

    /// Makes the series of more names, after a reload. Series of names that are gone stay until the process ends.
    pub fn prepare(&self, names: Names<'_>) {
        let f = &self.families;
        for limit in SlotLimit::ALL {
            f.rejected.with_label_values(&[limit.label()]);
        }
        for result in HandshakeResult::ALL {
            f.handshake_seconds.with_label_values(&[result.label()]);
        }
        for result in RELOAD_RESULTS {
            f.policy_reloads.with_label_values(&[result]);
        }
        for result in AUDIT_RESULTS {
            f.audit_lines.with_label_values(&[result]);
        }
        for code in names.postponement_codes {
            f.postponements.with_label_values(&[code]);
        }
        for code in names.refusal_codes {
            f.refusals.with_label_values(&[code]);
        }
        for role in names.roles {
            f.role_sessions.with_label_values(&[&**role]);
        }
        for upstream in names.upstreams {
            self.prepare_upstream(upstream);
        }
        for issuer in names.issuers {
            f.keys.with_label_values(&[&**issuer]);
            f.keys_age
                .with_label_values(&[&**issuer])
                .set(f64::INFINITY);
            for result in RESULTS {
                f.key_fetches.with_label_values(&[&**issuer, result]);
            }
        }
    }

    fn prepare_upstream(&self, upstream: &str) {
        let f = &self.families;
        self.traffic(upstream);
        f.sessions.with_label_values(&[upstream]);
        f.upstream_up.with_label_values(&[upstream]);
        for kind in [Kind::User, Kind::App] {
            f.opened.with_label_values(&[upstream, kind_label(kind)]);
        }
        for result in RESULTS {
            f.dial_seconds.with_label_values(&[upstream, result]);
        }
        self.set_links_ahead(upstream, &AheadFigures::default());
    }

    /// Counts one fact. The audit reads the same facts.
    pub fn record(&self, event: &Event) {
        match &event.kind {
            EventKind::Connected(connected) => {
                let kind = event
                    .identity
                    .as_ref()
                    .map_or("unknown", |identity| kind_label(identity.kind));
                self.families
                    .opened
                    .with_label_values(&[&*connected.upstream, kind])
                    .inc();
            }
            EventKind::Refused { code, .. } => {
                self.families.refusals.with_label_values(&[code]).inc()
            }
            EventKind::Postponed { code, .. } => {
                self.families.postponements.with_label_values(&[code]).inc()
            }
            EventKind::Revoked { .. } => self.families.revoked.inc(),
            EventKind::Denied(denied) => {
                let counters = if denied.observed {
                    &self.observed
                } else {
                    &self.denied
                };
                let by_reason = counters.get(denied.operation as usize);
                if let Some(counter) = by_reason.and_then(|row| row.get(denied.reason as usize)) {
                    counter.inc();
                }
            }
            EventKind::Closed(closed) => {
                if let Some(counter) = self.closed.get(closed.reason as usize) {
                    counter.inc();
                }
                if event.identity.is_some() {
                    let duration = Duration::from_millis(closed.duration_ms);
                    self.families.session_seconds.observe(seconds(duration));
                }
            }
        }
    }

    /// The gauges of one admitted session, held as long as it lives, and the handles for its traffic.
    pub fn session(&self, upstream: &str, roles: &[Arc<str>]) -> SessionMetrics {
        let mut gauges = Vec::with_capacity(roles.len().saturating_add(1));
        gauges.push(self.families.sessions.with_label_values(&[upstream]));
        gauges.extend(
            roles
                .iter()
                .map(|role| self.families.role_sessions.with_label_values(&[&**role])),
        );
        SessionMetrics {
            _live: gauges.into_iter().map(Raised::new).collect(),
            traffic: self.traffic(upstream),
        }
    }

    /// The handles for traffic of one upstream. Cheap to clone; resolve once, not per message.
    pub fn traffic(&self, upstream: &str) -> TrafficHandles {
        let mut known = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handles) = known.get(upstream) {
            return handles.clone();
        }
        let f = &self.families;
        let handles = TrafficHandles(Arc::new(TrafficCounters {
            messages_in: f.messages.with_label_values(&[upstream, "in"]),
            messages_out: f.messages.with_label_values(&[upstream, "out"]),
            bytes_in: f.bytes.with_label_values(&[upstream, "in"]),
            bytes_out: f.bytes.with_label_values(&[upstream, "out"]),
            filtered: f.filtered.with_label_values(&[upstream]),
        }));
        known.insert(upstream.into(), handles.clone());
        handles
    }

    /// A TCP connection was accepted.
    pub fn connection_accepted(&self) {
        self.families.accepted.inc();
    }

    /// A TCP connection is held until the returned value is dropped.
    #[must_use = "the gauge falls when this is dropped"]
    pub fn connection_open(&self) -> Raised {
        Raised::new(self.families.connections.clone())
    }

    /// A TCP connection was closed because of a limit on them.
    pub fn connection_rejected(&self, limit: SlotLimit) {
        self.families
            .rejected
            .with_label_values(&[limit.label()])
            .inc();
    }

    /// A handshake runs until the returned value is dropped.
    #[must_use = "the gauge falls when this is dropped"]
    pub fn handshake_begun(&self) -> Raised {
        Raised::new(self.families.handshakes.clone())
    }

    /// A handshake ended after `took`.
    pub fn handshake_ended(&self, result: HandshakeResult, took: Duration) {
        self.families
            .handshake_seconds
            .with_label_values(&[result.label()])
            .observe(seconds(took));
    }

    /// Dialling an upstream ended after `took`; sets `natsentry_upstream_up` too.
    pub fn dialled(&self, upstream: &str, ok: bool, took: Duration) {
        let result = if ok { "ok" } else { "failed" };
        self.families
            .dial_seconds
            .with_label_values(&[upstream, result])
            .observe(seconds(took));
        self.set_upstream_up(upstream, ok);
    }

    /// Whether the upstream could be reached when last tried.
    pub fn set_upstream_up(&self, upstream: &str, up: bool) {
        self.families
            .upstream_up
            .with_label_values(&[upstream])
            .set(i64::from(up));
    }

    /// Takes over what became of links dialled ahead: totals since the start, and those that wait.
    pub fn set_links_ahead(&self, upstream: &str, figures: &AheadFigures) {
        let f = &self.families;
        f.links_ahead
            .with_label_values(&[upstream])
            .set(i64::try_from(figures.waiting).unwrap_or(i64::MAX));
        for (result, total) in figures.ended {
            raise_to(
                &f.links_ahead_total.with_label_values(&[upstream, result]),
                total,
            );
        }
    }

    /// Whether the process drains.
    pub fn set_draining(&self, draining: bool) {
        self.families.draining.set(i64::from(draining));
    }

    /// A policy was loaded (`hash` is now in force) or, with none, rejected.
    pub fn policy_loaded(&self, hash: Option<&str>) {
        let result = if hash.is_some() {
            "accepted"
        } else {
            "rejected"
        };
        self.families
            .policy_reloads
            .with_label_values(&[result])
            .inc();
        if let Some(hash) = hash {
            self.families.policy_info.reset();
            self.families.policy_info.with_label_values(&[hash]).set(1);
        }
    }

    /// Takes over what is known of an issuer's keys.
    pub fn set_keys(&self, figures: &KeyFigures) {
        let f = &self.families;
        let issuer = &*figures.issuer;
        f.keys
            .with_label_values(&[issuer])
            .set(i64::try_from(figures.keys).unwrap_or(i64::MAX));
        f.keys_age
            .with_label_values(&[issuer])
            .set(figures.age.map_or(f64::INFINITY, seconds));
        raise_to(
            &f.key_fetches.with_label_values(&[issuer, "ok"]),
            figures.fetches_ok,
        );
        raise_to(
            &f.key_fetches.with_label_values(&[issuer, "failed"]),
            figures.fetches_failed,
        );
    }

    /// Takes over how the reading of the vault goes: totals since the start, and the time since it last went well.
    pub fn set_vault(&self, reads: u64, failures: u64, age: Option<Duration>) {
        let f = &self.families;
        raise_to(&f.vault_reads.with_label_values(&["ok"]), reads);
        raise_to(&f.vault_reads.with_label_values(&["failed"]), failures);
        let none: &[&str] = &[];
        f.vault_age
            .with_label_values(none)
            .set(age.map_or(f64::INFINITY, seconds));
    }

    /// Takes over how many locks are in force, by whom they select, and whether they cannot be read.
    pub fn set_locks(&self, in_force: &[(&'static str, u64)], failing: bool) {
        for (selects, count) in in_force {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.families.locks.with_label_values(&[selects]).set(count);
        }
        self.families.locks_failing.set(i64::from(failing));
    }

    /// Takes over what all sessions hold and may hold, in bytes, and how often one was not given what it wanted.
    pub fn set_memory(&self, used: usize, limit: usize, refused: u64) {
        let f = &self.families;
        f.memory.set(i64::try_from(used).unwrap_or(i64::MAX));
        f.memory_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
        raise_to(&f.memory_refused, refused);
    }

    /// Takes over what is known of Graph.
    pub fn set_graph(&self, figures: &GraphFigures) {
        let f = &self.families;
        for (result, count) in figures.requests {
            raise_to(&f.graph_requests.with_label_values(&[result]), count);
        }
        raise_to(&f.graph_cache.with_label_values(&["fresh"]), figures.hits);
        raise_to(&f.graph_cache.with_label_values(&["stale"]), figures.stale);
        let none: &[&str] = &[];
        f.graph_age
            .with_label_values(none)
            .set(figures.age.map_or(f64::INFINITY, seconds));
        f.graph_paused
            .with_label_values(none)
            .set(figures.paused.map_or(0.0, seconds));
    }

    /// Takes over what is known of the audit.
    pub fn set_audit(&self, figures: AuditFigures) {
        let lines = &self.families.audit_lines;
        raise_to(&lines.with_label_values(&["written"]), figures.written);
        raise_to(&lines.with_label_values(&["dropped"]), figures.dropped);
        raise_to(
            &lines.with_label_values(&["suppressed"]),
            figures.suppressed,
        );
        self.families.audit_failing.set(i64::from(figures.failing));
    }

    /// Everything in the text exposition format 0.0.4; serve it as [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// If a family cannot be encoded, which would be a fault of this program.
    pub fn text(&self) -> Result<String, MetricsError> {
        let mut out = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        String::from_utf8(out)
            .map_err(|_| MetricsError::Registry(prometheus::Error::Msg("not UTF-8".into())))
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

const fn kind_label(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "user",
        Kind::App => "app",
    }
}

const RESULTS: [&str; 2] = ["ok", "failed"];
const RELOAD_RESULTS: [&str; 2] = ["accepted", "rejected"];
const AUDIT_RESULTS: [&str; 3] = ["written", "dropped", "suppressed"];

#[cfg(test)]
mod tests;
