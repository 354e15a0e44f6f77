//! RTP payloads of one access unit: RFC 6184 (H.264, packetization-mode 1) and RFC 7798 (H.265, no DON fields).
//!
//! Runs of parameter sets travel together (STAP-A, AP), other NAL units alone when they fit and in fragments (FU-A, FU)
//! when they do not.

use std::ops::Range;

use vms_stamp::Codec;

use crate::nal::{self, Role};

/// Largest RTP payload in bytes: with headers it stays below 1448, what a TCP segment carries on Ethernet.
pub(crate) const PAYLOAD_LEN_MAX: usize = 1400;

/// RTP payloads, back to back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Payloads {
    /// All payload bytes.
    pub(crate) bytes: Vec<u8>,
    /// Where each payload stands in `bytes`.
    pub(crate) ranges: Vec<Range<usize>>,
}

impl Payloads {
    /// Packetises the NAL units of one access unit and adds their payloads.
    pub(crate) fn push_unit(&mut self, nals: &[&[u8]], codec: Codec) {
        let mut rest = nals;
        while let Some((&nal, behind)) = rest.split_first() {
            let together = aggregable(rest, codec);
            if together >= 2 {
                let (sets, behind) = rest.split_at(together);
                self.push_together(sets, codec);
                rest = behind;
                continue;
            }
            self.push_nal(nal, codec);
            rest = behind;
        }
    }

    /// Adds one NAL unit, alone or in fragments.
    pub(crate) fn push_nal(&mut self, nal: &[u8], codec: Codec) {
        if nal.len() <= PAYLOAD_LEN_MAX {
            return self.push(&[nal]);
        }
        let (header, body) = nal.split_at(header_len(codec));
        let room = PAYLOAD_LEN_MAX - header.len() - 1;
        let count = body.len().div_ceil(room);
        for (index, fragment) in body.chunks(room).enumerate() {
            let flags = if index == 0 { FU_START } else { 0 } | if index + 1 == count { FU_END } else { 0 };
            self.push(&[&fragment_header(header, flags), fragment]);
        }
    }

    /// Adds one aggregation packet: each NAL unit behind its 16-bit length.
    fn push_together(&mut self, nals: &[&[u8]], codec: Codec) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(aggregation_header(codec));
        for nal in nals {
            let len = u16::try_from(nal.len()).expect("aggregable() let only short ones through");
            self.bytes.extend_from_slice(&len.to_be_bytes());
            self.bytes.extend_from_slice(nal);
        }
        self.ranges.push(start..self.bytes.len());
    }

    fn push(&mut self, parts: &[&[u8]]) {
        let start = self.bytes.len();
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.ranges.push(start..self.bytes.len());
    }
}

/// The payloads of one NAL unit.
pub(crate) fn split(nal: &[u8], codec: Codec) -> Vec<Vec<u8>> {
    let mut payloads = Payloads::default();
    payloads.push_nal(nal, codec);
    payloads.ranges.iter().map(|range| payloads.bytes[range.clone()].to_vec()).collect()
}

/// How many NAL units at the front are parameter sets that fit one aggregation packet.
fn aggregable(nals: &[&[u8]], codec: Codec) -> usize {
    let mut len = aggregation_header(codec).len();
    nals.iter()
        .take_while(|nal| nal::role(nal, codec) == Some(Role::ParameterSet))
        .take_while(|nal| {
            len += 2 + nal.len();
            len <= PAYLOAD_LEN_MAX
        })
        .count()
}

/// STAP-A with the highest `nal_ref_idc` (RFC 6184 5.7.1); AP with layer 0 and temporal id 0 (RFC 7798 4.4.2).
const fn aggregation_header(codec: Codec) -> &'static [u8] {
    match codec {
        Codec::H264 => &[0x78],
        Codec::H265 => &[0x60, 0x01],
    }
}

/// FU indicator and FU header (RFC 6184 5.8), or payload header and FU header (RFC 7798 4.4.3).
pub(crate) fn fragment_header(nal_header: &[u8], flags: u8) -> Vec<u8> {
    match *nal_header {
        [first, second] => vec![first & 0x81 | FU_TYPE_H265 << 1, second, flags | first >> 1 & 0x3f],
        _ => {
            let first = nal_header.first().copied().unwrap_or_default();
            vec![first & 0xe0 | FU_TYPE_H264, flags | first & 0x1f]
        }
    }
}

const fn header_len(codec: Codec) -> usize {
    match codec {
        Codec::H264 => 1,
        Codec::H265 => 2,
    }
}

pub(crate) const FU_START: u8 = 0x80;
pub(crate) const FU_END: u8 = 0x40;
const FU_TYPE_H264: u8 = 28;
const FU_TYPE_H265: u8 = 49;

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(nals: &[&[u8]], codec: Codec) -> Vec<Vec<u8>> {
        let mut payloads = Payloads::default();
        payloads.push_unit(nals, codec);
        payloads.ranges.iter().map(|range| payloads.bytes[range.clone()].to_vec()).collect()
    }

    #[test]
    fn h264_sets_together_slice_in_fragments() {
        let slice: Vec<u8> =
            [0x65, 0x88].into_iter().chain((0..3000).map(|n: u32| n.to_le_bytes()[0])).collect();
        let all = payloads(&[&[0x09, 0xf0], &[0x67, 1, 2], &[0x68, 3], &slice], Codec::H264);
        assert_eq!(all[0], [0x09, 0xf0]);
        assert_eq!(all[1], [0x78, 0, 3, 0x67, 1, 2, 0, 2, 0x68, 3]);
        let fragments = &all[2..];
        assert_eq!(fragments.iter().map(|part| part[1]).collect::<Vec<_>>(), [0x85, 0x05, 0x45]);
        assert!(fragments.iter().all(|part| part[0] == 0x7c && part.len() <= PAYLOAD_LEN_MAX));
        let body: Vec<u8> = fragments.iter().flat_map(|part| part[2..].to_vec()).collect();
        assert_eq!(body, slice[1..]);
    }

    #[test]
    fn h265_sets_together_slice_in_fragments() {
        let slice: Vec<u8> = [0x26, 1, 0xaf].into_iter().chain(std::iter::repeat_n(7, 2000)).collect();
        let all = payloads(&[&[0x40, 1, 9], &[0x42, 1, 9], &[0x44, 1], &slice], Codec::H265);
        assert_eq!(all[0], [0x60, 1, 0, 3, 0x40, 1, 9, 0, 3, 0x42, 1, 9, 0, 2, 0x44, 1]);
        let fragments = &all[1..];
        assert_eq!(fragments.iter().map(|part| part[2]).collect::<Vec<_>>(), [0x80 | 19, 0x40 | 19]);
        assert!(fragments.iter().all(|part| part[..2] == [0x62, 1]));
        let body: Vec<u8> = fragments.iter().flat_map(|part| part[3..].to_vec()).collect();
        assert_eq!(body, slice[2..]);
    }

    #[test]
    fn a_nal_of_just_the_maximum_is_alone_and_a_lone_set_too() {
        let mut slice = vec![0x41; PAYLOAD_LEN_MAX];
        assert_eq!(payloads(&[&slice], Codec::H264).len(), 1);
        slice.push(1);
        assert_eq!(payloads(&[&slice], Codec::H264).len(), 2);
        assert_eq!(payloads(&[&[0x67, 1]], Codec::H264), [[0x67, 1]]);
    }
}
