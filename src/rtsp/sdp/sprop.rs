//! `a=fmtp` parameters: parameter sets in base64 (RFC 6184 section 8.1, RFC 7798 section 7.1).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::codec::Codec;
use crate::limits::{PARAMETER_SET_LEN_MAX, SDP_SPROP_LEN_MAX};

/// The value of one parameter; names compare without regard to case, empty ones count as missing.
pub(super) fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(key, value)| key.trim().eq_ignore_ascii_case(name) && !value.trim().is_empty())
        .map(|(_, value)| value.trim())
}

/// The parameter sets that can be used: what is no base64, too long or no parameter set of this codec is left
/// out, since the stream usually carries its own.
pub(super) fn parameter_sets(codec: Codec, parameters: &str) -> Vec<Vec<u8>> {
    let names: &[&str] = match codec {
        Codec::H264 => &["sprop-parameter-sets"],
        Codec::H265 => &["sprop-vps", "sprop-sps", "sprop-pps"],
    };
    let mut left = SDP_SPROP_LEN_MAX;
    let mut sets = Vec::new();
    for text in names.iter().filter_map(|name| parameter(parameters, name)).flat_map(|value| value.split(','))
    {
        let Some(set) = decode(codec, text) else { continue };
        let Some(rest) = left.checked_sub(set.len()) else { break };
        left = rest;
        sets.push(set);
    }
    sets
}

fn decode(codec: Codec, text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_matches('"');
    if text.len() / 4 * 3 > PARAMETER_SET_LEN_MAX {
        return None;
    }
    let bytes = TOLERANT.decode(text).ok()?;
    let nal = without_start_code(&bytes);
    is_parameter_set(codec, nal).then(|| nal.to_vec())
}

/// Some cameras put an Annex B start code in front.
fn without_start_code(bytes: &[u8]) -> &[u8] {
    match bytes {
        [0, 0, 0, 1, nal @ ..] | [0, 0, 1, nal @ ..] => nal,
        nal => nal,
    }
}

fn is_parameter_set(codec: Codec, nal: &[u8]) -> bool {
    match (codec, nal) {
        (Codec::H264, [header, _, ..]) => matches!(header & 0x1f, 7 | 8),
        (Codec::H265, [header, _, _, ..]) => matches!(header >> 1 & 0x3f, 32..=34),
        (Codec::H264 | Codec::H265, _) => false,
    }
}

/// Cameras leave the padding out or put too much information into the last character.
const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
