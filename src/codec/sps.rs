//! What sequence parameter sets say about the picture. Nothing here is fatal: what cannot be read is 0.

use h264_reader::nal::sps::SeqParameterSet;
use h264_reader::rbsp::{BitReader, decode_nal};

use super::Codec;
use super::bits::Bits;

/// A picture's properties, as [`super::ParameterSets`] has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SpsInfo {
    pub(super) profile: u8,
    pub(super) level: u8,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frame_rate: (u32, u32),
    /// Temporal layers; 0 when unknown.
    pub(super) temporal_layers: u8,
}

/// Reads an SPS NAL unit.
pub(super) fn read(codec: Codec, nal: &[u8]) -> SpsInfo {
    match codec {
        Codec::H264 => h264(nal),
        Codec::H265 => h265(nal).unwrap_or_default(),
    }
}

/// H.264 §7.3.2.1. Profile and level stand at fixed places, so they survive when the rest cannot be read.
fn h264(nal: &[u8]) -> SpsInfo {
    let &[_, profile, _, level, ..] = nal else {
        return SpsInfo::default();
    };
    let unread = SpsInfo { profile, level, ..SpsInfo::default() };
    let Some(sps) = parse_h264(nal) else {
        return unread;
    };
    let (width, height) = sps.pixel_dimensions().unwrap_or_default();
    SpsInfo { width, height, frame_rate: h264_frame_rate(&sps), ..unread }
}

/// Some cameras (Reolink doorbell) append bytes to the SPS, which a strict parser refuses: they are cut off.
fn parse_h264(nal: &[u8]) -> Option<SeqParameterSet> {
    let rbsp = decode_nal(nal).ok()?;
    (0..=TRAILING_JUNK_MAX).find_map(|junk| {
        let len = rbsp.len().checked_sub(junk)?;
        SeqParameterSet::from_bits(BitReader::new(rbsp.get(..len)?)).ok()
    })
}

/// H.264 §E.2.1: a frame lasts two ticks.
fn h264_frame_rate(sps: &SeqParameterSet) -> (u32, u32) {
    let timing = sps.vui_parameters.as_ref().and_then(|vui| vui.timing_info.as_ref());
    let rate = timing.and_then(|timing| Some((timing.time_scale, timing.num_units_in_tick.checked_mul(2)?)));
    rate.map_or((0, 0), |(numerator, denominator)| reduce(numerator, denominator))
}

fn reduce(numerator: u32, denominator: u32) -> (u32, u32) {
    let (mut a, mut b) = (numerator, denominator);
    while let Some(remainder) = a.checked_rem(b) {
        (a, b) = (b, remainder);
    }
    if numerator == 0 || denominator == 0 { (0, 0) } else { (numerator / a, denominator / a) }
}

/// H.265 §7.3.2.2, up to the conformance window. The frame rate stands behind much that would have to be read
/// only to be passed over; it stays unknown.
fn h265(nal: &[u8]) -> Option<SpsInfo> {
    let mut bits = Bits::new(nal);
    bits.skip(16 + 4)?;
    let sub_layers_minus1 = u8::try_from(bits.bits(3)?).ok()?;
    bits.skip(1)?;
    let (profile, level) = profile_tier_level(&mut bits, sub_layers_minus1)?;
    let known =
        SpsInfo { profile, level, temporal_layers: (sub_layers_minus1 + 1).min(7), ..SpsInfo::default() };
    let size = h265_size(&mut bits).unwrap_or_default();
    Some(SpsInfo { width: size.0, height: size.1, ..known })
}

/// From the start of an H.265 SPS to its id.
pub(super) fn skip_to_h265_id(bits: &mut Bits<'_>) -> Option<()> {
    bits.skip(16 + 4)?;
    let sub_layers_minus1 = u8::try_from(bits.bits(3)?).ok()?;
    bits.skip(1)?;
    profile_tier_level(bits, sub_layers_minus1).map(|_| ())
}

/// H.265 §7.3.3; the general profile and level.
fn profile_tier_level(bits: &mut Bits<'_>, sub_layers_minus1: u8) -> Option<(u8, u8)> {
    bits.skip(2 + 1)?;
    let profile = u8::try_from(bits.bits(5)?).ok()?;
    bits.skip(32 + 48)?;
    let level = bits.byte()?;
    let mut skipped = 0;
    for _ in 0..sub_layers_minus1 {
        skipped += bits.bit()? * 88 + bits.bit()? * 8;
    }
    if sub_layers_minus1 > 0 {
        bits.skip(2 * (8 - u32::from(sub_layers_minus1)))?;
    }
    bits.skip(skipped)?;
    Some((profile, level))
}

/// The luma size within the conformance window, whose offsets count chroma samples.
fn h265_size(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    bits.ue()?;
    let (unit_x, unit_y) = match bits.ue()? {
        0 => (1, 1),
        1 => (2, 2),
        2 => (2, 1),
        3 => {
            bits.skip(1)?;
            (1, 1)
        }
        _ => return None,
    };
    let (width, height) = (bits.ue()?, bits.ue()?);
    if bits.bit()? == 0 {
        return Some((width, height));
    }
    let mut crop = |unit: u32| bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit);
    let (crop_x, crop_y) = (crop(unit_x)?, crop(unit_y)?);
    Some((width.checked_sub(crop_x)?, height.checked_sub(crop_y)?))
}

/// Bytes behind the SPS that are cut off in search of its end.
const TRAILING_JUNK_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// 1280x720, High, level 3.1, 25 frames a second: x264.
    const H264: &[u8] = &[
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10,
        0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x83, 0x19, 0x60,
    ];
    /// 1920x1080 in 1920x1088, Main, level 4.
    const H265: &[u8] = &[
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00,
        0x78, 0xa0, 0x03, 0xc0, 0x80, 0x11, 0x07, 0xcb, 0x96, 0xb4, 0xa4, 0x25, 0x92, 0xe3, 0x01, 0x6a, 0x02,
        0x02, 0x02, 0x08, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x00, 0x03, 0x00, 0xc8, 0x40,
    ];

    #[test]
    fn reads_h264() {
        let info = read(Codec::H264, H264);
        assert_eq!((info.profile, info.level, info.width, info.height), (100, 31, 1280, 720));
        assert_eq!(info.frame_rate, (25, 1));
    }

    #[test]
    fn junk_behind_an_sps_does_no_harm() {
        let junk = [H264, &[0x55]].concat();
        assert_eq!(read(Codec::H264, &junk), read(Codec::H264, H264));
    }

    #[test]
    fn reads_h265() {
        let info = read(Codec::H265, H265);
        assert_eq!((info.profile, info.level, info.width, info.height), (1, 120, 1920, 1080));
        assert_eq!(info.temporal_layers, 1);
    }

    #[test]
    fn keeps_what_was_read_before_the_end() {
        let cut = read(Codec::H264, &H264[..5]);
        assert_eq!((cut.profile, cut.level, cut.width), (100, 31, 0));
        let cut = read(Codec::H265, &H265[..19]);
        assert_eq!((cut.profile, cut.level, cut.width), (1, 120, 0));
    }

    #[test]
    fn no_flip_panics() {
        for (codec, sps) in [(Codec::H264, H264), (Codec::H265, H265)] {
            for position in 0..sps.len() {
                for value in 0..=255 {
                    let mut bytes = sps.to_vec();
                    bytes[position] = value;
                    read(codec, &bytes);
                    read(codec, &bytes[..position]);
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(tail in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120), keep in 0_usize..48) {
            for (codec, sps) in [(Codec::H264, H264), (Codec::H265, H265)] {
                let bytes = [&sps[..keep.min(sps.len())], &tail].concat();
                read(codec, &bytes);
            }
        }
    }

    #[test]
    fn fractions_are_reduced() {
        assert_eq!(reduce(60_000, 2002), (30_000, 1001));
        assert_eq!((reduce(0, 5), reduce(5, 0), reduce(0, 0)), ((0, 0), (0, 0), (0, 0)));
    }
}
