//! RTP timestamps to wall-clock time of capture, by the camera's RTCP sender reports.
//!
//! A report pairs an RTP timestamp with the camera's clock; between reports the RTP clock carries on. Cameras
//! report 1970 before their first NTP answer, step their clock later, or pair timestamps that are not those of
//! the media. Then the time of receipt is given, and marked so.

use super::CLOCK_RATE;
use super::rtcp::SenderReport;
use crate::time::{Mono, Now, UnixNanos};

/// When a picture was captured, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime {
    /// The time.
    pub at: UnixNanos,
    /// How far `at` may be off the camera's clock, in microseconds; `u32::MAX` when unknown.
    pub error_us: u32,
    /// Where it comes from.
    pub source: ClockSource,
}

/// Where a unit's wall-clock time comes from; numbers are those of the ring ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ClockSource {
    /// The daemon's own clock when the first packet came.
    Receive = 1,
    /// The camera's clock by RTCP sender reports.
    SenderReport = 2,
    /// The camera sends reports, but they jumped or disagree with the daemon's clock by more than a day; receive
    /// time is given instead.
    SenderReportSuspect = 3,
}

/// Maps one source's timestamps. Anew for each connection and source.
#[derive(Clone, Debug, Default)]
pub struct WallClock {
    pairing: Option<Pairing>,
    standing: Standing,
    /// The last timestamp that was asked for, and when.
    media: Option<(u32, Mono)>,
}

#[derive(Clone, Copy, Debug)]
struct Pairing {
    timestamp: u32,
    wall_ns: i64,
    received: Mono,
    error_us: u32,
}

#[derive(Clone, Copy, Debug, Default)]
enum Standing {
    /// No report yet.
    #[default]
    Unreported,
    Trusted,
    /// The last report did not fit; so many have fitted each other since.
    Suspect {
        agreeing: u32,
    },
}

impl WallTime {
    /// Nothing but when the first packet came.
    pub const fn received(now: Now) -> Self {
        Self { at: now.wall, error_us: u32::MAX, source: ClockSource::Receive }
    }
}

impl WallClock {
    /// A clock without reports.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the reports: timestamps have another origin from now on.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Takes a sender report that came at `now`. Its SSRC is not compared with the media's: some cameras
    /// (TP-Link Tapo C320WS) report under an SSRC of their own. Those of another source that sends packets are kept away by the caller.
    pub fn report(&mut self, report: &SenderReport, now: Now) {
        let pairing = Pairing {
            timestamp: report.rtp_timestamp,
            wall_ns: unix_nanos(report.ntp),
            received: now.mono,
            error_us: 0,
        };
        if !self.is_plausible(&pairing, now) {
            self.pairing = None;
            self.standing = Standing::Suspect { agreeing: 0 };
            return;
        }
        let residual_us = self.pairing.map(|before| before.residual_us(&pairing));
        self.standing = match (self.standing, residual_us) {
            (Standing::Unreported, _) => Standing::Trusted,
            (_, Some(residual)) if residual > STEP_US => Standing::Suspect { agreeing: 0 },
            (Standing::Trusted, _) => Standing::Trusted,
            (Standing::Suspect { .. }, None) => Standing::Suspect { agreeing: 0 },
            (Standing::Suspect { agreeing }, Some(_)) if agreeing + 1 >= AGREEING_COUNT => Standing::Trusted,
            (Standing::Suspect { agreeing }, Some(_)) => Standing::Suspect { agreeing: agreeing + 1 },
        };
        let error_us = residual_us.map_or(FIRST_ERROR_US, |us| us.clamp(LEAST_ERROR_US, STEP_US));
        self.pairing = Some(Pairing { error_us: u32::try_from(error_us).unwrap_or(u32::MAX), ..pairing });
    }

    /// The time of capture of the picture with `timestamp` whose first packet came at `now`.
    pub fn wall(&mut self, timestamp: u32, now: Now) -> WallTime {
        self.media = Some((timestamp, now.mono));
        let suspect = match (self.standing, &self.pairing) {
            (Standing::Trusted, Some(pairing)) if now.mono.since(pairing.received).as_secs() < AGE_MAX_S => {
                if pairing.fits(timestamp, now.mono) {
                    return pairing.wall(timestamp, now.mono);
                }
                true
            }
            (Standing::Unreported | Standing::Trusted, _) => false,
            (Standing::Suspect { .. }, _) => true,
        };
        let received = WallTime::received(now);
        if suspect { WallTime { source: ClockSource::SenderReportSuspect, ..received } } else { received }
    }

    /// Whether a report is near the daemon's clock and, if media came, near the media's timestamps.
    fn is_plausible(&self, pairing: &Pairing, now: Now) -> bool {
        let near = pairing.wall_ns.abs_diff(now.wall.0) <= DAY_NS;
        near && self.media.is_none_or(|(timestamp, at)| {
            let media = Pairing { timestamp, received: at, ..*pairing };
            media.fits(pairing.timestamp, now.mono)
        })
    }
}

impl Pairing {
    /// Whether `timestamp` at `at` is roughly where this pairing's clock should stand by then.
    fn fits(&self, timestamp: u32, at: Mono) -> bool {
        let elapsed = i64::try_from(at.since(self.received).as_nanos()).unwrap_or(i64::MAX);
        self.ns_to(timestamp).abs_diff(elapsed) <= MEDIA_OFF_MAX_NS
    }

    fn wall(&self, timestamp: u32, at: Mono) -> WallTime {
        let age_us = u64::try_from(at.since(self.received).as_micros()).unwrap_or(u64::MAX);
        let error_us = u64::from(self.error_us) + age_us / 1_000_000 * DRIFT_PPM;
        WallTime {
            at: UnixNanos(self.wall_ns.saturating_add(self.ns_to(timestamp))),
            error_us: u32::try_from(error_us).unwrap_or(u32::MAX),
            source: ClockSource::SenderReport,
        }
    }

    /// How far `next` is from where this pairing says it should be.
    fn residual_us(&self, next: &Self) -> u64 {
        let predicted = self.wall_ns.saturating_add(self.ns_to(next.timestamp));
        next.wall_ns.abs_diff(predicted) / 1000
    }

    /// Nanoseconds from this pairing to `timestamp`.
    fn ns_to(&self, timestamp: u32) -> i64 {
        let ticks = i64::from(timestamp.wrapping_sub(self.timestamp).cast_signed());
        ticks * 1_000_000_000 / i64::from(CLOCK_RATE)
    }
}

/// Nanoseconds since 1970 of an NTP time (RFC 5905 §6). Seconds with a clear top bit are those after 2036.
fn unix_nanos(ntp: u64) -> i64 {
    let seconds = i64::try_from(ntp >> 32).unwrap_or(0);
    let era = if seconds < 1 << 31 { 1 << 32 } else { 0 };
    let fraction_ns = ((ntp & u64::from(u32::MAX)) * 1_000_000_000) >> 32;
    (seconds + era - NTP_TO_UNIX_S) * 1_000_000_000 + i64::try_from(fraction_ns).unwrap_or(0)
}

/// Seconds from 1900 to 1970.
const NTP_TO_UNIX_S: i64 = 2_208_988_800;
const DAY_NS: u64 = 86_400 * 1_000_000_000;
/// A report that is further than this from where the one before points is a step of the camera's clock.
const STEP_US: u64 = 1_000_000;
/// Reports that must agree after a step before the new time is believed.
const AGREEING_COUNT: u32 = 2;
/// Media timestamps that are further from a report than this, less the time that passed, do not belong to it.
const MEDIA_OFF_MAX_NS: u64 = 60 * 1_000_000_000;
/// What one report alone may be off: cameras stamp it somewhere between capture and sending.
const FIRST_ERROR_US: u64 = 100_000;
/// Reports that agree perfectly still share an unknown encoder delay.
const LEAST_ERROR_US: u64 = 1000;
/// How fast a camera's RTP clock may leave its wall clock.
const DRIFT_PPM: u64 = 100;
/// A report older than this says nothing: its timestamp's 32 bits may have wrapped.
const AGE_MAX_S: u64 = 3600;

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z.
    const BASE_S: i64 = 1_767_225_600;

    fn now(ms: u64) -> Now {
        let wall = BASE_S * 1_000_000_000 + i64::try_from(ms).unwrap() * 1_000_000;
        Now { mono: Mono(ms * 1_000_000), wall: UnixNanos(wall) }
    }

    /// A report at `ms` by the daemon's clock whose own clock is `off_ms` ahead.
    fn report(ms: u64, off_ms: i64) -> SenderReport {
        let unix_ms = BASE_S * 1000 + i64::try_from(ms).unwrap() + off_ms;
        let seconds = u64::try_from(unix_ms / 1000 + NTP_TO_UNIX_S).unwrap();
        let fraction = (u64::try_from(unix_ms % 1000).unwrap() << 32) / 1000;
        SenderReport {
            ssrc: 1,
            ntp: seconds << 32 | fraction,
            rtp_timestamp: u32::try_from(ms * 90 % (1 << 32)).unwrap(),
        }
    }

    fn source(clock: &mut WallClock, ms: u64) -> ClockSource {
        clock.wall(u32::try_from(ms * 90).unwrap(), now(ms)).source
    }

    #[test]
    fn without_reports_it_is_the_time_of_receipt() {
        let mut clock = WallClock::new();
        let expected = WallTime { at: now(5).wall, error_us: u32::MAX, source: ClockSource::Receive };
        assert_eq!(clock.wall(1, now(5)), expected);
    }

    #[test]
    fn reports_give_the_cameras_time() {
        let mut clock = WallClock::new();
        clock.report(&report(1000, 250), now(1000));
        let wall = clock.wall(1500 * 90, now(1530));
        assert_eq!(wall.source, ClockSource::SenderReport);
        assert!(wall.at.0.abs_diff(now(1750).wall.0) < 1000, "{wall:?}");
        assert_eq!(wall.error_us, 100_000);
        clock.report(&report(6000, 252), now(6000));
        assert_eq!(clock.wall(6000 * 90, now(6000)).error_us, 1999);
        assert_eq!(clock.wall(16_000 * 90, now(16_000)).error_us, 1999 + 1000);
    }

    #[test]
    fn a_camera_in_1970_is_suspect() {
        for ntp in [0, 2_208_988_800 << 32, u64::MAX] {
            let mut clock = WallClock::new();
            clock.report(&SenderReport { ssrc: 1, ntp, rtp_timestamp: 90_000 }, now(1000));
            assert_eq!(source(&mut clock, 1040), ClockSource::SenderReportSuspect);
            assert_eq!(clock.wall(1040 * 90, now(1040)).at, now(1040).wall);
        }
    }

    #[test]
    fn a_step_is_suspect_until_reports_agree() {
        let mut clock = WallClock::new();
        clock.report(&report(0, 0), now(0));
        assert_eq!(source(&mut clock, 10), ClockSource::SenderReport);
        clock.report(&report(5000, 5_000), now(5000));
        assert_eq!(source(&mut clock, 5010), ClockSource::SenderReportSuspect);
        clock.report(&report(10_000, 5_000), now(10_000));
        assert_eq!(source(&mut clock, 10_010), ClockSource::SenderReportSuspect);
        clock.report(&report(15_000, 5_000), now(15_000));
        assert_eq!(source(&mut clock, 15_010), ClockSource::SenderReport);
        assert_eq!(clock.wall(15_010 * 90, now(15_010)).at.0 / 1_000_000, now(20_010).wall.0 / 1_000_000);
    }

    #[test]
    fn reports_about_other_timestamps_are_suspect() {
        let mut clock = WallClock::new();
        source(&mut clock, 1000);
        let odd = SenderReport { rtp_timestamp: 3_000_000_000, ..report(1000, 0) };
        clock.report(&odd, now(1010));
        assert_eq!(source(&mut clock, 1040), ClockSource::SenderReportSuspect);
    }

    #[test]
    fn an_outlier_of_the_media_gets_the_time_of_receipt() {
        let mut clock = WallClock::new();
        clock.report(&report(1000, 0), now(1000));
        assert_eq!(clock.wall(3_000_000_000, now(1040)).source, ClockSource::SenderReportSuspect);
        assert_eq!(source(&mut clock, 1080), ClockSource::SenderReport);
    }

    #[test]
    fn an_old_report_says_nothing() {
        let mut clock = WallClock::new();
        clock.report(&report(0, 0), now(0));
        assert_eq!(source(&mut clock, 3_599_000), ClockSource::SenderReport);
        assert_eq!(source(&mut clock, 3_600_000), ClockSource::Receive);
    }

    #[test]
    fn ntp_goes_on_after_2036() {
        assert_eq!(unix_nanos(2_208_988_800 << 32), 0);
        assert_eq!(unix_nanos(1 << 31), 2_085_978_496_500_000_000);
    }
}
