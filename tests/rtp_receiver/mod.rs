//! RTP packets in, access units out: parser, order, clock and depacketiser joined as ingest joins them, and a
//! writer of packets with everything a header may have.

#![allow(dead_code, reason = "each test uses its part")]

use vms_media::codec::testing::VecSink;
use vms_media::codec::{Codec, Depacketizer, PacketInfo};
use vms_media::rtp::{Arrival, Header, MediaClock, PacketEvent, PacketParser, Sequence, WallClock};
use vms_media::time::{Mono, Now, UnixNanos};

/// One connection's video.
pub(crate) struct Receiver {
    parser: PacketParser,
    sequence: Sequence,
    media_clock: MediaClock,
    wall_clock: WallClock,
    pub(crate) depacketizer: Depacketizer,
    pub(crate) sink: VecSink,
    now: Now,
}

impl Receiver {
    pub(crate) fn new(codec: Codec, has_don: bool) -> Self {
        Self {
            parser: PacketParser::new(),
            sequence: Sequence::new(),
            media_clock: MediaClock::new(),
            wall_clock: WallClock::new(),
            depacketizer: Depacketizer::new(codec, has_don),
            sink: VecSink::new(),
            now: Now { mono: Mono(1), wall: UnixNanos(1) },
        }
    }

    /// Takes one packet in pieces that end at `cuts`, which grow.
    pub(crate) fn receive(&mut self, packet: &[u8], cuts: &[usize]) {
        self.now.mono.0 += 100_000;
        if self.parser.begin(packet.len()).is_err() {
            return;
        }
        let (mut from, mut open) = (0, false);
        for to in cuts.iter().map(|cut| (*cut).min(packet.len())).chain([packet.len()]) {
            let mut input = &packet[from..to];
            from = to;
            loop {
                match self.parser.next(&mut input) {
                    Ok(None) => break,
                    Ok(Some(PacketEvent::Header(header))) => {
                        open = begin(
                            &header,
                            self.now,
                            &mut self.sequence,
                            (&mut self.media_clock, &mut self.wall_clock),
                            &mut self.depacketizer,
                            &mut self.sink,
                        );
                    }
                    Ok(Some(PacketEvent::Payload(piece))) if open => {
                        self.depacketizer.packet_bytes(piece, &mut self.sink);
                    }
                    Ok(Some(PacketEvent::End)) if open => self.depacketizer.packet_end(&mut self.sink),
                    Ok(Some(_)) => {}
                    Err(_) => break,
                }
            }
        }
        assert_eq!(self.depacketizer.unit_open(), self.sink.is_open());
    }
}

/// Whether the packet's payload is wanted; its beginning is then told to the depacketiser.
fn begin(
    header: &Header,
    now: Now,
    sequence: &mut Sequence,
    (media_clock, wall_clock): (&mut MediaClock, &mut WallClock),
    depacketizer: &mut Depacketizer,
    sink: &mut VecSink,
) -> bool {
    let lost_before = match sequence.receive(header.ssrc, header.sequence, header.timestamp, now.mono) {
        Arrival::Duplicate | Arrival::Late => return false,
        Arrival::First => 0,
        Arrival::Next { lost } => lost,
        Arrival::Restart => {
            media_clock.restart();
            wall_clock.reset();
            0
        }
    };
    let media = media_clock.stamp(header.timestamp, now.mono);
    let wall = wall_clock.wall(header.timestamp, now);
    let packet = PacketInfo {
        sequence: header.sequence,
        timestamp: header.timestamp,
        marker: header.marker,
        ssrc: header.ssrc,
        payload_len: header.payload_len,
        lost_before,
        media_ticks: media.ticks,
        timeline: media.timeline,
        ticks_estimated: media.estimated,
        received: now.mono,
        wall: wall.at,
        wall_error_us: wall.error_us,
        clock_source: wall.source,
    };
    depacketizer.packet_begin(&packet, sink);
    true
}

/// What a packet has beside its payload.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dressing {
    pub(crate) csrc_count: u8,
    /// Words of a header extension.
    pub(crate) extension: Option<u8>,
    /// Bytes of padding; 0 for none.
    pub(crate) padding: u8,
}

/// An RTP packet of payload type 96.
pub(crate) fn packet(
    sequence: u16,
    timestamp: u32,
    marker: bool,
    payload: &[u8],
    dressing: Dressing,
) -> Vec<u8> {
    let Dressing { csrc_count, extension, padding } = dressing;
    let flags = 0x80 | u8::from(padding > 0) << 5 | u8::from(extension.is_some()) << 4 | csrc_count & 15;
    let mut packet = vec![flags, u8::from(marker) << 7 | 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(0x5151_5151_u32.to_be_bytes());
    packet.resize(packet.len() + usize::from(csrc_count & 15) * 4, 0xcc);
    if let Some(words) = extension {
        packet.extend([0xab, 0xac, 0, words]);
        packet.resize(packet.len() + usize::from(words) * 4, 0xee);
    }
    packet.extend_from_slice(payload);
    if padding > 0 {
        packet.resize(packet.len() + usize::from(padding) - 1, 0);
        packet.push(padding);
    }
    packet
}

/// Pseudo-random numbers from a seed (xorshift64*).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap_or(0) % end
    }

    /// A byte below `end`.
    pub(crate) fn byte_below(&mut self, end: u8) -> u8 {
        u8::try_from(self.below(usize::from(end))).unwrap_or(0)
    }

    /// True once in `n`.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Up to three places within `len`, growing.
    pub(crate) fn cuts(&mut self, len: usize) -> Vec<usize> {
        let mut cuts: Vec<usize> = (0..self.below(4)).map(|_| self.below(len + 1)).collect();
        cuts.sort_unstable();
        cuts
    }
}
