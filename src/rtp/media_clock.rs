//! RTP timestamps to exact 64-bit media time.
//!
//! The rule: within a timeline, `ticks` differ exactly as the RTP timestamps do, across any number of 32-bit
//! wraps. A new timeline begins where that cannot be kept: another connection or source, or timestamps that
//! jumped and stayed. Its first tick lies after every tick before it, as far as the time that passed, so that
//! ticks go on growing; but a difference across timelines is an estimate.

use crate::time::Mono;

/// Ticks a second of the RTP clock of H.264 (RFC 6184 §8.2.1) and H.265 (RFC 7798 §7.1).
pub const CLOCK_RATE: u32 = 90_000;

/// When a packet's picture is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaTime {
    /// Exact, unwrapped, in 1/90000 s; the first timeline starts at 0.
    pub ticks: i64,
    /// Incremented on each break.
    pub timeline: u32,
    /// The timestamp was an outlier: `ticks` was estimated from the time of receipt.
    pub estimated: bool,
}

/// Nanoseconds of `ticks`, rounded down.
pub fn pts_ns(ticks: i64) -> i64 {
    let ns = (i128::from(ticks) * 1_000_000_000).div_euclid(i128::from(CLOCK_RATE));
    i64::try_from(ns).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
}

/// Unwraps one stream's timestamps; lives as long as the stream, across its connections.
#[derive(Clone, Debug, Default)]
pub struct MediaClock {
    /// The last timestamp that was believed; `None` when the next packet begins a timeline.
    anchor: Option<Anchor>,
    timeline: u32,
    /// The greatest tick given out and when; `None` before the first packet.
    latest: Option<(i64, Mono)>,
    outlier: Option<Outlier>,
    outliers: u64,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    timestamp: u32,
    ticks: i64,
    received: Mono,
}

/// Timestamps that do not fit the timeline but fit each other.
#[derive(Clone, Copy, Debug)]
struct Outlier {
    timestamp: u32,
    received: Mono,
    /// Distinct timestamps so far.
    count: u32,
    given: MediaTime,
}

impl MediaClock {
    /// A clock that has seen nothing; its first packet is at tick 0 of timeline 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the timeline: the next packet begins another. To be called on a new connection and on
    /// [`super::Arrival::Restart`]; before the first packet it does nothing.
    pub fn restart(&mut self) {
        self.anchor = None;
        self.outlier = None;
    }

    /// The media time of a packet with `timestamp` that came at `received`.
    pub fn stamp(&mut self, timestamp: u32, received: Mono) -> MediaTime {
        let Some(anchor) = self.anchor else {
            return self.begin_timeline(timestamp, received);
        };
        if timestamp == anchor.timestamp {
            return self.exact(anchor.ticks);
        }
        let step = i64::from(timestamp.wrapping_sub(anchor.timestamp).cast_signed());
        if is_jump(step, received.since(anchor.received).as_nanos()) {
            return self.doubt(timestamp, received, anchor);
        }
        self.outlier = None;
        let ticks = anchor.ticks.saturating_add(step);
        self.anchor = Some(Anchor { timestamp, ticks, received });
        self.note(ticks, received);
        self.exact(ticks)
    }

    /// Timestamps that were not believed.
    pub const fn outliers(&self) -> u64 {
        self.outliers
    }

    const fn exact(&self, ticks: i64) -> MediaTime {
        MediaTime { ticks, timeline: self.timeline, estimated: false }
    }

    fn begin_timeline(&mut self, timestamp: u32, received: Mono) -> MediaTime {
        let mut ticks = 0;
        if let Some((latest, at)) = self.latest {
            ticks = latest.saturating_add(ticks_of(received.since(at).as_nanos()).max(1));
            self.timeline = self.timeline.wrapping_add(1);
        }
        self.anchor = Some(Anchor { timestamp, ticks, received });
        self.outlier = None;
        self.note(ticks, received);
        self.exact(ticks)
    }

    /// A jump: estimates, until enough timestamps agree on it that it must be a new timeline.
    fn doubt(&mut self, timestamp: u32, received: Mono, anchor: Anchor) -> MediaTime {
        let agreeing = match self.outlier {
            Some(outlier) if outlier.timestamp == timestamp => return outlier.given,
            Some(outlier) => {
                let step = i64::from(timestamp.wrapping_sub(outlier.timestamp).cast_signed());
                let agrees = !is_jump(step, received.since(outlier.received).as_nanos());
                if agrees { outlier.count } else { 0 }
            }
            None => 0,
        };
        if agreeing + 1 >= PERSISTENT_COUNT {
            return self.begin_timeline(timestamp, received);
        }
        self.outliers += 1;
        let elapsed = ticks_of(received.since(anchor.received).as_nanos());
        let given = MediaTime { estimated: true, ..self.exact(anchor.ticks.saturating_add(elapsed)) };
        self.note(given.ticks, received);
        self.outlier = Some(Outlier { timestamp, received, count: agreeing + 1, given });
        given
    }

    fn note(&mut self, ticks: i64, received: Mono) {
        if self.latest.is_none_or(|(latest, _)| ticks > latest) {
            self.latest = Some((ticks, received));
        }
    }
}

/// Whether a step of the timestamp is no playing on: more than [`JUMP_TICKS`] either way, and just as far from
/// the time that passed. (A camera that paused a minute may step a minute; a network that stalled a minute
/// delivers small steps late.)
fn is_jump(step: i64, elapsed_ns: u128) -> bool {
    let off = step.saturating_sub(ticks_of(elapsed_ns));
    step.saturating_abs() > JUMP_TICKS && off.saturating_abs() > JUMP_TICKS
}

fn ticks_of(ns: u128) -> i64 {
    i64::try_from(ns.saturating_mul(u128::from(CLOCK_RATE)) / 1_000_000_000).unwrap_or(i64::MAX)
}

/// 10 s.
const JUMP_TICKS: i64 = 10 * CLOCK_RATE as i64;
/// Timestamps in a row, each another, that make a jump a new timeline. Intelbras cameras send single ones
/// that are hours off.
const PERSISTENT_COUNT: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u32 = 3600;
    const FRAME_NS: u64 = 40_000_000;

    fn exact(ticks: i64, timeline: u32) -> MediaTime {
        MediaTime { ticks, timeline, estimated: false }
    }

    #[test]
    fn is_exact_across_the_wrap() {
        let mut clock = MediaClock::new();
        let start = u32::MAX - 2 * FRAME + 1;
        for n in 0..5 {
            let time = clock.stamp(start.wrapping_add(n * FRAME), Mono(u64::from(n) * FRAME_NS));
            assert_eq!(time, exact(i64::from(n * FRAME), 0));
        }
    }

    #[test]
    fn goes_back_for_reordered_pictures() {
        let mut clock = MediaClock::new();
        let ticks: Vec<_> = [0, 3, 1, 2].map(|n| clock.stamp(n * FRAME, Mono(1)).ticks).into();
        assert_eq!(ticks, [0, 10_800, 3600, 7200]);
    }

    #[test]
    fn a_restart_goes_on_after_the_time_that_passed() {
        let mut clock = MediaClock::new();
        clock.restart();
        assert_eq!(clock.stamp(77, Mono(0)), exact(0, 0));
        assert_eq!(clock.stamp(77 + FRAME, Mono(FRAME_NS)), exact(3600, 0));
        clock.restart();
        assert_eq!(clock.stamp(5, Mono(FRAME_NS + 1_000_000_000)), exact(93_600, 1));
        assert_eq!(clock.stamp(5 + FRAME, Mono(0)), exact(97_200, 1));
    }

    #[test]
    fn a_single_outlier_is_estimated() {
        let mut clock = MediaClock::new();
        clock.stamp(0, Mono(0));
        let odd = MediaTime { ticks: 3600, timeline: 0, estimated: true };
        // Intelbras: -9,800 s. Every packet of the unit gets the same.
        let timestamp = 0_u32.wrapping_sub(9800 * CLOCK_RATE);
        assert_eq!(clock.stamp(timestamp, Mono(FRAME_NS)), odd);
        assert_eq!(clock.stamp(timestamp, Mono(FRAME_NS + 5)), odd);
        assert_eq!(clock.stamp(2 * FRAME, Mono(2 * FRAME_NS)), exact(7200, 0));
        assert_eq!(clock.outliers(), 1);
    }

    #[test]
    fn a_jump_that_stays_is_a_new_timeline() {
        let mut clock = MediaClock::new();
        clock.stamp(0, Mono(0));
        let at = |n: u32| (3_000_000_000 + n * FRAME, Mono(u64::from(n) * FRAME_NS));
        let times = [1, 2, 3, 4].map(|n| clock.stamp(at(n).0, at(n).1));
        assert!(times[0].estimated && times[1].estimated);
        assert_eq!(times[2..], [exact(10_800, 1), exact(14_400, 1)]);
    }

    #[test]
    fn outliers_that_disagree_stay_outliers() {
        let mut clock = MediaClock::new();
        clock.stamp(0, Mono(0));
        for n in 1..100_u32 {
            let time = clock.stamp(n.wrapping_mul(1_000_000_007), Mono(u64::from(n)));
            assert_eq!(time.timeline, 0, "{n}");
        }
    }

    #[test]
    fn silence_and_stalls_are_no_jumps() {
        let mut clock = MediaClock::new();
        clock.stamp(0, Mono(0));
        // The camera paused for a minute.
        assert_eq!(clock.stamp(60 * CLOCK_RATE, Mono(60_000_000_000)), exact(5_400_000, 0));
        // The network stalled for a minute.
        assert_eq!(clock.stamp(60 * CLOCK_RATE + FRAME, Mono(120_000_000_000)), exact(5_403_600, 0));
    }

    #[test]
    fn nanoseconds_round_down() {
        assert_eq!(pts_ns(90_000), 1_000_000_000);
        assert_eq!((pts_ns(1), pts_ns(-1)), (11_111, -11_112));
        assert_eq!((pts_ns(i64::MAX), pts_ns(i64::MIN)), (i64::MAX, i64::MIN));
    }
}
