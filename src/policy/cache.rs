//! A small memory of answers per session, so that a publisher that repeats itself costs one comparison.
//!
//! Owns: which subjects are known to be granted. Must never: grow with what a peer sends beyond [`LARGE`] slots, or be
//! asked across a change of policy (the judge clears it). Keys live inside the slots, so a hit or a miss allocates
//! nothing; a session that never asks has no table at all.
#![expect(
    clippy::cast_possible_truncation,
    reason = "subjects of more than 255 bytes are not kept; hashes are meant to be cut"
)]

use crate::subject::{begins_with, mix_bytes};

/// Slots of a fresh table: 1 KiB.
const SMALL: usize = 16;

/// Slots of a table that turned out too small: 16 KiB.
const LARGE: usize = 256;

/// The longest subject that is remembered; a slot is one cache line.
const KEY_BYTES: usize = 58;

/// Remembered answers.
#[derive(Debug, Default)]
pub(super) struct AnswerCache {
    slots: Box<[Slot]>,
    /// Answers pushed out by others since the table was made.
    evicted: u32,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: u32,
    answer: bool,
    len: u8,
    key: [u8; KEY_BYTES],
}

const EMPTY: Slot = Slot {
    tag: 0,
    answer: false,
    len: 0,
    key: [0; KEY_BYTES],
};

impl AnswerCache {
    /// The remembered answer for this subject.
    #[inline]
    pub(super) fn recall(&self, subject: &[u8]) -> Option<bool> {
        if self.slots.is_empty() {
            return None;
        }
        let mixed = mix_bytes(0, subject);
        let [first, second] = self.places(mixed);
        let holds = |at: usize| {
            let slot = self.slots.get(at)?;
            let same = slot.tag == tag_of(mixed)
                && usize::from(slot.len) == subject.len()
                && begins_with(&slot.key, subject);
            same.then_some(slot.answer)
        };
        holds(first).or_else(|| holds(second))
    }

    /// Remembers an answer; a subject too long for a slot is forgotten at once.
    pub(super) fn remember(&mut self, subject: &[u8], answer: bool) {
        if subject.len() > KEY_BYTES || subject.is_empty() {
            return;
        }
        self.make_room();
        let mixed = mix_bytes(0, subject);
        let mut slot = Slot {
            tag: tag_of(mixed),
            answer,
            len: subject.len() as u8,
            key: [0; KEY_BYTES],
        };
        if let Some(key) = slot.key.get_mut(..subject.len()) {
            key.copy_from_slice(subject);
        }
        let [mut first, second] = self.places(mixed);
        if self.is_taken(first) && !self.is_taken(second) {
            first = second;
        }
        let Some(displaced) = self.put(first, slot) else {
            return;
        };
        // Whoever was there goes to its other place, and pushes out what is there.
        let places = self.places(mix_bytes(0, displaced.subject()));
        let other = if places[0] == first {
            places[1]
        } else {
            places[0]
        };
        if other == first || self.put(other, displaced).is_some() {
            self.evicted = self.evicted.saturating_add(1);
        }
    }

    fn is_taken(&self, at: usize) -> bool {
        self.slots.get(at).is_some_and(|slot| slot.len > 0)
    }

    /// Writes a slot, and returns what was there.
    fn put(&mut self, at: usize, slot: Slot) -> Option<Slot> {
        let place = self.slots.get_mut(at)?;
        let before = std::mem::replace(place, slot);
        (before.len > 0).then_some(before)
    }

    /// Bytes of memory that it holds.
    pub(super) fn held(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// Forgets everything and gives the memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A table on first use, a larger one when answers keep pushing each other out. Happens twice at most.
    fn make_room(&mut self) {
        let crowded = self.slots.len() == SMALL && self.evicted as usize > SMALL;
        if self.slots.is_empty() || crowded {
            let size = if crowded { LARGE } else { SMALL };
            self.slots = vec![EMPTY; size].into();
            self.evicted = 0;
        }
    }

    /// The two slots that a hash may be in; the table's size is a power of two.
    #[inline]
    const fn places(&self, mixed: u64) -> [usize; 2] {
        let mask = self.slots.len().wrapping_sub(1);
        [mixed as usize & mask, (mixed >> 16) as usize & mask]
    }
}

impl Slot {
    fn subject(&self) -> &[u8] {
        self.key.get(..self.len.into()).unwrap_or_default()
    }
}

#[inline]
const fn tag_of(mixed: u64) -> u32 {
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_one_cache_line() {
        assert_eq!(size_of::<Slot>(), 64);
    }

    #[test]
    fn answers_are_recalled_exactly_or_not_at_all() {
        let mut cache = AnswerCache::default();
        let subjects: Vec<String> = (0..1000).map(|n| format!("a.{n}.{}", n * 7919)).collect();
        for (n, subject) in subjects.iter().enumerate() {
            cache.remember(subject.as_bytes(), n % 3 == 0);
            assert_eq!(cache.recall(subject.as_bytes()), Some(n % 3 == 0));
        }
        let known = subjects.iter().enumerate().filter(|(n, subject)| {
            let answer = cache.recall(subject.as_bytes());
            assert!(answer.is_none_or(|answer| answer == (n % 3 == 0)));
            answer.is_some()
        });
        let known = known.count();
        assert!((LARGE / 2..=LARGE).contains(&known), "{known}");
        assert_eq!(cache.slots.len(), LARGE);
    }

    #[test]
    fn what_does_not_fit_is_not_remembered() {
        let mut cache = AnswerCache::default();
        cache.remember(&[b'x'; KEY_BYTES + 1], true);
        cache.remember(b"", true);
        assert_eq!(cache.recall(&[b'x'; KEY_BYTES + 1]), None);
        assert_eq!(cache.recall(b""), None);
        cache.remember(&[b'x'; KEY_BYTES], true);
        assert_eq!(cache.recall(&[b'x'; KEY_BYTES]), Some(true));
        assert_eq!(cache.held(), SMALL * 64);
        cache.clear();
        assert_eq!(cache.recall(&[b'x'; KEY_BYTES]), None);
        assert_eq!(cache.held(), 0);
    }
}
