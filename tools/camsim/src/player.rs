//! One play session: which access unit is due when, and its RTP packets.
//!
//! The payloads are shared by all cameras that show the clip; a player writes only the 16 header bytes of each packet
//! and the stamp, into a [`Scratch`] that the server lends to one player after the other. When a fault bends packets, they
//! are copied into a [`Wire`] first.

use std::sync::Arc;

use crate::clock::NS_PER_SECOND;
use crate::config::{CLOCK_RATE, Fps};
use crate::faults::kind::Life;
use crate::faults::plan::{Active, is_nth};
use crate::flood::Flood;
use crate::media::{Media, Unit};
use crate::packets::{Header, Packets, Scratch, packet_header};
use crate::rng::Rng;
use crate::rtcp::{self, Reports, SenderReport};
use crate::wire::{Frame, Packet, Wire};

/// A camera's stream on one connection, from PLAY to TEARDOWN.
///
/// It starts with the first unit of the clip. Stamps count the units that were handed to the connection: 0 is the first
/// after PLAY, and a unit that the sender had to drop takes no number, as a camera's overloaded encoder skips pictures.
#[derive(Debug)]
pub(crate) struct Player {
    /// Tells this session from others on the same connection.
    pub(crate) id: u64,
    /// Index of the camera in the farm.
    pub(crate) camera: usize,
    /// Interleaved channel of RTP; RTCP uses the next one.
    channel: u8,
    clip: Clip,
    fps: Fps,
    source: Source,
    /// When unit 0 was due.
    start_ns: u64,
    /// Number of the next unit in the endless stream.
    position: u64,
    /// Stamp of the next unit.
    counter: u64,
    /// Units until the next key frame would refer to one that was dropped.
    awaits_key: bool,
}

/// What is shown: the camera's clip, or the one of another resolution.
#[derive(Debug, Clone)]
pub(crate) struct Clip {
    pub(crate) shown: Arc<Media>,
    /// The same codec, another resolution.
    pub(crate) other: Arc<Media>,
    /// Position of the first unit of what is shown.
    pub(crate) from: u64,
}

/// An RTP source (RFC 3550, 3).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) ssrc: u32,
    /// RTP timestamp of unit 0.
    pub(crate) first_timestamp: u32,
    /// Of the next packet.
    pub(crate) sequence: u16,
    packets: u32,
    octets: u32,
    next_report_ns: u64,
}

/// What is to be done when a unit is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Send the unit.
    Send,
    /// Let it pass in silence.
    Skip,
    /// Let it pass: it refers to a unit that had to be dropped.
    SkipBroken,
    /// The clip was shown: say BYE and close.
    Finish,
    /// Close without a word.
    Close,
    /// Reset the connection.
    Reset,
}

impl Source {
    /// Numbers as RFC 3550 5.1 wants them; the first report is due at once.
    fn new(rng: &mut Rng) -> Self {
        Self {
            ssrc: rng.next_u32(),
            first_timestamp: rng.next_u32(),
            sequence: rng.next_u16(),
            packets: 0,
            octets: 0,
            next_report_ns: 0,
        }
    }

    /// The encoder restarts: another source goes on with the same clip.
    pub(crate) fn restart(&mut self, rng: &mut Rng) {
        *self = Self::new(rng);
    }
}

impl Player {
    /// A session that starts now, at a random phase of the picture period.
    pub(crate) fn new(camera: usize, clip: Clip, channel: u8, now_ns: u64, rng: &mut Rng) -> Self {
        let fps = clip.shown.fps;
        let phase_ns = rng.below(fps.due_ns(1));
        Self {
            id: rng.next_u64() >> 1,
            camera,
            channel,
            clip,
            fps,
            source: Source::new(rng),
            start_ns: now_ns + phase_ns,
            position: 0,
            counter: 0,
            awaits_key: false,
        }
    }

    /// When the next unit is to be sent (`CLOCK_MONOTONIC`).
    pub(crate) fn due_ns(&self) -> u64 {
        self.start_ns + self.fps.due_ns(self.position)
    }

    /// Parameters of `RTP-Info` (RFC 2326 12.33) for the next packet.
    pub(crate) fn rtp_info(&self) -> String {
        format!("seq={};rtptime={}", self.source.sequence, self.timestamp())
    }

    /// The session begins as `faults` want it.
    pub(crate) fn begin(&mut self, faults: &Active) {
        faults.bend_start(&mut self.source);
    }

    /// Instead of this session: a unit that never ends.
    pub(crate) fn endless_unit(&self) -> Flood {
        Flood::Fragments { codec: self.clip.shown.codec, channel: self.channel, packets: 0 }
    }

    /// Units that went out.
    pub(crate) const fn units(&self) -> u64 {
        self.counter
    }

    /// What to do with the unit that is due now.
    pub(crate) fn turn(&self, once: bool, faults: &Active) -> Turn {
        let is_over = |life| faults.life(life).is_some_and(|units| self.counter >= units);
        if is_over(Life::CloseAfter) {
            Turn::Close
        } else if is_over(Life::ResetAfter) {
            Turn::Reset
        } else if is_over(Life::StallAfter) || faults.life(Life::Stall).or(faults.life(Life::Mute)).is_some()
        {
            Turn::Skip
        } else if once && self.position >= self.clip.shown.units.len() as u64 {
            Turn::Finish
        } else if self.awaits_key && !self.unit().key {
            Turn::SkipBroken
        } else {
            Turn::Send
        }
    }

    /// What `faults` do to the stream before the next unit.
    pub(crate) fn bend(&mut self, faults: &Active, rng: &mut Rng) {
        faults.bend_source(self.counter, &mut self.source, rng);
        if faults.life(Life::ResolutionChange).is_some_and(|units| is_nth(self.counter, units)) {
            std::mem::swap(&mut self.clip.shown, &mut self.clip.other);
            self.clip.from = self.position;
        }
    }

    /// Writes headers and stamp of the next unit into `scratch`.
    pub(crate) fn packetize<'a>(&'a self, scratch: &'a mut Scratch, now_ns: u64) -> Packets<'a> {
        let unit = self.unit();
        let timestamp = self.timestamp();
        let count = unit.payloads.ranges.len();
        scratch.headers.clear();
        for (index, range) in unit.payloads.ranges.iter().enumerate() {
            let offset = u16::try_from(index & 0xffff).unwrap_or_default();
            scratch.headers.push(packet_header(&Header {
                channel: self.channel,
                payload_len: range.len(),
                marker: index + 1 == count,
                sequence: self.source.sequence.wrapping_add(offset),
                timestamp,
                ssrc: self.source.ssrc,
            }));
        }
        let stamp = unit.stamp.map(|(index, mut stamp)| {
            stamp.patch(self.counter, now_ns);
            (index, stamp)
        });
        Packets { headers: &scratch.headers, payloads: &unit.payloads, stamp }
    }

    /// The next unit as `faults` bend it.
    pub(crate) fn wire<'a>(
        &self,
        scratch: &mut Scratch,
        now_ns: u64,
        faults: &Active,
        rng: &'a mut Rng,
    ) -> Wire<'a> {
        let packets = self.packetize(scratch, now_ns);
        let mut sequence = self.source.sequence;
        let mut frames = Vec::with_capacity(packets.headers.len());
        for (header, payload) in packets.parts() {
            frames.push(Frame::Packet(Packet {
                marker: header[5] & 0x80 != 0,
                sequence,
                timestamp: self.timestamp(),
                ssrc: self.source.ssrc,
                ..Packet::new(self.channel, payload.to_vec())
            }));
            sequence = sequence.wrapping_add(1);
        }
        let mut wire = Wire {
            frames,
            codec: self.clip.shown.codec,
            channel: self.channel,
            number: self.counter,
            packets_before: self.source.packets,
            period: wrap(self.fps.ticks(1).into()),
            value: 0,
            rng,
            stamp: (self.counter, now_ns),
            next_sequence: sequence,
        };
        faults.bend_unit(&mut wire);
        wire
    }

    /// The unit went out, and the next packet has this number unless they are as many as they should be: on to the next.
    pub(crate) fn sent(&mut self, next_sequence: Option<u16>) {
        let payloads = &self.unit().payloads;
        let packets = u32::try_from(payloads.ranges.len()).unwrap_or(u32::MAX);
        let octets = u32::try_from(payloads.bytes.len()).unwrap_or(u32::MAX);
        let source = &mut self.source;
        source.packets = source.packets.wrapping_add(packets);
        source.octets = source.octets.wrapping_add(octets);
        let behind = source.sequence.wrapping_add(u16::try_from(packets & 0xffff).unwrap_or_default());
        source.sequence = next_sequence.unwrap_or(behind);
        self.counter += 1;
        self.position += 1;
        self.awaits_key = false;
    }

    /// The unit was not sent on purpose: on to the next.
    pub(crate) const fn skipped(&mut self) {
        self.position += 1;
    }

    /// The unit could not be sent: on to the next key frame.
    pub(crate) const fn dropped(&mut self) {
        self.position += 1;
        self.awaits_key = true;
    }

    /// Moves the schedule when the simulator itself was held up, so that it does not catch up in one burst.
    /// Whether it did.
    pub(crate) fn forgive(&mut self, now_ns: u64) -> bool {
        let late_ns = now_ns.saturating_sub(self.due_ns());
        if late_ns > LATE_NS_MAX {
            self.start_ns += late_ns;
        }
        late_ns > LATE_NS_MAX
    }

    /// A sender report when one is due, as `faults` bend it; the moment `now_ns` is `utc_ns` on the wall clock.
    pub(crate) fn report(&mut self, now_ns: u64, utc_ns: u64, faults: &Active) -> Option<Vec<u8>> {
        if now_ns < self.source.next_report_ns {
            return None;
        }
        self.source.next_report_ns = now_ns + REPORT_INTERVAL_NS;
        let behind_ns = i128::from(now_ns) - i128::from(self.due_ns());
        let behind_ticks = behind_ns * i128::from(CLOCK_RATE) / i128::from(NS_PER_SECOND);
        let report = SenderReport {
            ssrc: self.source.ssrc,
            utc_ns,
            rtp_timestamp: wrap(i128::from(self.timestamp()) + behind_ticks),
            packets: self.source.packets,
            octets: self.source.octets,
        };
        let mut reports = Reports { channel: self.channel.wrapping_add(1), report: Some(report) };
        faults.bend_reports(&mut reports);
        reports.report.map(|report| report.frame(reports.channel))
    }

    /// The last words of the session.
    pub(crate) fn bye(&self) -> Vec<u8> {
        rtcp::bye_frame(self.channel.wrapping_add(1), self.source.ssrc)
    }

    fn unit(&self) -> &Unit {
        self.clip.shown.unit(self.position - self.clip.from)
    }

    fn timestamp(&self) -> u32 {
        wrap(i128::from(self.source.first_timestamp) + i128::from(self.fps.ticks(self.position)))
    }
}

/// RTP time is modulo 2^32.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modulo 2^32 is meant")]
const fn wrap(ticks: i128) -> u32 {
    ticks as u32
}

/// Every five seconds, the shortest interval of RFC 3550 6.2.
const REPORT_INTERVAL_NS: u64 = 5 * NS_PER_SECOND;
/// Beyond this the schedule moves.
const LATE_NS_MAX: u64 = NS_PER_SECOND;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::plan::{NONE, Plan};
    use crate::media::Additions;
    use vms_stamp::Codec;

    const CLIP: &[u8] = include_bytes!("../../../tests/media/testsrc2.h264");
    const SMALL: &[u8] = include_bytes!("../../../tests/media/small.h264");

    fn player(stamp: bool) -> Player {
        let additions = Additions { stamp, bitrate: None };
        let media = |clip| Arc::new(Media::parse(clip, Codec::H264, Fps::default(), additions).unwrap());
        let clip = Clip { shown: media(CLIP), other: media(SMALL), from: 0 };
        Player::new(0, clip, 4, 1_000, &mut Rng::new(1))
    }

    fn faults(texts: &[&str]) -> Active {
        let mut plan = Plan::new(1);
        texts.iter().for_each(|text| plan.add(text.parse().unwrap(), vec![0], 0));
        plan.advance(0);
        plan.of(Some(0)).clone()
    }

    #[test]
    fn time_and_sequence_run_on_across_the_loop() {
        let mut player = player(false);
        let (start_ns, timestamp, mut sequence) =
            (player.due_ns(), player.timestamp(), player.source.sequence);
        let mut scratch = Scratch::default();
        for position in 0..250_u32 {
            assert_eq!(player.due_ns(), start_ns + u64::from(position) * 40_000_000);
            let now = player.due_ns();
            let packets = player.packetize(&mut scratch, now);
            assert_eq!(packets.slices().map(<[u8]>::len).sum::<usize>(), packets.len());
            for header in packets.headers {
                assert_eq!(header[8..12], timestamp.wrapping_add(position * 3600).to_be_bytes());
                assert_eq!(header[6..8], sequence.to_be_bytes());
                sequence = sequence.wrapping_add(1);
            }
            let markers: Vec<bool> = packets.headers.iter().map(|header| header[5] & 0x80 != 0).collect();
            assert!(markers.iter().rev().skip(1).all(|marker| !marker) && markers.last() == Some(&true));
            player.sent(None);
        }
    }

    #[test]
    fn a_wire_that_nothing_bends_is_what_is_sent_without_one() {
        let mut player = player(true);
        let (mut scratch, mut rng) = (Scratch::default(), Rng::new(3));
        for _ in 0..30 {
            let straight: Vec<u8> = player.packetize(&mut scratch, 5).slices().flatten().copied().collect();
            let wire = player.wire(&mut scratch, 5, &NONE, &mut rng);
            assert_eq!(wire.to_bytes(), straight);
            let next = wire.next_sequence;
            player.sent(None);
            assert_eq!(player.source.sequence, next);
        }
    }

    #[test]
    fn after_a_drop_only_a_key_frame_goes_out() {
        let mut player = player(true);
        player.sent(None);
        player.dropped();
        let mut skipped = 0;
        while player.turn(false, &NONE) == Turn::SkipBroken {
            player.skipped();
            skipped += 1;
        }
        assert_eq!((skipped, player.position, player.counter), (23, 25, 1));
    }

    #[test]
    fn ends_and_faults() {
        let mut player = player(true);
        let close = faults(&["close-after=2"]);
        assert_eq!(player.turn(true, &close), Turn::Send);
        player.sent(None);
        player.sent(None);
        assert_eq!(player.turn(false, &close), Turn::Close);
        assert_eq!(player.turn(false, &faults(&["reset-after=2"])), Turn::Reset);
        assert_eq!(player.turn(false, &faults(&["stall-after=2"])), Turn::Skip);
        (2..100).for_each(|_| player.sent(None));
        let none = &NONE;
        assert_eq!((player.turn(true, none), player.turn(false, none)), (Turn::Finish, Turn::Send));
    }

    #[test]
    fn reports_map_wall_time_to_rtp_time() {
        let mut player = player(true);
        let none = &NONE;
        player.sent(None);
        let due = player.due_ns();
        let report = player.report(due + NS_PER_SECOND, 0, none).unwrap();
        assert_eq!(report[20..24], player.timestamp().wrapping_add(90_000).to_be_bytes());
        assert_eq!(player.report(due + 2 * NS_PER_SECOND, 0, none), None);
        assert!(player.report(due + 6 * NS_PER_SECOND, 0, none).is_some());
    }

    #[test]
    fn lost_packets_leave_a_hole_in_the_sequence() {
        let player = player(true);
        let (mut scratch, mut rng) = (Scratch::default(), Rng::new(1));
        let all = player.packetize(&mut scratch, 0).headers.len();
        let mut wire = player.wire(&mut scratch, 0, &faults(&["lose=2"]), &mut rng);
        let sequence: Vec<u16> =
            wire.packets().map(|packet| packet.sequence.wrapping_sub(player.source.sequence)).collect();
        assert!(sequence.iter().copied().eq((0..).step_by(2).take(all.div_ceil(2))), "{sequence:?} of {all}");
        assert_eq!(usize::from(wire.next_sequence.wrapping_sub(player.source.sequence)), all);
    }

    #[test]
    fn a_restarted_encoder_is_another_source() {
        let mut player = player(true);
        let (change, mut rng) = (faults(&["ssrc-change=2"]), Rng::new(1));
        let ssrc = player.source.ssrc;
        for changed in [false, false, true] {
            player.bend(&change, &mut rng);
            assert_eq!(player.source.ssrc != ssrc, changed, "before unit {}", player.counter);
            player.sent(None);
        }
        assert_eq!(player.counter, 3);
    }

    #[test]
    fn another_resolution_begins_with_a_key_frame_and_in_time() {
        let mut player = player(true);
        let change = faults(&["resolution-change=10"]);
        let period = player.timestamp();
        for unit in 0..35_u32 {
            player.bend(&change, &mut Rng::new(1));
            assert_eq!(player.timestamp().wrapping_sub(period), 3600 * unit);
            assert_eq!(player.unit().key, unit % 10 == 0, "unit {unit}");
            player.sent(None);
        }
    }

    #[test]
    fn a_held_up_simulator_does_not_burst() {
        let mut player = player(true);
        let now = player.due_ns() + 10 * NS_PER_SECOND;
        assert!(player.forgive(now));
        assert_eq!(player.due_ns(), now);
        assert!(!player.forgive(now + LATE_NS_MAX));
        assert_eq!(player.due_ns(), now);
    }
}
