//! What comes with a payload.

use crate::rtp::ClockSource;
use crate::time::{Mono, UnixNanos};

/// What is known of an RTP packet beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketInfo {
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp, as sent.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// Source, as sent.
    pub ssrc: u32,
    /// Bytes of payload.
    pub payload_len: usize,
    /// Packets missing right before this one.
    pub lost_before: u32,
    /// Media time by [`crate::rtp::MediaClock`].
    pub media_ticks: i64,
    /// Media timeline.
    pub timeline: u32,
    /// `media_ticks` was estimated.
    pub ticks_estimated: bool,
    /// When the packet came.
    pub received: Mono,
    /// Time of capture by [`crate::rtp::WallClock`].
    pub wall: UnixNanos,
    /// How far `wall` may be off, in microseconds.
    pub wall_error_us: u32,
    /// Where `wall` comes from.
    pub clock_source: ClockSource,
}
