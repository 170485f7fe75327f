//! What came of each test, kept in files, and the comparison of two routes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Route, Suite};

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Ok,
    Failed,
    Skipped,
}

impl End {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Ok, "ok"),
        (Self::Failed, "failed"),
        (Self::Skipped, "skipped"),
    ];
}

/// One route's, by the name of the test.
#[derive(Debug, Default)]
pub struct Results(pub BTreeMap<String, End>);

/// Kept results, beside the build.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("suites")
}

fn file(suite: Suite, route: Route) -> PathBuf {
    folder().join(format!("{suite}.{route}.txt"))
}

impl Results {
    fn count(&self, wanted: End) -> usize {
        self.0.values().filter(|end| **end == wanted).count()
    }

    /// The tests that failed.
    pub fn failed(&self) -> Vec<String> {
        let failed = self.0.iter().filter(|(_, end)| **end == End::Failed);
        failed.map(|(test, _)| test.clone()).collect()
    }

    /// Takes over what went well the second time.
    pub fn better(&mut self, second: Self) {
        for (test, end) in second.0 {
            if end == End::Ok && self.0.contains_key(&test) {
                self.0.insert(test, end);
            }
        }
    }

    /// For people.
    pub fn summary(&self) -> String {
        let counts = End::ALL.map(|(end, word)| format!("{} {word}", self.count(end)));
        counts.join(", ")
    }

    /// Keeps them, over those of an earlier run of other tests.
    pub fn keep(&self, suite: Suite, route: Route) -> Result<(), String> {
        let file = file(suite, route);
        fs::create_dir_all(folder()).map_err(|error| error.to_string())?;
        let mut all = Self::load(&file).unwrap_or_default();
        all.0.extend(self.0.clone());
        let mut text = String::new();
        for (test, end) in &all.0 {
            let word = End::ALL
                .iter()
                .find(|(known, _)| known == end)
                .map_or("", |(_, word)| word);
            writeln!(text, "{word} {test}").ok();
        }
        fs::write(&file, text).map_err(|error| error.to_string())
    }

    fn load(file: &Path) -> Result<Self, String> {
        let text =
            fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let lines = text.lines().filter_map(|line| {
            let (word, test) = line.split_once(' ')?;
            let (end, _) = End::ALL.iter().find(|(_, known)| *known == word)?;
            Some((test.to_owned(), *end))
        });
        Ok(Self(lines.collect()))
    }
}

/// What did not pass on this route in earlier runs: directly whatever failed, through natsentry what passed directly.
pub fn not_passed_yet(suite: Suite, route: Route) -> Result<Vec<String>, String> {
    let kept = Results::load(&file(suite, route))?;
    if route == Route::Direct {
        return Ok(kept.failed());
    }
    let direct = Results::load(&file(suite, Route::Direct))?;
    let passed = direct.0.into_iter().filter(|(_, end)| *end == End::Ok);
    let missing = passed.filter(|(test, _)| kept.0.get(test) != Some(&End::Ok));
    Ok(missing.map(|(test, _)| test).collect())
}

/// Tests that are known to fail through natsentry, each with its reason. The file has a line `reason: ..` before the
/// tests that it is the reason of; `#` begins a comment.
fn known_failures(suite: Suite) -> Result<BTreeMap<String, String>, String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/suites/known-failures")
        .join(format!("{suite}.txt"));
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut known = BTreeMap::new();
    let mut reason = String::new();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match line.strip_prefix("reason: ") {
            Some(text) => text.clone_into(&mut reason),
            None if reason.is_empty() => {
                return Err(format!("{}: `{line}` has no reason", file.display()));
            }
            None => {
                known.insert(line.to_owned(), reason.clone());
            }
        }
    }
    Ok(known)
}

/// Prints which tests pass directly and fail through natsentry. Whether each has a reason, and no fewer than 95 in 100
/// pass.
pub fn compare(suite: Suite) -> Result<bool, String> {
    let direct = Results::load(&file(suite, Route::Direct))?;
    let through = Results::load(&file(suite, Route::Natsentry))?;
    let known = known_failures(suite)?;
    let passed: Vec<&String> = direct
        .0
        .iter()
        .filter(|(_, end)| **end == End::Ok)
        .map(|(test, _)| test)
        .collect();
    let (kept, lost): (Vec<&String>, Vec<&String>) = passed
        .iter()
        .partition(|test| through.0.get(**test) == Some(&End::Ok));
    println!(
        "{suite}: directly {}; through natsentry {}",
        direct.summary(),
        through.summary()
    );
    for test in &lost {
        println!(
            "  fails through natsentry: {test}: {}",
            known
                .get(*test)
                .map_or("NO REASON IS KNOWN", String::as_str)
        );
    }
    for test in known.keys().filter(|test| kept.contains(test)) {
        println!("  known to fail, and passed: {test}");
    }
    let share = 100.0 * kept.len() as f64 / passed.len().max(1) as f64;
    println!(
        "{suite}: of {} tests that pass directly, {} pass through natsentry: {share:.1} %",
        passed.len(),
        kept.len()
    );
    Ok(share >= 95.0 && lost.iter().all(|test| known.contains_key(*test)))
}
