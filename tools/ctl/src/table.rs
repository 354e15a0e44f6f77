//! Answers for people: columns, and one stream in full.

use std::fmt::Write;
use std::time::SystemTime;

use prost_types::Timestamp;

use crate::view::{Access, Event, Info, Reader, Stats, Stream, StreamStats, Track};

/// Heads of the columns of `list`.
const HEADER: [&str; 10] =
    ["NAME", "STATE", "REASON", "CODEC", "SIZE", "FPS", "BITRATE", "LAST", "READERS", "AGE"];

/// Heads of the columns of `stats`.
const STATS_HEADER: [&str; 13] = [
    "NAME",
    "STATE",
    "FPS",
    "BITRATE",
    "LAST",
    "UNITS",
    "LOST",
    "DAMAGED",
    "DROPPED",
    "RESYNCS",
    "RECONNECTS",
    "FAILURES",
    "MISSED",
];

/// Heads of the columns of `watch`, whose widths are fixed because nobody knows what comes.
pub(crate) const EVENT_HEADER: &str =
    "EVENT      NAME                 STATE         REASON             DETAIL";

/// `list`: a line for each stream.
pub(crate) fn streams(streams: &[Stream]) -> String {
    let now = now();
    let rows: Vec<_> = streams.iter().map(|stream| row(stream, now)).collect();
    align(&HEADER, &rows)
}

/// `stats`: a line for each stream. LOST are packets, MISSED are units that readers were too slow for.
pub(crate) fn stats(streams: &[StreamStats]) -> String {
    let rows: Vec<_> = streams.iter().map(stats_row).collect();
    align(&STATS_HEADER, &rows)
}

/// `stats ID`: one stream's numbers, and its readers.
pub(crate) fn stats_in_full(stream: &StreamStats) -> String {
    let state = match &stream.reason {
        Some(reason) => format!("{} ({reason}) since {}", stream.state, time(&stream.state_since)),
        None => format!("{} since {}", stream.state, time(&stream.state_since)),
    };
    let text = fields(&[
        ("Name", stream.stream_id.clone()),
        ("State", state),
        ("Next attempt", time(&stream.next_attempt)),
        ("Last frame", last_frame(&stream.last_frame_time, stream.last_frame_age_s)),
        ("Reconnects", stream.reconnects.to_string()),
        ("Failures", failures(&stream.stats)),
        ("Media", media(&stream.stats)),
        ("Damage", damage(&stream.stats)),
        ("Readers", stream.stats.readers.to_string()),
    ]);
    let readers = stream.readers.iter().flatten();
    readers.fold(text, |text, reader| format!("{text}\n  {}", reader_line(reader)))
}

/// `get`: everything about one stream.
pub(crate) fn describe(stream: &Stream) -> String {
    let stats = &stream.stats;
    let labels: Vec<_> = stream.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let tracks: Vec<_> = stream.tracks.iter().map(track).collect();
    let state = match &stream.reason {
        Some(reason) => format!("{} ({reason}) since {}", stream.state, time(&stream.state_since)),
        None => format!("{} since {}", stream.state, time(&stream.state_since)),
    };
    let age = stream.last_frame_time.as_ref().map(|last| now() - last.seconds);
    let text = fields(&[
        ("Name", stream.stream_id.clone()),
        ("URL", stream.url.clone()),
        ("Credentials", if stream.credentials_set { "set" } else { "none" }.to_owned()),
        ("Transport", stream.transport.clone()),
        ("Record", stream.record.clone()),
        ("Labels", or_dash(labels.join(" "))),
        ("Access", readers(&stream.access)),
        ("Withdrawal", withdrawal(stream)),
        ("Patience", patience(stream)),
        ("Origin", origin(stream)),
        ("State", state),
        ("Detail", or_dash(stream.detail.clone())),
        ("Next attempt", time(&stream.next_attempt)),
        ("Last frame", last_frame(&stream.last_frame_time, age)),
        ("Reconnects", stream.reconnects.to_string()),
        ("Failures", failures(stats)),
        ("Tracks", or_dash(tracks.join(", "))),
        ("Media", media(stats)),
        ("Damage", damage(stats)),
        ("Readers", stats.readers.to_string()),
        ("Shard", stream.shard.to_string()),
        ("Created", time(&stream.create_time)),
        ("Etag", stream.etag.clone()),
        ("Revision", stream.revision.to_string()),
    ]);
    stream.readers.iter().fold(text, |text, reader| format!("{text}\n  {}", reader_line(reader)))
}

fn time(time: &Option<Timestamp>) -> String {
    time.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn last_frame(last: &Option<Timestamp>, age_s: Option<i64>) -> String {
    match age_s {
        Some(age_s) => format!("{} ({} ago)", time(last), age(age_s)),
        None => "-".to_owned(),
    }
}

fn failures(stats: &Stats) -> String {
    let reasons: Vec<_> =
        stats.failures_by_reason.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    if reasons.is_empty() {
        stats.failures.to_string()
    } else {
        format!("{} ({})", stats.failures, reasons.join(", "))
    }
}

fn media(stats: &Stats) -> String {
    let Stats { units, key_units, bytes, fps, bitrate_bps, .. } = stats;
    format!("{units} units ({key_units} key), {bytes} bytes, {fps:.1} fps, {}", bitrate(*bitrate_bps))
}

fn damage(stats: &Stats) -> String {
    let Stats { lost_packets, damaged_units, dropped_units, resyncs, skipped_bytes, throttled, .. } = stats;
    let throttled = match throttled {
        0 => String::new(),
        times => format!(", {times} times throttled: it sends more than it may"),
    };
    format!(
        "{lost_packets} packets lost, {damaged_units} units damaged, {dropped_units} dropped, {resyncs} resyncs over {skipped_bytes} bytes{throttled}"
    )
}

fn reader_line(reader: &Reader) -> String {
    let Reader { session, slot, uid, class, units, filtered_units, lost_units, gaps, .. } = reader;
    let class = class.as_deref().unwrap_or("unknown");
    let note = match reader {
        Reader { evicted: true, .. } => ", evicted",
        Reader { behind: true, .. } => ", behind",
        Reader { .. } => "",
    };
    format!(
        "reader {session}/{slot} ({class}, uid {uid}): {units} units, {lost_units} missed in {gaps} gaps, {filtered_units} withheld, \
         {} unread{note}",
        reader.unread_units
    )
}

/// Who may read a stream.
pub(crate) fn readers(access: &Access) -> String {
    let list = |name, ids: &[u32]| ids.iter().map(|id| format!(", {name} {id}")).collect::<String>();
    format!("the daemon's user, root{}{}", list("uid", &access.uids), list("gid", &access.gids))
}

/// Whether readers that lost access are still to be cut off.
pub(crate) fn withdrawal(stream: &Stream) -> String {
    stream
        .withdrawal_pending_since
        .as_ref()
        .map_or_else(|| "-".to_owned(), |since| format!("pending since {since}"))
}

/// What the stream has of its own; the rest is the daemon's.
pub(crate) fn patience(stream: &Stream) -> String {
    let (timeouts, retry) = (&stream.timeouts, &stream.retry);
    let spans = [
        ("connect", timeouts.connect_s),
        ("reply", timeouts.reply_s),
        ("first frame", timeouts.first_frame_s),
        ("idle", timeouts.idle_s),
        ("first retry", retry.initial_s),
        ("last retry", retry.max_s),
    ];
    let spans = spans.into_iter().filter_map(|(name, span)| Some(format!("{name} {} s", span?)));
    let factor = retry.multiplier.map(|factor| format!("retries x {factor}"));
    let jitter = retry.jitter_percent.map(|jitter| format!("jitter {jitter} %"));
    let own: Vec<_> = spans.chain(factor).chain(jitter).collect();
    if own.is_empty() { "the daemon's".to_owned() } else { format!("{}; else the daemon's", own.join(", ")) }
}

fn origin(stream: &Stream) -> String {
    match stream.origin.as_deref() {
        Some("file") => "the configuration file: it is changed there".to_owned(),
        Some("api") => "a caller".to_owned(),
        other => or_dash(other.unwrap_or_default().to_owned()),
    }
}

/// `watch`: one line.
pub(crate) fn event(event: &Event) -> String {
    let line = match &event.stream {
        Some(stream) => format!(
            "{:<10} {:<20} {:<13} {:<18} {}",
            event.kind,
            stream.stream_id,
            stream.state,
            stream.reason.as_deref().unwrap_or("-"),
            stream.detail
        ),
        None => format!("{:<10} revision {}", event.kind, event.revision),
    };
    line.trim_end().to_owned()
}

/// `info`.
pub(crate) fn info(info: &Info) -> String {
    fields(&[
        ("Version", info.version.clone()),
        ("Started", info.start_time.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)),
        ("Shards", format!("{}, io by {}", info.shards, info.io_backend)),
        ("Why not uring", or_dash(info.io_backend_reason.clone())),
        ("Streams", format!("{} of at most {}", info.streams, info.streams_max)),
        ("Stream memory", stream_memory(info)),
        ("Ring socket", info.ring_socket.clone()),
        ("Ring ABI", or_dash(info.ring_abi_version.clone())),
        ("Largest unit", format!("{} bytes", info.unit_bytes_max)),
        ("Revision", info.revision.to_string()),
    ])
}

fn stream_memory(info: &Info) -> String {
    let most = info.stream_memory_bytes_max >> 20;
    match info.arena_page_bytes >> 10 {
        // A daemon that does not tell.
        0 => format!("at most {most} MiB"),
        pages => format!("at most {most} MiB, arenas on pages of {pages} KiB"),
    }
}

fn stats_row(stream: &StreamStats) -> [String; 13] {
    let stats = &stream.stats;
    [
        stream.stream_id.clone(),
        stream.state.clone(),
        format!("{:.1}", stats.fps),
        bitrate(stats.bitrate_bps),
        stream.last_frame_age_s.map_or_else(|| "-".to_owned(), age),
        stats.units.to_string(),
        stats.lost_packets.to_string(),
        stats.damaged_units.to_string(),
        stats.dropped_units.to_string(),
        stats.resyncs.to_string(),
        stream.reconnects.to_string(),
        stats.failures.to_string(),
        stats.reader_lost_units.to_string(),
    ]
}

fn row(stream: &Stream, now: i64) -> [String; 10] {
    let first = stream.tracks.first();
    let codec = first.and_then(|track| track.codec.clone()).map(|codec| codec.to_ascii_uppercase());
    let size = first.filter(|track| track.width > 0).map(|track| format!("{}x{}", track.width, track.height));
    let flows = stream.stats.bitrate_bps > 0;
    [
        stream.stream_id.clone(),
        stream.state.clone(),
        stream.reason.clone().unwrap_or_else(|| "-".to_owned()),
        codec.unwrap_or_else(|| "-".to_owned()),
        size.unwrap_or_else(|| "-".to_owned()),
        if flows { format!("{:.1}", stream.stats.fps) } else { "-".to_owned() },
        if flows { bitrate(stream.stats.bitrate_bps) } else { "-".to_owned() },
        stream.last_frame_time.as_ref().map_or_else(|| "-".to_owned(), |last| age(now - last.seconds)),
        stream.stats.readers.to_string(),
        stream.create_time.as_ref().map_or_else(|| "-".to_owned(), |created| age(now - created.seconds)),
    ]
}

/// Columns as wide as their widest word, three blanks apart.
fn align<const N: usize>(header: &[&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let line = |cells: &[&str]| {
        let padded: Vec<_> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("   ").trim_end().to_owned()
    };
    let mut lines = vec![line(header)];
    lines.extend(rows.iter().map(|row| line(&row.each_ref().map(String::as_str))));
    lines.join("\n")
}

fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in fields {
        let name = format!("{name}:");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<width$}  {value}");
    }
    text.trim_end().to_owned()
}

fn track(track: &Track) -> String {
    let codec = track.codec.as_deref().unwrap_or("unknown").to_ascii_uppercase();
    format!(
        "{codec} {}x{} {:.2} fps nominal, profile {}, level {}",
        track.width, track.height, track.fps, track.profile_idc, track.level_idc
    )
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Bits a second with a unit a person reads.
fn bitrate(bps: u64) -> String {
    match bps {
        0..1_000 => format!("{bps} bit/s"),
        1_000..1_000_000 => format!("{} kbit/s", bps / 1_000),
        _ => format!("{}.{} Mbit/s", bps / 1_000_000, bps % 1_000_000 / 100_000),
    }
}

/// A span of seconds in one or two units, as kubectl has it.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7_200 => format!("{}m{}s", s / 60, s % 60),
        s @ 7_200..172_800 => format!("{}h{}m", s / 3_600, s % 3_600 / 60),
        s => format!("{}d{}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// Now.
#[expect(clippy::disallowed_methods, reason = "a program's own clock, to show ages to a person")]
pub(crate) fn system_now() -> SystemTime {
    SystemTime::now()
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since_1970 = system_now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.ok().and_then(|span| i64::try_from(span.as_secs()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vms_proto::v1;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [bitrate(999), bitrate(64_500), bitrate(4_096_000)],
            ["999 bit/s", "64 kbit/s", "4.0 Mbit/s"]
        );
        assert_eq!(
            [age(-3), age(119), age(120), age(7_200), age(200_000)],
            ["0s", "119s", "2m0s", "2h0m", "2d7h"]
        );
    }

    #[test]
    fn only_what_a_stream_has_of_its_own_is_told() {
        let mut stream = Stream::from(v1::Stream::default());
        assert_eq!(patience(&stream), "the daemon's");
        (stream.timeouts.idle_s, stream.retry.max_s, stream.retry.jitter_percent) =
            (Some(8.5), Some(5.0), Some(0));
        assert_eq!(patience(&stream), "idle 8.5 s, last retry 5 s, jitter 0 %; else the daemon's");
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let named = |name: &str| {
            Stream::from(v1::Stream {
                stream_id: name.into(),
                state: v1::State::Backoff.into(),
                reason: v1::StateReason::ConnectRefused.into(),
                ..Default::default()
            })
        };
        let text = streams(&[named("cam-1"), named("a-much-longer-name")]);
        let lines: Vec<_> = text.lines().collect();
        let column = lines[0].find("REASON").unwrap();
        assert!(lines[1..].iter().all(|line| line[column..].starts_with("connect_refused")), "{text}");
    }
}
