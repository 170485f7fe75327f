//! Just enough of nats-server's configuration language to take top-level entries out of a file and hand the rest on as
//! it was written.
//!
//! Source: nats-server `conf/lex.go`: keys end at blanks, `:`, `=` or `{`; entries end at a newline, `,` or `;`; comments
//! begin with `#` or `//`; `include` takes a path relative to its file.

use std::path::{Component, Path, PathBuf};

/// What the stand-in does itself, from the command line or from a file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Taken {
    pub port: Option<String>,
    pub host: Option<String>,
    pub pid_file: Option<String>,
    pub log_file: Option<String>,
    pub ports_file_dir: Option<String>,
    pub tls: Tls,
}

/// How clients speak TLS.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tls {
    pub on: bool,
    pub cert: Option<String>,
    pub key: Option<String>,
    pub ca: Option<String>,
    pub verify: bool,
    /// `allow_non_tls`: clients may stay in clear.
    pub optional: bool,
    /// `handshake_first`: `true`, `auto` or a time.
    pub first: Option<String>,
}

/// A file without the entries that were taken.
#[derive(Debug, Default)]
pub struct Rewritten {
    pub taken: Taken,
    pub text: String,
}

impl Taken {
    /// These, and where they say nothing, `others`: the command line overrides the file.
    pub fn or(self, others: Self) -> Self {
        Self {
            port: self.port.or(others.port),
            host: self.host.or(others.host),
            pid_file: self.pid_file.or(others.pid_file),
            log_file: self.log_file.or(others.log_file),
            ports_file_dir: self.ports_file_dir.or(others.ports_file_dir),
            tls: if self.tls.on || self.tls.cert.is_some() {
                Tls {
                    on: true,
                    // No argument says this.
                    optional: others.tls.optional,
                    ..self.tls
                }
            } else {
                others.tls
            },
        }
    }
}

/// Takes out what the stand-in does. `home` is the folder of the file, `new_home` that of the text returned.
pub fn rewrite(text: &str, home: &Path, new_home: &Path) -> Rewritten {
    let mut done = Rewritten::default();
    for entry in entries(text) {
        let taken = &mut done.taken;
        match entry.key.to_ascii_lowercase().as_str() {
            "port" => taken.port = Some(entry.word()),
            "host" | "net" => taken.host = Some(entry.word()),
            "listen" => match entry.word().rsplit_once(':') {
                Some((host, port)) => {
                    taken.host = Some(host.to_owned());
                    taken.port = Some(port.to_owned());
                }
                None => taken.port = Some(entry.word()),
            },
            "pidfile" | "pid_file" => taken.pid_file = Some(entry.word()),
            "log_file" | "logfile" => taken.log_file = Some(entry.word()),
            "ports_file_dir" => taken.ports_file_dir = Some(entry.word()),
            "tls" => {
                taken.tls = Tls {
                    optional: taken.tls.optional,
                    ..tls(entry.value)
                }
            }
            "allow_non_tls" => taken.tls.optional = entry.word() == "true",
            // natsentry has no WebSocket listener, and clients must not get around it.
            "websocket" => {}
            "include" => {
                let path = relative(&home.join(entry.word()), new_home);
                done.text
                    .push_str(&format!("include {:?}\n", path.display().to_string()));
            }
            _ => {
                done.text.push_str(entry.whole);
                done.text.push('\n');
            }
        }
    }
    done
}

fn tls(block: &str) -> Tls {
    let mut tls = Tls {
        on: true,
        ..Tls::default()
    };
    let inner = block.trim().trim_start_matches('{').trim_end_matches('}');
    for entry in entries(inner) {
        let word = entry.word();
        match entry.key.to_ascii_lowercase().as_str() {
            "cert_file" => tls.cert = Some(word),
            "key_file" => tls.key = Some(word),
            "ca_file" => tls.ca = Some(word),
            "verify" | "verify_and_map" => tls.verify |= word == "true",
            "handshake_first" | "first" | "immediate" => tls.first = Some(word),
            _ => {}
        }
    }
    tls
}

/// The way from the folder `from` to `to`: nats-server joins what an `include` says to the folder of the file, even when
/// it is absolute.
fn relative(to: &Path, from: &Path) -> PathBuf {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let ups = absolute(from)
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .count();
    let mut way: PathBuf = std::iter::repeat_n("..", ups).collect();
    way.extend(
        absolute(to)
            .components()
            .filter(|part| !matches!(part, Component::RootDir)),
    );
    way
}

/// One top-level entry.
struct Entry<'a> {
    key: &'a str,
    value: &'a str,
    whole: &'a str,
}

impl Entry<'_> {
    /// The value as one word, without quotes.
    fn word(&self) -> String {
        self.value.trim().trim_matches(['"', '\'']).to_owned()
    }
}

/// The entries of a block, comments left out.
fn entries(text: &str) -> Vec<Entry<'_>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        at = skip_space(bytes, at);
        if at >= bytes.len() {
            return found;
        }
        let begin = at;
        let key_end = key_end(bytes, at);
        let key = text[begin..key_end].trim_matches(['"', '\'']);
        at = key_end;
        while at < bytes.len() && matches!(bytes[at], b' ' | b'\t' | b':' | b'=') {
            at += 1;
        }
        // The value of a key can stand on the next line where it is a block.
        let ahead = skip_space(bytes, at);
        if ahead < bytes.len() && matches!(bytes[ahead], b'{' | b'[') {
            at = ahead;
        }
        let value_begin = at;
        at = value_end(bytes, at);
        let value = &text[value_begin..at];
        found.push(Entry {
            key,
            value,
            whole: &text[begin..at],
        });
        // Never stand still, whatever the text is.
        at = at.max(begin + 1);
    }
}

/// Past blanks, separators and comments; a brace that opens the whole file, as JSON has it, counts as a blank.
fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'#' => at = line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'/') => at = line_end(bytes, at),
            b' ' | b'\t' | b'\r' | b'\n' | b',' | b';' => at += 1,
            b'{' if bytes[..at].iter().all(u8::is_ascii_whitespace) => at += 1,
            b'}' if bytes[at + 1..].iter().all(u8::is_ascii_whitespace) => at += 1,
            _ => break,
        }
    }
    at
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |length| at + length)
}

fn key_end(bytes: &[u8], at: usize) -> usize {
    if matches!(bytes[at], b'"' | b'\'') {
        return string_end(bytes, at);
    }
    bytes[at..]
        .iter()
        .position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b':' | b'=' | b'{'))
        .map_or(bytes.len(), |length| at + length)
}

/// Past a block, a string, or a bare word up to the end of its entry.
fn value_end(bytes: &[u8], mut at: usize) -> usize {
    match bytes.get(at) {
        Some(b'{' | b'[') => block_end(bytes, at),
        Some(b'"' | b'\'') => string_end(bytes, at),
        _ => {
            while at < bytes.len()
                && !matches!(bytes[at], b'\n' | b'\r' | b',' | b';' | b'}' | b'#')
            {
                at += 1;
            }
            at
        }
    }
}

fn block_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b'"' | b'\'' => {
                at = string_end(bytes, at);
                continue;
            }
            b'#' => {
                at = line_end(bytes, at);
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') && bytes[at - 1] != b':' => {
                at = line_end(bytes, at);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    at
}

fn string_end(bytes: &[u8], begin: usize) -> usize {
    let quote = bytes[begin];
    let mut at = begin + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if quote == b'"' && bytes[at] == b'\\' {
            2
        } else {
            1
        };
    }
    (at + 1).min(bytes.len())
}
