//! What operators, and the process on its own, do to sessions and policy.

use crate::time::Timestamp;

/// What an operator, or the process on its own, did.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: ActKind,
    /// Whose doing: a signal, a user of the admin interface, `file` for a changed file.
    pub by: &'a str,
    /// More, for people.
    pub detail: &'a str,
}

/// The kinds of act; a closed set, since readers of the audit filter by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActKind {
    /// The process began to serve.
    Started,
    /// The process ends.
    Stopped,
    /// Drain was asked for.
    Draining,
    /// A new policy is in force.
    PolicyReloaded,
    /// A new policy was rejected; the old one stays.
    PolicyRejected,
    /// Secrets were read from the vault that are not those of before.
    SecretsRotated,
    /// One session was ended.
    SessionKilled,
    /// A lock is in force, and nothing passes any more that it refuses.
    Locked,
    /// A lock is in force no longer: taken away, or ended.
    Unlocked,
    /// A changed list of locks cannot be read; the old one stays in force.
    LocksRejected,
}

impl ActKind {
    /// The `event` of its line.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Draining => "draining",
            Self::PolicyReloaded => "policy_reloaded",
            Self::PolicyRejected => "policy_rejected",
            Self::SecretsRotated => "secrets_rotated",
            Self::SessionKilled => "session_killed",
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
            Self::LocksRejected => "locks_rejected",
        }
    }
}
