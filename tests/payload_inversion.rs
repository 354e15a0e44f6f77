//! What another implementation payloads, we take apart into the same NAL units.
//!
//! The payloaders are those of the `rtp` crate (webrtc-rs). They do not send everything that they are given; what
//! they leave out is modelled by `sent_h264` and `sent_h265`.

#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod rtp_receiver;

use bytes::Bytes;
use rtp::codecs::h264::H264Payloader;
use rtp::codecs::h265::HevcPayloader;
use rtp::packetizer::Payloader;
use rtp_receiver::{Dressing, Random, Receiver, packet};
use vms_media::codec::{Codec, UnitFlags};

type Unit = Vec<Vec<u8>>;

const MTUS: [usize; 8] = [60, 61, 100, 500, 1200, 1400, 9000, 65_000];

#[test]
fn h264_comes_back_however_it_is_cut() {
    for seed in 0..24 {
        let mut random = Random::new(seed);
        for mtu in MTUS {
            let units: Vec<Unit> = (0..8).map(|_| h264_unit(&mut random, mtu)).collect();
            let sent = units.iter().map(|unit| sent_h264(unit, mtu)).collect();
            invert(Codec::H264, Box::new(H264Payloader::default()), mtu, &units, sent, &mut random);
        }
    }
}

#[test]
fn h265_comes_back_however_it_is_cut() {
    for seed in 0..24 {
        let mut random = Random::new(seed);
        for mtu in MTUS {
            let units: Vec<Unit> = (0..8).map(|_| h265_unit(&mut random, mtu)).collect();
            let sent = units.clone();
            invert(Codec::H265, Box::new(HevcPayloader::default()), mtu, &units, sent, &mut random);
        }
    }
}

#[test]
fn every_packet_may_be_cut_at_every_two_bytes() {
    let mut random = Random::new(7);
    let units: Vec<Unit> = (0..3).map(|_| h264_unit(&mut random, 60)).collect();
    let sent: Vec<Unit> = units.iter().map(|unit| sent_h264(unit, 60)).collect();
    let packets = packets(Box::new(H264Payloader::default()), 60, &units, &mut random);
    let longest = packets.iter().map(Vec::len).max().unwrap();
    for first in 0..=longest {
        for second in (first..=longest).step_by(7) {
            let mut receiver = Receiver::new(Codec::H264, false);
            packets.iter().for_each(|packet| receiver.receive(packet, &[first, second]));
            assert_eq!(receiver.sink.nals(), sent, "cut at {first} and {second}");
        }
    }
}

#[test]
fn every_byte_may_come_alone() {
    let mut random = Random::new(9);
    let units: Vec<Unit> = (0..4).map(|_| h265_unit(&mut random, 100)).collect();
    let mut receiver = Receiver::new(Codec::H265, false);
    for packet in packets(Box::new(HevcPayloader::default()), 100, &units, &mut random) {
        let cuts: Vec<usize> = (0..packet.len()).collect();
        receiver.receive(&packet, &cuts);
    }
    assert_eq!(receiver.sink.nals(), units);
}

/// Payloads `units`, takes the packets apart at random cuts, and compares with what was `sent`.
fn invert(
    codec: Codec,
    payloader: Box<dyn Payloader>,
    mtu: usize,
    units: &[Unit],
    sent: Vec<Unit>,
    random: &mut Random,
) {
    let mut receiver = Receiver::new(codec, false);
    for packet in packets(payloader, mtu, units, random) {
        let cuts = random.cuts(packet.len());
        receiver.receive(&packet, &cuts);
    }
    assert_eq!(receiver.sink.nals(), sent, "mtu {mtu}");
    let mut damaged = 0;
    for (unit, sent) in receiver.sink.units.iter().zip(&sent) {
        let key = sent.iter().any(|nal| match codec {
            Codec::H264 => nal[0] & 0x1f == 5,
            Codec::H265 => matches!(nal[0] >> 1, 16..=23),
        });
        // The random bytes of an SEI may say that it is one.
        let recovery_point = unit.flags.contains(UnitFlags::RECOVERY_POINT);
        assert_eq!(unit.flags.contains(UnitFlags::KEY), key || recovery_point);
        assert!(!(key && recovery_point));
        damaged += u64::from(unit.flags.contains(UnitFlags::DAMAGED));
        assert_eq!(unit.lost_packets, 0);
    }
    let stats = receiver.depacketizer.stats();
    // The payloader does not say that a fragment is the last where that is as long as the others. It cannot be told then from a
    // NAL unit whose end was left out, until it is known of the sender.
    assert!(damaged <= stats.fragments_unended, "{damaged} of {}", stats.fragments_unended);
    assert_eq!((stats.nals_dropped, stats.fragments_dropped, stats.malformed), (0, 0, 0));
    assert_eq!(receiver.sink.aborted, 0);
}

/// The packets of `units`, each unit's last with the marker, dressed at random.
fn packets(
    mut payloader: Box<dyn Payloader>,
    mtu: usize,
    units: &[Unit],
    random: &mut Random,
) -> Vec<Vec<u8>> {
    let (mut sequence, mut timestamp) = (u16::MAX - 20, u32::MAX - 9000);
    let mut packets = Vec::new();
    for unit in units {
        let stream: Vec<u8> = unit.iter().flat_map(|nal| [&[0, 0, 0, 1], nal.as_slice()].concat()).collect();
        let payloads = payloader.payload(mtu, &Bytes::from(stream)).unwrap();
        for (n, payload) in payloads.iter().enumerate() {
            let dressing = Dressing {
                csrc_count: if random.one_in(4) { random.byte_below(16) } else { 0 },
                extension: random.one_in(4).then(|| random.byte_below(5)),
                padding: if random.one_in(4) { random.byte_below(20) } else { 0 },
            };
            packets.push(packet(sequence, timestamp, n + 1 == payloads.len(), payload, dressing));
            sequence = sequence.wrapping_add(1);
        }
        timestamp = timestamp.wrapping_add(3600);
    }
    packets
}

fn h264_unit(random: &mut Random, mtu: usize) -> Unit {
    let mut unit = Unit::new();
    if random.one_in(2) {
        unit.push(vec![0x09, 0xf0]);
    }
    if random.one_in(3) {
        let lens = [random.below(40), random.below(20)];
        unit.push(nal(&[0x67], lens[0], random));
        unit.push(nal(&[0x68], lens[1], random));
    }
    if random.one_in(3) {
        let len = random.below(200);
        unit.push(nal(&[0x06], len, random));
    }
    let header = if random.one_in(4) { 0x65 } else { 0x41 };
    for _ in 0..=random.below(5) {
        let len = slice_len(mtu, random);
        unit.push(nal(&[header], len, random));
    }
    if random.one_in(4) {
        unit.push(nal(&[0x0c], 30, random));
    }
    unit
}

/// What the payloader sends of a unit: no delimiters and fillers; SPS and PPS only together, in an aggregate
/// before the NAL unit that follows, and only if that fits the MTU.
fn sent_h264(unit: &Unit, mtu: usize) -> Unit {
    let sets: Vec<&Vec<u8>> = unit.iter().filter(|nal| matches!(nal[0] & 0x1f, 7 | 8)).collect();
    let fits = sets.iter().map(|nal| 2 + nal.len()).sum::<usize>() < mtu;
    unit.iter()
        .filter(|nal| match nal[0] & 0x1f {
            9 | 12 => false,
            7 | 8 => fits,
            _ => true,
        })
        .cloned()
        .collect()
}

/// The payloader fragments only IDR, TRAIL_R and TRAIL_N, and keeps parameter sets back until they fit the MTU
/// together; others are made small enough here.
fn h265_unit(random: &mut Random, mtu: usize) -> Unit {
    let mut unit = Unit::new();
    if random.one_in(3) {
        for nal_type in [32_u8, 33, 34] {
            let len = random.below(14);
            unit.push(nal(&[nal_type << 1, 1], len, random));
        }
    }
    if random.one_in(3) {
        let len = random.below(56);
        unit.push(nal(&[39 << 1, 1], len, random));
    }
    let nal_type = [0_u8, 1, 1, 19, 21][random.below(5)];
    for _ in 0..=random.below(5) {
        let len = if nal_type == 21 { random.below(56) } else { slice_len(mtu, random) };
        // A last fragment as long as the others is not marked so, and the NAL unit is taken for one that lacks its end.
        let len = len + usize::from((len + 1).is_multiple_of(mtu - 3));
        unit.push(nal(&[nal_type << 1, 1], len, random));
    }
    unit
}

/// Around the MTU, where the payloaders change their mind, or anything else.
fn slice_len(mtu: usize, random: &mut Random) -> usize {
    match random.below(4) {
        0 => mtu - 6 + random.below(12),
        1 => random.below(3 * mtu),
        2 if random.one_in(16) => random.below(200_000),
        _ => 1 + random.below(300),
    }
}

/// A NAL unit with `len` bytes behind its header, in which no start code occurs and whose last byte is not zero.
fn nal(header: &[u8], len: usize, random: &mut Random) -> Vec<u8> {
    let mut nal = header.to_vec();
    for _ in 0..len {
        let byte = random.next().to_le_bytes()[0];
        let after_zero = nal.last() == Some(&0);
        nal.push(if byte == 0 && after_zero { 3 } else { byte });
    }
    nal.push(0x80);
    nal
}
