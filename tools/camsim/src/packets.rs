//! The RTP packets of one access unit, as they leave a camera that behaves: own headers and stamp around shared
//! payloads. Faults bend them in [`crate::wire`].

use vms_stamp::StampNal;

use crate::packetize::Payloads;
use crate::sdp::PAYLOAD_TYPE;

/// Memory for the headers of one unit, reused by all players.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) headers: Vec<[u8; HEADER_LEN]>,
}

/// The packets of one unit: own headers and stamp, shared payloads.
#[derive(Debug)]
pub(crate) struct Packets<'a> {
    pub(crate) headers: &'a [[u8; HEADER_LEN]],
    pub(crate) payloads: &'a Payloads,
    pub(crate) stamp: Option<(usize, StampNal)>,
}

impl Packets<'_> {
    /// Bytes on the wire at most.
    pub(crate) fn len(&self) -> usize {
        self.headers.len() * HEADER_LEN + self.payloads.bytes.len()
    }

    /// All bytes in order: header, payload, header, payload …
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.parts().flat_map(|(header, payload)| [&header[..], payload])
    }

    /// Header and payload of each packet.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&[u8; HEADER_LEN], &[u8])> + Clone {
        self.headers.iter().zip(&self.payloads.ranges).enumerate().map(|(index, (header, range))| {
            let payload = match &self.stamp {
                Some((at, stamp)) if *at == index => stamp.bytes(),
                _ => &self.payloads.bytes[range.clone()],
            };
            (header, payload)
        })
    }
}

/// The fields that differ from packet to packet.
pub(crate) struct Header {
    pub(crate) channel: u8,
    pub(crate) payload_len: usize,
    pub(crate) marker: bool,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

/// Interleaved frame header (RFC 2326 10.12) and RTP header (RFC 3550 5.1).
pub(crate) fn packet_header(header: &Header) -> [u8; HEADER_LEN] {
    let len = u16::try_from(RTP_HEADER_LEN + header.payload_len).expect("payloads have at most 1400 bytes");
    let marker = if header.marker { 0x80 } else { 0 };
    let mut bytes = [0; HEADER_LEN];
    bytes[..2].copy_from_slice(&[b'$', header.channel]);
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    bytes[4..6].copy_from_slice(&[0x80, marker | PAYLOAD_TYPE]);
    bytes[6..8].copy_from_slice(&header.sequence.to_be_bytes());
    bytes[8..12].copy_from_slice(&header.timestamp.to_be_bytes());
    bytes[12..].copy_from_slice(&header.ssrc.to_be_bytes());
    bytes
}

pub(crate) const RTP_HEADER_LEN: usize = 12;
pub(crate) const HEADER_LEN: usize = 4 + RTP_HEADER_LEN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_fields() {
        let header =
            Header { channel: 2, payload_len: 0x101, marker: true, sequence: 0x304, timestamp: 5, ssrc: 6 };
        let expected = [b'$', 2, 1, 13, 0x80, 0x80 | 96, 3, 4, 0, 0, 0, 5, 0, 0, 0, 6];
        assert_eq!(packet_header(&header), expected);
    }
}
