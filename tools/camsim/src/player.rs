//! One play session: which access unit is due when, and its RTP packets.
//!
//! The payloads are shared by all cameras that show the clip; a player writes only the 16 header bytes of each packet
//! and the stamp, into a [`Scratch`] that the server lends to one player after the other.

use std::sync::Arc;

use crate::clock::NS_PER_SECOND;
use crate::config::CLOCK_RATE;
use crate::faults::Fault;
use crate::media::Media;
use crate::packets::{Header, Losses, Packets, Scratch, packet_header};
use crate::rng::Rng;
use crate::rtcp::{self, SenderReport};

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
    media: Arc<Media>,
    ssrc: u32,
    /// RTP timestamp of unit 0.
    first_timestamp: u32,
    sequence: u16,
    /// When unit 0 was due.
    start_ns: u64,
    /// Number of the next unit in the endless stream.
    position: u64,
    /// Stamp of the next unit.
    counter: u64,
    /// Units until the next key frame would refer to one that was dropped.
    awaits_key: bool,
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
}

impl Player {
    /// A session that starts now, at a random phase of the picture period.
    pub(crate) fn new(camera: usize, media: Arc<Media>, channel: u8, now_ns: u64, rng: &mut Rng) -> Self {
        let phase_ns = rng.below(media.fps.due_ns(1));
        Self {
            id: rng.next_u64(),
            camera,
            channel,
            media,
            ssrc: rng.next_u32(),
            first_timestamp: rng.next_u32(),
            sequence: rng.next_u16(),
            start_ns: now_ns + phase_ns,
            position: 0,
            counter: 0,
            awaits_key: false,
            packets: 0,
            octets: 0,
            next_report_ns: now_ns,
        }
    }

    /// When the next unit is to be sent (`CLOCK_MONOTONIC`).
    pub(crate) fn due_ns(&self) -> u64 {
        self.start_ns + self.media.fps.due_ns(self.position)
    }

    /// Parameters of `RTP-Info` (RFC 2326 12.33) for the next packet.
    pub(crate) fn rtp_info(&self) -> String {
        format!("seq={};rtptime={}", self.sequence, self.timestamp())
    }

    /// What to do with the unit that is due now.
    pub(crate) fn turn(&self, once: bool, faults: &[Fault]) -> Turn {
        for fault in faults {
            if let Fault::CloseAfter(units) = *fault
                && self.counter >= units
            {
                return Turn::Close;
            }
            if let Fault::StallAfter(units) = *fault
                && self.counter >= units
            {
                return Turn::Skip;
            }
        }
        if once && self.position >= self.media.units.len() as u64 {
            Turn::Finish
        } else if self.awaits_key && !self.media.unit(self.position).key {
            Turn::SkipBroken
        } else {
            Turn::Send
        }
    }

    /// Whether something foreign stands before the next unit, when a fault wants that: every eighth time.
    pub(crate) const fn is_interrupted(&self) -> bool {
        self.counter % 8 == 7
    }

    /// Writes headers and stamp of the next unit into `scratch`.
    pub(crate) fn packetize<'a>(
        &'a self,
        scratch: &'a mut Scratch,
        now_ns: u64,
        faults: &[Fault],
    ) -> Packets<'a> {
        let marked = !faults.contains(&Fault::NoMarker);
        let unit = self.media.unit(self.position);
        let timestamp = self.timestamp();
        let count = unit.payloads.ranges.len();
        scratch.headers.clear();
        for (index, range) in unit.payloads.ranges.iter().enumerate() {
            let offset = u16::try_from(index & 0xffff).unwrap_or_default();
            scratch.headers.push(packet_header(&Header {
                channel: self.channel,
                payload_len: range.len(),
                marker: marked && index + 1 == count,
                sequence: self.sequence.wrapping_add(offset),
                timestamp,
                ssrc: self.ssrc,
            }));
        }
        let stamp = unit.stamp.map(|(index, mut stamp)| {
            stamp.patch(self.counter, now_ns);
            (index, stamp)
        });
        let losses = faults.iter().find_map(|fault| {
            let Fault::Lose(interval) = *fault else { return None };
            Some(Losses { sent: self.packets, interval })
        });
        Packets { headers: &scratch.headers, payloads: &unit.payloads, stamp, losses }
    }

    /// The unit went out: on to the next.
    pub(crate) fn sent(&mut self, faults: &[Fault]) {
        let payloads = &self.media.unit(self.position).payloads;
        let packets = u32::try_from(payloads.ranges.len()).unwrap_or(u32::MAX);
        self.packets = self.packets.wrapping_add(packets);
        self.octets = self.octets.wrapping_add(u32::try_from(payloads.bytes.len()).unwrap_or(u32::MAX));
        self.sequence = self.sequence.wrapping_add(u16::try_from(packets & 0xffff).unwrap_or_default());
        self.counter += 1;
        self.position += 1;
        self.awaits_key = false;
        let restarts = |fault: &Fault| {
            let Fault::SsrcChange(interval) = *fault else { return false };
            self.counter.is_multiple_of(interval.get().into())
        };
        if faults.iter().any(restarts) {
            self.restart();
        }
    }

    /// The encoder restarts: another RTP source goes on with the same clip.
    fn restart(&mut self) {
        let mut rng = Rng::new(self.ssrc.into());
        self.ssrc = rng.next_u32();
        self.sequence = rng.next_u16();
        self.first_timestamp = rng.next_u32();
        (self.packets, self.octets, self.next_report_ns) = (0, 0, 0);
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

    /// A sender report when one is due; the moment `now_ns` is `utc_ns` on the wall clock.
    pub(crate) fn report(&mut self, now_ns: u64, utc_ns: u64) -> Option<Vec<u8>> {
        if now_ns < self.next_report_ns {
            return None;
        }
        self.next_report_ns = now_ns + REPORT_INTERVAL_NS;
        let behind_ns = i128::from(now_ns) - i128::from(self.due_ns());
        let behind_ticks = behind_ns * i128::from(CLOCK_RATE) / i128::from(NS_PER_SECOND);
        let report = SenderReport {
            ssrc: self.ssrc,
            utc_ns,
            rtp_timestamp: wrap(i128::from(self.timestamp()) + behind_ticks),
            packets: self.packets,
            octets: self.octets,
        };
        Some(report.frame(self.channel.wrapping_add(1)))
    }

    /// The last words of the session.
    pub(crate) fn bye(&self) -> Vec<u8> {
        rtcp::bye_frame(self.channel.wrapping_add(1), self.ssrc)
    }

    fn timestamp(&self) -> u32 {
        wrap(i128::from(self.first_timestamp) + i128::from(self.media.fps.ticks(self.position)))
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
    use crate::config::Fps;
    use crate::media::Additions;
    use std::num::NonZeroU32;
    use vms_stamp::Codec;

    const CLIP: &[u8] = include_bytes!("../../../tests/media/testsrc2.h264");

    fn player(stamp: bool) -> Player {
        let additions = Additions { stamp, bitrate: None };
        let media = Media::parse(CLIP, Codec::H264, Fps::default(), additions).unwrap();
        Player::new(0, Arc::new(media), 4, 1_000, &mut Rng::new(1))
    }

    #[test]
    fn time_and_sequence_run_on_across_the_loop() {
        let mut player = player(false);
        let (start_ns, timestamp, mut sequence) = (player.due_ns(), player.timestamp(), player.sequence);
        let mut scratch = Scratch::default();
        for position in 0..250_u32 {
            assert_eq!(player.due_ns(), start_ns + u64::from(position) * 40_000_000);
            let now = player.due_ns();
            let packets = player.packetize(&mut scratch, now, &[]);
            assert_eq!(packets.slices().map(<[u8]>::len).sum::<usize>(), packets.len());
            for header in packets.headers {
                assert_eq!(header[8..12], timestamp.wrapping_add(position * 3600).to_be_bytes());
                assert_eq!(header[6..8], sequence.to_be_bytes());
                sequence = sequence.wrapping_add(1);
            }
            let markers: Vec<bool> = packets.headers.iter().map(|header| header[5] & 0x80 != 0).collect();
            assert!(markers.iter().rev().skip(1).all(|marker| !marker) && markers.last() == Some(&true));
            player.sent(&[]);
        }
    }

    #[test]
    fn after_a_drop_only_a_key_frame_goes_out() {
        let mut player = player(true);
        player.sent(&[]);
        player.dropped();
        let mut skipped = 0;
        while player.turn(false, &[]) == Turn::SkipBroken {
            player.skipped();
            skipped += 1;
        }
        assert_eq!((skipped, player.position, player.counter), (23, 25, 1));
    }

    #[test]
    fn ends_and_faults() {
        let mut player = player(true);
        assert_eq!(player.turn(true, &[Fault::CloseAfter(2)]), Turn::Send);
        player.sent(&[]);
        player.sent(&[]);
        assert_eq!(player.turn(false, &[Fault::CloseAfter(2)]), Turn::Close);
        assert_eq!(player.turn(false, &[Fault::StallAfter(2)]), Turn::Skip);
        (2..100).for_each(|_| player.sent(&[]));
        assert_eq!((player.turn(true, &[]), player.turn(false, &[])), (Turn::Finish, Turn::Send));
    }

    #[test]
    fn reports_map_wall_time_to_rtp_time() {
        let mut player = player(true);
        player.sent(&[]);
        let due = player.due_ns();
        let report = player.report(due + NS_PER_SECOND, 0).unwrap();
        assert_eq!(report[20..24], player.timestamp().wrapping_add(90_000).to_be_bytes());
        assert_eq!(player.report(due + 2 * NS_PER_SECOND, 0), None);
        assert!(player.report(due + 6 * NS_PER_SECOND, 0).is_some());
    }

    #[test]
    fn lost_packets_leave_a_hole_in_the_sequence() {
        let player = player(true);
        let mut scratch = Scratch::default();
        let all = player.packetize(&mut scratch, 0, &[]).slices().count();
        let every_second = Fault::Lose(NonZeroU32::new(2).unwrap());
        let packets = player.packetize(&mut scratch, 0, &[every_second]);
        let sequence: Vec<u16> = packets
            .slices()
            .step_by(2)
            .map(|header| u16::from_be_bytes([header[6], header[7]]).wrapping_sub(player.sequence))
            .collect();
        assert!(
            sequence.iter().copied().eq((0..).step_by(2).take((all / 2).div_ceil(2))),
            "{sequence:?} of {all}"
        );
    }

    #[test]
    fn a_restarted_encoder_is_another_source() {
        let mut player = player(true);
        let change = [Fault::SsrcChange(NonZeroU32::new(2).unwrap())];
        let ssrc = player.ssrc;
        player.sent(&change);
        assert_eq!(player.ssrc, ssrc);
        player.sent(&change);
        assert!(player.ssrc != ssrc && player.counter == 2 && player.packets == 0);
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
