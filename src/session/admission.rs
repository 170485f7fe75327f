//! What goes out of the session for admission, and what comes back: the session reads CONNECT, whoever drives it asks
//! the token gate, the policy and the upstream, and hands the result in.

use std::sync::Arc;
use std::time::Duration;

use super::event::clip_text;
use crate::identity::Identity;
use crate::locks::{Lock, REVOKED};
use crate::policy::Judge;
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::wire::{Connect, Credential, ServerInfo};

/// Limits on one session. Everything that a peer controls is bounded by one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest control line after CONNECT, in bytes as nats-server counts; its default is 4096.
    pub control_line: usize,
    /// Longest CONNECT, in bytes.
    pub connect_line: usize,
    /// Largest payload in bytes, headers included; the upstream's own limit holds as well.
    pub payload: u32,
    /// Most subscriptions at a time.
    pub subscriptions: usize,
    /// Most bytes of their subjects, queue groups and ids together.
    pub subscription_bytes: usize,
    /// Most bytes of our own (errors, `+OK`) that may wait for a client that does not read.
    pub pending: usize,
    /// From accept to serving.
    pub handshake: Duration,
    /// Longest time that a peer may take to accept what was read for it in one go, and that upstream may take to answer a
    /// client that ended its side.
    pub write_deadline: Duration,
    /// Between `INFO {"ldm":true}` and the end of a session that expires or is drained.
    pub notice: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            control_line: 4096,
            connect_line: 48 * 1024,
            payload: 64 * 1024 * 1024,
            subscriptions: 100_000,
            subscription_bytes: 16 * 1024 * 1024,
            pending: 256 * 1024,
            handshake: Duration::from_secs(10),
            write_deadline: Duration::from_secs(10),
            notice: Duration::from_secs(2),
        }
    }
}

/// What the client said of itself, for the CONNECT that goes upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// Deliver own messages.
    pub echo: bool,
    /// Message headers understood.
    pub headers: bool,
    /// Wants a 503 where nobody answers.
    pub no_responders: bool,
    /// 1 when later INFOs are understood, else 0.
    pub protocol: u8,
    /// Client library, clipped to 32 bytes.
    pub lang: Box<str>,
    /// Its version, clipped to 32 bytes.
    pub version: Box<str>,
    /// Name of the application, clipped to 128 bytes.
    pub name: Box<str>,
}

impl ClientOptions {
    /// Those of a CONNECT.
    pub(super) fn of(connect: &Connect) -> Self {
        Self {
            echo: connect.echo,
            headers: connect.headers,
            no_responders: connect.no_responders,
            protocol: u8::from(connect.protocol >= 1),
            lang: clip_text(&connect.lang, 32).into(),
            version: clip_text(&connect.version, 32).into(),
            name: clip_text(&connect.name, 128).into(),
        }
    }
}

/// Something that the core cannot do itself.
#[derive(Debug)]
pub enum Need {
    /// Judge this CONNECT, bind an upstream connection, and answer with [`super::Session::handle_admitted`],
    /// [`super::Session::handle_refused`], [`super::Session::handle_postponed`] or
    /// [`super::Session::handle_unavailable`].
    Admission(Box<ConnectRequest>),
    /// A second CONNECT on a serving session: judge it and answer likewise, with
    /// [`super::Session::handle_readmitted`] in place of an admission. No upstream connection is to be opened.
    Readmission(Box<ConnectRequest>),
}

/// A CONNECT that asks to be admitted.
#[derive(Debug)]
pub struct ConnectRequest {
    /// The token.
    pub token: Secret,
    /// The field it came in.
    pub credential: Credential,
    /// CONNECT `user`: the role that the client asks for, where it is one.
    pub user: String,
    /// Everything else that matters.
    pub options: ClientOptions,
}

impl ConnectRequest {
    /// None unless there is one token, in one place.
    /// They are taken out of `connect` then.
    pub(super) fn of(connect: &mut Connect, options: &ClientOptions) -> Option<Self> {
        if connect.repeated_credential || is_token(&connect.user) {
            return None;
        }
        let (credential, token) = connect.take_token()?;
        Some(Self {
            token,
            credential,
            user: std::mem::take(&mut connect.user),
            options: options.clone(),
        })
    }

    /// The role that the client asks for by CONNECT `user`, if any.
    pub fn requested_role(&self) -> Option<&str> {
        Some(self.user.as_str()).filter(|user| !user.is_empty())
    }
}

/// Whether the name of a user is a token, as every JWT begins. No role is called so.
pub(super) fn is_token(user: &str) -> bool {
    user.starts_with("eyJ")
}

/// An accepted identity with what it may do.
#[derive(Debug)]
pub struct Admission {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// Roles that apply.
    pub roles: Vec<Arc<str>>,
    /// Name of the upstream.
    pub upstream: Arc<str>,
    /// Address of the upstream server.
    pub server: Box<str>,
    /// Judges every operation.
    pub judge: Judge,
    /// The role's own limits, which narrow the session's.
    pub limits: RoleLimits,
    /// When the session ends at the latest.
    pub ends_at: Timestamp,
    /// The INFO of the upstream connection.
    pub info: Arc<ServerInfo>,
}

/// Limits that a role sets; none means the session's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleLimits {
    /// Largest payload in bytes.
    pub payload: Option<u32>,
    /// Most subscriptions at a time.
    pub subscriptions: Option<usize>,
    /// Messages from the client per second.
    pub messages_per_second: Option<u64>,
    /// Payload bytes from the client per second.
    pub bytes_per_second: Option<u64>,
}

/// Why a token was refused: for the log and the audit, never for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Closed set; a metric label.
    pub code: &'static str,
    /// What to do about it.
    pub sentence: Box<str>,
}

impl Refusal {
    /// The refusal of an identity that a lock selects.
    pub fn by_lock(lock: &Lock, identity: &Identity) -> Self {
        Self {
            code: REVOKED,
            sentence: lock.sentence(identity).into(),
        }
    }
}
