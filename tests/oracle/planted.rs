//! Broken copies of natsentry, which have to be found: precedence of deny and allow swapped for one wildcard.

use std::time::{Duration, Instant};

use natsentry::demo::servers::Version;
use natsentry::policy::Judge;
use natsentry::time::Timestamp;

use super::model::{Fate, Ways, matches};
use super::verdicts::{Case, Decides};
use super::wire::{self, Run};

/// How soon a broken copy has to be found.
const SOON: Duration = Duration::from_secs(60);

/// The deny entry that does not beat an allow.
const WEAK: &str = "a.*";

/// A judge for whom one deny entry says nothing.
struct Broken {
    judge: Judge,
    without: Judge,
    weak: bool,
}

impl Decides for Broken {
    fn publish(
        &mut self,
        before: &[u8],
        subject: &[u8],
        reply: Option<&[u8]>,
        now: Timestamp,
    ) -> Fate {
        let right = Decides::publish(&mut self.judge, before, subject, reply, now);
        let other = Decides::publish(&mut self.without, before, subject, reply, now);
        if self.weak && matches(WEAK.as_bytes(), subject) {
            other
        } else {
            right
        }
    }

    fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        Decides::subscribe(&mut self.judge, subject, queue)
    }

    fn delivers(&mut self, subject: &[u8]) -> bool {
        Decides::delivers(&mut self.judge, subject)
    }

    fn delivered(&mut self, reply: &[u8], now: Timestamp) {
        Decides::delivered(&mut self.judge, reply, now);
        Decides::delivered(&mut self.without, reply, now);
    }
}

impl Broken {
    fn of(case: &Case) -> Self {
        let mut without = case.clone();
        without.rules.deny_publish.retain(|entry| entry != WEAK);
        Self {
            judge: case.judge(),
            weak: without.rules != case.rules,
            without: if without.rules.is_written() {
                without.judge()
            } else {
                case.judge()
            },
        }
    }
}

#[test]
fn a_judge_with_one_weak_deny_entry_is_found_within_a_minute() {
    let started = Instant::now();
    let ways = Ways::of(Version::V2_15_1);
    let ask = |case: &Case| case.ask(&mut Broken::of(case), false).err();
    let found = (0..)
        .map(|number| Case::random(super::seed(), number, ways))
        .find(|case| {
            assert!(started.elapsed() < SOON, "the broken judge was not found");
            ask(case).is_some()
        });
    let small = found
        .expect("never ends otherwise")
        .shrunk(|case| ask(case).map(|found| found.at));
    eprintln!(
        "found and made small in {:?}:\n{}",
        started.elapsed(),
        small.show()
    );
    assert!(started.elapsed() < SOON);
    assert_eq!(small.questions.len(), 1, "a human can read it");
    assert_eq!(small.rules.deny_publish, [WEAK]);
}

#[test]
fn a_natsentry_with_one_weak_deny_entry_is_found_within_a_minute() {
    let started = Instant::now();
    let run = Run {
        seed: super::seed(),
        version: Version::V2_15_1,
        scripts: u64::MAX,
        time: SOON,
        planted: true,
    };
    let text = wire::run(run).expect_err("the broken natsentry was not found");
    eprintln!("found and made small in {:?}", started.elapsed());
    assert!(text.contains("shrunk") && text.contains(WEAK), "{text}");
}
