//! What is measured in which order, by whom, and how long that will take.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::options::{Options, Part};

/// One thing to measure, of each contender that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Idle,
    /// Caches, pools and lazily made things of everybody, before anything is timed.
    WarmUp,
    /// Payload in bytes.
    Throughput(usize),
    Lines,
    /// Subjects in turn.
    Subjects(usize),
    Latency,
    /// Questions under way.
    Requests(usize),
    Connects,
    /// Publishers at once.
    Publishers(usize),
    FanOut,
    Storm,
    Scale,
    /// Idle sessions that several processes hold.
    Fleet,
}

/// A piece of work in one round.
pub(crate) struct Step {
    pub(crate) work: Work,
    /// From 1.
    round: usize,
    rounds: usize,
    /// Whose turn it is, in order, by their place among the contenders.
    pub(crate) turns: Vec<usize>,
}

/// Everything in order.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    options: Costs,
}

/// What the time of a step depends on.
struct Costs {
    cell: f64,
    idle_sessions: usize,
    storm_clients: usize,
}

impl Plan {
    pub(crate) fn of(options: &Options) -> Self {
        let mut plan = Self {
            steps: Vec::new(),
            options: Costs {
                cell: options.cell.as_secs_f64(),
                idle_sessions: options.idle_sessions,
                storm_clients: options.storm_clients,
            },
        };
        let mut add = |part: Option<Part>, work: &[Work], rounds: Range<usize>, of| {
            if part.is_some_and(|part| !options.wants(part)) {
                return;
            }
            for round in rounds {
                for work in work {
                    plan.add(options, *work, round, of);
                }
            }
        };
        // Memory first: afterwards, every allocator holds what the load needed.
        add(Some(Part::Idle), &[Work::Idle], 0..1, 1);
        add(None, &[Work::WarmUp], 0..1, 1);
        let sizes: Vec<_> = options
            .sizes
            .iter()
            .copied()
            .map(Work::Throughput)
            .collect();
        // Whose figures differ most from one cell to the next: how full reads are is up to the pace of all four processes.
        let mut again = sizes.clone();
        again.retain(|work| matches!(work, Work::Throughput(size) if *size <= SMALL));
        for round in 0..options.rounds {
            let now = round..round.saturating_add(1);
            let mut add = |part, work: &[Work]| add(Some(part), work, now.clone(), options.rounds);
            add(Part::Throughput, &sizes);
            add(Part::Lines, &[Work::Lines; 3]);
            add(Part::Subjects, &SUBJECTS.map(Work::Subjects));
            // Often: one pause of the machine is all of the slowest hundredth of a second.
            add(Part::Latency, &[Work::Latency; 4]);
            add(Part::Requests, &WINDOWS.map(Work::Requests));
            // Who has which core when four clients, proxy and server share two differs from one cell to the next.
            add(Part::Connects, &[Work::Connects; 3]);
            add(Part::Throughput, &again);
        }
        // What comes last leaves many closed connections behind, which take a while to go.
        for round in 0..options.rounds {
            let now = round..round.saturating_add(1);
            let mut add = |part, work: &[Work]| add(Some(part), work, now.clone(), options.rounds);
            add(Part::Publishers, &PUBLISHERS.map(Work::Publishers));
            add(Part::FanOut, &[Work::FanOut]);
            // Again: each of them is heard of some fifteen times in a cell.
            add(Part::Publishers, &[Work::Publishers(CROWD); 2]);
        }
        add(
            Some(Part::Storm),
            &[Work::Storm],
            0..options.storms,
            options.storms,
        );
        add(Some(Part::Scale), &[Work::Scale], 0..1, 1);
        add(Some(Part::Fleet), &[Work::Fleet], 0..1, 1);
        plan
    }

    /// Each round begins with another contender.
    fn add(&mut self, options: &Options, work: Work, round: usize, rounds: usize) {
        let mut turns: Vec<_> = options
            .contenders
            .iter()
            .enumerate()
            .filter(|(_, name)| takes_part(name, work, options.everybody))
            .map(|(place, _)| place)
            .collect();
        if turns.is_empty() {
            return;
        }
        let first = round.checked_rem(turns.len()).unwrap_or(0);
        turns.rotate_left(first);
        self.steps.push(Step {
            work,
            round: round.saturating_add(1),
            rounds,
            turns,
        });
    }

    /// Seconds that a step takes about: only their proportions matter once something has been timed.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn seconds(&self, step: &Step) -> f64 {
        let cell = self.options.cell;
        let each = match step.work {
            Work::Idle => self.options.idle_sessions as f64 * 5e-4 + 0.2,
            Work::WarmUp => cell + 0.2,
            Work::Throughput(_) | Work::Subjects(_) | Work::FanOut | Work::Requests(_) => {
                cell * 1.25 + 0.15
            }
            Work::Lines => (cell * 1.25 + 0.15) * 3.0,
            Work::Latency => cell * 2.0 + 0.1,
            Work::Connects => cell + 0.05,
            Work::Publishers(count) => cell * 1.25 + count as f64 * 5e-4,
            Work::Storm => self.options.storm_clients as f64 * 3e-4 + 0.5,
            Work::Scale => 60.0,
            Work::Fleet => 90.0,
        };
        each * step.turns.len() as f64
    }

    /// How long the steps from this one on will take, given what those before it took.
    pub(crate) fn left(&self, step: usize, spent: Duration) -> Duration {
        let sum = |steps: &[Step]| steps.iter().map(|step| self.seconds(step)).sum::<f64>();
        let (done, to_do) = self.steps.split_at(step.min(self.steps.len()));
        let (done, to_do) = (sum(done), sum(to_do));
        // At the start, what was spent says little.
        let pace = if done > PROVEN {
            spent.as_secs_f64() / done
        } else {
            1.0
        };
        Duration::from_secs_f64(to_do * pace)
    }
}

/// Whether a contender takes part. In the usual run, those that would only repeat what another row says are left out.
pub(crate) fn takes_part(name: &str, work: Work, everybody: bool) -> bool {
    let (proxy, secure) = (name != "direct", name.ends_with("-tls"));
    let possible = match work {
        Work::Idle | Work::Subjects(_) | Work::Lines | Work::Fleet => proxy,
        Work::Scale => proxy && !secure,
        _ => true,
    };
    let usual = match work {
        Work::Subjects(_) | Work::Publishers(_) => !secure,
        // To others, all lines are bytes.
        Work::Lines => !secure && (name == "haproxy" || name.starts_with("natsentry")),
        Work::Throughput(size) => !secure || SECURE_SIZES.contains(&size),
        _ => true,
    };
    possible && (usual || everybody)
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rounds > 1 {
            write!(f, "round {} of {}, ", self.round, self.rounds)?;
        }
        match self.work {
            Work::Idle => f.write_str("memory of idle sessions"),
            Work::WarmUp => f.write_str("warming up"),
            Work::Throughput(size) => write!(f, "throughput, {size} B"),
            Work::Lines => f.write_str("ways to write a line"),
            Work::Subjects(count) => write!(f, "{count} subjects in turn"),
            Work::Latency => f.write_str("request and reply, steady pace"),
            Work::Requests(window) => write!(f, "request and reply, {window} under way"),
            Work::Connects => f.write_str("connects"),
            Work::Publishers(count) => write!(f, "publishers at once: {count}"),
            Work::FanOut => f.write_str("fan-out"),
            Work::Storm => f.write_str("storm"),
            Work::Scale => f.write_str("scale"),
            Work::Fleet => f.write_str("fleet"),
        }
    }
}

/// Payloads in bytes that have two turns a round.
const SMALL: usize = 128;

const SUBJECTS: [usize; 2] = [100, 10_000];

const WINDOWS: [usize; 2] = [1, 64];

const PUBLISHERS: [usize; 4] = [1, 10, 100, CROWD];

/// Publishers that have three turns a round.
const CROWD: usize = 1_000;

/// Payloads that go through TLS in the usual run.
const SECURE_SIZES: [usize; 3] = [128, 16_384, 262_144];

/// Seconds of work after which the pace is taken from the work itself.
const PROVEN: f64 = 10.0;
