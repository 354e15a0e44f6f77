//! One play session: which access unit is due when, and its RTP packets.
//!
//! The payloads are shared by all cameras that show the clip; a player writes only the 16 header bytes of each packet
//! and the stamp, into a [`Scratch`] that the server lends to one player after the other.

use std::sync::Arc;

use vms_stamp::StampNal;

use crate::clock::NS_PER_SECOND;
use crate::config::CLOCK_RATE;
use crate::faults::Fault;
use crate::media::Media;
use crate::packetize::Payloads;
use crate::rng::Rng;
use crate::rtcp::{self, SenderReport};
use crate::sdp::PAYLOAD_TYPE;

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

    /// [`Fault::Garbage`] puts random bytes before every eighth unit.
    pub(crate) const fn takes_garbage(&self) -> bool {
        self.counter % 8 == 7
    }

    /// Writes headers and stamp of the next unit into `scratch`.
    pub(crate) fn packetize<'a>(&'a self, scratch: &'a mut Scratch, now_ns: u64) -> Packets<'a> {
        let unit = self.media.unit(self.position);
        let timestamp = self.timestamp();
        let count = unit.payloads.ranges.len();
        scratch.headers.clear();
        for (index, range) in unit.payloads.ranges.iter().enumerate() {
            let offset = u16::try_from(index & 0xffff).unwrap_or_default();
            scratch.headers.push(packet_header(&Header {
                channel: self.channel,
                payload_len: range.len(),
                marker: index + 1 == count,
                sequence: self.sequence.wrapping_add(offset),
                timestamp,
                ssrc: self.ssrc,
            }));
        }
        let stamp = unit.stamp.map(|(index, mut stamp)| {
            stamp.patch(self.counter, now_ns);
            (index, stamp)
        });
        Packets { headers: &scratch.headers, payloads: &unit.payloads, stamp }
    }

    /// The unit went out: on to the next.
    pub(crate) fn sent(&mut self) {
        let payloads = &self.media.unit(self.position).payloads;
        let packets = u32::try_from(payloads.ranges.len()).unwrap_or(u32::MAX);
        self.packets = self.packets.wrapping_add(packets);
        self.octets = self.octets.wrapping_add(u32::try_from(payloads.bytes.len()).unwrap_or(u32::MAX));
        self.sequence = self.sequence.wrapping_add(u16::try_from(packets & 0xffff).unwrap_or_default());
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

/// Memory for the headers of one unit, reused by all players.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    headers: Vec<[u8; HEADER_LEN]>,
}

/// The packets of one unit: own headers and stamp, shared payloads.
#[derive(Debug)]
pub(crate) struct Packets<'a> {
    headers: &'a [[u8; HEADER_LEN]],
    payloads: &'a Payloads,
    stamp: Option<(usize, StampNal)>,
}

impl Packets<'_> {
    /// Bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        self.headers.len() * HEADER_LEN + self.payloads.bytes.len()
    }

    /// All bytes in order: header, payload, header, payload …
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().zip(&self.payloads.ranges).enumerate().flat_map(|(index, (header, range))| {
            let payload = match &self.stamp {
                Some((at, stamp)) if *at == index => stamp.bytes(),
                _ => &self.payloads.bytes[range.clone()],
            };
            [&header[..], payload]
        })
    }
}

/// The fields that differ from packet to packet.
pub(crate) struct Header {
    pub(crate) channel: u8,
    pub(crate) payload_len: usize,
    pub(crate) marker: bool,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
}

/// Interleaved frame header (RFC 2326 10.12) and RTP header (RFC 3550 5.1).
pub(crate) fn packet_header(header: &Header) -> [u8; HEADER_LEN] {
    let len = u16::try_from(RTP_HEADER_LEN + header.payload_len).expect("payloads have at most 1400 bytes");
    let marker = if header.marker { 0x80 } else { 0 };
    let mut bytes = [0; HEADER_LEN];
    bytes[..2].copy_from_slice(&[b'$', header.channel]);
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    bytes[4..6].copy_from_slice(&[0x80, marker | PAYLOAD_TYPE]);
    bytes[6..8].copy_from_slice(&header.sequence.to_be_bytes());
    bytes[8..12].copy_from_slice(&header.timestamp.to_be_bytes());
    bytes[12..].copy_from_slice(&header.ssrc.to_be_bytes());
    bytes
}

const RTP_HEADER_LEN: usize = 12;
pub(crate) const HEADER_LEN: usize = 4 + RTP_HEADER_LEN;
/// Every five seconds, the shortest interval of RFC 3550 6.2.
const REPORT_INTERVAL_NS: u64 = 5 * NS_PER_SECOND;
/// Beyond this the schedule moves.
const LATE_NS_MAX: u64 = NS_PER_SECOND;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Fps;
    use crate::media::Additions;
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
            let packets = player.packetize(&mut scratch, now);
            assert_eq!(packets.slices().map(<[u8]>::len).sum::<usize>(), packets.len());
            for header in packets.headers {
                assert_eq!(header[8..12], timestamp.wrapping_add(position * 3600).to_be_bytes());
                assert_eq!(header[6..8], sequence.to_be_bytes());
                sequence = sequence.wrapping_add(1);
            }
            let markers: Vec<bool> = packets.headers.iter().map(|header| header[5] & 0x80 != 0).collect();
            assert!(markers.iter().rev().skip(1).all(|marker| !marker) && markers.last() == Some(&true));
            player.sent();
        }
    }

    #[test]
    fn after_a_drop_only_a_key_frame_goes_out() {
        let mut player = player(true);
        player.sent();
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
        player.sent();
        player.sent();
        assert_eq!(player.turn(false, &[Fault::CloseAfter(2)]), Turn::Close);
        assert_eq!(player.turn(false, &[Fault::StallAfter(2)]), Turn::Skip);
        (2..100).for_each(|_| player.sent());
        assert_eq!((player.turn(true, &[]), player.turn(false, &[])), (Turn::Finish, Turn::Send));
    }

    #[test]
    fn reports_map_wall_time_to_rtp_time() {
        let mut player = player(true);
        player.sent();
        let due = player.due_ns();
        let report = player.report(due + NS_PER_SECOND, 0).unwrap();
        assert_eq!(report[20..24], player.timestamp().wrapping_add(90_000).to_be_bytes());
        assert_eq!(player.report(due + 2 * NS_PER_SECOND, 0), None);
        assert!(player.report(due + 6 * NS_PER_SECOND, 0).is_some());
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
