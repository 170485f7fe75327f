//! Runs an official suite directly against nats-server and through the stand-in, and compares, test by test.
//!
//! `suite <name> <checkout> [direct|natsentry|compare] [again] [--server 2.15.1] [filter..]`: without a route, all three.

mod c;
mod commands;
mod javascript;
mod python;
mod results;
mod rust;

use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use natsentry::demo::idp::{DevIdp, IdpConfig};
use natsentry::demo::provision::TempDir;
use natsentry::demo::servers::{Version, find_or_install};
use tokio::runtime::Runtime;

use crate::stand_in::inside::{Everybody, ISSUER_VARIABLE};
use crate::stand_in::{NAME, SERVER_VARIABLE};

const USAGE: &str = "suite nats.py|nats.rs|nats.js|nats.c CHECKOUT [direct|natsentry|compare] [again] [--server VERSION] [FILTER..]";

/// The suites that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suite {
    Python,
    Rust,
    JavaScript,
    C,
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Python => "nats.py",
            Self::Rust => "nats.rs",
            Self::JavaScript => "nats.js",
            Self::C => "nats.c",
        })
    }
}

/// What stands behind the name `nats-server`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Direct,
    Natsentry,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Natsentry => "natsentry",
        })
    }
}

struct Order {
    suite: Suite,
    checkout: PathBuf,
    route: Option<String>,
    /// Only what did not pass when it was run before, and passed directly.
    again: bool,
    version: Version,
    filters: Vec<String>,
}

/// Does what the words say.
pub fn run(words: &[String]) -> ExitCode {
    match read(words).and_then(|order| carry_out(&order)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn read(words: &[String]) -> Result<Order, String> {
    let mut words = words.iter().cloned();
    let usage = || USAGE.to_owned();
    let suite = match words.next().ok_or_else(usage)?.as_str() {
        "nats.py" => Suite::Python,
        "nats.rs" => Suite::Rust,
        "nats.js" => Suite::JavaScript,
        "nats.c" => Suite::C,
        _ => return Err(usage()),
    };
    let checkout = PathBuf::from(words.next().ok_or_else(usage)?);
    let checkout =
        fs::canonicalize(&checkout).map_err(|error| format!("{}: {error}", checkout.display()))?;
    let mut order = Order {
        suite,
        checkout,
        route: None,
        again: false,
        version: Version::LATEST,
        filters: Vec::new(),
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "direct" | "natsentry" | "compare" => order.route = Some(word),
            "again" => order.again = true,
            "--server" => {
                let wanted = words.next().ok_or_else(usage)?;
                let mut versions = Version::ALL.into_iter();
                let found = versions.find(|version| version.as_str() == wanted);
                order.version =
                    found.ok_or_else(|| format!("no nats-server {wanted} is known here"))?;
            }
            _ => order.filters.push(word),
        }
    }
    Ok(order)
}

fn carry_out(order: &Order) -> Result<bool, String> {
    let asked = |word: &str| order.route.as_deref().is_none_or(|route| route == word);
    for route in [Route::Direct, Route::Natsentry] {
        if asked(&route.to_string()) {
            let bench = Bench::set_up(order, route)?;
            let run = |only: &[String]| match order.suite {
                Suite::Python => python::run(&bench, only),
                Suite::Rust => rust::run(&bench, only),
                Suite::JavaScript => javascript::run(&bench, only),
                Suite::C => c::run(&bench, only),
            };
            let earlier = if order.again {
                results::not_passed_yet(order.suite, route)?
            } else {
                Vec::new()
            };
            if order.again && earlier.is_empty() {
                continue;
            }
            let mut results = run(&earlier)?;
            // Many of these tests wait for a time and not for an event: a busy machine gets a second try.
            let failed = results.failed();
            if !failed.is_empty() {
                println!(
                    "{} {route}: {}; once more: those that failed",
                    order.suite,
                    results.summary()
                );
                results.better(run(&failed)?);
            }
            results.keep(order.suite, route)?;
            println!("{} {route}: {}", order.suite, results.summary());
        }
    }
    if !asked("compare") {
        return Ok(true);
    }
    results::compare(order.suite)
}

/// Where one route of a suite runs.
struct Bench<'a> {
    checkout: &'a Path,
    /// Where the output of the suite goes.
    logs: PathBuf,
    filters: &'a [String],
    /// Holds the executable `nats-server`.
    bin: TempDir,
    server: PathBuf,
    everybody: String,
    _issuer: (Runtime, DevIdp),
}

impl<'a> Bench<'a> {
    fn set_up(order: &'a Order, route: Route) -> Result<Self, String> {
        let server = find_or_install(order.version).map_err(|error| error.to_string())?;
        let bin = TempDir::create("suite").map_err(|error| error.to_string())?;
        let program = match route {
            Route::Direct => server.clone(),
            Route::Natsentry => std::env::current_exe().map_err(|error| error.to_string())?,
        };
        symlink(program, bin.path().join(NAME)).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let idp = runtime
            .block_on(DevIdp::start(IdpConfig::default()))
            .map_err(|error| error.to_string())?;
        let everybody =
            serde_json::to_string(&Everybody::of(&idp)?).map_err(|error| error.to_string())?;
        let logs = results::folder().join(format!("{} {route}", order.suite));
        fs::create_dir_all(&logs).map_err(|error| error.to_string())?;
        Ok(Self {
            checkout: &order.checkout,
            logs,
            filters: &order.filters,
            bin,
            server,
            everybody,
            _issuer: (runtime, idp),
        })
    }

    /// What a suite's process has to find in its environment.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let path = std::env::var("PATH").unwrap_or_default();
        vec![
            ("PATH", format!("{}:{path}", self.bin.path().display())),
            (SERVER_VARIABLE, self.server.display().to_string()),
            (ISSUER_VARIABLE, self.everybody.clone()),
        ]
    }

    fn wants(&self, test: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| test.contains(filter))
    }
}
