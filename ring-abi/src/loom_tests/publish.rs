//! Payload against `reclaim_pos`: what is accepted is whole (SPEC.md §6, steps 1 to 4, and §7).

use loom::sync::Arc;
use loom::thread;

use crate::cursor::{self, AtomicU64, Ordering};

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    ReclaimAfterBytes,
    NoReleaseFence,
    ReclaimDecreases,
    TailStoredRelaxed,
    TailLoadedRelaxed,
    NoAcquireFence,
    ValidatedBeforeCopy,
    NotValidated,
}
use Broken::*;

/// One arena of two units of two words, one ring of four records. A unit's words, and its record, hold its position + 1.
struct Shared {
    arena: [AtomicU64; 4],
    reclaim_pos: AtomicU64,
    records: [AtomicU64; 4],
    tail: AtomicU64,
}

const ARENA_LEN: u64 = 4;
const UNIT_LEN: u64 = 2;

struct Producer {
    shared: Arc<Shared>,
    /// Private copy of `reclaim_pos`.
    reclaimed: u64,
    tail: u64,
    broken: Broken,
}

impl Producer {
    fn new(broken: Broken) -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        let (reclaim_pos, tail) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { arena: zeros(), reclaim_pos, records: zeros(), tail });
        Self { shared, reclaimed: 0, tail: 0, broken }
    }

    /// Makes `len` words at `pos` hold `value`.
    fn write(&mut self, pos: u64, len: u64, value: u64) {
        if self.broken != ReclaimAfterBytes {
            self.reclaim((pos + len).saturating_sub(ARENA_LEN));
        }
        for word in pos..pos + len {
            self.shared.arena[(word % ARENA_LEN) as usize].store(value, Ordering::Relaxed);
        }
        if self.broken == ReclaimAfterBytes {
            self.reclaim((pos + len).saturating_sub(ARENA_LEN));
        }
    }

    fn reclaim(&mut self, to: u64) {
        match self.broken {
            NoReleaseFence => self.shared.reclaim_pos.store(to, Ordering::Relaxed),
            ReclaimDecreases => {
                self.reclaimed = 0;
                cursor::reclaim(&self.shared.reclaim_pos, &mut self.reclaimed, to);
            }
            _ => {
                cursor::reclaim(&self.shared.reclaim_pos, &mut self.reclaimed, to);
            }
        }
    }

    /// Writes and publishes a unit.
    fn publish(&mut self, pos: u64) {
        self.write(pos, UNIT_LEN, pos + 1);
        self.shared.records[self.tail as usize].store(pos + 1, Ordering::Relaxed);
        self.tail += 1;
        if self.broken == TailStoredRelaxed {
            self.shared.tail.store(self.tail, Ordering::Relaxed);
        } else {
            cursor::publish_tail(&self.shared.tail, self.tail);
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    head: u64,
    broken: Broken,
}

impl Reader {
    fn of(producer: &Producer) -> Self {
        Self { shared: Arc::clone(&producer.shared), head: 0, broken: producer.broken }
    }

    /// Takes what is there; every accepted unit must be whole and the one its record names.
    fn take_all(&mut self) {
        let tail = match self.broken {
            TailLoadedRelaxed => self.shared.tail.load(Ordering::Relaxed),
            _ => cursor::observe_tail(&self.shared.tail),
        };
        while self.head < tail {
            let record = self.shared.records[self.head as usize].load(Ordering::Relaxed);
            assert_ne!(record, 0, "a record below the tail is not there");
            self.take(record - 1);
            self.head += 1;
        }
    }

    fn take(&self, pos: u64) {
        let word = |w: u64| self.shared.arena[(w % ARENA_LEN) as usize].load(Ordering::Relaxed);
        let copy = || (pos..pos + UNIT_LEN).map(word).collect::<Vec<u64>>();
        let (copy, accepted) = match self.broken {
            ValidatedBeforeCopy => {
                let accepted = cursor::still_valid(&self.shared.reclaim_pos, pos);
                (copy(), accepted)
            }
            NoAcquireFence => (copy(), self.shared.reclaim_pos.load(Ordering::Relaxed) <= pos),
            NotValidated => (copy(), true),
            _ => (copy(), cursor::still_valid(&self.shared.reclaim_pos, pos)),
        };
        assert!(!accepted || copy == [pos + 1, pos + 1], "a torn unit was accepted");
    }
}

/// Three units through an arena of two: the third overwrites the first.
fn three_units(broken: Broken) {
    loom::model(move || {
        let mut producer = Producer::new(broken);
        let mut reader = Reader::of(&producer);
        producer.publish(0);
        let writer = thread::spawn(move || {
            producer.publish(2);
            producer.publish(4);
        });
        reader.take_all();
        reader.take_all();
        writer.join().unwrap();
        reader.take_all();
        assert_eq!(reader.head, 3);
    });
}

/// A unit grows over both that are retained, is given up, and a smaller one takes its place.
fn abort_and_smaller_unit(broken: Broken) {
    loom::model(move || {
        let mut producer = Producer::new(broken);
        let mut reader = Reader::of(&producer);
        producer.publish(0);
        producer.publish(2);
        let writer = thread::spawn(move || {
            producer.write(4, 4, 99);
            producer.publish(4);
        });
        reader.take_all();
        writer.join().unwrap();
        reader.take_all();
        assert_eq!(reader.head, 3);
    });
}

#[test]
fn a_validated_unit_is_whole() {
    three_units(Nothing);
}

#[test]
fn an_aborted_unit_does_not_revive_what_it_overwrote() {
    abort_and_smaller_unit(Nothing);
}

/// 1. R: tail 1; record: pos 0.
/// 2. P, unit at 4: word 0 = 5, and is interrupted before it stores `reclaim_pos`.
/// 3. R: copies words 0, 1 = 5, 1; `reclaim_pos` 0 ≤ 0: accepted.
#[test]
#[should_panic(expected = "a torn unit was accepted")]
fn mutant_reclaim_pos_is_stored_after_the_bytes() {
    three_units(ReclaimAfterBytes);
}

/// 1. R: tail 1; record: pos 0.
/// 2. P, unit at 4: `reclaim_pos` = 2, word 0 = 5. Nothing orders the two stores; word 0 becomes visible first.
/// 3. R: copies words 0, 1 = 5, 1; acquire fence; still sees `reclaim_pos` 0 ≤ 0: accepted.
#[test]
#[should_panic(expected = "a torn unit was accepted")]
fn mutant_no_release_fence_behind_reclaim_pos() {
    three_units(NoReleaseFence);
}

/// 1. P: units at 0 and 2 are published.
/// 2. R: tail 2; record: pos 2.
/// 3. P, unit of four words at 4: `reclaim_pos` = 4; words 0 to 3 = 99; the unit is given up.
/// 4. P, unit of two words at 4: stores its own smaller bound, `reclaim_pos` = 2.
/// 5. R: copies words 2, 3 = 99, 99; sees `reclaim_pos` 2 ≤ 2: accepted.
#[test]
#[should_panic(expected = "a torn unit was accepted")]
fn mutant_a_smaller_reclaim_pos_is_stored_after_an_abort() {
    abort_and_smaller_unit(ReclaimDecreases);
}

/// 1. P, unit at 2: record 1 = 3, tail = 2 relaxed. The tail becomes visible first.
/// 2. R: tail 2; record 1 is 0 still.
#[test]
#[should_panic(expected = "a record below the tail is not there")]
fn mutant_the_tail_is_stored_relaxed() {
    three_units(TailStoredRelaxed);
}

/// 1. P, unit at 2: record 1 = 3, tail = 2 (release).
/// 2. R: record 1 is loaded ahead of the tail that nothing orders it behind: 0. Tail 2.
#[test]
#[should_panic(expected = "a record below the tail is not there")]
fn mutant_the_tail_is_loaded_relaxed() {
    three_units(TailLoadedRelaxed);
}

/// 1. R: tail 1; record: pos 0. Loads `reclaim_pos` ahead of the copy that nothing orders it behind: 0.
/// 2. P, unit at 4: `reclaim_pos` = 2; release fence; word 0 = 5.
/// 3. R: copies words 0, 1 = 5, 1; 0 ≤ 0: accepted.
#[test]
#[should_panic(expected = "a torn unit was accepted")]
fn mutant_no_acquire_fence_behind_the_copy() {
    three_units(NoAcquireFence);
}

/// 1. R: tail 1; record: pos 0; `reclaim_pos` 0 ≤ 0: accepted.
/// 2. P, unit at 4: `reclaim_pos` = 2; word 0 = 5.
/// 3. R: copies words 0, 1 = 5, 1.
#[test]
#[should_panic(expected = "a torn unit was accepted")]
fn mutant_validated_before_the_copy() {
    three_units(ValidatedBeforeCopy);
}

/// 1. R: tail 1; record: pos 0.
/// 2. P, unit at 4: `reclaim_pos` = 2; word 0 = 5.
/// 3. R: copies words 0, 1 = 5, 1, and uses them.
#[test]
#[should_panic(expected = "a torn unit was accepted")]
fn mutant_not_validated() {
    three_units(NotValidated);
}
