//! What a line of a transcript says the bytes are: literal text with escapes, `\*` for what does not matter, and INFO
//! by its fields.

use serde_json::{Map, Value};

/// Bytes that are expected.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Bytes(Vec<u8>),
    /// Any bytes up to what follows, within one line.
    Any,
    /// `INFO {...} \r\n` with these fields; when open, with others besides. `null` wants a field to be absent.
    Info {
        fields: Map<String, Value>,
        open: bool,
    },
}

/// Reads the escapes of one line, and adds CR LF unless a lone `\` ends it.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    match pieces(text)?.as_slice() {
        [] => Ok(Vec::new()),
        [Piece::Bytes(bytes)] => Ok(bytes.clone()),
        _ => Err("`\\*` is for what is expected, not for what is sent".to_owned()),
    }
}

impl Pattern {
    /// Reads the escapes of one line, and adds CR LF unless a lone `\` ends it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(json) = text
            .strip_prefix("INFO ")
            .and_then(|text| text.strip_suffix("...}"))
        {
            let json = format!("{}}}", json.trim_end().trim_end_matches(','));
            return Self::info(&json, true);
        }
        if let Some(json) = text.strip_prefix("INFO ")
            && let Ok(Value::Object(fields)) = serde_json::from_str(json)
        {
            return Ok(Self(vec![Piece::Info {
                fields,
                open: false,
            }]));
        }
        pieces(text).map(Self)
    }

    fn info(json: &str, open: bool) -> Result<Self, String> {
        let fields = serde_json::from_str(json).map_err(|error| error.to_string())?;
        Ok(Self(vec![Piece::Info { fields, open }]))
    }

    /// Whether it is an INFO.
    #[cfg(feature = "demo")]
    pub(crate) fn is_info(&self) -> bool {
        match self.0.first() {
            Some(Piece::Info { .. }) => true,
            Some(Piece::Bytes(bytes)) => bytes.starts_with(b"INFO "),
            Some(Piece::Any) | None => false,
        }
    }

    /// Takes what it describes from the front of `bytes`; the rest, or nothing when it does not fit.
    pub(crate) fn strip<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let mut rest = bytes;
        let mut pieces = self.0.iter();
        while let Some(piece) = pieces.next() {
            rest = match piece {
                Piece::Bytes(wanted) => rest.strip_prefix(wanted.as_slice())?,
                Piece::Info { fields, open } => strip_info(rest, fields, *open)?,
                Piece::Any => match pieces.next() {
                    Some(Piece::Bytes(next)) => after(rest, next)?,
                    _ => return None,
                },
            };
        }
        Some(rest)
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut bytes = Vec::new();
    let mut ended = true;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match chars.next() {
            None => ended = false,
            Some('r') => bytes.push(b'\r'),
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('\\') => bytes.push(b'\\'),
            Some('x') => {
                let hex: String = chars.by_ref().take(2).collect();
                let byte = u8::from_str_radix(&hex, 16);
                bytes.push(byte.map_err(|_| format!("not two hex digits: {hex:?}"))?);
            }
            Some('*') => {
                pieces.extend([Piece::Bytes(std::mem::take(&mut bytes)), Piece::Any]);
            }
            // `\{a*1000}`: a text many times, for long lines and payloads.
            Some('{') => {
                let inner: String = chars.by_ref().take_while(|c| *c != '}').collect();
                let (unit, times) = inner.rsplit_once('*').ok_or("\\{TEXT*TIMES}")?;
                let times: usize = times.parse().map_err(|_| format!("no number: {times}"))?;
                let unit = unescape(&format!("{unit}\\"))?;
                bytes.extend_from_slice(&unit.repeat(times));
            }
            Some(other) => return Err(format!("no such escape: \\{other}")),
        }
    }
    if ended {
        bytes.extend_from_slice(b"\r\n");
    }
    pieces.push(Piece::Bytes(bytes));
    pieces.retain(|piece| *piece != Piece::Bytes(Vec::new()));
    Ok(pieces)
}

/// What follows the first `wanted` in `bytes`, if no line ends before it.
fn after<'a>(bytes: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let at = bytes
        .windows(wanted.len())
        .position(|window| window == wanted)?;
    let skipped = bytes.get(..at)?;
    if skipped.contains(&b'\n') {
        return None;
    }
    bytes.get(at + wanted.len()..)
}

fn strip_info<'a>(bytes: &'a [u8], wanted: &Map<String, Value>, open: bool) -> Option<&'a [u8]> {
    let rest = bytes.strip_prefix(b"INFO ")?;
    let end = rest.windows(2).position(|window| window == b"\r\n")?;
    // nats-server writes a blank before the line end.
    let json = rest.get(..end)?.strip_suffix(b" ")?;
    let fields: Map<String, Value> = serde_json::from_slice(json).ok()?;
    let same = wanted.iter().all(|(key, value)| match value {
        Value::Null => !fields.contains_key(key),
        _ => fields.get(key) == Some(value),
    });
    let present = wanted.values().filter(|value| !value.is_null()).count();
    (same && (open || present == fields.len())).then_some(rest.get(end + 2..)?)
}

/// Bytes as a transcript would write them, one string a line; CR LF is left out, a line without it ends in `\`.
pub(crate) fn escaped_lines(bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (body, end) = match line.strip_suffix(b"\r\n") {
            Some(body) => (body, ""),
            None => (line, "\\"),
        };
        lines.push(format!("{}{end}", escaped(body)));
    }
    lines
}

/// Bytes with the escapes of a transcript.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\r' => text.push_str("\\r"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => text.push_str(&format!("\\x{:02x}", u32::from(c))),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if text.len() > 400 {
        let mut end = 400;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text = format!("{}[... {} bytes]", &text[..end], bytes.len());
    }
    text
}
