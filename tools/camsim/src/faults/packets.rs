//! Faults of what stands on the wire: between frames, in frame and RTP headers, in RTCP, and in payloads.

use vms_stamp::Codec;

use super::kind::{COUNT_MAX, Kind, Value};
use crate::nal::{self, Role};
use crate::packetize::{FU_END, FU_START, fragment_header};
use crate::rtcp;
use crate::wire::{Frame, Packet, Wire};

const PACKETS: Value = Value::number("PACKETS", 1, COUNT_MAX);

pub(super) const TABLE: &[Kind] = &[
    // Between frames -----------------------------------------------------------------------------------------
    Kind::nth("garbage", &[1], "up to 64 random bytes before each UNITS-th unit", |wire| {
        let len = 1 + wire.rng.below(64);
        let bytes = (0..len).map(|_| wire.rng.next_u64().to_le_bytes()[0]).collect();
        wire.raw(bytes);
    }),
    Kind::nth("false-frames", &[3], "bytes that look like frames, but end too early", |wire| {
        let channel = wire.channel;
        let bytes = [
            b'x',
            b'$',
            channel,
            5,
            0xdc,
            0x80,
            0x60,
            1,
            2,
            b'$',
            b'$',
            channel.wrapping_add(1),
            0,
            9,
            0x80,
            200,
        ];
        wire.raw(bytes.to_vec());
    }),
    Kind::nth("line-ends", &[4], "CR, LF and NUL between frames", |wire| {
        wire.raw(b"\r\n\n\n\0\0\r\n".to_vec())
    }),
    Kind::nth("stray-answer", &[5], "an answer to nothing between frames", |wire| {
        wire.raw(b"RTSP/1.0 200 OK\r\nCSeq: 4711\r\nContent-Length: 2\r\n\r\n{}".to_vec());
    }),
    Kind::nth("server-request", &[6], "requests to the client between frames", |wire| {
        const METHODS: [&str; 5] = ["OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "ANNOUNCE", "REDIRECT"];
        let turn = usize::try_from(wire.number / wire.value - 1).unwrap_or_default();
        let method = METHODS[turn % METHODS.len()];
        wire.raw(format!("{method} * RTSP/1.0\r\nCSeq: {}\r\n\r\n", turn + 1).into_bytes());
    }),
    Kind::nth("unknown-channel", &[8], "a frame on a channel that nobody agreed on", |wire| {
        wire.raw_frame(77, &[0x80, 0x60, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0x41, 0x9a, 1]);
    }),
    Kind::nth(
        "empty-frames",
        &[13],
        "an empty frame, one shorter than RTP, a packet without payload",
        |wire| {
            let channel = wire.channel;
            let empty = vec![wire.packet(Vec::new())];
            wire.insert(0, empty);
            wire.raw_frame(channel, &[0x80, 0x60, 0, 1, 2]);
            wire.raw_frame(channel, &[]);
        },
    ),
    Kind::nth("cut-frame", &[2], "a packet whose last 40 bytes are not sent", |wire| cut(wire, false)),
    Kind::nth("cut-and-repeat", &[2], "the same, and then the whole packet", |wire| cut(wire, true)),
    Kind::nth("old-session", &[18], "packets of an earlier session between those of this one", |wire| {
        let mut old = wire.packet(match wire.codec {
            Codec::H264 => vec![0x41, 0x9a, 1, 2, 3],
            Codec::H265 => vec![0x02, 0x01, 0xd0, 1, 2],
        });
        age(&mut old);
        let mut bytes = Vec::new();
        old.write(&mut bytes);
        wire.raw(bytes);
    }),
    Kind::nth("old-video", &[18], "each unit's packets once more, as an earlier session's", |wire| {
        let mut bytes = Vec::new();
        for packet in wire.packets() {
            let mut old = packet.clone();
            age(&mut old);
            old.write(&mut bytes);
        }
        wire.frames.push(Frame::Raw(bytes));
    }),
    // RTP headers --------------------------------------------------------------------------------------------
    Kind::unit("lose", &[], "each PACKETS-th packet is missing; the sequence numbers tell", |wire| {
        let (mut number, interval) = (u64::from(wire.packets_before), wire.value);
        wire.frames.retain(|frame| {
            number += u64::from(matches!(frame, Frame::Packet(_)));
            !(matches!(frame, Frame::Packet(_)) && number.is_multiple_of(interval))
        });
    })
    .with(PACKETS),
    Kind::unit("corrupt", &[], "a byte of each PACKETS-th packet is another", |wire| {
        let (mut number, interval) = (u64::from(wire.packets_before), wire.value);
        for packet in wire.packets() {
            number += 1;
            if number.is_multiple_of(interval) {
                packet.payload.last_mut().into_iter().for_each(|byte| *byte ^= 0x55);
            }
        }
    })
    .with(PACKETS),
    Kind::unit("no-marker", &[69], "no packet has the marker bit", |wire| {
        wire.packets().for_each(|packet| packet.marker = false);
    }),
    Kind::unit("early-marker", &[70], "the marker also on parameter sets and SEI", |wire| {
        let slices = wire.before_slices();
        wire.packets().take(slices).for_each(|packet| packet.marker = true);
    }),
    Kind::unit("sets-of-before", &[71], "parameter sets have the timestamp of the unit before", |wire| {
        let (period, codec) = (wire.period, wire.codec);
        let is_set = |payload: &[u8]| match codec {
            Codec::H264 => payload.first().is_some_and(|byte| matches!(byte & 0x1f, 7 | 8 | 24)),
            Codec::H265 => matches!(nal::h265_type(payload), Some(32..=34 | 48)),
        };
        // What stands before the sets, a delimiter, is as old as they are.
        let behind = wire.packets().map(|packet| is_set(&packet.payload)).collect::<Vec<_>>();
        let behind = behind.iter().rposition(|is_set| *is_set).map_or(0, |last| last + 1);
        for packet in wire.packets().take(behind) {
            packet.timestamp = packet.timestamp.wrapping_sub(period);
        }
    }),
    Kind::nth("same-timestamp", &[72], "a unit with the timestamp of the one before", |wire| {
        let period = wire.period;
        wire.packets().for_each(|packet| packet.timestamp = packet.timestamp.wrapping_sub(period));
    }),
    Kind::nth("timestamp-outlier", &[62], "one unit's timestamp is hours ahead, or behind", |wire| {
        let is_ahead = (wire.number / wire.value) % 2 == 1;
        let seconds = if is_ahead { 37_600_u32 } else { 0_u32.wrapping_sub(9_800) };
        wire.packets().for_each(|packet| {
            packet.timestamp = packet.timestamp.wrapping_add(seconds.wrapping_mul(90_000));
        });
    }),
    Kind::unit("timestamp-constant", &[63], "all units have one timestamp", |wire| {
        wire.packets().for_each(|packet| packet.timestamp = 90_000);
    }),
    Kind::nth("duplicate", &[57], "all packets of a unit twice", |wire| {
        let twice = |frame: Frame| [frame.clone(), frame];
        wire.frames = std::mem::take(&mut wire.frames).into_iter().flat_map(twice).collect();
    }),
    Kind::nth("other-type", &[59], "a packet of payload type 50", |wire| {
        let other = Packet { payload_type: 50, ..wire.packet(vec![1; 40]) };
        wire.insert(0, vec![other]);
    }),
    Kind::unit("rtp-extras", &[60], "header extensions, CSRCs and padding", |wire| {
        for (index, packet) in wire.packets().enumerate() {
            match index % 4 {
                0 => packet.extension = Some((0xabac, vec![7; 12])),
                1 => packet.csrcs = vec![1, 2],
                2 => packet.padding = 3,
                _ => {}
            }
        }
    }),
    // RTCP ---------------------------------------------------------------------------------------------------
    Kind::nth("bad-reports", &[66], "RTCP that is empty, short, or no RTCP", |wire| {
        let channel = wire.channel.wrapping_add(1);
        for content in [
            &[][..],
            &[0x80],
            &[0x80, 200, 0, 6, 1],
            &[0x9f, 201, 0xff, 0xff, 0, 0, 0, 1],
            &[0, 1, 2, 3, 4, 5, 6, 7],
        ] {
            wire.raw_frame(channel, content);
        }
    }),
    Kind::nth("bye", &[66], "a BYE, and video goes on", |wire| {
        let ssrc = wire.packet(Vec::new()).ssrc;
        let bye = rtcp::bye_frame(wire.channel.wrapping_add(1), ssrc);
        wire.raw(bye);
    }),
    // Payloads -----------------------------------------------------------------------------------------------
    Kind::unit("big-packets", &[11], "whole NAL units in packets of up to 64 KiB", |wire| {
        let nals = wire.nals();
        if nals.iter().all(|nal| nal.len() <= BIG_LEN_MAX) {
            wire.set_payloads(nals);
        }
    }),
    Kind::nth("lone-fragment", &[73], "a fragment that has no start", |wire| {
        fragment_before(wire, 0, &[1; 30])
    }),
    Kind::nth("endless-fragment", &[73], "a fragment that starts and never ends", |wire| {
        fragment_before(wire, FU_START, &[1; 30]);
    }),
    Kind::nth("lost-end", &[73], "a unit without its last fragment, and no number tells", |wire| {
        let codec = wire.codec;
        let is_end = |frame: &mut Frame| match frame {
            Frame::Packet(packet) => {
                fu_flags(&packet.payload, codec).is_some_and(|flags| flags & FU_END != 0)
            }
            Frame::Raw(_) => false,
        };
        if wire.frames.pop_if(is_end).is_some() {
            wire.next_sequence = wire.next_sequence.wrapping_sub(1);
        }
    }),
    Kind::nth("empty-fragment", &[73], "fragments without a byte between those of a NAL unit", |wire| {
        let codec = wire.codec;
        let at = wire.frames.iter().position(|frame| match frame {
            Frame::Packet(packet) => {
                fu_flags(&packet.payload, codec).is_some_and(|flags| flags & 0xc0 == FU_START)
            }
            Frame::Raw(_) => false,
        });
        if let Some((at, Frame::Packet(packet))) = at.map(|at| (at, wire.frames[at].clone())) {
            let head = if codec == Codec::H264 { 2 } else { 3 };
            let mut payload = packet.payload.get(..head).unwrap_or_default().to_vec();
            payload.last_mut().into_iter().for_each(|flags| *flags &= !FU_START);
            wire.insert(at + 1, vec![Packet { payload, marker: false, ..packet }]);
        }
    }),
    Kind::unit("whole-fragments", &[73], "small slices as one fragment that starts and ends", |wire| {
        let codec = wire.codec;
        for packet in wire.packets() {
            if matches!(nal::role(&packet.payload, codec), Some(Role::Slice { .. })) {
                let head = if codec == Codec::H264 { 1 } else { 2 };
                let (header, body) = packet.payload.split_at(head);
                packet.payload = [&fragment_header(header, FU_START | FU_END), body].concat();
            }
        }
    }),
    Kind::unit("type-in-fragment", &[73], "another NAL type in all fragments but the first", |wire| {
        let codec = wire.codec;
        for packet in wire.packets() {
            if fu_flags(&packet.payload, codec).is_some_and(|flags| flags & FU_START == 0) {
                let at = if codec == Codec::H264 { 1 } else { 2 };
                packet.payload[at] = packet.payload[at] & 0xc0 | 1;
            }
        }
    }),
    Kind::unit("annexb", &[74], "the whole unit as one NAL unit with start codes in it", |wire| {
        let nals = wire.nals();
        let whole: Vec<u8> = nals.join(&[0, 0, 0, 1][..]);
        wire.set_payloads(crate::packetize::split(&whole, wire.codec));
    }),
    Kind::unit("annexb-start", &[74], "a start code before each NAL unit in its packet", |wire| {
        let codec = wire.codec;
        for packet in wire.packets() {
            let is_alone =
                nal::role(&packet.payload, codec).is_some() && !is_container(&packet.payload, codec);
            if is_alone {
                packet.payload.splice(0..0, [0, 0, 0, 1]);
            }
        }
    }),
    Kind::unit("stap-padding", &[75], "zeros behind the NAL units of an aggregate", |wire| {
        let codec = wire.codec;
        for packet in wire.packets() {
            let is_aggregate = match codec {
                Codec::H264 => packet.payload.first().is_some_and(|byte| byte & 0x1f == 24),
                Codec::H265 => nal::h265_type(&packet.payload) == Some(48),
            };
            if is_aggregate {
                packet.payload.extend_from_slice(&[0; 7]);
            }
        }
    }),
    Kind::nth("bad-nals", &[76], "NAL units of types that there are not", |wire| {
        let junk: &[&[u8]] = match wire.codec {
            Codec::H264 => &[
                &[0x00, 1, 2],
                &[0x1e, 1, 2],
                &[0x1f, 1],
                &[0xc1, 0x9a, 1],
                &[0x1a, 0, 1, 2],
                &[0x1d, 0x85, 0, 1, 2],
            ],
            Codec::H265 => &[&[0x64, 1, 2], &[0x66, 1, 2], &[0x7e, 1, 2], &[0x82, 1, 0xd0, 2]],
        };
        let junk = junk.iter().map(|payload| wire.packet(payload.to_vec())).collect();
        wire.insert(0, junk);
    }),
    Kind::nth("huge-unit", &[84], "a unit of 4 MiB", |wire| {
        let flags = |index: usize| match index {
            0 => FU_START,
            _ if index + 1 == HUGE_PACKETS => FU_END,
            _ => 0,
        };
        let header: &[u8] = if wire.codec == Codec::H264 { &[0x41] } else { &[0x02, 0x01] };
        let period = wire.period;
        let mut packets: Vec<Packet> = (0..HUGE_PACKETS)
            .map(|index| wire.packet([&fragment_header(header, flags(index)), &[0xaa; 1390][..]].concat()))
            .collect();
        packets.iter_mut().for_each(|packet| packet.timestamp = packet.timestamp.wrapping_sub(period / 2));
        packets.last_mut().into_iter().for_each(|packet| packet.marker = true);
        wire.insert(0, packets);
    }),
];

/// Makes a packet one of an earlier session.
fn age(packet: &mut Packet) {
    packet.ssrc ^= 0x0bad_5e55;
    packet.sequence = packet.sequence.wrapping_sub(4711);
    packet.timestamp = packet.timestamp.wrapping_sub(600 * 90_000);
}

/// Leaves out the end of a packet in the middle of the unit; `repeat`: the whole packet follows.
fn cut(wire: &mut Wire<'_>, repeat: bool) {
    // Not the last: what is missing is taken from what follows, and that is to be of the same unit.
    let at = wire.frames.len().saturating_sub(1) / 2;
    let Some(Frame::Packet(packet)) = wire.frames.get_mut(at) else { return };
    let whole = packet.clone();
    packet.cut = CUT_LEN;
    if repeat {
        let mut bytes = Vec::new();
        whole.write(&mut bytes);
        wire.frames.insert(at + 1, Frame::Raw(bytes));
    }
}

/// A fragment of a slice, in a packet of its own before the unit.
fn fragment_before(wire: &mut Wire<'_>, flags: u8, body: &[u8]) {
    let header: &[u8] = if wire.codec == Codec::H264 { &[0x41] } else { &[0x02, 0x01] };
    let packet = wire.packet([&fragment_header(header, flags), body].concat());
    wire.insert(0, vec![packet]);
}

/// The flags and type of a fragment.
fn fu_flags(payload: &[u8], codec: Codec) -> Option<u8> {
    match codec {
        Codec::H264 => payload.get(1).copied().filter(|_| payload[0] & 0x1f == 28),
        Codec::H265 => payload.get(2).copied().filter(|_| nal::h265_type(payload) == Some(49)),
    }
}

/// An aggregate or a fragment: no NAL unit of its own.
fn is_container(payload: &[u8], codec: Codec) -> bool {
    match codec {
        Codec::H264 => payload.first().is_some_and(|byte| byte & 0x1f >= 24),
        Codec::H265 => nal::h265_type(payload).is_some_and(|nal_type| nal_type >= 48),
    }
}

const CUT_LEN: usize = 40;
/// What a frame's length field can say, less the RTP header.
const BIG_LEN_MAX: usize = 65_535 - 12;
/// Twice the largest unit that the daemon takes.
const HUGE_PACKETS: usize = (4 << 20) / 1390;
