//! Segments that a reader must not open: each breaks one rule, but for those that show the order of the rules.

use super::script::Seals::{self, AllBut};
use super::script::Segment::{self, Ring, Stream};
use super::world::{Vector, World, track_off};

/// Bytes of the stream segment and of the ring in these vectors.
const STREAM_LEN: u64 = 4096 + 8 * 4096 + 64 * 1024;
const RING_LEN: u64 = 4096;

pub(super) fn all() -> Vec<Vector> {
    let mut all = files();
    all.extend(headers().into_iter().map(|case| case.vector()));
    all.extend(tables().into_iter().map(|case| case.vector()));
    all.extend(rings().into_iter().map(|case| case.vector()));
    all
}

struct Case {
    name: &'static str,
    segment: Segment,
    why: &'static str,
    about: &'static str,
    patches: Vec<(usize, Vec<u8>)>,
}

impl Case {
    fn vector(self) -> Vector {
        let mut w = world();
        w.comment(self.about);
        for (at, bytes) in &self.patches {
            w.patch(self.segment, *at, bytes);
        }
        refused(w, self.segment, self.why, self.name, self.about)
    }
}

/// A stream with a unit, so that a reader that opens what it must not has something to say.
fn world() -> World {
    let mut w = World::with_reader();
    w.videos("K");
    w
}

fn refused(mut w: World, segment: Segment, why: &str, name: &str, about: &str) -> Vector {
    let segment = if segment == Stream { "stream" } else { "ring" };
    w.take(&format!("refused {segment} {why}"));
    w.take("");
    w.finish(&format!("refused_{name}"), about)
}

/// What is wrong with the files, whatever they hold.
fn files() -> Vec<Vector> {
    let sealed = |segment, seals, name, about| {
        let mut w = world();
        w.seal(segment, seals);
        refused(w, segment, "seals", name, about)
    };
    let cut = |segment: Segment, len, why, name, about| {
        let mut w = World::with_reader();
        w.file_len[segment as usize] = Some(len);
        w.script = super::script::Script::default();
        w.sync();
        refused(w, segment, why, name, about)
    };
    let mut both = world();
    both.seal(Ring, Seals::None);
    both.patch(Stream, 72, &u64::MAX.to_le_bytes());
    vec![
        sealed(Stream, Seals::None, "stream_unsealed", "The stream's file lacks its seals."),
        sealed(Ring, Seals::None, "ring_unsealed", "The ring's file lacks its seals."),
        sealed(
            Stream,
            AllBut("shrink"),
            "stream_may_shrink",
            "The stream's file may shrink: an access could fault.",
        ),
        sealed(Stream, AllBut("grow"), "stream_may_grow", "The stream's file may grow."),
        sealed(
            Stream,
            AllBut("future_write"),
            "stream_may_be_written",
            "Others may write to the stream's file.",
        ),
        sealed(Stream, AllBut("seal"), "stream_may_be_sealed", "Others may add seals to the stream's file."),
        sealed(Ring, AllBut("shrink"), "ring_may_shrink", "The ring's file may shrink."),
        sealed(Ring, AllBut("future_write"), "ring_may_be_written", "Others may write to the ring's file."),
        cut(Stream, 63, "magic", "stream_short", "The stream's file ends within the header."),
        cut(Ring, 63, "magic", "ring_short", "The ring's file ends within the header."),
        cut(Ring, 0, "magic", "ring_empty", "The ring's file is empty."),
        cut(Stream, 4096, "size", "stream_cut", "The stream's file ends before its header says."),
        refused(
            both,
            Stream,
            "table",
            "both",
            "The stream's tables and the ring's seals are wrong: the stream comes first.",
        ),
    ]
}

fn case(
    name: &'static str,
    segment: Segment,
    why: &'static str,
    about: &'static str,
    at: usize,
    bytes: &[u8],
) -> Case {
    Case { name, segment, why, about, patches: vec![(at, bytes.to_vec())] }
}

fn headers() -> Vec<Case> {
    vec![
        Case {
            patches: vec![(16, le(255).to_vec()), (48, vec![64, 0, 0, 0]), (64, vec![0; 4])],
            ..case(
                "size_below_state",
                Stream,
                "table",
                "A stream without tracks that ends within its state line.",
                0,
                &[],
            )
        },
        Case {
            patches: vec![(16, le(255).to_vec()), (48, vec![64, 0, 0, 0]), (64, vec![1, 0, 0, 0])],
            ..case(
                "size_below_end",
                Ring,
                "table",
                "A ring of one record that ends within what says how it ended.",
                0,
                &[],
            )
        },
        case("stream_magic", Stream, "magic", "A wrong magic number.", 6, b"H"),
        case("ring_magic", Ring, "magic", "A magic number without its last 0.", 7, &[1]),
        case("stream_major", Stream, "major", "Major version 2.", 8, &[2]),
        case("ring_major", Ring, "major", "Major version 0.", 8, &[0]),
        case("stream_features", Stream, "features", "An unknown required feature: bit 0.", 32, &[1]),
        case("ring_features", Ring, "features", "An unknown required feature: bit 63.", 39, &[0x80]),
        case("stream_kind", Stream, "kind", "A stream that says that it is a ring.", 12, &[3]),
        case("ring_kind", Ring, "kind", "A ring that says that it is a stream.", 12, &[1]),
        case("stream_size", Stream, "size", "One byte more than the file has.", 16, &le(STREAM_LEN + 1)),
        case("ring_size", Ring, "size", "More bytes than any file has.", 16, &le(u64::MAX)),
        case("stream_header_len", Stream, "size", "header_len behind the end.", 48, &[0xff; 4]),
        case("ring_header_len", Ring, "size", "header_len behind the end.", 48, &[0xff; 4]),
        Case {
            patches: vec![(0, vec![0xff; 64])],
            ..case(
                "order_magic",
                Stream,
                "magic",
                "All of the header is wrong: the magic number comes first.",
                0,
                &[],
            )
        },
        Case {
            patches: vec![(8, vec![0xff; 56])],
            ..case(
                "order_major",
                Ring,
                "major",
                "All behind the magic number is wrong: the version comes next.",
                0,
                &[],
            )
        },
        Case {
            patches: vec![(12, vec![0xff; 52])],
            ..case("order_features", Stream, "features", "Features come before kind and size.", 0, &[])
        },
        Case {
            patches: vec![(12, vec![0xff; 20])],
            ..case("order_kind", Ring, "kind", "The kind comes before the size.", 0, &[])
        },
    ]
}

fn tables() -> Vec<Case> {
    let track = |field| track_off(0, field);
    let table = |name, about, at, bytes: &[u8]| case(name, Stream, "table", about, at, bytes);
    vec![
        table(
            "size_below_arena",
            "The arena ends behind size, although the file is long enough.",
            16,
            &le(STREAM_LEN - 64),
        ),
        table("tracks_outside", "The track table ends behind the segment.", 72, &le(STREAM_LEN - 128)),
        table("tracks_overflow", "The track table's offset overflows.", 72, &le(u64::MAX - 255)),
        table("tracks_misaligned", "The track table is not aligned.", 72, &le(260)),
        table("track_count", "More tracks than the segment has room for.", 64, &[0xff; 4]),
        table("track_size", "Track entries that overlap.", 68, &[128, 0]),
        table("track_size_misaligned", "Track entries that are not aligned.", 68, &[4, 1]),
        table("arena_outside", "The arena ends behind the segment.", track(8), &le(STREAM_LEN - 32 * 1024)),
        table("arena_overflow", "The arena's offset overflows.", track(8), &le(u64::MAX - 4095)),
        table("arena_misaligned", "The arena is not aligned.", track(8), &le(4100)),
        table("arena_no_power", "An arena's length that is no power of two.", track(16), &le(48 * 1024)),
        table("arena_none", "An arena without a byte.", track(16), &le(0)),
        table("arena_small", "An arena smaller than a line.", track(16), &le(32)),
        table("arena_large", "An arena of 2⁶³ bytes.", track(16), &le(1 << 63)),
        table(
            "configs_outside",
            "The configuration table ends behind the segment.",
            track(24),
            &le(STREAM_LEN - 4096),
        ),
        table(
            "configs_overflow",
            "The configuration table's offset overflows.",
            track(24),
            &le(u64::MAX - 7),
        ),
        table("configs_misaligned", "The configuration table is not aligned.", track(24), &le(4100)),
        table("config_count", "More configurations than the segment has room for.", track(32), &[0xff; 4]),
        table("config_size", "Configuration entries that overlap.", track(36), &[64, 0]),
        table("config_size_misaligned", "Configuration entries that are not aligned.", track(36), &[4, 16]),
    ]
}

fn rings() -> Vec<Case> {
    let table = |name, about, at, bytes: &[u8]| case(name, Ring, "table", about, at, bytes);
    vec![
        table(
            "size_below_records",
            "The records end behind size, although the file is long enough.",
            16,
            &le(1272),
        ),
        table("slots_no_power", "Slots that are no power of two.", 64, &[7]),
        table("slots_none", "No slots.", 64, &[0]),
        table("slots_outside", "The records end behind the segment.", 64, &[32]),
        table("slots_overflow", "2³¹ slots.", 64, &[0, 0, 0, 0x80]),
        table("rec_size_small", "Records of 64 bytes.", 52, &[64]),
        table("rec_size_none", "Records of 0 bytes.", 52, &[0]),
        table("rec_size_misaligned", "Records of 132 bytes.", 52, &[132]),
        table("records_outside", "The records begin too late.", 48, &(RING_LEN - 512).to_le_bytes()[..2]),
        table("records_misaligned", "The records are not aligned.", 48, &[4, 1]),
    ]
}

fn le(value: u64) -> [u8; 8] {
    value.to_le_bytes()
}
