//! What a reader is given, case by case.

use super::{Rig, Taken, payload};
use crate::join::{Damaged, Filters, From, Join};
use crate::layout::{
    ARENA_LEN_RANGE, CONFIG_DATA_MAX, Class, Codec, EndReason, Flags, Record, RingState, StreamState,
    TrackKind,
};
use crate::producer::{Configuration, ConfigureError, TrackSpec, Unit, UnitError};

const KEY: Flags = Flags::KEY;
const NONE: Flags = Flags(0);

fn archive(from: From) -> Join {
    Join::new(Class::Archive, from)
}

/// Twenty units of 1000 bytes, keyframes at 1, 6, 11, 16.
fn rig_of_twenty() -> Rig {
    let mut rig = Rig::new(1 << 20, 4096);
    for n in 0..20 {
        rig.commit(1000, if n % 5 == 0 { KEY } else { NONE });
    }
    rig
}

#[test]
fn readers_enter_where_they_ask() {
    let mut rig = rig_of_twenty();
    let epoch = rig.producer.epoch();
    let cases = [
        (From::Keyframe, 16, false),
        (From::Oldest, 1, false),
        (From::Preroll { ns: 0 }, 16, false),
        (From::Preroll { ns: 200_000_000 }, 11, false),
        (From::Preroll { ns: u64::MAX }, 1, false),
        (From::After { epoch, seq: 12 }, 13, true),
        (From::After { epoch, seq: 20 }, 21, true),
        (From::After { epoch, seq: 21 }, 1, false),
        (From::After { epoch: epoch + 1, seq: 12 }, 1, false),
        (From::Live, 21, false),
    ];
    for (n, (from, first, resumed)) in cases.into_iter().enumerate() {
        let slot = u32::try_from(n % 8).unwrap();
        let mut tap = rig.attach(slot, &archive(from));
        assert_eq!((tap.joined.first_seq, tap.joined.resumed), (first, resumed), "{from:?}");
        assert_eq!(tap.seqs(), (first..=20).collect::<Vec<_>>(), "{from:?}");
        tap.attachment.clear_head();
        rig.producer.detach(tap.ring).unwrap();
    }
}

#[test]
fn a_live_reader_waits_for_a_keyframe() {
    let mut rig = rig_of_twenty();
    let mut tap = rig.attach(0, &archive(From::Live));
    rig.commit(10, NONE);
    rig.commit(10, KEY);
    rig.commit(10, NONE);
    assert_eq!(tap.seqs(), [22, 23]);
    let everything = Filters { everything: true, ..Filters::of_class(Class::Archive) };
    let mut all = rig.attach(1, &Join { filters: everything, ..archive(From::Live) });
    rig.commit(10, NONE);
    assert_eq!(all.seqs(), [24]);
}

/// Our producer goes on at a keyframe after a loss. Another may not, and records may already be in the ring.
#[test]
fn after_a_loss_the_reader_itself_drops_video_until_a_keyframe() {
    for (everything, expected) in [(false, vec![1, 6, 7]), (true, vec![1, 3, 4, 6, 7])] {
        let mut rig = Rig::new(1 << 20, 4096);
        let mut join = archive(From::Live);
        let mut model = rig.attach(0, &join);
        for seq in 1..=7 {
            rig.commit(1000, if matches!(seq, 1 | 6) { KEY } else { NONE });
        }
        join.filters.everything = everything;
        let (mut tap, mut ring) = rig.hand_made(1, &join);
        while let Some(descriptor) = model.attachment.peek() {
            model.take();
            if !matches!(descriptor.seq, 2 | 5) {
                ring.push(&Record::new(&descriptor));
            }
        }
        assert_eq!(tap.seqs(), expected, "everything: {everything}");
        let counts = tap.attachment.counts();
        assert_eq!((counts.lost, counts.skipped), (2, if everything { 0 } else { 2 }));
    }
}

/// The unit is gone when the reader comes to it, and those behind it cannot be decoded.
#[test]
fn after_a_rejection_the_reader_itself_drops_video_until_a_keyframe() {
    let mut rig = Rig::new(1 << 20, 4096);
    let mut model = rig.attach(0, &archive(From::Live));
    for seq in 1..=4 {
        rig.commit(1000, if matches!(seq, 1 | 4) { KEY } else { NONE });
    }
    let (mut tap, mut ring) = rig.hand_made(1, &archive(From::Live));
    while let Some(mut descriptor) = model.attachment.peek() {
        model.take();
        if descriptor.seq == 2 {
            descriptor.len = u32::MAX;
        }
        ring.push(&Record::new(&descriptor));
    }
    assert_eq!(tap.seqs(), [1, 4]);
    let counts = tap.attachment.counts();
    assert_eq!((counts.lost, counts.rejected, counts.skipped), (0, 1, 1));
}

#[test]
fn records_of_an_unknown_type_are_passed_over() {
    let mut rig = Rig::new(1 << 20, 4096);
    let mut model = rig.attach(0, &archive(From::Live));
    for seq in 1..=3 {
        rig.commit(1000, if seq == 1 { KEY } else { NONE });
    }
    let (mut tap, mut ring) = rig.hand_made(1, &archive(From::Live));
    while let Some(mut descriptor) = model.attachment.peek() {
        model.take();
        if descriptor.seq == 2 {
            descriptor.record_type = 77;
        }
        ring.push(&Record::new(&descriptor));
    }
    assert_eq!(tap.seqs(), [1, 3]);
    let counts = tap.attachment.counts();
    assert_eq!((counts.lost, counts.rejected, counts.skipped), (0, 0, 1));
}

/// Unit 2 never comes, and the record that shows it is none that the reader understands.
#[test]
fn a_loss_before_a_record_that_is_passed_over_is_a_loss() {
    for (record_type, track) in [(77, 0), (1, 9)] {
        let mut rig = Rig::new(1 << 20, 4096);
        let mut model = rig.attach(0, &archive(From::Live));
        for seq in 1..=5 {
            rig.commit(1000, if matches!(seq, 1 | 5) { KEY } else { NONE });
        }
        let (mut tap, mut ring) = rig.hand_made(1, &archive(From::Live));
        while let Some(mut descriptor) = model.attachment.peek() {
            model.take();
            if descriptor.seq == 3 {
                (descriptor.record_type, descriptor.track) = (record_type, track);
            }
            if descriptor.seq != 2 {
                ring.push(&Record::new(&descriptor));
            }
        }
        assert_eq!(tap.seqs(), [1, 5], "unit 4 may refer to unit 2");
        assert!(tap.attachment.counts().balance());
    }
}

#[test]
fn a_reason_that_changes_within_a_state_is_shown_and_announced() {
    let mut rig = Rig::new(1 << 20, 4096);
    let tap = rig.attach(0, &archive(From::Live));
    for reason in [2, 7] {
        rig.producer.set_state(StreamState::Stalled, reason);
        assert_eq!(tap.attachment.status().reason, reason);
        assert_eq!(rig.touched(), 1);
        rig.producer.set_state(StreamState::Stalled, reason);
        assert_eq!(rig.touched(), 0, "nothing changed");
    }
}

#[test]
fn filters_are_counted_not_lost() {
    let mut rig = Rig::new(1 << 20, 4096);
    let only_keys = Filters { keyframes_only: true, ..Filters::of_class(Class::Archive) };
    let skip = Filters { damaged: Damaged::SkipToKeyframe, ..Filters::of_class(Class::Archive) };
    let mut keys = rig.attach(0, &Join { filters: only_keys, ..archive(From::Live) });
    let mut whole = rig.attach(1, &Join { filters: skip, ..archive(From::Live) });
    for flags in [KEY, NONE, Flags::DAMAGED, NONE, KEY.with(Flags::DAMAGED), NONE, KEY, NONE] {
        rig.commit(100, flags);
    }
    assert_eq!(keys.seqs(), [1, 5, 7]);
    assert_eq!(whole.seqs(), [1, 2, 7, 8]);
    rig.producer.close(0, 0);
    for tap in [&mut keys, &mut whole] {
        assert!(matches!(
            tap.take(),
            Taken::Empty | Taken::Ended { state: RingState::Closed, reason: EndReason::StreamClosed }
        ));
        let counts = tap.attachment.counts();
        assert!(counts.balance() && counts.lost == 0, "{counts:?}");
        assert_eq!(counts.filtered, 8 - counts.accepted);
    }
}

#[test]
fn lag_moves_by_class_and_shows_as_loss() {
    let mut rig = Rig::new(64 * 1024, 4096);
    rig.commit(1000, KEY);
    let join = |class| Join { ring_slots: 8, ..Join::new(class, From::Oldest) };
    let mut live = rig.attach(0, &join(Class::Live));
    let mut archive = rig.attach(1, &join(Class::Archive));
    for n in 0..200 {
        rig.commit(1000, if n % 5 == 4 { KEY } else { NONE });
    }
    // The rings hold what was pushed first; those payloads are long overwritten.
    for tap in [&mut live, &mut archive] {
        assert_eq!(tap.seqs(), [] as [u64; 0], "nothing torn is given out");
    }
    rig.producer.feed(u64::MAX);
    let (live, archive) = (live.seqs(), archive.seqs());
    assert_eq!(live.first(), Some(&201), "the newest keyframe");
    let first = *archive.first().unwrap();
    assert_eq!(first % 5, 1, "a keyframe");
    assert!((150..180).contains(&first), "as old as is safe: {first}");
}

/// Nothing is overwritten here: who jumps does so because of the time alone.
#[test]
fn a_live_reader_jumps_when_it_is_too_late_and_nobody_else_does() {
    let mut rig = rig_of_twenty();
    let join = |class, lag_max_ms: u64| Join {
        ring_slots: 8,
        lag_max_ns: lag_max_ms * 1_000_000,
        ..Join::new(class, From::Live)
    };
    // When the rings have room again, 29 is the next, which came 440 ms before 40.
    let mut late = rig.attach(0, &join(Class::Live, 439));
    let mut in_time = rig.attach(1, &join(Class::Live, 440));
    let mut patient = rig.attach(2, &join(Class::Archive, 0));
    for n in 0..20 {
        rig.commit(1000, if n % 5 == 0 { KEY } else { NONE });
    }
    let drain = |rig: &mut Rig, tap: &mut super::Tap| {
        let mut all = Vec::new();
        loop {
            let seqs = tap.seqs();
            if seqs.is_empty() {
                return all;
            }
            all.extend(seqs);
            rig.producer.feed(u64::MAX);
        }
    };
    assert_eq!(drain(&mut rig, &mut late), [(21..=28).collect(), vec![36, 37, 38, 39, 40]].concat());
    assert_eq!(late.attachment.counts().lost, 7);
    for tap in [&mut in_time, &mut patient] {
        assert_eq!(drain(&mut rig, tap), (21..=40).collect::<Vec<_>>());
    }
    // What was there before it came is not late.
    let mut behind = rig.attach(3, &Join { from: From::Oldest, ..join(Class::Live, 0) });
    assert_eq!(drain(&mut rig, &mut behind), (1..=40).collect::<Vec<_>>());
}

#[test]
fn units_are_refused_by_size_and_the_stream_goes_on() {
    let mut rig = Rig::new(64 * 1024, 4096);
    let mut tap = rig.attach(0, &archive(From::Live));
    rig.producer.begin(0);
    let limit = usize::try_from(rig.producer.unit_limit(0)).unwrap();
    rig.producer.append(0, &vec![1; limit]).unwrap();
    assert!(matches!(rig.producer.append(0, &[1]), Err(UnitError::TooLarge { .. })));
    assert!(matches!(rig.producer.commit(0, &Unit::default(), &[9], 0), Err(UnitError::TooLarge { .. })));
    assert!(matches!(rig.producer.commit(0, &Unit::default(), &[], 0), Err(UnitError::NotOpen)));
    rig.producer.begin(0);
    let many = Err(UnitError::TooManyNals { count: 1025 });
    assert_eq!(rig.producer.commit(0, &Unit::default(), &[0; 1025], 0), many);
    rig.producer.begin(0);
    rig.producer.append(0, &vec![7; limit]).unwrap();
    rig.producer.commit(0, &Unit { flags: KEY, ..Unit::default() }, &[], 0).unwrap();
    rig.producer.begin(9);
    assert_eq!(rig.producer.append(9, &[1]), Err(UnitError::NotOpen));
    assert_eq!(tap.seqs(), [1], "a refused unit takes no sequence number");
    assert_eq!(tap.buffer.payload(), vec![7; limit]);
}

#[test]
fn the_index_ends_before_the_bytes() {
    let mut rig = Rig::new(1 << 20, 16);
    for n in 0..40 {
        rig.commit(10, if n % 4 == 0 { KEY } else { NONE });
    }
    let mut tap = rig.attach(0, &archive(From::Oldest));
    let seqs = tap.seqs();
    assert_eq!(seqs, (25..=40).collect::<Vec<_>>());
    assert_eq!(rig.producer.retained_ns(0), 15 * 40_000_000);
}

#[test]
fn configurations_keep_their_ids_and_old_ones_take_their_units_along() {
    let mut rig = Rig::new(1 << 20, 4096);
    let data = |n: u8| vec![n; 500];
    let commit_with = |rig: &mut Rig, n: u8| {
        let data = data(n);
        let configuration = Configuration {
            codec: Codec::H264,
            data: &data,
            profile: 1,
            level: 2,
            width: u32::from(n),
            height: 4,
            frame_rate: (25, 1),
        };
        let config_id = rig.producer.configure(0, &configuration).unwrap();
        rig.producer.begin(0);
        rig.producer.append(0, &payload(u64::from(n), 100)).unwrap();
        rig.producer.commit(0, &Unit { flags: KEY, config_id, ..Unit::default() }, &[], 0).unwrap();
        config_id
    };
    for n in 1..=8 {
        assert_eq!(commit_with(&mut rig, n), u32::from(n));
    }
    assert_eq!(commit_with(&mut rig, 3), 3, "the same bytes keep their id");
    let mut tap = rig.attach(0, &archive(From::Oldest));
    assert_eq!(commit_with(&mut rig, 9), 9, "a new one takes the entry of the oldest");
    assert!(matches!(tap.take(), Taken::Dropped), "unit 1 needs configuration 1, which is gone");
    for (seq, n) in [(2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 3), (10, 9)] {
        let Taken::Unit { config_changed, .. } = tap.take() else { panic!("unit {seq} did not come") };
        let descriptor = tap.buffer.descriptor;
        assert_eq!((descriptor.seq, descriptor.config_id, config_changed), (seq, n, true));
        let configuration = tap.attachment.configuration(0).unwrap();
        assert_eq!((configuration.width, &configuration.data), (n, &data(u8::try_from(n).unwrap())));
        assert_eq!(configuration.frame_rate, (25, 1));
    }
    let large = vec![0; CONFIG_DATA_MAX + 1];
    let configuration = Configuration {
        codec: Codec::H264,
        data: &large,
        profile: 0,
        level: 0,
        width: 0,
        height: 0,
        frame_rate: (0, 0),
    };
    assert!(matches!(rig.producer.configure(0, &configuration), Err(ConfigureError::TooLarge { .. })));
}

#[test]
fn small_units_are_published_while_a_large_one_is_open() {
    let data = TrackSpec { kind: TrackKind::Data, timescale: 1000, arena_len: 64 * 1024, units_max: 64 };
    let mut rig = Rig::with_tracks(&[TrackSpec::video(1 << 20), data]);
    let mut tap = rig.attach(0, &archive(From::Live));
    rig.commit(100, KEY);
    rig.producer.begin(0);
    rig.producer.append(0, &[1; 1000]).unwrap();
    for _ in 0..3 {
        rig.producer.begin(1);
        rig.producer.append(1, b"event").unwrap();
        rig.producer.commit(1, &Unit { media_ticks: 1500, ..Unit::default() }, &[], 0).unwrap();
    }
    rig.producer.append(0, &[2; 1000]).unwrap();
    rig.producer.commit(0, &Unit::default(), &[2000], 0).unwrap();
    assert_eq!(tap.seqs(), [1, 2, 3, 4, 5]);
    assert_eq!(tap.buffer.payload().len(), 2000);
    assert_eq!(tap.attachment.counts().accepted, 5);
}

#[test]
fn a_stream_is_made_within_its_limits() {
    for arena_len in [0, 63, 3 << 20, ARENA_LEN_RANGE.start() / 2, u64::MAX] {
        assert!(crate::producer::Producer::create(1, 1, &[TrackSpec::video(arena_len)]).is_err());
    }
    assert!(crate::producer::Producer::create(1, 1, &[]).is_err());
}
