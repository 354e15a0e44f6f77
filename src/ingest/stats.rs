//! What a camera has sent, in numbers that only grow.

use super::state::Reason;
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
    /// Times that such a search ended with a frame or a message: the session was kept.
    pub resyncs: u64,
    /// Times that the camera had sent more than it may, and was read no further for a while.
    pub throttled: u64,
    /// Sessions after the first that delivered video.
    pub reconnects: u64,
    /// Attempts that failed, and sessions that ended.
    pub failures: u64,
    /// The same by their reasons.
    pub failures_by_reason: ReasonCounts,
    /// When the latest access unit was completed.
    pub last_unit: Option<Mono>,
}

/// How often each reason occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReasonCounts([u32; Reason::ALL.len()]);

impl ReasonCounts {
    /// It occurred once more.
    pub(crate) fn note(&mut self, reason: Reason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Reasons that have occurred, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u32)> {
        Reason::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_apart() {
        assert!(Reason::ALL.iter().enumerate().all(|(place, reason)| reason.number() as usize == place));
        let mut counts = ReasonCounts::default();
        for reason in [Reason::NotFound, Reason::UnsupportedTransport, Reason::NotFound] {
            counts.note(reason);
        }
        assert_eq!(
            counts.iter().collect::<Vec<_>>(),
            [(Reason::NotFound, 2), (Reason::UnsupportedTransport, 1)]
        );
    }
}
