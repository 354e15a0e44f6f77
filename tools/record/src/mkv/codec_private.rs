//! `CodecPrivate`: a stream's parameter sets as ISO/IEC 14496-15 has them (avcC §5.3.3, hvcC §8.3.3).

use h264_reader::nal::sps::{ChromaFormat, SeqParameterSet};
use h264_reader::rbsp::{BitRead, BitReader, decode_nal};
use ring_abi::layout::Codec;

use super::nal::{self, nal_units};

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecPrivateError {
    /// Matroska files are written of H.264 and H.265.
    #[error("the codec is neither H.264 nor H.265")]
    Codec,
    /// A decoder cannot start without them.
    #[error("a parameter set is missing")]
    Missing,
    /// A set does not fit the record, or there are too many of them.
    #[error("a parameter set is too long, or there are too many")]
    TooLarge,
}

/// `CodecID` of a codec.
///
/// # Errors
/// [`CodecPrivateError::Codec`].
pub(super) const fn codec_id(codec: Codec) -> Result<&'static str, CodecPrivateError> {
    match codec {
        Codec::H264 => Ok("V_MPEG4/ISO/AVC"),
        Codec::H265 => Ok("V_MPEGH/ISO/HEVC"),
        Codec::Unknown => Err(CodecPrivateError::Codec),
    }
}

/// The codec with this `CodecID`.
pub(super) fn codec_of_id(id: &[u8]) -> Codec {
    let is = |codec| codec_id(codec).is_ok_and(|known| known.as_bytes() == id);
    [Codec::H264, Codec::H265].into_iter().find(|codec| is(*codec)).unwrap_or(Codec::Unknown)
}

/// avcC or hvcC of parameter sets in Annex B form.
///
/// # Errors
/// [`CodecPrivateError`].
pub(super) fn codec_private(codec: Codec, parameter_sets: &[u8]) -> Result<Vec<u8>, CodecPrivateError> {
    match codec {
        Codec::H264 => avcc(parameter_sets),
        Codec::H265 => hvcc(parameter_sets),
        Codec::Unknown => Err(CodecPrivateError::Codec),
    }
}

fn avcc(parameter_sets: &[u8]) -> Result<Vec<u8>, CodecPrivateError> {
    let of_type = |wanted| move |unit: &&[u8]| nal::h264_type(unit) == Some(wanted);
    let sps: Vec<&[u8]> = nal_units(parameter_sets).filter(of_type(nal::H264_SPS)).collect();
    let pps: Vec<&[u8]> = nal_units(parameter_sets).filter(of_type(nal::H264_PPS)).collect();
    let Some(&[_, profile, compatibility, level, ..]) = sps.first() else {
        return Err(CodecPrivateError::Missing);
    };
    if pps.is_empty() {
        return Err(CodecPrivateError::Missing);
    }
    // Version 1; the upper bits are reserved and set; NAL units behind lengths of four bytes.
    let mut out = vec![1, *profile, *compatibility, *level, 0xFC | 3];
    out.push(0xE0 | count(&sps, 31)?);
    put_all(&mut out, &sps)?;
    out.push(count(&pps, 255)?);
    put_all(&mut out, &pps)?;
    if matches!(profile, 100 | 110 | 122 | 144)
        && let Some(format) = sps.first().and_then(|sps| h264_format(sps))
    {
        out.extend([0xFC | format.chroma, 0xF8 | format.luma_depth, 0xF8 | format.chroma_depth, 0]);
    }
    Ok(out)
}

/// How samples are coded: `chroma_format_idc`, and bit depths minus 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    chroma: u8,
    luma_depth: u8,
    chroma_depth: u8,
}

fn h264_format(sps: &[u8]) -> Option<Format> {
    let rbsp = decode_nal(sps).ok()?;
    let sps = SeqParameterSet::from_bits(BitReader::new(&*rbsp)).ok()?;
    let info = sps.chroma_info;
    let chroma = match info.chroma_format {
        ChromaFormat::Monochrome => 0,
        ChromaFormat::YUV420 => 1,
        ChromaFormat::YUV422 => 2,
        ChromaFormat::YUV444 => 3,
        ChromaFormat::Invalid(_) => return None,
    };
    Some(Format {
        chroma,
        luma_depth: info.bit_depth_luma_minus8 & 7,
        chroma_depth: info.bit_depth_chroma_minus8 & 7,
    })
}

fn hvcc(parameter_sets: &[u8]) -> Result<Vec<u8>, CodecPrivateError> {
    let kinds = [nal::H265_VPS, nal::H265_SPS, nal::H265_PPS];
    let sets = kinds.map(|kind| -> Vec<&[u8]> {
        nal_units(parameter_sets).filter(|unit| nal::h265_type(unit) == Some(kind)).collect()
    });
    if sets.iter().any(Vec::is_empty) {
        return Err(CodecPrivateError::Missing);
    }
    let [_, sps, _] = &sets;
    let sps = sps.first().and_then(|sps| h265_sps(sps)).ok_or(CodecPrivateError::Missing)?;
    let mut out = vec![1];
    out.extend(sps.profile_tier_level);
    // Reserved bits are set. Segmentation and parallelism are unknown (0), so is the frame rate.
    out.extend([
        0xF0,
        0,
        0xFC,
        0xFC | sps.format.chroma,
        0xF8 | sps.format.luma_depth,
        0xF8 | sps.format.chroma_depth,
    ]);
    out.extend([0, 0]);
    // Lengths of four bytes.
    out.push(sps.temporal_layers << 3 | u8::from(sps.is_nested) << 2 | 3);
    out.push(3);
    for (kind, sets) in kinds.into_iter().zip(&sets) {
        // Complete: all sets are here. (Others may stand in the stream all the same; decoders take both.)
        out.push(0x80 | kind);
        out.push(0);
        out.push(count(sets, 255)?);
        put_all(&mut out, sets)?;
    }
    Ok(out)
}

/// What an hvcC repeats of an SPS.
#[derive(Debug)]
struct H265Sps {
    temporal_layers: u8,
    is_nested: bool,
    /// Profile space, tier and profile; compatibility; constraints; level.
    profile_tier_level: [u8; 12],
    format: Format,
}

/// H.265 §7.3.2.2, up to the bit depths.
fn h265_sps(unit: &[u8]) -> Option<H265Sps> {
    // The header has two bytes, of which `decode_nal` takes one away.
    let rbsp = decode_nal(unit.get(1..)?).ok()?;
    let mut bits = BitReader::new(&*rbsp);
    bits.skip(4, "sps_video_parameter_set_id").ok()?;
    let sub_layers_minus1: u8 = bits.read::<3, u8>("sps_max_sub_layers_minus1").ok()?;
    let is_nested = bits.read_bit("sps_temporal_id_nesting_flag").ok()?;
    let mut profile_tier_level = [0; 12];
    for byte in &mut profile_tier_level {
        *byte = bits.read::<8, u8>("profile_tier_level").ok()?;
    }
    let mut skipped = 0;
    for _ in 0..sub_layers_minus1 {
        skipped += if bits.read_bit("sub_layer_profile_present_flag").ok()? { 88 } else { 0 };
        skipped += if bits.read_bit("sub_layer_level_present_flag").ok()? { 8 } else { 0 };
    }
    if sub_layers_minus1 > 0 {
        skipped += 2 * (8 - u32::from(sub_layers_minus1));
    }
    bits.skip(skipped, "sub_layer profiles and levels").ok()?;
    let format = h265_format(&mut bits)?;
    Some(H265Sps { temporal_layers: (sub_layers_minus1 + 1).min(7), is_nested, profile_tier_level, format })
}

/// From `sps_seq_parameter_set_id` on.
fn h265_format(bits: &mut impl BitRead) -> Option<Format> {
    bits.read_ue("sps_seq_parameter_set_id").ok()?;
    let chroma = u8::try_from(bits.read_ue("chroma_format_idc").ok()?).ok().filter(|chroma| *chroma <= 3)?;
    if chroma == 3 {
        bits.skip(1, "separate_colour_plane_flag").ok()?;
    }
    bits.read_ue("pic_width_in_luma_samples").ok()?;
    bits.read_ue("pic_height_in_luma_samples").ok()?;
    if bits.read_bit("conformance_window_flag").ok()? {
        for _ in 0..4 {
            bits.read_ue("conf_win_offset").ok()?;
        }
    }
    let mut depth = |name| u8::try_from(bits.read_ue(name).ok()?).ok().filter(|depth| *depth <= 7);
    Some(Format {
        chroma,
        luma_depth: depth("bit_depth_luma_minus8")?,
        chroma_depth: depth("bit_depth_chroma_minus8")?,
    })
}

fn count(sets: &[&[u8]], max: u8) -> Result<u8, CodecPrivateError> {
    u8::try_from(sets.len()).ok().filter(|count| *count <= max).ok_or(CodecPrivateError::TooLarge)
}

fn put_all(out: &mut Vec<u8>, sets: &[&[u8]]) -> Result<(), CodecPrivateError> {
    for set in sets {
        let len = u16::try_from(set.len()).map_err(|_| CodecPrivateError::TooLarge)?;
        out.extend(len.to_be_bytes());
        out.extend_from_slice(set);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: [u8; 4] = [0, 0, 0, 1];
    /// 1280x720, High, level 3.1: x264.
    const H264_SPS: &[u8] = &[
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10,
        0x00, 0x00, 0x03, 0x03, 0x20, 0xf1, 0x83, 0x19, 0x60,
    ];
    const H264_PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
    /// 1920x1080 in 1920x1088, Main, level 4.
    const H265_SPS: &[u8] = &[
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00,
        0x78, 0xa0, 0x03, 0xc0, 0x80, 0x11, 0x07, 0xcb, 0x96, 0xb4, 0xa4, 0x25, 0x92, 0xe3, 0x01, 0x6a, 0x02,
        0x02, 0x02, 0x08, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x00, 0x03, 0x00, 0xc8, 0x40,
    ];
    const H265_VPS: &[u8] = &[0x40, 0x01, 0x0c, 0x01];
    const H265_PPS: &[u8] = &[0x44, 0x01, 0xc1, 0x72];

    fn annex_b(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| START.iter().chain(*unit)).copied().collect()
    }

    #[test]
    fn avcc_of_high_profile() {
        let made = codec_private(Codec::H264, &annex_b(&[H264_SPS, H264_PPS])).unwrap();
        let sps_end = 8 + H264_SPS.len();
        assert_eq!(made[..8], [1, 100, 0, 31, 0xFF, 0xE1, 0, 26]);
        assert_eq!(made[8..sps_end], *H264_SPS);
        assert_eq!(made[sps_end..sps_end + 3], [1, 0, 6]);
        assert_eq!(made[sps_end + 3..sps_end + 9], *H264_PPS);
        // 4:2:0, eight bits, no extension.
        assert_eq!(made[sps_end + 9..], [0xFD, 0xF8, 0xF8, 0]);
    }

    #[test]
    fn hvcc_of_main_profile() {
        let made = codec_private(Codec::H265, &annex_b(&[H265_VPS, H265_SPS, H265_PPS])).unwrap();
        assert_eq!(made[..13], [1, 0x01, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0x78]);
        assert_eq!(made[13..23], [0xF0, 0, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0, 0x0F, 3]);
        assert_eq!(made[23..32], [0x80 | 32, 0, 1, 0, 4, 0x40, 0x01, 0x0c, 0x01]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let of = |codec, units: &[&[u8]]| codec_private(codec, &annex_b(units)).unwrap_err();
        assert_eq!(of(Codec::H264, &[]), CodecPrivateError::Missing);
        assert_eq!(of(Codec::H264, &[H264_SPS]), CodecPrivateError::Missing);
        assert_eq!(of(Codec::H264, &[H264_PPS]), CodecPrivateError::Missing);
        assert_eq!(of(Codec::H264, &[&H264_SPS[..3], H264_PPS]), CodecPrivateError::Missing);
        assert_eq!(of(Codec::H265, &[H265_SPS, H265_PPS]), CodecPrivateError::Missing);
        assert_eq!(of(Codec::H265, &[H265_VPS, &H265_SPS[..12], H265_PPS]), CodecPrivateError::Missing);
        assert_eq!(of(Codec::Unknown, &[H264_SPS, H264_PPS]), CodecPrivateError::Codec);
        assert_eq!(
            of(Codec::H264, &[[H264_SPS].repeat(32), vec![H264_PPS]].concat()),
            CodecPrivateError::TooLarge
        );
    }

    #[test]
    fn no_flip_panics() {
        for (codec, units) in
            [(Codec::H264, vec![H264_SPS, H264_PPS]), (Codec::H265, vec![H265_VPS, H265_SPS, H265_PPS])]
        {
            let sets = annex_b(&units);
            for at in 0..sets.len() {
                for value in 0..=255 {
                    let mut bytes = sets.clone();
                    bytes[at] = value;
                    let _ = codec_private(codec, &bytes);
                }
                let _ = codec_private(codec, &sets[..at]);
            }
        }
    }
}
