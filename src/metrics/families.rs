//! The metric families: names, help texts, labels and buckets, registered once. The names and labels are public
//! interface. Must never: hold a label whose values a peer can choose.

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, core::Collector,
};

use super::MetricsError;

/// Every family, registered.
pub(super) struct Families {
    pub(super) build_info: IntGaugeVec,
    pub(super) start_time: GaugeVec,
    pub(super) policy_info: IntGaugeVec,
    pub(super) policy_reloads: IntCounterVec,
    pub(super) draining: IntGauge,
    pub(super) accepted: IntCounter,
    pub(super) rejected: IntCounterVec,
    pub(super) connections: IntGauge,
    pub(super) memory: IntGauge,
    pub(super) memory_limit: IntGauge,
    pub(super) memory_refused: IntCounter,
    pub(super) handshakes: IntGauge,
    pub(super) handshake_seconds: HistogramVec,
    pub(super) dial_seconds: HistogramVec,
    pub(super) sessions: IntGaugeVec,
    pub(super) role_sessions: IntGaugeVec,
    pub(super) opened: IntCounterVec,
    pub(super) closed: IntCounterVec,
    pub(super) session_seconds: Histogram,
    pub(super) refusals: IntCounterVec,
    pub(super) postponements: IntCounterVec,
    pub(super) revoked: IntCounter,
    pub(super) locks: IntGaugeVec,
    pub(super) locks_failing: IntGauge,
    pub(super) denials: IntCounterVec,
    pub(super) observed: IntCounterVec,
    pub(super) messages: IntCounterVec,
    pub(super) bytes: IntCounterVec,
    pub(super) filtered: IntCounterVec,
    pub(super) upstream_up: IntGaugeVec,
    pub(super) links_ahead: IntGaugeVec,
    pub(super) links_ahead_total: IntCounterVec,
    pub(super) keys: IntGaugeVec,
    pub(super) keys_age: GaugeVec,
    pub(super) key_fetches: IntCounterVec,
    pub(super) graph_requests: IntCounterVec,
    pub(super) graph_cache: IntCounterVec,
    pub(super) graph_age: GaugeVec,
    pub(super) graph_paused: GaugeVec,
    pub(super) vault_reads: IntCounterVec,
    pub(super) vault_age: GaugeVec,
    pub(super) audit_lines: IntCounterVec,
    pub(super) audit_failing: IntGauge,
}

impl Families {
    #[expect(clippy::too_many_lines, reason = "a list of families")]
    pub(super) fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let r = Register(registry);
        Ok(Self {
            build_info: r.gauges("build_info", "Always 1; says which version runs.", &["version"])?,
            start_time: r.float_gauges(
                "start_time_seconds",
                "When the process started, in seconds since the Unix epoch.",
                &[],
            )?,
            policy_info: r.gauges(
                "policy_info",
                "Always 1; the hash of the policy in force, equal on every replica that enforces the same.",
                &["hash"],
            )?,
            policy_reloads: r.counters(
                "policy_reloads_total",
                "Attempts to load a new policy; a rejected one leaves the old one in force.",
                &["result"],
            )?,
            draining: r.gauge("draining", "1 while no new client is accepted and live ones are asked to leave.")?,
            accepted: r.counter("connections_accepted_total", "TCP connections accepted.")?,
            rejected: r.counters(
                "connections_rejected_total",
                "TCP connections closed because a limit on connections was reached; for handshakes, the one that waited longest.",
                &["limit"],
            )?,
            connections: r.gauge(
                "connections",
                "Client connections held, admitted or not, to the end of their tasks.",
            )?,
            memory: r.gauge(
                "memory_bytes",
                "Memory that all sessions hold of what peers send, make us say or make us remember.",
            )?,
            memory_limit: r.gauge("memory_limit_bytes", "limits.memory: how much that may be.")?,
            memory_refused: r.counter(
                "memory_refused_total",
                "Times that a session was not given the memory that it wanted, and went on with less or waited.",
            )?,
            handshakes: r.gauge(
                "handshakes_in_progress",
                "Connections between accept and an admitted session.",
            )?,
            handshake_seconds: r.histograms(
                "handshake_duration_seconds",
                "From accept to an admitted, refused or failed connection.",
                &["result"],
                &HANDSHAKE_BUCKETS,
            )?,
            dial_seconds: r.histograms(
                "upstream_dial_duration_seconds",
                "From dialling upstream to its first PONG, or to the failure of the last server tried.",
                &["upstream", "result"],
                &HANDSHAKE_BUCKETS,
            )?,
            sessions: r.gauges("sessions", "Live sessions.", &["upstream"])?,
            role_sessions: r.gauges(
                "role_sessions",
                "Live sessions that hold a role; a session with two roles counts in both.",
                &["role"],
            )?,
            opened: r.counters("sessions_opened_total", "Sessions admitted.", &["upstream", "kind"])?,
            closed: r.counters(
                "sessions_closed_total",
                "Connections and sessions ended, by reason and by whose doing it was.",
                &["reason", "blame"],
            )?,
            session_seconds: r.histogram(
                "session_duration_seconds",
                "From accept to close, of connections that named an identity.",
                &SESSION_BUCKETS,
            )?,
            postponements: r.counters(
                "postponements_total",
                "CONNECTs that could not be judged, by the code of what could not be had; closed without an error.",
                &["code"],
            )?,
            refusals: r.counters(
                "refusals_total",
                "Tokens and CONNECTs refused, by the code of the rule that refused.",
                &["code"],
            )?,
            revoked: r.counter(
                "sessions_revoked_total",
                "Live sessions cut because a lock refused their identity.",
            )?,
            locks: r.gauges("locks", "Locks in force, by whom they select.", &["selects"])?,
            locks_failing: r.gauge(
                "locks_failing",
                "1 while the locks cannot be read; those that were read before stay in force.",
            )?,
            denials: r.counters(
                "denials_total",
                "Operations denied in sessions that live on.",
                &["op", "reason"],
            )?,
            observed: r.counters(
                "observed_denials_total",
                "Operations let through in roles of mode observe that enforcing would deny.",
                &["op", "reason"],
            )?,
            messages: r.counters(
                "messages_total",
                "Messages forwarded: in is from client to upstream, out is from upstream to client.",
                &["upstream", "direction"],
            )?,
            bytes: r.counters(
                "message_bytes_total",
                "Payload and header bytes of the messages forwarded.",
                &["upstream", "direction"],
            )?,
            filtered: r.counters(
                "deliveries_filtered_total",
                "Messages of upstream that a deny entry kept from the client.",
                &["upstream"],
            )?,
            upstream_up: r.gauges(
                "upstream_up",
                "1 when the last attempt to reach the upstream succeeded, else 0.",
                &["upstream"],
            )?,
            links_ahead: r.gauges(
                "upstream_links_ahead",
                "Links dialled ahead that wait for a session, while many connect.",
                &["upstream"],
            )?,
            links_ahead_total: r.counters(
                "upstream_links_ahead_total",
                "Links dialled ahead, by what became of them.",
                &["upstream", "result"],
            )?,
            keys: r.gauges("jwks_keys", "Signing keys held.", &["issuer"])?,
            keys_age: r.float_gauges(
                "jwks_age_seconds",
                "Since the issuer's keys were last fetched with success; +Inf before the first.",
                &["issuer"],
            )?,
            key_fetches: r.counters(
                "jwks_fetches_total",
                "Attempts to fetch an issuer's keys.",
                &["issuer", "result"],
            )?,
            graph_requests: r.counters(
                "graph_requests_total",
                "Requests to Microsoft Graph for memberships of groups.",
                &["result"],
            )?,
            graph_cache: r.counters(
                "graph_cache_hits_total",
                "Memberships that were not asked for anew: fresh ones, and stale ones while Graph could not be asked.",
                &["age"],
            )?,
            graph_age: r.float_gauges(
                "graph_age_seconds",
                "Since the last good answer of Microsoft Graph; +Inf before the first, or without entra.graph.",
                &[],
            )?,
            graph_paused: r.float_gauges(
                "graph_paused_seconds",
                "How long Microsoft Graph is not asked, because it throttles us or does not answer.",
                &[],
            )?,
            vault_reads: r.counters(
                "keyvault_reads_total",
                "Scheduled readings of the secrets that lie in a vault.",
                &["result"],
            )?,
            vault_age: r.float_gauges(
                "keyvault_age_seconds",
                "Since the secrets that lie in a vault were last read again; +Inf before the first time.",
                &[],
            )?,
            audit_lines: r.counters(
                "audit_lines_total",
                "Audit lines by what became of them; suppressed ones are counted in a summary line.",
                &["result"],
            )?,
            audit_failing: r.gauge("audit_failing", "1 while the audit cannot be written.")?,
        })
    }
}

/// Makes a family with our prefix and registers it.
struct Register<'a>(&'a Registry);

impl Register<'_> {
    fn add<C: Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> Result<C, MetricsError> {
        let collector = made?;
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.add(IntCounter::with_opts(opts(name, help)))
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, MetricsError> {
        self.add(IntCounterVec::new(opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.add(IntGauge::with_opts(opts(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.add(IntGaugeVec::new(opts(name, help), labels))
    }

    fn float_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, MetricsError> {
        self.add(GaugeVec::new(opts(name, help), labels))
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, MetricsError> {
        self.add(Histogram::with_opts(histogram_opts(name, help, buckets)))
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, MetricsError> {
        self.add(HistogramVec::new(
            histogram_opts(name, help, buckets),
            labels,
        ))
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}

fn histogram_opts(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help)
        .namespace(NAMESPACE)
        .buckets(buckets.to_vec())
}

const NAMESPACE: &str = "natsentry";

/// Seconds. nats-server cuts a link without CONNECT after 2 s by default, so the edges around 2 s are close.
const HANDSHAKE_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0,
];

/// Seconds: a probe, a script, an Entra token's life (about 75 minutes), a shift, a day.
const SESSION_BUCKETS: [f64; 10] = [
    0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 5400.0, 14_400.0, 28_800.0, 86_400.0,
];
