//! Codecs: RTP payloads to access units in Annex B form, and what the parameter sets say.
//!
//! Pure: packet payloads go in piece by piece, NAL units come out through [`AccessUnitSink`], which is the only
//! way out. Payload bytes are written once, straight from the receive buffer into whatever the sink lends.
//!
//! ```text
//!  payload pieces ─▶ Depacketizer ──NAL units──▶ Assembler ──access units──▶ AccessUnitSink
//!                    (single, aggregate,         (boundaries, flags,
//!                     fragment)                   parameter sets)
//! ```

mod annex_b;
mod assembler;
mod bits;
mod depacketizer;
mod nal;
mod packet_info;
mod parameter_sets;
mod sei;
pub mod sink;
mod sps;
mod stats;
#[doc(hidden)]
pub mod testing;

pub use depacketizer::Depacketizer;
pub use packet_info::PacketInfo;
pub use sink::{
    AccessUnit, AccessUnitSink, AppendError, ClockSource, CommitError, ConfigError, ConfigId, ParameterSets,
    UnitFlags, VideoFormat,
};
pub use stats::Stats;

/// The video codecs that the daemon carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264 / AVC, RTP by RFC 6184.
    H264,
    /// H.265 / HEVC, RTP by RFC 7798.
    H265,
}

impl Codec {
    /// The field's usual short name, as logs, the API and `vms-ctl` print it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::H265 => "H265",
        }
    }
}
