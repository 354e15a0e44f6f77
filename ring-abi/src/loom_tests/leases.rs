//! Frames that are lent: a slot is written again only behind all that its holder read of it (SPEC.md §15).
//!
//! The pool and both sides of the release ring are the real ones, on loom's words. The frames are loom's `UnsafeCell`s: it reports who
//! writes one without being ordered behind those that read it.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::cursor::{self, AtomicU64, Load, Ordering};
use crate::layout::Lease;
use crate::lease::{Holder, Pool, give_back, take};

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    ReleasedRelaxed,
    ReleasesLoadedRelaxed,
    ReleasedRelaxedEntrySeen,
    ReleasesLoadedRelaxedEntrySeen,
    EntryAfterTail,
    ReleasedBeforeRead,
    CapacityBelowBudget,
    EvictedIsFreed,
}
use Broken::*;

/// Frames that the reader may hold.
const BUDGET: usize = 2;
/// Slots: of the reader's budget, the one that is filled, the newest.
const SLOTS: usize = BUDGET + 2;

/// What both sides share: the frames, their records, and the release ring.
struct Shared {
    frames: [UnsafeCell<()>; SLOTS],
    records: [AtomicU64; BUDGET + 1],
    tail: AtomicU64,
    entries: Vec<AtomicU64>,
    releases: AtomicU64,
}

impl Shared {
    fn new(broken: Broken) -> Self {
        let words = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            frames: std::array::from_fn(|_| UnsafeCell::new(())),
            records: std::array::from_fn(|_| AtomicU64::new(0)),
            tail: AtomicU64::new(0),
            entries: words(if broken == CapacityBelowBudget { BUDGET / 2 } else { BUDGET }),
            releases: AtomicU64::new(0),
        }
    }
}

/// A word as the producer loads it.
enum Loaded<'a> {
    Right(&'a AtomicU64),
    Relaxed(&'a AtomicU64),
    /// What an honest reader will have written, whatever is visible yet.
    Expected(Lease),
}

impl Load<u64> for Loaded<'_> {
    fn load(&self, order: Ordering) -> u64 {
        match self {
            Self::Right(word) => word.load(order),
            Self::Relaxed(word) => word.load(Ordering::Relaxed),
            Self::Expected(lease) => lease.to_word(),
        }
    }
}

struct Producer {
    shared: Arc<Shared>,
    pool: Pool,
    reader: Holder,
    /// Releases taken.
    head: u64,
    /// In the order in which the reader gives them back.
    lent: Vec<Lease>,
    broken: Broken,
}

impl Producer {
    fn new(broken: Broken) -> Self {
        let mut pool = Pool::new(u32::try_from(SLOTS).unwrap(), 1, 0);
        let reader = pool.attach(u32::try_from(BUDGET).unwrap()).unwrap();
        Self { shared: Arc::new(Shared::new(broken)), pool, reader, head: 0, lent: Vec::new(), broken }
    }

    /// Writes the next frame and lends it, if the reader's budget allows.
    fn publish(&mut self) {
        let slot = self.pool.begin().expect("a free slot");
        self.shared.frames[slot as usize].with_mut(|_| ());
        let mut lent = None;
        self.pool.publish(slot, |_, lease| lent = Some(lease)).unwrap();
        self.pool.let_go(slot);
        if let Some(lease) = lent {
            self.lend(lease);
        }
    }

    fn lend(&mut self, lease: Lease) {
        self.shared.records[self.lent.len()].store(lease.to_word(), Ordering::Relaxed);
        self.lent.push(lease);
        cursor::publish_tail(&self.shared.tail, self.lent.len() as u64);
    }

    /// Takes back what was given back, and lends what was withheld.
    fn collect(&mut self) {
        let shared = Arc::clone(&self.shared);
        let tail = match self.broken {
            ReleasesLoadedRelaxed | ReleasesLoadedRelaxedEntrySeen => Loaded::Relaxed(&shared.releases),
            _ => Loaded::Right(&shared.releases),
        };
        let entry = |(at, entry)| match self.broken {
            ReleasedRelaxedEntrySeen | ReleasesLoadedRelaxedEntrySeen => {
                let number = (self.head as usize..).find(|number| number % BUDGET == at).unwrap();
                self.lent.get(number).map_or(Loaded::Right(entry), |lease| Loaded::Expected(*lease))
            }
            _ => Loaded::Right(entry),
        };
        let entries: Vec<Loaded<'_>> = shared.entries.iter().enumerate().map(entry).collect();
        let mut withheld = Vec::new();
        let (pool, reader) = (&mut self.pool, self.reader);
        let result = take(&entries, &tail, &mut self.head, |lease| {
            pool.release(reader, lease).map(|lease| withheld.extend(lease))
        });
        assert_eq!(result, Ok(()), "an honest reader is evicted");
        for lease in withheld {
            self.lend(lease);
        }
    }
}

/// The reader reads frame after frame, each once, and gives it back.
fn read_all(shared: &Shared, taken: &mut u64, given: &mut u64, broken: Broken) {
    let tail = cursor::observe_tail(&shared.tail);
    while *taken < tail {
        let lease = Lease::from_word(shared.records[*taken as usize].load(Ordering::Relaxed));
        *taken += 1;
        let read = || shared.frames[lease.slot as usize].with(|_| ());
        let entry = &shared.entries[*given as usize % shared.entries.len()];
        if broken != ReleasedBeforeRead {
            read();
        }
        match broken {
            ReleasedRelaxed | ReleasedRelaxedEntrySeen => {
                entry.store(lease.to_word(), Ordering::Relaxed);
                *given += 1;
                shared.releases.store(*given, Ordering::Relaxed);
            }
            EntryAfterTail => {
                *given += 1;
                shared.releases.store(*given, Ordering::Release);
                entry.store(lease.to_word(), Ordering::Relaxed);
            }
            _ => give_back(&shared.entries, &shared.releases, given, lease),
        }
        if broken == ReleasedBeforeRead {
            read();
        }
    }
}

/// Frames are lent and given back; the slots that come back are written again at once.
fn lending(broken: Broken) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let mut producer = Producer::new(broken);
        let shared = Arc::clone(&producer.shared);
        producer.publish();
        let writer = thread::spawn(move || {
            producer.publish();
            producer.collect();
            producer.publish();
            producer
        });
        let (mut taken, mut given) = (0, 0);
        read_all(&shared, &mut taken, &mut given, broken);
        read_all(&shared, &mut taken, &mut given, broken);
        let mut producer = writer.join().unwrap();
        producer.collect();
        read_all(&shared, &mut taken, &mut given, broken);
        producer.collect();
        assert_eq!(taken, 3, "a frame was withheld for good");
    });
}

/// A reader that was lent a frame is evicted while it reads, and the producer goes on.
fn evicting(broken: Broken) {
    loom::model(move || {
        let mut producer = Producer::new(broken);
        let shared = Arc::clone(&producer.shared);
        producer.publish();
        let writer = thread::spawn(move || {
            match broken {
                EvictedIsFreed => producer.pool.detach(producer.reader),
                _ => producer.pool.evict(producer.reader),
            }
            producer.publish();
            producer.publish();
        });
        read_all(&shared, &mut 0, &mut 0, broken);
        writer.join().unwrap();
    });
}

#[test]
fn a_frame_stays_until_it_is_given_back() {
    lending(Nothing);
}

#[test]
fn what_an_evicted_reader_holds_stays() {
    evicting(Nothing);
}

/// 1. P: lends frame 1, in slot 0.
/// 2. R: reads it; entry 0 = (slot 0, frame 1); the releases' tail = 1, relaxed: it becomes visible first.
/// 3. P: tail 1; entry 0 is 0: frame 0, which nobody was lent.
#[test]
#[should_panic(expected = "an honest reader is evicted")]
fn mutant_a_release_is_stored_relaxed() {
    lending(ReleasedRelaxed);
}

/// 1. P: lends frame 1, in slot 0. Loads entry 0, which is 0, ahead of the releases' tail that nothing orders it behind.
/// 2. R: reads frame 1; entry 0 = (slot 0, frame 1); the releases' tail = 1 (release).
/// 3. P: tail 1; it has entry 0: frame 0, which nobody was lent.
#[test]
#[should_panic(expected = "an honest reader is evicted")]
fn mutant_the_releases_are_loaded_relaxed() {
    lending(ReleasesLoadedRelaxed);
}

/// As above, but the entry is visible in time.
/// 1. P: lends frame 1, in slot 0.
/// 2. R: entry 0 = (slot 0, frame 1) and the releases' tail = 1, relaxed, become visible before R's loads of the frame are made.
/// 3. P: tail 1; entry 0: slot 0 is free, and the next to be taken: writes frame 3 into it.
/// 4. R: has read frame 3.
#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write accesses")]
fn mutant_a_release_is_stored_relaxed_and_its_entry_is_seen() {
    lending(ReleasedRelaxedEntrySeen);
}

/// 1. P: lends frame 1, in slot 0. It expects it back: frame 3 is written into slot 0 ahead of the look at the releases that
///    nothing orders it behind.
/// 2. R: reads frame 3; entry 0 = (slot 0, frame 1); the releases' tail = 1 (release).
/// 3. P: tail 1, relaxed; entry 0: slot 0 is free, as it had expected.
#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write accesses")]
fn mutant_the_releases_are_loaded_relaxed_and_the_entry_is_seen() {
    lending(ReleasesLoadedRelaxedEntrySeen);
}

/// 1. P: lends frame 1, in slot 0.
/// 2. R: reads it; the releases' tail = 1, and is interrupted.
/// 3. P: tail 1; entry 0 is 0: frame 0, which nobody was lent.
#[test]
#[should_panic(expected = "an honest reader is evicted")]
fn mutant_the_entry_is_stored_after_the_tail() {
    lending(EntryAfterTail);
}

/// 1. P: lends frame 1, in slot 0.
/// 2. R: entry 0 = (slot 0, frame 1); the releases' tail = 1, and is interrupted before it reads the frame.
/// 3. P: tail 1; entry 0: slot 0 is free, and the next to be taken: writes frame 3 into it.
/// 4. R: reads frame 3.
#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write accesses")]
fn mutant_a_frame_is_given_back_before_it_is_read() {
    lending(ReleasedBeforeRead);
}

/// The ring has one entry, the budget is two.
/// 1. P: lends frames 1 and 2.
/// 2. R: reads both; entry 0 = frame 1; the releases' tail = 1; entry 0 = frame 2; tail = 2.
/// 3. P: tail 2, and 0 were taken: more than the ring has.
#[test]
#[should_panic(expected = "an honest reader is evicted")]
fn mutant_the_ring_has_fewer_entries_than_the_budget() {
    lending(CapacityBelowBudget);
}

/// 1. P: lends frame 1, in slot 0; evicts R, and takes what it holds for free.
/// 2. P: slot 0 was freed last: writes frame 2 into it.
/// 3. R, which has not seen that its ring ended: reads frame 2.
#[test]
#[should_panic(expected = "Causality violation: Concurrent")]
fn mutant_what_an_evicted_reader_holds_is_free() {
    evicting(EvictedIsFreed);
}
