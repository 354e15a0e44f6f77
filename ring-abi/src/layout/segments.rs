//! The fixed parts of each segment, with their compile-time proofs.

use std::mem::{align_of, size_of};

use super::{
    ABI_MAJOR, ABI_MINOR, CONFIG_DATA_MAX, CONFIG_ENTRY_LEN, FEATURES_KNOWN, MAGIC, SegmentKind, halves,
    high, low, pair, split_halves,
};

/// Common header of every segment, 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SegmentHeader {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`ABI_MAJOR`].
    pub major: u16,
    /// [`ABI_MINOR`] of the writer.
    pub minor: u16,
    /// A [`SegmentKind`].
    pub kind: u32,
    /// Bytes of the segment.
    pub size: u64,
    /// Random number of the incarnation; sequence numbers restart only with it.
    pub epoch: u64,
    /// A reader that does not know one of these bits must refuse.
    pub features_required: u64,
    /// A reader ignores bits that it does not know.
    pub features_optional: u64,
    /// Bytes before the first record.
    pub header_len: u32,
    /// Distance of records in bytes; 0 when the segment has none.
    pub rec_size: u32,
    /// The daemon's number of the stream; 0 for segments of a session.
    pub stream_uid: u64,
}

/// A stream segment's second line: where its tables are. Written before the segment is handed out.
#[derive(Debug)]
#[repr(C)]
pub struct StreamDirectory {
    /// Tracks.
    pub track_count: u32,
    /// Distance of track entries in bytes.
    pub track_size: u32,
    /// Offset of the first track entry.
    pub tracks_off: u64,
    reserved: [u64; 6],
}

/// A stream segment's state line, written by the producer alone.
#[derive(Debug)]
#[repr(C)]
pub struct StreamStateLine {
    /// A [`StreamState`](super::StreamState).
    pub state: u32,
    /// Timeline of the newest committed unit.
    pub timeline: u32,
    /// `CLOCK_MONOTONIC` of the producer's newest sign of life, ns.
    pub heartbeat_ns: u64,
    /// Sequence number of the newest committed unit; 0 before the first.
    pub last_seq: u64,
    /// Sequence number of the newest keyframe; 0 before the first.
    pub last_key_seq: u64,
    /// Time between the oldest and the newest retained video unit, ns.
    pub retained_ns: u64,
    /// Why the state is what it is; 0 when nothing is wrong.
    pub state_reason: u32,
    reserved: [u32; 21],
}

/// A track entry, 256 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct TrackEntry {
    /// A [`TrackKind`](super::TrackKind).
    pub kind: u32,
    /// Ticks a second of `media_ticks`.
    pub timescale: u32,
    /// Offset of the arena.
    pub arena_off: u64,
    /// Bytes of the arena, a power of two.
    pub arena_len: u64,
    /// Offset of the configuration entries.
    pub configs_off: u64,
    /// Configuration entries.
    pub config_count: u32,
    /// Distance of configuration entries in bytes.
    pub config_size: u32,
    reserved0: [u64; 3],
    /// Bytes below this position may be overwritten at any time. Never decreases.
    pub reclaim_pos: u64,
    reserved1: [u64; 7],
    /// End of the newest committed unit.
    pub write_pos: u64,
    /// Id of the current configuration; 0 before the first.
    pub config_id: u32,
    /// [`Codec`](super::Codec) of the current configuration; 0 before the first.
    pub codec: u32,
    reserved2: [u64; 14],
}

/// Head of a configuration entry; the parameter sets follow at offset 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ConfigHeader {
    /// Number of this configuration in the epoch, from 1; 0 = the entry is unused.
    pub id: u32,
    /// Odd while the entry is being written.
    pub generation: u32,
    /// A [`Codec`](super::Codec).
    pub codec: u32,
    /// `profile_idc` or `general_profile_idc`; 0 when unknown.
    pub profile: u32,
    /// `level_idc` or `general_level_idc`; 0 when unknown.
    pub level: u32,
    /// Luma samples a line after cropping; 0 when unknown.
    pub width: u32,
    /// Lines after cropping; 0 when unknown.
    pub height: u32,
    /// Numerator of the nominal frame rate; 0 when unknown.
    pub fps_num: u32,
    /// Denominator of the nominal frame rate; 0 when unknown.
    pub fps_den: u32,
    /// Bytes of parameter sets in Annex B form.
    pub len: u32,
    /// Zero when written, ignored when read.
    pub reserved: [u32; 6],
}

/// A descriptor ring's head; records follow.
#[derive(Debug)]
#[repr(C)]
pub struct RingHead {
    header: SegmentHeader,
    /// Records, a power of two.
    pub slots: u32,
    /// A [`Class`](super::Class).
    pub reader_class: u32,
    reserved0: [u64; 7],
    /// Records pushed since the ring was made.
    pub tail: u64,
    reserved1: [u64; 7],
    /// A [`RingState`](super::RingState).
    pub rstate: u32,
    /// An [`EndReason`](super::EndReason).
    pub reason: u32,
    /// `last_seq` of the stream when the ring ended.
    pub final_seq: u64,
    /// Records withheld by filters when the ring ended.
    pub final_filtered: u64,
    reserved2: [u64; 5],
}

/// A session segment's head; `tails` (u32 a slot) follow.
#[derive(Debug)]
#[repr(C)]
pub struct SessionHead {
    header: SegmentHeader,
    /// Slots.
    pub slots: u32,
    reserved0: [u32; 15],
    /// Added to once a turn by each producing thread that touched the session: the futex word.
    pub bell: u32,
    /// Added to, before the bell, on any change of a state, configuration or timeline.
    pub state_gen: u32,
    reserved1: [u64; 15],
}

/// A session cursor's head; `heads` (u64 a slot) follow. Written by the reader.
#[derive(Debug)]
#[repr(C)]
pub struct CursorHead {
    header: SegmentHeader,
    reserved0: [u64; 8],
    /// 1 while the reader sleeps or is about to.
    pub parked: u32,
    reserved1: [u32; 31],
}

/// Offset of the stream segment's [`StreamDirectory`].
pub const STREAM_DIRECTORY_OFF: u64 = 64;
/// Offset of the stream segment's [`StreamStateLine`].
pub const STREAM_STATE_OFF: u64 = 128;
/// Offset of the stream segment's first [`TrackEntry`].
pub const STREAM_TRACKS_OFF: u64 = 256;
/// Bytes before a descriptor ring's first record.
pub const RING_HEAD_LEN: u64 = size_of::<RingHead>() as u64;
/// Bytes before a session's first tail.
pub const SESSION_HEAD_LEN: u64 = size_of::<SessionHead>() as u64;
/// Bytes before a session cursor's first head.
pub const CURSOR_HEAD_LEN: u64 = size_of::<CursorHead>() as u64;
impl SegmentHeader {
    /// Words of the header.
    pub const WORDS: usize = size_of::<Self>() / 8;

    /// The header of a new segment of `kind`.
    pub const fn new(kind: SegmentKind, size: u64, epoch: u64, stream_uid: u64) -> Self {
        Self {
            magic: MAGIC,
            major: ABI_MAJOR,
            minor: ABI_MINOR,
            kind: kind as u32,
            size,
            epoch,
            features_required: 0,
            features_optional: 0,
            header_len: 64,
            rec_size: 0,
            stream_uid,
        }
    }

    /// The header as little-endian words.
    pub fn to_words(&self) -> [u64; Self::WORDS] {
        [
            self.magic,
            pair(halves(self.major, self.minor), self.kind),
            self.size,
            self.epoch,
            self.features_required,
            self.features_optional,
            pair(self.header_len, self.rec_size),
            self.stream_uid,
        ]
    }

    /// The header in these words, unchecked.
    pub fn from_words(words: &[u64; Self::WORDS]) -> Self {
        let [magic, w1, size, epoch, features_required, features_optional, w6, stream_uid] = *words;
        let (major, minor) = split_halves(low(w1));
        Self {
            magic,
            major,
            minor,
            kind: high(w1),
            size,
            epoch,
            features_required,
            features_optional,
            header_len: low(w6),
            rec_size: high(w6),
            stream_uid,
        }
    }

    /// Compares with what a reader of this version may open.
    ///
    /// # Errors
    /// [`HeaderError`] names the first rule that is broken.
    pub fn check(&self, kind: SegmentKind, mapped_len: u64) -> Result<(), HeaderError> {
        if self.magic != MAGIC {
            return Err(HeaderError::Magic);
        }
        if self.major != ABI_MAJOR {
            return Err(HeaderError::Version { major: self.major, minor: self.minor });
        }
        if self.features_required & !FEATURES_KNOWN != 0 {
            return Err(HeaderError::Features(self.features_required & !FEATURES_KNOWN));
        }
        if self.kind != kind as u32 {
            return Err(HeaderError::Kind { expected: kind, found: self.kind });
        }
        if self.size > mapped_len || u64::from(self.header_len) > self.size {
            return Err(HeaderError::Size { header: self.size, mapped: mapped_len });
        }
        Ok(())
    }
}

/// Why a segment is not what its reader expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It does not begin with the magic bytes.
    #[error("not a ring segment")]
    Magic,
    /// Its major version is another.
    #[error("ABI version {major}.{minor} is not supported")]
    Version {
        /// Major version found.
        major: u16,
        /// Minor version found.
        minor: u16,
    },
    /// It requires features that this reader does not know.
    #[error("unknown required features {0:#x}")]
    Features(u64),
    /// It is another kind of segment.
    #[error("segment kind {found} instead of {expected:?}")]
    Kind {
        /// What was expected.
        expected: SegmentKind,
        /// The number found.
        found: u32,
    },
    /// It is smaller than it says.
    #[error("the header says {header} bytes, {mapped} are there")]
    Size {
        /// Bytes by the header.
        header: u64,
        /// Bytes of the file.
        mapped: u64,
    },
    /// A table or arena lies outside of the segment, or is misaligned.
    #[error("a table of the segment lies outside of it")]
    Table,
}

const _: () = {
    assert!(align_of::<SegmentHeader>() == 8);
    assert!(STREAM_STATE_OFF == STREAM_DIRECTORY_OFF + 64 && STREAM_TRACKS_OFF == STREAM_STATE_OFF + 128);
    assert!(CONFIG_ENTRY_LEN as usize == size_of::<ConfigHeader>() + CONFIG_DATA_MAX);
};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn headers_are_refused_by_rule() {
        let good = SegmentHeader::new(SegmentKind::Stream, 4096, 7, 9);
        assert_eq!(SegmentHeader::from_words(&good.to_words()), good);
        assert_eq!(good.check(SegmentKind::Stream, 4096), Ok(()));
        assert!(matches!(good.check(SegmentKind::Session, 4096), Err(HeaderError::Kind { found: 1, .. })));
        assert!(matches!(good.check(SegmentKind::Stream, 4095), Err(HeaderError::Size { .. })));
        let newer = SegmentHeader { major: 2, ..good };
        assert!(matches!(newer.check(SegmentKind::Stream, 4096), Err(HeaderError::Version { major: 2, .. })));
        let minor = SegmentHeader { minor: 9, features_optional: u64::MAX, ..good };
        assert_eq!(minor.check(SegmentKind::Stream, 4096), Ok(()), "appended things are ignored");
        let required = SegmentHeader { features_required: 1 << 63, ..good };
        assert_eq!(required.check(SegmentKind::Stream, 4096), Err(HeaderError::Features(1 << 63)));
    }
}
