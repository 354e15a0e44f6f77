//! What becomes of units that do not come: rejected, skipped, lost, filtered.

use super::script::Segment;
use super::world::{EPOCH, Vector, World, archive, field, other, sparse, track_off, video};
use crate::join::{Damaged, Filters, From, Join};
use crate::layout::{Flags, TrackKind};
use crate::producer::TrackSpec;

const KEY: Flags = Flags::KEY;
const NONE: Flags = Flags(0);

pub(super) fn all() -> Vec<Vector> {
    vec![
        reclaimed(false),
        reclaimed(true),
        reclaim_pos_at_the_unit(),
        reclaim_pos_far_up(),
        resumed_behind_the_last(),
        ring_full(),
        loss(false),
        loss(true),
        loss_shown_by_data(),
        filtered_keyframes(),
        filtered_damaged(),
        filtered_and_lost(),
        filtered_nonsense(),
        backfill(),
        resumed(),
        resumed_filtered(),
        resumed_with_a_gap(),
        resumed_and_ended(),
        everything(),
        rejected_data(),
        seq_backwards(),
    ]
}

/// Archive readers with these filters.
fn filtering(filters: impl FnOnce(&mut Filters)) -> Join {
    let mut join = archive(From::Live);
    filters(&mut join.filters);
    join
}

fn reclaimed(everything: bool) -> Vector {
    let mut w = World::with_reader();
    if everything {
        w.script.line("attach everything=1");
    }
    for seq in 1..=7 {
        let unit = w.unit(if matches!(seq, 1 | 7) { KEY } else { NONE }, 0);
        w.commit(0, &unit, &sparse(seq, 15_000), &[15_000]);
        if seq == 1 {
            w.take("1 | 1..1 1+0+0+0+0");
        }
    }
    w.comment("the producer has begun to write over units 2, 3 and 4; their records are in the ring");
    if everything {
        w.take("5 6 7 | 1..7 4+3+0+0+0");
        return w.finish(
            "reclaimed_everything",
            "As `reclaimed`, of a reader that asked for everything: all that is whole.",
        );
    }
    w.take("7 | 1..7 2+1+4+0+0");
    w.finish(
        "reclaimed",
        "A unit overwritten before it was copied is rejected; video is skipped up to the keyframe.",
    )
}

fn reclaim_pos_at_the_unit() -> Vector {
    let mut w = World::with_reader();
    w.videos("KK..");
    let pos = w.sent[&2].descriptor.pos;
    w.comment("reclaim_pos is the position of unit 2: that is still whole, unit 1 is not");
    w.patch(Segment::Stream, track_off(0, 64), &pos.to_le_bytes());
    w.take("2 3 4 | 2..4 3+0+0+0+0");
    w.videos("KK");
    w.comment("one above the position of unit 5");
    let pos = w.sent[&5].descriptor.pos + 1;
    w.patch(Segment::Stream, track_off(0, 64), &pos.to_le_bytes());
    w.take("6 | 2..6 4+1+0+0+0");
    w.finish(
        "reclaim_pos",
        "reclaim_pos at a unit's position and one above; a rejection before the first unit is not counted.",
    )
}

fn reclaim_pos_far_up() -> Vector {
    let mut w = World::with_reader();
    w.videos("KK..");
    w.comment(
        "unit 1 stands above 4 GiB, the others above 8 GiB, and all below 8 GiB may have been written over",
    );
    for (seq, above) in [(1, 1 << 32), (2, 2 << 32), (3, 2 << 32), (4, 2 << 32)] {
        let sent = w.sent.get_mut(&seq).unwrap();
        sent.descriptor.pos += above;
        let pos = sent.descriptor.pos;
        w.patch_record(seq - 1, field!(pos), &pos.to_le_bytes());
    }
    w.patch(Segment::Stream, track_off(0, 64), &(2u64 << 32).to_le_bytes());
    w.take("2 3 4 | 2..4 3+0+0+0+0");
    w.finish("reclaim_pos_far_up", "Positions are 64 bits: those above 4 GiB.")
}

fn resumed_behind_the_last() -> Vector {
    let mut w = World::with_reader();
    w.script.line("attach resumed_after=18446744073709551615");
    w.videos("K.");
    w.take("| 18446744073709551615..18446744073709551614 0+0+0+0+0");
    w.finish(
        "resumed_top",
        "Resumed behind the highest number there is: nothing can come, nothing is counted.",
    )
}

fn ring_full() -> Vector {
    let mut w = World::new(&[TrackSpec { units_max: 10, ..video() }]);
    w.attach(&archive(From::Live));
    w.videos("K.......");
    w.comment("the reader has copied all and not yet given the slots back: units 9 to 20 find no room");
    w.take_slowly("1 2 3 4 5 6 7 8 | 1..8 8+0+0+0+0");
    w.videos("K.....K.....");
    w.give_back();
    w.comment(
        "now there is room, but the producer retains only the ten newest units: it goes on at a keyframe",
    );
    w.video(NONE);
    w.take("15-6 16 17 18 19 20 21 | 1..21 15+0+0+6+0");
    w.finish("ring_full", "Units are lost while the ring is full; the producer goes on at a keyframe.")
}

fn loss(everything: bool) -> Vector {
    let mut w = World::with_reader();
    if everything {
        w.script.line("attach everything=1");
    }
    w.videos("K...K.");
    w.comment("units 3 and 4 never came: the records behind them say 5 and more");
    renumber(&mut w, &[1, 2, 5, 6, 7, 8]);
    if everything {
        w.take("1 2 5-2 6 7 8 | 1..8 6+0+0+2+0");
        return w.finish("loss_everything", "As `loss`, of a reader that asked for everything.");
    }
    w.take("1 2 7 8 | 1..8 4+0+2+2+0");
    w.finish("loss", "A gap in seq: two units lost, the reader itself skips video up to the keyframe.")
}

fn loss_shown_by_data() -> Vector {
    let mut w = World::new(&[video(), other(TrackKind::Data)]);
    w.attach(&archive(From::Live));
    w.videos("K.");
    let unit = w.unit(NONE, 0);
    w.commit(1, &unit, b"data", &[]);
    w.videos(".K");
    w.comment("unit 3 never came; the data unit behind it shows it");
    renumber(&mut w, &[1, 2, 4, 5, 6]);
    w.take("1 2 4-1 6 | 1..6 4+0+1+1+0");
    w.finish("loss_shown_by_data", "A loss counts whatever track shows it: the data unit comes, video waits.")
}

fn filtered_keyframes() -> Vector {
    let mut w = World::new(&[video(), other(TrackKind::Data)]);
    w.attach(&filtering(|f| (f.keyframes_only, f.tracks) = (true, 1)));
    w.videos("K..");
    let unit = w.unit(NONE, 0);
    w.commit(1, &unit, b"data", &[]);
    w.videos("K.");
    w.take("1 5 | 1..5 2+0+0+0+3");
    w.producer.close(0, w.now());
    w.take("closed stream_closed | 1..6 2+0+0+0+4");
    w.finish(
        "filtered_keyframes",
        "Keyframes of one track: what is withheld counts as filtered, at the end, too.",
    )
}

fn filtered_damaged() -> Vector {
    let mut w = World::with_reader_of(&filtering(|f| f.damaged = Damaged::SkipToKeyframe));
    for flags in [KEY, NONE, Flags::DAMAGED, NONE, KEY.with(Flags::DAMAGED), NONE, KEY, NONE] {
        w.video(flags);
    }
    w.take("1 2 7 8 | 1..8 4+0+0+0+4");
    w.finish(
        "filtered_damaged",
        "Damaged units and what depends on them are withheld by the producer: no gap for the reader.",
    )
}

fn filtered_and_lost() -> Vector {
    let mut w = World::with_reader_of(&filtering(|f| f.keyframes_only = true));
    w.videos("K..K.K");
    w.comment("unit 4 is lost: the record behind it says that 3 of the units since the start were withheld");
    renumber(&mut w, &[1, 6, 7]);
    w.patch_record(1, field!(filtered), &3u64.to_le_bytes());
    w.patch_record(2, field!(filtered), &3u64.to_le_bytes());
    w.take("1 6-1 7 | 1..7 3+0+0+1+3");
    w.finish("filtered_and_lost", "A gap that is filtered in part: the rest is lost.")
}

fn filtered_nonsense() -> Vector {
    let mut w = World::with_reader();
    w.videos("KKKKKK");
    w.comment("filtered: 0, 0, 2, then back to 1, then 100 (more than the gap), then 101");
    renumber(&mut w, &[1, 2, 6, 8, 10, 12]);
    for (record, filtered) in [(2, 2u64), (3, 1), (4, 100), (5, 101)] {
        w.patch_record(record, field!(filtered), &filtered.to_le_bytes());
    }
    w.take("1 2 6-1 8-1 10 12 | 1..12 6+0+0+2+4");
    w.finish(
        "filtered_nonsense",
        "A filtered count that goes back or beyond the gap is taken as 0 and as the gap.",
    )
}

fn backfill() -> Vector {
    let mut w = World::new(&[video()]);
    w.videos("K..K.");
    w.attach(&archive(From::Oldest));
    w.videos(".");
    w.take("1 2 3 4 5 6 | 1..6 6+0+0+0+0");
    w.finish(
        "backfill",
        "A reader that enters at the oldest keyframe: five units with BACKFILL, one without.",
    )
}

fn resumed() -> Vector {
    let mut w = World::new(&[video()]);
    w.videos("K....");
    w.attach(&archive(From::After { epoch: EPOCH, seq: 3 }));
    w.script.line("attach resumed_after=3 everything=0");
    w.take("4 5 | 4..5 2+0+0+0+0");
    w.videos(".K");
    w.take("6 7 | 4..7 4+0+0+0+0");
    w.finish("resumed", "An attachment that goes on behind unit 3: it waits for no keyframe.")
}

fn resumed_filtered() -> Vector {
    let mut w = World::new(&[video()]);
    w.videos("K..K");
    let mut join = archive(From::After { epoch: EPOCH, seq: 1 });
    join.filters.keyframes_only = true;
    w.attach(&join);
    w.script.line("attach resumed_after=1");
    w.take("4 | 2..4 1+0+0+0+2");
    w.finish(
        "resumed_filtered",
        "What was withheld between the asked seq and the first record counts from 0.",
    )
}

fn resumed_with_a_gap() -> Vector {
    let mut w = World::new(&[video()]);
    w.videos("K....");
    w.attach(&archive(From::After { epoch: EPOCH, seq: 3 }));
    w.comment("the reader asked to go on behind unit 2: unit 3 is lost to it");
    w.script.line("attach resumed_after=2");
    w.videos("K");
    w.take("6 | 3..6 1+0+2+1+0");
    w.finish(
        "resumed_with_a_gap",
        "A resumed attachment whose first record shows a loss waits for a keyframe.",
    )
}

fn resumed_and_ended() -> Vector {
    let mut w = World::new(&[video()]);
    w.videos("K....");
    w.attach(&archive(From::After { epoch: EPOCH, seq: 5 }));
    w.comment("the reader asked to go on behind unit 3; the stream ends before it is given anything");
    w.script.line("attach resumed_after=3");
    w.producer.close(0, w.now());
    w.take("closed stream_closed | 4..5 0+0+0+2+0");
    w.finish(
        "resumed_and_ended",
        "A resumed attachment without a record: all behind the asked seq is lost at the end.",
    )
}

fn everything() -> Vector {
    let mut w = World::with_reader_of(&filtering(|f| f.everything = true));
    w.script.line("attach everything=1");
    w.videos("..K.");
    w.take("1 2 3 4 | 1..4 4+0+0+0+0");
    w.finish("everything", "A reader that asked for everything is given video before the first keyframe.")
}

fn rejected_data() -> Vector {
    let mut w = World::new(&[video(), other(TrackKind::Data)]);
    w.attach(&archive(From::Live));
    w.videos("K");
    let unit = w.unit(NONE, 0);
    w.commit(1, &unit, b"data", &[]);
    w.videos(".");
    w.comment("the data unit is reclaimed, in the arena of its track");
    w.patch(Segment::Stream, track_off(1, 64), &[192]);
    w.take("1 3 | 1..3 2+1+0+0+0");
    w.finish("rejected_data", "A rejected data unit makes no video wait.")
}

fn seq_backwards() -> Vector {
    let mut w = World::with_reader();
    w.videos("KKKKKK");
    w.comment("seq 0, 1, 2, 2 again, back to 1 with a filtered count of 9, then 5");
    renumber(&mut w, &[0, 1, 2, 2, 1, 5]);
    w.patch_record(4, field!(filtered), &9u64.to_le_bytes());
    w.patch_record(5, field!(filtered), &1u64.to_le_bytes());
    w.take("1 2 5-1 | 1..5 3+0+0+1+1");
    w.finish("seq_backwards", "Records whose seq does not increase are passed over and change nothing.")
}

/// Gives the records that were pushed other sequence numbers, by hand.
pub(super) fn renumber(w: &mut World, seqs: &[u64]) {
    let pushed = w.sent.values().filter(|sent| w.was_pushed(sent.descriptor.seq));
    let mut pushed: Vec<_> = pushed.cloned().collect();
    w.sent.clear();
    for ((record, sent), seq) in (0..).zip(&mut pushed).zip(seqs) {
        w.patch_record(record, field!(seq), &seq.to_le_bytes());
        sent.descriptor.seq = *seq;
        w.sent.entry(*seq).or_insert(sent.clone());
    }
}
