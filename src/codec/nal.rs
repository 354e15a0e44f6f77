//! What the header of a NAL unit or RTP payload says, in both codecs' terms.
//!
//! Headers are two bytes throughout; an H.264 header is one byte and leaves the second unused.

use super::Codec;

/// What a NAL unit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NalKind {
    /// Coded picture data.
    Slice(Slice),
    /// A parameter set.
    ParameterSet(SetKind),
    /// Supplemental enhancement information that comes before the slices.
    Sei,
    /// Access unit delimiter.
    Delimiter,
    /// Anything else that belongs into a stream.
    Other,
    /// Forbidden bit set, or a type that is no NAL unit of a stream.
    Unusable,
}

/// What a slice's NAL header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    /// Of an IDR picture, or of any IRAP picture in H.265.
    pub(super) key: bool,
    /// No picture of the same temporal layer refers to it.
    pub(super) disposable: bool,
    /// Temporal layer; 0 in H.264.
    pub(super) temporal_id: u8,
}

/// Which parameter set, in the order in which decoders want them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SetKind {
    /// Video parameter set (H.265).
    Vps,
    /// Sequence parameter set.
    Sps,
    /// Picture parameter set.
    Pps,
}

/// How an RTP payload carries NAL units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PayloadKind {
    /// The payload is one NAL unit.
    Single,
    /// STAP-A or AP: several, each behind its length.
    Aggregate,
    /// FU-A or FU: a part of one.
    Fragment,
}

impl Codec {
    /// Bytes of a NAL header.
    pub(super) const fn header_len(self) -> usize {
        match self {
            Self::H264 => 1,
            Self::H265 => 2,
        }
    }

    /// RFC 6184 §5.2, RFC 7798 §4.4. What is neither (MTAP, FU-B, PACI) counts as a single NAL unit, which
    /// [`Self::nal_kind`] then finds unusable.
    pub(super) const fn payload_kind(self, header: [u8; 2]) -> PayloadKind {
        match (self, self.nal_type(header), header[0] & FORBIDDEN_BIT) {
            (Self::H264, 24, 0) | (Self::H265, 48, 0) => PayloadKind::Aggregate,
            (Self::H264, 28, 0) | (Self::H265, 49, 0) => PayloadKind::Fragment,
            _ => PayloadKind::Single,
        }
    }

    /// The header of the NAL unit that fragments with this payload header and FU header belong to.
    pub(super) const fn fragmented_header(self, header: [u8; 2], fragment_header: u8) -> [u8; 2] {
        match self {
            Self::H264 => [header[0] & 0xe0 | fragment_header & 0x1f, 0],
            Self::H265 => [header[0] & 0x81 | (fragment_header & 0x3f) << 1, header[1]],
        }
    }

    /// H.264 table 7-1, H.265 table 7-1.
    pub(super) fn nal_kind(self, header: [u8; 2]) -> NalKind {
        if header[0] & FORBIDDEN_BIT != 0 {
            return NalKind::Unusable;
        }
        match self {
            Self::H264 => h264_kind(self.nal_type(header), header[0] >> 5 & 3),
            Self::H265 => h265_kind(self.nal_type(header), header[1] & 7),
        }
    }

    pub(super) const fn nal_type(self, header: [u8; 2]) -> u8 {
        match self {
            Self::H264 => header[0] & 0x1f,
            Self::H265 => header[0] >> 1 & 0x3f,
        }
    }
}

fn h264_kind(nal_type: u8, ref_idc: u8) -> NalKind {
    match nal_type {
        1..=5 => NalKind::Slice(Slice { key: nal_type == 5, disposable: ref_idc == 0, temporal_id: 0 }),
        6 => NalKind::Sei,
        7 => NalKind::ParameterSet(SetKind::Sps),
        8 => NalKind::ParameterSet(SetKind::Pps),
        9 => NalKind::Delimiter,
        10..=23 => NalKind::Other,
        _ => NalKind::Unusable,
    }
}

fn h265_kind(nal_type: u8, temporal_id_plus1: u8) -> NalKind {
    match nal_type {
        0..=31 => NalKind::Slice(Slice {
            key: (16..=23).contains(&nal_type),
            // TRAIL_N, TSA_N, STSA_N, RADL_N, RASL_N and the reserved ones: even, up to 14.
            disposable: nal_type <= 14 && nal_type.is_multiple_of(2),
            temporal_id: temporal_id_plus1.saturating_sub(1),
        }),
        32 => NalKind::ParameterSet(SetKind::Vps),
        33 => NalKind::ParameterSet(SetKind::Sps),
        34 => NalKind::ParameterSet(SetKind::Pps),
        35 => NalKind::Delimiter,
        39 => NalKind::Sei,
        36..=47 => NalKind::Other,
        _ => NalKind::Unusable,
    }
}

const FORBIDDEN_BIT: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_carry_the_header_of_their_unit() {
        assert_eq!(Codec::H264.fragmented_header([0x7c, 0], 0x85), [0x65, 0]);
        assert_eq!(Codec::H265.fragmented_header([0x62, 0x01], 0x93), [0x26, 0x01]);
    }

    #[test]
    fn payloads_are_told_apart() {
        let kinds = |codec: Codec, headers: [[u8; 2]; 4]| headers.map(|h| codec.payload_kind(h));
        use PayloadKind::{Aggregate, Fragment, Single};
        let h264 = [[0x78, 0], [0x7c, 0], [0x65, 0], [0xfc, 0]];
        assert_eq!(kinds(Codec::H264, h264), [Aggregate, Fragment, Single, Single]);
        let h265 = [[0x60, 1], [0x62, 1], [0x26, 1], [0xe2, 1]];
        assert_eq!(kinds(Codec::H265, h265), [Aggregate, Fragment, Single, Single]);
    }

    #[test]
    fn what_cannot_be_in_a_stream_is_unusable() {
        for first in [0x00, 0xe5, 0x60 | 24, 0x60 | 25, 0x60 | 29, 0x60 | 31] {
            assert_eq!(Codec::H264.nal_kind([first, 0]), NalKind::Unusable, "{first:#x}");
        }
        for nal_type in 48..64 {
            assert_eq!(Codec::H265.nal_kind([nal_type << 1, 1]), NalKind::Unusable, "{nal_type}");
        }
    }

    #[test]
    fn slices_tell_keys_and_references() {
        let slice = |key, disposable, temporal_id| NalKind::Slice(Slice { key, disposable, temporal_id });
        assert_eq!(Codec::H264.nal_kind([0x65, 0]), slice(true, false, 0));
        assert_eq!(Codec::H264.nal_kind([0x01, 0]), slice(false, true, 0));
        assert_eq!(Codec::H265.nal_kind([21 << 1, 1]), slice(true, false, 0));
        assert_eq!(Codec::H265.nal_kind([2 << 1, 3]), slice(false, true, 2));
        assert_eq!(Codec::H265.nal_kind([1 << 1, 1]), slice(false, false, 0));
    }
}
