//! Checks that the harness itself works, without looking at any figure. `cargo test` runs these: what can be told without
//! a socket first, then everything once, as short as it can be.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use ::natsentry::demo::provision::apt;

use super::figures::Figure;
use super::kernel::Counters;
use super::options::{CONTENDERS, Options, Part};
use super::plan::{Plan, Work, takes_part};
use super::refusal::{Refusal, Stage};
use super::report::{At, show};
use super::requests::{Incoming, Said, counted_from};
use super::scenarios::percentile;
use super::storm::reasons;
use super::stream::Lines;

type Check = (&'static str, fn() -> Result<()>);

const CHECKS: [Check; 10] = [
    ("the_usual_run_is_five_rounds", the_usual_run_is_five_rounds),
    ("nginx_is_wherever_haproxy_is", nginx_is_wherever_haproxy_is),
    (
        "a_question_that_had_to_wait_counts_from_when_it_was_due",
        a_question_that_had_to_wait_counts_from_when_it_was_due,
    ),
    (
        "answers_are_found_wherever_reads_cut_them",
        answers_are_found_wherever_reads_cut_them,
    ),
    (
        "reasons_are_counted_the_most_frequent_first",
        reasons_are_counted_the_most_frequent_first,
    ),
    (
        "troubles_are_the_counters_that_grew",
        troubles_are_the_counters_that_grew,
    ),
    (
        "the_time_left_follows_the_pace",
        the_time_left_follows_the_pace,
    ),
    ("figures_have_three_digits", figures_have_three_digits),
    ("everything_is_measured", everything_is_measured),
    ("a_fleet_holds_what_it_is_to", a_fleet_holds_what_it_is_to),
];

/// Runs those whose name contains one of the words that are no options; all of them without such a word.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let mut code = ExitCode::SUCCESS;
    for (name, check) in CHECKS {
        let wanted =
            filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
        if !wanted {
            continue;
        }
        match check() {
            Ok(()) => println!("test {name} ... ok"),
            Err(error) => {
                code = ExitCode::FAILURE;
                println!("test {name} ... FAILED: {error:#}");
            }
        }
    }
    code
}

fn options(words: &str) -> Result<Options> {
    let words = words.split_whitespace().map(str::to_owned);
    Ok(Options::read(words)?.unwrap_or_else(|| Options::smallest(&[])))
}

fn the_usual_run_is_five_rounds() -> Result<()> {
    let usual = options("--bench")?;
    ensure!(usual.rounds == 5 && usual.storms == 3);
    ensure!(usual.contenders == CONTENDERS);
    let plan = Plan::of(&usual);
    let count = |work| plan.steps.iter().filter(|step| step.work == work).count();
    for size in [16, 128, 1024, 16_384, 262_144, 1_048_576] {
        let turns = if size <= 128 { 10 } else { 5 };
        ensure!(count(Work::Throughput(size)) == turns, "{size}");
    }
    ensure!(count(Work::Storm) == 3 && count(Work::Idle) == 1 && count(Work::Scale) == 0);
    ensure!(count(Work::Latency) == 20 && count(Work::Lines) == 15 && count(Work::Fleet) == 0);
    ensure!(count(Work::Connects) == 15);
    ensure!(count(Work::Publishers(100)) == 5 && count(Work::Publishers(1_000)) == 15);
    let full = options("--full --rounds 7")?;
    ensure!(full.storms == 7 && full.cell == Duration::from_secs(2));
    ensure!(options("--rounds 2")?.storms == 2);
    ensure!(options("--rounds 0").is_err());
    ensure!(options("--contenders haprox").is_err());
    ensure!(options("--only latencies").is_err());
    Ok(())
}

fn nginx_is_wherever_haproxy_is() -> Result<()> {
    for step in Plan::of(&options("--full --only throughput,lines,subjects,latency,requests,connects,idle,publishers,fan-out,storm,scale,fleet")?).steps {
        ensure!(
            takes_part("nginx", step.work, true) == takes_part("haproxy", step.work, true),
            "{step}"
        );
        // Each of the usual run that HAProxy is in, but for the one where it is the yardstick alone.
        ensure!(
            step.work == Work::Lines
                || takes_part("nginx", step.work, false)
                    == takes_part("haproxy", step.work, false),
            "{step}"
        );
    }
    Ok(())
}

fn a_question_that_had_to_wait_counts_from_when_it_was_due() -> Result<()> {
    let due = Instant::now();
    let later = due + Duration::from_millis(5);
    ensure!(counted_from(due, later, later) == due);
    // The generator overslept: not the proxy's fault.
    ensure!(counted_from(due, due, later) == later);
    let samples: Vec<_> = (1..=200).map(Duration::from_secs).collect();
    ensure!((percentile(&samples, 50) - 100.0).abs() < 0.1);
    ensure!((percentile(&samples, 99) - 198.0).abs() < 0.1);
    ensure!(percentile(&[], 99).is_nan());
    Ok(())
}

fn answers_are_found_wherever_reads_cut_them() -> Result<()> {
    let stream = b"MSG bench.ask 1 _INBOX.a.7 4\r\n\r\n\r\n\r\nPING\r\nMSG _INBOX.a.7 1 0\r\n\r\n";
    for cut in 0..=stream.len() {
        let mut incoming = Incoming::default();
        let mut seen = Vec::new();
        let (left, right) = stream.split_at(cut);
        for part in [left, right] {
            incoming.push(part);
            while let Some(said) = incoming.said()? {
                seen.push(format!("{said:?}"));
            }
        }
        let reply = Some("_INBOX.a.7");
        let wanted = [
            Said::Message { reply },
            Said::Ping,
            Said::Message { reply: None },
        ];
        ensure!(
            seen == wanted.map(|said| format!("{said:?}")),
            "cut at {cut}: {seen:?}"
        );
    }
    let mut incoming = Incoming::default();
    incoming.push(b"-ERR 'Permissions Violation'\r\n");
    ensure!(incoming.said().is_err());
    Ok(())
}

fn reasons_are_counted_the_most_frequent_first() -> Result<()> {
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let no = super::refusal::said_no(b"-ERR 'Authorization Violation'");
    let text = reasons(&[
        Refusal::of(Stage::BeforeInfo, &reset),
        Refusal::of(Stage::AfterConnect, &no),
        Refusal::of(Stage::AfterConnect, &no),
        Refusal::TimedOut(Stage::Connecting),
    ]);
    let wanted = "2 -ERR 'Authorization Violation' after CONNECT, 1 reset before INFO, 1 no answer in time while connecting";
    ensure!(text == wanted, "{text}");
    Ok(())
}

fn troubles_are_the_counters_that_grew() -> Result<()> {
    let text = |overflows: u64, sent: u64| {
        Counters::parse(&format!(
            "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: {sent} {overflows} 3\nIpExt: A\nIpExt: 1\n"
        ))
    };
    let grown = text(12, 9).grown_since(&text(5, 1));
    ensure!(grown == [("ListenOverflows", 7)], "{grown:?}");
    Ok(())
}

fn the_time_left_follows_the_pace() -> Result<()> {
    let plan = Plan::of(&options("--only throughput,connects --rounds 4")?);
    let whole = plan.left(0, Duration::ZERO);
    let half = plan.steps.len() / 2;
    let (quick, slow) = (plan.left(half, whole / 2), plan.left(half, whole));
    // Half of it took as long as the whole was thought to take: so will the rest.
    ensure!(slow > whole * 9 / 10 && slow < whole * 11 / 10, "{slow:?}");
    ensure!(
        quick > whole * 4 / 10 && quick < whole * 6 / 10,
        "{quick:?}"
    );
    ensure!(plan.left(plan.steps.len(), whole).is_zero());
    Ok(())
}

fn figures_have_three_digits() -> Result<()> {
    let shown = [0.913, 9.994, 45.26, 99.94, 124.4, 3_595_907.2].map(show);
    let wanted = ["0.91", "9.99", "45.3", "99.9", "124", "3,595,907"];
    ensure!(shown == wanted, "{shown:?}");
    for lines in Lines::ALL {
        // One that is no line at all would be refused by the server in the middle of a run.
        ensure!(
            lines
                .publish("a.b", 16)
                .to_uppercase()
                .starts_with("PUB A.B ")
        );
    }
    Ok(())
}

/// Blind proxies where they can be had as packages; what else there is, everywhere.
fn everything_is_measured() -> Result<()> {
    let mut contenders = vec!["direct", "bare", "natsentry-typical", "natsentry-tls"];
    if apt::release().is_some() {
        contenders.extend(["haproxy", "nginx"]);
    }
    let report = super::measure(&Options::smallest(&contenders))?;
    let text = report.to_string();
    for figure in Figure::ALL {
        let of_scale = figure >= Figure::StartMiB;
        for contender in &contenders {
            let has = report
                .places(figure)
                .iter()
                .all(|at| report.has(figure, *at, contender));
            ensure!(
                of_scale || has || *contender == "direct",
                "{contender} has no {:?}\n{text}",
                figure.title()
            );
        }
        ensure!(
            of_scale || text.contains(figure.title()),
            "no {:?}",
            figure.title()
        );
    }
    ensure!(report.svg().contains("natsentry-typical"));
    Ok(())
}

fn a_fleet_holds_what_it_is_to() -> Result<()> {
    let report = super::measure(&Options {
        parts: vec![Part::Fleet],
        fleet: 300,
        ..Options::smallest(&["natsentry"])
    })?;
    for figure in [Figure::FleetKiB, Figure::FleetIdleCpu] {
        ensure!(report.has(figure, At::Count(300), "natsentry"));
    }
    ensure!(
        report
            .to_string()
            .contains("natsentry: processes: 1, of at most")
    );
    Ok(())
}
