//! Numbers as base-128 digits with the top bit of each byte set: fixed length, and never a zero byte.

/// Bytes of an encoded `u64`.
pub(crate) const U64_LEN: usize = 10;
/// Bytes of an encoded `u32`.
pub(crate) const U32_LEN: usize = 5;

/// Writes `value` into all of `out`, most significant digit first. Digits that do not fit are lost: `out` has
/// [`U64_LEN`] bytes, or [`U32_LEN`] for values below 2^35.
pub(crate) fn put(value: u64, out: &mut [u8]) {
    let mut rest = value;
    for byte in out.iter_mut().rev() {
        *byte = MARK | (rest & DIGIT).to_le_bytes()[0];
        rest >>= DIGIT_BITS;
    }
}

/// Reads what [`put`] wrote; `None` when a byte lacks the mark or the value has more than 64 bits.
pub(crate) fn take(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0_u64, |value, &byte| {
        let room = value >> (u64::BITS - DIGIT_BITS) == 0;
        (byte & MARK != 0 && room).then(|| value << DIGIT_BITS | u64::from(byte & !MARK))
    })
}

const MARK: u8 = 0x80;
const DIGIT: u64 = 0x7f;
const DIGIT_BITS: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for value in [0, 1, 127, 128, u64::from(u32::MAX), 1 << 63, u64::MAX] {
            let mut bytes = [0; U64_LEN];
            put(value, &mut bytes);
            assert!(bytes.iter().all(|byte| byte & MARK != 0));
            assert_eq!(take(&bytes), Some(value));
        }
    }

    #[test]
    fn refuses_what_put_never_writes() {
        assert_eq!(take(&[0x81, 0x01]), None);
        assert_eq!(take(&[0xff; U64_LEN]), None, "70 bits do not fit");
    }
}
