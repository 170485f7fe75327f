//! See `properties::policy::policy_document`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natsentry_fuzz::properties;

fuzz_target!(|data: &[u8]| properties::policy::policy_document(data));
