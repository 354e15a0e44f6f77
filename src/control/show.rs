//! The daemon's values in the words of the API. No decisions here.

use std::time::Duration;

use vms_proto::v1;

use super::configured::Origin;
use super::programs::Program;
use crate::codec::{Codec, VideoFormat};
use crate::ingest::{Reason, State};
use crate::limits::DETAIL_LEN_MAX;
use crate::publish::{Class, ReaderStats, RingState};
use crate::shard::{ShardStats, StreamStats};
use crate::time::{Mono, Now, UnixNanos};

/// A wall-clock time.
pub(crate) fn timestamp(time: UnixNanos) -> prost_types::Timestamp {
    const SECOND: i64 = 1_000_000_000;
    let nanos = i32::try_from(time.0.rem_euclid(SECOND)).unwrap_or(0);
    prost_types::Timestamp { seconds: time.0.div_euclid(SECOND), nanos }
}

/// The time of a timestamp.
pub(crate) const fn unix_nanos(time: &prost_types::Timestamp) -> UnixNanos {
    UnixNanos(time.seconds.saturating_mul(1_000_000_000).saturating_add(time.nanos as i64))
}

/// The wall-clock time at which the monotonic clock will say, or said, `mono`.
pub(crate) fn wall_at(mono: Mono, now: Now) -> UnixNanos {
    let nanos = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    let offset = nanos(mono.since(now.mono)).saturating_sub(nanos(now.mono.since(mono)));
    UnixNanos(now.wall.0.saturating_add(offset))
}

/// A state's explanation, cut to its limit at a character's edge. Control characters, which a camera may have put
/// into its answer to play with somebody's terminal, become blanks.
pub(crate) fn detail(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .scan(0, |len, c| {
            *len += c.len_utf8();
            (*len <= DETAIL_LEN_MAX).then_some(c)
        })
        .collect()
}

/// A track, as its parameter sets describe it.
pub(crate) fn track(format: &VideoFormat) -> v1::TrackInfo {
    let codec = match format.codec {
        Codec::H264 => v1::Codec::H264,
        Codec::H265 => v1::Codec::H265,
    };
    let (frames, seconds) = format.frame_rate;
    v1::TrackInfo {
        codec: codec.into(),
        width: format.width,
        height: format.height,
        fps: if seconds == 0 { 0.0 } else { f64::from(frames) / f64::from(seconds) },
        profile_idc: format.profile.into(),
        level_idc: format.level.into(),
    }
}

/// Counters; the rates are 0.
pub(crate) fn stats(stats: &StreamStats) -> v1::StreamStats {
    let StreamStats { camera, published } = stats;
    let by_reason = camera.failures_by_reason.iter();
    let failures_by_reason =
        by_reason.map(|(why, count)| v1::ReasonCount { reason: reason(why).into(), count: count.into() });
    v1::StreamStats {
        units: camera.units,
        bytes: camera.unit_bytes,
        lost_packets: camera.lost_packets,
        damaged_units: camera.damaged_units,
        dropped_units: camera.dropped_units,
        key_units: camera.key_units,
        readers: published.readers,
        failures: camera.failures,
        failures_by_reason: failures_by_reason.collect(),
        resyncs: camera.resyncs,
        throttled: camera.throttled,
        skipped_bytes: camera.skipped_bytes,
        reader_lost_units: published.lost_units,
        ..v1::StreamStats::default()
    }
}

/// A reader, whose user is `uid`.
pub(crate) fn reader(stats: &ReaderStats, uid: u32) -> v1::StreamReader {
    let class = match stats.class {
        Class::Live => v1::ReaderClass::Live,
        Class::Archive => v1::ReaderClass::Archive,
    };
    v1::StreamReader {
        session: stats.ring.session,
        slot: stats.ring.slot,
        uid,
        class: class.into(),
        units: stats.units,
        filtered_units: stats.filtered_units,
        lost_units: stats.lost_units,
        gaps: stats.gaps,
        unread_units: stats.unread_units,
        behind: stats.is_behind,
        evicted: stats.state == RingState::Evicted,
    }
}

/// A shard's counters.
pub(crate) fn shard_stats(stats: &ShardStats) -> v1::ShardStats {
    v1::ShardStats {
        streams: u32::try_from(stats.streams).unwrap_or(u32::MAX),
        turns: stats.turns,
        wake_ups: stats.wake_ups,
        system_calls: stats.system_calls,
        completions: stats.completions,
        received_bytes: stats.received_bytes,
        reader_wakes: stats.reader_wakes,
        out_of_buffers: stats.out_of_buffers,
        rearms: stats.rearms,
        overruns: stats.overruns,
        waiting_connects: u32::try_from(stats.waiting_connects).unwrap_or(u32::MAX),
        cpu_ns: u64::try_from(stats.cpu.as_nanos()).unwrap_or(u64::MAX),
    }
}

/// A reader program.
pub(crate) fn program(program: Program) -> v1::ReaderProgram {
    let Program { name, pid, since, starts, last_end } = program;
    v1::ReaderProgram { name, pid: pid.unwrap_or(0), since: Some(timestamp(since)), starts, last_end }
}

/// Who asked for a stream.
pub(crate) const fn origin(origin: Origin) -> v1::Origin {
    match origin {
        Origin::Api => v1::Origin::Api,
        Origin::File => v1::Origin::File,
    }
}

/// A state.
pub(crate) const fn state(state: State) -> v1::State {
    match state {
        State::Pending => v1::State::Pending,
        State::Connecting => v1::State::Connecting,
        State::Streaming => v1::State::Streaming,
        State::Stalled => v1::State::Stalled,
        State::Backoff => v1::State::Backoff,
        State::AuthFailed => v1::State::AuthFailed,
        State::Unsupported => v1::State::Unsupported,
        State::Stopping => v1::State::Stopping,
    }
}

/// A state's cause.
pub(crate) const fn reason(reason: Reason) -> v1::StateReason {
    match reason {
        Reason::None => v1::StateReason::Unspecified,
        Reason::ResolveFailed => v1::StateReason::ResolveFailed,
        Reason::ConnectRefused => v1::StateReason::ConnectRefused,
        Reason::ConnectTimeout => v1::StateReason::ConnectTimeout,
        Reason::ConnectFailed => v1::StateReason::ConnectFailed,
        Reason::NotRtsp => v1::StateReason::NotRtsp,
        Reason::ReplyTimeout => v1::StateReason::ReplyTimeout,
        Reason::AuthRefused => v1::StateReason::AuthRefused,
        Reason::Forbidden => v1::StateReason::Forbidden,
        Reason::NotFound => v1::StateReason::NotFound,
        Reason::SessionLimit => v1::StateReason::SessionLimit,
        Reason::ServiceUnavailable => v1::StateReason::ServiceUnavailable,
        Reason::RequestRefused => v1::StateReason::RequestRefused,
        Reason::NoVideo => v1::StateReason::NoVideo,
        Reason::UnsupportedCodec => v1::StateReason::UnsupportedCodec,
        Reason::UnsupportedTransport => v1::StateReason::UnsupportedTransport,
        Reason::BadSdp => v1::StateReason::BadSdp,
        Reason::LimitExceeded => v1::StateReason::LimitExceeded,
        Reason::NoFirstFrame => v1::StateReason::NoFirstFrame,
        Reason::NoVideoData => v1::StateReason::NoVideoData,
        Reason::ConnectionClosed => v1::StateReason::ConnectionClosed,
        Reason::ConnectionLost => v1::StateReason::ConnectionLost,
        Reason::InternalError => v1::StateReason::InternalError,
        Reason::Requested => v1::StateReason::Requested,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_of_the_rings_and_of_the_api_see_the_same_reason_numbers() {
        let mut known = 0;
        for number in 0..=u8::MAX {
            let Ok(shown) = v1::StateReason::try_from(i32::from(number)) else { continue };
            let named = Reason::ALL.iter().find(|ours| reason(**ours) == shown);
            assert_eq!(named.map(|ours| ours.number()), Some(u32::from(number)), "{shown:?}");
            known += 1;
        }
        assert_eq!(known, Reason::ALL.len());
    }

    #[test]
    fn times_before_1970_and_deadlines_in_the_past_are_told_right() {
        assert_eq!(timestamp(UnixNanos(-1)), prost_types::Timestamp { seconds: -1, nanos: 999_999_999 });
        let now = Now { mono: Mono(1_000), wall: UnixNanos(5_000) };
        assert_eq!(wall_at(Mono(1_500), now), UnixNanos(5_500));
        assert_eq!(wall_at(Mono(400), now), UnixNanos(4_400));
        assert_eq!(wall_at(Mono(u64::MAX), now).0, i64::MAX);
    }

    #[test]
    fn a_detail_is_cut_between_characters_and_holds_no_escapes() {
        let long = "é".repeat(DETAIL_LEN_MAX);
        assert_eq!(detail(&long).len(), DETAIL_LEN_MAX);
        assert_eq!(detail("not\x1b[2J found\r\n"), "not [2J found  ");
    }
}
