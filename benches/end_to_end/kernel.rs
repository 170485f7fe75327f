//! What Linux says about its network: counters that tell whether the machine, and not a contender, was in the way.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

/// Counters of TCP since boot.
pub(crate) struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// From `/proc/net/netstat` and `/proc/net/snmp`: pairs of lines, names and values. What cannot be read is missing.
    pub(crate) fn read() -> Self {
        let text = ["/proc/net/netstat", "/proc/net/snmp"]
            .map(|path| fs::read_to_string(path).unwrap_or_default())
            .concat();
        Self::parse(&text)
    }

    pub(crate) fn parse(text: &str) -> Self {
        let lines: Vec<_> = text.lines().collect();
        let mut all = BTreeMap::new();
        for pair in lines.chunks_exact(2) {
            let [names, values] = pair else { continue };
            if !names.starts_with("Tcp") {
                continue;
            }
            let (names, values) = (names.split_whitespace(), values.split_whitespace());
            for (name, value) in names.zip(values).skip(1) {
                if let Ok(value) = value.parse() {
                    all.insert(name.to_owned(), value);
                }
            }
        }
        Self(all)
    }

    /// Those of the counters that tell of a connection in trouble, and that grew.
    pub(crate) fn grown_since(&self, before: &Self) -> Vec<(&'static str, u64)> {
        let value = |counters: &Self, name: &str| counters.0.get(name).copied().unwrap_or(0);
        TROUBLES
            .iter()
            .map(|name| (*name, value(self, name).saturating_sub(value(before, name))))
            .filter(|(_, grown)| *grown > 0)
            .collect()
    }
}

/// Queues of listeners that ran over, SYNs that were sent again, attempts that failed.
const TROUBLES: [&str; 9] = [
    "ListenOverflows",
    "ListenDrops",
    "TCPReqQFullDrop",
    "TCPReqQFullDoCookies",
    "TCPSynRetrans",
    "TCPTimeouts",
    "AttemptFails",
    "TCPAbortOnMemory",
    "TCPTimeWaitOverflow",
];

/// Closed connections that still hold their ports.
pub(crate) fn time_wait() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let after = text.split_once(" tw ").map_or("", |(_, after)| after);
    let count = after.split_whitespace().next();
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Connections that a proxy can have to one address of a server: each takes a local port.
pub(crate) fn local_ports() -> Result<usize> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let mut ends = text.split_whitespace().map(str::parse::<usize>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else {
        anyhow::bail!("no range of local ports: {text}");
    };
    // Some are taken by others, or were used a moment ago.
    Ok(last.saturating_sub(first).saturating_sub(1_000))
}

/// How many files a child of ours may have open.
pub(crate) fn open_files() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/limits")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line
        .and_then(|line| line.split_whitespace().next())
        .context("no limit")?;
    Ok(soft.parse()?)
}

/// The limits that many connections at once may run into.
pub(crate) fn limits() -> String {
    let mut limits: Vec<_> = [
        "core/somaxconn",
        "ipv4/tcp_max_syn_backlog",
        "ipv4/tcp_abort_on_overflow",
        "ipv4/ip_local_port_range",
        "ipv4/tcp_tw_reuse",
    ]
    .iter()
    .filter_map(|name| {
        let value = fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
        let (_, name) = name.split_once('/')?;
        let words: Vec<_> = value.split_whitespace().collect();
        Some(format!("{name} {}", words.join(" to ")))
    })
    .collect();
    if let Ok(files) = open_files() {
        limits.push(format!("open files {files}"));
    }
    limits.join(", ")
}
