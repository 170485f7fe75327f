//! `CloseReason`: the only way a session ends. Blame, wire answer, metric label and audit code in one match.

use crate::wire::ErrText;

/// Whose doing the end of a session was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The client asked for it or broke the protocol.
    Client,
    /// The NATS server behind us.
    Upstream,
    /// natsentry itself or what it depends on (Entra, Graph, limits of this machine).
    Proxy,
    /// A person: drain, kill, lock, policy reload.
    Operator,
}

impl Blame {
    /// Label for metrics and audit.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Proxy => "proxy",
            Self::Operator => "operator",
        }
    }
}

/// Why a session ended. Every variant says who is to blame, what the client is told and how it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed its side after everything it sent was forwarded.
    ClientClosed,
    /// Reading from or writing to the client failed, or its TLS handshake did.
    ClientLost,
    /// The client did not read fast enough: bytes waiting for it passed `limits.pending` or the write deadline. Or
    /// it let memory wait for the rest of an operation while there was none for others (`limits.memory`).
    ClientSlow,
    /// The TCP connection was opened and nothing of NATS was said before it closed (a probe).
    ClientSilent,
    /// Token refused, no role, account field, route or leaf posing as a client, operation before CONNECT.
    Unauthorized,
    /// No CONNECT within `limits.handshake`.
    AuthenticationTimeout,
    /// The parser did not know the operation, or a payload did not end in CR LF.
    UnknownOperation,
    /// A line that nats-server answers with a silent close: argument count, sizes, JSON, lone CR.
    Malformed,
    /// A control line longer than `limits.control_line`.
    ControlLineTooLong,
    /// A CONNECT longer than `limits.connect_line`.
    ConnectLineTooLong,
    /// A payload larger than the limit in INFO.
    PayloadTooLarge,
    /// `protocol` outside 0..=1 in CONNECT.
    InvalidClientProtocol,
    /// `no_responders` without `headers` in CONNECT.
    NoRespondersWithoutHeaders,
    /// HPUB although CONNECT said no headers, or upstream has none.
    HeadersNotSupported,
    /// The client did not answer PINGs.
    StaleClient,
    /// The token's `exp` or `entra.max_session` passed.
    Expired,
    /// An operator's lock came over a live session, or Entra took the identity away.
    Revoked,
    /// A policy change left the identity without any role.
    RoleLost,
    /// An operator ended this one session.
    Killed,
    /// natsentry is shutting down or an operator drains it.
    Drained,
    /// No upstream of the role could be reached or would take our credentials.
    UpstreamUnavailable,
    /// The upstream closed a serving session.
    UpstreamClosed,
    /// The upstream said `-ERR` and closed.
    UpstreamError,
    /// The upstream sent bytes that are not NATS.
    UpstreamProtocol,
    /// The upstream did not read fast enough within the write deadline.
    UpstreamSlow,
    /// Keys or group membership could not be had, so nothing can be said about the token.
    IdentityUnavailable,
    /// A limit on connections (in all, per address, per role) was reached.
    Overloaded,
    /// The role's connection limit was reached.
    TooManyConnections,
}

impl CloseReason {
    /// Every reason, in declaration order, so that metrics can make all label values beforehand.
    pub const ALL: [Self; 28] = [
        Self::ClientClosed,
        Self::ClientLost,
        Self::ClientSlow,
        Self::ClientSilent,
        Self::Unauthorized,
        Self::AuthenticationTimeout,
        Self::UnknownOperation,
        Self::Malformed,
        Self::ControlLineTooLong,
        Self::ConnectLineTooLong,
        Self::PayloadTooLarge,
        Self::InvalidClientProtocol,
        Self::NoRespondersWithoutHeaders,
        Self::HeadersNotSupported,
        Self::StaleClient,
        Self::Expired,
        Self::Revoked,
        Self::RoleLost,
        Self::Killed,
        Self::Drained,
        Self::UpstreamUnavailable,
        Self::UpstreamClosed,
        Self::UpstreamError,
        Self::UpstreamProtocol,
        Self::UpstreamSlow,
        Self::IdentityUnavailable,
        Self::Overloaded,
        Self::TooManyConnections,
    ];

    /// The one match: who is to blame, the metric label and audit code, and what the client is told.
    const fn facts(self) -> (Blame, &'static str, Farewell) {
        use Blame::{Client, Operator, Proxy, Upstream};
        use Farewell::{Error, LameDuck, Silent};
        match self {
            Self::ClientClosed => (Client, "client_closed", Silent),
            Self::ClientLost => (Client, "client_lost", Silent),
            Self::ClientSlow => (Client, "client_slow", Silent),
            Self::ClientSilent => (Client, "client_silent", Silent),
            Self::Unauthorized => (
                Client,
                "unauthorized",
                Error(ErrText::AuthorizationViolation),
            ),
            Self::AuthenticationTimeout => (
                Client,
                "authentication_timeout",
                Error(ErrText::AuthenticationTimeout),
            ),
            Self::UnknownOperation => (
                Client,
                "unknown_operation",
                Error(ErrText::UnknownProtocolOperation),
            ),
            Self::Malformed => (Client, "malformed", Silent),
            Self::ControlLineTooLong => (
                Client,
                "control_line_too_long",
                Error(ErrText::MaximumControlLineExceeded),
            ),
            Self::ConnectLineTooLong => (
                Client,
                "connect_line_too_long",
                Error(ErrText::MaximumControlLineExceeded),
            ),
            Self::PayloadTooLarge => (
                Client,
                "payload_too_large",
                Error(ErrText::MaximumPayloadViolation),
            ),
            Self::InvalidClientProtocol => (
                Client,
                "invalid_client_protocol",
                Error(ErrText::InvalidClientProtocol),
            ),
            Self::NoRespondersWithoutHeaders => (
                Client,
                "no_responders_without_headers",
                Error(ErrText::NoRespondersRequiresHeaders),
            ),
            Self::HeadersNotSupported => (Client, "headers_not_supported", Silent),
            Self::StaleClient => (Client, "stale_client", Error(ErrText::StaleConnection)),
            Self::Expired => (Client, "expired", LameDuck),
            Self::Revoked => (
                Operator,
                "revoked",
                Error(ErrText::UserAuthenticationRevoked),
            ),
            Self::RoleLost => (
                Operator,
                "role_lost",
                Error(ErrText::AuthorizationViolation),
            ),
            Self::Killed => (Operator, "killed", Silent),
            Self::Drained => (Operator, "drained", LameDuck),
            Self::UpstreamUnavailable => (Upstream, "upstream_unavailable", Silent),
            Self::UpstreamClosed => (Upstream, "upstream_closed", Silent),
            Self::UpstreamError => (Upstream, "upstream_error", Silent),
            Self::UpstreamProtocol => (Upstream, "upstream_protocol", Silent),
            Self::UpstreamSlow => (Upstream, "upstream_slow", Silent),
            Self::IdentityUnavailable => (Proxy, "identity_unavailable", Silent),
            Self::Overloaded => (Proxy, "overloaded", Silent),
            Self::TooManyConnections => (Proxy, "too_many_connections", Silent),
        }
    }

    /// Whose doing it was.
    pub const fn blame(self) -> Blame {
        self.facts().0
    }

    /// Metric label and audit code: lower case words joined by underscores; part of the public interface.
    pub const fn label(self) -> &'static str {
        self.facts().1
    }

    /// For whoever reads log or audit, where the peer hears nothing that helps: what was wrong, and what to change.
    pub const fn advice(self) -> Option<&'static str> {
        match self {
            Self::HeadersNotSupported => Some(
                "a message came with headers, although the client's CONNECT said that it has none, or INFO that the server takes none: \
                 nats-server has headers from 2.2, with `no_header_support` off",
            ),
            Self::ControlLineTooLong => Some(
                "a subject, reply or queue is longer than limits.control_line, which is to be that of the server (max_control_line)",
            ),
            Self::PayloadTooLarge => Some(
                "a message is larger than the max_payload of INFO: the least of the server's, limits.payload and that of the roles",
            ),
            _ => None,
        }
    }

    /// What the client is told.
    pub const fn farewell(self) -> Farewell {
        self.facts().2
    }

    /// How long its socket is kept once that was written.
    pub const fn parting(self) -> Parting {
        match self {
            Self::Overloaded => Parting::AtOnce,
            Self::IdentityUnavailable => Parting::Shut,
            _ => Parting::Linger,
        }
    }
}

/// How a client's connection is left once the last thing was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Nothing was said that the peer could miss, and somebody waits for the slot.
    AtOnce,
    /// Our side is ended and nobody is waited for, unless there was an upstream: whoever makes up names of keys costs no more.
    Shut,
    /// Our side is ended, and what the peer still sends is read for a moment: closing a socket with unread bytes would
    /// reset the connection, and the peer could lose what was written last.
    Linger,
}

/// The last thing a client sees before its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Nothing: official clients back off and come back.
    Silent,
    /// `-ERR` with a text that nats-server has.
    Error(ErrText),
    /// `INFO {"ldm":true}`, a moment, then close: official clients reconnect with a fresh token.
    LameDuck,
}
