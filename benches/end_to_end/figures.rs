//! The figures by name, in the order of the report.

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    CpuPerMessage,
    MessagesPerSecond,
    ServerCpu,
    CpuByLines,
    LinesToCanonical,
    RoundTripP50,
    RoundTripP99,
    RequestsPerSecond,
    CpuPerRequest,
    ConnectsPerSecond,
    CpuPerConnect,
    IdleKiB,
    CpuManySubjects,
    CpuManyPublishers,
    ManyPublishersPerSecond,
    Fairness,
    CpuFanOut,
    FanOutPerSecond,
    StormSeconds,
    StormP50,
    StormP99,
    StormConnectP99,
    StormRefused,
    // From here on, of parts that the usual run has not.
    StartMiB,
    ScaleKiB,
    ScaleIdleCpu,
    SubscriptionBytes,
    FleetKiB,
    FleetIdleCpu,
}

impl Figure {
    pub(super) const ALL: [Self; 29] = [
        Self::CpuPerMessage,
        Self::MessagesPerSecond,
        Self::ServerCpu,
        Self::CpuByLines,
        Self::LinesToCanonical,
        Self::RoundTripP50,
        Self::RoundTripP99,
        Self::RequestsPerSecond,
        Self::CpuPerRequest,
        Self::ConnectsPerSecond,
        Self::CpuPerConnect,
        Self::IdleKiB,
        Self::CpuManySubjects,
        Self::CpuManyPublishers,
        Self::ManyPublishersPerSecond,
        Self::Fairness,
        Self::CpuFanOut,
        Self::FanOutPerSecond,
        Self::StormSeconds,
        Self::StormP50,
        Self::StormP99,
        Self::StormConnectP99,
        Self::StormRefused,
        Self::StartMiB,
        Self::ScaleKiB,
        Self::ScaleIdleCpu,
        Self::SubscriptionBytes,
        Self::FleetKiB,
        Self::FleetIdleCpu,
    ];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::CpuPerMessage => "CPU of the proxy, ns per message (published and delivered)",
            Self::MessagesPerSecond => "Messages per second, one publisher and one subscriber",
            Self::ServerCpu => "CPU of nats-server behind it, ns per message",
            Self::CpuByLines => {
                "CPU of the proxy, ns per message of 128 B; by how the publisher writes its lines"
            }
            Self::LinesToCanonical => {
                "The same, over that of canonical lines through the same proxy in the same round"
            }
            Self::RoundTripP50 => "Request and reply through an inbox, 1,000 per second: p50, us",
            Self::RoundTripP99 => "The same: p99, us",
            Self::RequestsPerSecond => {
                "Requests per second; by how many the requester keeps under way"
            }
            Self::CpuPerRequest => "CPU of the proxy, us per request and its reply; likewise",
            Self::ConnectsPerSecond => "Connect, PING, PONG, close: per second, four at a time",
            Self::CpuPerConnect => "CPU of the proxy, us per connect",
            Self::IdleKiB => "Resident memory, KiB per idle session with one subscription",
            Self::CpuManySubjects => {
                "CPU of the proxy, ns per message of 128 B; by the number of subjects in turn"
            }
            Self::CpuManyPublishers => {
                "CPU of the proxy, ns per message of 128 B published to nobody; by the number of publishers at once"
            }
            Self::ManyPublishersPerSecond => "Messages per second of those publishers together",
            Self::Fairness => "Rate of the slowest of those publishers over that of the fastest",
            Self::CpuFanOut => {
                "CPU of the proxy, ns per delivery of 128 B; by the number of subscribers of one subject"
            }
            Self::FanOutPerSecond => "Deliveries per second to those subscribers together",
            Self::StormSeconds => {
                "Clients that come at once: seconds until all are served; by their number"
            }
            Self::StormP50 => "The same: from connecting to PONG, p50, ms",
            Self::StormP99 => "The same: p99, ms",
            Self::StormConnectP99 => "The same: from CONNECT to PONG, p99, ms",
            Self::StormRefused => "The same: clients that were not served",
            Self::StartMiB => "Resident memory before the first session, MiB",
            Self::ScaleKiB => {
                "Resident memory, KiB per idle session with one subscription; by their number"
            }
            Self::ScaleIdleCpu => "CPU of the proxy, ms per second with so many idle sessions",
            Self::SubscriptionBytes => {
                "Resident memory, bytes per subscription; by their number, over a hundred sessions"
            }
            Self::FleetKiB => {
                "Resident memory, KiB per idle session, held by several processes at once; by the number of all of them"
            }
            Self::FleetIdleCpu => "The same: CPU of all proxies together, ms per second",
        }
    }
}
