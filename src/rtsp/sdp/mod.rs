//! The part of SDP (RFC 8866) that says what a camera can send and how to ask for it.
//!
//! Only `m=`, `a=rtpmap`, `a=fmtp`, `a=control` and the direction are read. Everything else may be missing,
//! doubled or broken, as it is in cameras, because nothing depends on it.

mod sprop;

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use super::control::redacted;
use crate::codec::Codec;
use crate::limits::{SDP_FORMATS_MAX, SDP_MEDIA_MAX};

/// What a camera described.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SessionDescription {
    /// The session's `a=control`.
    pub control: Option<String>,
    /// The media sections in order, at most [`SDP_MEDIA_MAX`].
    pub media: Vec<Media>,
}

/// One media section, seen through its most useful payload format: the first H.264 or H.265, else the first.
#[derive(Clone, PartialEq, Eq)]
pub struct Media {
    /// What kind of media.
    pub kind: MediaKind,
    /// RTP payload type, 0 to 127; 0 when the section names none.
    pub payload_type: u8,
    /// The codec, if the daemon carries it.
    pub codec: Option<Codec>,
    /// The codec as the camera or the table of static payload types names it (`H264`, `JPEG`); for a person.
    pub encoding: String,
    /// RTP clock in Hz. 90,000 where the camera said nothing usable.
    pub clock_rate: NonZeroU32,
    /// `a=control`.
    pub control: Option<String>,
    /// The camera marked it as going from us to it.
    pub is_backchannel: bool,
    /// Decoded parameter sets (`sprop-…`), without start codes, in the order VPS, SPS, PPS as far as given.
    /// Checked for their NAL type only.
    pub parameter_sets: Vec<Vec<u8>>,
    /// H.265 `sprop-max-don-diff`; above 0, payloads carry decoding order numbers (RFC 7798 section 7.1).
    pub max_don_diff: u16,
}

/// The first word of `m=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// `video`
    Video,
    /// `audio`
    Audio,
    /// `application` and what else cameras invent.
    Other,
}

/// Why a body is no SDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// the description is empty
    #[error("the description is empty")]
    Empty,
    /// the description is not SDP
    #[error("the description is not SDP")]
    NotSdp,
}

/// Why a description has nothing for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoVideo {
    /// the camera offers no video
    #[error("the camera offers no video")]
    NoSection,
    /// the camera's video is {encoding}, which is not supported
    #[error("the camera's video is {encoding}, which is not supported")]
    OtherCodec {
        /// The first video section's codec as the camera names it.
        encoding: String,
    },
}

/// Reads a description. Lines end with LF, CRLF or CR; bytes that are not UTF-8 become U+FFFD.
pub fn parse(body: &[u8]) -> Result<SessionDescription, SdpError> {
    if body.trim_ascii().is_empty() {
        return Err(SdpError::Empty);
    }
    let mut parser = Parser::default();
    for line in body.split(|b| matches!(b, b'\r' | b'\n' | 0)) {
        parser.line(&String::from_utf8_lossy(line));
    }
    parser.finish()
}

impl SessionDescription {
    /// The first video section whose codec the daemon carries. Sections marked as backchannel are left out,
    /// unless all video is: then the camera got the mark wrong.
    pub fn choose_video(&self) -> Result<&Media, NoVideo> {
        let video = || self.media.iter().filter(|media| media.kind == MediaKind::Video);
        let all_marked = video().all(|media| media.is_backchannel);
        let mut candidates = video().filter(|media| all_marked || !media.is_backchannel);
        let first = candidates.clone().next().ok_or(NoVideo::NoSection)?;
        candidates
            .find(|media| media.codec.is_some())
            .ok_or_else(|| NoVideo::OtherCodec { encoding: first.encoding.clone() })
    }
}

impl fmt::Debug for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionDescription")
            .field("control", &self.control.as_deref().map(redacted))
            .field("media", &self.media)
            .finish()
    }
}

/// Cameras repeat the URL that they were asked for in `a=control`, with the password that some want in it.
impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media")
            .field("kind", &self.kind)
            .field("payload_type", &self.payload_type)
            .field("encoding", &self.encoding)
            .field("clock_rate", &self.clock_rate)
            .field("control", &self.control.as_deref().map(redacted))
            .field("is_backchannel", &self.is_backchannel)
            .field("parameter_sets", &self.parameter_sets)
            .field("max_don_diff", &self.max_don_diff)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Parser {
    is_sdp: bool,
    control: Option<String>,
    is_sendonly: bool,
    sections: Vec<Section>,
    /// Sections over the limit are passed over with their attributes.
    is_full: bool,
}

struct Section {
    kind: MediaKind,
    control: Option<String>,
    is_sendonly: Option<bool>,
    formats: Vec<Format>,
}

#[derive(Default)]
struct Format {
    payload_type: u8,
    encoding: Option<String>,
    clock_rate: Option<NonZeroU32>,
    parameters: String,
}

impl Parser {
    fn line(&mut self, line: &str) {
        let line = line.trim();
        let Some((kind, value)) = line.split_once('=') else { return };
        match kind {
            "v" => self.is_sdp = true,
            "m" => self.media(value),
            "a" if !self.is_full => self.attribute(value),
            _ => {}
        }
    }

    fn media(&mut self, value: &str) {
        self.is_sdp = true;
        self.is_full = self.sections.len() >= SDP_MEDIA_MAX;
        if self.is_full {
            return;
        }
        // `video 0 RTP/AVP 96 97`; one camera writes `application/TP-LINK 0 RTP/AVP smart/1/90000`.
        let mut words = value.split_ascii_whitespace();
        let kind = match words.next().unwrap_or("") {
            "video" => MediaKind::Video,
            "audio" => MediaKind::Audio,
            _ => MediaKind::Other,
        };
        let payload_types = words.skip(2).filter_map(payload_type).take(SDP_FORMATS_MAX);
        let formats =
            payload_types.map(|payload_type| Format { payload_type, ..Format::default() }).collect();
        self.sections.push(Section { kind, control: None, is_sendonly: None, formats });
    }

    fn attribute(&mut self, text: &str) {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let (name, value) = (name.trim(), value.trim());
        match name {
            "control" => self.set_control(value),
            "rtpmap" => self.rtpmap(value),
            "fmtp" => self.fmtp(value),
            "sendonly" => self.set_direction(true),
            "recvonly" | "sendrecv" => self.set_direction(false),
            _ => {}
        }
    }

    fn set_control(&mut self, value: &str) {
        let control = self.sections.last_mut().map_or(&mut self.control, |section| &mut section.control);
        *control = Some(value.to_owned());
    }

    fn set_direction(&mut self, is_sendonly: bool) {
        match self.sections.last_mut() {
            Some(section) => section.is_sendonly = Some(is_sendonly),
            None => self.is_sendonly = is_sendonly,
        }
    }

    /// `96 H264/90000`
    fn rtpmap(&mut self, value: &str) {
        let (number, map) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let Some(format) = payload_type(number).and_then(|number| self.format(number)) else { return };
        let mut parts = map.trim().split('/').map(str::trim);
        format.encoding = parts.next().filter(|name| !name.is_empty()).map(|name| name.to_owned());
        format.clock_rate = parts.next().and_then(|rate| rate.parse().ok());
    }

    /// `96 packetization-mode=1;sprop-parameter-sets=…`
    fn fmtp(&mut self, value: &str) {
        let (number, parameters) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let Some(format) = payload_type(number).and_then(|number| self.format(number)) else { return };
        // Repeated lines add up; the body's limit bounds them.
        format.parameters.push(';');
        format.parameters.push_str(parameters);
    }

    /// The format with this payload type: of the current section, or where one camera's attributes stand in
    /// the wrong section, of the latest that has it.
    fn format(&mut self, payload_type: u8) -> Option<&mut Format> {
        self.sections
            .iter_mut()
            .rev()
            .find_map(|section| section.formats.iter_mut().find(|format| format.payload_type == payload_type))
    }

    fn finish(self) -> Result<SessionDescription, SdpError> {
        if !self.is_sdp {
            return Err(SdpError::NotSdp);
        }
        let is_sendonly = self.is_sendonly;
        let media = self.sections.into_iter().map(|section| section.into_media(is_sendonly)).collect();
        Ok(SessionDescription { control: self.control, media })
    }
}

impl Section {
    fn into_media(self, session_is_sendonly: bool) -> Media {
        let known = self.formats.iter().find(|format| format.codec().is_some());
        let format = known.or(self.formats.first());
        let codec = format.and_then(Format::codec);
        let parameters = format.map_or("", |format| format.parameters.as_str());
        Media {
            kind: self.kind,
            payload_type: format.map_or(0, |format| format.payload_type),
            codec,
            encoding: format.map_or(Cow::Borrowed("unknown"), Format::name).into_owned(),
            clock_rate: format.and_then(|format| format.clock_rate).unwrap_or(VIDEO_CLOCK_RATE),
            control: self.control,
            is_backchannel: self.is_sendonly.unwrap_or(session_is_sendonly),
            parameter_sets: codec.map(|codec| sprop::parameter_sets(codec, parameters)).unwrap_or_default(),
            max_don_diff: sprop::parameter(parameters, "sprop-max-don-diff")
                .and_then(|value| value.parse().ok())
                .unwrap_or(0),
        }
    }
}

impl Format {
    fn codec(&self) -> Option<Codec> {
        match self.encoding.as_deref()?.to_ascii_uppercase().as_str() {
            "H264" => Some(Codec::H264),
            "H265" | "HEVC" => Some(Codec::H265),
            _ => None,
        }
    }

    fn name(&self) -> Cow<'_, str> {
        if let Some(encoding) = &self.encoding {
            return Cow::Owned(encoding.chars().take(ENCODING_LEN_MAX).collect());
        }
        match self.payload_type {
            // RFC 3551 table 5.
            26 => Cow::Borrowed("JPEG"),
            28 => Cow::Borrowed("nv"),
            31 => Cow::Borrowed("H261"),
            32 => Cow::Borrowed("MPV"),
            33 => Cow::Borrowed("MP2T"),
            34 => Cow::Borrowed("H263"),
            other => Cow::Owned(format!("payload type {other}")),
        }
    }
}

fn payload_type(text: &str) -> Option<u8> {
    text.trim().parse().ok().filter(|&number| number < 128)
}

/// What RFC 6184 and RFC 7798 prescribe.
const VIDEO_CLOCK_RATE: NonZeroU32 = NonZeroU32::new(90_000).expect("is not zero");
/// Codec names are for a person to read.
const ENCODING_LEN_MAX: usize = 32;

#[cfg(test)]
mod tests;
