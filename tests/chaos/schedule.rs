//! What fails when.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use natsentry::demo::idp::Answers;

use crate::network::Weather;
use crate::random::Random;
use crate::stage::{Place, Stage};

/// One failure. Lengths in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// natsentry is killed, and started again after so long.
    KillProxy(u64),
    /// natsentry is asked to end, and started again after so long.
    EndProxy(u64),
    /// The server with the stream is killed, and started again after so long.
    KillStore(u64),
    /// The server without is stopped for so long.
    StopCore(u64),
    /// The identity provider is down for so long.
    ProviderDown(u64),
    /// It takes five seconds for every answer, for so long.
    ProviderSlow(u64),
    /// All connections of a path end.
    Cut(Place),
    /// A path has this weather for so long.
    Weather(Place, Weather, u64),
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Act {
    pub(crate) fn play(self, stage: &mut Stage) {
        let wait = |millis| thread::sleep(Duration::from_millis(millis));
        match self {
            Self::KillProxy(after) => stage.restart_proxy(false, || wait(after)),
            Self::EndProxy(after) => stage.restart_proxy(true, || wait(after)),
            Self::KillStore(after) => stage.restart_store(|| wait(after)),
            Self::StopCore(long) => stage.stop_core(|| wait(long)),
            Self::ProviderDown(long) => self.provider(stage, Answers::Down, long),
            Self::ProviderSlow(long) => {
                self.provider(stage, Answers::Slow(Duration::from_secs(5)), long);
            }
            Self::Cut(place) => stage.path(place).cut(),
            Self::Weather(place, weather, long) => {
                stage.path(place).turn(weather);
                if weather == Weather::Refusing {
                    stage.path(place).cut();
                }
                wait(long);
                stage.path(place).turn(Weather::Fine);
            }
        }
    }
}

/// What the identity provider does is felt by a natsentry that starts: it has the keys of its last run only.
impl Act {
    fn provider(self, stage: &mut Stage, answers: Answers, long: u64) {
        stage.provide(answers);
        stage.restart_proxy(false, || {});
        thread::sleep(Duration::from_millis(long));
        stage.provide(Answers::Well);
    }
}

/// Acts until the time is over, with quiet between them.
pub(crate) struct Schedule {
    random: Random,
    end: Instant,
    /// Every kind comes once before chance decides.
    first: Vec<Act>,
}

impl Schedule {
    pub(crate) fn new(random: Random, during: Duration) -> Self {
        Self {
            random,
            end: Instant::now() + during,
            first: vec![
                Act::KillProxy(200),
                Act::KillStore(300),
                Act::Cut(Place::Clients),
                Act::ProviderDown(500),
                Act::EndProxy(0),
                Act::StopCore(700),
                Act::Weather(Place::Core, Weather::Bad, 1500),
            ],
        }
    }

    fn place(&mut self) -> Place {
        Place::ALL[self.random.index(Place::ALL.len())]
    }

    pub(crate) fn next(&mut self) -> Option<Act> {
        let quiet = 100 + self.random.below(900);
        thread::sleep(Duration::from_millis(quiet));
        if Instant::now() >= self.end {
            return None;
        }
        if let Some(act) = self.first.pop() {
            return Some(act);
        }
        let long = 100 + self.random.below(3000);
        Some(match self.random.below(11) {
            0 => Act::KillProxy(long / 3),
            1 => Act::EndProxy(long / 3),
            2 => Act::KillStore(long / 3),
            3 => Act::StopCore(long),
            4 | 5 => Act::Cut(self.place()),
            6 => Act::Weather(self.place(), Weather::Still, long),
            7 => Act::Weather(self.place(), Weather::Refusing, long),
            8 => Act::ProviderDown(long),
            9 => Act::ProviderSlow(long),
            _ => Act::Weather(self.place(), Weather::Bad, long * 2),
        })
    }
}
