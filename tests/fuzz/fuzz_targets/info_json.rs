//! See `properties::documents::info_json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natsentry_fuzz::properties;

fuzz_target!(|data: &[u8]| properties::documents::info_json(data));
