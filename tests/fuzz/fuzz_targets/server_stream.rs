//! See `properties::server_stream::server_stream`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natsentry_fuzz::properties;

fuzz_target!(|data: &[u8]| properties::server_stream::server_stream(data));
