//! What a live session holds of the metrics: counters resolved once, and gauges that fall when it ends.

use std::sync::Arc;

use prometheus::{IntCounter, IntGauge};

use crate::session::Traffic;

/// Adds what passed since the last flush. One call a turn of the pump, not one a message.
pub fn add_traffic(handles: &TrafficHandles, delta: Traffic) {
    let counters = &*handles.0;
    add(&counters.messages_in, delta.messages_in);
    add(&counters.bytes_in, delta.bytes_in);
    add(&counters.messages_out, delta.messages_out);
    add(&counters.bytes_out, delta.bytes_out);
    add(&counters.filtered, delta.filtered);
}

/// One live session in the gauges; leaving the scope takes it out again, however the session ends.
pub struct SessionMetrics {
    pub(super) _live: Box<[Raised]>,
    /// Where its traffic is counted.
    pub traffic: TrafficHandles,
}

/// Resolved counters of one upstream's traffic.
#[derive(Clone)]
pub struct TrafficHandles(pub(super) Arc<TrafficCounters>);

pub(super) struct TrafficCounters {
    pub(super) messages_in: IntCounter,
    pub(super) messages_out: IntCounter,
    pub(super) bytes_in: IntCounter,
    pub(super) bytes_out: IntCounter,
    pub(super) filtered: IntCounter,
}

/// A gauge raised by one until this is dropped.
pub struct Raised(IntGauge);

impl Raised {
    pub(super) fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

pub(super) fn add(counter: &IntCounter, delta: u64) {
    if delta > 0 {
        counter.inc_by(delta);
    }
}

/// Brings a counter up to a total that somebody else keeps.
pub(super) fn raise_to(counter: &IntCounter, total: u64) {
    add(counter, total.saturating_sub(counter.get()));
}
