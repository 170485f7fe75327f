//! See `properties::keys::key_document`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natsentry_fuzz::properties;

fuzz_target!(|data: &[u8]| properties::keys::key_document(data));
