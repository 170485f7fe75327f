//! Where frames end, read as plainly as possible: a second opinion that shares nothing with the product's decoder.

/// The length of the frame at the front of `stream`, if it is there whole.
pub(crate) fn next_frame(stream: &[u8]) -> Option<usize> {
    let line = stream.windows(2).position(|window| window == b"\r\n")? + 2;
    let words: Vec<&[u8]> = stream[..line - 2].split(|byte| *byte == b' ').collect();
    let carries = matches!(words.first(), Some(&(b"PUB" | b"HPUB" | b"MSG" | b"HMSG")));
    if !carries {
        return Some(line);
    }
    let size: usize = std::str::from_utf8(words.last()?).ok()?.parse().ok()?;
    let end = line + size + 2;
    (stream.len() >= end && &stream[end - 2..end] == b"\r\n").then_some(end)
}
