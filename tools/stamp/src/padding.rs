//! SEI NAL units that only take up room: they bring a small clip to the bit rate of a real camera.

use crate::nal::{self, Codec, UUID_LEN};

/// A padding NAL unit of exactly `len` bytes, filled with pseudo-random bytes from `seed`; no start code.
///
/// The UUID differs from the stamp's, so the stamp's checksum covers the padding. No two bytes of it that stand together
/// are zero, so it needs no emulation prevention. `None` when `len` is too small for the frame around the payload, or is
/// one of the few lengths that the size field cannot express (one in 256).
#[must_use]
pub fn padding_nal(codec: Codec, len: usize, seed: u64) -> Option<Vec<u8>> {
    let frame = codec.sei_header().len() + 1 + 1;
    let message = len.checked_sub(frame)?;
    // A payload of n bytes takes n / 255 + 1 bytes of size and n bytes of content.
    let all_but_last_size = message.checked_sub(1)?;
    let payload = all_but_last_size - all_but_last_size / (SIZE_STEP + 1);
    if payload < UUID_LEN || payload / SIZE_STEP + 1 + payload != message {
        return None;
    }

    let mut nal = Vec::with_capacity(len);
    nal.extend_from_slice(codec.sei_header());
    nal.push(nal::PAYLOAD_TYPE);
    nal.resize(nal.len() + payload / SIZE_STEP, nal::SIZE_MORE);
    nal.extend(u8::try_from(payload % SIZE_STEP).ok());
    nal.extend_from_slice(UUID);
    nal.extend(noise(seed).take(payload - UUID_LEN));
    nal.push(nal::TRAILING_BITS);
    Some(nal)
}

/// Bytes 1..=255 from an xorshift generator: not compressible, repeatable.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3].max(1)
    })
}

/// `last_payload_size_byte` is at most 254 behind bytes of 255 (H.264 7.3.2.3.1).
const SIZE_STEP: usize = 255;
const UUID: &[u8; UUID_LEN] = b"vms-media/pad--1";

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes the size field as a decoder would and gives (size, bytes behind it).
    fn message_size(nal: &[u8], header: usize) -> (usize, usize) {
        let more = nal[header + 1..].iter().take_while(|&&byte| byte == 0xff).count();
        let last = usize::from(nal[header + 1 + more]);
        (more * 255 + last, nal.len() - (header + 1 + more + 1))
    }

    #[test]
    fn has_exactly_the_length_asked_for() {
        let mut refused = 0;
        for codec in [Codec::H264, Codec::H265] {
            for len in 24..3000 {
                let Some(nal) = padding_nal(codec, len, 42) else {
                    refused += 1;
                    continue;
                };
                assert_eq!(nal.len(), len);
                let (size, behind) = message_size(&nal, codec.sei_header().len());
                assert_eq!(size + 1, behind, "payload and trailing bits, {len}");
                assert!(nal.windows(2).all(|pair| pair != [0, 0]), "{len} needs escaping");
            }
        }
        assert!(refused <= 2 * 3000 / 256 + 2, "{refused} lengths refused");
    }

    #[test]
    fn too_short_is_refused() {
        assert!((0..19).all(|len| padding_nal(Codec::H264, len, 1).is_none()));
    }

    #[test]
    fn is_no_stamp() {
        let nal = padding_nal(Codec::H264, 50, 3).expect("50 is a length the size field has");
        assert_eq!(crate::find(&[&[0, 0, 1], &nal[..]].concat(), Codec::H264), None);
    }
}
