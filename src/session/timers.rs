//! Timers as data: the session says when it wants to be woken, whoever drives it does the waiting.

use crate::time::Timestamp;

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// CONNECT must have come, and its admission must have ended.
    Handshake,
    /// The lame duck notice before the end.
    Notice,
    /// The end of the session.
    End,
    /// The client must have taken some bytes.
    ClientWrite,
    /// The upstream must have taken some bytes.
    UpstreamWrite,
    /// The rate limit lets the client go on.
    Resume,
}

const TIMERS: [Timer; 6] = [
    Timer::Handshake,
    Timer::Notice,
    Timer::End,
    Timer::ClientWrite,
    Timer::UpstreamWrite,
    Timer::Resume,
];

/// When each timer is due; unset ones never are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timers([Timestamp; TIMERS.len()]);

/// Further than any clock goes.
const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

impl Default for Timers {
    fn default() -> Self {
        Self([NEVER; TIMERS.len()])
    }
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Timestamp) {
        if let Some(slot) = self.0.get_mut(timer as usize) {
            *slot = at;
        }
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(slot) = self.0.get_mut(timer as usize) {
            *slot = NEVER;
        }
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.at(timer).is_some()
    }

    /// When a timer is due.
    pub(super) fn at(&self, timer: Timer) -> Option<Timestamp> {
        self.0.get(timer as usize).copied().filter(|at| *at < NEVER)
    }

    /// The earliest time at which something is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.0.iter().min().copied().filter(|at| *at < NEVER)
    }

    /// Takes out one timer that is due.
    pub(super) fn expire(&mut self, now: Timestamp) -> Option<Timer> {
        let due = |timer: &Timer| self.at(*timer).is_some_and(|at| at <= now);
        let timer = TIMERS.into_iter().find(due)?;
        self.clear(timer);
        Some(timer)
    }
}
