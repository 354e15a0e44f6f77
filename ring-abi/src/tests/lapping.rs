//! A writer that laps its reader in one process, for ThreadSanitizer, which knows no other processes. What it proves of torn units
//! depends on when the two threads run; the proof is `processes::lapping`.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Rig, Taken, payload};
use crate::join::{Filters, From, Join};
use crate::layout::{Class, Flags};

/// Accepted and rejected units, and how many a reader without validation would have taken torn.
#[derive(Debug, Default)]
struct Score {
    accepted: u64,
    torn_accepted: u64,
    rejected: u64,
    naive_torn: u64,
}

#[test]
#[ignore = "for ThreadSanitizer: ./tools/test --full"]
fn torn_units_are_never_accepted() {
    const LEN: usize = 8 * 1024;
    let mut rig = Rig::new(64 * 1024, 4096);
    let filters = Filters { everything: true, ..Filters::of_class(Class::Archive) };
    let join = Join { filters, ring_slots: 8, ..Join::new(Class::Archive, From::Live) };
    let mut tap = rig.attach(0, &join);
    let stop = AtomicBool::new(false);
    let score = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                rig.commit(LEN, Flags::KEY);
            }
        });
        let mut score = Score::default();
        // Enough of both kinds, or a bound on the time it takes.
        for _ in 0..5_000_000u64 {
            if score.rejected >= 5000 && score.naive_torn >= 500 && score.accepted >= 500 {
                break;
            }
            let record = tap.attachment.peek();
            match tap.take() {
                Taken::Unit { .. } => {
                    score.accepted += 1;
                    // Asserted at the end: a panic here would leave the writer running.
                    let seq = tap.buffer.descriptor.seq;
                    score.torn_accepted += u64::from(tap.buffer.payload() != payload(seq, LEN));
                }
                Taken::Dropped => {
                    score.rejected += 1;
                    // The buffer holds what was copied: a reader without validation would have used it.
                    let seq = record.map_or(0, |d| d.seq);
                    score.naive_torn += u64::from(tap.buffer.payload() != payload(seq, LEN));
                }
                Taken::Empty | Taken::Ended { .. } => std::hint::spin_loop(),
            }
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        score
    });
    println!("{score:?}");
    assert_eq!(score.torn_accepted, 0, "{score:?}");
    assert!(score.accepted + score.rejected > 0, "{score:?}");
}
