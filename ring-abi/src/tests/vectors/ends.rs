//! How a ring ends, and tails that cannot be.

use super::script::Segment;
use super::world::{Vector, World};
use crate::layout::{EndReason, RingState, StreamState};

/// Offsets in the ring.
const TAIL: usize = 128;
const END: usize = 192;

pub(super) fn all() -> Vec<Vector> {
    vec![
        closed(),
        closed_while_full(),
        closed_before_the_first_unit(),
        detached(),
        evicted(),
        evicted_by_quota(),
        rotated(),
        numbers_unknown(),
        tail_too_far_ahead(),
        tail_goes_back(),
    ]
}

fn closed() -> Vector {
    let mut w = World::with_reader();
    w.videos("K.");
    w.take("1 2 | 1..2 2+0+0+0+0");
    w.videos(".");
    w.producer.close(3, w.now());
    w.comment("the stream is closed; unit 3 is still in the ring");
    w.take("3 closed stream_closed | 1..3 3+0+0+0+0");
    w.comment("the end is told once");
    w.take("| 1..3 3+0+0+0+0");
    w.finish("closed", "The stream ends: what was pushed comes first, then the end, once.")
}

fn closed_while_full() -> Vector {
    let mut w = World::with_reader();
    w.videos("K...........");
    w.producer.finish();
    w.comment("the stream ended at unit 12; the ring had room for eight");
    w.take("1 2 3 4 5 6 7 8 closed stream_closed | 1..12 8+0+0+4+0");
    w.finish("closed_while_full", "What came after the last record counts as lost at the end.")
}

fn closed_before_the_first_unit() -> Vector {
    let mut w = World::with_reader();
    w.producer.close(0, w.now());
    w.take("closed stream_closed | 0..0 0+0+0+0+0");
    w.finish("closed_empty", "The end of a ring that never had a record.")
}

fn detached() -> Vector {
    let mut w = World::with_reader();
    w.videos("K");
    w.detach();
    w.take("1 closed detached | 1..1 1+0+0+0+0");
    w.comment("the stream goes on, the ring does not");
    w.videos(".");
    w.take("| 1..1 1+0+0+0+0");
    w.finish("detached", "The end that the reader asked for.")
}

fn evicted() -> Vector {
    let mut w = World::with_reader();
    w.videos("K.......");
    w.comment(
        "the reader claims to have read 99 records; the producer sees it when it needs room for unit 9",
    );
    w.set_head(99);
    w.videos(".");
    w.take_slowly("1 2 3 4 5 6 7 8 evicted bad_cursor | 1..9 8+0+0+1+0");
    w.finish("evicted", "A head that lies ends the ring: what was pushed before can be read.")
}

fn evicted_by_quota() -> Vector {
    let mut w = World::with_reader();
    w.videos("K");
    w.comment("by hand: no producer does this yet");
    end(&mut w, RingState::Evicted as u32, EndReason::Quota as u32, 1, 0);
    w.take("1 evicted quota | 1..1 1+0+0+0+0");
    w.finish("evicted_quota", "Eviction for the memory that ended streams hold.")
}

fn rotated() -> Vector {
    let mut w = World::with_reader();
    w.videos("K.");
    w.comment("by hand: the stream went on in another segment behind unit 2; this one is closed");
    w.patch(Segment::Stream, 128, &(StreamState::Closed as u32).to_le_bytes());
    end(&mut w, RingState::Rotated as u32, EndReason::Revoked as u32, 2, 0);
    w.status = Some((StreamState::Closed, 0, 2));
    w.take("1 2 rotated revoked | 1..2 2+0+0+0+0");
    w.finish("rotated", "Rotation: nothing is lost, the reader attaches again behind final_seq.")
}

fn numbers_unknown() -> Vector {
    let mut w = World::with_reader();
    w.videos("K.");
    w.comment("rstate and reason that this version does not know; 3 units came since, one of them withheld");
    end(&mut w, 9, 77, 5, 1);
    w.take("1 2 closed stream_closed | 1..5 2+0+0+2+1");
    w.finish(
        "end_unknown",
        "An unknown rstate is closed, an unknown reason is stream_closed; final counts with a loss.",
    )
}

fn tail_too_far_ahead() -> Vector {
    let mut w = World::with_reader();
    w.videos("K.");
    w.take("1 2 | 1..2 2+0+0+0+0");
    w.comment(
        "the tail is nine ahead of the head in a ring of eight; rstate and final counts say what they like",
    );
    w.patch(Segment::Ring, TAIL, &11u64.to_le_bytes());
    end(&mut w, RingState::Evicted as u32, EndReason::Quota as u32, 99, 0);
    w.take("closed none | 1..2 2+0+0+0+0");
    w.comment("it comes back: the reader reads the ring no more");
    w.patch(Segment::Ring, TAIL, &2u64.to_le_bytes());
    w.take("| 1..2 2+0+0+0+0");
    w.finish(
        "tail_too_far_ahead",
        "A tail further ahead than the ring has slots: the reader stops, and trusts nothing of the ring.",
    )
}

fn tail_goes_back() -> Vector {
    let mut w = World::with_reader();
    w.videos("K.");
    w.take("1 2 | 1..2 2+0+0+0+0");
    w.patch(Segment::Ring, TAIL, &1u64.to_le_bytes());
    w.take("closed none | 1..2 2+0+0+0+0");
    w.finish("tail_goes_back", "A tail below the reader's head: the same.")
}

/// Ends the ring by hand.
fn end(w: &mut World, rstate: u32, reason: u32, final_seq: u64, final_filtered: u64) {
    let words = [u64::from(rstate) | u64::from(reason) << 32, final_seq, final_filtered];
    w.patch(Segment::Ring, END, words.map(u64::to_le_bytes).as_flattened());
}
