//! The model checks of `cursor`: its own functions run under loom, which tries every order that the memory model allows.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p ring-abi --lib --release`. Beside each model stand mutants, the same protocol with
//! one fence or order wrong; they must fail, or the model proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::Arc;
use loom::thread;

use crate::cursor::{self, AtomicU32, AtomicU64, Ordering, fence};

/// One arena of two units of two words, one ring of four records. A unit's words hold its position + 1.
struct Shared {
    arena: [AtomicU64; 4],
    reclaim_pos: AtomicU64,
    records: [AtomicU64; 4],
    tail: AtomicU64,
}

impl Shared {
    fn new() -> Self {
        Self {
            arena: std::array::from_fn(|_| AtomicU64::new(0)),
            reclaim_pos: AtomicU64::new(0),
            records: std::array::from_fn(|_| AtomicU64::new(0)),
            tail: AtomicU64::new(0),
        }
    }
}

const ARENA_LEN: u64 = 4;
const UNIT_LEN: u64 = 2;

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Publish {
    Right,
    /// `reclaim_pos` is stored after the bytes.
    ReclaimLate,
    /// No release fence behind `reclaim_pos`.
    NoReleaseFence,
    /// No acquire fence before `reclaim_pos` is loaded.
    NoAcquireFence,
    /// The tail is stored relaxed.
    RelaxedTail,
    /// A reclaim that was given up with its unit is taken back.
    ReclaimDecreases,
}

fn write_unit(shared: &Shared, reclaimed: &mut u64, pos: u64, how: Publish) {
    let to = (pos + UNIT_LEN).saturating_sub(ARENA_LEN);
    match how {
        Publish::NoReleaseFence => shared.reclaim_pos.store(to, Ordering::Relaxed),
        Publish::ReclaimLate => {}
        Publish::ReclaimDecreases => {
            *reclaimed = 0;
            cursor::reclaim(&shared.reclaim_pos, reclaimed, to);
            shared.reclaim_pos.store(to, Ordering::Relaxed);
        }
        Publish::Right | Publish::NoAcquireFence | Publish::RelaxedTail => {
            cursor::reclaim(&shared.reclaim_pos, reclaimed, to);
        }
    }
    for word in pos..pos + UNIT_LEN {
        shared.arena[(word % ARENA_LEN) as usize].store(pos + 1, Ordering::Relaxed);
    }
    if how == Publish::ReclaimLate {
        cursor::reclaim(&shared.reclaim_pos, reclaimed, to);
    }
}

fn push(shared: &Shared, tail: u64, pos: u64, how: Publish) {
    shared.records[tail as usize].store(pos + 1, Ordering::Relaxed);
    if how == Publish::RelaxedTail {
        shared.tail.store(tail + 1, Ordering::Relaxed);
    } else {
        cursor::publish_tail(&shared.tail, tail + 1);
    }
}

/// Takes what is there; every accepted unit must be whole and the one its record names.
fn read_all(shared: &Shared, head: &mut u64, how: Publish) {
    let tail = cursor::observe_tail(&shared.tail);
    while *head < tail {
        let record = shared.records[*head as usize].load(Ordering::Relaxed);
        assert_ne!(record, 0, "a record below the tail is there");
        let pos = record - 1;
        let copy: Vec<u64> = (pos..pos + UNIT_LEN)
            .map(|w| shared.arena[(w % ARENA_LEN) as usize].load(Ordering::Relaxed))
            .collect();
        let accepted = if how == Publish::NoAcquireFence {
            shared.reclaim_pos.load(Ordering::Relaxed) <= pos
        } else {
            cursor::still_valid(&shared.reclaim_pos, pos)
        };
        assert!(!accepted || copy == [pos + 1, pos + 1], "a torn unit was accepted");
        *head += 1;
    }
}

/// Three units through an arena of two: the third overwrites the first.
fn publish_model(how: Publish) {
    loom::model(move || {
        let shared = Arc::new(Shared::new());
        let mut reclaimed = 0;
        write_unit(&shared, &mut reclaimed, 0, how);
        push(&shared, 0, 0, how);
        let theirs = Arc::clone(&shared);
        let writer = thread::spawn(move || {
            for n in 1..3 {
                write_unit(&theirs, &mut reclaimed, n * UNIT_LEN, how);
                push(&theirs, n, n * UNIT_LEN, how);
            }
        });
        let mut head = 0;
        read_all(&shared, &mut head, how);
        read_all(&shared, &mut head, how);
        writer.join().unwrap();
        read_all(&shared, &mut head, how);
        assert_eq!(head, 3);
    });
}

/// A unit grows over the first one, is given up, and a smaller one takes its place.
fn abort_model(how: Publish) {
    loom::model(move || {
        let shared = Arc::new(Shared::new());
        let mut reclaimed = 0;
        for n in 0..2 {
            write_unit(&shared, &mut reclaimed, n * UNIT_LEN, how);
            push(&shared, n, n * UNIT_LEN, how);
        }
        let theirs = Arc::clone(&shared);
        let writer = thread::spawn(move || {
            // Four words overwrite both units, then the unit is given up; the next has two.
            cursor::reclaim(&theirs.reclaim_pos, &mut reclaimed, 4);
            (0..4).for_each(|word: usize| theirs.arena[word].store(99, Ordering::Relaxed));
            write_unit(&theirs, &mut reclaimed, 4, how);
            push(&theirs, 2, 4, how);
        });
        let mut head = 0;
        read_all(&shared, &mut head, how);
        writer.join().unwrap();
        read_all(&shared, &mut head, how);
    });
}

/// What is done wrong with the bell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bell {
    Right,
    /// The producer has no fence between bell and `parked`.
    NoProducerFence,
    /// The reader has no fence between `parked` and bell.
    NoReaderFence,
    /// The reader looks at the bell before it says that it parks.
    ParkLate,
    /// The bell is rung before the tail is stored.
    BellEarly,
}

/// Two producing threads with a ring each ring one bell. The reader may sleep only if a wake will come for all it has not seen.
fn bell_model(how: Bell) {
    // Three threads: all schedules with up to three preemptions.
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let bell = Arc::new(AtomicU32::new(0));
        let parked = Arc::new(AtomicU32::new(0));
        let tails = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let producers: Vec<_> = (0..2)
            .map(|n| {
                let (bell, parked, tails) = (bell.clone(), parked.clone(), tails.clone());
                thread::spawn(move || {
                    if how != Bell::BellEarly {
                        tails[n].store(1, Ordering::Release);
                    }
                    let wake = if how == Bell::NoProducerFence {
                        bell.fetch_add(1, Ordering::Release);
                        parked.load(Ordering::Relaxed) != 0
                    } else {
                        cursor::ring_bell(&*bell, &*parked)
                    };
                    if how == Bell::BellEarly {
                        tails[n].store(1, Ordering::Release);
                    }
                    wake
                })
            })
            .collect();
        let seen = cursor::observe_bell(&*bell);
        let found: Vec<u32> = tails.iter().map(|tail| tail.load(Ordering::Acquire)).collect();
        let sleeps = match how {
            Bell::NoReaderFence => {
                parked.store(1, Ordering::Relaxed);
                bell.load(Ordering::Relaxed) == seen
            }
            Bell::ParkLate => {
                let same = bell.load(Ordering::Relaxed) == seen;
                fence(Ordering::SeqCst);
                parked.store(1, Ordering::Relaxed);
                same
            }
            Bell::Right | Bell::NoProducerFence | Bell::BellEarly => cursor::park(&*bell, &*parked, seen),
        };
        let wakes: Vec<bool> = producers.into_iter().map(|producer| producer.join().unwrap()).collect();
        cursor::unpark(&*parked);
        // The futex compares once more in the kernel: it does not sleep when the bell has moved by then. A sleep that began before
        // a bell needs a wake; `sleeps` stands for one that began at once.
        let unseen = found.contains(&0);
        let woken = wakes.contains(&true);
        assert!(!(sleeps && unseen) || woken, "the reader sleeps, work is there, and nobody wakes it");
    });
}

/// A ring of one record: the producer writes it again only when the reader gave it back.
fn record_model(head_early: bool) {
    loom::model(move || {
        let words = Arc::new((AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)));
        let theirs = Arc::clone(&words);
        let writer = thread::spawn(move || {
            let (record, tail, head) = &*theirs;
            record.store(1, Ordering::Relaxed);
            cursor::publish_tail(tail, 1);
            if cursor::observe_head(head) == 1 {
                record.store(2, Ordering::Relaxed);
                cursor::publish_tail(tail, 2);
            }
        });
        let (record, tail, head) = &*words;
        if cursor::observe_tail(tail) == 1 {
            if head_early {
                cursor::publish_head(head, 1);
            }
            assert_eq!(record.load(Ordering::Relaxed), 1, "the record changed before it was given back");
            cursor::publish_head(head, 1);
        }
        writer.join().unwrap();
    });
}

fn must_fail(model: impl Fn()) {
    let outcome = catch_unwind(AssertUnwindSafe(model));
    assert!(outcome.is_err(), "the mutant was not noticed");
}

#[test]
fn a_validated_unit_is_whole() {
    publish_model(Publish::Right);
}

#[test]
fn mutants_of_publishing_are_noticed() {
    for mutant in
        [Publish::ReclaimLate, Publish::NoReleaseFence, Publish::NoAcquireFence, Publish::RelaxedTail]
    {
        must_fail(|| publish_model(mutant));
    }
}

#[test]
fn an_aborted_unit_does_not_revive_what_it_overwrote() {
    abort_model(Publish::Right);
    must_fail(|| abort_model(Publish::ReclaimDecreases));
}

#[test]
fn a_record_stays_until_it_is_given_back() {
    record_model(false);
    must_fail(|| record_model(true));
}

#[test]
fn no_sleep_without_a_wake() {
    bell_model(Bell::Right);
}

#[test]
fn mutants_of_the_bell_are_noticed() {
    for mutant in [Bell::NoProducerFence, Bell::NoReaderFence, Bell::ParkLate, Bell::BellEarly] {
        must_fail(|| bell_model(mutant));
    }
}
