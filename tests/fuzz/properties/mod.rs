//! What must hold for every input, one function for each fuzz target. libFuzzer calls them from `fuzz_targets`, and
//! `tests/fuzz_smoke.rs` on the stable toolchain.
//!
//! A function returns when its property holds, also for input that says nothing, and panics when it does not.
#![allow(
    dead_code,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "a property that does not hold has to be loud, and every program uses a part of this"
)]

pub mod client_stream;
pub mod documents;
pub mod front;
pub mod keys;
pub mod patterns;
pub mod peer;
pub mod policy;
pub mod reading;
pub mod server;
pub mod server_stream;
pub mod session_ops;
pub mod token;

/// A property.
pub type Property = fn(&[u8]);

/// Every target by its name.
pub const ALL: [(&str, Property); 10] = [
    ("client_stream", client_stream::client_stream),
    ("connect_json", documents::connect_json),
    ("info_json", documents::info_json),
    ("key_document", keys::key_document),
    ("metadata", keys::metadata),
    ("pattern_set", patterns::pattern_set),
    ("policy_document", policy::policy_document),
    ("server_stream", server_stream::server_stream),
    ("session_ops", session_ops::session_ops),
    ("token", token::token),
];
