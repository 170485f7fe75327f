//! What an identity may do: the policy document as written, compiled permissions, and the judge of each operation.
//!
//! Owns: roles, grants, templates, streams, key-value buckets and object stores as subjects. Must never: read a clock,
//! open a file, or let anything through that no role grants.

mod verdict;

pub use verdict::{Denial, DenialReason, Permit, SubscribePermit};
