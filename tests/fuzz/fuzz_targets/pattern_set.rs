//! See `properties::patterns::pattern_set`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natsentry_fuzz::properties;

fuzz_target!(|data: &[u8]| properties::patterns::pattern_set(data));
