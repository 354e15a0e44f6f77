//! A descriptor ring: a record stays until it is given back; an end is seen with all that came before it, and when the session says
//! that something has changed (SPEC.md §6 to §8).

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::cursor::{self, AtomicU32, AtomicU64, Ordering};

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    HeadBeforeCopy,
    RoomNotChecked,
    HeadStoredRelaxed,
    HeadLoadedRelaxed,
    FinalSeqAfterState,
    StateStoredRelaxed,
    StateLoadedRelaxed,
    TailLoadedBeforeState,
    ChangeBeforeEnd,
    ChangeAddedRelaxed,
    ChangesLoadedRelaxed,
}
use Broken::*;

/// A ring of one record.
struct Ring {
    record: AtomicU64,
    tail: AtomicU64,
    head: AtomicU64,
    state: AtomicU32,
    final_seq: AtomicU64,
    /// `state_gen` of the session.
    changes: AtomicU32,
}

fn ring() -> Arc<Ring> {
    let word = || AtomicU64::new(0);
    let (record, tail, head, final_seq) = (word(), word(), word(), word());
    let (state, changes) = (AtomicU32::new(0), AtomicU32::new(0));
    Arc::new(Ring { record, tail, head, state, final_seq, changes })
}

/// Two records through a ring of one: the second is written only when the reader gave the first back.
fn two_records(broken: Broken) {
    loom::model(move || {
        let ring = ring();
        let theirs = Arc::clone(&ring);
        let producer = thread::spawn(move || {
            theirs.record.store(1, Ordering::Relaxed);
            cursor::publish_tail(&theirs.tail, 1);
            if broken == RoomNotChecked || cursor::observe_head(&theirs.head) == 1 {
                theirs.record.store(2, Ordering::Relaxed);
                cursor::publish_tail(&theirs.tail, 2);
            }
        });
        if cursor::observe_tail(&ring.tail) >= 1 {
            if broken == HeadBeforeCopy {
                cursor::publish_head(&ring.head, 1);
            }
            assert_eq!(ring.record.load(Ordering::Relaxed), 1, "a record changed before it was given back");
            cursor::publish_head(&ring.head, 1);
        }
        producer.join().unwrap();
    });
}

/// The same two records, in plain memory: loom reports who writes it without being ordered behind all that read it. This shows what
/// the values of atomic words cannot (see the head of `loom_tests`): a copy that is still under way when the producer sees the head.
fn two_records_in_plain_memory(broken: Broken) {
    loom::model(move || {
        let ring = ring();
        let place = Arc::new(UnsafeCell::new(()));
        let (theirs, their_place) = (Arc::clone(&ring), Arc::clone(&place));
        let producer = thread::spawn(move || {
            their_place.with_mut(|_| ());
            cursor::publish_tail(&theirs.tail, 1);
            let head = match broken {
                HeadLoadedRelaxed => theirs.head.load(Ordering::Relaxed),
                _ => cursor::observe_head(&theirs.head),
            };
            if head == 1 {
                their_place.with_mut(|_| ());
                cursor::publish_tail(&theirs.tail, 2);
            }
        });
        if cursor::observe_tail(&ring.tail) >= 1 {
            place.with(|_| ());
            match broken {
                HeadStoredRelaxed => ring.head.store(1, Ordering::Relaxed),
                _ => cursor::publish_head(&ring.head, 1),
            }
        }
        producer.join().unwrap();
    });
}

/// One record, then the ring's end, which says that the stream's last unit was number 7.
fn record_and_end(broken: Broken) {
    loom::model(move || {
        let ring = ring();
        let theirs = Arc::clone(&ring);
        let producer = thread::spawn(move || {
            theirs.record.store(1, Ordering::Relaxed);
            cursor::publish_tail(&theirs.tail, 1);
            let state = |order| theirs.state.store(2, order);
            match broken {
                FinalSeqAfterState => {
                    cursor::publish_end(&theirs.state, 2);
                    theirs.final_seq.store(7, Ordering::Relaxed);
                }
                StateStoredRelaxed => {
                    theirs.final_seq.store(7, Ordering::Relaxed);
                    state(Ordering::Relaxed);
                }
                _ => {
                    theirs.final_seq.store(7, Ordering::Relaxed);
                    cursor::publish_end(&theirs.state, 2);
                }
            }
        });
        let (state, tail) = match broken {
            TailLoadedBeforeState => {
                let tail = cursor::observe_tail(&ring.tail);
                (cursor::observe_end(&ring.state), tail)
            }
            StateLoadedRelaxed => (ring.state.load(Ordering::Relaxed), cursor::observe_tail(&ring.tail)),
            _ => (cursor::observe_end(&ring.state), cursor::observe_tail(&ring.tail)),
        };
        if state != 0 {
            assert_eq!(tail, 1, "a ring ended with a record that the reader did not see");
            assert_eq!(ring.final_seq.load(Ordering::Relaxed), 7, "a ring ended without its final count");
        }
        producer.join().unwrap();
    });
}

/// A ring's end, which moves no tail: a reader looks for it once for each change that it sees, and not again.
fn end_and_change(broken: Broken) {
    loom::model(move || {
        let ring = ring();
        let theirs = Arc::clone(&ring);
        let producer = thread::spawn(move || {
            if broken == ChangeBeforeEnd {
                cursor::publish_change(&theirs.changes);
            }
            cursor::publish_end(&theirs.state, 2);
            match broken {
                ChangeBeforeEnd => {}
                ChangeAddedRelaxed => drop(theirs.changes.fetch_add(1, Ordering::Relaxed)),
                _ => cursor::publish_change(&theirs.changes),
            }
        });
        let changes = match broken {
            ChangesLoadedRelaxed => ring.changes.load(Ordering::Relaxed),
            _ => cursor::observe_changes(&ring.changes),
        };
        if changes == 1 {
            assert_eq!(
                cursor::observe_end(&ring.state),
                2,
                "an end is said, and not seen when it is looked for"
            );
        }
        producer.join().unwrap();
    });
}

#[test]
fn a_record_stays_until_it_is_given_back() {
    two_records(Nothing);
}

#[test]
fn a_record_is_written_over_only_behind_the_copy() {
    two_records_in_plain_memory(Nothing);
}

#[test]
fn an_end_is_seen_with_all_that_came_before() {
    record_and_end(Nothing);
}

#[test]
fn an_end_is_found_when_a_change_is_seen() {
    end_and_change(Nothing);
}

/// 1. P: record = 1; tail = 1.
/// 2. R: tail 1; head = 1, and is interrupted before it copies the record.
/// 3. P: head 1, so there is room: record = 2.
/// 4. R: copies 2.
#[test]
#[should_panic(expected = "a record changed before it was given back")]
fn mutant_the_head_moves_before_the_record_is_copied() {
    two_records(HeadBeforeCopy);
}

/// 1. P: record = 1; tail = 1.
/// 2. R: tail 1, and is interrupted.
/// 3. P: does not look at the head: record = 2.
/// 4. R: copies 2 as record 0.
#[test]
#[should_panic(expected = "a record changed before it was given back")]
fn mutant_room_is_not_checked() {
    two_records(RoomNotChecked);
}

/// 1. P: record = 1; tail = 1.
/// 2. R: tail 1; head = 1, relaxed: it becomes visible before the record's copy, which nothing orders it behind, has been made.
/// 3. P: head 1 (acquire), so there is room: record = 2.
/// 4. R: the copy has 2.
#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write accesses")]
fn mutant_the_head_is_stored_relaxed() {
    two_records_in_plain_memory(HeadStoredRelaxed);
}

/// 1. P: record = 1; tail = 1. It expects room: record = 2 is stored ahead of the look at the head that nothing orders it behind.
/// 2. R: tail 1; copies 2; head = 1 (release).
/// 3. P: head 1, relaxed: there is room, as it had guessed.
#[test]
#[should_panic(expected = "Causality violation: Concurrent read and write accesses")]
fn mutant_the_head_is_loaded_relaxed() {
    two_records_in_plain_memory(HeadLoadedRelaxed);
}

/// 1. P: record, tail = 1; state = closed, and is interrupted.
/// 2. R: state closed; tail 1; final_seq 0.
#[test]
#[should_panic(expected = "a ring ended without its final count")]
fn mutant_the_final_count_is_stored_after_the_state() {
    record_and_end(FinalSeqAfterState);
}

/// 1. P: record, tail = 1; final_seq = 7; state = closed, relaxed: it becomes visible first.
/// 2. R: state closed; tail 0: the record is lost without being counted.
#[test]
#[should_panic(expected = "a ring ended with")]
fn mutant_the_state_is_stored_relaxed() {
    record_and_end(StateStoredRelaxed);
}

/// 1. P: record, tail = 1; final_seq = 7; state = closed (release).
/// 2. R: loads tail ahead of the state that nothing orders it behind: 0. State closed.
#[test]
#[should_panic(expected = "a ring ended with")]
fn mutant_the_state_is_loaded_relaxed() {
    record_and_end(StateLoadedRelaxed);
}

/// 1. R: tail 0.
/// 2. P: record, tail = 1; final_seq = 7; state = closed.
/// 3. R: state closed, and tail was head: it stops with the record in the ring.
#[test]
#[should_panic(expected = "a ring ended with a record that the reader did not see")]
fn mutant_the_tail_is_loaded_before_the_state() {
    record_and_end(TailLoadedBeforeState);
}

/// 1. P: changes = 1, and is interrupted.
/// 2. R: changes 1; state open. It looks no more.
/// 3. P: state = closed.
#[test]
#[should_panic(expected = "an end is said, and not seen")]
fn mutant_the_change_is_said_before_the_end() {
    end_and_change(ChangeBeforeEnd);
}

/// 1. P: state = closed; changes = 1, relaxed: it becomes visible first.
/// 2. R: changes 1; state open. It looks no more.
#[test]
#[should_panic(expected = "an end is said, and not seen")]
fn mutant_the_change_is_added_relaxed() {
    end_and_change(ChangeAddedRelaxed);
}

/// 1. R: loads the state ahead of the changes that nothing orders it behind: open.
/// 2. P: state = closed; changes = 1 (release).
/// 3. R: changes 1. It looks no more.
#[test]
#[should_panic(expected = "an end is said, and not seen")]
fn mutant_the_changes_are_loaded_relaxed() {
    end_and_change(ChangesLoadedRelaxed);
}
