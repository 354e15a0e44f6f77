//! What is said at the end.

use std::fmt;

use serde::Serialize;

use crate::latency::Percentiles;
use crate::stamps::Found;

/// The last line of `--json`, the only one of `--summary`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    #[serde(rename = "type")]
    kind: &'static str,
    pub(crate) streams: Vec<StreamSummary>,
    /// With `--stamp`: that of all streams taken together.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Percentiles>,
}

/// One stream of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StreamSummary {
    pub(crate) id: String,
    pub(crate) units: u64,
    pub(crate) bytes: u64,
    pub(crate) keyframes: u64,
    /// Units a second, by time of publication.
    pub(crate) fps: f64,
    /// Bits a second, by time of publication.
    pub(crate) bitrate: f64,
    /// Units that never came, although the producer had published them.
    pub(crate) lost: u64,
    /// Units that were overwritten while they were read.
    pub(crate) rejected: u64,
    /// Units dropped to wait for a keyframe after a loss.
    pub(crate) skipped: u64,
    /// Units withheld by the producer's filters.
    pub(crate) filtered: u64,
    /// Units that came flagged: they, or what they refer to, are not whole.
    pub(crate) damaged: u64,
    /// With `--stamp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stamps: Option<Found>,
    /// With `--stamp`: from the camera's write to our read, units from the past left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<Percentiles>,
}

impl Summary {
    pub(crate) const fn new(streams: Vec<StreamSummary>, latency: Option<Percentiles>) -> Self {
        Self { kind: "summary", streams, latency }
    }

    /// Whether `--stamp` is satisfied with all streams; true when it was not given.
    pub(crate) fn passes(&self) -> bool {
        self.streams.iter().all(StreamSummary::passes)
    }
}

impl StreamSummary {
    fn passes(&self) -> bool {
        let lossless = self.lost + self.rejected + self.skipped == 0;
        self.stamps
            .is_none_or(|stamps| stamps.flawless() && stamps.good > 0 && stamps.restarts == 0 && lossless)
    }
}

impl fmt::Display for StreamSummary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, units, bytes, keyframes, fps, bitrate, .. } = self;
        write!(
            out,
            "{id}: {units} units, {bytes} bytes, {keyframes} keyframes, {fps} fps, {bitrate:.0} bit/s; "
        )?;
        write!(
            out,
            "{} lost, {} rejected, {} skipped, {} damaged",
            self.lost, self.rejected, self.skipped, self.damaged
        )?;
        if let Some(stamps) = &self.stamps {
            let Found { good, missing, corrupt, repeated, absent, restarts, unflagged } = stamps;
            write!(
                out,
                "; stamps: {good} good, {missing} missing, {corrupt} corrupt, {repeated} repeated, {absent} absent, {restarts} restarts, {unflagged} unflagged"
            )?;
        }
        if let Some(Percentiles { p50_us, p99_us, p999_us, max_us }) = self.latency {
            write!(out, "; latency p50 {p50_us} us, p99 {p99_us} us, p99.9 {p999_us} us, max {max_us} us")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(lost: u64, stamps: Option<Found>) -> Summary {
        let stream = StreamSummary {
            id: "a".into(),
            units: 1,
            bytes: 2,
            keyframes: 1,
            fps: 25.0,
            bitrate: 16.0,
            lost,
            rejected: 0,
            skipped: 0,
            filtered: 0,
            damaged: 0,
            stamps,
            latency: None,
        };
        Summary::new(vec![stream], None)
    }

    #[test]
    fn stamps_decide_only_when_asked_for() {
        let good = Found { good: 1, ..Found::default() };
        assert!(summary(5, None).passes() && summary(0, Some(good)).passes());
        assert!(!summary(1, Some(good)).passes());
        assert!(!summary(0, Some(Found::default())).passes(), "no unit proves nothing");
        assert!(!summary(0, Some(Found { corrupt: 1, ..good })).passes());
        assert!(
            !summary(0, Some(Found { restarts: 1, ..good })).passes(),
            "a session that broke lost something"
        );
    }

    #[test]
    fn as_json_and_as_text() {
        let summary = summary(0, None);
        let json = serde_json::to_string(&summary).unwrap();
        assert!(json.starts_with(r#"{"type":"summary","streams":[{"id":"a","units":1,"#), "{json}");
        let text = summary.streams[0].to_string();
        assert_eq!(
            text,
            "a: 1 units, 2 bytes, 1 keyframes, 25 fps, 16 bit/s; 0 lost, 0 rejected, 0 skipped, 0 damaged"
        );
    }
}
