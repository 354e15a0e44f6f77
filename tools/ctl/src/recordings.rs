//! `recordings`, `export`, `lock`, `unlock`: asked of the recorder, at its own socket.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args as Arguments, Subcommand};
use prost_types::Timestamp;
use serde::Serialize;
use tonic::transport::{Channel, Endpoint};
use vms_proto::v1;
use vms_proto::v1::recorder_client::RecorderClient;

use crate::client;
use crate::problem::Problem;
use crate::view::rfc3339;

/// What is asked of the recorder.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Question {
    /// List what was recorded, and the gaps in it.
    Recordings {
        /// One camera's only.
        id: Option<String>,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        recorder: Recorder,
    },
    /// Write a part of what was recorded into one Matroska file, without encoding it again: from the keyframe at or before its begin.
    Export {
        /// The stream's name.
        id: String,
        #[command(flatten)]
        span: Span,
        /// Where to; there must be no such file.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        #[command(flatten)]
        recorder: Recorder,
    },
    /// Keep what was recorded in a time, whatever retention says.
    Lock {
        /// The stream's name.
        id: String,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        recorder: Recorder,
    },
    /// No longer.
    Unlock {
        /// The stream's name.
        id: String,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        recorder: Recorder,
    },
}

/// A time.
#[derive(Arguments, Clone, Copy, Debug)]
pub(crate) struct Span {
    /// From here: a time in UTC as 2026-11-22T14:00:00Z, or how long ago as 10min. Default: the begin.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<Moment>,
    /// Up to here, written the same way. Default: now.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<Moment>,
}

/// Where the recorder answers.
#[derive(Arguments, Clone, Debug)]
pub(crate) struct Recorder {
    /// The recorder: unix:PATH. Default: unix: and record.sock in $XDG_RUNTIME_DIR/vms-media, or in /run/vms-media for root.
    #[arg(long, value_name = "ADDRESS")]
    recorder: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    At(SystemTime),
    Ago(Duration),
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(at) = humantime::parse_rfc3339_weak(text) {
        return Ok(Moment::At(at));
    }
    let wrong = |_| "write a time in UTC, 2026-11-22T14:00:00Z, or how long ago, 10min".to_owned();
    humantime::parse_duration(text).map(Moment::Ago).map_err(wrong)
}

/// A finished file.
#[derive(Debug, Serialize)]
struct Recording {
    stream_id: String,
    #[serde(serialize_with = "rfc3339")]
    start: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339")]
    end: Option<Timestamp>,
    duration_s: f64,
    codec: String,
    width: u32,
    height: u32,
    units: u64,
    damaged_units: u64,
    bytes: u64,
    locked: bool,
    why: String,
    path: String,
}

/// A time of which there is nothing.
#[derive(Debug, Serialize)]
struct Gap {
    stream_id: String,
    #[serde(serialize_with = "rfc3339")]
    from: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339")]
    to: Option<Timestamp>,
    reason: String,
    lost_units: u64,
}

#[derive(Debug, Serialize)]
struct Recordings {
    recordings: Vec<Recording>,
    gaps: Vec<Gap>,
}

#[derive(Debug, Serialize)]
struct Exported {
    path: PathBuf,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Locked {
    recordings: u64,
}

/// Asks, and writes the answer to `to`.
pub(crate) async fn run(
    question: Question,
    now: SystemTime,
    json: bool,
    to: &mut impl Write,
) -> Result<(), Problem> {
    let mut tell = |value: serde_json::Result<String>, text: &str| -> Result<(), Problem> {
        writeln!(to, "{}", if json { value? } else { text.to_owned() })?;
        Ok(to.flush()?)
    };
    match question {
        Question::Recordings { id, span, recorder } => {
            let (from, to) = span.bounds(now);
            let request = v1::ListRecordingsRequest { stream_id: id.unwrap_or_default(), from, to: Some(to) };
            let answer = recorder.connect().await?.list_recordings(request).await?.into_inner();
            let list = Recordings {
                recordings: answer.recordings.into_iter().map(Recording::from).collect(),
                gaps: answer.gaps.into_iter().map(Gap::from).collect(),
            };
            tell(serde_json::to_string(&list), &list.table())
        }
        Question::Export { id, span, output, recorder } => {
            let (from, to) = span.bounds(now);
            let from = from.ok_or_else(|| Problem::Usage("say from when: --from".to_owned()))?;
            let request = v1::ExportRecordingRequest { stream_id: id, from: Some(from), to: Some(to) };
            let mut client = recorder.connect().await?;
            let mut pieces = client.export_recording(request).await?.into_inner();
            let mut file = File::create_new(&output)?;
            let written = write_all(&mut pieces, &mut file).await;
            if written.is_err() {
                // A part of an export is none.
                std::fs::remove_file(&output)?;
            }
            let bytes = written?;
            let line = format!("{}: {bytes} bytes", output.display());
            tell(serde_json::to_string(&Exported { path: output, bytes }), &line)
        }
        Question::Lock { id, span, recorder } => lock(id, span, recorder, now, true, &mut tell).await,
        Question::Unlock { id, span, recorder } => lock(id, span, recorder, now, false, &mut tell).await,
    }
}

async fn lock(
    id: String,
    span: Span,
    recorder: Recorder,
    now: SystemTime,
    locked: bool,
    tell: &mut impl FnMut(serde_json::Result<String>, &str) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let (from, to) = span.bounds(now);
    let from = from.ok_or_else(|| Problem::Usage("say from when: --from".to_owned()))?;
    let request = v1::LockRecordingsRequest { stream_id: id, from: Some(from), to: Some(to), locked };
    let recordings = recorder.connect().await?.lock_recordings(request).await?.into_inner().recordings;
    let word = if locked { "locked" } else { "unlocked" };
    tell(serde_json::to_string(&Locked { recordings }), &format!("{recordings} files {word}"))
}

async fn write_all(
    pieces: &mut tonic::Streaming<v1::ExportRecordingResponse>,
    file: &mut File,
) -> Result<u64, Problem> {
    let mut end = 0;
    while let Some(v1::ExportRecordingResponse { offset, data }) = pieces.message().await? {
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(&data)?;
        end = end.max(offset.saturating_add(data.len() as u64));
    }
    file.sync_all()?;
    Ok(end)
}

impl Span {
    fn bounds(self, now: SystemTime) -> (Option<Timestamp>, Timestamp) {
        let at = |moment| match moment {
            Moment::At(at) => at,
            Moment::Ago(ago) => now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH),
        };
        (self.from.map(|from| at(from).into()), self.to.map_or(now, at).into())
    }
}

impl Recorder {
    async fn connect(self) -> Result<RecorderClient<Channel>, Problem> {
        let server = match self.recorder {
            Some(server) => server,
            None => format!("unix:{}", client::run_dir("--recorder")?.join("record.sock").display()),
        };
        if !server.starts_with("unix:") {
            return Err(Problem::Usage("--recorder: write unix:PATH".to_owned()));
        }
        let unreachable = |source| Problem::RecorderUnreachable { server: server.clone(), source };
        let endpoint = Endpoint::from_shared(server.clone()).map_err(unreachable)?;
        let channel = endpoint.connect_timeout(client::TIMEOUT).connect().await.map_err(unreachable)?;
        Ok(RecorderClient::new(channel).max_decoding_message_size(ANSWER_LEN_MAX))
    }
}

impl From<v1::Recording> for Recording {
    fn from(recording: v1::Recording) -> Self {
        let duration = recording.duration.unwrap_or_default();
        let seconds = Duration::try_from(duration).unwrap_or_default().as_secs_f64();
        Self {
            stream_id: recording.stream_id,
            start: recording.start,
            end: recording.end,
            duration_s: (seconds * 1000.0).round() / 1000.0,
            codec: recording.codec,
            width: recording.width,
            height: recording.height,
            units: recording.units,
            damaged_units: recording.damaged_units,
            bytes: recording.bytes,
            locked: recording.locked,
            why: recording.why,
            path: recording.path,
        }
    }
}

impl From<v1::RecordingGap> for Gap {
    fn from(gap: v1::RecordingGap) -> Self {
        Self {
            stream_id: gap.stream_id,
            from: gap.from,
            to: gap.to,
            reason: gap.reason,
            lost_units: gap.lost_units,
        }
    }
}

impl Recordings {
    fn table(&self) -> String {
        let time = |time: &Option<Timestamp>| {
            let time = time.and_then(|time| SystemTime::try_from(time).ok());
            time.map_or_else(|| "-".to_owned(), |time| humantime::format_rfc3339_millis(time).to_string())
        };
        let mut rows = vec![
            ["NAME", "START", "SECONDS", "CODEC", "SIZE", "UNITS", "DAMAGED", "BYTES", "KEPT", "FILE"]
                .map(str::to_owned),
        ];
        rows.extend(self.recordings.iter().map(|file| {
            [
                file.stream_id.clone(),
                time(&file.start),
                format!("{:.1}", file.duration_s),
                file.codec.clone(),
                format!("{}x{}", file.width, file.height),
                file.units.to_string(),
                file.damaged_units.to_string(),
                file.bytes.to_string(),
                if file.locked { "locked" } else { "-" }.to_owned(),
                file.path.clone(),
            ]
        }));
        let widths: Vec<usize> = (0..10)
            .map(|column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0))
            .collect();
        let mut lines: Vec<String> = rows
            .iter()
            .map(|row| {
                let cells: Vec<String> =
                    row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
                cells.join("  ").trim_end().to_owned()
            })
            .collect();
        lines.extend(self.gaps.iter().map(|gap| {
            let lost = if gap.lost_units > 0 { format!(", {} units", gap.lost_units) } else { String::new() };
            format!(
                "gap: {} from {} to {}: {}{lost}",
                gap.stream_id,
                time(&gap.from),
                time(&gap.to),
                gap.reason
            )
        }));
        lines.join("\n")
    }
}

/// A year of one-minute files of a stream.
const ANSWER_LEN_MAX: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_how_long_ago() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let span =
            |from, to| Span { from: Some(moment(from).unwrap()), to: Some(moment(to).unwrap()) }.bounds(now);
        let (from, to) = span("2023-11-14T22:00:00Z", "10min");
        assert_eq!(
            (from.unwrap().to_string().as_str(), to.to_string().as_str()),
            ("2023-11-14T22:00:00Z", "2023-11-14T22:03:20Z")
        );
        let (from, _) = span("9999days", "2023-11-14 22:00:00");
        assert_eq!(from.unwrap().seconds, 1_700_000_000 - 9999 * 86_400);
        assert!(moment("yesterday").is_err());
        let (from, to) = Span { from: None, to: None }.bounds(now);
        assert_eq!((from, to.seconds), (None, 1_700_000_000));
    }
}
