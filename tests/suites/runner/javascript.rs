//! The suites of nats.js with deno, file by file. What they import from other registries than npm's is replaced: by the
//! same packages there, and by `tests/suites/deno/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Bench;
use super::commands::limited;
use super::results::{End, Results};
use crate::support::tools;

/// The packages of the repository, whose tests are in `<package>/tests`.
const PACKAGES: [(&str, &str); 7] = [
    ("core", "@nats-io/nats-core"),
    ("jetstream", "@nats-io/jetstream"),
    ("kv", "@nats-io/kv"),
    ("obj", "@nats-io/obj"),
    ("services", "@nats-io/services"),
    ("nst", "@nats-io/nst"),
    ("transport-deno", "@nats-io/transport-deno"),
];

/// As the repository's own `deno.json` files pin them, from npm.
const FROM_NPM: [(&str, &str); 5] = [
    ("@nats-io/nkeys", "npm:@nats-io/nkeys@2.0.3"),
    ("@nats-io/nuid", "npm:@nats-io/nuid@3.0.0"),
    ("@nats-io/jwt", "npm:@nats-io/jwt@0.0.11"),
    ("js-sha256", "npm:js-sha256@0.11.1"),
    ("ajv", "npm:ajv@8.17.1"),
];

/// For one file.
const LIMIT: Duration = Duration::from_secs(420);

/// For one test by itself.
const LIMIT_OF_ONE: Duration = Duration::from_secs(90);

/// Runs them, or `only` some.
pub fn run(bench: &Bench<'_>, only: &[String]) -> Result<Results, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites/deno");
    let node = tools::node().map_err(|error| error.to_string())?;
    let program = node.program(&source).map_err(|error| error.to_string())?;
    let map = bench.logs.join("import-map.json");
    fs::write(&map, import_map(bench.checkout, &program).to_string())
        .map_err(|error| error.to_string())?;
    let runner = Deno {
        bench,
        node: node.node,
        program,
        map,
    };
    let mut results = Results::default();
    if only.is_empty() {
        for file in files(bench.checkout)
            .into_iter()
            .filter(|file| bench.wants(file))
        {
            let output = bench.logs.join(file.replace('/', "-"));
            let found = runner.run(&file, None, &output)?;
            println!("{file}: {}", found.summary());
            results.0.extend(found.0);
        }
    }
    // One that goes wrong can take the others of its file along: the second time each is alone.
    for (number, test) in only.iter().enumerate() {
        if let Some((file, name)) = test.split_once("::") {
            let output = bench.logs.join(format!("again-{number}"));
            results.0.extend(runner.run(file, Some(name), &output)?.0);
        }
    }
    Ok(results)
}

struct Deno<'a> {
    bench: &'a Bench<'a>,
    node: PathBuf,
    program: PathBuf,
    map: PathBuf,
}

impl Deno<'_> {
    /// Runs a file, or one test of it.
    fn run(&self, file: &str, test: Option<&str>, output: &Path) -> Result<Results, String> {
        let mut deno = Command::new(&self.node);
        deno.arg(self.program.join("node_modules/deno/bin.cjs"));
        deno.args([
            "test",
            "-A",
            "--no-check",
            "--no-lock",
            "--no-config",
            "--reporter=tap",
        ]);
        if let Some(test) = test {
            deno.arg(format!("--filter=/^{}$/", escaped(test)));
        }
        deno.arg("--import-map")
            .arg(&self.map)
            .arg(file)
            .envs(self.bench.environment())
            .env("DENO_TLS_CA_STORE", "system")
            .env("NO_COLOR", "1")
            .current_dir(self.bench.checkout);
        let limit = if test.is_some() { LIMIT_OF_ONE } else { LIMIT };
        limited(&mut deno, output, limit).map_err(|error| error.to_string())?;
        let mut results = Results::default();
        read(file, output, &mut results)?;
        Ok(results)
    }
}

/// For a regular expression.
fn escaped(text: &str) -> String {
    let special = |c: char| !c.is_alphanumeric() && !c.is_whitespace();
    text.chars()
        .flat_map(|c| special(c).then_some('\\').into_iter().chain([c]))
        .collect()
}

fn files(checkout: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for (package, _) in PACKAGES {
        let entries = fs::read_dir(checkout.join(package).join("tests"))
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        files.extend(
            names
                .filter(|name| name.ends_with("_test.ts"))
                .map(|name| format!("{package}/tests/{name}")),
        );
    }
    files.sort();
    files
}

fn import_map(checkout: &Path, program: &Path) -> Value {
    let url = |path: PathBuf| Value::from(format!("file://{}", path.display()));
    let mut imports = Map::new();
    let mut scopes = Map::new();
    for (package, name) in PACKAGES {
        let source = checkout.join(package).join("src");
        imports.insert(name.to_owned(), url(source.join("mod.ts")));
        imports.insert(
            format!("{name}/internal"),
            url(source.join("internal_mod.ts")),
        );
        let tests = checkout.join(package).join("tests");
        let scope = format!("file://{}/", tests.display());
        scopes.insert(scope, json!({ "nst": url(tests.join("nst.ts")) }));
    }
    for (name, place) in FROM_NPM {
        imports.insert(name.to_owned(), place.into());
    }
    for name in ["assert", "bytes", "io"] {
        imports.insert(
            format!("@std/{name}"),
            url(program.join(format!("{name}.mjs"))),
        );
    }
    json!({ "imports": imports, "scopes": scopes })
}

/// TAP: `ok 1 - name`, `not ok 2 - name`, `ok 3 - name # SKIP`.
fn read(file: &str, output: &Path, results: &mut Results) -> Result<(), String> {
    let bytes = fs::read(output).map_err(|error| error.to_string())?;
    for line in String::from_utf8_lossy(&bytes).lines() {
        let (ok, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => continue,
        };
        let Some((_, name)) = rest.split_once(" - ") else {
            continue;
        };
        let (name, skipped) = match name.split_once(" # ") {
            Some((name, directive)) => (name, directive.starts_with("SKIP")),
            None => (name, false),
        };
        let end = match (ok, skipped) {
            (_, true) => End::Skipped,
            (true, false) => End::Ok,
            (false, false) => End::Failed,
        };
        results.0.insert(format!("{file}::{}", name.trim()), end);
    }
    Ok(())
}
