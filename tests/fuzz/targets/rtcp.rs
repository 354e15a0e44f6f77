//! Any RTCP compounds at times that jump, against `rtp::rtcp` and `WallClock`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vms_fuzz::{Result, Unstructured, memory, number, packets};
use vms_pure::rtp::rtcp::{self, Feedback, Packet, SenderReport, WriteError};
use vms_pure::rtp::{ClockSource, ReceptionReport, WallClock};
use vms_pure::time::{Mono, Now, UnixNanos};

const DAY_NS: u64 = 86_400 * 1_000_000_000;
const MINUTE_NS: u64 = 60 * 1_000_000_000;
/// From 1900 to 1970, in seconds.
const NTP_TO_UNIX_S: u64 = 2_208_988_800;
/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600_000_000_000;

fuzz_target!(init: memory::limit(), |data: &[u8]| {
    let now = Now { mono: Mono(1 << 40), wall: UnixNanos(START_NS) };
    let mut camera = Camera { now, timestamp: 0, clock: WallClock::new(), reported: None };
    // Ends with the input.
    let _ = camera.run(&mut Unstructured::new(data));
});

struct Camera {
    now: Now,
    timestamp: u32,
    clock: WallClock,
    /// When the newest report came, since the source began.
    reported: Option<Now>,
}

impl Camera {
    fn run(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        while !input.is_empty() {
            match input.int_in_range(0..=6)? {
                0 => {
                    let len = input.int_in_range(0..=80)?.min(input.len());
                    self.compound(input.bytes(len)?);
                }
                1 | 2 => {
                    let compound = self.reports_and_more(input)?;
                    self.compound(&compound);
                }
                3 => feedback(input)?,
                4 => self.pass(input)?,
                _ => self.media(input)?,
            }
        }
        Ok(())
    }

    /// Takes a compound, and holds it against what stands where the RFC says.
    fn compound(&mut self, compound: &[u8]) {
        let mut rest = compound;
        for packet in rtcp::packets(compound) {
            let len =
                rest.get(2..4).map(|words| (usize::from(u16::from_be_bytes([words[0], words[1]])) + 1) * 4);
            let Some((this, after)) = len.and_then(|len| rest.split_at_checked(len)) else {
                assert_eq!(packet, Packet::Invalid);
                rest = &[];
                continue;
            };
            rest = after;
            match packet {
                Packet::SenderReport(report) => {
                    assert_eq!(this[1], 200);
                    let word = |at: usize| u32::from_be_bytes(this[at..at + 4].try_into().unwrap());
                    let ntp = u64::from(word(8)) << 32 | u64::from(word(12));
                    assert_eq!(report, SenderReport { ssrc: word(4), ntp, rtp_timestamp: word(16) });
                    assert_eq!(u64::from(report.last_sr()), ntp >> 16 & 0xffff_ffff);
                    self.clock.report(&report, self.now);
                    self.reported = Some(self.now);
                }
                Packet::Bye => assert_eq!(this[1], 203),
                Packet::Other => assert!(!matches!(this[1], 200 | 203)),
                Packet::Invalid => assert_eq!(this[1], 200),
            }
        }
        assert!(rest.is_empty(), "all of it was looked at");
    }

    /// A report, mostly of a clock that is right, and what else a compound has.
    fn reports_and_more(&mut self, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let off_ns = match input.int_in_range(0..=4)? {
            0..=2 => 0,
            3 => i64::from(input.arbitrary::<i32>()?),
            _ => input.arbitrary()?,
        };
        let unix_ns = u64::try_from(self.now.wall.0.saturating_add(off_ns)).unwrap_or(0);
        let seconds = unix_ns / 1_000_000_000 + NTP_TO_UNIX_S;
        let ntp = seconds << 32 | (unix_ns % 1_000_000_000 << 32) / 1_000_000_000;
        let timestamp = if input.ratio(1, 8)? { input.arbitrary()? } else { self.timestamp };
        let mut compound = packets::sender_report(input.arbitrary()?, ntp, timestamp);
        let more: [&[u8]; 4] = [
            &[],
            &[0x81, 202, 0, 2, 0, 0, 0, 7, 1, 1, b'x', 0],
            &[0x81, 203, 0, 1, 0, 0, 0, 7],
            &[0x81, 202, 0xff, 0xff, 0],
        ];
        compound.extend_from_slice(input.choose(&more)?);
        if input.ratio(1, 4)? {
            let at = input.choose_index(compound.len())?;
            compound[at] = input.arbitrary()?;
        }
        Ok(compound)
    }

    fn pass(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let ns = if input.ratio(1, 8)? { number(input, MINUTE_NS)? } else { 1_000_000_000 };
        self.now.mono = Mono(self.now.mono.0.saturating_add(ns));
        self.now.wall.0 = self.now.wall.0.saturating_add_unsigned(ns);
        self.timestamp = self.timestamp.wrapping_add((u128::from(ns) * 90_000 / 1_000_000_000) as u32);
        if input.ratio(1, 16)? {
            // Somebody sets the clock.
            self.now.wall = UnixNanos(input.arbitrary()?);
        }
        if input.ratio(1, 32)? {
            self.clock.reset();
            self.reported = None;
        }
        Ok(())
    }

    fn media(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        if input.ratio(1, 8)? {
            self.timestamp = input.arbitrary()?;
        }
        let time = self.clock.wall(self.timestamp, self.now);
        match time.source {
            ClockSource::Receive | ClockSource::SenderReportSuspect => {
                assert_eq!((time.at, time.error_us), (self.now.wall, u32::MAX));
                assert!(time.source == ClockSource::Receive || self.reported.is_some());
            }
            ClockSource::SenderReport => {
                assert!((1000..u32::MAX).contains(&time.error_us), "{time:?}");
                // A report is believed up to a day off, and a timestamp up to a minute off the report.
                let reported = self.reported.expect("a report came");
                let elapsed = self.now.mono.since(reported.mono).as_nanos();
                let off = i128::from(time.at.0) - i128::from(reported.wall.0) - elapsed.cast_signed();
                assert!(off.unsigned_abs() <= u128::from(DAY_NS + MINUTE_NS), "{time:?}");
            }
        }
        // The same is asked for each packet of a unit.
        assert_eq!(self.clock.wall(self.timestamp, self.now), time);
        Ok(())
    }
}

/// Writes a report of any numbers and reads it back.
fn feedback(input: &mut Unstructured<'_>) -> Result<()> {
    let reception = ReceptionReport {
        ssrc: input.arbitrary()?,
        fraction_lost: input.arbitrary()?,
        cumulative_lost: input.int_in_range(-0x80_0000..=0x7f_ffff)?,
        extended_highest_sequence: input.arbitrary()?,
        jitter: input.arbitrary()?,
    };
    let reception = input.ratio(3, 4)?.then_some(reception);
    let name = "x".repeat(input.int_in_range(0..=260)?);
    let (ssrc, last_sr, delay) = (input.arbitrary()?, input.arbitrary()?, input.arbitrary()?);
    let feedback = Feedback { ssrc, cname: &name, reception, last_sr, delay_since_last_sr: delay };
    let mut out = vec![0; input.int_in_range(0..=400)?];
    match rtcp::write_receiver_report(&mut out, &feedback) {
        Ok(len) => {
            let out = &out[..len];
            assert_eq!(rtcp::packets(out).collect::<Vec<_>>(), [Packet::Other; 2]);
            let word = |at: usize| u32::from_be_bytes(out[at..at + 4].try_into().unwrap());
            assert_eq!((out[1], word(4)), (201, ssrc));
            let block = 8 + 24 * usize::from(reception.is_some());
            if let Some(reception) = reception {
                let lost = reception.cumulative_lost.cast_unsigned() & 0xff_ffff;
                assert_eq!(word(12), u32::from(reception.fraction_lost) << 24 | lost);
                assert_eq!((word(16), word(20)), (reception.extended_highest_sequence, reception.jitter));
                assert_eq!((word(8), word(24), word(28)), (reception.ssrc, last_sr, delay));
            }
            assert_eq!((out[block + 1], word(block + 4)), (202, ssrc));
        }
        Err(WriteError::TooSmall { needed }) => {
            assert!(needed > out.len() && out.iter().all(|byte| *byte == 0))
        }
        Err(WriteError::Name) => assert!(name.len() > 255 && out.iter().all(|byte| *byte == 0)),
    }
    Ok(())
}
