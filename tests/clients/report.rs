//! What a run showed, kept beside the build.

use std::fs;
use std::path::{Path, PathBuf};

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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub client: String,
    pub server: String,
    pub route: String,
    pub mode: String,
    pub lines: Vec<Line>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients")
}

impl Report {
    /// Keeps it beside the other runs'. Readers never see half of it.
    pub fn keep(&self) -> std::io::Result<()> {
        fs::create_dir_all(folder())?;
        let place = folder().join(Self::file(
            &self.client,
            &self.server,
            &self.route,
            &self.mode,
        ));
        let thread = format!("{:?}", std::thread::current().id());
        let aside = place.with_extension(format!("{}-{thread}", std::process::id()));
        fs::write(&aside, serde_json::to_string_pretty(self)?)?;
        fs::rename(&aside, place)
    }

    /// What was kept of a run.
    pub fn load(client: &str, server: &str, route: &str, mode: &str) -> Option<Self> {
        let place = folder().join(Self::file(client, server, route, mode));
        serde_json::from_slice(&fs::read(place).ok()?).ok()
    }

    fn file(client: &str, server: &str, route: &str, mode: &str) -> String {
        format!("{client} {server} {route} {mode}.json").replace(['/', ' '], "-")
    }

    /// The line of an operation.
    pub fn line(&self, op: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.op == op)
    }
}
