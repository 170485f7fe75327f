//! What one session does where memory is scarce: it asks again for what it did not get, and ends where it keeps much of it
//! waiting for a client who brings too little. [`super::memory`] says what there is to be had.

use std::time::Duration;

use super::memory::{Memory, Share};
use crate::time::Timestamp;

/// How soon memory is asked for again that was not there.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The memory that a session lacks, or keeps from others.
#[derive(Debug, Default)]
pub(super) struct Scarcity {
    /// When memory is to be asked for again, or is looked at that the client keeps waiting.
    due: Option<Timestamp>,
    /// Since when much is kept for an operation of which the client still owes the rest.
    keeps_since: Option<Timestamp>,
    /// Bytes that the client has brought since then.
    brought: usize,
}

impl Scarcity {
    /// The client has brought this many bytes.
    pub(super) const fn note_brought(&mut self, count: usize) {
        self.brought = self.brought.saturating_add(count);
    }

    /// When to look again, if nothing else happens.
    pub(super) const fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// Notes when to look again. `starved`: there was no memory for a buffer that is needed; `kept`: the size of the buffer that waits
    /// for the client, if one does. Whether the session has to end, because its client is too slow for what it keeps.
    pub(super) fn look(
        &mut self,
        memory: &Memory,
        starved: bool,
        kept: Option<usize>,
        now: Timestamp,
    ) -> bool {
        let mut due = None;
        match kept {
            None => self.keeps_since = None,
            Some(size) => match self.patience_with(size, memory, now) {
                Some(until) => due = Some(until),
                None => return true,
            },
        }
        if starved {
            let asked = self.due.filter(|due| *due > now);
            due = [due, asked, Some(now.plus(ASK_AGAIN))]
                .into_iter()
                .flatten()
                .min();
        }
        self.due = due;
        false
    }

    /// Up to when the client may keep a buffer of `size` bytes waiting. None when it has had its time, has not brought as much
    /// meanwhile as the buffer holds, and another one as large would not fit.
    fn patience_with(&mut self, size: usize, memory: &Memory, now: Timestamp) -> Option<Timestamp> {
        if self.keeps_since.is_none() {
            self.brought = 0;
        }
        let latest = self.keeps_since.get_or_insert(now).plus(memory.patience());
        if latest > now {
            return Some(latest);
        }
        if self.brought < size && !memory.has_room_for(size, Share::ThreeQuarters) {
            return None;
        }
        self.keeps_since = None;
        Some(now.plus(memory.patience()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::memory::Account;
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    /// 16 MiB, of which so many are held by somebody.
    fn memory(held: usize) -> (Arc<Memory>, Account) {
        let memory = Memory::new(16 * MIB, Duration::from_secs(1));
        let mut others = Account::new(Arc::clone(&memory));
        others.hold(held);
        (memory, others)
    }

    #[test]
    fn memory_that_is_not_there_is_asked_for_again_and_not_put_off_by_looking() {
        let (memory, _others) = memory(16 * MIB);
        let mut scarcity = Scarcity::default();
        for now in [0, 100, 199] {
            assert!(!scarcity.look(&memory, true, None, at(now)));
            assert_eq!(scarcity.due(), Some(at(200)), "{now}");
        }
        assert!(!scarcity.look(&memory, true, None, at(200)));
        assert_eq!(scarcity.due(), Some(at(400)));
        assert!(!scarcity.look(&memory, false, None, at(201)));
        assert_eq!(scarcity.due(), None);
    }

    #[test]
    fn who_keeps_memory_waiting_ends_after_its_time_where_there_is_none_for_another() {
        for (held, brought, ends) in [
            (15 * MIB, MIB - 1, true),
            (15 * MIB, MIB, false),
            (0, 0, false),
        ] {
            let (memory, _others) = memory(held);
            let mut scarcity = Scarcity::default();
            // What came before the wait counts for nothing.
            scarcity.note_brought(9 * MIB);
            assert!(!scarcity.look(&memory, false, Some(MIB), at(0)));
            assert_eq!(scarcity.due(), Some(at(1000)));
            scarcity.note_brought(brought);
            assert!(!scarcity.look(&memory, true, Some(MIB), at(999)));
            assert_eq!(scarcity.due(), Some(at(1000)), "the sooner of the two");
            assert_eq!(scarcity.look(&memory, false, Some(MIB), at(1000)), ends);
            if !ends {
                assert_eq!(scarcity.due(), Some(at(2000)), "another time");
            }
        }
    }

    #[test]
    fn a_client_that_is_not_waited_for_any_more_has_all_of_its_time_again() {
        let (memory, _others) = memory(15 * MIB);
        let mut scarcity = Scarcity::default();
        assert!(!scarcity.look(&memory, false, Some(MIB), at(0)));
        assert!(!scarcity.look(&memory, false, None, at(900)));
        assert!(!scarcity.look(&memory, false, Some(MIB), at(1000)));
        assert!(!scarcity.look(&memory, false, Some(MIB), at(1999)));
        assert!(scarcity.look(&memory, false, Some(MIB), at(2000)));
    }
}
