//! What the demonstration prints: steps, facts, lines of the wire, and statements that were checked.
//!
//! Owns: the layout, and colours where standard output is a terminal that wants them. Must never: print a statement that
//! did not hold, or a whole token.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};

use anyhow::bail;

/// Prints to standard output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    colour: bool,
    wire: bool,
}

/// Who sent a line of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// The client.
    Sent,
    /// The proxy.
    Received,
}

/// Bytes of a token that are shown.
const TOKEN_SHOWN: usize = 12;

/// Characters of a line of the wire that are shown.
const LINE_SHOWN: usize = 84;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

impl Terminal {
    /// Standard output as it is: coloured on a terminal, unless `NO_COLOR` is set to anything (no-color.org).
    pub(super) fn detect() -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            colour: io::stdout().is_terminal() && !refused && !dumb,
            wire: true,
        }
    }

    /// The same without the lines of the wire.
    pub(super) const fn muted(self) -> Self {
        Self {
            wire: false,
            ..self
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A line as it is.
    pub(super) fn line(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// A heading.
    pub(super) fn heading(self, text: &str) -> io::Result<()> {
        self.line(&format!("\n{}", self.paint(BOLD, text)))
    }

    /// The beginning of a step.
    pub(super) fn step(self, number: usize, text: &str) -> io::Result<()> {
        self.line(&format!(
            "\n{} {}",
            self.paint(CYAN, &format!("{number:>2}")),
            self.paint(BOLD, text)
        ))
    }

    /// A named fact.
    pub(super) fn fact(self, name: &str, text: &str) -> io::Result<()> {
        for (index, line) in wrap(text, LINE_SHOWN).iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            self.line(&format!(
                "   {} {line}",
                self.paint(DIM, &format!("{name:<9}"))
            ))?;
        }
        Ok(())
    }

    /// Something that is printed as it was found: a metric, an audit line, a line of a log.
    pub(super) fn evidence(self, text: &str) -> io::Result<()> {
        self.line(&format!("     {}", self.paint(DIM, text)))
    }

    /// A command to paste.
    pub(super) fn command(self, what: &str, text: &str) -> io::Result<()> {
        self.line(&format!(
            "\n   {}\n   {text}",
            self.paint(DIM, &format!("# {what}"))
        ))
    }

    /// A line of the wire.
    pub(super) fn wire(self, who: &str, direction: Direction, text: &str) -> io::Result<()> {
        if !self.wire {
            return Ok(());
        }
        let text = &clip(text);
        let (arrow, shown) = match direction {
            Direction::Sent => ('>', text.to_owned()),
            Direction::Received if text.starts_with("-ERR") || text == CLOSED => {
                ('<', self.paint(RED, text))
            }
            Direction::Received => ('<', text.to_owned()),
        };
        self.line(&format!(
            "   {who:<9} {} {shown}",
            self.paint(DIM, &arrow.to_string())
        ))
    }

    /// Prints a statement that holds; one that does not ends the demonstration.
    ///
    /// # Errors
    /// When it does not hold: the statement, and what was `seen` instead.
    pub(super) fn check(
        self,
        statement: &str,
        holds: bool,
        seen: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        self.hold(statement, holds, seen)?;
        self.line(&format!("   {} {statement}", self.paint(GREEN, "✓")))?;
        Ok(())
    }

    /// As [`Terminal::check`], and prints nothing.
    ///
    /// # Errors
    /// As there.
    pub(super) fn hold(
        self,
        statement: &str,
        holds: bool,
        seen: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        if !holds {
            bail!(
                "the story says \"{statement}\", but this was seen: {}",
                seen()
            );
        }
        Ok(())
    }
}

/// At most [`LINE_SHOWN`] characters of a line.
fn clip(text: &str) -> String {
    match text.char_indices().nth(LINE_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Lines of whole words, at most `width` characters each unless a word is longer.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// How the end of a connection is shown.
pub(super) const CLOSED: &str = "(connection closed)";

/// The beginning of a token: enough to see that it is one, and too little to be one.
pub(super) fn shorten(token: &str) -> String {
    let shown: String = token.chars().take(TOKEN_SHOWN).collect();
    format!("{shown}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown_whole() {
        assert_eq!(
            shorten("eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.e30.c2ln"),
            "eyJ0eXAiOiJK…"
        );
    }

    #[test]
    fn a_statement_that_does_not_hold_is_an_error_that_says_what_was_seen() {
        let terminal = Terminal {
            colour: false,
            wire: true,
        };
        let error = terminal
            .check("water flows down", false, || "up".to_owned())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the story says \"water flows down\", but this was seen: up"
        );
    }

    #[test]
    fn long_texts_are_wrapped_between_words() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a  b", 80), ["a  b"]);
        assert_eq!(clip(&"x".repeat(LINE_SHOWN)), "x".repeat(LINE_SHOWN));
        assert!(clip(&"x".repeat(LINE_SHOWN + 1)).ends_with('…'));
    }

    #[test]
    fn without_colour_nothing_is_escaped() {
        assert_eq!(
            Terminal {
                colour: false,
                wire: true
            }
            .paint(RED, "x"),
            "x"
        );
        assert_eq!(
            Terminal {
                colour: true,
                wire: true
            }
            .paint(RED, "x"),
            "\x1b[31mx\x1b[0m"
        );
    }
}
