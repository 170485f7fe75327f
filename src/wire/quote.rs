//! Go's `%q` for byte strings, since clients match on the subjects in `-ERR` texts.
//!
//! Source: Go `strconv.Quote`; nats-server formats subjects, queues and sids with `%q`.

/// Appends `text` in double quotes as `strconv.Quote` would: printable Unicode kept, the rest escaped.
pub fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_char(out, c);
        }
        for byte in chunk.invalid() {
            push_hex_byte(out, *byte);
        }
    }
    out.push(b'"');
}

fn push_char(out: &mut Vec<u8>, c: char) {
    match c {
        '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
        '\u{7}' => out.extend_from_slice(b"\\a"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\u{b}' => out.extend_from_slice(b"\\v"),
        ' '..='~' => out.push(c as u8),
        '\0'..='\x1f' | '\x7f' => push_hex_byte(out, c as u8),
        _ if is_printable(c) => {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        _ => {
            let escaped = match u32::from(c) {
                code if code < 0x1_0000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            };
            out.extend_from_slice(escaped.as_bytes());
        }
    }
}

fn push_hex_byte(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\x");
    out.push(HEX.get(usize::from(byte >> 4)).copied().unwrap_or(b'0'));
    out.push(HEX.get(usize::from(byte & 15)).copied().unwrap_or(b'0'));
}

/// Whether Go's `unicode.IsPrint` keeps `c`: letters, marks, numbers, punctuation, symbols and the ASCII space.
///
/// Rust's own `escape_debug` decides by nearly the same tables; grapheme extenders, which it escapes although they are
/// marks, are told apart by their two known forms.
fn is_printable(c: char) -> bool {
    if c.is_whitespace() {
        return false;
    }
    let mut escaped = c.escape_debug();
    escaped.next() == Some(c) || is_mark(c)
}

/// Combining marks, which `char::escape_debug` escapes (grapheme extenders) and Go prints.
fn is_mark(c: char) -> bool {
    matches!(u32::from(c),
        0x0300..=0x036F | 0x0483..=0x0489 | 0x0591..=0x05C7 | 0x0610..=0x061A | 0x064B..=0x065F
        | 0x0670 | 0x06D6..=0x06ED | 0x0900..=0x0903 | 0x093A..=0x094F | 0x0E31..=0x0E4E
        | 0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF | 0x20D0..=0x20F0 | 0x3099..=0x309A | 0xFE00..=0xFE0F
        | 0xFE20..=0xFE2F | 0xE0100..=0xE01EF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &[u8]) -> String {
        let mut out = Vec::new();
        push_quoted(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quoted(b"foo.bar"), r#""foo.bar""#);
        assert_eq!(quoted(br#"a"b\c"#), r#""a\"b\\c""#);
        assert_eq!(
            quoted(b"\x07\x08\x0c\n\r\t\x0b\x1b\x7f"),
            r#""\a\b\f\n\r\t\v\x1b\x7f""#
        );
        assert_eq!(quoted(b"\xff\xc3\x28"), r#""\xff\xc3(""#);
        assert_eq!(
            quoted("grün.日本.\u{2028}\u{a0}".as_bytes()),
            "\"grün.日本.\\u2028\\u00a0\""
        );
        assert_eq!(
            quoted("e\u{301}\u{1F600}\u{E000}".as_bytes()),
            "\"e\u{301}\u{1F600}\\ue000\""
        );
    }
}
