//! Records that cannot be true.

use super::counting::renumber;
use super::events::crc32;
use super::script::Segment;
use super::world::{ARENA, Vector, World, archive, field};
use crate::join::From;
use crate::layout::{NALS_PER_UNIT_MAX, UNIT_LEN_MAX};
use crate::producer::TrackSpec;

/// Where the only track's arena begins.
const ARENA_OFF: usize = 4096 + 8 * 4096;
/// Behind the units of [`five`], and not too far for one of them.
const FREE: u32 = 8192;
/// One entry more than there may be, and nothing else wrong with it.
const TOO_MANY: [u32; NALS_PER_UNIT_MAX + 1] = {
    let mut ends = [0; NALS_PER_UNIT_MAX + 1];
    ends[NALS_PER_UNIT_MAX] = 25;
    ends
};

pub(super) fn all() -> Vec<Vector> {
    let mut all: Vec<Vector> = cases().into_iter().map(rejected).collect();
    all.extend([
        at_the_laps_end(),
        at_the_limit(),
        unit_len_max(),
        track_out_of_range(),
        track_out_of_range_after_loss(),
        rejected_everything(),
        skipped_unchecked(),
    ]);
    all
}

/// What is wrong with the record of unit 3, whose payload of 25 bytes has one NAL unit.
struct Case {
    name: &'static str,
    about: &'static str,
    fields: Vec<(usize, Vec<u8>)>,
    /// NAL index, put where it is.
    index: &'static [u32],
    /// Offset of the NAL index when it does not stand where the producer put it.
    index_off: Option<u32>,
}

fn case(name: &'static str, about: &'static str, fields: &[(usize, u32)]) -> Case {
    let fields = fields.iter().map(|(at, value)| (*at, value.to_le_bytes().to_vec())).collect();
    Case { name, about, fields, index: &[], index_off: None }
}

fn cases() -> Vec<Case> {
    let (len, nal_off, nal_count) = (field!(len), field!(nal_off), field!(nal_count));
    let pos = |at: u64| (field!(pos), at.to_le_bytes().to_vec());
    let end = ARENA - 64;
    vec![
        Case { fields: vec![pos(520)], ..case("pos", "A position that is no multiple of 64.", &[]) },
        Case {
            fields: vec![pos(u64::from(FREE) + 32)],
            ..case("pos_half", "A position that is half a multiple of 64.", &[])
        },
        case("len", "A length of 2³² − 1.", &[(len, u32::MAX)]),
        case("len_limit", "One byte more than a quarter of the arena.", &[(len, 16_385), (nal_count, 0)]),
        Case {
            fields: vec![pos(end), (len, vec![65, 0, 0, 0]), (nal_count, vec![0; 4])],
            ..case("lap", "A payload that leaves the lap by one byte.", &[])
        },
        Case {
            fields: vec![pos(end), (nal_off, vec![64, 0, 0, 0])],
            ..case("lap_index", "A NAL index that leaves the lap.", &[])
        },
        Case {
            fields: vec![pos(u64::MAX - 63), (len, vec![65, 0, 0, 0]), (nal_count, vec![0; 4])],
            ..case(
                "pos_top",
                "The highest position there is, and one byte more than positions can count.",
                &[],
            )
        },
        case(
            "index_limit",
            "Payload and index together have more than a quarter of the arena.",
            &[(nal_off, 16_384)],
        ),
        case("nal_off", "A NAL index within the payload.", &[(nal_off, 24)]),
        case("nal_off_misaligned", "A NAL index that is not aligned.", &[(nal_off, 30)]),
        case("nal_off_top", "An offset of the NAL index that overflows.", &[(nal_off, u32::MAX - 3)]),
        Case {
            index: &TOO_MANY,
            index_off: Some(FREE),
            ..case("nal_count", "1025 NAL units; the index is sound.", &[(nal_off, FREE), (nal_count, 1025)])
        },
        case("nal_count_top", "2³² − 1 NAL units.", &[(nal_count, u32::MAX)]),
        Case {
            index: &[20, 19],
            ..case("index_decreases", "A NAL index that decreases.", &[(nal_count, 2)])
        },
        Case { index: &[26], ..case("index_beyond", "A NAL unit that ends behind the payload.", &[]) },
        Case {
            index: &[26, 25],
            ..case(
                "index_inside_out",
                "A NAL index that decreases back to the payload's end.",
                &[(nal_count, 2)],
            )
        },
    ]
}

/// Five units, the first and the last of them keyframes.
fn five() -> World {
    let mut w = World::with_reader();
    w.videos("K...K");
    w
}

fn rejected(case: Case) -> Vector {
    let mut w = five();
    w.comment(&format!("unit 3: {}", case.about));
    apply(&mut w, &case);
    w.take("1 2 5 | 1..5 3+1+1+0+0");
    w.finish(&format!("record_{}", case.name), case.about)
}

fn apply(w: &mut World, case: &Case) {
    let d = w.sent[&3].descriptor;
    for (at, bytes) in &case.fields {
        w.patch_record(2, *at, bytes);
    }
    let index: Vec<u8> = case.index.iter().flat_map(|end| end.to_le_bytes()).collect();
    let at =
        ARENA_OFF + usize::try_from(d.pos % ARENA + u64::from(case.index_off.unwrap_or(d.nal_off))).unwrap();
    w.patch(Segment::Stream, at, &index);
}

fn at_the_laps_end() -> Vector {
    let mut w = five();
    w.comment("unit 3 ends where its lap does: 64 bytes of 0 without an index");
    zeros(&mut w, 3, ARENA - 64, 64);
    w.take("1 2 3 4 5 | 1..5 5+0+0+0+0");
    w.finish("record_lap_full", "A payload that ends with its lap is sound.")
}

/// Unit `seq`, pushed as record `seq - 1`, is `len` bytes of 0 at `pos`, without an index.
fn zeros(w: &mut World, seq: u64, pos: u64, len: u32) {
    w.patch_record(seq - 1, field!(pos), &pos.to_le_bytes());
    w.patch_record(seq - 1, field!(len), &len.to_le_bytes());
    w.patch_record(seq - 1, field!(nal_count), &[0; 4]);
    let sent = w.sent.get_mut(&seq).unwrap();
    (sent.descriptor.pos, sent.descriptor.len, sent.descriptor.nal_count) = (pos, len, 0);
    (sent.nal_ends, sent.crc32) = (Vec::new(), crc32(&vec![0; usize::try_from(len).unwrap()]));
}

fn at_the_limit() -> Vector {
    let mut w = five();
    w.comment("unit 3 is a quarter of the arena, and ends with it");
    zeros(&mut w, 3, ARENA - ARENA / 4, 16_384);
    w.take("1 2 3 4 5 | 1..5 5+0+0+0+0");
    w.finish("record_limit_full", "A quarter of the arena is not too long.")
}

fn unit_len_max() -> Vector {
    const FREE: u64 = 8 << 20;
    let mut w = World::new(&[TrackSpec::video(32 << 20)]);
    w.attach(&archive(From::Live));
    w.videos("K.K");
    let max = u32::try_from(UNIT_LEN_MAX).unwrap();
    w.comment("unit 2 has one byte more than any unit may have, though less than a quarter of the arena; unit 3 all it may");
    zeros(&mut w, 2, FREE, max + 1);
    zeros(&mut w, 3, FREE, max);
    w.take("1 3 | 1..3 2+1+0+0+0");
    w.finish("record_unit_len_max", "UNIT_LEN_MAX bytes, and one more, in a large arena.")
}

fn track_out_of_range() -> Vector {
    let mut w = five();
    w.patch_record(2, field!(track), &[1, 0]);
    w.take("1 2 4 5 | 1..5 4+1+0+0+0");
    w.videos(".");
    w.patch_record(5, field!(track), &[0xff, 0xff]);
    w.take("| 1..6 4+2+0+0+0");
    w.finish("record_track", "A track that is not there is rejected; it is no video, so nothing waits.")
}

fn track_out_of_range_after_loss() -> Vector {
    let mut w = five();
    renumber(&mut w, &[1, 2, 4, 5, 6]);
    w.patch_record(2, field!(track), &[9, 0]);
    w.take("1 2 6 | 1..6 3+1+1+1+0");
    w.finish(
        "record_track_after_loss",
        "As `record_track`, after a loss: video waits for a keyframe because of that.",
    )
}

fn rejected_everything() -> Vector {
    let mut w = five();
    w.script.line("attach everything=1");
    apply(&mut w, &case("", "", &[(field!(len), u32::MAX)]));
    w.take("1 2 4 5 | 1..5 4+1+0+0+0");
    w.finish("record_everything", "As `record_len`, of a reader that asked for everything: nothing waits.")
}

fn skipped_unchecked() -> Vector {
    let mut w = five();
    w.patch_record(2, field!(len), &[0xff; 4]);
    w.comment("unit 4 could not be true either, but it is skipped already");
    w.patch_record(3, field!(pos), &[1]);
    w.take("1 2 5 | 1..5 3+1+1+0+0");
    w.finish("record_skipped", "A record that is skipped is not checked.")
}
