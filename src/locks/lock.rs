//! One lock: whom it selects, what it refuses and until when.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::set::Presented;
use crate::identity::{Identity, is_guid};
use crate::time::Timestamp;

/// Whom a lock selects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// One identity, whatever kind of token it brings: the object id within its tenant.
    Identity {
        /// Tenant id; of another issuer, its URL.
        tid: Box<str>,
        /// Object id; of another issuer, its `sub`.
        oid: Box<str>,
    },
    /// Everybody who comes through a client application, and the application itself: `azp` or `appid`.
    Client(Box<str>),
    /// One token, by its `uti` (`jti` of another issuer); letter case counts.
    Token(Box<str>),
    /// Every session in which a role applies.
    Role(Box<str>),
    /// Everybody.
    Everybody,
}

impl Selector {
    /// One identity. GUIDs count without letter case, which tokens write in one way and people in two.
    pub fn identity(tid: &str, oid: &str) -> Self {
        Self::Identity {
            tid: folded(tid),
            oid: folded(oid),
        }
    }

    /// A client application, likewise.
    pub fn client(azp: &str) -> Self {
        Self::Client(folded(azp))
    }

    /// Metric label; a closed set.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Identity { .. } => "identity",
            Self::Client(_) => "client",
            Self::Token(_) => "token",
            Self::Role(_) => "role",
            Self::Everybody => "everybody",
        }
    }

    /// Every label.
    pub const LABELS: [&'static str; 5] = ["identity", "client", "token", "role", "everybody"];
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity { tid, oid } => {
                write!(f, "identity {}/{}", printable(tid), printable(oid))
            }
            Self::Client(azp) => write!(f, "client application {}", printable(azp)),
            Self::Token(uti) => write!(f, "token {}", printable(uti)),
            Self::Role(role) => write!(f, "role {}", printable(role)),
            Self::Everybody => f.write_str("everybody"),
        }
    }
}

/// GUIDs in lower case, anything else as it is.
pub(super) fn folded(text: &str) -> Box<str> {
    let lower = text.to_ascii_lowercase();
    if is_guid(&lower) {
        lower.into()
    } else {
        text.into()
    }
}

/// What a lock refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ban {
    /// Whoever is selected.
    Everything,
    /// Tokens that were issued before this moment; who signs in again is admitted.
    TokensBefore(Timestamp),
}

/// A standing ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Names it in commands, log and audit; unique in its file.
    pub id: Box<str>,
    /// Whom it selects.
    pub selector: Selector,
    /// What it refuses them.
    pub ban: Ban,
    /// When it ends; none: when somebody takes it away.
    pub until: Option<Timestamp>,
    /// When it was made.
    pub at: Timestamp,
    /// Who made it, as that machine knows them.
    pub by: Box<str>,
    /// Why, for people.
    pub reason: Box<str>,
}

impl Lock {
    /// Whether it has not ended.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it refuses somebody whom it selects.
    pub(super) fn refuses(&self, who: &Presented<'_>) -> bool {
        self.is_in_force(who.now)
            && match self.ban {
                Ban::Everything => true,
                Ban::TokensBefore(cut) => {
                    // A token that was shown before the moment was issued before it, whatever it says.
                    issued_at(who.identity) < cut || who.shown_at.is_some_and(|shown| shown < cut)
                }
            }
    }

    /// The sentence of a refusal: what was found and what to do. For log, audit and commands, never for the client.
    pub fn sentence(&self, identity: &Identity) -> String {
        let mut text = match self.ban {
            Ban::Everything => format!("an operator locked {}", self.selector),
            Ban::TokensBefore(cut) => format!(
                "an operator refuses tokens of {} from before {cut}, and this one counts as of {}: sign in again, and the \
                 next one is accepted",
                self.selector,
                issued_at(identity)
            ),
        };
        // Writing to a String cannot fail.
        let _ = write!(text, " ({self})");
        let id = printable(&self.id);
        let _ = match self.until {
            Some(until) => write!(
                text,
                ". It ends {until}; to end it now: natsentry unlock {id}"
            ),
            None => write!(text, ". To end it: natsentry unlock {id}"),
        };
        text
    }
}

impl fmt::Display for Lock {
    /// `lock 3f9c1a2b of 2026-11-28T04:00:00.000Z by root@host: laptop stolen`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lock {} of {}", printable(&self.id), self.at)?;
        if !self.by.is_empty() {
            write!(f, " by {}", printable(&self.by))?;
        }
        if !self.reason.is_empty() {
            write!(f, ": {}", printable(&self.reason))?;
        }
        Ok(())
    }
}

/// Entra writes an issue time that lies so far before the real one (`iat` and `nbf`; "about five minutes").
const BACKDATED: Duration = Duration::from_secs(300);

/// When a token counts as issued: at the sign-in where it says when that was, so that a stolen refresh token does not help;
/// else at its `iat`, which Entra backdates.
pub fn issued_at(identity: &Identity) -> Timestamp {
    match identity.auth_time {
        Some(at) => at,
        None if is_guid(&identity.tid) => identity.issued_at.plus(BACKDATED),
        None => identity.issued_at,
    }
}

/// Text of people on one line of a log or a terminal: `?` for whatever could begin a line or steer a terminal, `'` for
/// the quotation mark.
pub fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| match c {
            c if steers(c) => '?',
            '"' => '\'',
            c => c,
        })
        .collect()
}
