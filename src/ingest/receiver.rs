//! The video of one connection: interleaved frames to access units, and the reports that go back.
//!
//! ```text
//!  whole plain frame ───────┐
//!  frame ─▶ PacketParser ─┬─ RTP ─▶ Sources, Sequence, MediaClock, WallClock ─▶ Depacketizer ─▶ sink
//!                         └─ RTCP ─▶ WallClock
//! ```
//! What is not for this track (another channel, payload type, a packet that came twice) is counted and dropped;
//! nothing that arrives here ends the connection.

use std::time::Duration;

use super::stats::CameraStats;
use crate::codec::{self, AccessUnitSink, Codec, Depacketizer, PacketInfo};
use crate::limits::OUTBOX_LEN_MAX;
use crate::rtp::rtcp::{self, Feedback, Packet, SenderReport};
use crate::rtp::{
    Admission, Announced, Arrival, Header, MediaClock, PacketEvent, PacketParser, ReceptionReport, Sequence,
    Sources, WallClock, WallTime, plain_packet,
};
use crate::rtsp::{Channels, Media, RtpInfo};
use crate::time::{Mono, Now};

#[derive(Debug)]
pub(super) struct Receiver {
    channels: Channels,
    payload_type: u8,
    parser: PacketParser,
    frame: Frame,
    sources: Sources,
    sequence: Sequence,
    clock: MediaClock,
    /// The newest packet's.
    timeline: Option<u32>,
    wall: WallClock,
    /// The newest report of a source that is not heard, and may be later.
    early_report: Option<(SenderReport, Now)>,
    depacketizer: Depacketizer,
    reports: Reports,
    /// Packets that were used, and the bytes of their payloads.
    used: (u64, u64),
    /// What [`CameraStats`] has been told already.
    accounted: Accounted,
}

/// What becomes of the frame that is coming in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// Not ours, or broken.
    Ignored,
    /// Not known before its header is complete.
    Open,
    /// Its payload goes to the depacketiser.
    Used,
    /// Its payload is kept: its source may be the one that goes on.
    Held,
}

/// What goes back to the camera.
#[derive(Debug)]
struct Reports {
    ssrc: u32,
    last_sr: u32,
    last_sr_at: Option<Mono>,
    outbox: Vec<u8>,
}

#[derive(Debug, Default)]
struct Accounted {
    units: codec::Stats,
    used: (u64, u64),
    lost: u64,
    duplicates: u64,
    refused: u64,
}

impl Receiver {
    /// A receiver for the described media. `clock` goes on with a new timeline.
    pub(super) fn new(
        codec: Codec,
        media: &Media,
        channels: Channels,
        mut clock: MediaClock,
        seed: u64,
    ) -> Self {
        clock.restart();
        let mut depacketizer = Depacketizer::new(codec, media.max_don_diff > 0);
        depacketizer.set_parameter_sets(media.parameter_sets.iter().map(Vec::as_slice));
        Self {
            channels,
            payload_type: media.payload_type,
            parser: PacketParser::new(),
            frame: Frame::Ignored,
            sources: Sources::new(),
            sequence: Sequence::new(),
            clock,
            timeline: None,
            wall: WallClock::new(),
            early_report: None,
            depacketizer,
            reports: Reports::new(seed),
            used: (0, 0),
            accounted: Accounted::default(),
        }
    }

    /// The channels that the camera settled on, and what it says of its source.
    pub(super) const fn set_channels(&mut self, channels: Channels, rtp_info: RtpInfo) {
        self.channels = channels;
        self.sources.announce(Announced { ssrc: rtp_info.ssrc, sequence: rtp_info.sequence });
    }

    /// A whole interleaved frame. That of a plain packet needs no parser that remembers where it stands.
    pub(super) fn frame(
        &mut self,
        now: Now,
        channel: u8,
        frame: &[u8],
        stats: &mut CameraStats,
        sink: &mut impl AccessUnitSink,
    ) {
        let Some((header, payload)) = plain_packet(frame).filter(|_| self.is_ours(channel)) else {
            self.frame_begin(channel, frame.len(), stats);
            return self.frame_bytes(now, frame, stats, sink);
        };
        self.packet_begin(now, header, stats, sink);
        match std::mem::replace(&mut self.frame, Frame::Ignored) {
            Frame::Used => {
                self.depacketizer.packet_bytes(payload, sink);
                self.depacketizer.packet_end(sink);
            }
            Frame::Held => self.sources.hold(payload),
            Frame::Ignored | Frame::Open => {}
        }
    }

    /// An interleaved frame of `len` bytes begins.
    pub(super) fn frame_begin(&mut self, channel: u8, len: usize, stats: &mut CameraStats) {
        let ours = self.is_ours(channel);
        self.frame = if ours && self.parser.begin(len).is_ok() { Frame::Open } else { Frame::Ignored };
        if self.frame == Frame::Ignored {
            stats.ignored_packets += 1;
        }
    }

    /// RTP and RTCP are told apart by content: some cameras send both on the RTP channel.
    fn is_ours(&self, channel: u8) -> bool {
        channel == self.channels.rtp || Some(channel) == self.channels.rtcp
    }

    /// The next bytes of the frame.
    pub(super) fn frame_bytes(
        &mut self,
        now: Now,
        mut bytes: &[u8],
        stats: &mut CameraStats,
        sink: &mut impl AccessUnitSink,
    ) {
        while self.frame != Frame::Ignored {
            match self.parser.next(&mut bytes) {
                Ok(Some(PacketEvent::Header(header))) => self.packet_begin(now, header, stats, sink),
                Ok(Some(PacketEvent::Payload(piece))) if self.frame == Frame::Held => {
                    self.sources.hold(piece)
                }
                Ok(Some(PacketEvent::End)) if self.frame == Frame::Held => {}
                Ok(Some(PacketEvent::Payload(piece))) => self.depacketizer.packet_bytes(piece, sink),
                Ok(Some(PacketEvent::End)) => self.depacketizer.packet_end(sink),
                Ok(Some(PacketEvent::Rtcp(compound))) => {
                    for packet in rtcp::packets(compound) {
                        match packet {
                            // Its timestamps are not those of the source that is heard.
                            Packet::SenderReport(report) if self.sources.is_another(report.ssrc) => {
                                self.early_report = Some((report, now));
                            }
                            Packet::SenderReport(report) => {
                                self.wall.report(&report, now);
                                self.reports.heard(&report, now.mono);
                            }
                            // A camera that says BYE and goes on is believed by what it sends.
                            Packet::Bye | Packet::Other | Packet::Invalid => {}
                        }
                    }
                }
                Ok(None) => return,
                Err(_) => {
                    self.frame = Frame::Ignored;
                    stats.ignored_packets += 1;
                }
            }
        }
    }

    /// The stream fell out of step: the frame before may be a torn one.
    pub(super) const fn note_damage(&mut self) {
        self.depacketizer.mark_damaged();
    }

    /// Nothing more comes: completes the open unit if it has a picture, else drops it.
    pub(super) fn end(&mut self, sink: &mut impl AccessUnitSink) {
        if self.sources.end() {
            self.hear_held(sink);
        }
        self.frame = Frame::Ignored;
        self.depacketizer.flush(sink);
    }

    /// Writes a receiver report, which is also what keeps some cameras sending.
    pub(super) fn report(&mut self, now: Now) {
        let reception = self.sequence.report();
        if let Some(channel) = self.channels.rtcp {
            self.reports.write(now.mono, channel, reception);
        }
    }

    /// Moves reports behind what `out` has.
    pub(super) fn take_transmit(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.reports.outbox);
    }

    /// The synchronisation source whose packets come.
    pub(super) fn source(&self) -> Option<u32> {
        self.sources.speaking()
    }

    pub(super) const fn is_unit_open(&self) -> bool {
        self.depacketizer.unit_open()
    }

    /// Units completed on this connection.
    pub(super) const fn units(&self) -> u64 {
        self.depacketizer.stats().units
    }

    /// Units that outgrew the limit since the newest that was completed.
    pub(super) const fn oversized_units(&self) -> u64 {
        self.depacketizer.stats().too_large_since_unit
    }

    pub(super) fn into_clock(self) -> MediaClock {
        self.clock
    }

    /// Adds to `stats` what has happened since the last time.
    pub(super) fn account(&mut self, now: Mono, stats: &mut CameraStats) {
        let (units, before) = (*self.depacketizer.stats(), self.accounted.units);
        if units.units > before.units {
            stats.last_unit = Some(now);
        }
        stats.units += units.units - before.units;
        stats.key_units += units.key_units - before.key_units;
        stats.unit_bytes += units.bytes - before.bytes;
        stats.damaged_units += units.damaged_units - before.damaged_units;
        stats.dropped_units += dropped(&units) - dropped(&before);
        let (lost, duplicates) = (self.sequence.lost(), self.sequence.duplicates() + self.sequence.late());
        stats.lost_packets += lost.saturating_sub(self.accounted.lost);
        stats.duplicate_packets += duplicates - self.accounted.duplicates;
        stats.packets += self.used.0 - self.accounted.used.0;
        stats.payload_bytes += self.used.1 - self.accounted.used.1;
        let refused = self.sources.refused();
        stats.ignored_packets += refused - self.accounted.refused;
        self.accounted = Accounted { units, used: self.used, lost, duplicates, refused };
    }

    fn packet_begin(
        &mut self,
        now: Now,
        header: Header,
        stats: &mut CameraStats,
        sink: &mut impl AccessUnitSink,
    ) {
        self.frame = Frame::Ignored;
        if header.payload_type != self.payload_type {
            stats.ignored_packets += 1;
            return;
        }
        let mut admission = self.sources.admit(&header, now);
        while admission == Admission::TakesOver {
            self.hear_held(sink);
            admission = self.sources.admit(&header, now);
        }
        match admission {
            Admission::Heard => self.hear(now, header, sink),
            Admission::Held => self.frame = Frame::Held,
            Admission::Refused | Admission::TakesOver => {}
        }
    }

    /// The packets of a source that has taken over.
    fn hear_held(&mut self, sink: &mut impl AccessUnitSink) {
        let held = self.sources.take_held();
        for (header, at, payload) in held.iter() {
            self.hear(at, header, sink);
            if std::mem::replace(&mut self.frame, Frame::Ignored) == Frame::Used {
                self.depacketizer.packet_bytes(payload, sink);
                self.depacketizer.packet_end(sink);
            }
        }
        self.sources.put_back(held);
    }

    /// A packet of the source that is heard begins.
    fn hear(&mut self, now: Now, header: Header, sink: &mut impl AccessUnitSink) {
        let lost_before =
            match self.sequence.receive(header.ssrc, header.sequence, header.timestamp, now.mono) {
                Arrival::First => 0,
                Arrival::Next { lost } => lost,
                Arrival::Duplicate | Arrival::Late => return,
                Arrival::Restart => {
                    self.depacketizer.flush(sink);
                    self.clock.restart();
                    0
                }
            };
        self.frame = Frame::Used;
        self.used.0 += 1;
        self.used.1 += header.payload_len as u64;
        let packet = self.describe(now, &header, lost_before);
        self.depacketizer.packet_begin(&packet, sink);
    }

    /// Reports that came before are of timestamps that no longer count.
    #[cold]
    fn begin_timeline(&mut self, timeline: u32, ssrc: u32) {
        if self.timeline.replace(timeline).is_some() {
            self.wall.reset();
        }
        if let Some((report, at)) = self.early_report.take_if(|(report, _)| report.ssrc == ssrc) {
            self.wall.report(&report, at);
        }
    }

    fn describe(&mut self, now: Now, header: &Header, lost_before: u32) -> PacketInfo {
        let media = self.clock.stamp(header.timestamp, now.mono);
        if self.timeline != Some(media.timeline) {
            self.begin_timeline(media.timeline, header.ssrc);
        }
        // Nobody knows when a picture was taken whose timestamp is not believed.
        let wall =
            if media.estimated { WallTime::received(now) } else { self.wall.wall(header.timestamp, now) };
        PacketInfo {
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
        }
    }
}

const fn dropped(stats: &codec::Stats) -> u64 {
    stats.dropped_too_large + stats.dropped_too_many_nals + stats.dropped_by_sink + stats.dropped_unfinished
}

impl Reports {
    fn new(seed: u64) -> Self {
        let [a, b, c, d, ..] = seed.to_be_bytes();
        Self { ssrc: u32::from_be_bytes([a, b, c, d]), last_sr: 0, last_sr_at: None, outbox: Vec::new() }
    }

    /// To be told back.
    fn heard(&mut self, report: &SenderReport, now: Mono) {
        self.last_sr = report.last_sr();
        self.last_sr_at = Some(now);
    }

    fn write(&mut self, now: Mono, channel: u8, reception: Option<ReceptionReport>) {
        let delay = self.last_sr_at.map_or(Duration::ZERO, |at| now.since(at));
        let feedback = Feedback {
            ssrc: self.ssrc,
            cname: "vms-media",
            reception,
            last_sr: self.last_sr,
            delay_since_last_sr: u32::try_from(delay.as_micros() * 65_536 / 1_000_000).unwrap_or(u32::MAX),
        };
        let mut report = [0; REPORT_LEN_MAX];
        let Ok(len) = rtcp::write_receiver_report(&mut report, &feedback) else { return };
        let (Some(report), Ok(len)) = (report.get(..len), u16::try_from(len)) else { return };
        if self.outbox.len() + report.len() + 4 <= OUTBOX_LEN_MAX {
            self.outbox.extend_from_slice(&[b'$', channel]);
            self.outbox.extend_from_slice(&len.to_be_bytes());
            self.outbox.extend_from_slice(report);
        }
    }
}

/// A receiver report with one block (32 bytes) and a CNAME chunk.
const REPORT_LEN_MAX: usize = 128;
