//! Where connections ask for a key that is not held: whether a fetch may be made for it now, is under way, or would be in vain.
//!
//! Owns: the bucket of such fetches, the names that are not there, and the counts of one source. Every change is under one
//! short lock of the source.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Settings;
use super::throttle::{Absent, Bucket};

/// Key names that are remembered as not there.
const MOST_ABSENT: usize = 1024;

/// What connections find when they ask.
#[derive(Debug)]
pub(super) struct Desk {
    bucket: Bucket,
    absent: Absent,
    /// The newest round that has begun, and the newest that somebody asked for.
    begun: u64,
    asked: u64,
    /// When a fetch for a key name that came too early is to be made up for.
    owed: Option<Instant>,
    facts: Facts,
}

/// Figures for status and metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) fetches_ok: u64,
    pub(super) fetches_failed: u64,
    pub(super) throttled: u64,
    pub(super) failures_in_a_row: u32,
    pub(super) last_error: Option<Arc<str>>,
}

/// What a connection with an unknown key is told.
pub(super) enum Answer {
    Absent,
    Throttled(Duration),
    /// The round under way, which began before the question.
    Join(u64),
    /// A round that begins after it.
    Wait(u64),
}

impl Desk {
    pub(super) fn new(settings: &Settings, now: Instant) -> Self {
        Self {
            bucket: Bucket::new(settings.unknown_burst, settings.unknown_interval, now),
            absent: Absent::new(MOST_ABSENT, settings.unknown_interval),
            begun: 0,
            asked: 0,
            owed: None,
            facts: Facts::default(),
        }
    }

    pub(super) const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Begins a round, which pays what is owed. Its number.
    pub(super) fn begin(&mut self) -> u64 {
        self.begun = self.begun.saturating_add(1);
        self.owed = None;
        self.asked = self.asked.max(self.begun);
        self.begun
    }

    /// Whether somebody asked for a round that has not begun.
    pub(super) const fn is_asked_for(&self) -> bool {
        self.asked > self.begun
    }

    pub(super) const fn owed(&self) -> Option<Instant> {
        self.owed
    }

    /// Takes the token that has grown back for those that asked too early. It may be gone to a connection that came just
    /// now, whose fetch this then is.
    pub(super) fn pay(&mut self, now: Instant) {
        let _ = self.bucket.take(now);
    }

    /// `joined`: whether the caller has waited for a fetch already; `finished`: the last round that has ended. And whether
    /// the task that fetches has to look here: a round is asked for, or becomes owed, that was not.
    pub(super) fn ask(
        &mut self,
        kid: &str,
        joined: bool,
        finished: u64,
        now: Instant,
    ) -> (Answer, bool) {
        if self.absent.contains(kid, now) {
            return (Answer::Absent, false);
        }
        if self.is_asked_for() {
            return (Answer::Wait(self.asked), false);
        }
        // The fetch that is under way most likely brings what everybody asks for at this moment, and costs the bucket
        // nothing. It may have begun before the key was published, so that it is no answer where it does not.
        if !joined && finished < self.begun {
            return (Answer::Join(self.begun), false);
        }
        match self.bucket.take(now) {
            Ok(()) => {
                self.asked = self.begun.saturating_add(1);
                (Answer::Wait(self.asked), true)
            }
            Err(wait) => {
                self.facts.throttled = self.facts.throttled.saturating_add(1);
                let is_news = self.owed.is_none();
                self.owed.get_or_insert(now + wait);
                (Answer::Throttled(wait), is_news)
            }
        }
    }

    /// Notes that a fetch that began after the question did not bring the key.
    pub(super) fn note_absent(&mut self, kid: &str, now: Instant) {
        self.absent.insert(kid, now);
    }

    pub(super) fn note_success(&mut self) {
        let facts = &mut self.facts;
        facts.fetches_ok = facts.fetches_ok.saturating_add(1);
        facts.failures_in_a_row = 0;
        facts.last_error = None;
    }

    /// How many fetches failed in a row.
    pub(super) fn note_failure(&mut self, error: Arc<str>) -> u32 {
        let facts = &mut self.facts;
        facts.fetches_failed = facts.fetches_failed.saturating_add(1);
        facts.failures_in_a_row = facts.failures_in_a_row.saturating_add(1);
        facts.last_error = Some(error);
        facts.failures_in_a_row
    }
}
