//! The permission oracle: what clients see through natsentry is what they see of a nats-server with the same permissions,
//! but for the deliberate differences, which it knows by name (`differences.rs`) and counts.
//!
//! Two ways to ask, and for each a test that shows that a broken natsentry is found:
//!
//! - **wire scripts** (`wire.rs`): random sessions under random permissions, played to a real server whose users have the
//!   permissions, and through natsentry, whose roles are the same, to a server whose users may do everything. Every frame
//!   that the client and a third party see is compared, in order.
//! - **verdicts** (`verdicts.rs`): random questions to `policy` in this process, against a model that is written anew from
//!   nats-server's source (`model.rs`); the model is asked the same questions as real servers in the same run
//!   (`confirm.rs`).
//!
//! A failure is made smaller before it is shown, and names the seed that repeats it. By itself this is a short run. More:
//!
//! | variable | |
//! |---|---|
//! | `NATSENTRY_ORACLE_SCRIPTS` | wire scripts for each server version |
//! | `NATSENTRY_ORACLE_VERDICTS` | verdicts for each server version; a twentieth of them is confirmed by a real server |
//! | `NATSENTRY_ORACLE_SECONDS` | most time for each version, in place of the short run's |
//! | `NATSENTRY_ORACLE_SEED` | repeats a run |
//! | `NATSENTRY_ORACLE_SERVER` | one version only, such as `2.15.1` |
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a broken test environment has to be loud"
)]

#[path = "../support/mod.rs"]
mod support;

mod author;
mod compare;
mod confirm;
mod differences;
mod frames;
mod model;
mod plan;
mod planted;
mod player;
mod quote;
mod random;
mod rules;
mod script;
mod subjects;
mod verdicts;
mod wire;

use std::time::{Duration, Instant};

use natsentry::demo::servers::Version;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(format!("NATSENTRY_ORACLE_{name}")).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("NATSENTRY_ORACLE_{name} has to be a number")),
    )
}

fn seed() -> u64 {
    number("SEED").unwrap_or(20_261_128)
}

/// The versions asked for: the oldest and the newest, where nothing else is said.
fn versions() -> Vec<Version> {
    let usual = [Version::V2_9_10, Version::V2_15_1];
    match std::env::var("NATSENTRY_ORACLE_SERVER") {
        Ok(wanted) => {
            let known = Version::ALL
                .into_iter()
                .filter(|version| version.as_str() == wanted);
            let known: Vec<Version> = known.collect();
            assert!(
                !known.is_empty(),
                "NATSENTRY_ORACLE_SERVER: no version {wanted}"
            );
            known
        }
        Err(_) => usual
            .into_iter()
            .filter(|version| version.is_offered_here())
            .collect(),
    }
}

/// How much is wanted and how long it may take. What is asked for in the environment is not cut short.
fn size(name: &str, short: u64, seconds: u64) -> (u64, Duration) {
    let wanted = number(name);
    let week = 7 * 24 * 3600;
    let time = number("SECONDS").unwrap_or(if wanted.is_some() { week } else { seconds });
    (wanted.unwrap_or(short), Duration::from_secs(time))
}

#[test]
fn wire_scripts_are_answered_as_by_real_servers() {
    for version in versions() {
        let started = Instant::now();
        let (scripts, time) = size("SCRIPTS", 1_000, 10);
        let seed = seed();
        let run = wire::Run {
            seed,
            version,
            scripts,
            time,
            planted: false,
        };
        let played = wire::run(run).unwrap_or_else(|text| panic!("{text}"));
        assert!(played > 0);
        eprintln!(
            "nats-server {version}: {played} wire scripts, seed {seed}, {:.0?}; deliberate differences so far:\n{}",
            started.elapsed(),
            differences::table()
        );
    }
}

#[test]
fn verdicts_are_those_of_nats_server() {
    for version in versions() {
        let (verdicts, time) = size("VERDICTS", 300_000, 10);
        let seed = seed();
        let started = Instant::now();
        let asked = verdicts::run(seed, version, verdicts, time);
        let model = started.elapsed();
        let confirmed = confirm::run(seed, version, verdicts.div_ceil(20), time);
        assert!(asked > 0 && confirmed > 0);
        eprintln!(
            "{asked} verdicts against the model of nats-server {version} in {model:.0?}, which a real {version} confirmed \
             in {confirmed} questions, seed {seed}, {:.0?}; deliberate differences so far:\n{}",
            started.elapsed(),
            differences::table()
        );
    }
}

/// 2.12 stands between the two ends; the model has to know it, too.
#[test]
fn the_model_knows_the_servers_between() {
    let (verdicts, time) = size("VERDICTS", 200_000, 10);
    assert!(confirm::run(seed(), Version::V2_12_8, verdicts.div_ceil(20), time) > 0);
}
