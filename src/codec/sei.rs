//! The one SEI message that matters here: recovery point.

use super::Codec;
use super::bits::Bits;

/// Whether an SEI NAL unit, or its beginning, holds a recovery point message (H.264 §D.2.8, H.265 §D.3.8): cameras
/// with intra refresh or open GOPs send it instead of IDRs. How many pictures later the picture is clean is not told
/// apart: for a reader who comes to such a stream any recovery point is the best that it can get.
pub(super) fn has_recovery_point(codec: Codec, nal: &[u8]) -> bool {
    let mut bits = Bits::new(nal.get(codec.header_len()..).unwrap_or_default());
    while let (Some(message), Some(len)) = (number(&mut bits), number(&mut bits)) {
        if message == RECOVERY_POINT {
            return is_sound(codec, &mut bits);
        }
        if bits.skip(len.saturating_mul(8)).is_none() {
            return false;
        }
    }
    false
}

/// H.264: `recovery_frame_cnt`, ue(v), is less than the largest `MaxFrameNum` there is. H.265: `recovery_poc_cnt`, se(v),
/// is within half of the largest `MaxPicOrderCntLsb`, whose code numbers are within the same bound and one more.
fn is_sound(codec: Codec, bits: &mut Bits<'_>) -> bool {
    let limit = match codec {
        Codec::H264 => (1 << 16) - 1,
        Codec::H265 => 1 << 16,
    };
    bits.ue().is_some_and(|count| count <= limit)
}

/// H.264 §7.3.2.3.1: bytes of 255 add up until another one ends the number.
fn number(bits: &mut Bits<'_>) -> Option<u32> {
    let mut value = 0_u32;
    loop {
        let byte = bits.byte()?;
        value = value.checked_add(u32::from(byte))?;
        if byte != 255 {
            return Some(value);
        }
    }
}

const RECOVERY_POINT: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_it_behind_other_messages() {
        assert!(has_recovery_point(Codec::H264, &[0x06, 6, 1, 0xc4, 0x80]));
        assert!(has_recovery_point(Codec::H264, &[0x06, 5, 2, 9, 9, 6, 1, 0xc4, 0x80]));
        assert!(has_recovery_point(Codec::H265, &[0x4e, 0x01, 6, 1, 0xc4, 0x80]));
    }

    #[test]
    fn does_not_find_it_inside_a_message() {
        assert!(!has_recovery_point(Codec::H264, &[0x06, 5, 4, 6, 1, 6, 1, 0x80]));
        assert!(!has_recovery_point(Codec::H264, &[0x06, 255, 6, 255, 255, 6]));
        assert!(!has_recovery_point(Codec::H264, &[]));
    }

    #[test]
    fn a_count_that_cannot_be_is_none() {
        assert!(!has_recovery_point(Codec::H264, &[0x06, 6, 0]));
        // 65535 and 65536.
        assert!(has_recovery_point(Codec::H264, &[0x06, 6, 5, 0x00, 0x00, 0x80, 0x00, 0x40, 0x80]));
        assert!(!has_recovery_point(Codec::H264, &[0x06, 6, 5, 0x00, 0x00, 0x80, 0x00, 0xc0, 0x80]));
    }
}
