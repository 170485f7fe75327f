//! See `properties::session_ops::session_ops`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natsentry_fuzz::properties;

fuzz_target!(|data: &[u8]| properties::session_ops::session_ops(data));
