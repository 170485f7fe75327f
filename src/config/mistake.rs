//! A mistake in the configuration: where it is, what is wrong, what to write instead.
//!
//! Owns: positions, paths and how a list of mistakes is shown. Must never: show a secret, not even one that somebody
//! wrote inline by mistake; source lines are masked before they are printed.

use std::fmt;
use std::sync::Arc;

use super::suggest;
use super::tree::Flaw;

/// Keys and list indices from the root of the file, as `["roles", "writer", "publish", "0"]`.
pub type Path = Vec<Box<str>>;

/// A place in the file. Both numbers count from 1; columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// A place; a number of 0 means the beginning.
    pub fn new(line: usize, column: usize) -> Self {
        Self {
            line: line.max(1),
            column: column.max(1),
        }
    }
}

/// One thing to correct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where in the file.
    pub at: Position,
    /// Which key.
    pub path: Path,
    /// What is wrong and what to write instead: one sentence without a full stop.
    pub message: String,
}

impl From<Flaw> for Mistake {
    fn from(flaw: Flaw) -> Self {
        let Flaw { at, path, message } = flaw;
        Self { at, path, message }
    }
}

/// Everything that is wrong with one file, in the order of the file.
#[derive(Clone, Debug)]
pub struct Mistakes {
    file: Box<str>,
    lines: Arc<[Box<str>]>,
    list: Vec<Mistake>,
}

impl Mistakes {
    /// The mistakes of `file`, whose content is `text`; sorted by place, without repetitions.
    pub(super) fn new(file: &str, text: &str, mut list: Vec<Mistake>) -> Self {
        for mistake in &mut list {
            mistake.message = on_one_line(&mistake.message);
            for key in &mut mistake.path {
                *key = on_one_line(key).into();
            }
        }
        list.sort_by(|a, b| (a.at, &a.path, &a.message).cmp(&(b.at, &b.path, &b.message)));
        list.dedup();
        Self {
            file: file.into(),
            lines: text.lines().map(Into::into).collect(),
            list,
        }
    }

    /// The mistakes, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.list.iter()
    }

    /// How many there are; never 0 in an `Err`.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The file as it was named on the command line.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line that a mistake is on, with secrets masked; none when the file has no such line.
    pub fn source_line(&self, mistake: &Mistake) -> Option<String> {
        let line = self.lines.get(mistake.at.line.checked_sub(1)?)?;
        Some(mask(line))
    }
}

/// The same with what could begin a line or steer a terminal escaped: keys of YAML may hold anything.
fn on_one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

impl fmt::Display for Mistakes {
    /// `FILE:LINE:COLUMN: path: message`, the line itself and a caret, for each; the count at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.list {
            let Position { line, column } = mistake.at;
            write!(f, "{}:{line}:{column}: ", self.file)?;
            if !mistake.path.is_empty() {
                write!(f, "{}: ", show_path(&mistake.path))?;
            }
            writeln!(f, "{}", mistake.message)?;
            if let Some(source) = self.source_line(mistake) {
                let number = line.to_string();
                let indent = " ".repeat(column.saturating_sub(1));
                writeln!(f, " {number} | {source}")?;
                writeln!(f, " {} | {indent}^", " ".repeat(number.len()))?;
            }
        }
        match self.list.len() {
            1 => write!(f, "1 mistake in {}", self.file),
            n => write!(f, "{n} mistakes in {}", self.file),
        }
    }
}

impl std::error::Error for Mistakes {}

/// A path for people: `roles.writer.publish[0]`.
pub fn show_path(path: &[Box<str>]) -> String {
    let mut shown = String::new();
    for segment in path {
        if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit()) {
            shown.push('[');
            shown.push_str(segment);
            shown.push(']');
            continue;
        }
        if !shown.is_empty() {
            shown.push('.');
        }
        shown.push_str(segment);
    }
    shown
}

/// Names of keys whose values are secrets, and what people write for them.
const SECRET_KEYS: [&str; 10] = [
    "auth",
    "password",
    "pass",
    "passwd",
    "token",
    "secret",
    "seed",
    "nkey",
    "creds",
    "trusted_proxy_nkey",
];

/// What a reference to a secret starts with; a reference is no secret.
pub(super) const REFERENCE_SCHEMES: [&str; 3] = ["env:", "file:", "keyvault:"];

/// Whether the value of this key is a secret, or would be with the spelling corrected.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.trim_matches(['"', '\'']).to_ascii_lowercase();
    SECRET_KEYS.iter().any(|name| {
        *name == key || (key.len() > 4 && suggest::distance_within(name, &key, 1).is_some())
    })
}

/// The line with everything masked that may be a secret.
fn mask(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(colon) = rest.find(": ") {
        let (before, after) = rest.split_at(colon);
        let key = before
            .rsplit([' ', '{', ',', '[', '-'])
            .next()
            .unwrap_or(before);
        shown.push_str(before);
        shown.push_str(": ");
        rest = after.get(2..).unwrap_or_default();
        if is_secret_key(key) && !is_reference(rest) && !rest.trim_start().starts_with('{') {
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            let (value, tail) = rest.split_at(end);
            shown.extend(
                value
                    .chars()
                    .map(|c| if c.is_whitespace() { c } else { '*' }),
            );
            rest = tail;
        }
    }
    shown.push_str(rest);
    mask_words(&mask_user_info(&shown))
}

/// Masks what stands before the `@` of an address (`nats://user:password@host`).
fn mask_user_info(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start.saturating_add(3));
        shown.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || ",]}'\"".contains(c));
        let (address, tail) = after.split_at(end.unwrap_or(after.len()));
        match address.rsplit_once('@') {
            Some((user, host)) => {
                shown.push_str(&"*".repeat(user.chars().count()));
                shown.push('@');
                shown.push_str(host);
            }
            None => shown.push_str(address),
        }
        rest = tail;
    }
    shown.push_str(rest);
    shown
}

fn is_reference(value: &str) -> bool {
    let value = value.trim_start().trim_start_matches(['"', '\'']);
    REFERENCE_SCHEMES
        .iter()
        .any(|scheme| value.starts_with(scheme))
        || value.starts_with("none")
}

/// Masks words that look like an nkey seed or a token, wherever they stand.
fn mask_words(line: &str) -> String {
    let looks_secret = |word: &str| {
        let seed = word.len() >= 50
            && word.starts_with('S')
            && word
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        seed || (word.len() >= 40 && word.starts_with("eyJ"))
    };
    let boundary = |c: char| c.is_whitespace() || "\"',{}[]:".contains(c);
    line.split_inclusive(boundary)
        .map(|piece| {
            let word = piece.trim_end_matches(boundary);
            if looks_secret(word) {
                "*".repeat(word.len()) + piece.get(word.len()..).unwrap_or_default()
            } else {
                piece.to_owned()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_several_lines_is_told_on_one() {
        let mistake = Mistake {
            at: Position::new(1, 1),
            path: vec!["a\nb".into()],
            message: "unknown key `a\n\u{1b}b`".to_owned(),
        };
        let told = Mistakes::new("f", "x", vec![mistake]);
        let first = told.iter().next().unwrap();
        assert_eq!(first.message, "unknown key `a\\n\\u{1b}b`");
        assert_eq!(&*first.path[0], "a\\nb");
    }

    #[test]
    fn a_path_reads_like_the_file() {
        let path: Path = ["roles", "a", "publish", "0"].map(Into::into).into();
        assert_eq!(show_path(&path), "roles.a.publish[0]");
    }

    #[test]
    fn source_lines_hide_inline_secrets() {
        assert_eq!(
            mask("    auth: { user: env:U, password: hunter2 }"),
            "    auth: { user: env:U, password: ******* }"
        );
        assert_eq!(mask("  passwrod: hunter2"), "  passwrod: *******");
        assert_eq!(mask("  password: file:/run/x"), "  password: file:/run/x");
        assert_eq!(mask("  v1_tokens: maybe"), "  v1_tokens: maybe");
        assert_eq!(
            mask("  - nats://u:p@h:1, tls://h:2"),
            "  - nats://***@h:1, tls://h:2"
        );
        let seed = format!("  note: S{}", "A".repeat(57));
        assert!(!mask(&seed).contains("AAAA"));
    }
}
