//! What a camera sends means the same however it is received: a frame that lies whole in a receive goes a shorter way than one that
//! comes in pieces.

use super::*;

/// One thing that a camera sends.
#[derive(Clone, Copy, Debug)]
enum Sent {
    /// A packet of H.264.
    Packet {
        /// What its first byte has beside the version: padding, extension, number of CSRCs.
        dressing: u8,
        marker: bool,
        payload_type: u8,
        source: u8,
        /// From the sequence number before: 1 is in order.
        step: i16,
        payload: &'static [u8],
    },
    /// A frame of the bytes as they are.
    Frame { channel: u8, bytes: &'static [u8] },
    /// A frame that says it has so many bytes more than follow.
    Short { missing: u8, bytes: &'static [u8] },
    /// Bytes that are no frame.
    Loose(&'static [u8]),
}

const PAYLOADS: &[&[u8]] = &[
    &[0x65, 0x88, 1, 2, 3],
    &[0x41, 0x9a, 1],
    &[0x67, 0x42, 0x00, 0x0a, 0xf8, 0x41, 0xa2],
    &[0x68, 0xce, 0x38, 0x80],
    &[0x7c, 0x85, 1, 2, 3],
    &[0x7c, 0x05, 8, 9],
    &[0x7c, 0x45, 4, 5],
    &[0x7c],
    &[0x78, 0, 2, 0x09, 0x10, 0, 3, 0x41, 0x9a, 7],
    &[0x78, 0, 99, 0x41],
    &[0, 0, 0, 1, 0x41, 0x9a, 5, 0, 0, 1, 0x06, 1],
    &[0x18],
    &[],
];

const FRAMES: &[&[u8]] = &[
    &[],
    &[0x80],
    &[0x80, 96, 0, 1],
    &[0x80, 200, 0, 6, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
    &[0x81, 203, 0, 1, 9, 9, 9, 9],
    &[0x80, 199, 0, 1, 0, 0, 0, 0, 9, 9, 9, 9, 1],
    &[0x80, 208, 0, 1, 0, 0, 0, 0, 9, 9, 9, 9, 1],
    &[0x40, 96, 0, 1, 0, 0, 0, 0, 9, 9, 9, 9, 1],
    &[0xa0, 96, 0, 1, 0, 0, 0, 0, 9, 9, 9, 9, 0],
    &[0xa0, 96, 0, 1, 0, 0, 0, 0, 9, 9, 9, 9, 255],
    &[0x8f, 96, 0, 1, 0, 0, 0, 0, 9, 9, 9, 9, 0],
    &[0x90, 96, 0, 1, 0, 0, 0, 0, 9, 9, 9, 9, 0, 0, 255, 255],
];

const LOOSE: &[&[u8]] = &[
    b"\r\n",
    b"\0\0",
    b"xyz",
    b"$",
    b"$\x00\x00\x10",
    b"RTSP/1.0 200 OK\r\nCSeq: 77\r\n\r\n",
    b"OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n",
];

fn sent() -> impl Strategy<Value = Sent> {
    let dressing =
        prop_oneof![6 => Just(0_u8), 1 => Just(0x20), 1 => Just(0x10), 1 => Just(2), 1 => Just(0x32)];
    let step = prop_oneof![12 => Just(1_i16), 1 => Just(0), 1 => Just(2), 1 => Just(-1), 1 => Just(-70), 1 => Just(4000)];
    let payload_type = prop_oneof![12 => Just(96_u8), 1 => Just(97)];
    let source = prop_oneof![20 => Just(9_u8), 1 => Just(8)];
    let packet = (dressing, any::<bool>(), payload_type, source, step, prop::sample::select(PAYLOADS))
        .prop_map(|(dressing, marker, payload_type, source, step, payload)| Sent::Packet {
            dressing,
            marker,
            payload_type,
            source,
            step,
            payload,
        });
    prop_oneof![
        10 => packet,
        2 => (0..4_u8, prop::sample::select(FRAMES)).prop_map(|(channel, bytes)| Sent::Frame { channel, bytes }),
        1 => (1..40_u8, prop::sample::select(FRAMES)).prop_map(|(missing, bytes)| Sent::Short { missing, bytes }),
        1 => prop::sample::select(LOOSE).prop_map(Sent::Loose),
    ]
}

/// The bytes of all that, each with what it is by itself. Timestamps go on behind each marker.
fn bytes_of(all: &[Sent]) -> Vec<Vec<u8>> {
    let (mut sequence, mut timestamp) = (0_u16, 3600_u32);
    let mut one = |sent: &Sent| match *sent {
        Sent::Packet { dressing, marker, payload_type, source, step, payload } => {
            sequence = sequence.wrapping_add_signed(step);
            let mut packet = vec![0x80 | dressing, u8::from(marker) << 7 | payload_type];
            packet.extend(sequence.to_be_bytes());
            packet.extend(timestamp.to_be_bytes());
            packet.extend([source; 4]);
            packet.extend(vec![7; usize::from(dressing & 0x0f) * 4]);
            if dressing & 0x10 != 0 {
                packet.extend([0xab, 0xac, 0, 1, 1, 2, 3, 4]);
            }
            packet.extend(payload);
            if dressing & 0x20 != 0 {
                packet.extend([0, 0, 3]);
            }
            timestamp += if marker { 3600 } else { 0 };
            frame(0, packet.len(), &packet)
        }
        Sent::Frame { channel, bytes } => frame(channel, bytes.len(), bytes),
        Sent::Short { missing, bytes } => frame(0, bytes.len() + usize::from(missing), bytes),
        Sent::Loose(bytes) => bytes.to_vec(),
    };
    all.iter().map(&mut one).collect()
}

fn frame(channel: u8, len: usize, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![b'$', channel];
    bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
    bytes.extend(content);
    bytes
}

/// All that can be seen of a camera that received `pieces`.
fn seen(from_play: bool, pieces: &[&[u8]]) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut world = if from_play { World::asked_to_play() } else { World::playing() };
    for piece in pieces {
        world.camera.on_bytes(world.now, piece, &mut world.sink);
    }
    let (at_once, due) = (world.bytes_sent(), world.camera.poll_timeout());
    // Long enough for a receiver report.
    world.pass(Duration::from_secs(5));
    let later = world.bytes_sent();
    world.camera.on_closed(world.now, PeerClose::Closed, &mut world.sink);
    let camera = (*world.camera.stats(), world.camera.status().clone());
    (world.sink.units.clone(), camera, at_once, due, later, world.sink.is_open())
}

proptest! {
    #[test]
    fn what_a_camera_sends_means_the_same_however_it_is_received(
        all in prop::collection::vec(sent(), 0..40),
        from_play in any::<bool>(),
        portion in 2..200_usize,
    ) {
        let mut parts = bytes_of(&all);
        if from_play {
            parts.insert(0, b"RTSP/1.0 200 OK\r\n\r\n".to_vec());
        }
        let bytes = parts.concat();
        let cut = |portion| bytes.chunks(portion).collect::<Vec<_>>();
        let each: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let whole = seen(from_play, &[&bytes]);
        prop_assert_eq!(&whole, &seen(from_play, &cut(1)), "byte by byte");
        prop_assert_eq!(&whole, &seen(from_play, &cut(portion)), "in portions of {}", portion);
        prop_assert_eq!(&whole, &seen(from_play, &each), "each by itself");
    }
}
