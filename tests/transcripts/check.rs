//! Holds what came out against what a transcript says must come out, and says in full where they part.

use std::fmt::Write;
use std::path::Path;

use super::pattern::{Pattern, escaped_lines};
use super::player::{Cut, Outcome, play};
use super::script::{Block, Fact, Script, WantKind};

/// Seeds of the random cuts.
const SEEDS: std::ops::Range<u64> = 1..9;

/// Facts that a transcript may leave out.
fn is_optional(fact: &Fact) -> bool {
    fact.words.first().is_some_and(|word| word == "asked")
}

/// Words that begin something that holds, not something that happened.
const STATES: [&str; 6] = [
    "subscriptions",
    "traffic",
    "open",
    "client",
    "upstream",
    "nothing",
];

/// Plays a file in every way; what is wrong with it, or nothing.
pub(crate) fn check_file(folder: &Path, path: &Path) -> Result<Script, String> {
    let name = path
        .strip_prefix(folder)
        .unwrap_or(path)
        .display()
        .to_string();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    check_text(&name, &text)
}

/// The same for a text.
pub(crate) fn check_text(name: &str, text: &str) -> Result<Script, String> {
    let script = Script::parse(name, text)
        .map_err(|mistake| format!("{name}:{}: {}", mistake.line, mistake.message))?;
    let mut first: Option<Vec<Outcome>> = None;
    for cut in [Cut::Whole, Cut::Bytes]
        .into_iter()
        .chain(SEEDS.map(Cut::Random))
    {
        let outcomes = play(&script, cut);
        for (block, outcome) in script.blocks.iter().zip(&outcomes) {
            check_block(&script.name, cut, block, outcome)?;
        }
        match &first {
            None => first = Some(outcomes),
            Some(first) if differs(first, &outcomes) => {
                return Err(format!(
                    "{name}: {cut:?} comes to another result than Cut::Whole"
                ));
            }
            Some(_) => {}
        }
    }
    Ok(script)
}

/// Whether two ways of cutting show in anything but the plain counters of a session that ended inside a payload.
fn differs(one: &[Outcome], other: &[Outcome]) -> bool {
    one.iter().zip(other).any(|(one, other)| {
        (&one.to_client, &one.to_upstream, &one.facts)
            != (&other.to_client, &other.to_upstream, &other.facts)
    })
}

fn check_block(name: &str, cut: Cut, block: &Block, outcome: &Outcome) -> Result<(), String> {
    let fail = |line: usize, what: &str, expected: &[String], happened: &[String]| {
        let how = match cut {
            Cut::Whole => "in one piece".to_owned(),
            Cut::Bytes => "byte by byte".to_owned(),
            Cut::Random(seed) => format!("cut at random (seed {seed})"),
        };
        let mut report = format!("{name}:{line}: {what}, when played {how}\n");
        for (mark, lines) in [("expected", expected), ("happened", happened)] {
            for line in lines {
                let _ = writeln!(report, "  {mark}  {line}");
            }
            if lines.is_empty() {
                let _ = writeln!(report, "  {mark}  nothing");
            }
        }
        Err(report)
    };
    type Side = (&'static str, fn(&WantKind) -> Option<&Pattern>);
    let sides: [(Side, &[u8]); 2] = [
        (("C<", to_client), &outcome.to_client),
        (("U>", to_upstream), &outcome.to_upstream),
    ];
    for ((mark, side), sent) in sides {
        let wants: Vec<_> = block
            .wants
            .iter()
            .filter_map(|want| side(&want.kind).map(|pattern| (want, pattern)))
            .collect();
        let mut rest = sent;
        let mut wrong = None;
        for (want, pattern) in &wants {
            match pattern.strip(rest) {
                Some(after) => rest = after,
                None => {
                    wrong = Some(want.line);
                    break;
                }
            }
        }
        if wrong.is_some() || !rest.is_empty() {
            let expected: Vec<String> = wants.iter().map(|(want, _)| want.text.clone()).collect();
            let lines = escaped_lines(sent);
            let happened: Vec<String> = lines.iter().map(|line| format!("{mark} {line}")).collect();
            let line = wrong.unwrap_or_else(|| last_line(block));
            return fail(line, "other bytes", &expected, &happened);
        }
    }
    check_facts(block, outcome)
        .or_else(|(line, what, expected, happened)| fail(line, &what, &expected, &happened))
}

fn to_client(kind: &WantKind) -> Option<&Pattern> {
    match kind {
        WantKind::ToClient(pattern) => Some(pattern),
        WantKind::ToUpstream(_) | WantKind::Fact(_) => None,
    }
}

fn to_upstream(kind: &WantKind) -> Option<&Pattern> {
    match kind {
        WantKind::ToUpstream(pattern) => Some(pattern),
        WantKind::ToClient(_) | WantKind::Fact(_) => None,
    }
}

type Wrong = (usize, String, Vec<String>, Vec<String>);

/// Facts that happened come in order and none is left out; states just have to hold.
fn check_facts(block: &Block, outcome: &Outcome) -> Result<(), Wrong> {
    let wants: Vec<(usize, &Fact)> = block
        .wants
        .iter()
        .filter_map(|want| match &want.kind {
            WantKind::Fact(fact) => Some((want.line, fact)),
            WantKind::ToClient(_) | WantKind::ToUpstream(_) => None,
        })
        .collect();
    let is_state = |fact: &Fact| {
        fact.words
            .first()
            .is_some_and(|word| STATES.contains(&word.as_str()))
    };
    let texts = |facts: &[&Fact]| {
        facts
            .iter()
            .map(|fact| format!("= {fact}"))
            .collect::<Vec<_>>()
    };
    let (states, events): (Vec<_>, Vec<_>) = wants.into_iter().partition(|(_, f)| is_state(f));
    for (line, state) in states {
        let nothing = state.words == ["nothing"];
        if !nothing && !outcome.state.iter().any(|holds| state.admits(holds)) {
            let holds: Vec<&Fact> = outcome.state.iter().collect();
            return Err((
                line,
                "this does not hold".into(),
                texts(&[state]),
                texts(&holds),
            ));
        }
    }
    let wanted: Vec<&Fact> = events.iter().map(|(_, fact)| *fact).collect();
    let asks = wanted.iter().any(|fact| is_optional(fact));
    let happened: Vec<&Fact> = outcome
        .facts
        .iter()
        .filter(|fact| asks || !is_optional(fact))
        .collect();
    let wrong = wanted
        .iter()
        .zip(&happened)
        .position(|(want, fact)| !want.admits(fact));
    if wrong.is_none() && wanted.len() == happened.len() {
        return Ok(());
    }
    let line = wrong
        .and_then(|at| events.get(at))
        .map_or_else(|| last_line(block), |(l, _)| *l);
    Err((line, "other facts".into(), texts(&wanted), texts(&happened)))
}

fn last_line(block: &Block) -> usize {
    let wants = block.wants.iter().map(|want| want.line);
    let inputs = block.inputs.iter().map(|(line, _)| *line);
    wants.chain(inputs).max().unwrap_or(1)
}
