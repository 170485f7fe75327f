//! The suite of nats.c, each test in a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use natsentry::demo::provision::{command, run as output_of};

use super::Bench;
use super::commands::limited;
use super::results::{End, Results, folder};

/// For one test; some take a minute by themselves.
const LIMIT: Duration = Duration::from_secs(150);

/// What the program says when it is content (`test/CMakeLists.txt`).
const CONTENT: &str = "ALL PASSED";

/// Builds and runs them, or `only` some.
pub fn run(bench: &Bench<'_>, only: &[String]) -> Result<Results, String> {
    let program = build(bench.checkout)?;
    let mut results = Results::default();
    for test in tests(bench.checkout)? {
        if !bench.wants(&test) || !(only.is_empty() || only.contains(&test)) {
            continue;
        }
        let output = bench.logs.join(&test);
        let mut run = Command::new(&program);
        run.arg(&test)
            .envs(bench.environment())
            .current_dir(bench.checkout.join("test"));
        limited(&mut run, &output, LIMIT).map_err(|error| error.to_string())?;
        let said = fs::read(&output).map_err(|error| error.to_string())?;
        let ok = String::from_utf8_lossy(&said).contains(CONTENT);
        let end = if ok { End::Ok } else { End::Failed };
        println!("{end:?} {test}");
        results.0.insert(test, end);
    }
    Ok(results)
}

/// The test program, without NATS Streaming, which needs more libraries.
fn build(checkout: &Path) -> Result<PathBuf, String> {
    let place = folder().join("nats.c build");
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    let mut configure = command("cmake");
    configure.args(["-DCMAKE_BUILD_TYPE=Release", "-DNATS_BUILD_STREAMING=OFF"]);
    configure
        .arg("-DNATS_BUILD_EXAMPLES=OFF")
        .arg(checkout)
        .current_dir(&place);
    let mut build = command("cmake");
    build
        .args(["--build", ".", "--target", "testsuite"])
        .current_dir(&place);
    for step in [&mut configure, &mut build] {
        output_of(step, "nats.c needs cmake, a C compiler and OpenSSL")
            .map_err(|error| error.to_string())?;
    }
    Ok(place.join("bin/testsuite"))
}

/// `_test(Name)`, one a line.
fn tests(checkout: &Path) -> Result<Vec<String>, String> {
    let list = fs::read_to_string(checkout.join("test/list_test.txt"));
    let list = list.map_err(|error| error.to_string())?;
    let names = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix("_test(")?.strip_suffix(')'));
    Ok(names.map(str::to_owned).collect())
}
