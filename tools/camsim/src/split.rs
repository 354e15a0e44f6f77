//! Cutting an Annex B elementary stream into access units.

use vms_stamp::{Codec, annexb};

use crate::nal::{self, Role};

/// One access unit: NAL units in decoding order, borrowed from the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AccessUnit<'a> {
    /// NAL units without start codes.
    pub(crate) nals: Vec<&'a [u8]>,
    /// The picture is a random-access point.
    pub(crate) key: bool,
}

/// Splits `stream`. NAL units in front of the first picture belong to it; a tail without a picture is left out.
///
/// A new unit starts at the first slice of a picture, or at the prefix and parameter-set NAL units before it (H.264
/// 7.4.1.2.3, H.265 7.4.2.4.4). Field pairs are cut into one unit a field.
pub(crate) fn access_units(stream: &[u8], codec: Codec) -> Vec<AccessUnit<'_>> {
    let mut units = Vec::new();
    let mut unit = AccessUnit::default();
    let mut has_picture = false;
    for nal in annexb::nals(stream) {
        let Some(role) = nal::role(nal, codec) else { continue };
        let starts_unit = match role {
            Role::Slice { first, .. } => first,
            Role::ParameterSet | Role::Prefix => true,
            Role::Suffix => false,
        };
        if has_picture && starts_unit {
            units.push(std::mem::take(&mut unit));
            has_picture = false;
        }
        if let Role::Slice { key, .. } = role {
            has_picture = true;
            unit.key |= key;
        }
        unit.nals.push(nal);
    }
    if has_picture {
        units.push(unit);
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&[0, 0, 1], *nal].concat()).collect()
    }

    #[test]
    fn slices_of_one_picture_stay_together() {
        let nals: &[&[u8]] = &[
            &[0x67, 1],
            &[0x68, 1],
            &[0x06, 5, 1],
            &[0x65, 0x88],
            &[0x65, 0x40],
            &[0x41, 0x90],
            &[0x41, 0x20],
            &[0x0c, 0xff],
            &[0x09, 0xf0],
            &[0x41, 0x91],
        ];
        let stream = stream(nals);
        let units = access_units(&stream, Codec::H264);
        assert_eq!(units.iter().map(|unit| unit.nals.len()).collect::<Vec<_>>(), [5, 3, 2]);
        assert_eq!(units.iter().map(|unit| unit.key).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(units.into_iter().flat_map(|unit| unit.nals).collect::<Vec<_>>(), nals);
    }

    #[test]
    fn h265_with_delimiters() {
        let nals: &[&[u8]] = &[
            &[0x46, 1, 0x50],
            &[0x40, 1, 1],
            &[0x42, 1, 1],
            &[0x44, 1, 1],
            &[0x26, 1, 0xaf],
            &[0x26, 1, 0x20],
            &[0x50, 1, 0x84],
            &[0x46, 1, 0x50],
            &[0x02, 1, 0xd0],
        ];
        let stream = stream(nals);
        let units = access_units(&stream, Codec::H265);
        assert_eq!(units.iter().map(|unit| unit.nals.len()).collect::<Vec<_>>(), [7, 2]);
        assert!(units[0].key && !units[1].key);
    }

    #[test]
    fn parameter_sets_alone_are_no_unit() {
        assert!(access_units(&stream(&[&[0x67, 1], &[0x68, 1]]), Codec::H264).is_empty());
        assert!(access_units(&[], Codec::H264).is_empty());
    }
}
