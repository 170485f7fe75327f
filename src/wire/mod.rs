//! The NATS client protocol: frames, the grammar of one control line, the canonical encoder, INFO and CONNECT, and the
//! closed list of `-ERR` texts.

mod quote;
mod reply;

pub use quote::push_quoted;
pub use reply::{ErrText, PermissionsViolation};
