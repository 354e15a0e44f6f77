//! Every metric: its name, what it means, where its value stands.
//!
//! Names follow Prometheus: base units, `_total` for what only grows. They are a promise to dashboards: add to them, don't rename
//! them. Rates are not told, a scraper makes them out of counters.

use std::time::Duration;

use vms_proto::v1;

use super::text::{Family, Samples, counter, gauge};
use super::{Daemon, Program, Stream};
use crate::shard::ShardStats;

/// What there is once.
pub(super) const DAEMON: &[Family<Daemon>] = &[
    gauge(
        "vms_media_info",
        "What this daemon is: its version, how its shards do input and output, the ABI of its rings; always 1.",
        |daemon, samples| {
            let (major, minor) = daemon.abi;
            let abi = format!("{major}.{minor}");
            let labels = [("version", daemon.version), ("io_backend", daemon.io_backend), ("abi", &abi)];
            samples.put_with(&labels, 1_u64);
        },
    ),
    gauge(
        "vms_media_io_fallback",
        "1 when uring was tried and is not allowed here, so that shards use epoll.",
        |daemon, samples| samples.put(daemon.is_fallback),
    ),
    gauge(
        "vms_media_start_time_seconds",
        "When the daemon started, in seconds since 1970.",
        |daemon, samples| samples.put(daemon.start),
    ),
    gauge("vms_media_streams_max", "Streams that this daemon carries at most.", |daemon, samples| {
        samples.put(daemon.streams_max);
    }),
    gauge(
        "vms_media_stream_memory_bytes",
        "Shared memory that streams take, those included that have ended and that readers still hold.",
        |daemon, samples| samples.put(daemon.stream_memory_bytes),
    ),
    gauge("vms_media_stream_memory_max_bytes", "Shared memory that streams may take.", |daemon, samples| {
        samples.put(daemon.stream_memory_max_bytes)
    }),
    gauge(
        "vms_media_arena_page_bytes",
        "Size of the memory pages that arenas made now lie on.",
        |daemon, samples| samples.put(daemon.arena_page_bytes),
    ),
    gauge(
        "vms_media_reader_attachments",
        "Attachments of readers to streams; a reader of three streams counts three times.",
        |daemon, samples| samples.put(daemon.attachments),
    ),
];

/// How many streams are in which state.
pub(super) const STREAMS_BY_STATE: Family<[Stream]> =
    gauge("vms_media_streams", "Streams in each state.", |streams, samples| {
        for (state, word) in STATES {
            let count = streams.iter().filter(|stream| stream.state == *state).count();
            samples.put_with(&[("state", word)], count);
        }
    });

/// Of each reader program.
pub(super) const PROGRAM: &[Family<Program>] = &[
    gauge(
        "vms_media_reader_program_up",
        "1 while the reader program runs, 0 while it waits to be started again.",
        |program, samples| samples.put(program.is_running),
    ),
    counter("vms_media_reader_program_starts_total", "How often it was started.", |program, samples| {
        samples.put(program.starts);
    }),
];

/// Of each shard.
pub(super) const SHARD: &[Family<ShardStats>] = &[
    gauge("vms_media_shard_streams", "Streams that the shard carries.", |shard, samples| {
        samples.put(shard.streams);
    }),
    gauge(
        "vms_media_shard_waiting_connects",
        "Streams that would connect to their camera now and wait for their turn.",
        |shard, samples| samples.put(shard.waiting_connects),
    ),
    counter(
        "vms_media_shard_turns_total",
        "Turns: look at everything that happened, work on it, wake readers.",
        |shard, samples| samples.put(shard.turns),
    ),
    counter(
        "vms_media_shard_wake_ups_total",
        "Turns that ended with a sleep, and so cost a wake-up.",
        |shard, samples| samples.put(shard.wake_ups),
    ),
    counter(
        "vms_media_shard_system_calls_total",
        "System calls to receive, send, wait and wake readers.",
        |shard, samples| samples.put(shard.system_calls),
    ),
    counter(
        "vms_media_shard_completions_total",
        "Completions of uring, or events and receives of epoll.",
        |shard, samples| samples.put(shard.completions),
    ),
    counter("vms_media_shard_received_bytes_total", "Bytes received from cameras.", |shard, samples| {
        samples.put(shard.received_bytes);
    }),
    counter("vms_media_shard_reader_wakes_total", "Sleeping readers that were woken.", |shard, samples| {
        samples.put(shard.reader_wakes);
    }),
    counter(
        "vms_media_shard_receives_without_buffer_total",
        "Receives that found no free buffer; their bytes stayed in the socket.",
        |shard, samples| samples.put(shard.out_of_buffers),
    ),
    counter(
        "vms_media_shard_rearms_total",
        "Receives that had ended and were armed again; uring only.",
        |shard, samples| samples.put(shard.rearms),
    ),
    counter(
        "vms_media_shard_overruns_total",
        "Times that a stream had more than its share of a turn and went on in the next.",
        |shard, samples| samples.put(shard.overruns),
    ),
    counter(
        "vms_media_shard_cpu_seconds_total",
        "Processor time of the shard's thread.",
        |shard, samples| {
            samples.put(shard.cpu);
        },
    ),
];

/// Of each stream, since it was set up.
pub(super) const STREAM: &[Family<Stream>] = &[
    gauge(
        "vms_media_stream_state",
        "1 for the state that the stream is in, 0 for all others.",
        |stream, samples| {
            for (state, word) in STATES {
                samples.put_with(&[("state", word)], stream.state == *state);
            }
        },
    ),
    gauge(
        "vms_media_stream_reason",
        "1 for the reason of the state; none when nothing is wrong.",
        |stream, samples| {
            if stream.reason != v1::StateReason::Unspecified {
                put_word(samples, "reason", stream.reason.as_str_name(), "STATE_REASON_", 1);
            }
        },
    ),
    gauge(
        "vms_media_stream_state_timestamp_seconds",
        "When the state began, in seconds since 1970.",
        |stream, samples| samples.put_known(stream.state_since),
    ),
    gauge(
        "vms_media_stream_created_timestamp_seconds",
        "When the stream was set up, in seconds since 1970.",
        |stream, samples| samples.put_known(stream.created),
    ),
    gauge(
        "vms_media_stream_last_unit_timestamp_seconds",
        "When the last access unit came, in seconds since 1970, to within a second; none before the first.",
        |stream, samples| samples.put_known(stream.last_unit),
    ),
    gauge(
        "vms_media_stream_next_attempt_timestamp_seconds",
        "When the next attempt to connect begins, in seconds since 1970; none when none is planned.",
        |stream, samples| samples.put_known(stream.next_attempt),
    ),
    gauge(
        "vms_media_stream_withdrawal_timestamp_seconds",
        "Since when somebody whose access was withdrawn can still read, in seconds since 1970; none when nobody can.",
        |stream, samples| samples.put_known(stream.withdrawal_pending_since),
    ),
    gauge("vms_media_stream_shard", "Number of the shard that carries the stream.", |stream, samples| {
        samples.put(stream.shard);
    }),
    counter("vms_media_stream_units_total", "Access units published.", |stream, samples| {
        samples.put(stream.stats.camera.units);
    }),
    counter(
        "vms_media_stream_key_units_total",
        "Key frames published: access units where decoding can start.",
        |stream, samples| samples.put(stream.stats.camera.key_units),
    ),
    counter(
        "vms_media_stream_bytes_total",
        "Payload bytes of the published access units.",
        |stream, samples| samples.put(stream.stats.camera.unit_bytes),
    ),
    counter(
        "vms_media_stream_moved_bytes_total",
        "Payload bytes that were copied a second time, because their unit met the arena's end.",
        |stream, samples| samples.put(stream.stats.published.moved_bytes),
    ),
    counter(
        "vms_media_stream_damaged_units_total",
        "Access units published with the flag damaged: packets were lost in them or right before them.",
        |stream, samples| samples.put(stream.stats.camera.damaged_units),
    ),
    counter(
        "vms_media_stream_dropped_units_total",
        "Access units dropped before they were published: too large, or nothing whole in them.",
        |stream, samples| samples.put(stream.stats.camera.dropped_units),
    ),
    counter(
        "vms_media_stream_packets_total",
        "RTP packets of the video that were used.",
        |stream, samples| {
            samples.put(stream.stats.camera.packets);
        },
    ),
    counter(
        "vms_media_stream_packet_bytes_total",
        "Payload bytes of the RTP packets that were used.",
        |stream, samples| samples.put(stream.stats.camera.payload_bytes),
    ),
    counter("vms_media_stream_lost_packets_total", "RTP packets that never came.", |stream, samples| {
        samples.put(stream.stats.camera.lost_packets);
    }),
    counter(
        "vms_media_stream_duplicate_packets_total",
        "RTP packets that came twice or too late.",
        |stream, samples| samples.put(stream.stats.camera.duplicate_packets),
    ),
    counter(
        "vms_media_stream_ignored_packets_total",
        "Packets that were not for the video, or no RTP.",
        |stream, samples| samples.put(stream.stats.camera.ignored_packets),
    ),
    counter(
        "vms_media_stream_skipped_bytes_total",
        "Bytes skipped in search of the next frame of the connection.",
        |stream, samples| samples.put(stream.stats.camera.skipped_bytes),
    ),
    counter(
        "vms_media_stream_reconnects_total",
        "Sessions after the first that delivered video.",
        |stream, samples| samples.put(stream.stats.camera.reconnects),
    ),
    counter(
        "vms_media_stream_resyncs_total",
        "Times that the connection fell out of step and was found again, the session kept.",
        |stream, samples| samples.put(stream.stats.camera.resyncs),
    ),
    counter(
        "vms_media_stream_throttled_total",
        "Times that the camera had sent more than it may and was read no further for a while.",
        |stream, samples| samples.put(stream.stats.camera.throttled),
    ),
    counter(
        "vms_media_stream_failed_attempts_total",
        "Attempts that failed, and sessions that ended without being asked to.",
        |stream, samples| samples.put(stream.stats.camera.failures),
    ),
    counter(
        "vms_media_stream_failures_total",
        "The same by their reasons; none for those that never occurred.",
        |stream, samples| {
            for (reason, count) in stream.stats.camera.failures_by_reason.iter() {
                let number = i32::try_from(reason.number()).unwrap_or(0);
                let name = v1::StateReason::try_from(number).unwrap_or_default().as_str_name();
                put_word(samples, "reason", name, "STATE_REASON_", u64::from(count));
            }
        },
    ),
    counter(
        "vms_media_stream_units_too_large_total",
        "Access units refused because they did not fit into the stream's memory.",
        |stream, samples| samples.put(stream.stats.published.units_too_large),
    ),
    counter(
        "vms_media_stream_configs_too_large_total",
        "Parameter sets refused because they were too large.",
        |stream, samples| samples.put(stream.stats.published.configs_too_large),
    ),
    gauge(
        "vms_media_stream_retained_seconds",
        "Time between the oldest and the newest access unit that a reader can have.",
        |stream, samples| samples.put(Duration::from_nanos(stream.stats.published.retained_ns)),
    ),
    gauge("vms_media_stream_readers", "Readers attached.", |stream, samples| {
        samples.put(stream.stats.published.readers);
    }),
    gauge(
        "vms_media_stream_readers_behind",
        "Readers that have not been given all there is.",
        |stream, samples| samples.put(stream.stats.published.readers_behind),
    ),
    counter(
        "vms_media_stream_readers_evicted_total",
        "Readers that were cut off: what they wrote cannot be, or they held more than they may.",
        |stream, samples| samples.put(stream.stats.published.evicted),
    ),
    counter(
        "vms_media_stream_reader_lost_units_total",
        "Access units that readers were not given because they were too slow, all readers together.",
        |stream, samples| samples.put(stream.stats.published.lost_units),
    ),
    gauge(
        "vms_media_stream_codec",
        "1 for the codec of the video; none before it is known.",
        |stream, samples| {
            if let Some(track) = &stream.track {
                put_word(samples, "codec", track.codec().as_str_name(), "CODEC_", 1);
            }
        },
    ),
    // Numbers that a camera chooses are values and never labels: it would make a time series with each.
    gauge(
        "vms_media_stream_width_pixels",
        "Width of the video; none before it is known.",
        |stream, samples| samples.put_known(stream.track.map(|track| track.width)),
    ),
    gauge(
        "vms_media_stream_height_pixels",
        "Height of the video; none before it is known.",
        |stream, samples| samples.put_known(stream.track.map(|track| track.height)),
    ),
    gauge(
        "vms_media_stream_nominal_frame_rate",
        "Frames a second as the camera announces them; 0 when it does not.",
        |stream, samples| samples.put_known(stream.track.map(|track| track.fps)),
    ),
];

/// All states with their words.
const STATES: &[(v1::State, &str)] = &[
    (v1::State::Pending, "pending"),
    (v1::State::Connecting, "connecting"),
    (v1::State::Streaming, "streaming"),
    (v1::State::Stalled, "stalled"),
    (v1::State::Backoff, "backoff"),
    (v1::State::AuthFailed, "auth_failed"),
    (v1::State::Unsupported, "unsupported"),
    (v1::State::Stopping, "stopping"),
];

/// A number, labelled with the word that a name of the API has behind `prefix`.
fn put_word(samples: &mut Samples<'_>, label: &str, name: &str, prefix: &str, number: u64) {
    let word = name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase();
    samples.put_with(&[(label, &word)], number);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn states_are_called_as_in_the_api() {
        let api = (1..).map_while(|number| v1::State::try_from(number).ok());
        let words = api.map(|state| (state, state.as_str_name().trim_start_matches("STATE_").to_lowercase()));
        let ours = STATES.iter().map(|(state, word)| (*state, (*word).to_owned()));
        assert_eq!(ours.collect::<Vec<_>>(), words.collect::<Vec<_>>());
    }

    #[test]
    fn names_and_helps_follow_the_rules() {
        let mut seen = BTreeSet::new();
        let all = [described(&STREAMS_BY_STATE)].into_iter();
        let all = all.chain(DAEMON.iter().map(described)).chain(SHARD.iter().map(described));
        for (name, kind, help) in all.chain(STREAM.iter().map(described)) {
            assert!(seen.insert(name), "{name} is there twice");
            let words = name.strip_prefix("vms_media_").unwrap();
            assert!(words.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            for unit in ["_ms", "_ns", "_us", "_kb", "_kib", "_milliseconds", "_megabytes"] {
                assert!(!words.trim_end_matches("_total").ends_with(unit), "{name} is not in a base unit");
            }
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']), "{name}: {help}");
        }
    }

    fn described<T: ?Sized>(family: &Family<T>) -> (&'static str, &'static str, &'static str) {
        (family.name, family.kind, family.help)
    }
}
