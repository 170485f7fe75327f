//! What the fuzz targets check, for libFuzzer. The same functions run without it in `tests/fuzz_smoke.rs`.
#![forbid(unsafe_code)]

#[path = "../properties/mod.rs"]
pub mod properties;
