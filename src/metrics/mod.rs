//! What a monitoring system sees: a [`Snapshot`] of the daemon, and its text.
//!
//! ```text
//!  control ──Snapshot──▶ families (names, help, where the value stands) ──▶ text ──pieces──▶ HTTP
//! ```
//! The text is the Prometheus exposition format, version 0.0.4, which every scraper reads. It is written here and not by
//! `prometheus-client`: that one writes OpenMetrics only, whose counters have another name in their `# TYPE` line, and keeps values
//! in a registry of its own; ours stand in a snapshot already, and the format is two kinds of lines.
//!
//! Invariant: a snapshot has no field for a camera's URL, its labels, or any other text that somebody else wrote. So none can come
//! into a metric.

mod families;
mod text;

use std::sync::Arc;

use prost_types::Timestamp;
use vms_proto::v1;

use self::families::{DAEMON, PROGRAM, SHARD, STREAM, STREAMS_BY_STATE};
use crate::ids::StreamId;
use crate::shard::{ShardStats, StreamStats};

/// `Content-Type` of the text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Streams of one piece of the text: some tens of kilobytes.
const STREAMS_PER_PIECE: usize = 128;

/// The daemon at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) daemon: Daemon,
    /// By their numbers.
    pub(crate) shards: Vec<ShardStats>,
    /// Reader programs that the daemon looks after.
    pub(crate) programs: Vec<Program>,
    pub(crate) streams: Vec<Stream>,
}

/// What there is once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Daemon {
    pub(crate) version: &'static str,
    pub(crate) io_backend: &'static str,
    /// Whether `io_backend` is what was left when `uring` had been tried.
    pub(crate) is_fallback: bool,
    /// Major and minor of the rings' ABI.
    pub(crate) abi: (u32, u32),
    pub(crate) start: Timestamp,
    pub(crate) streams_max: usize,
    /// What streams take now, those included that only readers still hold.
    pub(crate) stream_memory_bytes: u64,
    pub(crate) stream_memory_max_bytes: u64,
    /// Of the pages that arenas made now lie on.
    pub(crate) arena_page_bytes: u64,
    /// Attachments of readers to streams.
    pub(crate) attachments: usize,
}

/// A reader program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// As the configuration has it: letters, digits, `.`, `_`, `-`.
    pub(crate) name: String,
    pub(crate) is_running: bool,
    pub(crate) starts: u64,
}

/// A stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) shard: usize,
    pub(crate) state: v1::State,
    pub(crate) reason: v1::StateReason,
    pub(crate) state_since: Option<Timestamp>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) last_unit: Option<Timestamp>,
    pub(crate) next_attempt: Option<Timestamp>,
    pub(crate) withdrawal_pending_since: Option<Timestamp>,
    pub(crate) track: Option<v1::TrackInfo>,
    pub(crate) stats: StreamStats,
}

impl Snapshot {
    /// The text, in pieces that are written as they are asked for: who reads slowly holds a snapshot and one piece of its text,
    /// which for thousands of streams has megabytes.
    pub(crate) fn into_text(self) -> impl Iterator<Item = String> + Send {
        let Self { daemon, shards, programs, streams } = self;
        let head = head(&daemon, &shards, &programs, &streams);
        let streams: Arc<[Stream]> = streams.into();
        let pieces = STREAM.iter().flat_map(move |family| {
            let streams = Arc::clone(&streams);
            (0..streams.len()).step_by(STREAMS_PER_PIECE).map(move |from| {
                let mut piece = String::new();
                if from == 0 {
                    family.write_head(&mut piece);
                }
                for stream in streams.iter().skip(from).take(STREAMS_PER_PIECE) {
                    family.write(&mut piece, &[("stream", stream.id.as_str())], stream);
                }
                piece
            })
        });
        std::iter::once(head).chain(pieces).filter(|piece| !piece.is_empty())
    }
}

/// All but the metrics of single streams.
fn head(daemon: &Daemon, shards: &[ShardStats], programs: &[Program], streams: &[Stream]) -> String {
    let mut text = String::new();
    for family in DAEMON {
        family.write_head(&mut text);
        family.write(&mut text, &[], daemon);
    }
    STREAMS_BY_STATE.write_head(&mut text);
    STREAMS_BY_STATE.write(&mut text, &[], streams);
    for family in SHARD {
        family.write_head(&mut text);
        for (index, shard) in shards.iter().enumerate() {
            family.write(&mut text, &[("shard", &index.to_string())], shard);
        }
    }
    for family in PROGRAM.iter().filter(|_| !programs.is_empty()) {
        family.write_head(&mut text);
        for program in programs {
            family.write(&mut text, &[("program", program.name.as_str())], program);
        }
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ingest::CameraStats;
    use crate::publish::Counters;

    fn at(seconds: i64, nanos: i32) -> Timestamp {
        Timestamp { seconds, nanos }
    }

    /// A daemon with these streams.
    pub(crate) fn snapshot(streams: Vec<Stream>) -> Snapshot {
        let daemon = Daemon {
            version: "1.2.3",
            io_backend: "epoll",
            is_fallback: true,
            abi: (1, 4),
            start: at(1_700_000_000, 250_000_000),
            streams_max: 4096,
            stream_memory_bytes: 17_000_000,
            stream_memory_max_bytes: 34_000_000,
            arena_page_bytes: 4096,
            attachments: 3,
        };
        let shard = ShardStats { turns: 7, cpu: Duration::from_millis(1_500), ..ShardStats::default() };
        let programs = vec![Program { name: "rec".to_owned(), is_running: true, starts: 2 }];
        Snapshot { daemon, shards: vec![shard, ShardStats::default()], programs, streams }
    }

    /// A stream that is new.
    pub(crate) fn stream(id: &str) -> Stream {
        Stream {
            id: StreamId::new(id).unwrap(),
            shard: 1,
            state: v1::State::Pending,
            reason: v1::StateReason::Unspecified,
            state_since: None,
            created: None,
            last_unit: None,
            next_attempt: None,
            withdrawal_pending_since: None,
            track: None,
            stats: StreamStats::default(),
        }
    }

    fn text(streams: Vec<Stream>) -> String {
        snapshot(streams).into_text().collect()
    }

    /// The lines that have `name` in them, without the head's words.
    fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        let is_of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        text.lines().filter(is_of).collect()
    }

    #[test]
    fn the_daemon_is_told_before_anything_else() {
        let text = text(vec![]);
        let begin = "\
# HELP vms_media_info What this daemon is: its version, how its shards do input and output, the ABI of its rings; always 1.
# TYPE vms_media_info gauge
vms_media_info{version=\"1.2.3\",io_backend=\"epoll\",abi=\"1.4\"} 1
# HELP vms_media_io_fallback 1 when uring was tried and is not allowed here, so that shards use epoll.
# TYPE vms_media_io_fallback gauge
vms_media_io_fallback 1
# HELP vms_media_start_time_seconds When the daemon started, in seconds since 1970.
# TYPE vms_media_start_time_seconds gauge
vms_media_start_time_seconds 1700000000.250000000
";
        assert!(text.starts_with(begin), "{text}");
        assert_eq!(lines(&text, "vms_media_stream_memory_bytes"), ["vms_media_stream_memory_bytes 17000000"]);
        assert_eq!(lines(&text, "vms_media_streams").len(), 8, "a state without streams is 0, not absent");
        assert!(!text.contains("vms_media_stream_state"), "no stream, nothing of streams");
    }

    #[test]
    fn each_shard_has_its_line() {
        let text = text(vec![]);
        let turns =
            ["vms_media_shard_turns_total{shard=\"0\"} 7", "vms_media_shard_turns_total{shard=\"1\"} 0"];
        assert_eq!(lines(&text, "vms_media_shard_turns_total"), turns);
        let cpu = lines(&text, "vms_media_shard_cpu_seconds_total");
        assert_eq!(cpu[0], "vms_media_shard_cpu_seconds_total{shard=\"0\"} 1.500000000");
    }

    #[test]
    fn a_stream_that_plays_shows_all_that_is_known_of_it() {
        let camera = CameraStats { units: 100, key_units: 4, lost_packets: 2, ..CameraStats::default() };
        let published = Counters { readers: 2, retained_ns: 4_040_000_001, ..Counters::default() };
        let track =
            v1::TrackInfo { codec: v1::Codec::H265.into(), width: 1920, fps: 12.5, ..Default::default() };
        let playing = Stream {
            state: v1::State::Streaming,
            last_unit: Some(at(1_700_000_009, 1)),
            track: Some(track),
            stats: StreamStats { camera, published },
            ..stream("cam-1")
        };
        let text = text(vec![playing]);
        for line in [
            "vms_media_streams{state=\"streaming\"} 1",
            "vms_media_stream_state{stream=\"cam-1\",state=\"streaming\"} 1",
            "vms_media_stream_state{stream=\"cam-1\",state=\"backoff\"} 0",
            "vms_media_stream_units_total{stream=\"cam-1\"} 100",
            "vms_media_stream_key_units_total{stream=\"cam-1\"} 4",
            "vms_media_stream_lost_packets_total{stream=\"cam-1\"} 2",
            "vms_media_stream_readers{stream=\"cam-1\"} 2",
            "vms_media_stream_retained_seconds{stream=\"cam-1\"} 4.040000001",
            "vms_media_stream_last_unit_timestamp_seconds{stream=\"cam-1\"} 1700000009.000000001",
            "vms_media_stream_codec{stream=\"cam-1\",codec=\"h265\"} 1",
            "vms_media_stream_width_pixels{stream=\"cam-1\"} 1920",
            "vms_media_stream_nominal_frame_rate{stream=\"cam-1\"} 12.5",
            "vms_media_stream_shard{stream=\"cam-1\"} 1",
        ] {
            assert!(text.lines().any(|told| told == line), "no {line} in\n{text}");
        }
        assert_eq!(lines(&text, "vms_media_stream_reason"), [""; 0], "nothing is wrong");
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let text = text(vec![stream("new")]);
        for name in ["last_unit_timestamp_seconds", "next_attempt_timestamp_seconds", "codec", "width_pixels"]
        {
            assert!(!text.contains(&format!("vms_media_stream_{name}{{")), "{name} in\n{text}");
        }
        assert_eq!(
            lines(&text, "vms_media_stream_units_total"),
            ["vms_media_stream_units_total{stream=\"new\"} 0"]
        );
    }

    #[test]
    fn a_stream_that_fails_says_why() {
        let failed =
            Stream { state: v1::State::AuthFailed, reason: v1::StateReason::AuthRefused, ..stream("a") };
        assert_eq!(
            lines(&text(vec![failed]), "vms_media_stream_reason"),
            ["vms_media_stream_reason{stream=\"a\",reason=\"auth_refused\"} 1"]
        );
    }

    #[test]
    fn many_streams_come_in_pieces_and_each_family_has_one_head() {
        let streams: Vec<_> = (0..1_000).map(|number| stream(&format!("cam-{number}"))).collect();
        let pieces: Vec<String> = snapshot(streams).into_text().collect();
        assert!(pieces.iter().all(|piece| piece.len() < 256 * 1024 && piece.ends_with('\n')));
        let text = pieces.concat();
        assert_eq!(lines(&text, "vms_media_stream_units_total").len(), 1_000);
        assert_eq!(text.matches("# TYPE vms_media_stream_units_total ").count(), 1);
    }
}
