//! Answers as JSON. The names are a promise to scripts: add to them, don't rename them.
//!
//! Enums are lower case without their prefix (`auth_failed`), times are RFC 3339, what is unknown is `null`.

use std::collections::BTreeMap;

use prost_types::Timestamp;
use serde::Serialize;
use vms_proto::v1;

/// Answer to `setup`.
#[derive(Debug, Serialize)]
pub(crate) struct Setup {
    pub(crate) stream: Stream,
    pub(crate) created: bool,
}

/// Answer to `teardown`.
#[derive(Debug, Serialize)]
pub(crate) struct Teardown {
    pub(crate) existed: bool,
}

/// Answer to `list`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct List {
    pub(crate) streams: Vec<Stream>,
    pub(crate) revision: u64,
}

/// A line of `watch`.
#[derive(Debug, Serialize)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) revision: u64,
    pub(crate) stream: Option<Stream>,
    pub(crate) compact_revision: Option<u64>,
}

/// A stream.
#[derive(Debug, Serialize)]
pub(crate) struct Stream {
    pub(crate) stream_id: String,
    pub(crate) url: String,
    pub(crate) credentials_set: bool,
    pub(crate) transport: String,
    /// `off`, `continuous`.
    pub(crate) record: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) access: Access,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) withdrawal_pending_since: Option<Timestamp>,
    pub(crate) timeouts: Timeouts,
    pub(crate) retry: Retry,
    /// `api` or `file`; `null` from a daemon that does not tell.
    pub(crate) origin: Option<String>,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) detail: String,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) state_since: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) create_time: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) last_frame_time: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) next_attempt: Option<Timestamp>,
    pub(crate) reconnects: u64,
    pub(crate) tracks: Vec<Track>,
    pub(crate) stats: Stats,
    /// Told by `get` and `stats ID` only.
    pub(crate) readers: Vec<Reader>,
    pub(crate) shard: u32,
    pub(crate) etag: String,
    pub(crate) revision: u64,
}

/// Who may read a stream, beside the daemon's own user and root.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Access {
    pub(crate) uids: Vec<u32>,
    pub(crate) gids: Vec<u32>,
}

/// Time-outs of the stream's own, in seconds; `null`: the daemon's.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Timeouts {
    pub(crate) connect_s: Option<f64>,
    pub(crate) reply_s: Option<f64>,
    pub(crate) first_frame_s: Option<f64>,
    pub(crate) idle_s: Option<f64>,
}

/// Waits between attempts of the stream's own; `null`: the daemon's.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Retry {
    pub(crate) initial_s: Option<f64>,
    pub(crate) max_s: Option<f64>,
    pub(crate) multiplier: Option<u32>,
    pub(crate) jitter_percent: Option<u32>,
}

/// A track.
#[derive(Debug, Serialize)]
pub(crate) struct Track {
    pub(crate) codec: Option<String>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) fps: f64,
    pub(crate) profile_idc: u32,
    pub(crate) level_idc: u32,
}

/// Counters and rates.
#[derive(Debug, Serialize)]
pub(crate) struct Stats {
    pub(crate) units: u64,
    pub(crate) key_units: u64,
    pub(crate) bytes: u64,
    pub(crate) fps: f64,
    pub(crate) bitrate_bps: u64,
    pub(crate) lost_packets: u64,
    pub(crate) damaged_units: u64,
    pub(crate) dropped_units: u64,
    pub(crate) resyncs: u64,
    pub(crate) skipped_bytes: u64,
    /// Times that the camera had sent more than it may.
    pub(crate) throttled: u64,
    /// Attempts that failed, and sessions that ended.
    pub(crate) failures: u64,
    /// The same by their reasons.
    pub(crate) failures_by_reason: BTreeMap<String, u64>,
    pub(crate) readers: u32,
    pub(crate) reader_lost_units: u64,
}

/// A reader of a stream.
#[derive(Debug, Serialize)]
pub(crate) struct Reader {
    pub(crate) session: u64,
    pub(crate) slot: u32,
    pub(crate) uid: u32,
    pub(crate) class: Option<String>,
    pub(crate) units: u64,
    pub(crate) filtered_units: u64,
    pub(crate) lost_units: u64,
    pub(crate) gaps: u64,
    pub(crate) unread_units: u64,
    pub(crate) behind: bool,
    pub(crate) evicted: bool,
}

/// Answer to `stats`.
#[derive(Debug, Serialize)]
pub(crate) struct StatsList {
    pub(crate) streams: Vec<StreamStats>,
}

/// How a stream is, in numbers.
#[derive(Debug, Serialize)]
pub(crate) struct StreamStats {
    pub(crate) stream_id: String,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) state_since: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) last_frame_time: Option<Timestamp>,
    /// Seconds, by the clock of this program; `null` before the first.
    pub(crate) last_frame_age_s: Option<i64>,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) next_attempt: Option<Timestamp>,
    pub(crate) reconnects: u64,
    pub(crate) stats: Stats,
    /// `null` unless one stream was asked for.
    pub(crate) readers: Option<Vec<Reader>>,
}

impl StreamStats {
    /// Of a stream, as it is `now_s` seconds after 1970.
    pub(crate) fn of(stream: Stream, now_s: i64) -> Self {
        let last_frame_age_s = stream.last_frame_time.as_ref().map(|last| (now_s - last.seconds).max(0));
        Self {
            stream_id: stream.stream_id,
            state: stream.state,
            reason: stream.reason,
            state_since: stream.state_since,
            last_frame_time: stream.last_frame_time,
            last_frame_age_s,
            next_attempt: stream.next_attempt,
            reconnects: stream.reconnects,
            stats: stream.stats,
            readers: None,
        }
    }
}

/// Answer to `info`.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    pub(crate) version: String,
    pub(crate) io_backend: String,
    pub(crate) io_backend_reason: String,
    pub(crate) shards: u32,
    pub(crate) streams: u32,
    pub(crate) streams_max: u32,
    pub(crate) unit_bytes_max: u64,
    pub(crate) watchers_max: u32,
    pub(crate) stream_memory_bytes_max: u64,
    pub(crate) ring_abi_version: String,
    pub(crate) ring_socket: String,
    pub(crate) revision: u64,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) start_time: Option<Timestamp>,
    pub(crate) arena_page_bytes: u64,
    pub(crate) shard_stats: Vec<ShardStats>,
    pub(crate) reader_programs: Vec<ReaderProgram>,
}

/// A program that the daemon looks after.
#[derive(Debug, Serialize)]
pub(crate) struct ReaderProgram {
    pub(crate) name: String,
    pub(crate) pid: u32,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) since: Option<Timestamp>,
    pub(crate) starts: u64,
    pub(crate) last_end: String,
}

/// What a shard has done.
#[derive(Debug, Serialize)]
pub(crate) struct ShardStats {
    pub(crate) streams: u32,
    pub(crate) waiting_connects: u32,
    pub(crate) turns: u64,
    pub(crate) wake_ups: u64,
    pub(crate) system_calls: u64,
    pub(crate) completions: u64,
    pub(crate) received_bytes: u64,
    pub(crate) reader_wakes: u64,
    pub(crate) out_of_buffers: u64,
    pub(crate) rearms: u64,
    pub(crate) overruns: u64,
    pub(crate) cpu_ns: u64,
}

impl From<v1::Stream> for Stream {
    fn from(stream: v1::Stream) -> Self {
        let state = known(stream.state().as_str_name(), "STATE_").unwrap_or_else(|| "unknown".to_owned());
        let reason = known(stream.reason().as_str_name(), "STATE_REASON_");
        let origin = known(stream.origin().as_str_name(), "ORIGIN_");
        let spec = stream.spec.unwrap_or_default();
        Self {
            timeouts: spec.timeouts.map(Timeouts::from).unwrap_or_default(),
            retry: spec.retry.map(Retry::from).unwrap_or_default(),
            origin,
            stream_id: stream.stream_id,
            transport: known(spec.transport().as_str_name(), "TRANSPORT_").unwrap_or_default(),
            record: known(spec.record.unwrap_or_default().mode().as_str_name(), "RECORD_MODE_")
                .unwrap_or_else(|| "off".to_owned()),
            url: spec.url,
            credentials_set: stream.credentials_set,
            labels: spec.labels,
            access: spec
                .access
                .map(|v1::AccessPolicy { uids, gids }| Access { uids, gids })
                .unwrap_or_default(),
            withdrawal_pending_since: stream.withdrawal_pending_since,
            state,
            reason,
            detail: stream.detail,
            state_since: stream.state_since,
            create_time: stream.create_time,
            last_frame_time: stream.last_frame_time,
            next_attempt: stream.next_attempt,
            reconnects: stream.reconnects,
            tracks: stream.tracks.into_iter().map(Track::from).collect(),
            stats: stream.stats.unwrap_or_default().into(),
            readers: stream.readers.into_iter().map(Reader::from).collect(),
            shard: stream.shard,
            etag: stream.etag,
            revision: stream.revision,
        }
    }
}

impl From<v1::Timeouts> for Timeouts {
    fn from(timeouts: v1::Timeouts) -> Self {
        let v1::Timeouts { connect, reply, first_frame, idle } = timeouts;
        let [connect_s, reply_s, first_frame_s, idle_s] =
            [connect, reply, first_frame, idle].map(|span| span.map(seconds));
        Self { connect_s, reply_s, first_frame_s, idle_s }
    }
}

impl From<v1::RetryPolicy> for Retry {
    fn from(retry: v1::RetryPolicy) -> Self {
        let v1::RetryPolicy { initial, max, multiplier, jitter_percent } = retry;
        Self { initial_s: initial.map(seconds), max_s: max.map(seconds), multiplier, jitter_percent }
    }
}

/// A span that is not negative.
fn seconds(span: prost_types::Duration) -> f64 {
    std::time::Duration::try_from(span).map_or(0.0, |span| span.as_secs_f64())
}

impl From<v1::TrackInfo> for Track {
    fn from(track: v1::TrackInfo) -> Self {
        let codec = known(track.codec().as_str_name(), "CODEC_");
        let v1::TrackInfo { codec: _, width, height, fps, profile_idc, level_idc } = track;
        Self { codec, width, height, fps, profile_idc, level_idc }
    }
}

impl From<v1::StreamStats> for Stats {
    fn from(stats: v1::StreamStats) -> Self {
        Self {
            units: stats.units,
            key_units: stats.key_units,
            bytes: stats.bytes,
            fps: stats.fps,
            bitrate_bps: stats.bitrate_bps,
            lost_packets: stats.lost_packets,
            damaged_units: stats.damaged_units,
            dropped_units: stats.dropped_units,
            resyncs: stats.resyncs,
            skipped_bytes: stats.skipped_bytes,
            throttled: stats.throttled,
            failures: stats.failures,
            failures_by_reason: stats.failures_by_reason.iter().filter_map(reason_count).collect(),
            readers: stats.readers,
            reader_lost_units: stats.reader_lost_units,
        }
    }
}

/// A reason that this program does not know yet is called by its number.
fn reason_count(count: &v1::ReasonCount) -> Option<(String, u64)> {
    match v1::StateReason::try_from(count.reason) {
        Ok(reason) => Some((known(reason.as_str_name(), "STATE_REASON_")?, count.count)),
        Err(_) => Some((format!("reason_{}", count.reason), count.count)),
    }
}

impl From<v1::StreamReader> for Reader {
    fn from(reader: v1::StreamReader) -> Self {
        let class = known(reader.class().as_str_name(), "READER_CLASS_");
        let v1::StreamReader { session, slot, uid, units, filtered_units, lost_units, .. } = reader;
        let v1::StreamReader { gaps, unread_units, behind, evicted, .. } = reader;
        Self {
            session,
            slot,
            uid,
            class,
            units,
            filtered_units,
            lost_units,
            gaps,
            unread_units,
            behind,
            evicted,
        }
    }
}

impl From<v1::StreamEvent> for Event {
    fn from(event: v1::StreamEvent) -> Self {
        let compacted = event.r#type() == v1::EventType::Compacted;
        Self {
            kind: known(event.r#type().as_str_name(), "EVENT_TYPE_").unwrap_or_default(),
            revision: event.revision,
            stream: event.stream.map(Stream::from),
            compact_revision: compacted.then_some(event.compact_revision),
        }
    }
}

impl From<v1::ServerInfo> for Info {
    fn from(info: v1::ServerInfo) -> Self {
        let limits = info.limits.unwrap_or_default();
        Self {
            version: info.version,
            io_backend: info.io_backend,
            io_backend_reason: info.io_backend_reason,
            shards: info.shards,
            streams: info.streams,
            streams_max: limits.streams_max,
            unit_bytes_max: limits.unit_bytes_max,
            watchers_max: limits.watchers_max,
            stream_memory_bytes_max: limits.stream_memory_bytes_max,
            ring_abi_version: info.ring_abi_version,
            ring_socket: info.ring_socket,
            revision: info.revision,
            start_time: info.start_time,
            arena_page_bytes: info.arena_page_bytes,
            shard_stats: info.shard_stats.into_iter().map(Into::into).collect(),
            reader_programs: info.reader_programs.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::ReaderProgram> for ReaderProgram {
    fn from(program: v1::ReaderProgram) -> Self {
        let v1::ReaderProgram { name, pid, since, starts, last_end } = program;
        Self { name, pid, since, starts, last_end }
    }
}

impl From<v1::ShardStats> for ShardStats {
    fn from(stats: v1::ShardStats) -> Self {
        let v1::ShardStats { streams, waiting_connects, turns, wake_ups, system_calls, completions, .. } =
            stats;
        let v1::ShardStats { received_bytes, reader_wakes, out_of_buffers, rearms, overruns, cpu_ns, .. } =
            stats;
        Self {
            streams,
            waiting_connects,
            turns,
            wake_ups,
            system_calls,
            completions,
            received_bytes,
            reader_wakes,
            out_of_buffers,
            rearms,
            overruns,
            cpu_ns,
        }
    }
}

/// An enum's name as scripts know it; `None` for UNSPECIFIED.
fn known(name: &str, prefix: &str) -> Option<String> {
    let word = name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase();
    (word != "unspecified").then_some(word)
}

#[expect(clippy::ref_option, reason = "serde hands fields over by reference")]
pub(crate) fn rfc3339<S: serde::Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_names() {
        let time = Some(Timestamp { seconds: 1_700_000_000, nanos: 0 });
        let stream = v1::Stream {
            stream_id: "cam-1".into(),
            spec: Some(v1::StreamSpec {
                timeouts: Some(v1::Timeouts {
                    idle: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
                    ..Default::default()
                }),
                retry: Some(v1::RetryPolicy { jitter_percent: Some(0), ..Default::default() }),
                ..Default::default()
            }),
            origin: v1::Origin::File.into(),
            state: v1::State::AuthFailed.into(),
            reason: v1::StateReason::AuthRefused.into(),
            state_since: time,
            tracks: vec![v1::TrackInfo { codec: v1::Codec::H265.into(), width: 1920, ..Default::default() }],
            ..Default::default()
        };
        let event = v1::StreamEvent {
            r#type: v1::EventType::Changed.into(),
            revision: 5,
            stream: Some(stream),
            compact_revision: 0,
        };
        let json = serde_json::to_value(Event::from(event)).unwrap();
        assert_eq!(json["type"], "changed");
        assert_eq!(json["stream"]["state"], "auth_failed");
        assert_eq!(json["stream"]["reason"], "auth_refused");
        assert_eq!(json["stream"]["state_since"], "2023-11-14T22:13:20Z");
        assert_eq!(json["stream"]["next_attempt"], serde_json::Value::Null);
        assert_eq!(json["stream"]["timeouts"]["idle_s"], 1.5);
        assert_eq!(json["stream"]["timeouts"]["reply_s"], serde_json::Value::Null);
        assert_eq!(json["stream"]["retry"]["jitter_percent"], 0);
        assert_eq!(json["stream"]["origin"], "file");
        assert_eq!(json["stream"]["tracks"][0]["codec"], "h265");
        assert_eq!(json["stream"]["stats"]["bitrate_bps"], 0);
        assert_eq!(json["compact_revision"], serde_json::Value::Null);
    }

    #[test]
    fn failures_and_readers_are_told_by_their_names() {
        let counted = |reason: i32, count| v1::ReasonCount { reason, count };
        let stats = v1::StreamStats {
            failures: 6,
            failures_by_reason: vec![counted(v1::StateReason::ConnectionClosed.into(), 4), counted(999, 2)],
            ..Default::default()
        };
        let reader = v1::StreamReader {
            session: 7,
            class: v1::ReaderClass::Live.into(),
            gaps: 2,
            ..Default::default()
        };
        let last = Some(Timestamp { seconds: 1_700_000_000, nanos: 0 });
        let stream = v1::Stream {
            stats: Some(stats),
            readers: vec![reader],
            last_frame_time: last,
            ..Default::default()
        };
        let json = serde_json::to_value(Stream::from(stream.clone())).unwrap();
        assert_eq!(
            json["stats"]["failures_by_reason"],
            serde_json::json!({"connection_closed": 4, "reason_999": 2})
        );
        assert_eq!((&json["readers"][0]["class"], &json["readers"][0]["gaps"]), (&"live".into(), &2.into()));
        let json = serde_json::to_value(StreamStats::of(stream.into(), 1_700_000_005)).unwrap();
        assert_eq!((&json["last_frame_age_s"], &json["readers"]), (&5.into(), &serde_json::Value::Null));
    }
}
