//! RTP payloads of H.264 (RFC 6184) and H.265 (RFC 7798) to NAL units, piece by piece.
//!
//! Carried: single NAL units, aggregates (STAP-A, AP), fragments (FU-A, FU), decoding order numbers (H.265, passed
//! over), and Annex B streams where a single NAL unit belongs, whole or in fragments. Absent: the interleaved mode of H.264 (STAP-B,
//! MTAP, FU-B) and PACI, which no camera is known to send; they are dropped as unusable NAL units.

use super::assembler::{Assembler, header_of};
use super::nal::{NalKind, PayloadKind};
use super::{AccessUnitSink, Codec, PacketInfo, Stats, annex_b};
use crate::limits::{RTP_PACKET_LEN_MAX, UNIT_LEN_MAX};

/// Turns the payloads of one stream's packets into access units.
///
/// ```text
/// packet_begin ─▶ packet_bytes* ─▶ packet_end      for each packet, in order
///         flush                                    nothing more comes
/// ```
/// Nothing is allocated per packet or unit, but that a changed parameter set may grow its copy. The result does not
/// depend on how a payload is cut into pieces.
#[derive(Debug)]
pub struct Depacketizer {
    codec: Codec,
    /// Decoding order numbers stand in the payloads.
    has_don: bool,
    units: Assembler,
    marker: bool,
    step: Step,
    packing: PayloadKind,
    /// The payload header, which fragments need beside their own.
    header: [u8; 2],
    /// A header that straddles two pieces.
    carry: [u8; 2],
    carried: usize,
    /// Bytes of the payload that were not taken yet.
    left: usize,
    /// Bytes to be passed over before `step` goes on: decoding order numbers.
    pass: usize,
    /// Bytes of the aggregated NAL unit that were not taken yet.
    nal_left: usize,
    /// A fragmented NAL unit has begun and not ended.
    fragmenting: bool,
    /// The fragment is its NAL unit's last.
    ends: bool,
    last_fragments: LastFragments,
    /// A payload, or the payloads of fragments, in Annex B form; allocated when a camera sends the first.
    byte_stream: Vec<u8>,
    /// The fragmented NAL unit goes to `byte_stream` until it ends, or is seen to be no Annex B stream.
    gathering: bool,
    /// The camera (V380) has sent several NAL units as one, so each is looked through. It costs a copy.
    sends_annex_b: bool,
}

/// Whether the camera says which fragment is a NAL unit's last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastFragments {
    /// It has never said so.
    Unmarked,
    /// It has, and has never been seen not to: a NAL unit without one lacks its end.
    Marked,
    /// Of some. The payloader of webrtc-rs does not when the last is as long as the others.
    SometimesMarked,
}

/// What the next bytes of the payload are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// None of interest: between packets, or the rest is dropped.
    Drop,
    PayloadHeader,
    FragmentHeader,
    AggregateLength,
    /// Header of an aggregated NAL unit.
    NalHeader,
    /// Bytes of a NAL unit.
    Nal,
    /// An Annex B stream, gathered.
    ByteStream,
}

impl Depacketizer {
    /// For a stream of `codec`. `has_don`: the session description has `sprop-max-don-diff` > 0 (RFC 7798 §7.1;
    /// H.265 only).
    pub fn new(codec: Codec, has_don: bool) -> Self {
        Self {
            codec,
            has_don: has_don && codec == Codec::H265,
            units: Assembler::new(codec),
            marker: false,
            step: Step::Drop,
            packing: PayloadKind::Single,
            header: [0; 2],
            carry: [0; 2],
            carried: 0,
            left: 0,
            pass: 0,
            nal_left: 0,
            fragmenting: false,
            ends: false,
            last_fragments: LastFragments::Unmarked,
            byte_stream: Vec::new(),
            gathering: false,
            sends_annex_b: false,
        }
    }

    /// Replaces the known parameter sets by those of a session description: raw NAL units, with or without start
    /// codes. What is no parameter set is passed over.
    pub fn set_parameter_sets<'a>(&mut self, nals: impl IntoIterator<Item = &'a [u8]>) {
        self.units.set_parameter_sets(nals.into_iter());
    }

    /// Begins a packet. May end the unit of the packets before.
    pub fn packet_begin(&mut self, packet: &PacketInfo, sink: &mut impl AccessUnitSink) {
        if packet.lost_before > 0 {
            self.drop_gathered();
        }
        // Asked only when a unit ends: this runs for each packet.
        let cuts_nal = || self.fragmenting && self.last_fragments == LastFragments::Marked;
        if self.units.packet(packet, cuts_nal, sink) {
            self.drop_gathered();
            self.units.stats_mut().fragments_unended +=
                u64::from(self.fragmenting && packet.lost_before == 0);
            self.fragmenting = false;
        } else if packet.lost_before > 0 {
            self.fragmenting = false;
        }
        self.marker = packet.marker;
        self.left = packet.payload_len;
        self.step = Step::PayloadHeader;
        self.carried = 0;
        self.pass = 0;
    }

    /// Takes the next piece of the packet's payload.
    pub fn packet_bytes(&mut self, piece: &[u8], sink: &mut impl AccessUnitSink) {
        let mut input = piece.get(..self.left.min(piece.len())).unwrap_or_default();
        while self.advance(&mut input, sink) {}
    }

    /// Ends the packet. With the marker it ends the unit.
    pub fn packet_end(&mut self, sink: &mut impl AccessUnitSink) {
        match std::mem::replace(&mut self.step, Step::Drop) {
            // What remains behind an aggregate's last NAL unit is padding.
            Step::Drop | Step::AggregateLength => {}
            Step::PayloadHeader | Step::FragmentHeader | Step::NalHeader => {
                self.packing = PayloadKind::Single;
                self.malformed();
            }
            Step::Nal => self.end_of_nal_bytes(),
            Step::ByteStream if self.gathering => self.end_of_gathered_bytes(sink),
            Step::ByteStream => self.split_byte_stream(sink),
        }
        if !self.marker {
            return;
        }
        if self.fragmenting && self.packing == PayloadKind::Fragment {
            // The marker says what the fragment does not: that it is the last (RFC 6184 §5.1, RFC 7798 §4.1).
            self.last_fragments = LastFragments::SometimesMarked;
        }
        self.end_unended_fragment();
        self.units.marker(sink);
    }

    /// Nothing more comes: publishes what is open if it has a picture. A packet that has begun and not ended is one whose rest
    /// is missing.
    pub fn flush(&mut self, sink: &mut impl AccessUnitSink) {
        if self.step != Step::Drop {
            self.units.damage();
        }
        if self.fragmenting || self.step != Step::Drop {
            self.units.cut_nal();
        }
        self.between_packets();
        self.units.flush(sink);
    }

    /// Drops what is open. Parameter sets stay.
    pub fn reset(&mut self, sink: &mut impl AccessUnitSink) {
        self.between_packets();
        self.units.reset(sink);
    }

    /// Bytes that were taken may not have been the camera's: flags the unit that is open.
    pub const fn mark_damaged(&mut self) {
        if self.units.unit_open() {
            self.units.damage();
        }
    }

    /// Whether a unit is open in the sink.
    pub const fn unit_open(&self) -> bool {
        self.units.unit_open()
    }

    /// The codec.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// What was done so far.
    pub const fn stats(&self) -> &Stats {
        self.units.stats()
    }

    fn between_packets(&mut self) {
        self.step = Step::Drop;
        self.drop_gathered();
        self.fragmenting = false;
        self.left = 0;
    }

    /// One step; false when it needs more input.
    fn advance(&mut self, input: &mut &[u8], sink: &mut impl AccessUnitSink) -> bool {
        if self.pass > 0 {
            self.pass -= self.take_some(input, self.pass).len();
            return self.pass == 0;
        }
        match self.step {
            Step::Drop => {
                self.take_some(input, usize::MAX);
                false
            }
            Step::PayloadHeader => self.take(input, self.codec.header_len()).is_some_and(|header| {
                self.payload_header(header, sink);
                true
            }),
            Step::FragmentHeader => self.take(input, 1).is_some_and(|[header, _]| {
                self.fragment_header(header, sink);
                true
            }),
            Step::AggregateLength => self.take(input, 2).is_some_and(|len| {
                self.aggregate_length(usize::from(u16::from_be_bytes(len)));
                true
            }),
            Step::NalHeader => self.take(input, self.codec.header_len()).is_some_and(|header| {
                self.nal_left -= self.codec.header_len();
                self.units.nal_begin(header, sink);
                self.step = Step::Nal;
                true
            }),
            Step::Nal => self.nal_bytes(input, sink),
            Step::ByteStream => {
                let piece = self.take_some(input, usize::MAX);
                if !self.gather(piece) {
                    self.drop_gathered();
                    self.byte_stream = Vec::new();
                    self.fragmenting = false;
                    self.step = Step::Drop;
                }
                false
            }
        }
    }

    fn payload_header(&mut self, header: [u8; 2], sink: &mut impl AccessUnitSink) {
        self.header = header;
        self.packing = self.codec.payload_kind(header);
        if self.packing != PayloadKind::Fragment {
            self.end_unended_fragment();
        }
        match self.packing {
            PayloadKind::Single if header == [0; 2] => self.begin_byte_stream(header),
            PayloadKind::Single => {
                if self.may_be_several(header, Some(self.left)) {
                    self.begin_byte_stream(header);
                } else {
                    self.units.nal_begin(header, sink);
                    self.nal_left = self.left;
                    self.step = Step::Nal;
                }
                self.pass = self.don_len();
            }
            PayloadKind::Aggregate => {
                self.step = Step::AggregateLength;
                self.pass = self.don_len();
            }
            PayloadKind::Fragment => self.step = Step::FragmentHeader,
        }
    }

    /// RFC 6184 §5.8, RFC 7798 §4.4.3.
    fn fragment_header(&mut self, header: u8, sink: &mut impl AccessUnitSink) {
        self.ends = header & FRAGMENT_END != 0;
        self.nal_left = self.left;
        self.step = Step::Nal;
        if header & FRAGMENT_START != 0 {
            self.end_unended_fragment();
            let header = self.codec.fragmented_header(self.header, header);
            self.gathering = self.may_be_several(header, None);
            if self.gathering {
                self.begin_byte_stream(header);
            } else {
                self.units.nal_begin(header, sink);
            }
            self.fragmenting = true;
            self.pass = self.don_len();
        } else if self.gathering {
            self.step = Step::ByteStream;
        } else if !self.fragmenting {
            self.units.stats_mut().fragments_dropped += 1;
            self.units.damage();
            self.step = Step::Drop;
        }
        // The type of a fragment that goes on is not looked at: Tiandy cameras change it midway.
    }

    /// RFC 6184 §5.7.1, RFC 7798 §4.4.2. Zero lengths are padding, as some cameras append it.
    fn aggregate_length(&mut self, len: usize) {
        if len > self.left {
            self.malformed();
            self.step = Step::Drop;
        } else if len >= self.codec.header_len() {
            self.nal_left = len;
            self.step = Step::NalHeader;
        } else if len > 0 {
            self.units.drop_nal();
            self.pass = len;
        }
    }

    fn nal_bytes(&mut self, input: &mut &[u8], sink: &mut impl AccessUnitSink) -> bool {
        let piece = self.take_some(input, self.nal_left);
        self.nal_left -= piece.len();
        if !piece.is_empty() {
            self.units.nal_bytes(piece, sink);
        }
        if self.nal_left > 0 || self.packing != PayloadKind::Aggregate {
            return false;
        }
        self.units.nal_end();
        self.step = Step::AggregateLength;
        // A difference of decoding order numbers stands before each NAL unit but the first.
        self.pass = usize::from(self.has_don).min(self.left);
        true
    }

    fn end_of_nal_bytes(&mut self) {
        if self.left > 0 {
            self.fragmenting = false;
            self.units.cut_nal();
        } else if self.packing != PayloadKind::Fragment {
            self.units.nal_end();
        } else if self.ends {
            self.fragmenting = false;
            self.units.nal_end();
            self.note_last_fragment();
        }
    }

    fn note_last_fragment(&mut self) {
        if self.last_fragments == LastFragments::Unmarked {
            self.last_fragments = LastFragments::Marked;
        }
    }

    /// Something else comes where a fragment should. No packet is missing, yet bytes may be.
    fn end_unended_fragment(&mut self) {
        if !std::mem::take(&mut self.fragmenting) {
            return;
        }
        self.drop_gathered();
        self.units.stats_mut().fragments_unended += 1;
        if self.last_fragments == LastFragments::Marked {
            self.units.cut_nal();
        } else {
            self.units.nal_end();
        }
    }

    /// Whether what begins like this may be an access unit with start codes in it that the camera takes for one NAL unit: no
    /// parameter set or delimiter is so long, and an SEI message seldom comes in fragments. `len`: of the payload; `None` for
    /// fragments.
    fn may_be_several(&self, header: [u8; 2], len: Option<usize>) -> bool {
        self.sends_annex_b
            || (len.is_none_or(|len| len > SET_LEN_PLAUSIBLE)
                && match self.codec.nal_kind(header) {
                    NalKind::ParameterSet(_) | NalKind::Delimiter => true,
                    NalKind::Sei => len.is_none(),
                    NalKind::Slice(_) | NalKind::Other | NalKind::Unusable => false,
                })
    }

    /// Takes `piece` to the Annex B stream; false when that would be larger than any unit.
    fn gather(&mut self, piece: &[u8]) -> bool {
        let len = self.byte_stream.len() + piece.len();
        if len > UNIT_LEN_MAX {
            return false;
        }
        if len > self.byte_stream.capacity() {
            // As a vector grows by itself, but not past the limit.
            let capacity = (2 * self.byte_stream.capacity()).clamp(len, UNIT_LEN_MAX);
            self.byte_stream.reserve_exact(capacity - self.byte_stream.len());
        }
        self.byte_stream.extend_from_slice(piece);
        true
    }

    /// The packet of a gathered fragment ended.
    fn end_of_gathered_bytes(&mut self, sink: &mut impl AccessUnitSink) {
        if self.left > 0 {
            self.drop_gathered();
            self.fragmenting = false;
        } else if self.ends {
            (self.fragmenting, self.gathering) = (false, false);
            self.note_last_fragment();
            self.split_byte_stream(sink);
        } else if !self.sends_annex_b && self.byte_stream.len() > SET_LEN_PLAUSIBLE {
            self.look_at_gathered(sink);
        }
    }

    /// A parameter set that a picture follows would have ended by now: without a start code it is one NAL unit, a long SEI message
    /// mostly, whose other fragments are not gathered.
    fn look_at_gathered(&mut self, sink: &mut impl AccessUnitSink) {
        if annex_b::has_start_code(&self.byte_stream) {
            return;
        }
        self.gathering = false;
        let stream = std::mem::take(&mut self.byte_stream);
        self.nal_so_far(&stream, sink);
        self.byte_stream = stream;
    }

    /// What was gathered will not end.
    fn drop_gathered(&mut self) {
        if std::mem::take(&mut self.gathering) {
            self.byte_stream.clear();
            self.units.drop_nal();
        }
    }

    fn malformed(&mut self) {
        self.units.stats_mut().malformed += 1;
        self.units.damage();
    }

    /// A header of zeros is no NAL unit but the beginning of a start code (V380, macro-video).
    fn begin_byte_stream(&mut self, header: [u8; 2]) {
        self.byte_stream.clear();
        self.byte_stream.reserve(self.left.min(RTP_PACKET_LEN_MAX));
        let (header, _) = header.split_at(self.codec.header_len());
        self.byte_stream.extend_from_slice(header);
        self.step = Step::ByteStream;
    }

    fn split_byte_stream(&mut self, sink: &mut impl AccessUnitSink) {
        let stream = std::mem::take(&mut self.byte_stream);
        let begins = !stream.starts_with(&[0, 0]) || annex_b::begins_with_start_code(&stream);
        if !begins {
            self.units.drop_nal();
        } else if annex_b::has_start_code(&stream) {
            let mut nals = 0;
            for nal in annex_b::nal_units(&stream) {
                self.whole_nal(nal, sink);
                nals += 1;
            }
            self.sends_annex_b |= nals > 1;
        } else {
            self.whole_nal(&stream, sink);
        }
        self.byte_stream = stream;
    }

    fn whole_nal(&mut self, nal: &[u8], sink: &mut impl AccessUnitSink) {
        if nal.len() < self.codec.header_len() {
            return self.units.drop_nal();
        }
        self.nal_so_far(nal, sink);
        self.units.nal_end();
    }

    /// `start` has the header.
    fn nal_so_far(&mut self, start: &[u8], sink: &mut impl AccessUnitSink) {
        self.units.nal_begin(header_of(start), sink);
        let body = start.get(self.codec.header_len()..).unwrap_or_default();
        if !body.is_empty() {
            self.units.nal_bytes(body, sink);
        }
    }

    const fn don_len(&self) -> usize {
        if self.has_don { DON_LEN } else { 0 }
    }

    /// Takes a header of `len` bytes, at most 2, that may straddle pieces.
    fn take(&mut self, input: &mut &[u8], len: usize) -> Option<[u8; 2]> {
        // The usual case: all of it is here.
        if self.carried == 0
            && let Some((header, rest)) = input.split_at_checked(len)
        {
            *input = rest;
            self.left -= len;
            return Some(header_of(header));
        }
        for &byte in self.take_some(input, len - self.carried.min(len)) {
            if let Some(slot) = self.carry.get_mut(self.carried) {
                *slot = byte;
                self.carried += 1;
            }
        }
        if self.carried < len {
            return None;
        }
        self.carried = 0;
        Some(if len == 1 { [self.carry[0], 0] } else { self.carry })
    }

    /// Takes up to `most` bytes from the front of `input`.
    fn take_some<'i>(&mut self, input: &mut &'i [u8], most: usize) -> &'i [u8] {
        let (taken, rest) = input.split_at(most.min(input.len()));
        *input = rest;
        self.left -= taken.len();
        taken
    }
}

/// Bytes of a payload that may well be one parameter set.
const SET_LEN_PLAUSIBLE: usize = 256;
const FRAGMENT_START: u8 = 0x80;
const FRAGMENT_END: u8 = 0x40;
/// Bytes of a decoding order number.
const DON_LEN: usize = 2;

#[cfg(test)]
mod tests;
