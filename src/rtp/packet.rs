//! The RTP packet as it streams in: header decoded, CSRC list, extension and padding stripped.
//!
//! A packet may arrive in any number of pieces. The fixed header is carried over inline; everything between it
//! and the payload is skipped as it passes; payload pieces are slices of the input. Only two kinds of packet
//! are gathered whole, in a side buffer that is allocated when the first of them straddles two inputs: RTCP,
//! which is small, and packets with the padding bit, whose padding count is their last byte.

use super::stream::{FIXED_LEN, PayloadStream};
use crate::limits::RTP_PACKET_LEN_MAX;

/// The fixed RTP header (RFC 3550 §5.1) without the parts that concern only the transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// For video: the packet ends an access unit.
    pub marker: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Media timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Bytes of payload, without CSRC list, extension and padding.
    pub payload_len: usize,
}

impl Header {
    /// Decodes the fixed header (RFC 3550 §5.1). `payload_len` is 0.
    pub(super) const fn decode(fixed: &[u8; FIXED_LEN]) -> Self {
        let [_, second, s0, s1, t0, t1, t2, t3, r0, r1, r2, r3] = *fixed;
        Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([r0, r1, r2, r3]),
            payload_len: 0,
        }
    }
}

/// Header and payload of a whole packet that has neither CSRC list nor extension nor padding and is no RTCP, as nearly
/// all are. `None`: it is for [`PacketParser`], which may refuse it.
pub fn plain_packet(packet: &[u8]) -> Option<(Header, &[u8])> {
    let (fixed, payload) = packet.split_first_chunk::<FIXED_LEN>()?;
    let [first, second, ..] = *fixed;
    if first != VERSION << 6 || is_rtcp(second) || packet.len() > RTP_PACKET_LEN_MAX {
        return None;
    }
    Some((Header { payload_len: payload.len(), ..Header::decode(fixed) }, payload))
}

/// What [`PacketParser::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketEvent<'a> {
    /// An RTP header; its payload follows in pieces.
    Header(Header),
    /// The next piece of payload, never empty.
    Payload(&'a [u8]),
    /// The payload is complete.
    End,
    /// A whole RTCP packet, on whatever channel it came.
    Rtcp(&'a [u8]),
}

/// Why a packet was dropped. The connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than the fixed header.
    #[error("the packet has {len} bytes, which is less than an RTP header")]
    Short {
        /// Bytes of the packet.
        len: usize,
    },
    /// Longer than an interleaved frame can be.
    #[error("the packet has {len} bytes, which is more than an interleaved frame can carry")]
    Long {
        /// Bytes of the packet.
        len: usize,
    },
    /// The version field is not 2.
    #[error("RTP version {0}")]
    Version(u8),
    /// CSRC list or extension reach beyond the packet.
    #[error("the RTP header reaches beyond the packet")]
    Header,
    /// The padding count is zero or reaches into the header.
    #[error("the padding count does not fit the packet")]
    Padding,
}

/// Whether a packet with this second byte is RTCP: SR, RR, SDES, BYE, APP (200 to 204) and the feedback types
/// up to 207. As RTP it would be a marked packet of payload type 72 to 79, which RFC 5761 §4 keeps free.
pub const fn is_rtcp(second_byte: u8) -> bool {
    matches!(second_byte, 200..=207)
}

/// Parses one packet at a time from pieces of any size.
///
/// ```text
/// begin(len) ─▶ next* ─▶ Header ─▶ Payload* ─▶ End
///                    ├─▶ Rtcp
///                    └─▶ error; the rest of the packet is swallowed
/// ```
#[derive(Debug, Default)]
pub struct PacketParser {
    stage: Stage,
    stream: PayloadStream,
    /// Bytes of the packet.
    len: usize,
    /// Side buffer for a packet that is needed whole; allocated by the first that straddles two inputs.
    gathered: Vec<u8>,
    /// How much of `gathered` went through `stream`.
    replayed: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Between packets, or within one that was given up.
    #[default]
    Discard,
    /// The first two bytes decide how to go on.
    Start,
    /// Pieces go straight through.
    Stream,
    /// The packet is gathered in the side buffer.
    Gather,
    /// The packet streams from the side buffer.
    Replay,
}

impl PacketParser {
    /// A parser between packets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a packet of `len` bytes; one that is unfinished is given up.
    ///
    /// # Errors
    /// [`PacketError::Short`] and [`PacketError::Long`]; the packet's bytes are then swallowed.
    pub fn begin(&mut self, len: usize) -> Result<(), PacketError> {
        self.stage = Stage::Discard;
        if len < RTCP_LEN_MIN {
            return Err(PacketError::Short { len });
        }
        if len > RTP_PACKET_LEN_MAX {
            return Err(PacketError::Long { len });
        }
        self.stage = Stage::Start;
        self.len = len;
        self.stream.begin(len);
        self.gathered.clear();
        self.replayed = 0;
        Ok(())
    }

    /// Takes bytes from the front of `input` up to the next event; `None` when it needs more.
    ///
    /// Call it until it returns `None`: an event may be due without further input.
    ///
    /// # Errors
    /// [`PacketError`]; the rest of the packet is swallowed.
    pub fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<PacketEvent<'s>>, PacketError> {
        if self.stage == Stage::Start
            && let Some(rtcp) = self.start(input).inspect_err(|_| self.stage = Stage::Discard)?
        {
            return Ok(Some(PacketEvent::Rtcp(rtcp)));
        }
        if self.stage == Stage::Gather && self.gather(input)? {
            return Ok(Some(PacketEvent::Rtcp(&self.gathered)));
        }
        let event = match self.stage {
            Stage::Start | Stage::Gather => Ok(None),
            Stage::Stream => self.stream.next(input),
            Stage::Replay => {
                let mut rest = self.gathered.get(self.replayed..).unwrap_or_default();
                let event = self.stream.next(&mut rest);
                self.replayed = self.gathered.len() - rest.len();
                event
            }
            Stage::Discard => {
                *input = &[];
                Ok(None)
            }
        };
        if matches!(event, Err(_) | Ok(Some(PacketEvent::End))) {
            self.stage = Stage::Discard;
        }
        event
    }

    /// Chooses the next stage by the first two bytes; gives RTCP that lies whole in the input.
    fn start<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<&'i [u8]>, PacketError> {
        let Some([first, second]) = self.stream.peek_two(input) else {
            return Ok(None);
        };
        if first >> 6 != VERSION {
            return Err(PacketError::Version(first >> 6));
        }
        if self.len < FIXED_LEN && !is_rtcp(second) {
            return Err(PacketError::Short { len: self.len });
        }
        let whole = input.split_at_checked(self.len).filter(|_| !self.stream.has_carry());
        match (is_rtcp(second), first & PADDING_BIT != 0, whole) {
            (true, _, Some((packet, rest))) => {
                *input = rest;
                self.stage = Stage::Discard;
                return Ok(Some(packet));
            }
            (false, false, _) => self.stage = Stage::Stream,
            (false, true, Some((packet, _))) => {
                self.stream.strip_padding(padding(packet)?);
                self.stage = Stage::Stream;
            }
            (_, _, None) => {
                self.gathered.extend_from_slice(self.stream.carry());
                self.gathered.reserve(self.len);
                self.stage = Stage::Gather;
            }
        }
        Ok(None)
    }

    /// Moves input into the side buffer; true when that holds a whole RTCP packet. A whole RTP packet is set to
    /// stream from there instead.
    fn gather(&mut self, input: &mut &[u8]) -> Result<bool, PacketError> {
        let wanted = self.len.saturating_sub(self.gathered.len()).min(input.len());
        let (piece, rest) = input.split_at(wanted);
        self.gathered.extend_from_slice(piece);
        *input = rest;
        if self.gathered.len() < self.len {
            return Ok(false);
        }
        self.stage = Stage::Discard;
        if self.gathered.get(1).copied().is_some_and(is_rtcp) {
            return Ok(true);
        }
        self.stream.begin(self.len);
        self.stream.strip_padding(padding(&self.gathered)?);
        self.stage = Stage::Replay;
        Ok(false)
    }
}

/// The padding count of a whole packet: its last byte (RFC 3550 §5.1).
fn padding(packet: &[u8]) -> Result<usize, PacketError> {
    let count = packet.last().copied().map_or(0, usize::from);
    if count == 0 || count + FIXED_LEN > packet.len() {
        return Err(PacketError::Padding);
    }
    Ok(count)
}

const VERSION: u8 = 2;
const PADDING_BIT: u8 = 0x20;
/// A lone receiver report without blocks, or a BYE.
const RTCP_LEN_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Header, payload, RTCP, and whether the packet ended.
    type Parsed = (Option<Header>, Vec<u8>, Vec<u8>, bool);

    /// What a parser makes of one packet, fed in pieces that end at `cuts`.
    fn parse(packet: &[u8], cuts: &[usize]) -> Result<Parsed, PacketError> {
        let mut parser = PacketParser::new();
        parser.begin(packet.len())?;
        let (mut header, mut payload, mut rtcp, mut ended) = (None, vec![], vec![], false);
        let mut from = 0;
        for to in cuts.iter().copied().chain([packet.len()]) {
            let mut input = &packet[from..to];
            from = to;
            while let Some(event) = parser.next(&mut input)? {
                match event {
                    PacketEvent::Header(found) => header = Some(found),
                    PacketEvent::Payload(piece) => {
                        assert!(!piece.is_empty());
                        payload.extend_from_slice(piece);
                    }
                    PacketEvent::End => ended = true,
                    PacketEvent::Rtcp(packet) => rtcp = packet.to_vec(),
                }
            }
            assert!(input.is_empty());
        }
        Ok((header, payload, rtcp, ended))
    }

    /// 2 CSRC, an ONVIF extension of 3 words (0xABAC, as Dahua sends it), 3 payload bytes, 4 of padding.
    fn with_everything() -> Vec<u8> {
        let mut packet = vec![0xb2, 0xe0, 0x12, 0x34, 0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef];
        packet.extend([1; 8]);
        packet.extend([0xab, 0xac, 0, 3]);
        packet.extend([2; 12]);
        packet.extend([0x65, 0x88, 0x80]);
        packet.extend([0, 0, 0, 4]);
        packet
    }

    fn expected() -> Header {
        Header {
            marker: true,
            payload_type: 96,
            sequence: 0x1234,
            timestamp: 9,
            ssrc: 0xdead_beef,
            payload_len: 3,
        }
    }

    #[test]
    fn strips_everything_at_any_split() {
        let packet = with_everything();
        for first in 0..packet.len() {
            for second in first..packet.len() {
                let got = parse(&packet, &[first, second]).unwrap();
                assert_eq!(got, (Some(expected()), vec![0x65, 0x88, 0x80], vec![], true), "{first} {second}");
            }
        }
    }

    #[test]
    fn streams_without_padding_at_any_split() {
        let mut packet = with_everything();
        packet.truncate(packet.len() - 4);
        packet[0] &= !PADDING_BIT;
        for first in 0..packet.len() {
            for second in first..packet.len() {
                let got = parse(&packet, &[first, second]).unwrap();
                assert_eq!(got, (Some(expected()), vec![0x65, 0x88, 0x80], vec![], true), "{first} {second}");
            }
        }
    }

    #[test]
    fn an_empty_payload_ends_without_further_input() {
        let packet = [0x80, 0x60, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        let (header, payload, _, ended) = parse(&packet, &[]).unwrap();
        assert_eq!(header.unwrap().payload_len, 0);
        assert!(payload.is_empty() && ended);
    }

    #[test]
    fn rtcp_is_told_by_content_at_any_split() {
        let packet = [0x81, 203, 0, 1, 0xde, 0xad, 0xbe, 0xef];
        for cut in 0..packet.len() {
            assert_eq!(parse(&packet, &[cut]).unwrap(), (None, vec![], packet.to_vec(), false), "{cut}");
        }
    }

    #[test]
    fn headers_that_reach_beyond_the_packet_are_refused() {
        let refused = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut packet = with_everything();
            edit(&mut packet);
            let whole = parse(&packet, &[]).map(|_| ());
            for cut in 0..packet.len() {
                assert_eq!(parse(&packet, &[cut]).map(|_| ()), whole, "{cut}");
            }
            whole.unwrap_err()
        };
        assert_eq!(refused(&|p| p[0] = 0x60), PacketError::Version(1));
        assert_eq!(refused(&|p| p[0] |= 0x0f), PacketError::Header);
        assert_eq!(refused(&|p| p[23] = 4), PacketError::Header);
        assert_eq!(refused(&|p| *p.last_mut().unwrap() = 0), PacketError::Padding);
        assert_eq!(refused(&|p| *p.last_mut().unwrap() = 8), PacketError::Header);
        assert_eq!(refused(&|p| *p.last_mut().unwrap() = 255), PacketError::Padding);
        assert_eq!(refused(&|p| p.truncate(11)), PacketError::Short { len: 11 });
        assert_eq!(parse(&[0x80], &[]), Err(PacketError::Short { len: 1 }));
        assert_eq!(PacketParser::new().begin(65_536), Err(PacketError::Long { len: 65_536 }));
    }

    #[test]
    fn a_refused_packet_is_swallowed_and_the_next_one_parses() {
        let mut parser = PacketParser::new();
        parser.begin(20).unwrap();
        let mut input: &[u8] = &[0; 20];
        assert_eq!(parser.next(&mut input), Err(PacketError::Version(0)));
        assert_eq!(parser.next(&mut input), Ok(None));
        assert!(input.is_empty());
        let packet = with_everything();
        parser.begin(packet.len()).unwrap();
        assert_eq!(parser.next(&mut &packet[..]), Ok(Some(PacketEvent::Header(expected()))));
    }

    #[test]
    fn a_new_packet_gives_an_unfinished_one_up() {
        let packet = with_everything();
        for cut in 0..packet.len() {
            let mut parser = PacketParser::new();
            parser.begin(packet.len()).unwrap();
            let mut input = &packet[..cut];
            while parser.next(&mut input).unwrap().is_some() {}
            parser.begin(packet.len()).unwrap();
            assert_eq!(parser.next(&mut &packet[..]), Ok(Some(PacketEvent::Header(expected()))), "{cut}");
        }
    }

    proptest! {
        /// The short way gives what the parser gives, or leaves the packet to it. First and second byte are often those
        /// that decide.
        #[test]
        fn a_plain_packet_is_what_the_parser_makes_of_it(
            first in prop_oneof![Just(0x80_u8), any::<u8>()],
            second in prop_oneof![Just(0xe0_u8), 198..210_u8, any::<u8>()],
            rest in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let packet = [&[first, second], &rest[..]].concat();
            let parsed = parse(&packet, &[]);
            if let Some((header, payload)) = plain_packet(&packet) {
                prop_assert_eq!(parsed, Ok((Some(header), payload.to_vec(), vec![], true)));
            } else {
                let is_plain = first == 0x80 && !is_rtcp(second);
                prop_assert!(!is_plain || packet.len() < FIXED_LEN, "{:?}", parsed);
            }
        }
    }
}
