//! What one session does where memory is scarce: it asks again for what it did not get, and ends where it keeps much of it
//! waiting for a client who brings too little. [`super::memory`] says what there is to be had.

use std::time::Duration;

use super::memory::{Memory, Share};
use super::to_usize;
use crate::spread;
use crate::time::Timestamp;

/// How soon memory is asked for again that was not there, the first time; up to twice as late, since thousands may have begun to
/// lack it in the same moment, and each time that all of them asked together, the sessions that lack nothing would wait.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// How often that time doubles while there is none.
const DOUBLINGS: u32 = 2;

/// What a session lacks just now, or keeps from others.
pub(super) struct Lack<'a> {
    pub(super) memory: &'a Memory,
    /// Its number.
    pub(super) session: u64,
    /// There was no memory for a buffer that it needs.
    pub(super) is_starved: bool,
    /// The size of the buffer that waits for the client, if one does.
    pub(super) kept: Option<usize>,
}

/// The memory that a session lacks, or keeps from others, and since when.
#[derive(Debug, Default)]
pub(super) struct Scarcity {
    /// When memory is to be asked for again, or is looked at that the client keeps waiting.
    due: Option<Timestamp>,
    /// Since when much is kept for an operation of which the client still owes the rest.
    keeps_since: Option<Timestamp>,
    /// Bytes that the client has brought since then; there is no larger buffer than this can hold.
    brought: u32,
    /// How often memory was asked for in vain in a row, up to [`DOUBLINGS`].
    asked: u32,
}

impl Scarcity {
    /// The client has brought this many bytes.
    pub(super) fn note_brought(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.brought = self.brought.saturating_add(count);
    }

    /// When to look again, if nothing else happens.
    pub(super) const fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// Notes when to look again. Whether the session has to end, because its client is too slow for what it keeps.
    pub(super) fn look(&mut self, lack: &Lack<'_>, now: Timestamp) -> bool {
        let mut due = None;
        match lack.kept {
            None => self.keeps_since = None,
            Some(size) => match self.patience_with(size, lack, now) {
                Some(until) => due = Some(until),
                None => return true,
            },
        }
        if lack.is_starved {
            let again = self.ask_again(lack.session, now);
            due = due.into_iter().chain([again]).min();
        } else {
            self.asked = 0;
        }
        self.due = due;
        false
    }

    /// When the session asks again for memory that was not there.
    fn ask_again(&mut self, number: u64, now: Timestamp) -> Timestamp {
        let least = ASK_AGAIN.saturating_mul(1 << self.asked);
        let latest = now.plus(least.saturating_add(spread::part(number, least)));
        match self.due.filter(|due| *due > now && *due <= latest) {
            Some(due) => due,
            None => {
                self.asked = self.asked.saturating_add(1).min(DOUBLINGS);
                latest
            }
        }
    }

    /// Up to when the client may keep a buffer of `size` bytes waiting. None when it has had its time, has not brought as much
    /// meanwhile as the buffer holds, and another one as large would not fit. Up to half longer than it must be, since those
    /// who began together would be ended together, and sessions that keep nothing would wait behind that.
    fn patience_with(&mut self, size: usize, lack: &Lack<'_>, now: Timestamp) -> Option<Timestamp> {
        if self.keeps_since.is_none() {
            self.brought = 0;
        }
        let memory = lack.memory;
        let patience = spread::half_more(lack.session, memory.patience());
        let latest = self.keeps_since.get_or_insert(now).plus(patience);
        if latest > now {
            return Some(latest);
        }
        if to_usize(self.brought) < size && !memory.has_room_for(size, Share::ThreeQuarters) {
            return None;
        }
        self.keeps_since = Some(now);
        self.brought = 0;
        Some(now.plus(patience))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
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

    fn lack(memory: &Memory, session: u64, is_starved: bool, kept: Option<usize>) -> Lack<'_> {
        Lack {
            memory,
            session,
            is_starved,
            kept,
        }
    }

    #[test]
    fn memory_that_is_not_there_is_asked_for_again_and_not_put_off_by_looking() {
        let (memory, _others) = memory(16 * MIB);
        let mut scarcity = Scarcity::default();
        for now in [0, 100, 199] {
            assert!(!scarcity.look(&lack(&memory, 0, true, None), at(now)));
            assert_eq!(scarcity.due(), Some(at(200)), "{now}");
        }
        assert!(!scarcity.look(&lack(&memory, 0, true, None), at(200)));
        assert_eq!(scarcity.due(), Some(at(600)), "later each time");
        assert!(!scarcity.look(&lack(&memory, 0, false, None), at(201)));
        assert_eq!(scarcity.due(), None);
        assert!(!scarcity.look(&lack(&memory, 0, true, None), at(300)));
        assert_eq!(scarcity.due(), Some(at(500)), "as the first time");
    }

    #[test]
    fn it_is_asked_for_at_other_times_by_others_and_never_after_long() {
        let (memory, _others) = memory(16 * MIB);
        let mut firsts = BTreeSet::new();
        for number in 0..100 {
            let mut scarcity = Scarcity::default();
            let mut now = at(0);
            for _ in 0..9 {
                assert!(!scarcity.look(&lack(&memory, number, true, None), now));
                let due = scarcity.due().unwrap();
                if now == at(0) {
                    firsts.insert(due);
                }
                assert!(due.since(now) >= ASK_AGAIN && due.since(now) < ASK_AGAIN * 8);
                now = due;
            }
        }
        assert!(firsts.len() > 90, "{firsts:?}");
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
            assert!(!scarcity.look(&lack(&memory, 0, false, Some(MIB)), at(0)));
            assert_eq!(scarcity.due(), Some(at(1000)));
            scarcity.note_brought(brought);
            assert!(!scarcity.look(&lack(&memory, 0, true, Some(MIB)), at(999)));
            assert_eq!(scarcity.due(), Some(at(1000)), "the sooner of the two");
            assert_eq!(
                scarcity.look(&lack(&memory, 0, false, Some(MIB)), at(1000)),
                ends
            );
            if !ends {
                assert_eq!(scarcity.due(), Some(at(2000)), "another time");
            }
        }
    }

    #[test]
    fn who_was_let_go_on_is_judged_again_after_the_same_time() {
        let (memory, mut others) = memory(0);
        let mut scarcity = Scarcity::default();
        let kept = lack(&memory, 0, false, Some(MIB));
        assert!(!scarcity.look(&kept, at(0)));
        assert!(!scarcity.look(&kept, at(1000)), "there is room");
        others.hold(15 * MIB);
        assert!(!scarcity.look(&kept, at(1999)));
        assert!(scarcity.look(&kept, at(2000)));
    }

    #[test]
    fn a_client_that_is_not_waited_for_any_more_has_all_of_its_time_again() {
        let (memory, _others) = memory(15 * MIB);
        let mut scarcity = Scarcity::default();
        assert!(!scarcity.look(&lack(&memory, 0, false, Some(MIB)), at(0)));
        assert!(!scarcity.look(&lack(&memory, 0, false, None), at(900)));
        assert!(!scarcity.look(&lack(&memory, 0, false, Some(MIB)), at(1000)));
        assert!(!scarcity.look(&lack(&memory, 0, false, Some(MIB)), at(1999)));
        assert!(scarcity.look(&lack(&memory, 0, false, Some(MIB)), at(2000)));
    }

    #[test]
    fn who_began_to_keep_memory_together_is_not_ended_together() {
        let (memory, _others) = memory(15 * MIB);
        let mut ends = BTreeSet::new();
        for number in 0..100 {
            let mut scarcity = Scarcity::default();
            let kept = lack(&memory, number, false, Some(MIB));
            assert!(!scarcity.look(&kept, at(0)));
            let due = scarcity.due().unwrap();
            assert!(due >= at(1000) && due <= at(1500));
            assert!(scarcity.look(&kept, due));
            ends.insert(due);
        }
        assert!(ends.len() > 90, "{ends:?}");
    }
}
