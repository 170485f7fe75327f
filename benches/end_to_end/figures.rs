//! The figures by name, in the order of the report.

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    CpuPerMessage,
    MessagesPerSecond,
    ServerCpu,
    RoundTripP50,
    RoundTripP99,
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
    StartMiB,
    ScaleKiB,
    ScaleIdleCpu,
    SubscriptionBytes,
}

impl Figure {
    pub(super) const ALL: [Self; 23] = [
        Self::CpuPerMessage,
        Self::MessagesPerSecond,
        Self::ServerCpu,
        Self::RoundTripP50,
        Self::RoundTripP99,
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
    ];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::CpuPerMessage => "CPU of the proxy, ns per message (published and delivered)",
            Self::MessagesPerSecond => "Messages per second, one publisher and one subscriber",
            Self::ServerCpu => "CPU of nats-server behind it, ns per message",
            Self::RoundTripP50 => "Round trip, p50, us",
            Self::RoundTripP99 => "Round trip, p99, us",
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
            Self::StormRefused => "The same: refused",
            Self::StartMiB => "Resident memory before the first session, MiB",
            Self::ScaleKiB => {
                "Resident memory, KiB per idle session with one subscription; by their number"
            }
            Self::ScaleIdleCpu => "CPU of the proxy, ms per second with so many idle sessions",
            Self::SubscriptionBytes => {
                "Resident memory, bytes per subscription; by their number, over a hundred sessions"
            }
        }
    }
}
