//! The JSON Schema of the configuration file, for editors.
//!
//! Owns: its making. Must never: differ from what serde reads; a test compares the two.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Document;

/// The schema (JSON Schema draft 2020-12).
pub fn json_schema() -> Value {
    SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<Document>()
        .to_value()
}
