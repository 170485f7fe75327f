//! The suites of nats.py: the client's own, and those of its newer packages that start a server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use natsentry::demo::provision::pip::Python;
use natsentry::demo::provision::{Cache, command, run as output_of};

use super::Bench;
use super::commands::limited;
use super::results::{End, Results};

/// The packages of the repository, and the folder that the paths in their tests start from.
const PACKAGES_OF_TESTS: [(&str, &str); 4] = [
    ("nats", "."),
    ("nats-core", "nats-core"),
    ("nats-jetstream", "nats-jetstream"),
    ("nats-key-value", "nats-key-value"),
];

/// For `PYTHONPATH`.
const SOURCES: [&str; 5] = [
    "nats/src",
    "nats-core/src",
    "nats-jetstream/src",
    "nats-key-value/src",
    "nats-server/src",
];

/// What the suites need beside the checkout.
const PACKAGES: &[&str] = &[
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "pytest-timeout==2.4.0",
    "nkeys==0.2.1",
    "pynacl==1.6.2",
    "aiohttp==3.14.5",
    "typing_extensions==4.16.0",
];

/// Names the interpreter. The newer packages need 3.12 or later; where it is older, they are left out.
const PYTHON_VARIABLE: &str = "NATSENTRY_SUITE_PYTHON";
const ADVICE: &str = "NATSENTRY_SUITE_PYTHON has to name a Python with pip";

/// For one folder.
const LIMIT: Duration = Duration::from_secs(2400);

/// For one test, in seconds.
const TEST_LIMIT: &str = "--timeout=60";

/// Runs them, or `only` some.
pub fn run(bench: &Bench<'_>, only: &[String]) -> Result<Results, String> {
    let python = interpreter()?;
    let version =
        output_of(command(&python).arg("--version"), ADVICE).map_err(|error| error.to_string())?;
    let cache = Cache::open().map_err(|error| error.to_string())?;
    // Some packages hold code that is compiled for one version of Python.
    let name = format!("suite-{}", version.trim().replace(' ', "-"));
    let packages = cache.entry(&name, |aside| {
        let mut pip = command(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--target"])
            .arg(aside)
            .args(PACKAGES);
        output_of(&mut pip, ADVICE).map(drop)
    });
    let packages = packages.map_err(|error| error.to_string())?;
    let mut path: Vec<String> = SOURCES
        .iter()
        .map(|source| bench.checkout.join(source).display().to_string())
        .collect();
    path.push(packages.display().to_string());
    let mut results = Results::default();
    for (package, home) in PACKAGES_OF_TESTS {
        let own = format!("{package}/tests");
        if !bench.checkout.join(&own).is_dir() {
            continue;
        }
        let home = bench.checkout.join(home);
        let chosen: Vec<String> = if only.is_empty() {
            vec![bench.checkout.join(&own).display().to_string()]
        } else {
            let ours = only.iter().filter(|test| test.starts_with(&own));
            ours.map(|test| bench.checkout.join(test).display().to_string())
                .collect()
        };
        if chosen.is_empty() {
            continue;
        }
        let again = if only.is_empty() { "" } else { " again" };
        let output = bench.logs.join(format!("{package}{again}"));
        let mut pytest = command(&python);
        pytest
            .args(["-m", "pytest", "-p", "no:cacheprovider", "-v"])
            .args(["--tb=short", TEST_LIMIT])
            .args(chosen)
            .envs(bench.environment())
            .env("PYTHONPATH", path.join(":"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("COLUMNS", "400")
            .current_dir(home);
        if !bench.filters.is_empty() && only.is_empty() {
            pytest.arg("-k").arg(bench.filters.join(" or "));
        }
        limited(&mut pytest, &output, LIMIT).map_err(|error| error.to_string())?;
        read(package, &output, &mut results)?;
    }
    Ok(results)
}

fn interpreter() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os(PYTHON_VARIABLE) {
        return Ok(PathBuf::from(named));
    }
    let found = Cache::open().and_then(|cache| Python::find(&cache));
    found
        .map(|python| python.program().to_path_buf())
        .map_err(|error| error.to_string())
}

/// `nats/tests/test_x.py::Class::test PASSED  [ 5%]`, from wherever the run started; a test that writes of its own stands
/// between name and word.
fn read(package: &str, output: &Path, results: &mut Results) -> Result<(), String> {
    let bytes = std::fs::read(output).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    let words = [
        ("PASSED", End::Ok),
        ("FAILED", End::Failed),
        ("ERROR", End::Failed),
        ("SKIPPED", End::Skipped),
    ];
    for line in text.lines().filter(|line| line.contains("%]")) {
        let mut parts = line.split_whitespace();
        let Some(test) = parts.next().filter(|test| test.contains("::")) else {
            continue;
        };
        if let Some((_, end)) = words
            .iter()
            .find(|(word, _)| parts.clone().any(|part| part == *word))
        {
            let (_, test) = test.split_once("tests/").unwrap_or(("", test));
            results.0.insert(format!("{package}/tests/{test}"), *end);
        }
    }
    Ok(())
}
