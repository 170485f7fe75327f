//! The question: how many instructions does one message, or one permission question, take? Counts repeat exactly where
//! times do not, so they can fail a build.
//!
//! `cargo run --release --no-default-features --features instructions --bin instructions` counts under valgrind and fails
//! when a count is more than 5 % above the one in `benches/instructions.txt`; `-- --update` writes that file. It is a program
//! and no benchmark, so that CI need not build what only tests and the shell need.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark"
)]

mod support;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

use natsentry::subject::{Pattern, PatternSet, PatternSetBuilder};
use support::{batch, feed_client, feed_upstream, filtered, say, serving, typical};

/// Name, and what runs it so many times; returns how many messages or questions one time is.
type Case = (&'static str, fn(u64) -> u64);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const CASES: [Case; 28] = [
    ("publish, canonical", |n| {
        publish(n, "PUB bench.{} 16\r\nxxxxxxxxxxxxxxxx\r\n", 1)
    }),
    ("publish, two spaces", |n| {
        publish(n, "PUB bench.{}  16\r\nxxxxxxxxxxxxxxxx\r\n", 1)
    }),
    ("publish, lower case", |n| {
        publish(n, "pub bench.{} 16\r\nxxxxxxxxxxxxxxxx\r\n", 1)
    }),
    ("publish, 64 sizes", |n| sizes(n, "PUB bench.0 {}\r\n")),
    ("publish, 64 sizes, two spaces", |n| {
        sizes(n, "PUB bench.0  {}\r\n")
    }),
    ("publish, 64 subjects", |n| {
        publish(n, "PUB bench.{} 16\r\nxxxxxxxxxxxxxxxx\r\n", 64)
    }),
    ("publish, 64 subjects, two spaces", |n| {
        publish(n, "PUB bench.{}  16\r\nxxxxxxxxxxxxxxxx\r\n", 64)
    }),
    // More than are remembered, the third token under a `*` that is not the last one.
    ("publish, 2000 subjects", |n| {
        publish(n, "PUB bench.{} 16\r\nxxxxxxxxxxxxxxxx\r\n", 2000)
    }),
    ("publish, 64 subjects apart", |n| {
        publish(n, "PUB plant.3.{}.state 16\r\nxxxxxxxxxxxxxxxx\r\n", 64)
    }),
    ("publish, 1000 subjects apart", |n| {
        publish(n, "PUB plant.3.{}.state 16\r\nxxxxxxxxxxxxxxxx\r\n", 1000)
    }),
    ("publish with reply", |n| {
        publish(n, "PUB bench.{} bench.r 16\r\nxxxxxxxxxxxxxxxx\r\n", 1)
    }),
    ("publish with an inbox each", |n| asks(n)),
    ("publish, LF alone", |n| {
        publish(n, "PUB bench.{} 16\nxxxxxxxxxxxxxxxx\r\n", 1)
    }),
    ("deliver, 1 subject", |n| deliver(n, " ", 1, &typical())),
    ("deliver, 1 subject, two spaces", |n| {
        deliver(n, "  ", 1, &typical())
    }),
    ("deliver", |n| deliver(n, " ", 8, &typical())),
    ("deliver, two spaces", |n| deliver(n, "  ", 8, &typical())),
    ("deliver, may respond", |n| {
        deliver(n, " ", 8, &responding())
    }),
    ("deliver with reply", |n| requests(n, &typical())),
    // The request and its answer.
    ("answer", |n| requests(n, &responding())),
    ("answer of other lengths", |n| {
        let length = |n: usize| "x".repeat(n % 7 + 1);
        requests_of(n, length, &responding())
    }),
    ("deliver, filtered", |n| deliver(n, " ", 8, &filtered())),
    ("deliver, filtered, 1 subject", |n| {
        deliver(n, " ", 1, &filtered())
    }),
    // More than are remembered.
    ("deliver, filtered, 2000 subjects", |n| {
        deliver(n, " ", 2000, &filtered())
    }),
    ("deliver, 2000 subjects", |n| {
        deliver(n, " ", 2000, &typical())
    }),
    ("match, 10 patterns", |n| ask(n, 10)),
    ("match, 1000 patterns", |n| ask(n, 1_000)),
    ("match, 100000 patterns", |n| ask(n, 100_000)),
];

fn publish(times: u64, form: &str, subjects: usize) -> u64 {
    let frame = |n: usize| form.replace("{}", &n.to_string()).into_bytes();
    feed(times, &batch(frame, subjects))
}

/// Publishes of which none is as long as the one before it.
fn sizes(times: u64, form: &str) -> u64 {
    let frame = |n: usize| {
        let mut frame = form.replace("{}", &(n % 64).to_string()).into_bytes();
        frame.resize(frame.len() + n % 64, b'x');
        frame.extend_from_slice(b"\r\n");
        frame
    };
    feed(times, &batch(frame, 64))
}

fn feed(times: u64, (bytes, count): &(Vec<u8>, u64)) -> u64 {
    let mut session = serving(&typical());
    let mut read = bytes.clone();
    // What is not canonical is written over where it stands. Bringing it back is counted: a few instructions a message.
    let edited = !bytes.starts_with(b"PUB ") || memchr::memmem::find(bytes, b"  ").is_some();
    for _ in 0..times {
        let written = feed_client(&mut session, black_box(&mut read));
        assert!(written > 0, "everything is permitted");
        if edited {
            bring_back(&mut read, bytes);
        }
    }
    *count
}

/// As `copy_from_slice`, of which the instruction that copies is counted once for each byte.
fn bring_back(read: &mut [u8], bytes: &[u8]) {
    let (blocks, tail) = read.as_chunks_mut::<64>();
    let (from, from_tail) = bytes.as_chunks();
    for (block, from) in blocks.iter_mut().zip(from) {
        *block = *black_box(from);
    }
    tail.copy_from_slice(from_tail);
}

fn deliver(times: u64, blanks: &str, subjects: usize, role: &serde_json::Value) -> u64 {
    let frame =
        |n: usize| format!("MSG bench.{n} 1{blanks}16\r\nxxxxxxxxxxxxxxxx\r\n").into_bytes();
    let (bytes, count) = batch(frame, subjects);
    let mut session = serving(role);
    say(&mut session, b"SUB bench.* 1\r\n");
    for _ in 0..times {
        let written = feed_upstream(&mut session, black_box(&bytes));
        assert!(written == bytes.len(), "everything is delivered");
    }
    count
}

/// Requests as client libraries make them: the reply of each lies in the one inbox of the session.
fn asks(times: u64) -> u64 {
    let ask = |n: usize| {
        let reply = format!("_INBOX.abcdefghijklmnopqrstuv.{n:06}");
        format!("PUB bench.q {reply} 16\r\nxxxxxxxxxxxxxxxx\r\n").into_bytes()
    };
    let mut bytes: Vec<u8> = (0..REQUESTS).flat_map(ask).collect();
    let mut session = serving(&typical());
    say(&mut session, b"SUB _INBOX.abcdefghijklmnopqrstuv.* 1\r\n");
    for _ in 0..times {
        let written = feed_client(&mut session, black_box(&mut bytes));
        assert!(written == bytes.len(), "everything is permitted");
    }
    REQUESTS as u64
}

/// A typical role that may answer what it is asked.
fn responding() -> serde_json::Value {
    let mut role = typical();
    if let Some(fields) = role.as_object_mut() {
        fields.insert(
            "respond".to_owned(),
            serde_json::json!({ "max": 1, "ttl": "30s" }),
        );
    }
    role
}

fn requests(times: u64, role: &serde_json::Value) -> u64 {
    requests_of(times, |_| String::new(), role)
}

/// Requests, each with an inbox of its own, and where the role may respond an answer to each of them.
fn requests_of(times: u64, end: impl Fn(usize) -> String, role: &serde_json::Value) -> u64 {
    let inbox = |n: usize| format!("_INBOX.abcdefghijklmnopqrstuv.{n:06}{}", end(n));
    let asked =
        |n: usize| format!("MSG bench.q 1 {} 16\r\nxxxxxxxxxxxxxxxx\r\n", inbox(n)).into_bytes();
    let answered = |n: usize| format!("PUB {} 16\r\nxxxxxxxxxxxxxxxx\r\n", inbox(n)).into_bytes();
    let all = |frame: &dyn Fn(usize) -> Vec<u8>| (0..REQUESTS).flat_map(frame).collect::<Vec<u8>>();
    let (asked, mut answered) = (all(&asked), all(&answered));
    let mut session = serving(role);
    say(&mut session, b"SUB bench.* 1\r\n");
    for _ in 0..times {
        let written = feed_upstream(&mut session, black_box(&asked));
        assert!(written == asked.len(), "everything is delivered");
        if role.get("respond").is_some() {
            let written = feed_client(&mut session, black_box(&mut answered));
            assert!(written == answered.len(), "everything is answered");
        }
    }
    REQUESTS as u64
}

/// Under way at once.
const REQUESTS: usize = 64;

/// Many questions at a time, since making 100,000 patterns takes a different number of instructions each time (hash maps
/// are seeded anew).
fn ask(times: u64, patterns: usize) -> u64 {
    let set = set(patterns);
    let subjects: [&[u8]; 3] = [
        b"telemetry.3.temperature",
        b"site.north.line.2.x.y",
        b"telemetry.none.temperature",
    ];
    for _ in 0..times.saturating_mul(QUESTIONS) {
        for subject in subjects {
            black_box(set.matches(black_box(subject)));
        }
    }
    QUESTIONS.saturating_mul(3)
}

const QUESTIONS: u64 = 20_000;

fn set(patterns: usize) -> PatternSet {
    let mut builder = PatternSetBuilder::default();
    for n in 0..patterns {
        let text = match n % 4 {
            0 => format!("plant.{n}.state"),
            1 => format!("plant.{n}.*.value"),
            2 => format!("site.*.line.{n}.>"),
            _ => format!("telemetry.{n}.>"),
        };
        let pattern = Pattern::parse(&text).expect("a pattern");
        builder.insert(&pattern, u32::try_from(n).expect("few"));
    }
    builder.build()
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--case", case, times] => child(case, times).map(|()| true),
        [] => count_all(false),
        ["--update"] => count_all(true),
        _ => Err("say nothing, or --update".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!(
                "a count grew by more than 5 %; if that is meant, run with --update and say why"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one case so many times, under valgrind.
fn child(case: &str, times: &str) -> Result<()> {
    let (_, run) = CASES
        .iter()
        .find(|(name, _)| *name == case)
        .ok_or("no such case")?;
    println!("{}", run(times.parse()?));
    Ok(())
}

/// Whether no count has grown too much.
fn count_all(update: bool) -> Result<bool> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    let known: BTreeMap<&str, f64> = known
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter_map(|(name, count)| Some((name, count.parse().ok()?)))
        .collect();
    let mut text = String::from(
        "# Instructions each, in the release profile; written by the program `instructions`.\n",
    );
    let mut good = true;
    for (name, _) in CASES {
        let count = count(name)?;
        let before = known.get(name);
        let ratio = before.map_or(f64::NAN, |before| count / before);
        println!(
            "{name:<32} {count:>8.1}   {:>8.1}   {ratio:.3}",
            before.unwrap_or(&f64::NAN)
        );
        good &= ratio.is_nan() || ratio <= 1.05;
        text.push_str(&format!("{name}: {count:.1}\n"));
    }
    if update {
        std::fs::write(&file, text)?;
    }
    Ok(good || update)
}

/// Instructions for one message: what more of them take beside fewer, so that the setting up cancels out.
fn count(case: &str) -> Result<f64> {
    let (few, each) = run(case, FEW)?;
    let (many, _) = run(case, MANY)?;
    Ok((many - few) / (each * f64::from(MANY - FEW)))
}

fn run(case: &str, times: u32) -> Result<(f64, f64)> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--case", case, &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind cannot be run (apt-get install valgrind): {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .ok_or_else(|| format!("valgrind counted nothing: {said}"))?
        .1;
    let each = String::from_utf8_lossy(&output.stdout).trim().parse()?;
    Ok((collected.trim().parse()?, each))
}

const FEW: u32 = 4;
const MANY: u32 = 24;
