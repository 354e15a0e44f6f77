//! Segments of a newer minor version: longer, with bits and bytes that this version does not know.

use super::script::Segment;
use super::world::{ARENA, Vector, World, archive, configuration, nal, video};
use crate::join::From;
use crate::layout::{Codec, Flags};

const KEY: Flags = Flags::KEY;
/// What stands where this version has nothing.
const JUNK: u8 = 0xee;

pub(super) fn all() -> Vec<Vector> {
    vec![optional_features(), longer_entries(), longer_files(), many_slots()]
}

fn optional_features() -> Vector {
    let mut w = World::with_reader();
    w.comment("minor version 9, all optional features, and something in reserved places");
    for segment in [Segment::Stream, Segment::Ring] {
        w.patch(segment, 10, &9u16.to_le_bytes());
        w.patch(segment, 40, &u64::MAX.to_le_bytes());
    }
    w.patch(Segment::Stream, 80, &[JUNK; 48]);
    w.patch(Segment::Stream, 128 + 44, &[JUNK; 84]);
    w.patch(Segment::Ring, 72, &[JUNK; 56]);
    w.patch(Segment::Ring, 136, &[JUNK; 56]);
    w.patch(Segment::Ring, 216, &[JUNK; 40]);
    w.videos("K.");
    w.patch_record(1, 93, &[JUNK; 3]);
    w.sent.get_mut(&2).unwrap().descriptor.reserved = [JUNK; 3];
    w.take("1 2 | 1..2 2+0+0+0+0");
    w.finish(
        "newer_minor",
        "A newer minor version, unknown optional features, reserved bytes that are not 0.",
    )
}

fn longer_entries() -> Vector {
    let mut w = World::shaped(&[video(), video()], longer);
    w.attach(&archive(From::Live));
    let data = nal(1, KEY, 12);
    w.configure(0, &configuration(Codec::H264, 640, &data), 1);
    let data = nal(2, KEY, 15);
    w.configure(1, &configuration(Codec::H265, 1280, &data), 2);
    for (track, id) in [(0, 1), (1, 2), (0, 1)] {
        let unit = w.unit(KEY, id);
        let payload = nal(w.producer.last_seq() + 1, KEY, 16);
        w.commit(track, &unit, &payload, &[21]);
    }
    w.take("c1 1 c2 2 3 | 1..3 3+0+0+0+0");
    for _ in 4..=10 {
        w.video(KEY);
    }
    w.take("4 5 6 7 8 9 10 | 1..10 10+0+0+0+0");
    w.finish(
        "newer_longer",
        "Records of 192 bytes, track entries of 320, sixteen configuration entries of 4352: all by the headers.",
    )
}

fn longer_files() -> Vector {
    let mut w = World::with_reader();
    w.file_len = [Some(200_000), Some(10_001)];
    w.videos("K");
    w.take("1 | 1..1 1+0+0+0+0");
    w.finish("longer_files", "Files longer than the headers say, and no multiple of a page.")
}

fn many_slots() -> Vector {
    let mut w = World::with_reader();
    let len = 256 + 1024 * 128;
    w.file_len[Segment::Ring as usize] = Some(len);
    w.comment("as many slots as a reader of this version can ask for");
    w.patch(Segment::Ring, 16, &(len as u64).to_le_bytes());
    w.patch(Segment::Ring, 64, &1024u32.to_le_bytes());
    w.videos("K.");
    w.take("1 2 | 1..2 2+0+0+0+0");
    w.finish("many_slots", "A ring of 1024 slots: the most that a reader has to take.")
}

/// Places a segment of two tracks anew, as a version could whose tables are longer.
fn longer(segment: Segment, made: Vec<u8>) -> Vec<u8> {
    match segment {
        Segment::Stream => longer_stream(&made),
        Segment::Ring => longer_ring(&made),
    }
}

fn longer_stream(made: &[u8]) -> Vec<u8> {
    const TRACKS_OFF: usize = 1024;
    const TRACK_SIZE: usize = 320;
    const CONFIGS: usize = 16;
    const CONFIG_SIZE: usize = 4352;
    let arena_len = usize::try_from(ARENA).unwrap();
    let configs_off = 8192;
    let arenas_off = configs_off + (2 * CONFIGS * CONFIG_SIZE).next_multiple_of(4096);
    let mut out = vec![0; arenas_off + 2 * arena_len];
    out[..256].copy_from_slice(&made[..256]);
    put_u16(&mut out, 10, 7);
    let len = out.len() as u64;
    put_u64(&mut out, 16, len);
    put_u32(&mut out, 48, TRACKS_OFF);
    put_u32(&mut out, 68, TRACK_SIZE);
    put_u64(&mut out, 72, TRACKS_OFF as u64);
    for track in 0..2 {
        let entry = TRACKS_OFF + track * TRACK_SIZE;
        let (arena, configs) = (arenas_off + track * arena_len, configs_off + track * CONFIGS * CONFIG_SIZE);
        out[entry..entry + 256].copy_from_slice(&made[256 + track * 256..][..256]);
        out[entry + 256..entry + TRACK_SIZE].fill(JUNK);
        put_u64(&mut out, entry + 8, arena as u64);
        put_u64(&mut out, entry + 24, configs as u64);
        put_u32(&mut out, entry + 32, CONFIGS);
        put_u32(&mut out, entry + 36, CONFIG_SIZE);
        for n in 0..8 {
            // Our entries are the last ones of the table.
            let to = configs + (n + 8) * CONFIG_SIZE;
            out[to..to + 4096].copy_from_slice(&made[4096 + (track * 8 + n) * 4096..][..4096]);
            out[to + 4096..to + 4100].fill(JUNK);
        }
        let from = 4096 + 16 * 4096 + track * arena_len;
        out[arena..arena + arena_len].copy_from_slice(&made[from..from + arena_len]);
    }
    out
}

fn longer_ring(made: &[u8]) -> Vec<u8> {
    const HEADER_LEN: usize = 384;
    const REC_SIZE: usize = 192;
    let mut out = vec![0; (HEADER_LEN + 8 * REC_SIZE).next_multiple_of(4096)];
    out[..256].copy_from_slice(&made[..256]);
    out[256..HEADER_LEN].fill(JUNK);
    put_u16(&mut out, 10, 7);
    let len = out.len() as u64;
    put_u64(&mut out, 16, len);
    put_u32(&mut out, 48, HEADER_LEN);
    put_u32(&mut out, 52, REC_SIZE);
    for n in 0..8 {
        let to = HEADER_LEN + n * REC_SIZE;
        out[to..to + 128].copy_from_slice(&made[256 + n * 128..][..128]);
        out[to + 128..to + REC_SIZE].fill(JUNK);
    }
    out
}

fn put_u16(out: &mut [u8], at: usize, value: u16) {
    out[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put_u32(out: &mut [u8], at: usize, value: usize) {
    out[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap().to_le_bytes());
}

fn put_u64(out: &mut [u8], at: usize, value: u64) {
    out[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
