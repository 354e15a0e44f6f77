//! A producer that moves from one thread to another by a queue, with a unit open: a stream that moves between shards.
//!
//! ```text
//!  A ── unit 1 ─ begins unit 2 ─ end of turn ─ queue ─▶ B ── goes on with unit 2 ─ end of turn
//!                                   └──────── bell of one session ────────┘
//! ```
//! All of a producer moves: what it wrote last, whom it has touched and not rung for yet. The slot, the ring and the session stay, so
//! the reader learns nothing of it. Of the queue only the step is here that matters: its flag is stored with release behind the
//! producer's state, and loaded with acquire before it.

use loom::sync::Arc;
use loom::thread;

use crate::cursor::{self, AtomicU32, AtomicU64, Ordering};

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    HandedOverRelaxed,
    TakenRelaxed,
    MovedBeforeTail,
    PendingBellLost,
}
use Broken::*;

/// What A and B do with the producer.
#[derive(Clone, Copy)]
struct Plan {
    /// A rings before it hands over; else B does at the end of its turn.
    a_rings: bool,
    /// B commits unit 2; else it stays open.
    b_commits: bool,
    broken: Broken,
}

#[derive(Default)]
struct World {
    /// Shared with the reader: the payloads' words (of unit 1, of unit 2 by A, of unit 2 by B), the ring, the session.
    arena: [AtomicU64; 3],
    records: [AtomicU64; 2],
    tail: AtomicU64,
    bell: AtomicU32,
    parked: AtomicU32,
    /// The producer's own, whoever has it: units committed, and whether its reader was touched since the bell.
    committed: AtomicU64,
    touched: AtomicU32,
    /// The producer is in the queue.
    queue: AtomicU32,
}

impl World {
    /// Publishes the next unit; its tail is still to be stored.
    fn commit(&self) -> u64 {
        let seq = self.committed.load(Ordering::Relaxed) + 1;
        self.records[(seq - 1) as usize].store(seq, Ordering::Relaxed);
        self.committed.store(seq, Ordering::Relaxed);
        self.touched.store(1, Ordering::Relaxed);
        seq
    }

    /// The end of a turn; whether the reader is woken.
    fn ring(&self) -> bool {
        let touched = self.touched.load(Ordering::Relaxed) != 0;
        self.touched.store(0, Ordering::Relaxed);
        touched && cursor::ring_bell(&self.bell, &self.parked)
    }

    /// The first owner's turn; whether it wakes the reader.
    fn a(&self, plan: Plan) -> bool {
        self.arena[0].store(1, Ordering::Relaxed);
        let tail = self.commit();
        if plan.broken != MovedBeforeTail {
            cursor::publish_tail(&self.tail, tail);
        }
        self.arena[1].store(2, Ordering::Relaxed);
        let wakes = plan.a_rings && self.ring();
        if plan.broken == PendingBellLost {
            // A's list of touched sessions stays with A, which does not ring any more.
            self.touched.store(0, Ordering::Relaxed);
        }
        let order = if plan.broken == HandedOverRelaxed { Ordering::Relaxed } else { Ordering::Release };
        self.queue.store(1, order);
        if plan.broken == MovedBeforeTail {
            cursor::publish_tail(&self.tail, tail);
        }
        wakes
    }

    /// The second owner's turn, if the producer has come; whether it wakes the reader.
    fn b(&self, plan: Plan) -> Option<bool> {
        let order = if plan.broken == TakenRelaxed { Ordering::Relaxed } else { Ordering::Acquire };
        if self.queue.load(order) == 0 {
            return None;
        }
        self.arena[2].store(2, Ordering::Relaxed);
        if plan.b_commits {
            let tail = self.commit();
            cursor::publish_tail(&self.tail, tail);
        }
        Some(self.ring())
    }

    /// Looks once: how many records there are. Each is the next one, its unit whole.
    fn read(&self) -> u64 {
        let tail = cursor::observe_tail(&self.tail);
        let arena = || self.arena.each_ref().map(|word| word.load(Ordering::Relaxed));
        for seq in 1..=tail {
            let record = self.records[(seq - 1) as usize].load(Ordering::Relaxed);
            assert_eq!(record, seq, "the reader does not find the next unit");
            let expected: &[u64] = if seq == 1 { &[1] } else { &[1, 2, 2] };
            assert!(arena().starts_with(expected), "the reader does not find the whole of a unit");
        }
        tail
    }
}

fn moves(plan: Plan) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let world = Arc::new(World::default());
        let (ours, theirs) = (Arc::clone(&world), Arc::clone(&world));
        let a = thread::spawn(move || ours.a(plan));
        let b = thread::spawn(move || theirs.b(plan));
        let seen = cursor::observe_bell(&world.bell);
        let found = world.read();
        let sleeps = cursor::park(&world.bell, &world.parked, seen);
        let woken_by_a = a.join().unwrap();
        // B looked too early: it looks again.
        let woken_by_b = b.join().unwrap().unwrap_or_else(|| world.b(plan).unwrap());
        cursor::unpark(&world.parked);
        assert!(!sleeps || found >= 1 || woken_by_a || woken_by_b, "the reader sleeps on unit 1");
        assert!(!plan.b_commits || !sleeps || found == 2 || woken_by_b, "the reader sleeps on unit 2");
        assert_eq!(
            world.read(),
            if plan.b_commits { 2 } else { 1 },
            "the reader does not find the next unit: the tail went back"
        );
    });
}

#[test]
fn a_producer_moves_and_its_reader_notices_nothing() {
    for a_rings in [true, false] {
        for b_commits in [true, false] {
            moves(Plan { a_rings, b_commits, broken: Nothing });
        }
    }
}

/// The bell is left to B: A's would hide the mistake, for its fence orders the flag, too.
/// 1. A: unit 1; tail = 1; the queue's flag = 1, relaxed: it becomes visible first.
/// 2. B: flag 1; 0 units were committed, so its own is unit 1: record 0 = 1; tail = 1.
/// 3. R: never finds unit 2.
#[test]
#[should_panic(expected = "the reader does not find")]
fn mutant_the_producer_is_handed_over_relaxed() {
    moves(Plan { a_rings: false, b_commits: true, broken: HandedOverRelaxed });
}

/// 1. B: loads what is the producer's ahead of the flag that nothing orders it behind: 0 units were committed.
/// 2. A: unit 1; tail = 1; rings; the queue's flag = 1 (release).
/// 3. B: flag 1; its own is unit 1: record 0 = 1; tail = 1.
/// 4. R: never finds unit 2.
#[test]
#[should_panic(expected = "the reader does not find")]
fn mutant_the_producer_is_taken_relaxed() {
    moves(Plan { a_rings: true, b_commits: true, broken: TakenRelaxed });
}

/// 1. A: record 0 = 1; hands over in the middle of its turn, and is interrupted.
/// 2. B: unit 2; tail = 2; rings.
/// 3. A: tail = 1.
/// 4. R: finds unit 1 and never unit 2.
#[test]
#[should_panic(expected = "the reader does not find the next unit: the tail went back")]
fn mutant_the_producer_moves_before_its_turn_has_ended() {
    moves(Plan { a_rings: true, b_commits: true, broken: MovedBeforeTail });
}

/// 1. R: bell 0; tail 0; parked = 1; fence; bell 0: sleeps.
/// 2. A: unit 1; tail = 1; leaves the bell to B, and the list of whom to ring for behind.
/// 3. B: commits nothing, has touched nobody: does not ring.
#[test]
#[should_panic(expected = "the reader sleeps on unit 1")]
fn mutant_a_pending_bell_is_lost() {
    moves(Plan { a_rings: false, b_commits: false, broken: PendingBellLost });
}
