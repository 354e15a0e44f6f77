//! Any RTP packets, in any portions and order, at times that jump, against `rtp::PacketParser`, `Sequence` and `MediaClock`.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use vms_fuzz::cuts::Cuts;
use vms_fuzz::{Result, Unstructured, memory, packets};
use vms_pure::limits::RTP_PACKET_LEN_MAX;
use vms_pure::rtp::{
    Arrival, Header, MediaClock, MediaTime, PacketError, PacketEvent, PacketParser, Sequence, is_rtcp,
    plain_packet,
};
use vms_pure::time::Mono;

fuzz_target!(init: memory::limit(), |data: &[u8]| {
    // Ends with the input.
    let _ = Source::default().run(&mut Unstructured::new(data));
});

/// A camera, the parts under test, and plain models of them.
#[derive(Default)]
struct Source {
    ssrc: u32,
    number: u16,
    timestamp: u32,
    now: Mono,
    parser: PacketParser,
    cut_parser: PacketParser,
    sequence: Sequence,
    order: Option<Order>,
    clock: MediaClock,
    timeline: Timeline,
    lost: u64,
}

impl Source {
    fn run(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let mut cuts = Cuts::new(input.arbitrary()?);
        while !input.is_empty() {
            let packet = if input.ratio(1, 4)? { raw(input)? } else { self.packet(input)? };
            let mut pieces = cuts.pieces(&packet);
            let cut = parse(&mut self.cut_parser, packet.len(), &mut pieces);
            let whole = parse(&mut self.parser, packet.len(), &mut std::iter::once(&packet[..]));
            assert_eq!(whole, cut, "the portions make a difference");
            assert_eq!(whole, model(&packet), "not as RFC 3550 has it");
            if let Some((header, payload)) = plain_packet(&packet) {
                assert_eq!(
                    whole,
                    Ok(Packet::Media(header, payload.to_vec())),
                    "the short way leads elsewhere"
                );
            }
            if let Ok(Packet::Media(header, _)) = whole {
                self.receive(&header);
            }
            if input.ratio(1, 16)? {
                self.report();
            }
        }
        Ok(())
    }

    /// A packet with all that a header can have, mostly the next in order.
    fn packet(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        if input.ratio(1, 32)? {
            self.ssrc = input.arbitrary()?;
        }
        self.number = match input.int_in_range(0..=9)? {
            0..=5 => self.number.wrapping_add(1),
            6 => self.number.wrapping_add(input.int_in_range(0..=70)?),
            7 => self.number.wrapping_sub(input.int_in_range(0..=70)?),
            8 => self.number.wrapping_add(input.int_in_range(2990..=3010)?),
            _ => input.arbitrary()?,
        };
        self.timestamp = match input.int_in_range(0..=7)? {
            0..=3 => self.timestamp.wrapping_add(3600),
            4 => self.timestamp,
            5 => self.timestamp.wrapping_sub(3600),
            6 => self.timestamp.wrapping_add(1 << input.int_in_range(0..=31_u32)?),
            _ => input.arbitrary()?,
        };
        self.now = Mono(self.now.0.saturating_add(match input.int_in_range(0..=7)? {
            0..=4 => 40_000_000,
            5 => 0,
            6 => 1 << input.int_in_range(0..=62_u32)?,
            _ => input.arbitrary::<u32>()?.into(),
        }));
        let payload_len = input.int_in_range(0..=40)?.min(input.len());
        let payload = input.bytes(payload_len)?;
        let mut packet = packets::rtp(input.arbitrary()?, self.number, self.timestamp, self.ssrc, payload);
        if input.ratio(1, 4)? {
            dress(&mut packet, input)?;
        }
        Ok(packet)
    }

    fn receive(&mut self, header: &Header) {
        let arrival = self.sequence.receive(header.ssrc, header.sequence, header.timestamp, self.now);
        let expected = match &mut self.order {
            Some(order) if order.ssrc == header.ssrc => order.receive(header.sequence),
            Some(_) => Arrival::Restart,
            None => Arrival::First,
        };
        assert_eq!(arrival, expected);
        match arrival {
            Arrival::First | Arrival::Restart => self.order = Some(Order::new(header.ssrc, header.sequence)),
            Arrival::Next { lost } => self.lost += u64::from(lost),
            Arrival::Duplicate | Arrival::Late => {}
        }
        assert_eq!(self.sequence.lost(), self.lost);
        if let Some(order) = &mut self.order {
            order.received += 1;
        }
        if matches!(arrival, Arrival::Duplicate | Arrival::Late) {
            return;
        }
        if arrival == Arrival::Restart {
            self.clock.restart();
            self.timeline.restart();
        }
        let time = self.clock.stamp(header.timestamp, self.now);
        self.timeline.check(header.timestamp, time);
    }

    fn report(&mut self) {
        let report = self.sequence.report();
        let Some(order) = &mut self.order else { return assert_eq!(report, None) };
        let report = report.unwrap();
        let expected = order.highest - order.base + 1;
        let lost = expected.cast_signed() - order.received.cast_signed();
        assert_eq!(u64::from(report.extended_highest_sequence), order.highest & u64::from(u32::MAX));
        assert_eq!(i64::from(report.cumulative_lost), lost.clamp(-0x80_0000, 0x7f_ffff));
        let (expected_before, received_before) =
            std::mem::replace(&mut order.reported, (expected, order.received));
        let (expected, received) = (expected - expected_before, order.received - received_before);
        let fraction = if expected > received { (expected - received) * 256 / expected } else { 0 };
        assert_eq!(u64::from(report.fraction_lost), fraction.min(255));
    }
}

/// What a packet is.
#[derive(Debug, PartialEq)]
enum Packet {
    Media(Header, Vec<u8>),
    Rtcp(Vec<u8>),
}

fn parse<'a>(
    parser: &mut PacketParser,
    len: usize,
    pieces: &mut dyn Iterator<Item = &'a [u8]>,
) -> std::result::Result<Packet, PacketError> {
    parser.begin(len)?;
    let (mut media, mut rtcp, mut is_over) = (None, None, false);
    // The last, empty one: an event may be due without more input.
    for mut piece in pieces.chain([&[][..]]) {
        while let Some(event) = parser.next(&mut piece)? {
            assert!(!is_over, "more comes behind the end");
            match event {
                PacketEvent::Header(header) => assert!(media.replace((header, Vec::new())).is_none()),
                PacketEvent::Payload(bytes) => {
                    assert!(!bytes.is_empty());
                    let (_, payload): &mut (Header, Vec<u8>) = media.as_mut().expect("behind its header");
                    payload.extend_from_slice(bytes);
                }
                PacketEvent::End => is_over = true,
                PacketEvent::Rtcp(packet) => (rtcp, is_over) = (Some(packet.to_vec()), true),
            }
        }
        assert!(piece.is_empty(), "all input was taken");
    }
    assert!(is_over, "the packet was whole");
    Ok(match (media, rtcp) {
        (Some((header, payload)), None) => Packet::Media(header, payload),
        (None, Some(packet)) => Packet::Rtcp(packet),
        both => panic!("{both:?}"),
    })
}

/// RFC 3550 §5.1 and §5.3.1, read off a whole packet.
fn model(packet: &[u8]) -> std::result::Result<Packet, PacketError> {
    let len = packet.len();
    match len {
        0..4 => return Err(PacketError::Short { len }),
        _ if len > RTP_PACKET_LEN_MAX => return Err(PacketError::Long { len }),
        _ if packet[0] >> 6 != 2 => return Err(PacketError::Version(packet[0] >> 6)),
        _ if is_rtcp(packet[1]) => return Ok(Packet::Rtcp(packet.to_vec())),
        0..12 => return Err(PacketError::Short { len }),
        _ => {}
    }
    let padding = if packet[0] & 0x20 != 0 { usize::from(packet[len - 1]) } else { 0 };
    if padding + 12 > len || (packet[0] & 0x20 != 0 && padding == 0) {
        return Err(PacketError::Padding);
    }
    let packet = &packet[..len - padding];
    let mut start = 12 + usize::from(packet[0] & 15) * 4;
    if packet[0] & 0x10 != 0 {
        let words = packet.get(start + 2..start + 4).ok_or(PacketError::Header)?;
        start += 4 + usize::from(u16::from_be_bytes([words[0], words[1]])) * 4;
    }
    let payload = packet.get(start..).ok_or(PacketError::Header)?;
    let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
    let header = Header {
        marker: packet[1] & 0x80 != 0,
        payload_type: packet[1] & 0x7f,
        sequence: u16::from_be_bytes([packet[2], packet[3]]),
        timestamp: word(4),
        ssrc: word(8),
        payload_len: payload.len(),
    };
    Ok(Packet::Media(header, payload.to_vec()))
}

/// The order of one source's packets by plain numbers.
struct Order {
    ssrc: u32,
    base: u64,
    highest: u64,
    /// Those of the newest 64 numbers that came.
    seen: BTreeSet<u64>,
    /// How many packets in a row counted up from behind, and the last of them.
    behind: (u32, u16),
    received: u64,
    reported: (u64, u64),
}

impl Order {
    fn new(ssrc: u32, number: u16) -> Self {
        let base = u64::from(number);
        let seen = BTreeSet::from([base]);
        Self { ssrc, base, highest: base, seen, behind: (0, 0), received: 0, reported: (0, 0) }
    }

    fn receive(&mut self, number: u16) -> Arrival {
        let ahead = (u64::from(number) + (1 << 16) - self.highest % (1 << 16)) % (1 << 16);
        if (1..=3000).contains(&ahead) {
            self.highest += ahead;
            self.seen.insert(self.highest);
            self.behind.0 = 0;
            return Arrival::Next { lost: u32::try_from(ahead).unwrap() - 1 };
        }
        let behind = ((1 << 16) - ahead) % (1 << 16);
        if behind >= 64 {
            return Arrival::Restart;
        }
        let (run, last) = self.behind;
        self.behind = (if run > 0 && number == last.wrapping_add(1) { run + 1 } else { 1 }, number);
        if self.behind.0 >= 8 {
            return Arrival::Restart;
        }
        // Numbers before the first wrap to the end of a range that nothing else uses.
        if self.seen.insert(self.highest.wrapping_sub(behind)) { Arrival::Late } else { Arrival::Duplicate }
    }
}

/// What media time promises.
#[derive(Default)]
struct Timeline {
    /// The timeline's first timestamp, its first tick, and its number.
    first: Option<(u32, i64, u32)>,
    /// Whether the next packet begins another.
    is_over: bool,
    highest: i64,
}

impl Timeline {
    fn restart(&mut self) {
        self.is_over = true;
    }

    fn check(&mut self, timestamp: u32, time: MediaTime) {
        match self.first {
            Some((first, ticks, number)) if number == time.timeline => {
                assert!(!self.is_over, "a restart is a new timeline");
                if !time.estimated {
                    let (media, ours) = (timestamp.wrapping_sub(first), time.ticks.wrapping_sub(ticks));
                    assert_eq!(media, (ours & i64::from(u32::MAX)) as u32, "ticks differ as timestamps do");
                }
            }
            before => {
                assert!(!time.estimated);
                assert_eq!(time.timeline, before.map_or(0, |(_, _, number)| number + 1));
                assert!(before.is_none() || time.ticks > self.highest, "a new timeline lies behind");
                self.first = Some((timestamp, time.ticks, time.timeline));
                self.is_over = false;
            }
        }
        self.highest = self.highest.max(time.ticks);
    }
}

fn raw(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = input.int_in_range(0..=60)?.min(input.len());
    let mut packet = input.bytes(len)?.to_vec();
    if input.ratio(1, 32)? {
        packet.resize(packet.len() + usize::from(input.arbitrary::<u16>()?), 7);
    }
    Ok(packet)
}

/// Gives a packet sources, an extension and padding, which may be more than there is.
fn dress(packet: &mut Vec<u8>, input: &mut Unstructured<'_>) -> Result<()> {
    let mut between = Vec::new();
    if input.arbitrary()? {
        let count = input.int_in_range(0..=15_u8)?;
        packet[0] |= count;
        between.resize(usize::from(count) * 4, 1);
    }
    if input.arbitrary()? {
        packet[0] |= 0x10;
        let words = input.int_in_range(0..=20_u16)?;
        between.extend_from_slice(&[0xab, 0xac]);
        between.extend_from_slice(&words.to_be_bytes());
        between.resize(between.len() + usize::from(words) * 4, 2);
    }
    packet.splice(12..12, between);
    if input.arbitrary()? {
        packet[0] |= 0x20;
        packet.extend_from_slice(&[0, 0, input.int_in_range(0..=40)?]);
    }
    if input.ratio(1, 4)? {
        packet.truncate(input.choose_index(packet.len() + 1)?);
    }
    Ok(())
}
