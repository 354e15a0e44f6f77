//! What a NAL unit is: the few header bits that splitting and packetising look at.

use vms_stamp::Codec;

/// Role of a NAL unit inside its access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Part of a coded picture.
    Slice {
        /// First slice of a picture.
        first: bool,
        /// The picture is a random-access point: H.264 IDR, H.265 IRAP.
        key: bool,
    },
    /// VPS, SPS or PPS.
    ParameterSet,
    /// Anything else that may only stand before the first slice: AUD, prefix SEI and their like.
    Prefix,
    /// Anything else that may only stand behind the slices: suffix SEI, filler, end of sequence.
    Suffix,
}

/// Role of `nal` (without start code); `None` when it is too short to have one.
pub(crate) fn role(nal: &[u8], codec: Codec) -> Option<Role> {
    match codec {
        Codec::H264 => h264_role(nal),
        Codec::H265 => h265_role(nal),
    }
}

/// H.264 table 7-1 and 7.4.1.2.3. `first_mb_in_slice` is ue(v): zero exactly when its first bit is set.
fn h264_role(nal: &[u8]) -> Option<Role> {
    let nal_type = nal.first()? & 0x1f;
    Some(match nal_type {
        1..=5 => Role::Slice { first: nal.get(1)? & 0x80 != 0, key: nal_type == 5 },
        7 | 8 => Role::ParameterSet,
        6 | 9 | 14..=18 => Role::Prefix,
        _ => Role::Suffix,
    })
}

/// H.265 table 7-1 and 7.4.2.4.4. `first_slice_segment_in_pic_flag` is the first bit behind the header.
fn h265_role(nal: &[u8]) -> Option<Role> {
    let nal_type = h265_type(nal)?;
    Some(match nal_type {
        0..=31 => Role::Slice { first: nal.get(2)? & 0x80 != 0, key: (16..=23).contains(&nal_type) },
        32..=34 => Role::ParameterSet,
        35 | 39 | 41..=44 | 48..=55 => Role::Prefix,
        _ => Role::Suffix,
    })
}

/// `nal_unit_type` of an H.265 NAL unit.
pub(crate) fn h265_type(nal: &[u8]) -> Option<u8> {
    nal.first().map(|byte| byte >> 1 & 0x3f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        assert_eq!(role(&[0x65, 0x88], Codec::H264), Some(Role::Slice { first: true, key: true }));
        assert_eq!(role(&[0x41, 0x10], Codec::H264), Some(Role::Slice { first: false, key: false }));
        assert_eq!(role(&[0x67, 0x42], Codec::H264), Some(Role::ParameterSet));
        assert_eq!(role(&[0x26, 1, 0xaf], Codec::H265), Some(Role::Slice { first: true, key: true }));
        assert_eq!(role(&[0x02, 1, 0x10], Codec::H265), Some(Role::Slice { first: false, key: false }));
        assert_eq!(role(&[0x40, 1], Codec::H265), Some(Role::ParameterSet));
        assert_eq!(role(&[0x50, 1], Codec::H265), Some(Role::Suffix));
        assert_eq!(role(&[0x65], Codec::H264), None);
        assert_eq!(role(&[], Codec::H265), None);
    }
}
