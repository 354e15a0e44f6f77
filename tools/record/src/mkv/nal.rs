//! NAL units of a payload in Annex B form.

use memchr::memmem;

pub(super) const H264_SPS: u8 = 7;
pub(super) const H264_PPS: u8 = 8;
pub(super) const H265_VPS: u8 = 32;
pub(super) const H265_SPS: u8 = 33;
pub(super) const H265_PPS: u8 = 34;

/// Bytes of the start code that the ring ABI puts before each NAL unit, and of the length that takes its place.
pub(super) const START_CODE_LEN: usize = 4;

/// H.264 table 7-1.
pub(super) fn h264_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|header| header & 0x1F)
}

/// H.265 table 7-1.
pub(super) fn h265_type(unit: &[u8]) -> Option<u8> {
    unit.first().map(|header| header >> 1 & 0x3F)
}

/// The NAL units behind start codes of three or four bytes, without trailing zeros; empty ones are left out.
pub(super) fn nal_units(annex_b: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = memmem::find(annex_b, &START_CODE).and_then(|at| annex_b.get(at + START_CODE.len()..));
    let next = move || {
        let unit_and_more = rest?;
        let end = memmem::find(unit_and_more, &START_CODE);
        rest = end.and_then(|end| unit_and_more.get(end + START_CODE.len()..));
        Some(trim_zeros(unit_and_more.get(..end.unwrap_or(unit_and_more.len()))?))
    };
    std::iter::from_fn(next).filter(|unit| !unit.is_empty())
}

/// A NAL unit never ends with a zero byte (H.264 §7.4.1): what does is a start code's or padding.
fn trim_zeros(unit: &[u8]) -> &[u8] {
    let len = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    unit.get(..len).unwrap_or_default()
}

const START_CODE: [u8; 3] = [0, 0, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_found_behind_either_start_code() {
        let bytes = [0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 0, 0, 1, 0, 0, 1, 0x65];
        let units: Vec<&[u8]> = nal_units(&bytes).collect();
        assert_eq!(units, [&[0x67, 1, 2][..], &[0x68, 3], &[0x65]]);
        assert_eq!(nal_units(&[1, 2, 3]).count(), 0);
        assert_eq!(nal_units(&[]).count(), 0);
    }
}
