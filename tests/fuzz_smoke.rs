//! Every fuzz target for a moment, on the stable toolchain: its committed corpus first, then mutations of it.
//!
//! `NATSENTRY_FUZZ_SECONDS` sets how long each runs (1 by default, 10 in CI), `NATSENTRY_SEED` repeats a run. Long campaigns
//! are libFuzzer's: see `tests/fuzz/README.md`.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a property that does not hold has to be loud, and the time is bounded by the clock"
)]

#[path = "fuzz/properties/mod.rs"]
mod properties;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use properties::{ALL, Property};

/// Longest input made here, in bytes.
const LONGEST: usize = 4096;

/// Inputs run even when the time is over before.
const FEWEST: usize = 200;

macro_rules! targets {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })+

        #[test]
        fn every_target_is_here() {
            let here = [$(stringify!($name)),+];
            assert_eq!(ALL.map(|(name, _)| name), here);
        }
    };
}

targets! {
    client_stream connect_json info_json key_document metadata pattern_set policy_document server_stream session_ops token
}

fn smoke(name: &str) {
    let (_, property) = ALL
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a target");
    let corpus = inputs("corpus", name);
    assert!(!corpus.is_empty(), "no corpus of {name}");
    for input in corpus.iter().chain(&inputs("regressions", name)) {
        run(name, *property, input);
    }
    let words = dictionary(name);
    let seed = environment("NATSENTRY_SEED").unwrap_or(20_261_128);
    let mut random = Random(seed);
    let end = Instant::now() + seconds();
    let mut count = 0_usize;
    while count < FEWEST || Instant::now() < end {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(6) {
            mutate(&mut random, &mut input, &corpus, &words);
        }
        run(name, *property, &input);
        count += 1;
    }
    eprintln!(
        "{name}: {count} inputs from {} seeds, NATSENTRY_SEED={seed}",
        corpus.len()
    );
}

fn run(name: &str, property: Property, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| property(input))) {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        panic!(
            "{name}: {}\n   input (printf '%b'): {}",
            text.unwrap_or("a panic"),
            input.escape_ascii()
        );
    }
}

/// One change of an input.
fn mutate(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[Vec<u8>]) {
    let at = random.below(input.len() + 1);
    let to = (at + random.below(32)).min(input.len());
    match random.below(10) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.byte(),
        2 => input.insert(at, random.byte()),
        3 => drop(input.drain(at..to)),
        4 => {
            let again: Vec<u8> = input[at..to].to_vec();
            insert(input, at, &again);
        }
        5..=7 if !words.is_empty() => {
            let word = &words[random.below(words.len())];
            insert(input, at, word);
        }
        8 => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            let until = (from + random.below(256)).min(other.len());
            insert(input, at, &other[from..until]);
        }
        _ => {
            let digits: Vec<usize> = (0..input.len())
                .filter(|at| input[*at].is_ascii_digit())
                .collect();
            if !digits.is_empty() {
                input[digits[random.below(digits.len())]] =
                    b'0' + u8::try_from(random.below(10)).unwrap_or(0);
            }
        }
    }
    input.truncate(LONGEST);
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    drop(input.splice(at..at, bytes.iter().copied()));
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz"))
}

/// The files of `tests/fuzz/KIND/NAME` in the order of their names.
fn inputs(kind: &str, name: &str) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder().join(kind).join(name)) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("a seed"))
        .collect()
}

/// The words of the target's dictionary, which is libFuzzer's too: one in quotes a line.
fn dictionary(name: &str) -> Vec<Vec<u8>> {
    let family = match name {
        "client_stream" | "server_stream" | "pattern_set" => "nats",
        "session_ops" => return Vec::new(),
        "policy_document" => "yaml",
        _ => "json",
    };
    let path = folder().join("dictionaries").join(format!("{family}.dict"));
    let text = std::fs::read_to_string(path).expect("a dictionary");
    let quoted = text
        .lines()
        .filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    quoted.map(unescape).collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        (bytes, rest) = match (first, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
                (bytes, tail)
            }
            (b'\\', [escaped, tail @ ..]) => {
                bytes.push(*escaped);
                (bytes, tail)
            }
            _ => {
                bytes.push(*first);
                (bytes, tail)
            }
        };
    }
    bytes
}

fn seconds() -> Duration {
    let default = if std::env::var_os("CI").is_some() {
        10
    } else {
        1
    };
    Duration::from_secs(environment("NATSENTRY_FUZZ_SECONDS").unwrap_or(default))
}

fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

/// SplitMix64: small, and the same everywhere for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        let z = z ^ z >> 31;
        usize::try_from(z % bound as u64).expect("small")
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or(0)
    }
}
