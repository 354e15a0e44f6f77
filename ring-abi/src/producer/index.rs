//! The producer's private index of the units a track retains. Pure.
//!
//! Entries are numbered from 0 and never renumbered, so that a reader's place in the index stays good while old entries
//! go. An entry has 24 bytes; the full descriptor stands in the arena in front of its payload.

use crate::layout::{DESCRIPTOR_LEN, Flags};

/// A retained unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) recv_ns: u64,
    /// The payload's position, a multiple of 64, with the bits below in its free low end.
    pos_and_bits: u64,
}

const BIT_KEY: u64 = 1;
const BIT_DAMAGED: u64 = 2;
const BITS: u64 = 63;

impl Entry {
    /// What stands where no entry is.
    const NONE: Self = Self { seq: 0, recv_ns: 0, pos_and_bits: 0 };

    pub(crate) const fn new(seq: u64, pos: u64, recv_ns: u64, flags: Flags) -> Self {
        let key = if flags.contains(Flags::KEY) { BIT_KEY } else { 0 };
        let damaged = if flags.contains(Flags::DAMAGED) { BIT_DAMAGED } else { 0 };
        Self { seq, recv_ns, pos_and_bits: (pos & !BITS) | key | damaged }
    }

    pub(crate) const fn pos(self) -> u64 {
        self.pos_and_bits & !BITS
    }

    pub(crate) const fn is_key(self) -> bool {
        self.pos_and_bits & BIT_KEY != 0
    }

    pub(crate) const fn is_damaged(self) -> bool {
        self.pos_and_bits & BIT_DAMAGED != 0
    }
}

/// The retained units of one track, oldest first. Invariants: `seq`, `pos` and numbers grow together; entry `n` stands at
/// `n mod entries.len()`, a power of two of at least `end − first`.
#[derive(Debug)]
pub(crate) struct UnitIndex {
    entries: Vec<Entry>,
    /// Number of the oldest entry.
    first: u64,
    /// Number that the next entry will have.
    end: u64,
    max: u64,
}

impl UnitIndex {
    /// An index of at most `max` entries. Memory grows with use, by doubling, and is kept.
    pub(crate) fn new(max: usize) -> Self {
        let room = max.clamp(1, 256).next_power_of_two();
        Self { entries: vec![Entry::NONE; room], first: 0, end: 0, max: max.max(1) as u64 }
    }

    /// Number of the oldest entry, or of the next when there is none.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Number that the next entry will have.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn len(&self) -> u64 {
        self.end - self.first
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    pub(crate) fn oldest(&self) -> Option<Entry> {
        self.entry(self.first)
    }

    pub(crate) fn newest(&self) -> Option<Entry> {
        self.entry(self.end.wrapping_sub(1))
    }

    /// Entry `number`, if it is retained.
    pub(crate) fn entry(&self, number: u64) -> Option<Entry> {
        if number < self.first || number >= self.end {
            return None;
        }
        self.entries.get(place(number, self.entries.len())).copied()
    }

    /// Adds the newest unit. The caller has made room.
    pub(crate) fn push(&mut self, entry: Entry) {
        debug_assert!(!self.is_full(), "the track reclaims an entry before it commits");
        if self.len() == self.entries.len() as u64 {
            self.grow();
        }
        let at = place(self.end, self.entries.len());
        if let Some(place) = self.entries.get_mut(at) {
            *place = entry;
        }
        self.end += 1;
    }

    /// Forgets units whose descriptor or payload begins below `reclaim_pos`.
    pub(crate) fn reclaim_below(&mut self, reclaim_pos: u64) {
        while self.oldest().is_some_and(|e| e.pos().saturating_sub(DESCRIPTOR_LEN) < reclaim_pos) {
            self.first += 1;
        }
    }

    /// Number of the newest keyframe.
    pub(crate) fn newest_key(&self) -> Option<u64> {
        self.newest_key_until(u64::MAX)
    }

    /// Number of the oldest keyframe.
    pub(crate) fn oldest_key(&self) -> Option<u64> {
        self.oldest_key_from(0)
    }

    /// Number of the oldest keyframe whose payload is at `pos` or above.
    pub(crate) fn oldest_key_from(&self, pos: u64) -> Option<u64> {
        self.numbers().find(|&n| self.entry(n).is_some_and(|e| e.is_key() && e.pos() >= pos))
    }

    /// Number of the newest keyframe that was received at `recv_ns` or before.
    pub(crate) fn newest_key_until(&self, recv_ns: u64) -> Option<u64> {
        self.numbers().rev().find(|&n| self.entry(n).is_some_and(|e| e.is_key() && e.recv_ns <= recv_ns))
    }

    /// Number of the first retained unit above `seq`; the next number when there is none.
    pub(crate) fn after_seq(&self, seq: u64) -> u64 {
        let (mut low, mut high) = (self.first, self.end);
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle).is_some_and(|e| e.seq <= seq) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.end
    }

    /// Twice the room. Each entry stands at its number's remainder by the new length then.
    fn grow(&mut self) {
        let numbers = self.numbers();
        let old = std::mem::take(&mut self.entries);
        self.entries = vec![Entry::NONE; old.len() * 2];
        for number in numbers {
            let (from, to) = (place(number, old.len()), place(number, self.entries.len()));
            if let (Some(entry), Some(place)) = (old.get(from), self.entries.get_mut(to)) {
                *place = *entry;
            }
        }
    }
}

/// Where entry `number` stands among `len`, a power of two.
#[expect(clippy::cast_possible_truncation, reason = "the remainder is below `len`")]
const fn place(number: u64, len: usize) -> usize {
    (number & (len as u64 - 1)) as usize
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn index(keys: &[u64]) -> UnitIndex {
        let mut index = UnitIndex::new(16);
        for seq in 1..=10u64 {
            let flags = if keys.contains(&seq) { Flags::KEY } else { Flags(0) };
            index.push(Entry::new(seq, seq * 1024, seq * 100, flags));
        }
        index
    }

    #[test]
    fn entries_keep_their_numbers_while_old_ones_go() {
        let mut index = index(&[1, 5]);
        assert_eq!(index.entry(4).unwrap().seq, 5);
        index.reclaim_below(3 * 1024);
        assert_eq!(index.first(), 3, "unit 3 lost its descriptor, which begins below the bound");
        assert_eq!(index.entry(2), None);
        assert_eq!(index.entry(4).unwrap().seq, 5);
        assert_eq!((index.oldest_key(), index.newest_key()), (Some(4), Some(4)));
    }

    #[test]
    fn entries_stay_in_their_places_while_the_index_grows() {
        let mut index = UnitIndex::new(1000);
        for seq in 0..5000u64 {
            if index.is_full() {
                index.reclaim_below((seq - 900) * 1024);
            }
            index.push(Entry::new(seq, (seq + 1) * 1024, seq, Flags(0)));
            assert!(index.len() <= 1000);
            for number in [index.first(), index.first().midpoint(index.end()), index.end() - 1] {
                assert_eq!(index.entry(number).unwrap().seq, number);
            }
            assert_eq!((index.entry(index.end()), index.newest().unwrap().seq), (None, seq));
        }
        assert_eq!(index.entry(index.first() - 1), None);
    }

    #[test]
    fn searches() {
        let index = index(&[2, 5, 9]);
        assert_eq!(index.newest_key(), Some(8));
        assert_eq!(index.oldest_key_from(3 * 1024), Some(4));
        assert_eq!(index.newest_key_until(899), Some(4));
        assert_eq!(index.newest_key_until(100), None);
        assert_eq!((index.after_seq(0), index.after_seq(7), index.after_seq(99)), (0, 7, 10));
    }

    #[test]
    fn bits_do_not_disturb_the_position() {
        let entry = Entry::new(1, 640, 0, Flags::KEY.with(Flags::DAMAGED));
        assert_eq!((entry.pos(), entry.is_key(), entry.is_damaged()), (640, true, true));
    }
}
