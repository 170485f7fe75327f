//! What the integration tests stand on: real servers, real clients, and the wires between them.
//!
//! Nothing here judges; it starts things, hands out addresses, and cleans up. Whatever cannot be had is a failure of
//! the test that needs it.
#![allow(dead_code, reason = "every test program uses a part of it")]

pub mod binary;
pub mod cli;
pub mod documents;
pub mod gate;
pub mod issuer;
pub mod plant;
pub mod proxy;
pub mod relay;
pub mod servers;
pub mod tap;
pub mod tokens;
pub mod tools;
pub mod until;
pub mod wire;
