//! `--every`: a table for people while it goes on.

use std::fmt::Write;
use std::time::Duration;

use crate::latency::Percentiles;
use crate::summary::StreamSummary;

/// Prints a line a stream at equal intervals. Units and losses are totals, rates are those of the interval, and
/// latencies are over all units so far.
#[derive(Debug)]
pub(crate) struct Table {
    every_ns: u64,
    last_ns: u64,
    /// Units and bytes of each stream at the last table.
    before: Vec<(u64, u64)>,
}

impl Table {
    pub(crate) fn new(every: Duration, now_ns: u64) -> Self {
        let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        Self { every_ns, last_ns: now_ns, before: Vec::new() }
    }

    pub(crate) const fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.last_ns) >= self.every_ns
    }

    /// The table, with an empty line at its end, so that a script sees where the next begins.
    pub(crate) fn render(&mut self, now_ns: u64, streams: &[StreamSummary]) -> String {
        let seconds = Duration::from_nanos(now_ns.saturating_sub(self.last_ns)).as_secs_f64();
        self.last_ns = now_ns;
        self.before.resize(streams.len(), (0, 0));
        let mut text = format!(
            "{:<10} {:>8} {:>6} {:>8} {:>9} {:>9} {:>6} {:>6}\n",
            "NAME", "UNITS", "FPS", "MBIT/S", "P50_US", "P99_US", "LOST", "WRONG"
        );
        for (stream, before) in streams.iter().zip(&mut self.before) {
            let rate = |now: u64, before: u64| number(now.saturating_sub(before)) / seconds;
            let (fps, bits) = (rate(stream.units, before.0), rate(stream.bytes, before.1) * 8.0);
            *before = (stream.units, stream.bytes);
            let micros = |of: fn(&Percentiles) -> f64| {
                stream
                    .latency
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |latency| format!("{:.0}", of(latency)))
            };
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "{:<10} {:>8} {fps:>6.1} {:>8.2} {:>9} {:>9} {:>6} {:>6}",
                stream.id,
                stream.units,
                bits / 1e6,
                micros(|latency| latency.p50_us),
                micros(|latency| latency.p99_us),
                stream.lost + stream.rejected + stream.skipped,
                stream.damaged + stream.stamps.map_or(0, |stamps| stamps.errors()),
            );
        }
        text + "\n"
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
const fn number(count: u64) -> f64 {
    count as f64
}
