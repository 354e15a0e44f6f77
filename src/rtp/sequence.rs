//! Order of one source's packets: gaps, duplicates, restarts, and what a receiver report says of them.
//!
//! This is the order of a reliable transport. TCP does not reorder, so a gap is a loss at the camera and known
//! at once, and a number far from the expected one is a restart at once; RFC 3550's probation of two packets
//! would only lose the first of them.

use crate::rtp::CLOCK_RATE;
use crate::time::Mono;

/// What a packet is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first packet of a connection.
    First,
    /// New; `lost` packets are missing right before it.
    Next {
        /// Packets missing between the one before and this.
        lost: u32,
    },
    /// Came before; drop it.
    Duplicate,
    /// Fills a gap that was already counted as lost; drop it.
    Late,
    /// Another source, or numbers far from those before: what follows is a new timeline.
    Restart,
}

/// What a receiver report block says (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceptionReport {
    /// The source that is reported on.
    pub ssrc: u32,
    /// Lost since the report before, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the source began, in 24 bits; negative when duplicates outnumber losses.
    pub cumulative_lost: i32,
    /// Highest sequence number, with its wraps in the upper 16 bits.
    pub extended_highest_sequence: u32,
    /// Inter-arrival jitter in ticks of 1/90000 s.
    pub jitter: u32,
}

/// Tracks the sequence numbers of a connection's video.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    source: Option<Source>,
    lost: u64,
    duplicates: u64,
    late: u64,
    restarts: u64,
}

#[derive(Clone, Debug)]
struct Source {
    ssrc: u32,
    /// First sequence number of the source.
    base: u16,
    /// Highest sequence number, with wraps in the upper bits.
    highest: u64,
    /// Which of the 64 packets up to `highest` came; bit 0 is `highest`.
    seen: u64,
    /// The number behind the window's top that came last, and how many came so in a row.
    behind: (u16, u32),
    received: u64,
    /// `(expected, received)` at the last report.
    reported: (u64, u64),
    transit: Option<u32>,
    /// 16 times the jitter (RFC 3550 §A.8).
    jitter_scaled: u32,
}

impl Sequence {
    /// A connection that has received nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a packet that was received at `received`.
    pub fn receive(&mut self, ssrc: u32, sequence: u16, timestamp: u32, received: Mono) -> Arrival {
        let arrival = match &mut self.source {
            None => Arrival::First,
            Some(source) if source.ssrc != ssrc => Arrival::Restart,
            Some(source) => source.receive(sequence),
        };
        match arrival {
            Arrival::First => self.source = Some(Source::new(ssrc, sequence)),
            Arrival::Restart => {
                self.restarts += 1;
                self.source = Some(Source::new(ssrc, sequence));
            }
            Arrival::Next { lost } => self.lost += u64::from(lost),
            Arrival::Duplicate => self.duplicates += 1,
            Arrival::Late => self.late += 1,
        }
        if let Some(source) = &mut self.source {
            source.received += 1;
            source.measure_jitter(timestamp, received);
        }
        arrival
    }

    /// The block of a receiver report about the current source, counting from the block before.
    pub fn report(&mut self) -> Option<ReceptionReport> {
        self.source.as_mut().map(Source::report)
    }

    /// The source whose packets come.
    pub fn source(&self) -> Option<u32> {
        self.source.as_ref().map(|source| source.ssrc)
    }

    /// Packets lost so far, over all sources.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Duplicates dropped so far.
    pub const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Late packets dropped so far.
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// Restarts so far.
    pub const fn restarts(&self) -> u64 {
        self.restarts
    }
}

impl Source {
    fn new(ssrc: u32, sequence: u16) -> Self {
        Self {
            ssrc,
            base: sequence,
            highest: u64::from(sequence),
            seen: 1,
            behind: (0, 0),
            received: 0,
            reported: (0, 0),
            transit: None,
            jitter_scaled: 0,
        }
    }

    fn receive(&mut self, sequence: u16) -> Arrival {
        let ahead = sequence.wrapping_sub(self.highest_16());
        if (1..=DROPOUT_MAX).contains(&ahead) {
            self.highest += u64::from(ahead);
            self.seen = self.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
            self.behind.1 = 0;
            return Arrival::Next { lost: u32::from(ahead) - 1 };
        }
        let behind = self.highest_16().wrapping_sub(sequence);
        if behind >= WINDOW || self.runs_behind(sequence) {
            return Arrival::Restart;
        }
        let bit = 1 << behind;
        let arrival = if self.seen & bit != 0 { Arrival::Duplicate } else { Arrival::Late };
        self.seen |= bit;
        arrival
    }

    /// Whether so many packets in a row counted up from a number behind that the camera must have gone back.
    fn runs_behind(&mut self, sequence: u16) -> bool {
        let (last, run) = self.behind;
        let run = if run > 0 && sequence == last.wrapping_add(1) { run + 1 } else { 1 };
        self.behind = (sequence, run);
        run >= BEHIND_RUN_MAX
    }

    /// RFC 3550 §A.8. Differences wrap like the timestamps they are made of.
    fn measure_jitter(&mut self, timestamp: u32, received: Mono) {
        let transit = arrival_ticks(received).wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let deviation = transit.wrapping_sub(before).cast_signed().unsigned_abs().min(DEVIATION_MAX);
            let decayed = self.jitter_scaled - ((self.jitter_scaled + 8) >> 4).min(self.jitter_scaled);
            self.jitter_scaled = decayed.saturating_add(deviation);
        }
    }

    /// RFC 3550 §A.3.
    fn report(&mut self) -> ReceptionReport {
        let expected = self.highest - u64::from(self.base) + 1;
        let (expected_before, received_before) = self.reported;
        let expected_now = expected - expected_before;
        let lost_now = expected_now.saturating_sub(self.received - received_before);
        self.reported = (expected, self.received);
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0);
        let lost = i64::try_from(expected).unwrap_or(i64::MAX) - i64::try_from(self.received).unwrap_or(0);
        ReceptionReport {
            ssrc: self.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: i32::try_from(lost.clamp(-0x80_0000, 0x7f_ffff)).unwrap_or(0),
            extended_highest_sequence: low_32(self.highest),
            jitter: self.jitter_scaled >> 4,
        }
    }

    fn highest_16(&self) -> u16 {
        u16::try_from(self.highest & 0xffff).unwrap_or(0)
    }
}

/// A point in time as the RTP clock would count it; wraps.
fn arrival_ticks(at: Mono) -> u32 {
    // In two parts, because 64 bits hold nanoseconds for centuries, but not times 90,000.
    const NANOS_PER_9_TICKS: u64 = 9 * 1_000_000_000 / CLOCK_RATE as u64;
    let nanos = at.as_nanos();
    low_32(nanos / NANOS_PER_9_TICKS * 9 + nanos % NANOS_PER_9_TICKS * 9 / NANOS_PER_9_TICKS)
}

fn low_32(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0)
}

/// Most packets a gap may have; more is a restart (`MAX_DROPOUT` of RFC 3550 §A.1).
const DROPOUT_MAX: u16 = 3000;
/// How far back a packet is a duplicate or late; further is a restart. The width of `seen`.
const WINDOW: u16 = 64;
/// Packets in a row that count up from behind; a burst sent twice is shorter.
const BEHIND_RUN_MAX: u32 = 8;
/// One jump of the timestamp must not drown the jitter for minutes: 10 s.
const DEVIATION_MAX: u32 = 10 * CLOCK_RATE;

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(sequence: &mut Sequence, numbers: impl IntoIterator<Item = u16>) -> Vec<Arrival> {
        numbers.into_iter().map(|n| sequence.receive(1, n, 0, Mono(0))).collect()
    }

    const NEXT: Arrival = Arrival::Next { lost: 0 };

    #[test]
    fn keeps_order_across_the_wrap() {
        let mut sequence = Sequence::new();
        assert_eq!(receive(&mut sequence, [65_534, 65_535, 0, 1]), [Arrival::First, NEXT, NEXT, NEXT]);
        assert_eq!(sequence.report().unwrap().extended_highest_sequence, 0x1_0001);
    }

    #[test]
    fn counts_what_is_missing() {
        let mut sequence = Sequence::new();
        let got = receive(&mut sequence, [10, 14, 60_000]);
        assert_eq!(got, [Arrival::First, Arrival::Next { lost: 3 }, Arrival::Restart]);
        assert_eq!(sequence.lost(), 3);
    }

    #[test]
    fn drops_duplicates_and_late_packets() {
        let mut sequence = Sequence::new();
        let got = receive(&mut sequence, [10, 12, 12, 11, 11, 13, 10]);
        let lost = Arrival::Next { lost: 1 };
        use Arrival::{Duplicate, First, Late};
        assert_eq!(got, [First, lost, Duplicate, Late, Duplicate, NEXT, Duplicate]);
        assert_eq!((sequence.duplicates(), sequence.late()), (3, 1));
    }

    #[test]
    fn restarts_at_once_when_far() {
        for to in [10_000_u16.wrapping_sub(64), 10_000 + 3001, 10_000 + 32_768, 0] {
            let mut sequence = Sequence::new();
            let got = receive(&mut sequence, [10_000, to, to.wrapping_add(1)]);
            assert_eq!(got, [Arrival::First, Arrival::Restart, NEXT], "{to}");
        }
    }

    #[test]
    fn restarts_after_a_run_when_near() {
        let mut sequence = Sequence::new();
        receive(&mut sequence, 100..140);
        let got = receive(&mut sequence, 110..120);
        assert_eq!(got[..7], [Arrival::Duplicate; 7]);
        assert_eq!(got[7..], [Arrival::Restart, NEXT, NEXT]);
    }

    #[test]
    fn each_packet_twice_is_no_restart() {
        let mut sequence = Sequence::new();
        let got = receive(&mut sequence, (0..200).map(|n| n / 2));
        assert_eq!(got.iter().filter(|&&a| a == Arrival::Duplicate).count(), 100);
        assert_eq!(sequence.restarts(), 0);
    }

    #[test]
    fn another_source_restarts() {
        let mut sequence = Sequence::new();
        assert_eq!(sequence.receive(1, 5, 0, Mono(0)), Arrival::First);
        assert_eq!(sequence.receive(2, 6, 0, Mono(0)), Arrival::Restart);
        assert_eq!(sequence.report().unwrap().ssrc, 2);
    }

    #[test]
    fn reports_loss_since_the_report_before() {
        let mut sequence = Sequence::new();
        receive(&mut sequence, [0, 1, 4, 5, 6, 7]);
        let report = sequence.report().unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (64, 2));
        receive(&mut sequence, 8..16);
        let report = sequence.report().unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 2));
        assert_eq!(sequence.report().unwrap().fraction_lost, 0, "nothing expected");
    }

    #[test]
    fn jitter_is_that_of_the_rfc() {
        let mut sequence = Sequence::new();
        for n in 0..100_u16 {
            let wobble = if n % 2 == 0 { 0 } else { 1_000_000 };
            sequence.receive(1, n, u32::from(n) * 3600, Mono(u64::from(n) * 40_000_000 + wobble));
        }
        // 1 ms either way is a deviation of 90 ticks each time, to which the filter converges.
        let jitter = sequence.report().unwrap().jitter;
        assert!((85..=91).contains(&jitter), "{jitter}");
    }

    #[test]
    fn arrival_is_counted_as_the_clock_counts_for_centuries() {
        for nanos in [0, 1, 99_999, 100_000, 11_111, 11_112, 1_700_000_000_000_000_000, u64::MAX] {
            let exact = u128::from(nanos) * u128::from(CLOCK_RATE) / 1_000_000_000;
            assert_eq!(u128::from(arrival_ticks(Mono(nanos))), exact & u128::from(u32::MAX), "{nanos}");
        }
    }
}
