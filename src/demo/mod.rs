//! The development side: everything that lets a person, or a test, see natsentry work on one machine.
//!
//! Packages and containers are built without it, so that nothing that mints tokens or fetches programs ships.

pub mod idp;
pub mod provision;
pub mod servers;
