//! What a client reads: a strict reader of a server's stream, for what natsentry sends.

/// A line, or a message, of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Message {
        subject: Vec<u8>,
        sid: Vec<u8>,
        payload: Vec<u8>,
    },
    Info(Vec<u8>),
    Error(Vec<u8>),
    Ok,
    Ping,
    Pong,
}

/// Everything that is whole, and what is left.
///
/// # Errors
/// What no client library would take.
pub fn read(stream: &[u8]) -> Result<(Vec<Said>, &[u8]), String> {
    let (mut said, mut rest) = (Vec::new(), stream);
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = rest[..end]
            .strip_suffix(b"\r")
            .ok_or_else(|| format!("no CR LF: {:?}", rest[..end].escape_ascii().to_string()))?;
        let after = &rest[end + 1..];
        if line.starts_with(b"MSG ") || line.starts_with(b"HMSG ") {
            let words: Vec<&[u8]> = line
                .split(|byte| *byte == b' ' || *byte == b'\t')
                .filter(|word| !word.is_empty())
                .collect();
            let size = words
                .last()
                .and_then(|size| std::str::from_utf8(size).ok()?.parse::<usize>().ok());
            let size = size.ok_or("no size")?;
            let Some(body) = after.get(..size + 2) else {
                return Ok((said, rest));
            };
            if !body.ends_with(b"\r\n") || words.len() < 4 {
                return Err(format!(
                    "a broken message: {:?}",
                    line.escape_ascii().to_string()
                ));
            }
            said.push(Said::Message {
                subject: words[1].to_vec(),
                sid: words[2].to_vec(),
                payload: body[..size].to_vec(),
            });
            rest = &after[size + 2..];
            continue;
        }
        said.push(match line {
            b"+OK" => Said::Ok,
            b"PING" => Said::Ping,
            b"PONG" => Said::Pong,
            line if line.starts_with(b"-ERR '") && line.ends_with(b"'") => {
                Said::Error(line[6..line.len() - 1].to_vec())
            }
            line if line.starts_with(b"INFO {") => {
                serde_json::from_slice::<serde_json::Value>(&line[5..])
                    .map_err(|error| error.to_string())?;
                Said::Info(line[5..].to_vec())
            }
            line => return Err(format!("{:?}", line.escape_ascii().to_string())),
        });
        rest = after;
    }
    Ok((said, rest))
}
