//! One slot of a session, used by a ring of one shard and then by a ring of another (SPEC.md §2.4).
//!
//! ```text
//!  R ── heads = 0 ── DETACH ─▶ old shard ── lets go ─▶ new shard ── tails = 0 ── ATTACHED ─▶ R
//! ```
//! DETACH and ATTACHED are messages of a socket, the step between the shards one of a queue: each orders what is before
//! it before what comes after. Here they are channels.

use loom::sync::Arc;
use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread;

use crate::cursor::{self, AtomicU32, AtomicU64, Ordering};

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    HeadClearedAfterDetach,
    TailsZeroedAfterAttached,
    TailsZeroedAfterPush,
    NotLetGo,
    TailsStoredBeforeTail,
}
use Broken::*;

/// A session of one slot, and the tails of the two rings that use it.
#[derive(Default)]
struct Slot {
    /// `tails[slot]`.
    tails: AtomicU32,
    /// `heads[slot]`.
    heads: AtomicU64,
    old_ring: AtomicU64,
    new_ring: AtomicU64,
}

/// A record is pushed, the `number`th of its ring.
fn push(ring_tail: &AtomicU64, tails: &AtomicU32, number: u32, broken: Broken) {
    if broken == TailsStoredBeforeTail {
        cursor::publish_session_tail(tails, number);
    }
    cursor::publish_tail(ring_tail, number.into());
    if broken != TailsStoredBeforeTail {
        cursor::publish_session_tail(tails, number);
    }
}

/// Pushes a third record, and lets go when it is told to detach.
fn old_shard(slot: &Slot, detach: &Receiver<()>, let_go: &Sender<()>, broken: Broken) {
    push(&slot.old_ring, &slot.tails, 3, broken);
    if broken != NotLetGo {
        detach.recv().unwrap();
    }
    let_go.send(()).unwrap();
}

/// Takes the slot for a ring of one record, pushes that, and looks whether there is room for another.
fn new_shard(slot: &Slot, let_go: &Receiver<()>, attached: &Sender<()>, broken: Broken) {
    let zero = || slot.tails.store(0, Ordering::Relaxed);
    if broken != NotLetGo {
        let_go.recv().unwrap();
    }
    if broken != TailsZeroedAfterAttached && broken != TailsZeroedAfterPush {
        zero();
    }
    attached.send(()).unwrap();
    if broken == TailsZeroedAfterAttached {
        zero();
    }
    push(&slot.new_ring, &slot.tails, 1, broken);
    if broken == TailsZeroedAfterPush {
        zero();
    }
    if broken != NotLetGo {
        let claim = cursor::observe_head(&slot.heads);
        assert!(claim <= 1, "an honest reader's head is called a lie");
    }
}

/// The reader gives up the old ring, of which it has read two records, and takes what it finds in the new one.
fn reader(slot: &Slot, detach: &Sender<()>, attached: &Receiver<()>, broken: Broken) {
    if broken == HeadClearedAfterDetach {
        detach.send(()).unwrap();
        cursor::publish_head(&slot.heads, 0);
    } else {
        cursor::publish_head(&slot.heads, 0);
        detach.send(()).unwrap();
    }
    attached.recv().unwrap();
    if cursor::observe_session_tail(&slot.tails) != 0 {
        let tail = cursor::observe_tail(&slot.new_ring);
        assert_eq!(tail, 1, "the slot says that a record waits in an empty ring");
        cursor::publish_head(&slot.heads, 1);
    }
}

fn slot_moves(broken: Broken) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let slot = Arc::new(Slot::default());
        push(&slot.old_ring, &slot.tails, 2, Nothing);
        cursor::publish_head(&slot.heads, 2);
        let (detach, detached) = channel();
        let (let_go, was_let_go) = channel();
        let (attached, was_attached) = channel();
        let (theirs, mine) = (Arc::clone(&slot), Arc::clone(&slot));
        let old = thread::spawn(move || old_shard(&theirs, &detached, &let_go, broken));
        let new = thread::spawn(move || new_shard(&mine, &was_let_go, &attached, broken));
        reader(&slot, &detach, &was_attached, broken);
        old.join().unwrap();
        new.join().unwrap();
        let tails = cursor::observe_session_tail(&slot.tails);
        assert_eq!(tails, 1, "the slot does not say how many records its ring has");
    });
}

#[test]
fn a_slot_moves_from_one_shard_to_another() {
    slot_moves(Nothing);
}

/// 1. R: DETACH, and is interrupted: `heads` is 2, as for the old ring.
/// 2. Old shard: lets go. New shard: tails = 0; ATTACHED; pushes its record; full: looks at `heads`: 2 of 1: evicts.
#[test]
#[should_panic(expected = "an honest reader's head is called a lie")]
fn mutant_the_head_is_cleared_after_detach() {
    slot_moves(HeadClearedAfterDetach);
}

/// 1. R: heads = 0; DETACH. Old shard: tails = 3; lets go. New shard: ATTACHED, and is interrupted.
/// 2. R: tails 3, its head 0: looks for a record in the new ring, whose tail is 0; and again, as often as it scans.
#[test]
#[should_panic(expected = "the slot says that a record waits in an empty ring")]
fn mutant_the_tail_is_zeroed_after_attached() {
    slot_moves(TailsZeroedAfterAttached);
}

/// 1. R: heads = 0; DETACH. Old shard: tails = 3; lets go.
/// 2. New shard: ATTACHED; record 0: ring's tail = 1; tails = 1; then tails = 0.
/// 3. R: tails 0, its head 0: does not look, although a record waits.
#[test]
#[should_panic(expected = "the slot ")]
fn mutant_the_tail_is_zeroed_after_the_first_record() {
    slot_moves(TailsZeroedAfterPush);
}

/// 1. New shard: takes the slot while the reader has not left the old ring: tails = 0; ATTACHED.
/// 2. Old shard, which still feeds: its third record: tails = 3.
/// 3. R: tails 3, its head 0: looks for a record in the new ring, whose tail is 0.
#[test]
#[should_panic(expected = "the slot says that a record waits in an empty ring")]
fn mutant_a_slot_is_used_again_before_the_old_shard_let_go() {
    slot_moves(NotLetGo);
}

/// 1. New shard: tails = 0; ATTACHED; tails = 1, and is interrupted.
/// 2. R: tails 1, its head 0: looks for a record in the new ring, whose tail is 0.
#[test]
#[should_panic(expected = "the slot says that a record waits in an empty ring")]
fn mutant_the_sessions_tail_is_stored_before_the_rings() {
    slot_moves(TailsStoredBeforeTail);
}
