//! How a value that a stranger chose may appear in a message: clipped, escaped, in quotes.
//!
//! Must never: let a control character, a line break or a terminal sequence through.

use std::fmt;

/// A stranger's text for a log line. Anything but printable ASCII is escaped, and at most `SHOWN` characters are shown.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(SHOWN) {
            match c {
                '\\' | '"' | '\'' => write!(f, "\\{c}")?,
                ' '..='~' => write!(f, "{c}")?,
                _ => write!(f, "{}", c.escape_default())?,
            }
        }
        if self.0.chars().nth(SHOWN).is_some() {
            write!(f, "... ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

/// At most this many of a list, then how many more there are.
pub(crate) fn list<'a>(items: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = items.len().saturating_sub(LISTED);
    let mut shown: Vec<String> = items
        .take(LISTED)
        .map(|item| Shown(item).to_string())
        .collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

/// `90 s`, `12 min`, `3 h`: how long, for a person.
pub(crate) fn duration(length: std::time::Duration) -> String {
    match length.as_secs() {
        secs @ 0..=119 => format!("{secs} s"),
        secs @ 120..=7199 => format!("{} min", secs / 60),
        secs => format!("{} h", secs / 3600),
    }
}

/// The same rounded up, so that nobody is told to come back too early.
pub(crate) fn wait(length: std::time::Duration) -> String {
    let unit = match length.as_secs() {
        0..=119 => 1,
        120..=7199 => 60,
        _ => 3600,
    };
    let units = length.as_millis().div_ceil(unit * 1000);
    let seconds = u64::try_from(units * unit).unwrap_or(u64::MAX);
    duration(std::time::Duration::from_secs(seconds))
}

const SHOWN: usize = 120;
const LISTED: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_quotes_are_escaped() {
        assert_eq!(
            Shown("a\r\n\0\u{1b}[31m\"'\u{202e}").to_string(),
            "a\\r\\n\\u{0}\\u{1b}[31m\\\"\\'\\u{202e}"
        );
    }

    #[test]
    fn long_values_are_clipped_and_say_so() {
        let shown = Shown(&"x".repeat(10_000)).to_string();
        assert_eq!(shown, format!("{}... (10000 bytes)", "x".repeat(120)));
    }

    #[test]
    fn waits_are_rounded_up() {
        use std::time::Duration;
        let shown = [0, 1, 299, 300, 301].map(|secs| wait(Duration::from_secs(secs)));
        assert_eq!(shown, ["0 s", "1 s", "5 min", "5 min", "6 min"]);
        assert_eq!(wait(Duration::from_millis(299_100)), "5 min");
        assert_eq!(wait(Duration::from_millis(300)), "1 s");
        assert_eq!(wait(Duration::from_secs(7201)), "3 h");
    }

    #[test]
    fn long_lists_are_clipped() {
        assert_eq!(list(["a", "b"].into_iter()), "a, b");
        assert_eq!(list(["a"; 9].into_iter()), "a, a, a, a, a, a, and 3 more");
    }
}
