//! See `properties::client_stream::client_stream`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natsentry_fuzz::properties;

fuzz_target!(|data: &[u8]| properties::client_stream::client_stream(data));
