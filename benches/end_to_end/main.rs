//! The question: what does a message, a connection and a round trip cost through natsentry, and what through proxies
//! that pass the same bytes blind?
//!
//! `cargo bench --bench end_to_end` answers it on loopback with a real nats-server. Contenders alternate in one run, so
//! that a busy machine is unfair to all of them alike, and ratios are taken within a round. See `benches/README.md`.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "times things and reports them"
)]

mod bare;
mod checks;
mod client;
mod connects;
mod contenders;
mod crowd;
mod figures;
mod fleet;
mod kernel;
mod many;
mod natsentry;
mod options;
mod plan;
mod plot;
mod procfs;
mod refusal;
mod report;
mod requests;
mod scale;
mod scenarios;
mod secure;
mod storm;
mod stream;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::contenders::Stage;
use self::options::Options;
use self::plan::Plan;
use self::report::Report;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    bare::serve_if_called()?;
    if fleet::serve_if_called()? {
        return Ok(ExitCode::SUCCESS);
    }
    let words: Vec<_> = std::env::args().skip(1).collect();
    // `cargo bench` says so; `cargo test` does not, and wants to know whether the harness works.
    if !words.iter().any(|word| word == "--bench") {
        return Ok(checks::run(&words));
    }
    let Some(options) = Options::read(words)? else {
        println!("{}", options::HELP);
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(code) = procfs::rerun_with_more_files()? {
        return Ok(code);
    }
    if let Some(path) = &options.report {
        Report::prepare(path).with_context(|| format!("--report {}", path.display()))?;
    }
    let report = measure(&options)?;
    println!("{report}");
    if let Some(path) = &options.report {
        report
            .write_into(path)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &options.svg {
        std::fs::write(path, report.svg())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that the options ask for, saying how far it is.
fn measure(options: &Options) -> Result<Report> {
    let stage = Stage::set(&options.contenders, &options.binary)?;
    let mut report = Report::new(&stage);
    let plan = Plan::of(options);
    let begun = Instant::now();
    for (number, step) in plan.steps.iter().enumerate() {
        let left = plan.left(number, begun.elapsed());
        eprintln!(
            "[{}/{}] {step}; about {} left",
            number.saturating_add(1),
            plan.steps.len(),
            minutes(left)
        );
        for turn in &step.turns {
            let contender = stage.contenders.get(*turn).context("no such contender")?;
            scenarios::run(step.work, (&stage, contender), options, &mut report)
                .with_context(|| contender.name.clone())?;
        }
    }
    eprintln!("measured in {}", minutes(begun.elapsed()));
    Ok(report)
}

fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}
