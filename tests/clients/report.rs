//! What a run showed, and the table of all runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub op: String,
    pub ok: bool,
    #[serde(default)]
    pub detail: String,
}

/// One run of one client.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub client: String,
    pub server: String,
    pub route: String,
    pub mode: String,
    pub lines: Vec<Line>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("clients")
}

impl Report {
    /// Keeps it beside the other runs', and writes the table of all of them anew: `matrix.md` in the same folder.
    pub fn keep(&self) -> std::io::Result<()> {
        let folder = folder();
        fs::create_dir_all(&folder)?;
        let name = format!(
            "{} {} {} {}",
            self.client, self.server, self.route, self.mode
        );
        let name = name.replace(['/', ' '], "-");
        write_whole(
            &folder.join(format!("{name}.json")),
            &serde_json::to_string_pretty(self)?,
        )?;
        write_whole(&folder.join("matrix.md"), &table(&all()?))
    }
}

/// Readers never see half of it.
fn write_whole(place: &std::path::Path, text: &str) -> std::io::Result<()> {
    let thread = format!("{:?}", std::thread::current().id());
    let aside = place.with_extension(format!("{}-{thread}", std::process::id()));
    fs::write(&aside, text)?;
    fs::rename(&aside, place)
}

fn all() -> std::io::Result<Vec<Report>> {
    let mut reports = Vec::new();
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            reports.extend(serde_json::from_str::<Report>(&fs::read_to_string(path)?));
        }
    }
    Ok(reports)
}

/// One row for each operation, one column for each client, server and route.
fn table(reports: &[Report]) -> String {
    let mut columns: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    let mut rows: Vec<String> = Vec::new();
    for report in reports {
        let column = format!("{} {} {}", report.client, report.server, report.route);
        for line in &report.lines {
            let row = format!("{} {}", report.mode, line.op);
            if !rows.contains(&row) {
                rows.push(row.clone());
            }
            columns
                .entry(column.clone())
                .or_default()
                .insert(row, line.ok);
        }
    }
    let mut text = String::from("| operation |");
    for column in columns.keys() {
        write!(text, " {column} |").ok();
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(columns.len()));
    for row in rows {
        write!(text, "\n| {row} |").ok();
        for results in columns.values() {
            let cell = results
                .get(&row)
                .map_or("", |ok| if *ok { "yes" } else { "**no**" });
            write!(text, " {cell} |").ok();
        }
    }
    text.push('\n');
    text
}
