//! Streams without an end, for the faults that send as fast as the client reads.

use vms_stamp::Codec;

use crate::packetize::{FU_START, fragment_header};
use crate::packets::{Header, packet_header};

/// Makes the next bytes of an endless stream.
#[derive(Debug)]
pub(crate) enum Flood {
    /// The same letter for ever: a header line, or a body.
    Letters,
    /// Fragments of one NAL unit, all with one timestamp, none of them the last.
    Fragments {
        /// Codec of the description.
        codec: Codec,
        /// Interleaved channel of RTP.
        channel: u8,
        /// Packets made so far.
        packets: u64,
    },
}

impl Flood {
    /// Appends about [`CHUNK_LEN`] bytes to `out`.
    pub(crate) fn fill(&mut self, out: &mut Vec<u8>) {
        let end = out.len() + CHUNK_LEN;
        match self {
            Self::Letters => out.resize(end, b'a'),
            Self::Fragments { codec, channel, packets } => {
                while out.len() < end {
                    push_fragment(out, *codec, *channel, *packets);
                    *packets += 1;
                }
            }
        }
    }
}

fn push_fragment(out: &mut Vec<u8>, codec: Codec, channel: u8, packets: u64) {
    let nal_header: &[u8] = match codec {
        Codec::H264 => &[0x65],
        Codec::H265 => &[0x26, 0x01],
    };
    let fu = fragment_header(nal_header, if packets == 0 { FU_START } else { 0 });
    out.extend_from_slice(&packet_header(&Header {
        channel,
        payload_len: fu.len() + FRAGMENT_LEN,
        marker: false,
        sequence: u16::try_from(packets & 0xffff).unwrap_or_default(),
        timestamp: 0,
        ssrc: 1,
    }));
    out.extend_from_slice(&fu);
    out.resize(out.len() + FRAGMENT_LEN, 0xff);
}

const CHUNK_LEN: usize = 64 << 10;
const FRAGMENT_LEN: usize = 1390;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_fragment_starts() {
        let mut flood = Flood::Fragments { codec: Codec::H264, channel: 0, packets: 0 };
        let mut out = Vec::new();
        flood.fill(&mut out);
        flood.fill(&mut out);
        let frames: Vec<&[u8]> = out.chunks(16 + 2 + FRAGMENT_LEN).collect();
        assert!(frames.len() > 90);
        assert!(frames.iter().enumerate().all(|(index, frame)| {
            frame[..2] == [b'$', 0] && frame[17] == if index == 0 { 0x85 } else { 0x05 }
        }));
    }
}
