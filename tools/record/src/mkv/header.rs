//! All that stands before the first cluster, in a fixed number of bytes: what is only known at the end has its room from the begin.
//!
//! ```text
//!  EBML │ Segment │ SeekHead │ Info │ Tracks │ Tags │ Void: HeadNote │ Cues, or a Void in their place │ Cluster ...
//!         size?     Cues?      Duration?                                └── up to a multiple of 4096 ──┘
//! ```
//! While a file is written, each `?` is unknown, or a Void of equal length. So the finished header can be written over the first one,
//! and a torn mixture of both is one of them in each sector.

use std::collections::BTreeMap;

use ring_abi::layout::Codec;

use super::codec_private::{CodecPrivateError, codec_id, codec_of_id, codec_private};
use super::cues::Cues;
use super::ebml::{self, Id, binary, master, text, unsigned, void};

/// What a file says of itself before its first unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    codec: Codec,
    codec_private: Vec<u8>,
    width: u32,
    height: u32,
    uuid: u128,
    title: String,
    start_utc_ns: i64,
    tags: Vec<(String, String)>,
    cues_max: usize,
}

/// What the decoder of a track needs.
#[derive(Clone, Copy, Debug)]
pub struct VideoTrack<'a> {
    /// H.264 or H.265.
    pub codec: Codec,
    /// Annex B.
    pub parameter_sets: &'a [u8],
    /// Luma samples a line; 0 unknown.
    pub width: u32,
    /// Lines; 0 unknown.
    pub height: u32,
}

/// What is known of a file once all units are in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending<'a> {
    /// Of the whole file.
    pub(super) file_len: u64,
    pub(super) duration_ticks: u64,
    pub(super) cues: &'a Cues,
}

impl Header {
    /// A header for a file that begins at `start_utc_ns`; `uuid` is the file's own.
    ///
    /// # Errors
    /// [`CodecPrivateError`] when a decoder could not start with these parameter sets.
    pub fn new(
        track: VideoTrack<'_>,
        uuid: u128,
        title: &str,
        start_utc_ns: i64,
    ) -> Result<Self, CodecPrivateError> {
        Ok(Self {
            codec: track.codec,
            codec_private: codec_private(track.codec, track.parameter_sets)?,
            width: track.width,
            height: track.height,
            uuid,
            title: title.to_owned(),
            start_utc_ns,
            tags: Vec::new(),
            cues_max: CUES_DEFAULT,
        })
    }

    /// A header for a file of the same track as another's.
    pub fn like(facts: &HeaderFacts, uuid: u128, title: &str, start_utc_ns: i64) -> Self {
        Self {
            codec: facts.codec,
            codec_private: facts.codec_private.clone(),
            width: facts.width,
            height: facts.height,
            uuid,
            title: title.to_owned(),
            start_utc_ns,
            tags: Vec::new(),
            cues_max: CUES_DEFAULT,
        }
    }

    /// Adds a tag about the whole file.
    #[must_use]
    pub fn tag(mut self, name: &str, value: &str) -> Self {
        self.tags.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves room for this many seek points.
    #[must_use]
    pub fn cues_max(mut self, cues_max: usize) -> Self {
        self.cues_max = cues_max.clamp(1, CUES_MAX);
        self
    }

    /// The header's bytes as they stand while the file grows.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = ebml_head();
        ebml::SEGMENT.put(&mut out);
        out.extend(ebml::SIZE_UNKNOWN);
        let data_off = out.len();
        let (info, tracks, tags) = (self.info(), self.tracks(), self.tags());
        let info_at = SEEK_HEAD_HEAD_LEN + 4 * SEEK_LEN;
        let tracks_at = info_at + info.len();
        let tags_at = tracks_at + tracks.len();

        master(&mut out, ebml::SEEK_HEAD, |out| {
            seek(out, ebml::INFO, info_at);
            seek(out, ebml::TRACKS, tracks_at);
            seek(out, ebml::TAGS, tags_at);
            void(out, SEEK_LEN);
        });
        debug_assert_eq!(out.len(), data_off + info_at, "the seek head's length is a constant");
        out.extend(info);
        out.extend(tracks);
        out.extend(tags);
        let cues_at = out.len() + HEAD_NOTE_LEN;
        let header_len = (cues_at + Cues::len_of(self.cues_max)).next_multiple_of(ALIGN);
        HeadNote::put(&mut out, header_len);
        void(&mut out, header_len - cues_at);
        out
    }

    fn info(&self) -> Vec<u8> {
        let mut out = Vec::new();
        master(&mut out, ebml::INFO, |out| {
            // First, so that it shares a sector with the segment's size.
            void(out, DURATION_LEN);
            unsigned(out, ebml::TIMESTAMP_SCALE, TICK_NS.unsigned_abs());
            binary(out, ebml::SEGMENT_UUID, &self.uuid.to_be_bytes());
            let since_2001 = self.start_utc_ns.saturating_sub(EPOCH_2001_S * 1_000_000_000);
            binary(out, ebml::DATE_UTC, &since_2001.to_be_bytes());
            text(out, ebml::TITLE, &self.title);
            text(out, ebml::MUXING_APP, APP);
            text(out, ebml::WRITING_APP, APP);
        });
        out
    }

    fn tracks(&self) -> Vec<u8> {
        let mut out = Vec::new();
        master(&mut out, ebml::TRACKS, |out| {
            master(out, ebml::TRACK_ENTRY, |out| {
                unsigned(out, ebml::TRACK_NUMBER, VIDEO_TRACK.into());
                // Not zero, and no more than that.
                unsigned(out, ebml::TRACK_UID, VIDEO_TRACK.into());
                unsigned(out, ebml::TRACK_TYPE, 1);
                unsigned(out, ebml::FLAG_LACING, 0);
                text(out, ebml::LANGUAGE, "und");
                // `new` has seen that there is one.
                text(out, ebml::CODEC_ID, codec_id(self.codec).unwrap_or_default());
                binary(out, ebml::CODEC_PRIVATE, &self.codec_private);
                master(out, ebml::VIDEO, |out| {
                    unsigned(out, ebml::PIXEL_WIDTH, self.width.max(1).into());
                    unsigned(out, ebml::PIXEL_HEIGHT, self.height.max(1).into());
                });
            });
        });
        out
    }

    fn tags(&self) -> Vec<u8> {
        let mut out = Vec::new();
        master(&mut out, ebml::TAGS, |out| {
            master(out, ebml::TAG, |out| {
                master(out, ebml::TARGETS, |_| {});
                for (name, value) in &self.tags {
                    master(out, ebml::SIMPLE_TAG, |out| {
                        text(out, ebml::TAG_NAME, name);
                        text(out, ebml::TAG_STRING, value);
                    });
                }
            });
        });
        out
    }
}

/// A header in memory, found whole: ours to finish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrittenHeader {
    bytes: Vec<u8>,
    places: Places,
}

/// What a file's header says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderFacts {
    /// When it begins.
    pub start_utc_ns: i64,
    /// What it is coded in.
    pub codec: Codec,
    /// avcC or hvcC.
    pub codec_private: Vec<u8>,
    /// Luma samples a line; 1 when it was unknown.
    pub width: u32,
    /// Lines; the same.
    pub height: u32,
    /// Names and values.
    pub tags: BTreeMap<String, String>,
}

/// Where in a header that is what is known at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Places {
    /// Content of the segment.
    data_off: usize,
    duration_at: usize,
    /// The Void with the note.
    note_at: usize,
    cues_at: usize,
    header_len: usize,
}

impl WrittenHeader {
    /// Reads a header from the bytes that a file begins with: one that is being written, finished, or a mixture of both. `None` when it is
    /// none of ours, or torn. `begin` holds at least [`HEADER_LEN_MAX`] bytes, or the whole file.
    pub(super) fn read(begin: &[u8]) -> Option<Self> {
        let places = Places::find(begin)?;
        let mut bytes = begin.get(..places.header_len)?.to_vec();
        places.forget_ending(&mut bytes)?;
        let (header, note) = bytes.split_at_checked(places.note_at)?;
        let crc = note.get(VOID_HEAD_LEN..)?.strip_prefix(&NOTE_MAGIC)?.get(8..12)?;
        (crc32fast::hash(header).to_le_bytes() == crc).then_some(Self { bytes, places })
    }

    pub(super) const fn len(&self) -> usize {
        self.places.header_len
    }

    /// What it says. `None` when it is not as we write them.
    pub(super) fn facts(&self) -> Option<HeaderFacts> {
        let content = self.bytes.get(self.places.data_off..self.places.note_at)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let info = ebml::find(content, ebml::INFO)?;
        let date = ebml::number(ebml::find(info, ebml::DATE_UTC)?)?.cast_signed();
        let track = ebml::find(ebml::find(content, ebml::TRACKS)?, ebml::TRACK_ENTRY)?;
        let video = ebml::find(track, ebml::VIDEO)?;
        let size = |id| u32::try_from(ebml::number(ebml::find(video, id)?)?).ok();
        let tags = ebml::elements(ebml::find(ebml::find(content, ebml::TAGS)?, ebml::TAG)?)
            .filter(|(id, _)| *id == ebml::SIMPLE_TAG)
            .filter_map(|(_, tag)| {
                Some((text(ebml::find(tag, ebml::TAG_NAME)?), text(ebml::find(tag, ebml::TAG_STRING)?)))
            });
        Some(HeaderFacts {
            start_utc_ns: date.saturating_add(EPOCH_2001_S * 1_000_000_000),
            codec: codec_of_id(ebml::find(track, ebml::CODEC_ID)?),
            codec_private: ebml::find(track, ebml::CODEC_PRIVATE)?.to_vec(),
            width: size(ebml::PIXEL_WIDTH)?,
            height: size(ebml::PIXEL_HEIGHT)?,
            tags: tags.collect(),
        })
    }

    /// Room for so many seek points.
    pub(super) const fn cues_max(&self) -> usize {
        Cues::max_of(self.places.header_len - self.places.cues_at)
    }

    /// The header of the finished file.
    pub(super) fn finish(mut self, ending: Ending<'_>) -> Vec<u8> {
        let Places { data_off, duration_at, cues_at, header_len, .. } = self.places;
        put_at(
            &mut self.bytes,
            data_off - 8,
            &ebml::size_of_eight(ending.file_len.saturating_sub(data_off as u64)),
        );
        let mut element = Vec::new();
        if !ending.cues.points().is_empty() {
            seek(&mut element, ebml::CUES, cues_at - data_off);
            put_at(&mut self.bytes, data_off + CUES_SEEK_OFF, &element);
        }
        element.clear();
        binary(&mut element, ebml::DURATION, &ticks_as_float(ending.duration_ticks).to_be_bytes());
        put_at(&mut self.bytes, duration_at, &element);
        element.clear();
        ending.cues.put(&mut element, data_off as u64);
        let left = header_len.saturating_sub(cues_at + element.len());
        void(&mut element, left);
        put_at(&mut self.bytes, cues_at, &element);
        self.bytes
    }
}

impl Places {
    fn find(begin: &[u8]) -> Option<Self> {
        let head = ebml_head();
        let rest = begin.strip_prefix(&*head)?;
        let segment = ebml::head(rest).filter(|segment| segment.id == ebml::SEGMENT && segment.len == 12)?;
        let data_off = head.len() + segment.len;
        let mut at = data_off;
        let mut step = |id: Id| {
            let head = ebml::head(begin.get(at..)?).filter(|head| head.id == id)?;
            let content = at + head.len;
            at = content
                .checked_add(usize::try_from(head.size?).ok()?)
                .filter(|end| *end <= HEADER_LEN_MAX)?;
            Some(content)
        };
        step(ebml::SEEK_HEAD)?;
        let duration_at = step(ebml::INFO)?;
        step(ebml::TRACKS)?;
        step(ebml::TAGS)?;
        let note = begin.get(step(ebml::VOID)?..)?.strip_prefix(&NOTE_MAGIC)?;
        let header_len = u64::from_le_bytes(*note.first_chunk()?);
        let header_len =
            usize::try_from(header_len).ok().filter(|len| *len <= HEADER_LEN_MAX && *len > at)?;
        Some(Self { data_off, duration_at, note_at: at - HEAD_NOTE_LEN, cues_at: at, header_len })
    }

    /// Puts back what stood there while the file was written.
    fn forget_ending(&self, bytes: &mut [u8]) -> Option<()> {
        put_at(bytes, self.data_off - 8, &ebml::SIZE_UNKNOWN);
        for (at, len) in [
            (self.data_off + CUES_SEEK_OFF, SEEK_LEN),
            (self.duration_at, DURATION_LEN),
            (self.cues_at, self.header_len.checked_sub(self.cues_at)?),
        ] {
            let mut empty = Vec::new();
            void(&mut empty, len);
            put_at(bytes, at, &empty);
        }
        Some(())
    }
}

/// What the note says, in a Void of its own in front of the Cues: the header's length, and the checksum of what is before the note, as it
/// stands while the file is written.
struct HeadNote;

impl HeadNote {
    fn put(out: &mut Vec<u8>, header_len: usize) {
        let crc = crc32fast::hash(out);
        ebml::void_head(out, HEAD_NOTE_LEN);
        out.extend(NOTE_MAGIC);
        out.extend((header_len as u64).to_le_bytes());
        out.extend(crc.to_le_bytes());
    }
}

fn put_at(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..new.len())) {
        place.copy_from_slice(new);
    }
}

fn ebml_head() -> Vec<u8> {
    let mut out = Vec::new();
    master(&mut out, ebml::EBML, |out| {
        unsigned(out, ebml::EBML_VERSION, 1);
        unsigned(out, ebml::EBML_READ_VERSION, 1);
        unsigned(out, ebml::EBML_MAX_ID_LENGTH, 4);
        unsigned(out, ebml::EBML_MAX_SIZE_LENGTH, 8);
        text(out, ebml::DOC_TYPE, "matroska");
        // SimpleBlock and what else we write is there since version 2; 4 is what RFC 9559 describes.
        unsigned(out, ebml::DOC_TYPE_VERSION, 4);
        unsigned(out, ebml::DOC_TYPE_READ_VERSION, 2);
    });
    out
}

fn seek(out: &mut Vec<u8>, id: Id, position: usize) {
    let before = out.len();
    master(out, ebml::SEEK, |out| {
        binary(out, ebml::SEEK_ID, &id.0.to_be_bytes());
        binary(out, ebml::SEEK_POSITION, &(position as u64).to_be_bytes());
    });
    debug_assert_eq!(out.len() - before, SEEK_LEN, "all ids are of four bytes, all positions of eight");
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ticks are 28,000 years")]
const fn ticks_as_float(ticks: u64) -> f64 {
    ticks as f64
}

/// A tick of the file's timestamps: 0.1 ms. No fraction of a camera's 90 kHz is lost that a player could show, and a cluster's blocks
/// may lie 3.2 s apart.
pub const TICK_NS: i64 = 100_000;
/// The one track's number.
pub(super) const VIDEO_TRACK: u8 = 1;
/// What headers and flushed pieces are a multiple of: the block of every disk that can be had, as O_DIRECT wants it.
pub const ALIGN: usize = 4096;

const SEEK_HEAD_HEAD_LEN: usize = 4 + 1;
const SEEK_LEN: usize = 3 + 7 + 11;
const DURATION_LEN: usize = 2 + 1 + 8;
const NOTE_MAGIC: [u8; 8] = *b"VMSHEAD1";
const VOID_HEAD_LEN: usize = 2;
const HEAD_NOTE_LEN: usize = VOID_HEAD_LEN + 8 + 8 + 4;
/// Where in the segment's content the seek head's entry of the Cues is.
const CUES_SEEK_OFF: usize = SEEK_HEAD_HEAD_LEN + 3 * SEEK_LEN;
/// Longest header: all parameter sets that the ring ABI carries, tags, and [`CUES_MAX`] seek points.
pub(super) const HEADER_LEN_MAX: usize = 4 << 20;
/// 2001-01-01, which `DateUTC` counts from.
const EPOCH_2001_S: i64 = 978_307_200;
const APP: &str = concat!("vms-record ", env!("CARGO_PKG_VERSION"));
/// A minute with a keyframe a second, and as many again.
const CUES_DEFAULT: usize = 128;
/// More than that is not read at once by any player.
const CUES_MAX: usize = 1 << 16;
