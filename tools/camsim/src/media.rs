//! A clip, loaded once and shared by all cameras that show it: access units ready to be sent.

use std::path::{Path, PathBuf};

use vms_stamp::{Codec, StampNal, padding_nal, unit_crc};

use crate::config::Fps;
use crate::nal::{self, Role};
use crate::packetize::Payloads;
use crate::split::{self, AccessUnit};

/// A clip and what its SDP says about it.
#[derive(Debug)]
pub(crate) struct Media {
    pub(crate) codec: Codec,
    pub(crate) fps: Fps,
    /// At least one; the first is a random-access point.
    pub(crate) units: Vec<Unit>,
    /// Parameter sets of the first picture, in stream order.
    pub(crate) parameter_sets: Vec<Vec<u8>>,
}

/// An access unit as RTP payloads.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) key: bool,
    pub(crate) payloads: Payloads,
    /// The payload whose bytes are replaced by a patched stamp, and the stamp to patch.
    pub(crate) stamp: Option<(usize, StampNal)>,
}

/// What is added to the units of a clip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Additions {
    /// A stamp in each unit.
    pub(crate) stamp: bool,
    /// Padding up to this mean bit rate, in bits per second; nothing is added to a clip that has more.
    pub(crate) bitrate: Option<u64>,
}

/// Why a clip cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The name of the file does not end in .264, .h264, .265, .h265 or .hevc.
    #[error("{path}: the codec follows from the extension .264, .h264, .265, .h265 or .hevc")]
    UnknownExtension {
        /// The file.
        path: PathBuf,
    },
    /// The stream holds no picture.
    #[error("no access unit found; an Annex B elementary stream is expected")]
    NoPicture,
    /// The stream does not start with a random-access point and parameter sets.
    #[error("the first picture must be a key frame with parameter sets")]
    NoKeyFrame,
}

impl Media {
    /// Reads an elementary stream from a file.
    pub(crate) fn load(path: &Path, fps: Fps, additions: Additions) -> Result<Self, MediaError> {
        let codec = codec_of(path).ok_or_else(|| MediaError::UnknownExtension { path: path.into() })?;
        let stream = std::fs::read(path).map_err(|source| MediaError::Read { path: path.into(), source })?;
        Self::parse(&stream, codec, fps, additions)
    }

    /// Takes an elementary stream apart.
    pub(crate) fn parse(
        stream: &[u8],
        codec: Codec,
        fps: Fps,
        additions: Additions,
    ) -> Result<Self, MediaError> {
        let mut units = split::access_units(stream, codec);
        let first = units.first().ok_or(MediaError::NoPicture)?;
        let parameter_sets: Vec<Vec<u8>> =
            first.nals.iter().filter(|nal| is_parameter_set(nal, codec)).map(|nal| nal.to_vec()).collect();
        if !first.key || parameter_sets.is_empty() {
            return Err(MediaError::NoKeyFrame);
        }
        repeat_parameter_sets(&mut units, codec);
        let level = additions.bitrate.map_or(0, |bitrate| padding_level(&units, bitrate, fps));
        let units = units
            .iter()
            .enumerate()
            .map(|(index, unit)| Unit::new(unit, codec, padding(unit, codec, level, index), additions.stamp))
            .collect();
        Ok(Self { codec, fps, units, parameter_sets })
    }

    /// Unit number `position` of the endless stream.
    pub(crate) fn unit(&self, position: u64) -> &Unit {
        let index = usize::try_from(position % self.units.len() as u64).unwrap_or_default();
        &self.units[index]
    }
}

impl Unit {
    fn new(unit: &AccessUnit<'_>, codec: Codec, padding: Option<Vec<u8>>, stamped: bool) -> Self {
        let pictures = unit.nals.iter().position(|nal| is_slice(nal, codec)).unwrap_or_default();
        let (before, pictures) = unit.nals.split_at(pictures);
        let before: Vec<&[u8]> = before.iter().copied().chain(padding.as_deref()).collect();

        let mut payloads = Payloads::default();
        payloads.push_unit(&before, codec);
        let stamp = stamped.then(|| {
            let crc = unit_crc(before.iter().chain(pictures).copied());
            let stamp = StampNal::new(codec, crc);
            payloads.push_nal(stamp.bytes(), codec);
            (payloads.ranges.len() - 1, stamp)
        });
        payloads.push_unit(pictures, codec);
        Self { key: unit.key, payloads, stamp }
    }
}

/// Gives each key frame without parameter sets those that were last seen, so that a reader can start at any of them.
fn repeat_parameter_sets(units: &mut [AccessUnit<'_>], codec: Codec) {
    let mut last = Vec::new();
    for unit in units {
        let own: Vec<&[u8]> = unit.nals.iter().copied().filter(|nal| is_parameter_set(nal, codec)).collect();
        if !own.is_empty() {
            last = own;
        } else if unit.key {
            // Behind an access unit delimiter, which must stand first.
            let at = usize::from(unit.nals.first().is_some_and(|nal| is_delimiter(nal, codec)));
            unit.nals.splice(at..at, last.iter().copied());
        }
    }
}

/// The size in bytes to which every smaller unit is padded, so that the clip's mean becomes `bitrate`.
fn padding_level(units: &[AccessUnit<'_>], bitrate: u64, fps: Fps) -> usize {
    let mean = bitrate.saturating_mul(fps.denominator.get().into()) / 8 / u64::from(fps.numerator.get());
    let wanted = mean.saturating_mul(units.len() as u64);
    let padded = |level: usize| units.iter().map(|unit| size(unit).max(level) as u64).sum::<u64>();
    let (mut low, mut high) = (0, UNIT_LEN_MAX);
    while low < high {
        let middle = low.midpoint(high + 1);
        if padded(middle) <= wanted { low = middle } else { high = middle - 1 }
    }
    low
}

fn padding(unit: &AccessUnit<'_>, codec: Codec, level: usize, index: usize) -> Option<Vec<u8>> {
    let len = level.checked_sub(size(unit))?;
    let seed = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    padding_nal(codec, len, seed).or_else(|| padding_nal(codec, len + 1, seed))
}

fn size(unit: &AccessUnit<'_>) -> usize {
    unit.nals.iter().map(|nal| nal.len()).sum()
}

fn is_parameter_set(nal: &[u8], codec: Codec) -> bool {
    nal::role(nal, codec) == Some(Role::ParameterSet)
}

fn is_slice(nal: &[u8], codec: Codec) -> bool {
    matches!(nal::role(nal, codec), Some(Role::Slice { .. }))
}

fn is_delimiter(nal: &[u8], codec: Codec) -> bool {
    match codec {
        Codec::H264 => nal.first().is_some_and(|byte| byte & 0x1f == 9),
        Codec::H265 => nal::h265_type(nal) == Some(35),
    }
}

fn codec_of(path: &Path) -> Option<Codec> {
    match path.extension()?.to_str()? {
        "264" | "h264" => Some(Codec::H264),
        "265" | "h265" | "hevc" => Some(Codec::H265),
        _ => None,
    }
}

/// No unit is padded beyond this; larger than any that a reader accepts.
pub(crate) const UNIT_LEN_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = &[0, 0, 1, 0x67, 1, 2, 3, 0, 0, 1, 0x68, 1, 0, 0, 1, 0x65, 0x88, 1, 2, 3];
    const BARE_KEY: &[u8] = &[0, 0, 1, 0x09, 0x10, 0, 0, 1, 0x65, 0x88, 9];
    const OTHER: &[u8] = &[0, 0, 1, 0x41, 0x9a, 4];

    fn parse(stream: &[u8], additions: Additions) -> Result<Media, MediaError> {
        Media::parse(stream, Codec::H264, Fps::default(), additions)
    }

    #[test]
    fn every_key_frame_carries_parameter_sets() {
        let media = parse(&[KEY, OTHER, BARE_KEY].concat(), Additions::default()).unwrap();
        assert_eq!(media.parameter_sets, [&[0x67, 1, 2, 3][..], &[0x68, 1]]);
        let last = &media.units[2].payloads;
        assert_eq!(last.bytes[last.ranges[0].clone()], [0x09, 0x10]);
        assert_eq!(last.bytes[last.ranges[1].clone()], [0x78, 0, 4, 0x67, 1, 2, 3, 0, 2, 0x68, 1]);
    }

    #[test]
    fn bit_rate_is_met_on_average() {
        let bitrate = 4_000_000;
        let additions = Additions { stamp: false, bitrate: Some(bitrate) };
        let media = parse(&[KEY, OTHER, OTHER, OTHER].concat(), additions).unwrap();
        let nal_bytes: usize = media.units.iter().map(|unit| unit.payloads.bytes.len()).sum();
        let mean = nal_bytes as u64 * 8 * 25 / 4;
        assert!((bitrate * 99 / 100..bitrate * 102 / 100).contains(&mean), "{mean}");
        let original = parse(&[KEY, OTHER].concat(), Additions { stamp: false, bitrate: Some(8) }).unwrap();
        assert_eq!(original.units[1].payloads.bytes, OTHER[3..]);
    }

    #[test]
    fn the_stamp_stands_before_the_picture_and_covers_the_rest() {
        let media = parse(KEY, Additions { stamp: true, bitrate: Some(100_000) }).unwrap();
        let unit = &media.units[0];
        let (index, mut stamp) = unit.stamp.unwrap();
        assert_eq!(index + 2, unit.payloads.ranges.len());
        stamp.patch(5, 6);
        let padding = &unit.payloads.bytes[unit.payloads.ranges[1].clone()];
        let annex_b: Vec<u8> =
            [&[0x67, 1, 2, 3][..], &[0x68, 1], padding, stamp.bytes(), &[0x65, 0x88, 1, 2, 3]]
                .iter()
                .flat_map(|nal| [&[0, 0, 0, 1], *nal].concat())
                .collect();
        let found = vms_stamp::find(&annex_b, Codec::H264).unwrap();
        assert!(found.crc_ok && found.counter == 5);
    }

    #[test]
    fn refusals() {
        assert!(matches!(parse(b"no stream", Additions::default()), Err(MediaError::NoPicture)));
        assert!(matches!(parse(OTHER, Additions::default()), Err(MediaError::NoKeyFrame)));
        assert!(matches!(parse(BARE_KEY, Additions::default()), Err(MediaError::NoKeyFrame)));
        let path = Path::new("clip.mp4");
        let loaded = Media::load(path, Fps::default(), Additions::default());
        assert!(matches!(loaded, Err(MediaError::UnknownExtension { .. })));
    }
}
