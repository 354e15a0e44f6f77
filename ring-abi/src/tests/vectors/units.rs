//! Units as they come: what a reader gives to its user when nothing is wrong.

use super::script::Segment;
use super::world::{
    ARENA, Vector, World, archive, configuration, field, filler, nal, other, record_off, sparse, track_off,
    video,
};
use crate::join::From;
use crate::layout::{Codec, Flags, NALS_PER_UNIT_MAX, StreamState, TrackKind};
use crate::producer::Unit;

const KEY: Flags = Flags::KEY;
const NONE: Flags = Flags(0);

pub(super) fn all() -> Vec<Vector> {
    vec![
        first_unit(),
        nal_index(),
        two_tracks(),
        without_video(),
        ring_wraps(),
        arena_laps(),
        flags(),
        timeline(),
        waits_for_keyframe(),
        record_type_unknown(),
        record_type_unknown_after_loss(),
        maximal_values(),
        numbers_unknown(),
    ]
}

fn first_unit() -> Vector {
    let mut w = World::with_reader();
    w.take("| 0..0 0+0+0+0+0");
    w.producer.set_state(StreamState::Live, 0);
    let data = [nal(1, KEY, 8), nal(2, KEY, 3)].concat();
    w.configure(0, &configuration(Codec::H264, 1920, &data), 1);
    let unit = w.unit(KEY, 1);
    let payload = nal(1, KEY, 20);
    w.commit(0, &unit, &payload, &[25]);
    w.take("c1 1 | 1..1 1+0+0+0+0");
    w.comment("nothing new: the counts again");
    w.take("| 1..1 1+0+0+0+0");
    w.finish("first_unit", "An empty stream, its first configuration, its first unit.")
}

fn nal_index() -> Vector {
    let mut w = World::with_reader();
    for lens in [&[7usize, 3, 21][..], &[1], &[30, 30, 1, 1, 9]] {
        let seq = w.producer.last_seq() + 1;
        let parts: Vec<_> = lens.iter().map(|len| nal(seq + *len as u64, KEY, *len)).collect();
        let mut end = 0;
        let ends: Vec<u32> = parts
            .iter()
            .map(|part| {
                end += u32::try_from(part.len()).unwrap();
                end
            })
            .collect();
        let unit = w.unit(KEY, 0);
        w.commit(0, &unit, &parts.concat(), &ends);
    }
    w.take("1 2 3 | 1..3 3+0+0+0+0");
    w.comment("no index; an index with an empty NAL unit that ends before the payload does; an empty unit");
    let unit = w.unit(NONE, 0);
    w.commit(0, &unit, &nal(4, NONE, 10), &[]);
    let unit = w.unit(NONE, 0);
    w.commit(0, &unit, &nal(5, NONE, 10), &[6, 6, 13]);
    let unit = w.unit(NONE, 0);
    w.commit(0, &unit, &[], &[]);
    w.take("4 5 6 | 1..6 6+0+0+0+0");
    w.comment("as many NAL units as a unit may have, 5 bytes each");
    let many: Vec<u8> = (0..NALS_PER_UNIT_MAX).flat_map(|_| [0, 0, 0, 1, 0x41]).collect();
    let ends: Vec<u32> = (1..=u32::try_from(NALS_PER_UNIT_MAX).unwrap()).map(|n| n * 5).collect();
    let unit = w.unit(NONE, 0);
    w.commit(0, &unit, &many, &ends);
    w.take("7 | 1..7 7+0+0+0+0");
    w.finish(
        "nal_index",
        "NAL indexes of 0 to 1024 entries, lengths that are no multiple of 4, an empty unit.",
    )
}

fn two_tracks() -> Vector {
    let mut w = World::new(&[video(), other(TrackKind::Data)]);
    w.attach(&archive(From::Live));
    w.video(KEY);
    w.comment("a video unit is open while data units are committed");
    let open = nal(9, NONE, 30);
    w.producer.begin(0);
    w.producer.append(0, &open[..10]).unwrap();
    for text in [&b"motion"[..], b"", b"line crossed"] {
        let unit = Unit { media_ticks: 1500, recv_mono_ns: 77, ..Unit::default() };
        w.commit(1, &unit, text, &[]);
    }
    w.producer.append(0, &open[10..]).unwrap();
    let unit = w.unit(NONE, 0);
    w.finish_unit(0, &unit, &open, &[35]);
    w.take("1 2 3 4 5 | 1..5 5+0+0+0+0");
    w.finish("two_tracks", "Video and data interleaved, an empty data unit, positions of their own a track.")
}

fn without_video() -> Vector {
    let mut w = World::new(&[other(TrackKind::Audio), other(TrackKind::Data)]);
    w.attach(&archive(From::Live));
    for track in [1, 0, 0, 1] {
        let unit = w.unit(NONE, 0);
        w.commit(track, &unit, &filler(w.producer.last_seq() + 1, 11), &[]);
    }
    w.take("1 2 3 4 | 1..4 4+0+0+0+0");
    w.finish("without_video", "Audio and data alone: every unit is an entry point.")
}

fn ring_wraps() -> Vector {
    let mut w = World::with_reader();
    w.videos("K.....");
    w.take("1 2 3 4 5 6 | 1..6 6+0+0+0+0");
    w.comment("record 8 stands where record 0 stood");
    w.videos("..K...");
    w.take("7 8 9 10 11 12 | 1..12 12+0+0+0+0");
    w.videos("K.......");
    w.take("13 14 15 16 17 18 19 20 | 1..20 20+0+0+0+0");
    w.finish("ring_wraps", "Twenty records in a ring of eight, at last a full ring.")
}

fn arena_laps() -> Vector {
    let mut w = World::with_reader();
    for seq in 1..=9u64 {
        let unit = w.unit(if seq % 4 == 1 { KEY } else { NONE }, 0);
        w.commit(0, &unit, &sparse(seq, 15_000), &[15_000]);
        if seq == 5 {
            assert_eq!(w.sent[&5].descriptor.pos, ARENA + 128, "unit 5 was moved to the next lap");
            w.comment("unit 5 met the arena's end and was moved to the next lap's start; unit 1 is gone");
        }
        w.take(&format!("{seq} | 1..{seq} {seq}+0+0+0+0"));
    }
    assert!(w.sent[&9].descriptor.pos > 2 * ARENA);
    w.finish(
        "arena_laps",
        "Large units over two laps of the arena; those that meet its end move to the next lap.",
    )
}

fn flags() -> Vector {
    let mut w = World::with_reader();
    w.video(KEY.with(Flags::CONFIG_CHANGED));
    for flags in [
        Flags::DAMAGED,
        Flags::NON_REF,
        Flags::RECOVERY_POINT,
        Flags::TS_ESTIMATED,
        Flags::RECOVERY_POINT.with(Flags::DAMAGED),
    ] {
        let lost_packets = if flags.contains(Flags::DAMAGED) { 3 } else { 0 };
        let seq = w.producer.last_seq() + 1;
        let unit = Unit { lost_packets, ..w.unit(flags, 0) };
        w.commit(0, &unit, &nal(seq, flags, 9), &[14]);
    }
    w.comment("flag bits that this version does not know are passed on");
    w.patch_record(5, field!(flags), &0x8000_0108u32.to_le_bytes());
    w.sent.get_mut(&6).unwrap().descriptor.flags = 0x8000_0108;
    w.take("1 2 3 4 5 6 | 1..6 6+0+0+0+0");
    w.finish("flags", "Damaged units with lost packets, and every other flag: none of them stops a unit.")
}

fn timeline() -> Vector {
    let mut w = World::with_reader();
    w.producer.set_state(StreamState::Live, 0);
    w.videos("K.");
    w.take("1 2 | 1..2 2+0+0+0+0");
    w.producer.set_state(StreamState::Stalled, 4);
    w.take("| 1..2 2+0+0+0+0");
    w.producer.set_state(StreamState::Live, 0);
    let unit = Unit {
        timeline: 1,
        ssrc: 0x1234_5678,
        rtp_ts: 5,
        media_ticks: -90_001,
        ..w.unit(KEY.with(Flags::DISCONT), 0)
    };
    w.commit(0, &unit, &nal(3, KEY, 20), &[25]);
    w.videos(".");
    w.take("3 4 | 1..4 4+0+0+0+0");
    w.finish("timeline", "A stall, then a new timeline: seq goes on, times begin anew, a time is below 0.")
}

fn waits_for_keyframe() -> Vector {
    let mut w = World::new(&[video(), other(TrackKind::Data)]);
    w.attach(&archive(From::Live));
    w.videos("K");
    let unit = w.unit(NONE, 0);
    w.commit(1, &unit, b"data", &[]);
    w.videos(".K.");
    w.comment("the first record loses its KEY: what comes before the first accepted unit counts as nothing");
    w.patch_record(0, field!(flags), &0x100u32.to_le_bytes());
    w.take("2 4 5 | 2..5 3+0+1+0+0");
    w.finish(
        "waits_for_keyframe",
        "Records of video before a keyframe are skipped; a data unit is accepted before it.",
    )
}

fn record_type_unknown() -> Vector {
    let mut w = World::with_reader();
    w.videos("K..");
    w.comment("record 1 has a type that this version does not know; it refers to nothing that is there");
    w.patch_record(1, field!(record_type), &[77, 0, 9, 0]);
    w.take("1 3 | 1..3 2+0+1+0+0");
    w.finish(
        "record_type_unknown",
        "A record of an unknown type is skipped, unchecked; the units around it come.",
    )
}

fn record_type_unknown_after_loss() -> Vector {
    let mut w = World::with_reader();
    w.videos("K..K");
    w.comment("record 1 has an unknown type and shows that unit 2 is lost; unit 4 needs it");
    w.patch(Segment::Ring, record_off(1), &[3, 0, 0, 0, 0, 0, 0, 0]);
    w.patch_record(1, field!(record_type), &[77, 0]);
    w.patch(Segment::Ring, record_off(2), &[4, 0, 0, 0, 0, 0, 0, 0]);
    w.patch(Segment::Ring, record_off(3), &[5, 0, 0, 0, 0, 0, 0, 0]);
    let mut five = w.sent[&4].clone();
    five.descriptor.seq = 5;
    w.sent.insert(5, five);
    w.take("1 5 | 1..5 2+0+2+1+0");
    w.finish(
        "record_type_unknown_after_loss",
        "A loss that a record of an unknown type shows makes video wait for a keyframe all the same.",
    )
}

fn maximal_values() -> Vector {
    let mut w = World::with_reader();
    let data = filler(1, 4032);
    let mut largest = configuration(Codec::H265, u32::MAX, &data);
    (largest.profile, largest.level, largest.height, largest.frame_rate) =
        (u32::MAX, u32::MAX, u32::MAX, (u32::MAX, u32::MAX));
    w.configure(0, &largest, 1);
    let unit = Unit {
        flags: KEY,
        config_id: 1,
        media_ticks: i64::MIN,
        timeline: u32::MAX,
        lost_packets: u32::MAX,
        recv_mono_ns: u64::MAX,
        wall_utc_ns: i64::MIN,
        wall_err_us: u32::MAX,
        clock_source: u8::MAX,
        rtp_ts: u32::MAX,
        ssrc: u32::MAX,
        first_rtp_seq: u16::MAX,
        last_rtp_seq: u16::MAX,
        duration_ticks: u32::MAX,
    };
    w.comment("a unit with the bytes that a unit may have in this arena: a quarter of it, 128 bytes in front and index included");
    let len = usize::try_from(w.producer.unit_limit(0)).unwrap() - 4;
    w.commit(0, &unit, &sparse(1, len), &[u32::try_from(len).unwrap()]);
    w.take("c1 1 | 1..1 1+0+0+0+0");
    let unit = Unit { media_ticks: i64::MAX, wall_utc_ns: i64::MAX, ..unit };
    w.commit(0, &unit, &nal(2, KEY, 9), &[14]);
    w.comment("what this producer cannot reach in its life: the highest seq, position and counts");
    let top = 0xffff_ffff_ffff_0000 | w.sent[&2].descriptor.pos;
    let newest = u64::MAX.to_le_bytes();
    w.patch(Segment::Stream, track_off(0, 64), &(top - 64).to_le_bytes());
    w.patch_record(1, field!(seq), &newest);
    w.patch_record(1, field!(pos), &top.to_le_bytes());
    w.patch_record(1, field!(key_seq), &newest);
    w.patch_record(1, field!(pub_mono_ns), &newest);
    w.patch_record(1, field!(filtered), &newest);
    w.patch(Segment::Stream, 128 + 16, &newest);
    let mut sent = w.sent[&2].clone();
    let d = &mut sent.descriptor;
    (d.seq, d.pos, d.key_seq, d.pub_mono_ns) = (u64::MAX, top, u64::MAX, u64::MAX);
    w.sent.insert(u64::MAX, sent);
    w.status = Some((StreamState::Pending, u32::MAX, u64::MAX));
    w.take(&format!("{0} | 1..{0} 2+0+0+0+{1}", u64::MAX, u64::MAX - 2));
    w.finish("maximal_values", "Every number of a record, a configuration and the counts at its ends.")
}

fn numbers_unknown() -> Vector {
    let mut w = World::new(&[video(), other(TrackKind::Data)]);
    w.attach(&archive(From::Live));
    w.comment("a track kind, a stream state, a codec and a clock source that this version does not know");
    w.patch(Segment::Stream, track_off(1, 0), &99u32.to_le_bytes());
    w.patch(Segment::Stream, 128, &99u32.to_le_bytes());
    let data = nal(1, KEY, 4);
    w.configure(0, &configuration(Codec::H264, 64, &data), 1);
    w.patch(Segment::Stream, 2 * 4096 - 4096 + 8, &99u32.to_le_bytes());
    let unit = Unit { clock_source: 99, ..w.unit(KEY, 1) };
    w.commit(0, &unit, &nal(1, KEY, 9), &[14]);
    let unit = w.unit(NONE, 0);
    w.commit(1, &unit, b"x", &[]);
    w.status = Some((StreamState::Stalled, 0, 2));
    w.take("c1 1 2 | 1..2 2+0+0+0+0");
    w.finish(
        "numbers_unknown",
        "Unknown numbers: a track is data, a state is stalled, a codec stays its number.",
    )
}
