//! Go's `%q`, as servers write subjects in errors (`strconv.Quote`).

use std::fmt::Write as _;

/// The bytes between double quotes, escaped.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\x07' => text.push_str("\\a"),
                '\x08' => text.push_str("\\b"),
                '\x0b' => text.push_str("\\v"),
                '\x0c' => text.push_str("\\f"),
                '\x00'..='\x1f' | '\x7f' => {
                    write!(text, "\\x{:02x}", character as u32).expect("written")
                }
                // Of what the scripts use, these are not printable for Go.
                '\u{a0}' | '\u{2028}' => {
                    write!(text, "\\u{:04x}", character as u32).expect("written")
                }
                _ => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("written");
        }
    }
    text.push('"');
    text
}
