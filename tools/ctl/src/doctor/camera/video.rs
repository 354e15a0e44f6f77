//! Measures a camera's video: takes access units as a stream's memory would, and keeps numbers of them. Pure.

use std::time::Duration;

use vms_media::codec::{
    AccessUnit, AccessUnitSink, AppendError, ClockSource, CommitError, ConfigError, ConfigId, ParameterSets,
    UnitFlags, VideoFormat,
};
use vms_media::limits::{PARAMETER_SETS_LEN_MAX, UNIT_LEN_MAX};
use vms_media::time::Mono;

/// Ticks of the media clock a second.
const TICKS_PER_SECOND: f64 = 90_000.0;

/// What came.
#[derive(Debug, Default)]
pub(super) struct Video {
    /// Bytes of the open unit.
    open: Option<usize>,
    configs: u32,
    /// What the latest parameter sets say.
    pub(super) format: Option<VideoFormat>,
    pub(super) units: u64,
    pub(super) key_units: u64,
    bytes: u64,
    pub(super) largest_unit: usize,
    pub(super) damaged: u64,
    /// Units whose time the camera did not send.
    pub(super) estimated: u64,
    /// Units with the time of one before, or an earlier one.
    pub(super) out_of_order: u64,
    /// Breaks of the media clock within what was measured.
    pub(super) breaks: u64,
    pub(super) clock_source: Option<ClockSource>,
    first: Option<Moment>,
    last: Option<Moment>,
    /// Number and moment of the latest key unit.
    last_key: Option<(u64, Moment)>,
    /// The longest way from one key unit to the next.
    pub(super) gop: Option<Gop>,
    timeline: u32,
}

/// When a unit came, and when it was taken by the camera's clock.
#[derive(Clone, Copy, Debug)]
struct Moment {
    received: Mono,
    ticks: i64,
}

/// From one key unit to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gop {
    pub(super) units: u64,
    pub(super) time: Duration,
}

impl Video {
    /// When the first unit came.
    pub(super) fn began(&self) -> Option<Mono> {
        self.first.map(|first| first.received)
    }

    /// How long was measured: from the first unit to the last.
    pub(super) fn span(&self) -> Duration {
        match (self.first, self.last) {
            (Some(first), Some(last)) => last.received.since(first.received),
            _ => Duration::ZERO,
        }
    }

    /// Units a second, by their arrival; `None` before it is known.
    pub(super) fn fps(&self) -> Option<f64> {
        let seconds = self.span().as_secs_f64();
        let intervals = u32::try_from(self.units.checked_sub(1)?).ok()?;
        (seconds > 0.0 && intervals > 0).then(|| f64::from(intervals) / seconds)
    }

    /// Payload bits a second; `None` before it is known.
    pub(super) fn bitrate_bps(&self) -> Option<u64> {
        let micros = self.span().as_micros();
        (micros > 0).then(|| u64::try_from(u128::from(self.bytes) * 8_000_000 / micros).unwrap_or(u64::MAX))
    }

    /// How fast the camera's clock goes beside ours, 1.0 when alike; `None` before it is known, and across a break.
    pub(super) fn clock_speed(&self) -> Option<f64> {
        let (first, last) = (self.first?, self.last?);
        let seconds = self.span().as_secs_f64();
        let ticks = i32::try_from(last.ticks.checked_sub(first.ticks)?).ok()?;
        (seconds >= 1.0 && self.breaks == 0).then(|| f64::from(ticks) / TICKS_PER_SECOND / seconds)
    }

    fn note(&mut self, len: usize, unit: &AccessUnit<'_>) {
        let moment = Moment { received: unit.received, ticks: unit.media_ticks };
        let is_new_timeline = self.units > 0 && unit.timeline != self.timeline;
        self.breaks += u64::from(is_new_timeline);
        let is_late = self.last.is_some_and(|last| moment.ticks <= last.ticks);
        self.out_of_order += u64::from(is_late && !is_new_timeline);
        self.timeline = unit.timeline;
        self.damaged += u64::from(unit.flags.contains(UnitFlags::DAMAGED));
        self.estimated += u64::from(unit.flags.contains(UnitFlags::TS_ESTIMATED));
        self.clock_source = Some(unit.clock_source);
        if unit.flags.contains(UnitFlags::KEY) {
            self.key_units += 1;
            if let Some((number, key)) = self.last_key.replace((self.units, moment)) {
                let gop = Gop { units: self.units - number, time: moment.received.since(key.received) };
                self.gop = Some(self.gop.filter(|longest| longest.units >= gop.units).unwrap_or(gop));
            }
        }
        self.units += 1;
        self.bytes += len as u64;
        self.largest_unit = self.largest_unit.max(len);
        self.first.get_or_insert(moment);
        self.last = Some(moment);
    }
}

impl AccessUnitSink for Video {
    fn begin(&mut self) {
        self.open = Some(0);
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        let open = self.open.as_mut().ok_or(AppendError::NotOpen)?;
        *open = open.saturating_add(bytes.len());
        if *open > UNIT_LEN_MAX { Err(AppendError::TooLarge { limit: UNIT_LEN_MAX }) } else { Ok(()) }
    }

    fn commit(&mut self, unit: &AccessUnit<'_>) -> Result<(), CommitError> {
        let len = self.open.take().ok_or(CommitError::NotOpen)?;
        // As in a stream's memory, where the index of NAL units stands beside the payload.
        if len + size_of_val(unit.nal_ends) > UNIT_LEN_MAX {
            return Err(CommitError::TooLarge { limit: UNIT_LEN_MAX });
        }
        self.note(len, unit);
        Ok(())
    }

    fn abort(&mut self) {
        self.open = None;
    }

    fn configure(&mut self, sets: &ParameterSets<'_>) -> Result<ConfigId, ConfigError> {
        let len = sets.annex_b.len();
        if len > PARAMETER_SETS_LEN_MAX {
            return Err(ConfigError::TooLarge { len, limit: PARAMETER_SETS_LEN_MAX });
        }
        self.format = Some(sets.format());
        self.configs = self.configs.wrapping_add(1);
        Ok(ConfigId(self.configs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vms_media::time::UnixNanos;

    /// Takes a unit of `len` bytes that came after `ms`, taken at `ticks`.
    fn take(video: &mut Video, ms: u64, ticks: i64, len: usize, flags: UnitFlags, timeline: u32) {
        video.begin();
        video.append(&vec![0; len]).unwrap();
        let unit = AccessUnit {
            nal_ends: &[],
            flags,
            config: None,
            media_ticks: ticks,
            timeline,
            lost_packets: 0,
            received: Mono(ms * 1_000_000),
            wall: UnixNanos(0),
            wall_error_us: 0,
            clock_source: ClockSource::Receive,
            rtp_timestamp: 0,
            ssrc: 0,
            first_rtp_sequence: 0,
            last_rtp_sequence: 0,
        };
        video.commit(&unit).unwrap();
    }

    const PLAIN: UnitFlags = UnitFlags(0);

    #[test]
    fn a_steady_camera() {
        let mut video = Video::default();
        assert_eq!((video.fps(), video.bitrate_bps(), video.clock_speed()), (None, None, None));
        for number in 0..101_u32 {
            let flags = if number % 50 == 0 { UnitFlags::KEY } else { PLAIN };
            take(&mut video, u64::from(number) * 40, i64::from(number) * 3600, 20_000, flags, 1);
        }
        assert_eq!(video.fps(), Some(25.0));
        assert_eq!(video.bitrate_bps(), Some(4_040_000));
        assert_eq!(video.gop, Some(Gop { units: 50, time: Duration::from_secs(2) }));
        assert_eq!((video.key_units, video.out_of_order, video.breaks), (3, 0, 0));
        assert!((video.clock_speed().unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn an_odd_camera() {
        let mut video = Video::default();
        for (number, (ticks, timeline)) in
            [(0, 1), (0, 1), (7200, 1), (3600, 1), (0, 2)].into_iter().enumerate()
        {
            take(&mut video, number as u64 * 400, ticks, 10, UnitFlags::TS_ESTIMATED, timeline);
        }
        assert_eq!((video.out_of_order, video.estimated, video.breaks), (2, 5, 1));
        assert_eq!((video.gop, video.clock_speed()), (None, None));
    }

    #[test]
    fn units_without_end_and_calls_out_of_order_are_refused() {
        let mut video = Video::default();
        assert!(video.append(b"x").is_err());
        video.begin();
        video.append(&vec![0; UNIT_LEN_MAX]).unwrap();
        assert_eq!(video.append(b"x"), Err(AppendError::TooLarge { limit: UNIT_LEN_MAX }));
        video.abort();
        assert_eq!(video.units, 0);
    }
}
