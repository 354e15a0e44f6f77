//! The frame around a `user_data_unregistered` SEI message: NAL header, payload type, payload size, trailing bits.

/// Which video codec an access unit belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
}

impl Codec {
    /// Header of an SEI NAL unit: H.264 `nal_unit_type` 6 (7.3.1); H.265 prefix SEI type 39 with layer id 0 and
    /// temporal id 0 (7.3.1.2).
    pub(crate) const fn sei_header(self) -> &'static [u8] {
        match self {
            Self::H264 => &[0x06],
            Self::H265 => &[0x4e, 0x01],
        }
    }
}

/// `user_data_unregistered` (H.264 D.1.7, H.265 D.2.7).
pub(crate) const PAYLOAD_TYPE: u8 = 5;
/// `rbsp_trailing_bits()` of a byte-aligned payload.
pub(crate) const TRAILING_BITS: u8 = 0x80;
/// One byte of payload type or size that says "255, and more follows".
pub(crate) const SIZE_MORE: u8 = 0xff;
/// Bytes of the UUID that starts the payload.
pub(crate) const UUID_LEN: usize = 16;

/// Splits a stamp-like SEI NAL unit into its payload behind the UUID; `None` when it is anything else.
pub(crate) fn user_data<'a>(nal: &'a [u8], codec: Codec, uuid: &[u8; UUID_LEN]) -> Option<&'a [u8]> {
    let message = nal.strip_prefix(codec.sei_header())?;
    let (&[payload_type, size], payload) = message.split_first_chunk()?;
    if payload_type != PAYLOAD_TYPE || size == SIZE_MORE {
        return None;
    }
    let (payload, trailing) = payload.split_at_checked(usize::from(size))?;
    if trailing != [TRAILING_BITS] {
        return None;
    }
    payload.strip_prefix(uuid)
}
