//! The two RTCP packets a camera sends: sender report and BYE (RFC 3550, 6.4.1 and 6.6).

use crate::clock::NS_PER_SECOND;

/// What is reported now, until it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reports {
    /// Interleaved channel.
    pub(crate) channel: u8,
    /// `None`: nothing.
    pub(crate) report: Option<SenderReport>,
}

/// What a sender report says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SenderReport {
    pub(crate) ssrc: u32,
    /// The moment of the report, nanoseconds since 1970 UTC.
    pub(crate) utc_ns: u64,
    /// The same moment on the RTP clock.
    pub(crate) rtp_timestamp: u32,
    pub(crate) packets: u32,
    /// Payload bytes without headers.
    pub(crate) octets: u32,
}

impl SenderReport {
    /// The report as an interleaved frame on `channel`.
    pub(crate) fn frame(&self, channel: u8) -> Vec<u8> {
        let mut frame = vec![b'$', channel, 0, SR_LEN, 0x80, 200, 0, 6];
        frame.extend(self.ssrc.to_be_bytes());
        frame.extend(ntp(self.utc_ns).to_be_bytes());
        frame.extend(self.rtp_timestamp.to_be_bytes());
        frame.extend(self.packets.to_be_bytes());
        frame.extend(self.octets.to_be_bytes());
        frame
    }
}

/// An empty receiver report, as every compound packet starts with a report, and a BYE, on `channel`.
pub(crate) fn bye_frame(channel: u8, ssrc: u32) -> Vec<u8> {
    let mut frame = vec![b'$', channel, 0, BYE_LEN, 0x80, 201, 0, 1];
    frame.extend(ssrc.to_be_bytes());
    frame.extend([0x81, 203, 0, 1]);
    frame.extend(ssrc.to_be_bytes());
    frame
}

/// NTP time: seconds since 1900 in the upper half, their fraction in the lower (RFC 5905, 6).
fn ntp(utc_ns: u64) -> u64 {
    let seconds = utc_ns / NS_PER_SECOND + SECONDS_1900_TO_1970;
    let fraction = ((utc_ns % NS_PER_SECOND) << 32) / NS_PER_SECOND;
    seconds << 32 | fraction
}

const SECONDS_1900_TO_1970: u64 = 2_208_988_800;
const SR_LEN: u8 = 28;
const BYE_LEN: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_time() {
        assert_eq!(ntp(0), SECONDS_1900_TO_1970 << 32);
        assert_eq!(ntp(NS_PER_SECOND / 2), SECONDS_1900_TO_1970 << 32 | 1 << 31);
    }

    #[test]
    fn lengths_agree() {
        let report = SenderReport { ssrc: 1, utc_ns: 0, rtp_timestamp: 2, packets: 3, octets: 4 };
        for frame in [report.frame(1), bye_frame(1, 9)] {
            assert_eq!(usize::from(frame[3]), frame.len() - 4);
        }
        assert_eq!(report.frame(1)[6..8], [0, 6], "28 bytes are 7 words");
    }
}
