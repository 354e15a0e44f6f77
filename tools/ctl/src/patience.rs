//! How patient the daemon is with one camera, as the command line says it.

use std::time::Duration;

use clap::Args as Arguments;
use humantime::parse_duration;
use vms_proto::v1;

/// What of the daemon's `[camera]` is to be another for a stream.
#[derive(Arguments, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patience {
    /// How long to wait for the TCP connection to one of the camera's addresses: 1s to 2m.
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    connect_timeout: Option<Duration>,
    /// For the answer to one RTSP request: 1s to 2m.
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    reply_timeout: Option<Duration>,
    /// From PLAY's answer to the first video: 1s to 1h.
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    first_frame_timeout: Option<Duration>,
    /// Without video before the stream counts as stalled; after the same time again the session is replaced: 1s to 1h.
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    idle_timeout: Option<Duration>,
    /// The first wait between attempts after an ordinary failure: 1s to 24h.
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    retry_initial: Option<Duration>,
    /// The longest, chance aside: 1s to 24h.
    #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
    retry_max: Option<Duration>,
    /// From one wait to the next: 1 to 10.
    #[arg(long, value_name = "N")]
    retry_multiplier: Option<u32>,
    /// By how much of a wait chance may move it: 0 to 50 percent.
    #[arg(long, value_name = "PERCENT")]
    retry_jitter: Option<u32>,
    /// A try every SPAN, come what may. Short for the four options before.
    #[arg(
        long,
        value_name = "SPAN",
        value_parser = parse_duration,
        conflicts_with_all = ["retry_initial", "retry_max", "retry_multiplier", "retry_jitter"]
    )]
    retry_every: Option<Duration>,
}

impl Patience {
    /// Whether it says anything.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `before` has, with what this says otherwise.
    pub(crate) fn over(&self, before: v1::StreamSpec) -> v1::StreamSpec {
        let timeouts = before.timeouts.unwrap_or_default();
        let retry = before.retry.unwrap_or_default();
        let fixed = self.retry_every.is_some();
        v1::StreamSpec {
            timeouts: Some(v1::Timeouts {
                connect: self.connect_timeout.map(span).or(timeouts.connect),
                reply: self.reply_timeout.map(span).or(timeouts.reply),
                first_frame: self.first_frame_timeout.map(span).or(timeouts.first_frame),
                idle: self.idle_timeout.map(span).or(timeouts.idle),
            }),
            retry: Some(v1::RetryPolicy {
                initial: self.retry_every.or(self.retry_initial).map(span).or(retry.initial),
                max: self.retry_every.or(self.retry_max).map(span).or(retry.max),
                multiplier: fixed.then_some(1).or(self.retry_multiplier).or(retry.multiplier),
                jitter_percent: fixed.then_some(0).or(self.retry_jitter).or(retry.jitter_percent),
            }),
            ..before
        }
    }
}

/// What is too long for the API is too long for the daemon, which says so.
fn span(span: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: span.subsec_nanos().cast_signed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    #[test]
    fn what_is_not_said_stays() {
        let first = Patience { idle_timeout: Some(Duration::from_secs(8)), ..Patience::default() };
        let spec = first.over(v1::StreamSpec::default());
        let second = Patience { retry_every: Some(Duration::from_secs(5)), ..Patience::default() };
        let spec = second.over(spec);
        assert_eq!(spec.timeouts.unwrap(), v1::Timeouts { idle: seconds(8), ..Default::default() });
        let fixed = v1::RetryPolicy {
            initial: seconds(5),
            max: seconds(5),
            multiplier: Some(1),
            jitter_percent: Some(0),
        };
        assert_eq!(spec.retry.unwrap(), fixed);
        let third = Patience { retry_jitter: Some(10), ..Patience::default() };
        let retry = third.over(spec).retry.unwrap();
        assert_eq!(retry, v1::RetryPolicy { jitter_percent: Some(10), ..fixed });
        assert!(Patience::default().is_empty() && !third.is_empty());
    }
}
