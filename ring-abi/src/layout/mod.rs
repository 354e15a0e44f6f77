//! The bytes of every segment, as `SPEC.md` draws them. Pure: numbers, structs and their conversions.
//!
//! The `repr(C)` structs are drawings: offsets are taken from them by `offset_of!` and compared at compile time with
//! `layout.toml`, the table of which the specification, the C header and the Python package are made, too (`table`). No value of these types is ever placed in shared memory; words are
//! moved one by one through `map`.

mod descriptor;
mod lease;
mod segments;
#[rustfmt::skip]
mod table;

#[cfg(not(loom))]
pub(crate) use descriptor::Record;
pub use descriptor::{DESCRIPTOR_LEN, DESCRIPTOR_WORDS, Descriptor, Flags, RECORD_ACCESS_UNIT, RECORD_DATA};
pub use lease::{Lease, RELEASE_HEAD_LEN, ReleaseHead};
pub use segments::{
    CURSOR_HEAD_LEN, ConfigHeader, CursorHead, HeaderError, RING_HEAD_LEN, RingHead, SESSION_HEAD_LEN,
    STREAM_DIRECTORY_OFF, STREAM_STATE_OFF, STREAM_TRACKS_OFF, SegmentHeader, SessionHead, StreamDirectory,
    StreamStateLine, TrackEntry,
};

#[cfg(all(test, not(loom)))]
pub(crate) use table::MESSAGE_SIZES;

#[cfg(not(all(target_endian = "little", target_pointer_width = "64")))]
compile_error!("the ring ABI is defined for little-endian 64-bit machines");

/// The first eight bytes of every segment.
pub const MAGIC: u64 = u64::from_le_bytes(*b"VMSRING\0");
/// Major version: another one is refused.
pub const ABI_MAJOR: u16 = 1;
/// Minor version: may only append or use reserved bytes.
pub const ABI_MINOR: u16 = 0;
/// Required feature bits that this crate understands.
pub const FEATURES_KNOWN: u64 = 0;
/// Optional feature bit of HELLO and WELCOME: the reader waits on a descriptor that comes with WELCOME.
pub const FEATURE_NOTIFY_FD: u64 = 1 << 0;

/// Alignment of hot words of different writers, of units and of arenas within a page, in bytes.
pub const LINE: u64 = 64;
/// Alignment of configuration tables and arenas, in bytes.
pub const PAGE: u64 = 4096;
/// Tracks a stream may have.
pub const TRACKS_MAX: usize = 4;
/// Configuration entries a track has.
pub const CONFIGS_PER_TRACK: u32 = 8;
/// Bytes of a configuration entry, header included.
pub const CONFIG_ENTRY_LEN: u32 = 4096;
/// Bytes of parameter sets an entry can hold.
pub const CONFIG_DATA_MAX: usize = 4096 - 64;
/// Bytes of a unit with its descriptor and NAL index, whatever the arena's size.
pub const UNIT_LEN_MAX: u64 = 4 * 1024 * 1024;
/// NAL units of one access unit.
pub const NALS_PER_UNIT_MAX: usize = 1024;
/// Smallest and largest arena, in bytes; always a power of two.
pub const ARENA_LEN_RANGE: std::ops::RangeInclusive<u64> = 64 * 1024..=4 * 1024 * 1024 * 1024;
/// Slots a descriptor ring may have; always a power of two.
pub const RING_SLOTS_RANGE: std::ops::RangeInclusive<u32> = 8..=1024;
/// Slots (attached streams) a session may have.
pub const SESSION_SLOTS_MAX: u32 = 4096;

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SegmentKind {
    /// State, tracks, configurations and arenas of one stream.
    Stream = 1,
    /// Descriptors for one reader of one stream.
    DescriptorRing = 3,
    /// Raw frames (reserved).
    FramePool = 5,
    /// Frames that one reader gives back.
    ReleaseRing = 6,
    /// Bell and tails of one session.
    Session = 7,
    /// What the reader of a session writes.
    SessionCursor = 8,
}

/// What a stream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum StreamState {
    /// Nothing was published yet.
    Pending = 0,
    /// Units are coming.
    Live = 1,
    /// The source is silent or being connected to again.
    Stalled = 2,
    /// No unit will come any more.
    Closed = 3,
}

impl StreamState {
    /// The state with this number; an unknown one is taken for stalled.
    pub const fn from_word(word: u32) -> Self {
        match word {
            0 => Self::Pending,
            1 => Self::Live,
            3 => Self::Closed,
            _ => Self::Stalled,
        }
    }
}

/// What a descriptor ring's producer does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RingState {
    /// Records are coming.
    Ok = 0,
    /// The reader broke the rules or a limit; nothing more comes.
    Evicted = 1,
    /// The stream or the attachment ended; nothing more comes.
    Closed = 2,
    /// The stream goes on in another segment: attach again.
    Rotated = 3,
}

impl RingState {
    /// The state with this number; an unknown one ends the ring.
    pub const fn from_word(word: u32) -> Self {
        match word {
            0 => Self::Ok,
            1 => Self::Evicted,
            3 => Self::Rotated,
            _ => Self::Closed,
        }
    }
}

/// Why a ring ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EndReason {
    /// It has not.
    None = 0,
    /// The stream was torn down.
    StreamClosed = 1,
    /// The reader detached.
    Detached = 2,
    /// The reader's head was outside of what had been pushed, or moved back; or it gave back a frame that it did not hold.
    BadCursor = 3,
    /// A memory quota was exceeded (reserved).
    Quota = 4,
    /// Access was withdrawn (reserved).
    Revoked = 5,
}

impl EndReason {
    /// The reason with this number; an unknown one is [`EndReason::StreamClosed`].
    pub const fn from_word(word: u32) -> Self {
        match word {
            0 => Self::None,
            2 => Self::Detached,
            3 => Self::BadCursor,
            4 => Self::Quota,
            5 => Self::Revoked,
            _ => Self::StreamClosed,
        }
    }
}

/// What a track carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TrackKind {
    /// Video access units with keyframes.
    Video = 1,
    /// Audio packets; each is an entry point.
    Audio = 2,
    /// Other records; each is an entry point.
    Data = 3,
}

impl TrackKind {
    /// The kind with this number; an unknown one is data.
    pub const fn from_word(word: u32) -> Self {
        match word {
            1 => Self::Video,
            2 => Self::Audio,
            _ => Self::Data,
        }
    }
}

/// A codec's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Codec {
    /// None, or one that this reader does not know.
    Unknown = 0,
    /// H.264 / AVC.
    H264 = 1,
    /// H.265 / HEVC.
    H265 = 2,
}

impl Codec {
    /// The codec with this number.
    pub const fn from_word(word: u32) -> Self {
        match word {
            1 => Self::H264,
            2 => Self::H265,
            _ => Self::Unknown,
        }
    }
}

/// What a reader prefers when it cannot keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Class {
    /// To be on time: it jumps to the newest keyframe.
    #[default]
    Live = 1,
    /// To be complete: it gets everything that is retained.
    Archive = 2,
}

impl Class {
    /// The class with this number; an unknown one is live.
    pub const fn from_word(word: u32) -> Self {
        match word {
            2 => Self::Archive,
            _ => Self::Live,
        }
    }
}

/// Two 32-bit fields as the word that holds them.
pub const fn pair(first: u32, second: u32) -> u64 {
    first as u64 | (second as u64) << 32
}

/// The field at the lower address of a word.
#[expect(clippy::cast_possible_truncation, reason = "taking the low half is the purpose")]
pub const fn low(word: u64) -> u32 {
    word as u32
}

/// The field at the higher address of a word.
pub const fn high(word: u64) -> u32 {
    low(word >> 32)
}

const fn halves(first: u16, second: u16) -> u32 {
    first as u32 | (second as u32) << 16
}

#[expect(clippy::cast_possible_truncation, reason = "taking the low half is the purpose")]
const fn split_halves(word: u32) -> (u16, u16) {
    (word as u16, (word >> 16) as u16)
}
