//! The session: a sans-IO state machine between one client and one upstream connection.

mod close;
mod event;

pub use close::{Blame, CloseReason, Farewell};
pub use event::{Closed, Connected, Denied, Event, EventKind, Operation, SessionId, Traffic};
