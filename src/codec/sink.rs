//! The one way out of ingest: a lender of memory that takes access units.
//!
//! ```text
//! begin ─▶ append* ─▶ commit      the unit is visible to readers
//!                  └▶ abort       nothing happened
//! ```
//! The daemon's sink is `publish::Publisher` (shared memory); a test's is a `Vec`.

pub use crate::rtp::ClockSource;
use crate::time::{Mono, UnixNanos};

/// Takes the access units of one stream.
///
/// Calls come in the order of the drawing above. `configure` may come at any point of it, also while a unit is
/// open. A sink never blocks and never panics on any sequence of calls: a call out of order is an abort.
pub trait AccessUnitSink {
    /// Opens a unit. A unit that is still open is aborted.
    fn begin(&mut self);

    /// Adds `bytes` behind what the open unit has.
    ///
    /// # Errors
    /// [`AppendError`] when the unit has outgrown its limit; the caller then aborts.
    fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError>;

    /// Publishes the open unit and closes it.
    ///
    /// # Errors
    /// [`CommitError`] when the unit cannot be published; it is gone, the stream goes on.
    fn commit(&mut self, unit: &AccessUnit<'_>) -> Result<(), CommitError>;

    /// Drops the open unit, if there is one.
    fn abort(&mut self);

    /// Declares the parameter sets that units committed from now on refer to. The same bytes get the same id.
    ///
    /// # Errors
    /// [`ConfigError`] when they are too large to be published.
    fn configure(&mut self, sets: &ParameterSets<'_>) -> Result<ConfigId, ConfigError>;
}

/// A finished access unit, but for its payload, which the sink already has.
#[derive(Clone, Copy, Debug)]
pub struct AccessUnit<'a> {
    /// Where each NAL unit ends in the payload (bytes from its start; each begins with a 4-byte start code).
    pub nal_ends: &'a [u32],
    /// What kind of unit this is.
    pub flags: UnitFlags,
    /// The parameter sets that decode it; `None` before the first have been seen.
    pub config: Option<ConfigId>,
    /// Presentation time, exact and unwrapped, in ticks of 1/90000 s. Grows across RTP's 32-bit wrap.
    pub media_ticks: i64,
    /// Incremented on each break of the media clock: reconnect, SSRC change, rebase.
    pub timeline: u32,
    /// RTP packets missing within this unit or right before it.
    pub lost_packets: u32,
    /// When the unit's first packet was received.
    pub received: Mono,
    /// Wall-clock time of capture by [`ClockSource`].
    pub wall: UnixNanos,
    /// How far `wall` may be off, in microseconds; `u32::MAX` when unknown.
    pub wall_error_us: u32,
    /// Where `wall` comes from.
    pub clock_source: ClockSource,
    /// The RTP header's timestamp, as sent.
    pub rtp_timestamp: u32,
    /// The RTP header's SSRC.
    pub ssrc: u32,
    /// Sequence number of the unit's first packet.
    pub first_rtp_sequence: u16,
    /// Sequence number of the unit's last packet.
    pub last_rtp_sequence: u16,
}

/// Properties of an access unit, as bits of the ring ABI's `flags` word (`ring-abi/SPEC.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UnitFlags(pub u32);

impl UnitFlags {
    /// Decoding can start here: IDR, for H.265 any IRAP picture, or a recovery point.
    pub const KEY: Self = Self(1 << 0);
    /// With [`Self::KEY`]: no IDR; what is decoded from here on is clean after a while. Recovery-point SEI.
    pub const RECOVERY_POINT: Self = Self(1 << 1);
    /// First unit of a new timeline.
    pub const DISCONT: Self = Self(1 << 2);
    /// Packets were lost in this unit or right before it: it, or a picture it refers to, is not whole.
    pub const DAMAGED: Self = Self(1 << 3);
    /// First unit that uses its parameter sets.
    pub const CONFIG_CHANGED: Self = Self(1 << 4);
    /// No other unit refers to this one.
    pub const NON_REF: Self = Self(1 << 6);
    /// `media_ticks` was estimated, not sent.
    pub const TS_ESTIMATED: Self = Self(1 << 7);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Sets the bits of `other`.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A codec's parameter sets and what they say.
#[derive(Clone, Copy, Debug)]
pub struct ParameterSets<'a> {
    /// The codec.
    pub codec: super::Codec,
    /// VPS (H.265), SPS and PPS in Annex B form, 4-byte start codes.
    pub annex_b: &'a [u8],
    /// `profile_idc` (H.264) or `general_profile_idc` (H.265); 0 when the SPS could not be read.
    pub profile: u8,
    /// `level_idc` or `general_level_idc`; 0 when unknown.
    pub level: u8,
    /// Width in luma samples after cropping; 0 when unknown.
    pub width: u32,
    /// Height in luma samples after cropping; 0 when unknown.
    pub height: u32,
    /// Nominal frames a second from the VUI, as a fraction; `(0, 0)` when absent. Cameras lie here.
    pub frame_rate: (u32, u32),
}

impl ParameterSets<'_> {
    /// What they say, without their bytes.
    pub const fn format(&self) -> VideoFormat {
        VideoFormat {
            codec: self.codec,
            profile: self.profile,
            level: self.level,
            width: self.width,
            height: self.height,
            frame_rate: self.frame_rate,
        }
    }
}

/// What parameter sets say of the video; the fields are those of [`ParameterSets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of ParameterSets")]
pub struct VideoFormat {
    pub codec: super::Codec,
    pub profile: u8,
    pub level: u8,
    pub width: u32,
    pub height: u32,
    pub frame_rate: (u32, u32),
}

/// Number of a set of parameter sets within a stream's epoch; never used for two different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigId(pub u32);

/// Why bytes were not added to the open unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The unit is larger than a unit may be.
    #[error("the access unit is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// No unit is open.
    #[error("no access unit is open")]
    NotOpen,
}

/// Why a unit was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The unit with its NAL index is larger than a unit may be.
    #[error("the access unit is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// No unit is open.
    #[error("no access unit is open")]
    NotOpen,
}

/// Why parameter sets were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// They do not fit the ABI's configuration entry.
    #[error("the parameter sets have {len} bytes; at most {limit} can be published")]
    TooLarge {
        /// Their size.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
}
