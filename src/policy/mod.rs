//! What an identity may do: the policy document as written, compiled permissions, and the judge of each operation.
//!
//! Owns: roles, grants, templates, streams, key-value buckets and object stores as subjects. Must never: read a clock,
//! open a file, or let anything through that no role grants.

mod assign;
mod cache;
mod compile;
pub mod document;
mod explain;
mod hearing;
mod inbox;
mod judge;
mod kv;
mod object;
mod open;
mod places;
mod queues;
mod refusal;
mod require;
mod reserved;
mod responses;
mod rights;
mod role;
mod selftest;
mod standings;
mod streams;
mod template;
#[cfg(test)]
mod tests;
pub mod units;
mod verdict;

pub use crate::wire::SideChannel;
pub use assign::{Assignment, Circumstances, SessionLimits, Vanished};
pub use compile::{Mistake, Policy};
pub use document::Document;
pub use explain::Explanation;
pub use hearing::{HeardGround, Hearing};
pub use inbox::InboxRegistry;
pub use judge::Judge;
pub use open::OpenGround;
pub use refusal::Refusal;
pub use rights::Permissions;
pub use standings::RoleStanding;
pub use verdict::{Denial, DenialReason, Permit, SubscribePermit};
