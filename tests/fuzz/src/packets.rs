//! What a camera that works sends: units of NAL units, their RTP payloads, packets and interleaved frames.

use vms_pure::codec::Codec;

use crate::{Result, Unstructured};

/// The payload type of all packets that are meant to be used.
pub const PAYLOAD_TYPE: u8 = 96;

/// Baseline, level 3, 640x480; and a PPS.
const H264_SETS: [&[u8]; 2] =
    [&[0x67, 0x42, 0x00, 0x1e, 0xda, 0x02, 0x80, 0xf4, 0x40], &[0x68, 0xce, 0x3c, 0x80]];
/// A VPS; Main, level 4, 1920x1080; and a PPS.
const H265_SETS: [&[u8]; 3] = [
    &[0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x01, 0x60],
    &[
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00,
        0x78, 0xa0, 0x03, 0xc0, 0x80, 0x11, 0x07, 0xcb, 0x96, 0xb4, 0xa4, 0x25, 0x92, 0xe3, 0x01, 0x6a, 0x02,
        0x02, 0x02, 0x08, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x00, 0x03, 0x00, 0xc8, 0x40,
    ],
    &[0x44, 0x01, 0xc0, 0xf2, 0xf0, 0x3c, 0x90],
];

/// The parameter sets of [`key_unit`].
pub const fn parameter_sets(codec: Codec) -> &'static [&'static [u8]] {
    match codec {
        Codec::H264 => &H264_SETS,
        Codec::H265 => &H265_SETS,
    }
}

/// The NAL units of a picture that can be decoded by itself.
pub fn key_unit(codec: Codec, body: &[u8]) -> Vec<Vec<u8>> {
    let slice_header: &[u8] = match codec {
        Codec::H264 => &[0x65, 0x88],
        Codec::H265 => &[0x26, 0x01, 0xaf],
    };
    let sets = parameter_sets(codec).iter().map(|set| set.to_vec());
    sets.chain([[slice_header, body].concat()]).collect()
}

/// The NAL unit of a picture that refers to the one before.
pub fn other_unit(codec: Codec, body: &[u8]) -> Vec<Vec<u8>> {
    let slice_header: &[u8] = match codec {
        Codec::H264 => &[0x41, 0x9a],
        Codec::H265 => &[0x02, 0x01, 0xd0],
    };
    vec![[slice_header, body].concat()]
}

/// RTP payloads that carry `nals` in order: each by itself, with the next, or in parts (RFC 6184 §5.6 to §5.8, RFC 7798
/// §4.4). `has_don`: with decoding order numbers (H.265).
pub fn payloads(
    codec: Codec,
    has_don: bool,
    nals: &[Vec<u8>],
    input: &mut Unstructured<'_>,
) -> Result<Vec<Vec<u8>>> {
    let don: &[u8] = if has_don { &[0, 9] } else { &[] };
    let mut payloads = Vec::new();
    let mut rest = nals;
    while let [nal, after @ ..] = rest {
        let (header, body) = nal.split_at(header_len(codec));
        match input.int_in_range(0..=2)? {
            1 if !after.is_empty() => {
                payloads.push(aggregate(codec, has_don, &[nal, &after[0]]));
                rest = &after[1..];
                continue;
            }
            2 if body.len() > 1 => {
                let part_len = input.int_in_range(1..=body.len() - 1)?;
                let parts: Vec<&[u8]> = body.chunks(part_len).collect();
                for (number, part) in parts.iter().enumerate() {
                    let (is_first, is_last) = (number == 0, number + 1 == parts.len());
                    let fragment = fragment(codec, header, is_first, is_last);
                    payloads.push([&fragment[..], if is_first { don } else { &[] }, part].concat());
                }
            }
            _ => payloads.push([header, don, body].concat()),
        }
        rest = after;
    }
    Ok(payloads)
}

/// STAP-A or AP.
fn aggregate(codec: Codec, has_don: bool, nals: &[&Vec<u8>]) -> Vec<u8> {
    let mut payload = match codec {
        Codec::H264 => vec![0x78],
        Codec::H265 => vec![0x60, 0x01],
    };
    for (number, nal) in nals.iter().enumerate() {
        let order: &[u8] = match (has_don, number) {
            (false, _) => &[],
            (true, 0) => &[0, 9],
            (true, _) => &[1],
        };
        payload.extend_from_slice(order);
        payload.extend_from_slice(&u16::try_from(nal.len()).unwrap().to_be_bytes());
        payload.extend_from_slice(nal);
    }
    payload
}

/// Payload header and FU header of a part of a NAL unit.
fn fragment(codec: Codec, header: &[u8], is_first: bool, is_last: bool) -> Vec<u8> {
    let flags = u8::from(is_first) << 7 | u8::from(is_last) << 6;
    match codec {
        Codec::H264 => vec![header[0] & 0xe0 | 28, flags | header[0] & 0x1f],
        Codec::H265 => vec![header[0] & 0x81 | 49 << 1, header[1], flags | header[0] >> 1 & 0x3f],
    }
}

/// Bytes of a NAL header.
pub const fn header_len(codec: Codec) -> usize {
    match codec {
        Codec::H264 => 1,
        Codec::H265 => 2,
    }
}

/// An RTP packet without CSRC list, extension and padding.
pub fn rtp(marker: bool, sequence: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, u8::from(marker) << 7 | PAYLOAD_TYPE];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// A sender report (RFC 3550 §6.4.1).
pub fn sender_report(ssrc: u32, ntp: u64, timestamp: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&ntp.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&[0; 8]);
    packet
}

/// An interleaved frame (RFC 2326 §10.12) of the packet's first 65,535 bytes.
pub fn frame(channel: u8, packet: &[u8]) -> Vec<u8> {
    let len = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    let mut frame = vec![b'$', channel];
    frame.extend_from_slice(&len.to_be_bytes());
    frame.extend_from_slice(&packet[..len.into()]);
    frame
}
