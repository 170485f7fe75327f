//! `limits`: a bound on everything that a peer controls.
//!
//! Owns: names, defaults and allowed ranges. Must never: enforce one; each layer enforces its own.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::units::{ByteSize, HumanDuration};

/// Bounds on everything that a peer controls. A role may set smaller ones for its sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Client connections at a time. Each needs two file descriptors.
    pub connections: u32,
    /// Client connections at a time from one address; all addresses of an IPv6 /64 count as one.
    pub connections_per_address: u32,
    /// Connections at a time that have not said CONNECT yet; one more closes the one that has waited longest.
    pub handshakes: u32,
    /// From accept to the first PONG: TLS, CONNECT, token and upstream together.
    pub handshake: HumanDuration,
    /// Longest CONNECT line; tokens of people with many groups are long.
    pub connect_line: ByteSize,
    /// Longest other line; as nats-server's `max_control_line`.
    pub control_line: ByteSize,
    /// Largest message, headers included; the upstream's own `max_payload` holds besides.
    pub payload: ByteSize,
    /// Subscriptions of one session.
    pub subscriptions: u32,
    /// Subjects, queue groups and ids of the subscriptions of one session, together.
    pub subscription_bytes: ByteSize,
    /// Bytes of natsentry's own (errors, `+OK`) that may wait for a client before it is read no further.
    pub pending: ByteSize,
    /// Bytes that all sessions together may hold of what peers send, make natsentry say or make it remember. Beside it each
    /// connection has small buffers and a few subscriptions in any case.
    pub memory: ByteSize,
    /// How long a peer may take to accept what was read for it in one go, or 256 KiB of it; as nats-server's `write_deadline`. Also
    /// how long upstream may take to answer a client that has ended its side.
    pub write_deadline: HumanDuration,
    /// For connecting to an upstream, all its servers together.
    pub dial: HumanDuration,
    /// How long sessions may take to leave after SIGTERM before they are cut.
    pub drain: HumanDuration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = |count| HumanDuration::new(Duration::from_secs(count));
        Self {
            connections: 65_536,
            connections_per_address: 4_096,
            handshakes: 16_384,
            handshake: seconds(5),
            connect_line: ByteSize::new(48 << 10),
            control_line: ByteSize::new(4096),
            payload: ByteSize::new(1 << 20),
            subscriptions: 65_536,
            subscription_bytes: ByteSize::new(16 << 20),
            pending: ByteSize::new(1 << 20),
            memory: ByteSize::new(1 << 30),
            write_deadline: seconds(10),
            dial: seconds(5),
            drain: seconds(30),
        }
    }
}

impl Limits {
    /// Keys whose values lie outside of what makes sense, each with the range to stay in.
    pub(in crate::config) fn out_of_range(&self) -> Vec<(&'static str, String)> {
        let count = |key, value: u32, least: u32, most: u32| {
            (!(least..=most).contains(&value)).then(|| {
                (
                    key,
                    format!("{value} is out of range; write {least} to {most}"),
                )
            })
        };
        let size = |key, value: ByteSize, least: ByteSize, most: ByteSize| {
            (!(least..=most).contains(&value)).then(|| {
                (
                    key,
                    format!("{value} is out of range; write {least} to {most}"),
                )
            })
        };
        let time = |key, value: HumanDuration, least: u64, most: u64| {
            let least = HumanDuration::new(Duration::from_millis(least));
            let most = HumanDuration::new(Duration::from_millis(most));
            (!(least..=most).contains(&value)).then(|| {
                (
                    key,
                    format!("{value} is out of range; write {least} to {most}"),
                )
            })
        };
        let kib = |count: u64| ByteSize::new(count << 10);
        [
            count("connections", self.connections, 1, 10_000_000),
            count(
                "connections_per_address",
                self.connections_per_address,
                1,
                10_000_000,
            ),
            count("handshakes", self.handshakes, 1, 10_000_000),
            time("handshake", self.handshake, 100, 60_000),
            size("connect_line", self.connect_line, kib(2), kib(1024)),
            size(
                "control_line",
                self.control_line,
                ByteSize::new(512),
                kib(64),
            ),
            size("payload", self.payload, ByteSize::new(1), kib(64 << 10)),
            count("subscriptions", self.subscriptions, 1, 10_000_000),
            size(
                "subscription_bytes",
                self.subscription_bytes,
                kib(4),
                kib(1 << 20),
            ),
            size("pending", self.pending, kib(64), kib(1 << 20)),
            size("memory", self.memory, kib(16 << 10), kib(1 << 30)),
            time("write_deadline", self.write_deadline, 100, 600_000),
            time("dial", self.dial, 100, 60_000),
            time("drain", self.drain, 0, 3_600_000),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
