//! Configurations: when one comes, and when a unit comes without it.

use super::script::Segment;
use super::world::{Vector, World, archive, config_off, configuration, nal, other, video};
use crate::join::From;
use crate::layout::{Codec, Flags, TrackKind};

const KEY: Flags = Flags::KEY;

pub(super) fn all() -> Vec<Vector> {
    vec![h264_and_h265(), change_and_reuse(), two_tracks(), exhaustion(), not_there()]
}

/// A configuration of `w`'s track 0 and a keyframe that uses it.
fn key_with(w: &mut World, codec: Codec, width: u32, id: u32) {
    let data = [nal(u64::from(width), KEY, 12), nal(u64::from(width) + 1, KEY, 4)].concat();
    w.configure(0, &configuration(codec, width, &data), id);
    unit_with(w, id);
}

fn unit_with(w: &mut World, id: u32) {
    let seq = w.producer.last_seq() + 1;
    let unit = w.unit(KEY, id);
    w.commit(0, &unit, &nal(seq, KEY, 16), &[21]);
}

fn h264_and_h265() -> Vector {
    let mut w = World::with_reader();
    key_with(&mut w, Codec::H264, 1920, 1);
    w.take("c1 1 | 1..1 1+0+0+0+0");
    key_with(&mut w, Codec::H265, 3840, 2);
    w.video(Flags(0));
    w.take("c2 2 3 | 1..3 3+0+0+0+0");
    w.comment("an entry that says nothing but its codec");
    let mut bare = configuration(Codec::H265, 0, &[]);
    (bare.profile, bare.level, bare.height, bare.frame_rate) = (0, 0, 0, (0, 0));
    w.configure(0, &bare, 3);
    unit_with(&mut w, 3);
    w.take("c3 4 | 1..4 4+0+0+0+0");
    w.finish("configurations", "An H.264 and an H.265 configuration, and one with nothing in it.")
}

fn change_and_reuse() -> Vector {
    let mut w = World::with_reader();
    key_with(&mut w, Codec::H264, 640, 1);
    key_with(&mut w, Codec::H264, 1280, 2);
    w.comment("the first content again: it keeps its id");
    key_with(&mut w, Codec::H264, 640, 1);
    unit_with(&mut w, 1);
    w.take("c1 1 c2 2 c1 3 4 | 1..4 4+0+0+0+0");
    w.comment("a configuration that no unit uses yet brings no event");
    let data = nal(7, KEY, 5);
    w.configure(0, &configuration(Codec::H264, 320, &data), 3);
    w.take("| 1..4 4+0+0+0+0");
    w.finish(
        "configuration_reuse",
        "A change and back: equal content keeps its id, and each change is told again.",
    )
}

fn two_tracks() -> Vector {
    let mut w = World::new(&[video(), other(TrackKind::Audio)]);
    w.attach(&archive(From::Live));
    key_with(&mut w, Codec::H264, 640, 1);
    w.configure(1, &configuration(Codec::Unknown, 0, b"audio"), 2);
    let unit = w.unit(Flags(0), 2);
    w.commit(1, &unit, b"tone", &[]);
    unit_with(&mut w, 1);
    w.take("c1 1 c2 2 3 | 1..3 3+0+0+0+0");
    w.finish("configuration_of_each_track", "Each track has its own current configuration.")
}

fn exhaustion() -> Vector {
    let mut w = World::with_reader();
    for id in 1..=7 {
        key_with(&mut w, Codec::H264, 100 + id, id);
    }
    w.take("c1 1 c2 2 c3 3 c4 4 c5 5 c6 6 c7 7 | 1..7 7+0+0+0+0");
    unit_with(&mut w, 1);
    unit_with(&mut w, 2);
    w.take("c1 8 c2 9 | 1..9 9+0+0+0+0");
    key_with(&mut w, Codec::H264, 108, 8);
    w.comment(
        "the ninth configuration takes the entry of 5, the tenth that of 6: their last users are the oldest",
    );
    unit_with(&mut w, 3);
    unit_with(&mut w, 4);
    key_with(&mut w, Codec::H264, 109, 9);
    key_with(&mut w, Codec::H264, 110, 10);
    w.take("c8 10 c3 11 c4 12 c9 13 c10 14 | 1..14 14+0+0+0+0");
    w.comment("eight more while the reader is away: configuration 18 takes the entry of 10");
    for id in 11..=18 {
        key_with(&mut w, Codec::H264, 100 + id, id);
    }
    w.comment("the nineteenth takes the entry of the eleventh: unit 15 is reclaimed with it, although its bytes are whole");
    let data = nal(3, KEY, 5);
    w.configure(0, &configuration(Codec::H264, 99, &data), 19);
    w.take("c12 16 c13 17 c14 18 c15 19 c16 20 c17 21 c18 22 | 1..22 21+1+0+0+0");
    w.finish(
        "configuration_exhaustion",
        "A ninth configuration takes an entry; a unit that refers to the old one is rejected.",
    )
}

fn not_there() -> Vector {
    let mut w = World::with_reader();
    key_with(&mut w, Codec::H264, 640, 1);
    w.comment("entry 0 is being written: its generation is odd");
    w.patch(Segment::Stream, config_off(0, 4), &3u32.to_le_bytes());
    w.take("1 | 1..1 1+0+0+0+0");
    w.comment("it is whole: the next unit brings it");
    w.patch(Segment::Stream, config_off(0, 4), &4u32.to_le_bytes());
    unit_with(&mut w, 1);
    w.take("c1 2 | 1..2 2+0+0+0+0");
    w.comment("entry 1 says that it is longer than an entry can be");
    key_with(&mut w, Codec::H264, 1280, 2);
    w.patch(Segment::Stream, config_off(1, 36), &4033u32.to_le_bytes());
    w.take("3 | 1..3 3+0+0+0+0");
    w.patch(Segment::Stream, config_off(1, 36), &u32::MAX.to_le_bytes());
    unit_with(&mut w, 2);
    w.take("4 | 1..4 4+0+0+0+0");
    w.comment("the id that the reader still holds is not told again");
    unit_with(&mut w, 1);
    w.take("5 | 1..5 5+0+0+0+0");
    w.comment("no entry has the id of the record");
    unit_with(&mut w, 1);
    w.patch_record(5, super::world::field!(config_id), &77u32.to_le_bytes());
    w.sent.get_mut(&6).unwrap().descriptor.config_id = 77;
    w.take("6 | 1..6 6+0+0+0+0");
    w.finish(
        "configuration_not_there",
        "An entry half written, one too long, none with the id: the unit comes without its configuration.",
    )
}
