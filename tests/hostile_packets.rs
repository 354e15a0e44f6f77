//! Whatever a camera sends: no panic, the sink's calls stay in order (it insists), nothing grows without limit,
//! and the result does not depend on where the input is cut.

mod rtp_receiver;

use proptest::collection::vec;
use proptest::prelude::*;
use rtp_receiver::{Dressing, Receiver, packet};
use vms_media::codec::{Codec, UnitFlags};

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(packets in vec(vec(any::<u8>(), 0..200), 0..40), cut in 0_usize..200) {
        for codec in [Codec::H264, Codec::H265] {
            same_however_cut(codec, false, &packets, cut);
        }
    }

    #[test]
    fn any_payloads(payloads in vec(camera_packet(), 0..60), cut in 0_usize..60, has_don: bool) {
        let mut sequence = 0_u16;
        let packets: Vec<Vec<u8>> = payloads
            .into_iter()
            .map(|sent| {
                sequence = sequence.wrapping_add(sent.step);
                let padding = Dressing { padding: sent.padding, ..Dressing::default() };
                packet(sequence, sent.timestamp, sent.marker, &sent.payload, padding)
            })
            .collect();
        for codec in [Codec::H264, Codec::H265] {
            same_however_cut(codec, has_don, &packets, cut);
        }
    }
}

/// The bug class that took retina to half a gigabyte: a fragment that never ends.
#[test]
fn an_endless_fragment_ends_at_the_limit() {
    for (codec, start, middle) in [
        (Codec::H264, &[0x7c, 0x85][..], &[0x7c, 0x05][..]),
        (Codec::H265, &[0x62, 1, 0x93], &[0x62, 1, 0x13]),
    ] {
        let mut receiver = Receiver::new(codec, false);
        receiver.receive(&packet(0, 0, false, start, Dressing::default()), &[]);
        let payload = [middle, &[7; 60_000]].concat();
        for sequence in 1..200 {
            receiver.receive(&packet(sequence, 0, false, &payload, Dressing::default()), &[]);
        }
        assert_eq!((receiver.sink.aborted, receiver.sink.units.len()), (1, 0));
        let whole: &[u8] = if codec == Codec::H264 { &[0x65, 0x88] } else { &[0x26, 1, 0x80] };
        receiver.receive(&packet(200, 1, true, whole, Dressing::default()), &[]);
        assert_eq!(receiver.sink.nals(), [[whole]]);
        assert!(!receiver.sink.units[0].flags.contains(UnitFlags::DAMAGED));
        assert_eq!(receiver.sink.units[0].lost_packets, 200);
    }
}

/// A head that is dropped takes the NAL unit along that is open in it: else its end would be noted in the next unit.
#[test]
fn a_dropped_head_leaves_nothing_behind() {
    let mut receiver = Receiver::new(Codec::H264, false);
    let sent: [(u32, &[u8]); 4] = [(0, &[120, 0, 1]), (1, &[124, 147]), (2, &[]), (0, &[65])];
    for (sequence, (timestamp, payload)) in (1..).zip(sent) {
        receiver.receive(&packet(sequence, timestamp, false, payload, Dressing::default()), &[]);
    }
    receiver.receive(&packet(5, 9, true, &[0x65, 0x88], Dressing::default()), &[]);
    assert_eq!(receiver.sink.nals().last().unwrap(), &[&[0x65, 0x88][..]]);
}

#[derive(Clone, Debug)]
struct CameraPacket {
    step: u16,
    timestamp: u32,
    marker: bool,
    padding: u8,
    payload: Vec<u8>,
}

/// Mostly in order, mostly of a few units, and mostly with payload headers that mean something.
fn camera_packet() -> impl Strategy<Value = CameraPacket> {
    let step = prop_oneof![20 => Just(1_u16), 1 => Just(0), 2 => 2_u16..5, 1 => any::<u16>()];
    let timestamp = prop_oneof![20 => 0_u32..4, 1 => any::<u32>()];
    let padding = prop_oneof![9 => Just(0_u8), 1 => any::<u8>()];
    (step, timestamp, any::<bool>(), padding, payload()).prop_map(
        |(step, timestamp, marker, padding, payload)| CameraPacket {
            step,
            timestamp,
            marker,
            padding,
            payload,
        },
    )
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        0x00_u8, 0x06, 0x09, 0x41, 0x65, 0x67, 0x68, 0x78, 0x7c, 0x7d, 0x26, 0x40, 0x42, 0x44, 0x4e, 0x60,
        0x62, 0x64,
    ]);
    let byte = prop_oneof![
        prop::sample::select(vec![0_u8, 1, 2, 3, 4, 0x05, 0x13, 0x45, 0x53, 0x80, 0x85, 0x93, 0xc5]),
        any::<u8>()
    ];
    prop_oneof![20 => (first, vec(byte, 0..40)).prop_map(|(first, rest)| [&[first], rest.as_slice()].concat()), 1 => Just(vec![])]
}

fn same_however_cut(codec: Codec, has_don: bool, packets: &[Vec<u8>], cut: usize) {
    let receive = |cuts: &dyn Fn(usize) -> Vec<usize>| {
        let mut receiver = Receiver::new(codec, has_don);
        for packet in packets {
            receiver.receive(packet, &cuts(packet.len()));
        }
        receiver.depacketizer.flush(&mut receiver.sink);
        assert!(!receiver.sink.is_open());
        receiver
    };
    let whole = receive(&|_| vec![]);
    for other in [receive(&|_| vec![cut]), receive(&|len| (0..len).collect())] {
        assert_eq!(other.sink.units, whole.sink.units);
        assert_eq!(other.sink.configs, whole.sink.configs);
        assert_eq!(other.depacketizer.stats(), whole.depacketizer.stats());
    }
}
