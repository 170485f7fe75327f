//! The integration tests of nats.rs's async-nats, each in a process of its own, so that one that hangs costs itself only.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use natsentry::demo::provision::{command, run as output_of};
use serde_json::Value;

use super::Bench;
use super::commands::limited;
use super::results::{End, Results};

/// For one test.
const LIMIT: Duration = Duration::from_secs(90);

/// Tests at a time. Most of their time is spent waiting.
const WORKERS: usize = 2;

/// Builds and runs them, or `only` some.
pub fn run(bench: &Bench<'_>, only: &[String]) -> Result<Results, String> {
    let package = bench.checkout.join("async-nats");
    let mut queue = VecDeque::new();
    for program in programs(bench.checkout)? {
        let name = stem(&program);
        for test in tests(&program, &package)? {
            let full = format!("{name}::{test}");
            if bench.wants(&full) && (only.is_empty() || only.contains(&full)) {
                queue.push_back((program.clone(), test, full));
            }
        }
    }
    let (queue, results) = (Mutex::new(queue), Mutex::new(Results::default()));
    let next = || queue.lock().expect("no panic while held").pop_front();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((program, test, full)) = next() {
                    let end = one(bench, &package, &program, &test, &full);
                    println!("{end:?} {full}");
                    results
                        .lock()
                        .expect("no panic while held")
                        .0
                        .insert(full, end);
                }
            });
        }
    });
    Ok(results.into_inner().expect("no panic while held"))
}

fn one(bench: &Bench<'_>, package: &Path, program: &Path, test: &str, full: &str) -> End {
    let mut run = Command::new(program);
    run.args(["--exact", test, "--nocapture"])
        .envs(bench.environment())
        .current_dir(package);
    let output = bench.logs.join(full.replace("::", "-"));
    match limited(&mut run, &output, LIMIT) {
        Ok(Some(status)) if status.success() => End::Ok,
        _ => End::Failed,
    }
}

/// The executables of the integration tests, built where they are not.
fn programs(checkout: &Path) -> Result<Vec<PathBuf>, String> {
    let mut build = command("cargo");
    build
        .args([
            "test",
            "-p",
            "async-nats",
            "--no-run",
            "--tests",
            "--message-format",
            "json",
        ])
        .current_dir(checkout);
    let said = output_of(&mut build, "cargo has to work").map_err(|error| error.to_string())?;
    let messages = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_test = |message: &Value| message["target"]["kind"][0] == "test";
    let programs = messages
        .filter(is_test)
        .filter_map(|message| Some(message["executable"].as_str()?.into()));
    Ok(programs.collect())
}

fn tests(program: &Path, package: &Path) -> Result<Vec<String>, String> {
    let mut list = command(program);
    list.args(["--list", "--format", "terse"])
        .current_dir(package);
    let said =
        output_of(&mut list, "the suite has to be built").map_err(|error| error.to_string())?;
    Ok(said
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}

/// The name of the file without the hash that cargo puts behind it.
fn stem(program: &Path) -> String {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-')
        .map_or(name.to_string(), |(stem, _)| stem.to_owned())
}
