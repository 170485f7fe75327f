//! An operator's locks: standing bans, with an end or without one.
//!
//! Owns: whom a lock selects, what it refuses, how it is written down, and the sentence of its refusal. Must never: read
//! a clock or a file (time and text come in as values), or let somebody in for want of knowing.

mod document;
mod lock;
mod set;
#[cfg(test)]
mod tests;

pub use document::{Document, DocumentError, Lifted, REASON_BYTES_MAX};
pub use lock::{Ban, Lock, Selector, issued_at, printable};
pub use set::{LockSet, Presented};

/// The code of every refusal by a lock: a metric label.
pub const REVOKED: &str = "revoked";
