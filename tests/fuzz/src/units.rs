//! Any payloads, in any order and portions, against a depacketiser: what the targets `h264` and `h265` are.

use vms_pure::codec::{ClockSource, Codec, Depacketizer, PacketInfo, UnitFlags};
use vms_pure::limits::UNIT_LEN_MAX;
use vms_pure::time::{Mono, UnixNanos};

use crate::cuts::Cuts;
use crate::sink::{Newest, Sink};
use crate::{Result, Unstructured, memory, packets};

/// What a depacketiser may hold: an index of NAL units, parameter sets, and a unit in Annex B form.
const HELD_MAX: usize = UNIT_LEN_MAX + 256 * 1024;

/// Runs one input.
pub fn run(codec: Codec, data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(mut stream) = Stream::new(codec, &mut input) else { return };
    // Ends with the input.
    let _ = stream.run(&mut input);
    stream.end();
}

/// Two depacketisers that are told the same: one payload by payload, the other in portions.
struct Stream {
    codec: Codec,
    has_don: bool,
    whole: Depacketizer,
    cut: Depacketizer,
    whole_sink: Sink,
    cut_sink: Sink,
    cuts: Cuts,
    next: PacketInfo,
    packets: u64,
    /// Packets that never came.
    lost: u64,
    /// Nobody said that what is open is to be forgotten.
    counts: bool,
    /// Bytes of the one flood.
    flood_len: usize,
    /// On the heap before.
    base: usize,
}

impl Stream {
    fn new(codec: Codec, input: &mut Unstructured<'_>) -> Result<Self> {
        let has_don = codec == Codec::H265 && input.arbitrary()?;
        // Small, so that units outgrow it soon.
        let limit = *input.choose(&[UNIT_LEN_MAX, 100_000, 3000])?;
        let cuts = Cuts::new(input.arbitrary()?);
        let base = memory::held();
        let depacketizer = || Depacketizer::new(codec, has_don);
        let sink = || Sink::new(limit);
        Ok(Self {
            codec,
            has_don,
            whole: depacketizer(),
            cut: depacketizer(),
            whole_sink: sink(),
            cut_sink: sink(),
            cuts,
            next: first_packet(),
            packets: 0,
            lost: 0,
            counts: true,
            flood_len: 3_000_000,
            base,
        })
    }

    fn run(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        while !input.is_empty() {
            match input.int_in_range(0..=11)? {
                0 => self.control(input)?,
                1 => {
                    let body_len = input.int_in_range(1..=40)?.min(input.len());
                    let body = input.bytes(body_len)?;
                    let unit = if input.arbitrary()? { packets::key_unit } else { packets::other_unit };
                    self.good_unit(&unit(self.codec, body), input)?;
                }
                2 => {
                    // More of the same, seldom until a limit is passed: the largest once, which takes long.
                    let payload = self.payload(input)?;
                    let most = match input.int_in_range(0..=63)? {
                        0 => std::mem::take(&mut self.flood_len),
                        1..=4 => 120_000.min(self.flood_len),
                        _ => 6000,
                    } / (payload.len() + 1);
                    for _ in 0..input.int_in_range(1..=400)?.min(most) {
                        self.next.marker = false;
                        self.packet(&payload, payload.len());
                    }
                }
                _ => {
                    let payload = self.payload(input)?;
                    self.step(input)?;
                    let cut_short = input.ratio(1, 32)?;
                    let len = payload.len() + if cut_short { input.int_in_range(1..=9)? } else { 0 };
                    self.packet(&payload, len);
                }
            }
            self.compare();
        }
        Ok(())
    }

    /// What the next packet is beside its payload: mostly one more of the same unit.
    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let next = &mut self.next;
        next.marker = input.ratio(1, 3)?;
        match input.int_in_range(0..=31)? {
            0..=3 => next.timestamp = next.timestamp.wrapping_add(3600),
            4 => next.timestamp = input.arbitrary()?,
            5 => next.lost_before = input.int_in_range(1..=3000)?,
            6 => (next.ssrc, next.timeline) = (input.arbitrary()?, next.timeline + 1),
            7 => next.ticks_estimated = input.arbitrary()?,
            _ => {}
        }
        Ok(())
    }

    fn packet(&mut self, payload: &[u8], len: usize) {
        let info = PacketInfo { payload_len: len, ..self.next };
        self.whole.packet_begin(&info, &mut self.whole_sink);
        self.cut.packet_begin(&info, &mut self.cut_sink);
        if !payload.is_empty() {
            self.whole.packet_bytes(payload, &mut self.whole_sink);
        }
        for piece in self.cuts.pieces(payload) {
            self.cut.packet_bytes(piece, &mut self.cut_sink);
        }
        self.whole.packet_end(&mut self.whole_sink);
        self.cut.packet_end(&mut self.cut_sink);
        self.packets += 1;
        self.lost += u64::from(info.lost_before);
        if info.marker {
            self.next.timestamp = info.timestamp.wrapping_add(3600);
        }
        self.next.lost_before = 0;
        self.next.sequence = info.sequence.wrapping_add(1);
        self.next.media_ticks = info.media_ticks + 1;
    }

    /// What the daemon says of itself, not of a packet.
    fn control(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let sets = packets::parameter_sets(self.codec);
        let choice = input.int_in_range(0..=4)?;
        let each = [(&mut self.whole, &mut self.whole_sink), (&mut self.cut, &mut self.cut_sink)];
        for (depacketizer, sink) in each {
            match choice {
                0 => depacketizer.flush(sink),
                1 => depacketizer.reset(sink),
                2 => depacketizer.mark_damaged(),
                3 => depacketizer.set_parameter_sets(sets.iter().copied()),
                _ => depacketizer.set_parameter_sets([]),
            }
        }
        self.counts &= !matches!(choice, 0 | 1);
        Ok(())
    }

    /// A unit as it should be, in packets of its own.
    fn good_unit(&mut self, nals: &[Vec<u8>], input: &mut Unstructured<'_>) -> Result<()> {
        let payloads = packets::payloads(self.codec, self.has_don, nals, input)?;
        self.next.timestamp = self.next.timestamp.wrapping_add(3600);
        for (number, payload) in payloads.iter().enumerate() {
            self.next.marker = number + 1 == payloads.len();
            self.packet(payload, payload.len());
        }
        Ok(())
    }

    /// Some payload: bytes, or something that resembles one.
    fn payload(&self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let nal_header = |input: &mut Unstructured<'_>| -> Result<Vec<u8>> {
            Ok(match self.codec {
                Codec::H264 => vec![input.int_in_range(0..=3_u8)? << 5 | input.int_in_range(1..=12_u8)?],
                Codec::H265 => {
                    let types = [0_u8, 1, 2, 9, 14, 16, 19, 20, 21, 31, 32, 33, 34, 35, 36, 39, 40];
                    vec![input.choose(&types)? << 1, input.int_in_range(1..=3)?]
                }
            })
        };
        let some = |input: &mut Unstructured<'_>, most: usize| -> Result<Vec<u8>> {
            let len = input.int_in_range(0..=most)?.min(input.len());
            Ok(input.bytes(len)?.to_vec())
        };
        let don: &[u8] = if self.has_don { &[0, 1] } else { &[] };
        Ok(match input.int_in_range(0..=9)? {
            0 => some(input, 60)?,
            1 | 2 => [nal_header(input)?, don.to_vec(), some(input, 20)?].concat(),
            3 => {
                let sets = packets::parameter_sets(self.codec);
                let mut set = input.choose(sets)?.to_vec();
                if input.arbitrary()? {
                    let at = input.choose_index(set.len())?;
                    set[at] = input.arbitrary()?;
                }
                if input.ratio(1, 8)? {
                    set.resize(input.int_in_range(0..=2500)?, 1);
                }
                set
            }
            4 => {
                // A recovery point, perhaps.
                let header: &[u8] = if self.codec == Codec::H264 { &[6] } else { &[39 << 1, 1] };
                [header, don, &[6, input.int_in_range(0..=3)?, input.arbitrary()?, 0x80]].concat()
            }
            5 => {
                let mut payload = if self.codec == Codec::H264 { vec![0x78] } else { vec![0x60, 1] };
                payload.extend_from_slice(don);
                for number in 0..input.int_in_range(0..=4)? {
                    if self.has_don && number > 0 {
                        payload.push(1);
                    }
                    let nal = [nal_header(input)?, some(input, 9)?].concat();
                    let wrong = if input.ratio(1, 8)? { input.int_in_range(0..=9)? } else { 0 };
                    let len = u16::try_from(nal.len()).unwrap().wrapping_add(wrong);
                    payload.extend_from_slice(&len.to_be_bytes());
                    payload.extend_from_slice(&nal);
                }
                payload.extend(std::iter::repeat_n(0, input.int_in_range(0..=3)?));
                payload
            }
            6 | 7 => {
                let header = nal_header(input)?;
                let flags = input.int_in_range(0..=3_u8)? << 6;
                let (mut payload, nal_type) = match self.codec {
                    Codec::H264 => (vec![header[0] & 0xe0 | 28], header[0] & 0x1f),
                    Codec::H265 => (vec![49 << 1, 1], header[0] >> 1),
                };
                payload.push(flags | nal_type);
                payload.extend_from_slice(&some(input, 30)?);
                if input.ratio(1, 32)? {
                    payload.resize(payload.len() + 20_000, 7);
                }
                payload
            }
            8 => {
                let mut stream = Vec::new();
                for _ in 0..input.int_in_range(1..=4)? {
                    let code: [&[u8]; 3] = [&[0, 0, 0, 1], &[0, 0, 1], &[0, 0, 0, 0, 1]];
                    stream.extend_from_slice(input.choose(&code)?);
                    stream.extend_from_slice(&nal_header(input)?);
                    stream.extend_from_slice(&some(input, 9)?);
                }
                stream
            }
            _ => {
                // As many NAL units as a packet can have.
                let mut payload = if self.codec == Codec::H264 { vec![0x78] } else { vec![0x60, 1] };
                let nal = nal_header(input)?;
                for _ in 0..input.int_in_range(1..=99)? {
                    payload.extend_from_slice(&[0, nal.len() as u8 + 1]);
                    payload.extend_from_slice(&nal);
                    payload.push(0x80);
                }
                payload
            }
        })
    }

    /// Portions make no difference, and the counters tell what came out.
    fn compare(&self) {
        assert_eq!(self.whole_sink.seen, self.cut_sink.seen, "the portions make a difference");
        assert_eq!(self.whole.stats(), self.cut.stats());
        assert_eq!(self.whole.unit_open(), self.whole_sink.is_open());
        assert_eq!(self.cut.unit_open(), self.cut_sink.is_open());
        let (stats, seen) = (self.whole.stats(), &self.whole_sink.seen);
        assert_eq!((stats.units, stats.key_units), (seen.units, seen.key_units));
        assert_eq!((stats.damaged_units, stats.bytes), (seen.damaged_units, seen.bytes));
        assert_eq!(stats.nals, seen.nals);
        let beside = self.base + self.whole_sink.held() + self.cut_sink.held();
        let held = memory::held().saturating_sub(beside);
        assert!(held <= 2 * HELD_MAX, "{held} bytes are held");
    }

    /// Whatever came before, the third good unit is as it was sent, and nothing that was lost is not told. The first may belong to
    /// what is open, and outgrow the limit with it; then it is missing before the second.
    fn end(mut self) {
        let mut cuts = [0x51, 0x0e, 0x97, 0xd0, 0x33].repeat(8);
        cuts.extend_from_slice(&[0; 8]);
        let nals = packets::key_unit(self.codec, &[0xab; 50]);
        // An SSRC of its own, so that it is told from whatever had its timestamp.
        self.next = PacketInfo {
            timeline: self.next.timeline + 1,
            ssrc: !self.next.ssrc,
            lost_before: 0,
            ..self.next
        };
        for _ in 0..3 {
            // The choices of the packetiser do not run out.
            self.good_unit(&nals, &mut Unstructured::new(&cuts)).unwrap();
        }
        self.compare();
        for sink in [&self.whole_sink, &self.cut_sink] {
            let unit: &Newest = sink.newest.as_ref().expect("a good unit comes out");
            assert_eq!(unit.nals(), nals.iter().map(Vec::as_slice).collect::<Vec<_>>());
            assert!(unit.flags.contains(UnitFlags::KEY) && !unit.flags.contains(UnitFlags::DAMAGED));
            assert_eq!(unit.lost_packets, 0);
            assert!(unit.config.is_some());
            assert!(sink.seen.lost_packets <= self.lost + self.packets, "more is lost than was sent");
            if self.counts {
                assert!(sink.seen.lost_packets >= self.lost, "a loss is not told");
            }
        }
    }
}

fn first_packet() -> PacketInfo {
    PacketInfo {
        sequence: 0,
        timestamp: 0,
        marker: false,
        ssrc: 1,
        payload_len: 0,
        lost_before: 0,
        media_ticks: 0,
        timeline: 0,
        ticks_estimated: false,
        received: Mono(0),
        wall: UnixNanos(0),
        wall_error_us: 0,
        clock_source: ClockSource::Receive,
    }
}
