//! Printing: results to standard output, complaints to standard error.
//!
//! Owns: tables and JSON. Must never: panic when the reader of a pipe has gone.

use std::io::{self, Write as _};

use serde::Serialize;

/// Prints a result.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

/// Prints a result as one JSON document.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

/// Prints a complaint. There is nobody to tell if that fails.
pub(super) fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Whether the reader of our output has gone, which is its own affair (`natsentry schema | head`).
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Rows in columns that are as wide as their widest cell, last cells of rows apart.
#[derive(Default)]
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.0.push(cells.map(str::to_owned).into());
    }

    /// The rows, without spaces at line ends.
    pub(super) fn show(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.0
                .iter()
                // A last cell may be as long as it likes.
                .filter(|row| row.len() > column.saturating_add(1))
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut shown = String::new();
        for row in &self.0 {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width.saturating_sub(cell.chars().count()).saturating_add(2);
                line.push_str(cell);
                line.push_str(&" ".repeat(padding));
            }
            shown.push_str(line.trim_end());
            shown.push('\n');
        }
        shown
    }
}
