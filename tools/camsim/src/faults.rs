//! How a farm misbehaves on request: one variant a fault, and what each one does to a response or to the stream.
//!
//! A fault holds for the whole run and for every camera. To add one: a variant, its name in [`NAMES`], and the place
//! that asks for it (`rtsp` for responses, `sdp` for descriptions, `player` and `flood` for what follows PLAY).

use std::num::NonZeroU32;
use std::str::FromStr;

use crate::config::ParseError;

/// One kind of misbehaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answer DESCRIBE with this status instead of a description.
    Status(u16),
    /// Describe audio only.
    NoVideo,
    /// Describe a video codec that the stream does not have.
    CodecVp8,
    /// A description behind a header line of 48 KiB.
    HugeHeader,
    /// Announce a body of 99,999,999,999 bytes to DESCRIBE and send without end.
    HugeBody,
    /// Answer DESCRIBE with a header line that never ends.
    EndlessHeader,
    /// After PLAY one fragmented NAL unit that never ends, all with one timestamp.
    EndlessFu,
    /// Close the connection after this many access units.
    CloseAfter(u64),
    /// Send no more video after this many access units, but stay connected and answer requests.
    StallAfter(u64),
    /// Random bytes between interleaved frames, before every eighth access unit.
    Garbage,
    /// Every so-many-th RTP packet is missing; the sequence numbers tell.
    Lose(NonZeroU32),
    /// No RTP packet has the marker bit.
    NoMarker,
    /// After each this many access units another SSRC, sequence number and timestamp, as after an encoder's restart.
    SsrcChange(NonZeroU32),
    /// An OPTIONS request to the client between interleaved frames, before every eighth access unit.
    ServerRequest,
}

/// What `--fault` accepts.
pub const NAMES: &str = "status=400..599, no-video, codec=VP8, huge-header, huge-body, endless-header, \
                         endless-fu, close-after=N, stall-after=N, garbage, lose=N, no-marker, ssrc-change=N, \
                         server-request";

impl FromStr for Fault {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let count = || value.parse().map_err(|_| ParseError("expected a number of access units"));
        let interval = || value.parse().map_err(|_| ParseError("expected a number that is not 0"));
        Ok(match (name, value) {
            ("status", _) => {
                let status = value.parse().ok().filter(|status| (400..600).contains(status));
                Self::Status(status.ok_or(ParseError("expected an RTSP error status, 400 to 599"))?)
            }
            ("no-video", "") => Self::NoVideo,
            ("codec", "VP8") => Self::CodecVp8,
            ("huge-header", "") => Self::HugeHeader,
            ("huge-body", "") => Self::HugeBody,
            ("endless-header", "") => Self::EndlessHeader,
            ("endless-fu", "") => Self::EndlessFu,
            ("close-after", _) => Self::CloseAfter(count()?),
            ("stall-after", _) => Self::StallAfter(count()?),
            ("garbage", "") => Self::Garbage,
            ("lose", _) => Self::Lose(interval()?),
            ("no-marker", "") => Self::NoMarker,
            ("ssrc-change", _) => Self::SsrcChange(interval()?),
            ("server-request", "") => Self::ServerRequest,
            _ => return Err(UNKNOWN),
        })
    }
}

const UNKNOWN: ParseError = ParseError("expected the name of a fault; --help lists them");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!("status=453".parse(), Ok(Fault::Status(453)));
        assert_eq!("stall-after=10".parse(), Ok(Fault::StallAfter(10)));
        for bad in ["", "status", "status=200", "close-after", "close-after=x", "garbage=1", "lose=0"] {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }
}
