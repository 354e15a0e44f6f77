//! One access unit's packets while faults bend them: owned, numbered, and with everything that a header can hold.
//!
//! Cameras that behave never come here: their packets are shared ([`crate::packets`]).

use vms_stamp::{Codec, StampNal, unit_crc};

use crate::nal::{self, Role};
use crate::packetize::Payloads;
use crate::packets::RTP_HEADER_LEN;
use crate::rng::Rng;
use crate::sdp::PAYLOAD_TYPE;

/// What one unit becomes on the wire.
#[derive(Debug)]
pub(crate) struct Wire<'a> {
    /// In the order of sending.
    pub(crate) frames: Vec<Frame>,
    pub(crate) codec: Codec,
    /// Interleaved channel of RTP; RTCP has the next one.
    pub(crate) channel: u8,
    /// Of the unit in its session, from 0.
    pub(crate) number: u64,
    /// Packets of the session before this unit, lost ones included.
    pub(crate) packets_before: u32,
    /// RTP ticks from one unit to the next.
    pub(crate) period: u32,
    /// The fault's value.
    pub(crate) value: u64,
    pub(crate) rng: &'a mut Rng,
    /// Stamp's counter and time.
    pub(crate) stamp: (u64, u64),
    /// Of the packet that would come next.
    pub(crate) next_sequence: u16,
}

/// A piece of the byte stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A packet of video with a number of its own.
    Packet(Packet),
    /// Bytes that have none.
    Raw(Vec<u8>),
}

/// An RTP packet (RFC 3550, 5.1) in its interleaved frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) channel: u8,
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) csrcs: Vec<u32>,
    /// Profile and words.
    pub(crate) extension: Option<(u16, Vec<u8>)>,
    /// Bytes of padding behind the payload, the count included.
    pub(crate) padding: u8,
    pub(crate) payload: Vec<u8>,
    /// Bytes at the end that the frame's header announces and that are not sent.
    pub(crate) cut: usize,
}

impl Wire<'_> {
    pub(crate) fn packets(&mut self) -> impl Iterator<Item = &mut Packet> {
        self.frames.iter_mut().filter_map(|frame| match frame {
            Frame::Packet(packet) => Some(packet),
            Frame::Raw(_) => None,
        })
    }

    /// A packet with `payload` and all else as the unit's first has it, without a marker and not in a place yet.
    pub(crate) fn packet(&mut self, payload: Vec<u8>) -> Packet {
        let first = self.packets().next().cloned();
        let first = first.unwrap_or_else(|| Packet::new(self.channel, Vec::new()));
        Packet { payload, marker: false, ..first }
    }

    /// Puts packets before the frame at `at`, with numbers of their own: those behind get higher ones.
    pub(crate) fn insert(&mut self, at: usize, packets: Vec<Packet>) {
        let count = u16::try_from(packets.len() & 0xffff).unwrap_or_default();
        let behind = self.frames.split_off(at.min(self.frames.len()));
        let first = behind.iter().find_map(|frame| match frame {
            Frame::Packet(packet) => Some(packet.sequence),
            Frame::Raw(_) => None,
        });
        let mut sequence = first.unwrap_or(self.next_sequence);
        for packet in packets {
            self.frames.push(Frame::Packet(Packet { sequence, ..packet }));
            sequence = sequence.wrapping_add(1);
        }
        self.frames.extend(behind.into_iter().map(|frame| match frame {
            Frame::Packet(packet) => {
                Frame::Packet(Packet { sequence: packet.sequence.wrapping_add(count), ..packet })
            }
            raw @ Frame::Raw(_) => raw,
        }));
        self.next_sequence = self.next_sequence.wrapping_add(count);
    }

    /// Puts bytes before everything.
    pub(crate) fn raw(&mut self, bytes: Vec<u8>) {
        self.frames.insert(0, Frame::Raw(bytes));
    }

    /// An interleaved frame around `content`, before everything.
    pub(crate) fn raw_frame(&mut self, channel: u8, content: &[u8]) {
        self.raw(frame(channel, content));
    }

    /// The NAL units of the unit. Only of a unit whose payloads are as they were made.
    pub(crate) fn nals(&mut self) -> Vec<Vec<u8>> {
        let codec = self.codec;
        let mut nals = Vec::new();
        for packet in self.packets() {
            unpack(&packet.payload, codec, &mut nals);
        }
        nals
    }

    /// Other NAL units instead of the unit's: stamped and packetised anew.
    pub(crate) fn set_nals(&mut self, mut nals: Vec<Vec<u8>>) {
        let codec = self.codec;
        let is_stamp =
            |nal: &Vec<u8>| vms_stamp::find(&[&[0, 0, 0, 1], nal.as_slice()].concat(), codec).is_some();
        if let Some(at) = nals.iter().position(is_stamp) {
            let others =
                nals.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, nal)| nal.as_slice());
            let mut stamp = StampNal::new(codec, unit_crc(others));
            stamp.patch(self.stamp.0, self.stamp.1);
            nals[at] = stamp.bytes().to_vec();
        }
        let mut payloads = Payloads::default();
        payloads.push_unit(&nals.iter().map(Vec::as_slice).collect::<Vec<_>>(), codec);
        self.set_payloads(
            payloads.ranges.iter().map(|range| payloads.bytes[range.clone()].to_vec()).collect(),
        );
    }

    /// Other payloads instead of the unit's packets: as many as they are, the marker on the last.
    pub(crate) fn set_payloads(&mut self, payloads: Vec<Vec<u8>>) {
        let template = self.packet(Vec::new());
        let has_marker = self.packets().any(|packet| packet.marker);
        let count = payloads.len();
        let mut sequence = template.sequence;
        self.frames.retain(|frame| matches!(frame, Frame::Raw(_)));
        for (index, payload) in payloads.into_iter().enumerate() {
            let marker = has_marker && index + 1 == count;
            self.frames.push(Frame::Packet(Packet { payload, marker, sequence, ..template.clone() }));
            sequence = sequence.wrapping_add(1);
        }
        self.next_sequence = sequence;
    }

    /// How many packets stand before the first slice of the picture.
    pub(crate) fn before_slices(&mut self) -> usize {
        let codec = self.codec;
        self.packets().position(|packet| holds_slice(&packet.payload, codec)).unwrap_or(0)
    }

    /// All bytes in order.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in &self.frames {
            match frame {
                Frame::Packet(packet) => packet.write(&mut bytes),
                Frame::Raw(raw) => bytes.extend_from_slice(raw),
            }
        }
        bytes
    }
}

impl Packet {
    pub(crate) const fn new(channel: u8, payload: Vec<u8>) -> Self {
        Self {
            channel,
            marker: false,
            payload_type: PAYLOAD_TYPE,
            sequence: 0,
            timestamp: 0,
            ssrc: 0,
            csrcs: Vec::new(),
            extension: None,
            padding: 0,
            payload,
            cut: 0,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[b'$', self.channel, 0, 0]);
        let csrcs = u8::try_from(self.csrcs.len() & 0xf).unwrap_or_default();
        let flags = (u8::from(self.padding > 0) << 5) | (u8::from(self.extension.is_some()) << 4);
        out.extend_from_slice(&[0x80 | flags | csrcs, (u8::from(self.marker) << 7) | self.payload_type]);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        self.csrcs.iter().for_each(|csrc| out.extend_from_slice(&csrc.to_be_bytes()));
        if let Some((profile, words)) = &self.extension {
            out.extend_from_slice(&profile.to_be_bytes());
            out.extend_from_slice(&u16::try_from(words.len() / 4).unwrap_or_default().to_be_bytes());
            out.extend_from_slice(words);
        }
        out.extend_from_slice(&self.payload);
        if self.padding > 0 {
            out.resize(out.len() + usize::from(self.padding) - 1, 0);
            out.push(self.padding);
        }
        let len = u16::try_from(out.len() - start - 4).unwrap_or(u16::MAX);
        out[start + 2..start + 4].copy_from_slice(&len.to_be_bytes());
        out.truncate(out.len() - self.cut.min(self.payload.len()));
    }
}

/// An interleaved frame (RFC 2326, 10.12).
pub(crate) fn frame(channel: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap_or(u16::MAX);
    [&[b'$', channel], &len.to_be_bytes()[..], content].concat()
}

/// Adds the NAL units of a payload that [`Payloads`] has made; a fragment goes on with the last one.
fn unpack(payload: &[u8], codec: Codec, nals: &mut Vec<Vec<u8>>) {
    match (codec, payload) {
        (Codec::H264, [0x78, together @ ..]) | (Codec::H265, [0x60, _, together @ ..]) => {
            let mut rest = together;
            while let [high, low, behind @ ..] = rest {
                let (nal, behind) =
                    behind.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(behind.len()));
                nals.push(nal.to_vec());
                rest = behind;
            }
        }
        (Codec::H264, [indicator, fu, part @ ..]) if indicator & 0x1f == 28 => {
            if fu & 0x80 != 0 {
                nals.push(vec![indicator & 0xe0 | fu & 0x1f]);
            }
            nals.last_mut().into_iter().for_each(|nal| nal.extend_from_slice(part));
        }
        (Codec::H265, [first, second, fu, part @ ..]) if first >> 1 & 0x3f == 49 => {
            if fu & 0x80 != 0 {
                nals.push(vec![first & 0x81 | fu << 1 & 0x7e, *second]);
            }
            nals.last_mut().into_iter().for_each(|nal| nal.extend_from_slice(part));
        }
        (Codec::H264 | Codec::H265, nal) => nals.push(nal.to_vec()),
    }
}

/// Whether a payload is, or begins or goes on with, a slice of a picture.
fn holds_slice(payload: &[u8], codec: Codec) -> bool {
    let is_fragment = match codec {
        Codec::H264 => payload.first().is_some_and(|byte| byte & 0x1f == 28),
        Codec::H265 => nal::h265_type(payload) == Some(49),
    };
    is_fragment || matches!(nal::role(payload, codec), Some(Role::Slice { .. }))
}

const _: () = assert!(RTP_HEADER_LEN == 12, "without CSRCs and extension");

#[cfg(test)]
mod tests {
    use super::*;

    fn wire<'a>(rng: &'a mut Rng, payloads: &[&[u8]]) -> Wire<'a> {
        let frames = payloads.iter().zip(100..).map(|(payload, sequence)| {
            Frame::Packet(Packet { sequence, ..Packet::new(0, payload.to_vec()) })
        });
        Wire {
            frames: frames.collect(),
            codec: Codec::H264,
            channel: 0,
            number: 0,
            packets_before: 0,
            period: 3600,
            value: 0,
            rng,
            stamp: (0, 0),
            next_sequence: 100 + u16::try_from(payloads.len()).unwrap(),
        }
    }

    fn sequences(wire: &mut Wire<'_>) -> Vec<u16> {
        wire.packets().map(|packet| packet.sequence).collect()
    }

    #[test]
    fn inserted_packets_take_numbers() {
        let mut rng = Rng::new(1);
        let mut wire = wire(&mut rng, &[b"a", b"b"]);
        let more = vec![wire.packet(b"x".to_vec()), wire.packet(b"y".to_vec())];
        wire.insert(1, more);
        assert_eq!((sequences(&mut wire), wire.next_sequence), (vec![100, 101, 102, 103], 104));
        let last = vec![wire.packet(Vec::new())];
        wire.insert(usize::MAX, last);
        assert_eq!(sequences(&mut wire).last(), Some(&104));
    }

    #[test]
    fn nals_come_back_and_can_be_replaced() {
        let mut rng = Rng::new(1);
        let nals = [vec![0x67, 1], vec![0x68, 2], [vec![0x65], vec![7; 3000]].concat()];
        let mut payloads = Payloads::default();
        payloads.push_unit(&nals.iter().map(Vec::as_slice).collect::<Vec<_>>(), Codec::H264);
        let payloads: Vec<&[u8]> =
            payloads.ranges.iter().map(|range| &payloads.bytes[range.clone()]).collect();
        let mut wire = wire(&mut rng, &payloads);
        assert_eq!(wire.nals(), nals);
        assert_eq!(wire.before_slices(), 1);
        wire.set_nals(vec![vec![0x65, 9]]);
        assert_eq!((wire.nals(), wire.next_sequence), (vec![vec![0x65, 9]], 101));
    }

    #[test]
    fn every_part_of_a_header() {
        let packet = Packet {
            marker: true,
            sequence: 0x102,
            timestamp: 3,
            ssrc: 4,
            csrcs: vec![5],
            extension: Some((0xabac, vec![6; 4])),
            padding: 2,
            cut: 1,
            ..Packet::new(1, vec![8, 9])
        };
        let mut out = Vec::new();
        packet.write(&mut out);
        let header =
            [b'$', 1, 0, 28, 0xb1, 0x80 | 96, 1, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0xab, 0xac, 0, 1];
        assert_eq!(out, [&header[..], &[6, 6, 6, 6, 8, 9, 0]].concat());
    }
}
