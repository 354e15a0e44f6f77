//! What a camera has sent, in numbers that only grow.

use crate::time::Mono;

/// Counters of one camera since it was set up, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CameraStats {
    /// RTP packets of the video track that were used.
    pub packets: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Packets that never came, by sequence number.
    pub lost_packets: u64,
    /// Packets that came twice or too late.
    pub duplicate_packets: u64,
    /// Packets that were not for this track, or no RTP: unknown channel, payload type, version, lengths.
    pub ignored_packets: u64,
    /// Access units published.
    pub units: u64,
    /// Of these, key units.
    pub key_units: u64,
    /// Payload bytes of published units, start codes included.
    pub unit_bytes: u64,
    /// Access units published with the flag "damaged".
    pub damaged_units: u64,
    /// Access units dropped: too large, or nothing whole in them.
    pub dropped_units: u64,
    /// Bytes skipped in search of the next frame.
    pub skipped_bytes: u64,
    /// Sessions after the first that delivered video.
    pub reconnects: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// When the latest access unit was completed.
    pub last_unit: Option<Mono>,
}
