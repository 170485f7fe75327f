//! Plays every transcript of `proto-fixtures` against the session core with the real policy, in memory: in one piece,
//! byte by byte, and cut at random. All must come to the one result that the file states.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

#[path = "transcripts/check.rs"]
mod check;
#[path = "transcripts/frames.rs"]
mod frames;
#[cfg(feature = "demo")]
#[path = "transcripts/live.rs"]
mod live;
#[path = "transcripts/pattern.rs"]
mod pattern;
#[path = "transcripts/player.rs"]
mod player;
#[path = "transcripts/script.rs"]
mod script;
#[path = "transcripts/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

/// Every theme has to have transcripts.
const THEMES: [&str; 11] = [
    "deny",
    "drain",
    "expiry",
    "handshake",
    "headers",
    "hostile",
    "limits",
    "publish",
    "replies",
    "revocation",
    "subscribe",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-fixtures")
}

#[test]
fn every_transcript_comes_out_as_it_says_however_its_bytes_are_cut() {
    let folder = folder();
    let files = script::all(&folder);
    let mut failures = Vec::new();
    for path in &files {
        // A panic belongs to its file too, and must not hide what is wrong with the others.
        let checked = panic::catch_unwind(|| check::check_file(&folder, path));
        match checked {
            Ok(Ok(_)) => {}
            Ok(Err(report)) => failures.push(report),
            Err(_) => failures.push(format!("{}: panicked, see above\n", path.display())),
        }
    }
    let failed = failures.len();
    assert!(
        failures.is_empty(),
        "{failed} of {} fail\n\n{}",
        files.len(),
        failures.join("\n")
    );
}

#[test]
fn the_checklist_names_transcripts_that_exist() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md");
    let text = fs::read_to_string(list).unwrap();
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let shown = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    let names = shown
        .flat_map(|cell| cell.split([',', ' ']))
        .filter(|word| {
            THEMES
                .iter()
                .any(|theme| word.starts_with(&format!("{theme}/")))
        });
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 150, "{} names", names.len());
    let missing = names
        .into_iter()
        .filter(|name| !folder().join(format!("{name}.txt")).is_file());
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn there_are_enough_transcripts_and_every_theme_has_some() {
    let folder = folder();
    let files = script::all(&folder);
    let mut themes: BTreeMap<String, usize> = BTreeMap::new();
    for path in &files {
        let theme = path
            .parent()
            .unwrap()
            .strip_prefix(&folder)
            .unwrap()
            .display()
            .to_string();
        *themes.entry(theme).or_default() += 1;
    }
    assert!(files.len() >= 120, "only {} transcripts", files.len());
    let names: Vec<&str> = themes.keys().map(String::as_str).collect();
    assert_eq!(names, THEMES, "{themes:?}");
}

const GOOD: &str = "# why\ngiven policy publish = [\"a\"]\ngiven client alice, serving\n\
    C> PUB a 1\nC> x\nC> PUB b 1\nC> y\nU> PUB a 1\nU> x\n\
    C< -ERR 'Permissions Violation for Publish to \"b\"'\n\
    = denied publish b reason=not_granted\n= open\n= traffic in=1 denied=1\n";

#[test]
fn a_right_expectation_passes() {
    check::check_text("good.txt", GOOD).unwrap();
}

/// Every way in which an expectation can be wrong is seen, and the report names the line and both sides.
#[test]
fn a_wrong_expectation_is_seen() {
    let changes = [
        ("U> PUB a 1\nU> x\n", "U> PUB a 1\nU> z\n", "other bytes"),
        ("U> PUB a 1\nU> x\n", "", "other bytes"),
        ("to \"b\"'", "to \"c\"'", "other bytes"),
        ("U> x\n", "U> x\nU> PING\n", "other bytes"),
        ("reason=not_granted", "reason=denied", "other facts"),
        ("= denied publish b reason=not_granted\n", "", "other facts"),
        (
            "= open\n",
            "= closed malformed blame=client\n",
            "other facts",
        ),
        ("= open\n", "= upstream silent\n", "does not hold"),
        ("in=1", "in=2", "does not hold"),
    ];
    for (from, to, what) in changes {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from:?} is not in the text");
        let report = check::check_text("bad.txt", &text).unwrap_err();
        assert!(report.starts_with("bad.txt:"), "{report}");
        assert!(
            report.contains(what) && report.contains("happened"),
            "{to:?}: {report}"
        );
    }
}

#[test]
fn a_line_that_is_not_known_is_a_failure() {
    for line in [
        "C: PING",
        "X> PING",
        "PING",
        "! dance",
        "= ",
        "given nothing",
        "@ soon",
        "C> \\q",
    ] {
        let text = GOOD.replacen("C> PUB b", &format!("{line}\nC> PUB b"), 1);
        let report = check::check_text("bad.txt", &text);
        assert!(report.is_err(), "{line:?} passed");
    }
    assert!(check::check_text("bad.txt", &GOOD.replacen("# why\n", "", 1)).is_err());
    assert!(check::check_text("bad.txt", "# why\ngiven client alice, serving\nC> PING\n").is_err());
}
