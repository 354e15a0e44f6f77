//! NAL units out of Annex B byte streams: for cameras that send them where single NAL units belong.

use memchr::memmem;

/// Whether a start code stands anywhere in `bytes`.
pub(super) fn has_start_code(bytes: &[u8]) -> bool {
    find_start_code(bytes).is_some()
}

/// Whether `stream` begins with a start code, of three bytes or four.
pub(super) fn begins_with_start_code(stream: &[u8]) -> bool {
    stream.strip_prefix(&[0]).unwrap_or(stream).starts_with(&START_CODE) || stream.starts_with(&START_CODE)
}

fn find_start_code(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, &START_CODE)
}

const START_CODE: [u8; 3] = [0, 0, 1];

/// The NAL units of `stream`: what stands between start codes, without leading or trailing zeros. A stream
/// without start codes is one NAL unit. Empty ones are left out.
pub(super) fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(stream);
    std::iter::from_fn(move || {
        loop {
            let stream = rest?;
            let (unit, after) = match find_start_code(stream) {
                Some(at) => stream.split_at_checked(at).map(|(unit, after)| (unit, after.get(3..)))?,
                None => (stream, None),
            };
            rest = after;
            let unit = trim_trailing_zeros(unit);
            if !unit.is_empty() {
                return Some(unit);
            }
        }
    })
}

/// A NAL unit cannot end in a zero byte (H.264 §7.4.1); what follows its last other byte is padding.
pub(super) fn trim_trailing_zeros(unit: &[u8]) -> &[u8] {
    let len = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    unit.get(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(stream: &[u8]) -> Vec<&[u8]> {
        nal_units(stream).collect()
    }

    #[test]
    fn splits_at_either_start_code() {
        assert_eq!(split(&[0, 0, 0, 1, 7, 8, 0, 0, 1, 9, 0, 0, 0, 1, 5]), [&[7, 8][..], &[9], &[5]]);
        assert_eq!(split(&[7, 8, 0, 0]), [&[7, 8]]);
        assert_eq!(split(&[0, 0, 1, 0, 0, 1]), [&[0_u8; 0]; 0]);
        assert_eq!(split(&[]), [&[0_u8; 0]; 0]);
    }
}
