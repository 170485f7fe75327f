//! Dials against real nats-servers, and against servers that misbehave.
#![cfg(feature = "demo")]

mod auth;
mod certificates;
mod failures;
mod health;
mod jwt;
mod proxied;
mod support;
mod tls;
