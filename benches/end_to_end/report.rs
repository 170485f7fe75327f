//! The report: every figure with its median, minimum and maximum over the rounds, and as a ratio to HAProxy within each
//! round.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::contenders::{Contender, Stage};
use super::figures::Figure;
use super::stream::Lines;

/// What a figure was taken at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    /// There is only one of it.
    Whole,
    /// Bytes of payload, or a number of whatever the title says.
    Count(usize),
    Lines(Lines),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Count(count) => count.fmt(f),
            Self::Lines(Lines::Canonical) => f.write_str("canonical"),
            Self::Lines(Lines::LowerCase) => f.write_str("lower case"),
            Self::Lines(Lines::TwoSpaces) => f.write_str("two spaces"),
        }
    }
}

/// Which series a value belongs to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) figure: Figure,
    pub(crate) at: At,
    pub(crate) contender: String,
}

/// All values so far.
pub(crate) struct Report {
    head: String,
    pub(super) contenders: Vec<String>,
    values: BTreeMap<Cell, Vec<f64>>,
    /// What belongs below the table of a figure, in the order in which it was seen.
    notes: Vec<(Figure, String)>,
}

impl Report {
    pub(crate) fn new(stage: &Stage) -> Self {
        let mut head = format!("{}\n\nnats-server {}", machine(), stage.server_version);
        for contender in &stage.contenders {
            // Writing to a String cannot fail.
            let _ = write!(head, "; {}: {}", contender.name, contender.version);
        }
        let contenders = stage
            .contenders
            .iter()
            .map(|contender| contender.name.clone())
            .collect();
        Self {
            head,
            contenders,
            values: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, contender: &Contender, figure: Figure, at: At, value: f64) {
        let cell = Cell {
            figure,
            at,
            contender: contender.name.clone(),
        };
        self.values.entry(cell).or_default().push(value);
    }

    pub(super) fn has(&self, figure: Figure, at: At, contender: &str) -> bool {
        let contender = contender.to_owned();
        let cell = Cell {
            figure,
            at,
            contender,
        };
        self.values.contains_key(&cell)
    }

    /// Says something about a figure, once.
    pub(crate) fn note(&mut self, figure: Figure, text: String) {
        let note = (figure, text);
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Values of a contender divided by those of the yardstick in the same round: with TLS, of the yardstick with TLS.
    pub(super) fn ratios(&self, cell: &Cell) -> Option<Vec<f64>> {
        if cell.figure == Figure::LinesToCanonical {
            // A ratio already, within each contender.
            return None;
        }
        let secured = cell.contender.ends_with("-tls");
        let yardstick = Cell {
            contender: if secured { YARDSTICK_TLS } else { YARDSTICK }.to_owned(),
            ..cell.clone()
        };
        let (own, other) = (self.values.get(cell)?, self.values.get(&yardstick)?);
        Some(
            own.iter()
                .zip(other)
                .map(|(own, other)| own / other)
                .collect(),
        )
    }

    /// What a figure was taken at, in order.
    pub(super) fn places(&self, figure: Figure) -> Vec<At> {
        let cells = self.values.keys().filter(|cell| cell.figure == figure);
        let mut places: Vec<_> = cells.map(|cell| cell.at).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// Looks, before anything is measured, whether the tables can be put there; makes the file where there is none.
    pub(crate) fn prepare(path: &Path) -> Result<()> {
        if !path.exists() {
            std::fs::write(path, format!("{BEGIN}\n{END}\n"))?;
        }
        let text = std::fs::read_to_string(path)?;
        let (_, rest) = text
            .split_once(BEGIN)
            .with_context(|| format!("it has no line `{BEGIN}`"))?;
        rest.split_once(END)
            .with_context(|| format!("it has no line `{END}` behind the other"))?;
        // Not to find out after a quarter of an hour that it may not be written.
        Ok(std::fs::write(path, text)?)
    }

    /// Puts the tables into a file, in place of what stands between [`BEGIN`] and [`END`].
    pub(crate) fn write_into(&self, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path)?;
        let (before, rest) = text.split_once(BEGIN).context("no begin marker")?;
        let (_, after) = rest.split_once(END).context("no end marker")?;
        let tables = format!("{before}{BEGIN}\n{self}\n{END}{after}");
        Ok(std::fs::write(path, tables)?)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.head)?;
        for figure in Figure::ALL {
            let places = self.places(figure);
            if places.is_empty() {
                continue;
            }
            writeln!(f, "### {}\n", figure.title())?;
            writeln!(
                f,
                "| at | contender | median | min | max | ratio to {YARDSTICK} | min | max |"
            )?;
            writeln!(f, "|---:|---|---:|---:|---:|---:|---:|---:|")?;
            for at in places {
                for contender in &self.contenders {
                    self.row(f, figure, at, contender)?;
                }
            }
            writeln!(f)?;
            let notes: Vec<_> = self.notes.iter().filter(|(of, _)| *of == figure).collect();
            for (_, note) in &notes {
                writeln!(f, "- {note}")?;
            }
            if !notes.is_empty() {
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn row(
        &self,
        f: &mut fmt::Formatter<'_>,
        figure: Figure,
        at: At,
        contender: &str,
    ) -> fmt::Result {
        let cell = Cell {
            figure,
            at,
            contender: contender.to_owned(),
        };
        let Some(values) = self.values.get(&cell) else {
            return Ok(());
        };
        let (low, high) = ends(values);
        let [middle, low, high] = [median(values), low, high].map(show);
        write!(f, "| {at} | {contender} | {middle} | {low} | {high} |")?;
        let Some(ratios) = self.ratios(&cell) else {
            return writeln!(f, " | | |");
        };
        let (low, high) = ends(&ratios);
        let [middle, low, high] = [median(&ratios), low, high].map(show_ratio);
        writeln!(f, " {middle} | {low} | {high} |")
    }
}

/// The middle value; of two, the mean.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = sorted.get(half).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 {
        return upper;
    }
    let lower = half
        .checked_sub(1)
        .and_then(|at| sorted.get(at))
        .copied()
        .unwrap_or(f64::NAN);
    f64::midpoint(lower, upper)
}

fn ends(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    (
        low,
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    )
}

/// A ratio to nothing is none.
fn show_ratio(ratio: f64) -> String {
    if ratio.is_finite() {
        format!("{ratio:.2}")
    } else {
        "-".to_owned()
    }
}

/// Three digits that matter, thousands apart.
pub(super) fn show(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (n, c) in digits.chars().enumerate() {
        if n > 0 && digits.len().saturating_sub(n) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let control = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    let control = control.unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let commit = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!(
        "{model}, {cores} cores, Linux {}, congestion control {}, commit {}",
        kernel.trim(),
        control.trim(),
        commit.unwrap_or_default()
    )
}

/// What a file for the tables has around their place.
const BEGIN: &str = "<!-- begin: written by the harness -->";

const END: &str = "<!-- end: written by the harness -->";

const YARDSTICK: &str = "haproxy";

const YARDSTICK_TLS: &str = "haproxy-tls";
