//! The rules of `src/lib.rs` that the compiler does not know: imports go down only, the core reaches for no socket, file
//! or clock, files stay short, and each says at its top what it owns.
//!
//! Reads the sources as text. Comments, strings and `#[cfg(test)]` items do not count.
#![expect(
    clippy::expect_used,
    reason = "a source that cannot be read has to fail the test"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate and their layers.
const LAYERS: [(&str, u8); 24] = [
    ("secret", 0),
    ("spread", 0),
    ("subject", 0),
    ("time", 0),
    ("wire", 0),
    ("identity", 1),
    ("locks", 1),
    ("policy", 1),
    ("session", 2),
    ("audit", 3),
    ("clock", 3),
    ("entra", 3),
    ("http", 3),
    ("jwks", 3),
    ("loopback", 3),
    ("metrics", 3),
    ("revocation", 3),
    ("tls", 3),
    ("upstream", 3),
    ("admin", 4),
    ("cli", 4),
    ("config", 4),
    ("demo", 4),
    ("server", 4),
];

/// Imports inside one layer that are allowed: who, whom, why.
const SIDEWAYS: [(&str, &str, &str); 21] = [
    ("wire", "secret", "CONNECT carries a token"),
    ("policy", "identity", "roles bind to identities"),
    ("locks", "identity", "locks select identities"),
    (
        "locks",
        "policy",
        "points in time are written as in the policy",
    ),
    ("audit", "clock", "the one reader of time"),
    ("http", "clock", "the one reader of time"),
    ("jwks", "clock", "the one reader of time"),
    ("jwks", "http", "the one HTTP client"),
    ("entra", "clock", "the one reader of time"),
    ("entra", "http", "the one HTTP client"),
    ("tls", "clock", "the one reader of time"),
    ("upstream", "clock", "the one reader of time"),
    ("upstream", "loopback", "both legs are set alike"),
    (
        "server",
        "config",
        "the server is built from the configuration",
    ),
    (
        "server",
        "admin",
        "the server hands the admin interface what it shows",
    ),
    ("cli", "config", "check and explain read the configuration"),
    ("cli", "server", "run builds the server"),
    (
        "cli",
        "admin",
        "commands name what they show as the interface does",
    ),
    ("cli", "demo", "natsentry demo"),
    ("demo", "config", "the demonstration writes a configuration"),
    ("demo", "server", "and runs the server with it"),
];

/// What L0 to L2 may not name: text, why.
const NOT_IN_THE_CORE: [(&str, &str); 11] = [
    ("Instant::now", "time is an input"),
    ("SystemTime", "time is an input"),
    ("std::thread", "the core runs where it is called"),
    ("std::fs", "no IO"),
    ("std::env", "no environment"),
    ("TcpStream", "no IO"),
    ("UdpSocket", "no IO"),
    ("tokio::", "no runtime"),
    ("rustls::", "no TLS"),
    ("reqwest::", "no HTTP"),
    ("tracing::", "events, not log lines"),
];

/// Lines of code before the tests, about 400: comments and empty lines are free, since a rule about length must not cost
/// explanations.
const LINES: usize = 420;

/// Files that may be longer: path, lines, why.
const LONGER: [(&str, usize, &str); 4] = [
    (
        "subject/set.rs",
        450,
        "one trie: build, match, cover, overlap",
    ),
    (
        "policy/compile.rs",
        490,
        "every word of a role has its place in one list of grants",
    ),
    (
        "policy/units.rs",
        450,
        "small grammars of numbers with units, all of one kind",
    ),
    (
        "upstream/dial.rs",
        460,
        "one straight pass from address to first PONG",
    ),
];

#[test]
fn imports_go_down_only() {
    assert_none(&imports(&sources(&src())));
}

#[test]
fn the_core_has_no_sockets_and_no_clock() {
    assert_none(&core(&sources(&src())));
}

#[test]
fn files_are_short() {
    assert_none(&sizes(&sources(&src())));
}

#[test]
fn every_file_says_what_it_owns() {
    assert_none(&headers(&sources(&src())));
}

#[test]
fn every_module_has_a_layer() {
    let sources = sources(&src());
    let strange = sources.iter().filter(|file| layer(&file.module).is_none());
    let strange: Vec<_> = strange
        .map(|file| format!("{}: in no layer", file.path))
        .collect();
    assert_none(&strange);
}

#[test]
fn an_upward_import_is_reported_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let plant = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("below src")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    plant(
        "wire/parse.rs",
        "//! Parses.\n\n/* use crate::policy; */\nuse crate::clock::now;\n",
    );
    plant(
        "session/mod.rs",
        "//! Session.\nuse crate::{\n    wire::Frame,\n    server::{Server, Accept},\n};\n",
    );
    plant(
        "jwks.rs",
        "//! Keys.\nfn f() { crate::tls::connect(\"crate::cli::run\"); } // crate::cli\n",
    );
    plant(
        "subject/set.rs",
        "//! Set.\nuse super::super::policy::Permit;\nuse super::Pattern;\n",
    );
    plant(
        "identity/mod.rs",
        "//! Who.\n#[cfg(test)]\nmod tests {\n    use crate::server::x;\n}\n",
    );
    plant("audit/tests.rs", "//! Tests.\nuse crate::server;\n");
    plant(
        "policy/mod.rs",
        "use crate::subject::Pattern;\nfn f() { std::time::SystemTime::now(); }\n",
    );
    plant(
        "tls.rs",
        &format!(
            "//! TLS.\n{}#[cfg(test)]\nmod tests {{}}\n",
            "fn f() {}\n".repeat(421)
        ),
    );
    let sources = sources(folder.path());
    assert_eq!(
        imports(&sources),
        [
            "jwks.rs:2: jwks may not import tls",
            "session/mod.rs:4: session may not import server",
            "subject/set.rs:2: subject may not import policy",
            "wire/parse.rs:4: wire may not import clock",
        ]
    );
    assert_eq!(
        core(&sources),
        ["policy/mod.rs:2: policy may not name SystemTime: time is an input"]
    );
    assert_eq!(
        headers(&sources),
        ["policy/mod.rs:1: does not open with //!"]
    );
    assert_eq!(
        sizes(&sources),
        ["tls.rs: 421 lines of code, 420 are allowed"]
    );
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

struct Source {
    /// Below `src`, with forward slashes.
    path: String,
    /// The module of the crate that it belongs to.
    module: String,
    /// How many modules deep it is: 1 for `wire.rs` and `wire/mod.rs`, 2 for `wire/frame.rs`.
    depth: usize,
    text: String,
    /// The text without comments, strings and test items; line feeds stay.
    code: String,
}

/// Every source file that ships, except the two that only name modules.
fn sources(root: &Path) -> Vec<Source> {
    let mut paths = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let found = paths.iter().filter_map(|path| {
        let below = path.strip_prefix(root).expect("below the root");
        let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
        let last = parts.last().map_or("", |part| part.trim_end_matches(".rs"));
        let tests =
            last == "tests" || last.ends_with("_tests") || parts.iter().any(|part| part == "tests");
        let root = parts.len() == 1 && (last == "lib" || last == "main");
        if tests || root {
            return None;
        }
        let text = fs::read_to_string(path).expect("a readable file");
        Some(Source {
            path: parts.join("/"),
            module: parts
                .first()
                .map_or("", |part| part.trim_end_matches(".rs"))
                .to_owned(),
            depth: parts.len().saturating_sub(usize::from(last == "mod")),
            code: without_tests(&without_comments(&text)),
            text,
        })
    });
    found.collect()
}

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

fn may_import(from: &str, to: &str) -> bool {
    let sideways = || {
        SIDEWAYS
            .iter()
            .any(|(who, whom, _)| (*who, *whom) == (from, to))
    };
    match (layer(from), layer(to)) {
        // Items of the crate root, and macros, have no layer.
        (_, None) => true,
        (Some(upper), Some(lower)) => from == to || lower < upper || sideways(),
        (None, Some(_)) => false,
    }
}

fn imports(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in sources {
        for (line, module) in imported(&file.code, file.depth) {
            if !may_import(&file.module, &module) {
                faults.push(format!(
                    "{}:{line}: {} may not import {module}",
                    file.path, file.module
                ));
            }
        }
    }
    faults
}

fn core(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    let core = sources
        .iter()
        .filter(|file| layer(&file.module).is_some_and(|layer| layer <= 2));
    for file in core {
        for (number, line) in file.code.lines().enumerate() {
            for (word, why) in NOT_IN_THE_CORE
                .iter()
                .filter(|(word, _)| line.contains(word))
            {
                let at = number.saturating_add(1);
                faults.push(format!(
                    "{}:{at}: {} may not name {word}: {why}",
                    file.path, file.module
                ));
            }
        }
    }
    faults
}

fn headers(sources: &[Source]) -> Vec<String> {
    let without = sources.iter().filter(|file| !file.text.starts_with("//! "));
    without
        .map(|file| format!("{}:1: does not open with //!", file.path))
        .collect()
}

fn sizes(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in sources {
        let allowed = LONGER.iter().find(|(path, ..)| *path == file.path);
        let allowed = allowed.map_or(LINES, |(_, lines, _)| *lines);
        let lines = file
            .code
            .lines()
            .filter(|line| !line.trim().is_empty())
            .count();
        if lines > allowed {
            faults.push(format!(
                "{}: {lines} lines of code, {allowed} are allowed",
                file.path
            ));
        }
    }
    faults
}

/// The modules of the crate that `code` names, with line numbers: after `crate::`, or after enough `super::`.
fn imported(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code.get(..at).unwrap_or("");
        if !before.ends_with(|c: char| is_word(c) || c == '$') {
            found.extend(branches(code, at.saturating_add("crate::".len())));
        }
    }
    let up = "super::".repeat(depth);
    for (at, _) in code.match_indices(&up) {
        let before = code.get(..at).unwrap_or("");
        if !before.ends_with(|c: char| is_word(c) || c == ':') {
            found.extend(branches(code, at.saturating_add(up.len())));
        }
    }
    found
}

/// The first name of each branch of the path that begins at `start`: one, or one for each item between braces.
fn branches(code: &str, start: usize) -> Vec<(usize, String)> {
    let rest = code.get(start..).unwrap_or("");
    let Some(list) = rest.strip_prefix('{') else {
        return vec![(line_of(code, start), word(rest))];
    };
    let mut found = Vec::new();
    let mut depth = 1_usize;
    let mut fresh = true;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth = depth.saturating_add(1),
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 1 => fresh = true,
            c if fresh && is_word(c) => {
                let place = start.saturating_add(1).saturating_add(at);
                found.push((line_of(code, place), word(list.get(at..).unwrap_or(""))));
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| is_word(*c)).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_of(text: &str, at: usize) -> usize {
    text.get(..at)
        .unwrap_or("")
        .matches('\n')
        .count()
        .saturating_add(1)
}

/// The text with comments and the insides of strings blanked.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") || rest.starts_with("br") {
            raw_string(rest)
        } else if first == '"' {
            string(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\\"'") {
            4
        } else {
            0
        };
        if skip == 0 {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or("");
        } else {
            let (gone, kept) = rest.split_at(skip);
            out.extend(gone.chars().filter(|c| *c == '\n'));
            rest = kept;
        }
    }
    out
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0_usize;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth = depth.saturating_add(1);
            at = at.saturating_add(2);
        } else if rest.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at = at.saturating_add(2);
            if depth == 0 {
                return at;
            }
        } else {
            at = at.saturating_add(rest.chars().next().map_or(1, char::len_utf8));
        }
    }
    text.len()
}

/// The length of a raw string, or 0 if there is none (`r#type`, a name that ends in `r`).
fn raw_string(text: &str) -> usize {
    let body = text.trim_start_matches('b').trim_start_matches('r');
    let hashes = body.chars().take_while(|c| *c == '#').count();
    let end = format!("\"{}", "#".repeat(hashes));
    let Some(inside) = body.get(hashes..).and_then(|body| body.strip_prefix('"')) else {
        return 0;
    };
    let lead = text.len().saturating_sub(inside.len());
    inside.find(&end).map_or(text.len(), |at| {
        lead.saturating_add(at).saturating_add(end.len())
    })
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at.saturating_add(1),
            _ => {}
        }
    }
    text.len()
}

/// The code with every item that follows `#[cfg(test)]` blanked.
fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (kept, item) = rest.split_at(at);
        out.push_str(kept);
        let mut depth = 0_usize;
        let end = item.char_indices().find(|(_, c)| {
            match c {
                '{' => depth = depth.saturating_add(1),
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            matches!(c, '}' | ';') && depth == 0
        });
        let (gone, after) = item.split_at(end.map_or(item.len(), |(at, _)| at.saturating_add(1)));
        out.extend(gone.chars().filter(|c| *c == '\n'));
        rest = after;
    }
    out.push_str(rest);
    out
}
