//! The chain of lines: each names the SHA-256 of the line before it, so that a missing, added or altered line shows.
//!
//! The chain finds tampering by whoever cannot write all lines after it anew. Against those who can, keep the last hash
//! somewhere else: `/readyz` shows it, and shipping the lines to another machine does the same.

use std::fmt;
use std::io::{self, BufRead};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// SHA-256 of one line without its line feed; zero before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link([u8; 32]);

impl Link {
    /// The link that the line after `line` must name.
    pub fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Completes a JSON object with the link to the line before it, and returns the link of the finished line.
///
/// `object` is an object as `serde_json` writes it, with at least one member.
pub(super) fn seal(object: &mut Vec<u8>, previous: Link) -> Link {
    if object.last() == Some(&b'}') {
        object.pop();
    }
    object.extend_from_slice(b",\"prev\":\"");
    object.extend_from_slice(previous.to_string().as_bytes());
    object.extend_from_slice(b"\"}");
    let link = Link::of(object);
    object.push(b'\n');
    link
}

/// What a check of a file found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Lines read.
    pub lines: u64,
    /// The link that the first line names; zero where a chain begins. Compare with the end of the file before it.
    pub begins_after: Option<String>,
    /// The link of the last line.
    pub end: Link,
    /// Everything that is not as it was written, in order.
    pub faults: Vec<Fault>,
}

/// One place where the chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line number, from 1.
    pub line: u64,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What can be wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It does not name the line above it: that one was altered, or lines between them are missing or were added.
    Broken,
    /// It is not a JSON object with a `prev`: altered, or cut when the process or the machine died.
    Unreadable,
}

/// Reads lines and checks that each names the one before it. The first may name any.
///
/// # Errors
/// Only those of reading.
pub fn verify(mut lines: impl BufRead) -> io::Result<Verified> {
    #[derive(Deserialize)]
    struct Line {
        prev: String,
    }
    let mut found = Verified {
        lines: 0,
        begins_after: None,
        end: Link::default(),
        faults: Vec::new(),
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        found.lines = found.lines.saturating_add(1);
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let fault = match serde_json::from_slice::<Line>(text) {
            Ok(read) if found.lines == 1 => {
                found.begins_after = Some(read.prev);
                None
            }
            Ok(read) => (read.prev != found.end.to_string()).then_some(FaultKind::Broken),
            Err(_) => Some(FaultKind::Unreadable),
        };
        found.faults.extend(fault.map(|kind| Fault {
            line: found.lines,
            kind,
        }));
        found.end = Link::of(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(objects: &[&str]) -> Vec<String> {
        let mut link = Link::default();
        let sealed = objects.iter().map(|object| {
            let mut line = object.as_bytes().to_vec();
            link = seal(&mut line, link);
            String::from_utf8(line).unwrap()
        });
        sealed.collect()
    }

    fn faults(lines: &[String]) -> Vec<(u64, FaultKind)> {
        let found = verify(lines.concat().as_bytes()).unwrap();
        found
            .faults
            .iter()
            .map(|fault| (fault.line, fault.kind))
            .collect()
    }

    #[test]
    fn a_chain_as_written_has_no_fault() {
        let lines = chain(&[r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#]);
        let found = verify(lines.concat().as_bytes()).unwrap();
        assert_eq!((found.lines, found.faults), (3, Vec::new()));
        assert_eq!(found.begins_after, Some("0".repeat(64)));
        assert_eq!(found.end, Link::of(lines[2].trim_end().as_bytes()));
    }

    #[test]
    fn a_missing_an_altered_and_an_added_line_show() {
        let lines = chain(&[r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#, r#"{"a":4}"#]);
        let mut missing = lines.clone();
        missing.remove(1);
        assert_eq!(faults(&missing), [(2, FaultKind::Broken)]);
        let mut altered = lines.clone();
        altered[1] = altered[1].replace("\"a\":2", "\"a\":7");
        assert_eq!(faults(&altered), [(3, FaultKind::Broken)]);
        let mut added = lines.clone();
        added.insert(1, lines[0].clone());
        assert_eq!(faults(&added), [(2, FaultKind::Broken)]);
        let mut cut = lines;
        cut[1] = "{\"a\":2,\"pr\n".into();
        assert_eq!(
            faults(&cut),
            [(2, FaultKind::Unreadable), (3, FaultKind::Broken)]
        );
    }
}
