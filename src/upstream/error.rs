//! Why a dial failed, in words for the operator. The client is never told: whatever it is, it sees a silent close,
//! because official clients stop for good on an authorization error that is not about them.

use std::time::Duration;

/// The step of a dial at which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Looking up the host name.
    Resolve,
    /// TCP.
    Connect,
    /// Waiting for INFO.
    Info,
    /// The TLS handshake.
    Tls,
    /// Waiting for the answer to CONNECT.
    Auth,
}

impl Step {
    const fn words(self) -> &'static str {
        match self {
            Self::Resolve => "while its name was looked up",
            Self::Connect => "to the TCP connection",
            Self::Info => {
                "before it sent INFO (a server with TLS `handshake_first` needs a tls:// address and `first: auto` or `yes`)"
            }
            Self::Tls => "in the TLS handshake",
            Self::Auth => "to CONNECT",
        }
    }
}

/// Why there is no link. `Display` names the server and says what to do; no secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// No upstream of that name.
    #[error("there is no upstream named `{upstream}`; add it under `upstreams`")]
    UnknownUpstream {
        /// The name asked for.
        upstream: String,
    },
    /// Every server failed lately and is being probed; nothing was tried for this client.
    #[error("no server of upstream `{upstream}` is available now; last: {last}")]
    Down {
        /// The upstream.
        upstream: String,
        /// What the last server said.
        last: String,
    },
    /// Name resolution failed.
    #[error(
        "{server}: its name cannot be resolved ({detail}); check the name and this machine's DNS"
    )]
    Resolve {
        /// The server.
        server: String,
        /// What the resolver says.
        detail: String,
    },
    /// No TCP connection.
    #[error(
        "{server}: no connection ({detail}); check that it runs and that a firewall lets us through"
    )]
    Unreachable {
        /// The server.
        server: String,
        /// What the operating system says.
        detail: String,
    },
    /// This machine is out of sockets, ports or memory.
    #[error(
        "{server}: this machine cannot open a connection ({detail}); raise the limit of open files or free ports"
    )]
    Local {
        /// The server.
        server: String,
        /// What the operating system says.
        detail: String,
    },
    /// Nothing came in time.
    #[error("{server}: no answer within {} ms {}", limit.as_millis(), step.words())]
    Timeout {
        /// The server.
        server: String,
        /// For what it had time.
        step: Step,
        /// How much time that was.
        limit: Duration,
    },
    /// The server closed, or the connection broke, in the middle of the dial.
    #[error("{server}: the connection ended {} ({detail})", step.words())]
    Closed {
        /// The server.
        server: String,
        /// Where.
        step: Step,
        /// What the operating system says.
        detail: String,
    },
    /// TLS failed.
    #[error("{server}: TLS failed ({detail})")]
    Tls {
        /// The server.
        server: String,
        /// What rustls says, and what to do.
        detail: String,
    },
    /// What came is not the NATS protocol.
    #[error("{server}: this is not a NATS server we understand ({detail}); check address and port")]
    Protocol {
        /// The server.
        server: String,
        /// What came instead.
        detail: String,
    },
    /// The server will not take our credentials.
    #[error(
        "{server} refused our credentials ({text}); check `auth` of this upstream and the users of that server"
    )]
    Refused {
        /// The server.
        server: String,
        /// Its `-ERR` text, clipped.
        text: String,
    },
    /// The server accepts nobody more, or said another `-ERR`.
    #[error("{server} turned us away ({text})")]
    TurnedAway {
        /// The server.
        server: String,
        /// Its `-ERR` text, clipped.
        text: String,
    },
    /// Our credentials cannot be used with this server.
    #[error("{server}: our credentials cannot be used there: {problem}")]
    Credentials {
        /// The server.
        server: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The server is about to stop.
    #[error("{server} is in lame duck mode: it is being shut down and takes no new connections")]
    LameDuck {
        /// The server.
        server: String,
    },
}

impl DialError {
    /// Metric label, a closed set.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::UnknownUpstream { .. } => "unknown",
            Self::Down { .. } => "down",
            Self::Resolve { .. } => "resolve",
            Self::Unreachable { .. } => "unreachable",
            Self::Local { .. } => "local",
            Self::Timeout { .. } => "timeout",
            Self::Closed { .. } => "closed",
            Self::Tls { .. } => "tls",
            Self::Protocol { .. } => "protocol",
            Self::Refused { .. } => "refused",
            Self::TurnedAway { .. } => "turned_away",
            Self::Credentials { .. } => "credentials",
            Self::LameDuck { .. } => "lame_duck",
        }
    }

    /// Every label, for metrics that exist from the start.
    pub const LABELS: [&'static str; 13] = [
        "unknown",
        "down",
        "resolve",
        "unreachable",
        "local",
        "timeout",
        "closed",
        "tls",
        "protocol",
        "refused",
        "turned_away",
        "credentials",
        "lame_duck",
    ];

    /// Whether it may be about the one connection, so that another one may do better: it ended, fell silent, or was given
    /// up by the server, as one is that waited for too long.
    pub(super) const fn is_of_the_connection(&self) -> bool {
        matches!(
            self,
            Self::Closed { .. } | Self::Timeout { .. } | Self::TurnedAway { .. }
        )
    }

    /// Whether only a person can mend it: no use in trying again every second.
    pub(super) const fn needs_a_person(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Credentials { .. } | Self::Tls { .. }
        )
    }

    /// Which of several failures says most about what is wrong.
    pub(super) const fn weight(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::Credentials { .. } => 5,
            Self::Tls { .. } | Self::Local { .. } => 4,
            Self::Protocol { .. } | Self::TurnedAway { .. } => 3,
            Self::Timeout { .. } | Self::Closed { .. } | Self::Resolve { .. } => 2,
            Self::Unreachable { .. } | Self::LameDuck { .. } => 1,
            Self::Down { .. } | Self::UnknownUpstream { .. } => 0,
        }
    }
}
