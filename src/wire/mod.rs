//! The NATS client protocol: frames, the grammar of one control line, the canonical encoder, INFO and CONNECT, and the
//! closed list of `-ERR` texts.
//!
//! Must never: hold state, know a policy, or read a payload (header blocks excepted).

pub(crate) mod canonical;
mod client_info;
mod connect;
pub mod encode;
mod foreign_info;
mod frame;
mod grammar;
mod headers;
mod info;
mod op;
mod quote;
mod reconnect;
mod reply;

pub use client_info::{ClientInfo, Listener};
pub use connect::{Connect, ConnectFault, Credential, fold_key};
pub use foreign_info::is_taken as is_info_taken;
pub use frame::{
    Frame, LineFault, LineLimits, SERVER_LINE_MAX, decode_client, decode_server, skip_tail,
};
pub use headers::{SideChannel, rolls_up_everything, side_channels};
pub use info::{InfoFault, ServerInfo};
pub use op::{ClientOp, Message, Publish, ServerOp};
pub use quote::push_quoted;
pub use reconnect::Reconnect;
pub use reply::{ErrText, PermissionsViolation};
