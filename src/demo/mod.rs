//! The development side.

pub mod idp;
