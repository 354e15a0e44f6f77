//! How patient a stream is with its camera, where it differs from the daemon's policy: in the words of the API, and checked.

use std::ops::RangeInclusive;
use std::time::Duration;

use vms_proto::v1;

use super::error::ApiError;
use crate::ingest::{TimeoutChanges, WaitChanges};
use crate::limits::{CAMERA_TIMEOUT, MEDIA_TIMEOUT, RETRY_JITTER_PERCENT, RETRY_MULTIPLIER, RETRY_WAIT};

/// Time-outs that a caller asks for.
///
/// # Errors
/// `InvalidField`.
pub(super) fn check_timeouts(given: v1::Timeouts) -> Result<TimeoutChanges, ApiError> {
    let v1::Timeouts { connect, reply, first_frame, idle } = given;
    Ok(TimeoutChanges {
        connect: check_span("spec.timeouts.connect", connect, &CAMERA_TIMEOUT)?,
        reply: check_span("spec.timeouts.reply", reply, &CAMERA_TIMEOUT)?,
        first_frame: check_span("spec.timeouts.first_frame", first_frame, &MEDIA_TIMEOUT)?,
        idle: check_span("spec.timeouts.idle", idle, &MEDIA_TIMEOUT)?,
    })
}

/// Waits that a caller asks for.
///
/// # Errors
/// `InvalidField`.
pub(super) fn check_retry(given: v1::RetryPolicy) -> Result<WaitChanges, ApiError> {
    let v1::RetryPolicy { initial, max, multiplier, jitter_percent } = given;
    let changes = WaitChanges {
        initial: check_span("spec.retry.initial", initial, &RETRY_WAIT)?,
        max: check_span("spec.retry.max", max, &RETRY_WAIT)?,
        multiplier: check_number("spec.retry.multiplier", multiplier, &RETRY_MULTIPLIER)?,
        jitter_percent: check_number("spec.retry.jitter_percent", jitter_percent, &RETRY_JITTER_PERCENT)?,
    };
    if let (Some(initial), Some(max)) = (changes.initial, changes.max)
        && initial > max
    {
        let why = "it is shorter than initial, the first wait: the longest is to be that or more".to_owned();
        return Err(ApiError::InvalidField { field: "spec.retry.max", why });
    }
    Ok(changes)
}

/// Time-outs as answers show them; `None` when all are the daemon's.
pub(super) fn show_timeouts(changes: &TimeoutChanges) -> Option<v1::Timeouts> {
    let TimeoutChanges { connect, reply, first_frame, idle } = *changes;
    (*changes != TimeoutChanges::default()).then(|| v1::Timeouts {
        connect: connect.map(shown),
        reply: reply.map(shown),
        first_frame: first_frame.map(shown),
        idle: idle.map(shown),
    })
}

/// Waits as answers show them; `None` when all are the daemon's.
pub(super) fn show_retry(changes: &WaitChanges) -> Option<v1::RetryPolicy> {
    let WaitChanges { initial, max, multiplier, jitter_percent } = *changes;
    (*changes != WaitChanges::default()).then(|| v1::RetryPolicy {
        initial: initial.map(shown),
        max: max.map(shown),
        multiplier,
        jitter_percent,
    })
}

fn check_span(
    field: &'static str,
    given: Option<prost_types::Duration>,
    range: &RangeInclusive<Duration>,
) -> Result<Option<Duration>, ApiError> {
    let Some(given) = given else { return Ok(None) };
    // A negative one is none.
    let span = Duration::try_from(given).ok().filter(|span| range.contains(span));
    let span = span.ok_or_else(|| {
        let (least, most) = (range.start().as_secs(), range.end().as_secs());
        let why =
            format!("out of range: from {least} to {most} seconds, or leave it out for the daemon's own");
        ApiError::InvalidField { field, why }
    });
    span.map(Some)
}

fn check_number(
    field: &'static str,
    given: Option<u32>,
    range: &RangeInclusive<u32>,
) -> Result<Option<u32>, ApiError> {
    if given.is_none_or(|number| range.contains(&number)) {
        return Ok(given);
    }
    let (least, most) = (range.start(), range.end());
    let why = format!("out of range: from {least} to {most}, or leave it out for the daemon's own");
    Err(ApiError::InvalidField { field, why })
}

fn shown(span: Duration) -> prost_types::Duration {
    // Spans end at a day.
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: span.subsec_nanos().cast_signed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn span(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos })
    }

    fn complaint(given: v1::RetryPolicy) -> String {
        check_retry(given).unwrap_err().to_string()
    }

    #[test]
    fn what_is_in_range_is_taken_and_shown_as_it_was_given() {
        let timeouts = v1::Timeouts {
            connect: span(1, 0),
            reply: span(120, 0),
            first_frame: span(3600, 0),
            idle: span(1, 500_000_000),
        };
        let changes = check_timeouts(timeouts).unwrap();
        assert_eq!(changes.idle, Some(Duration::from_millis(1500)));
        assert_eq!(show_timeouts(&changes), Some(timeouts));
        let retry = v1::RetryPolicy {
            initial: span(5, 0),
            max: span(5, 0),
            multiplier: Some(1),
            jitter_percent: Some(0),
        };
        let changes = check_retry(retry).unwrap();
        assert_eq!((changes.max, changes.jitter_percent), (Some(Duration::from_secs(5)), Some(0)));
        assert_eq!(show_retry(&changes), Some(retry));
    }

    #[test]
    fn what_is_absent_or_empty_is_the_daemons() {
        assert_eq!(check_timeouts(v1::Timeouts::default()).unwrap(), TimeoutChanges::default());
        assert_eq!(check_retry(v1::RetryPolicy::default()).unwrap(), WaitChanges::default());
        assert_eq!(show_timeouts(&TimeoutChanges::default()), None);
        assert_eq!(show_retry(&WaitChanges::default()), None);
    }

    #[test]
    fn what_is_out_of_range_is_refused_with_the_range() {
        type Place = fn(&mut v1::Timeouts) -> &mut Option<prost_types::Duration>;
        let places: [(&str, Place, i64); 4] = [
            ("spec.timeouts.connect", |given| &mut given.connect, 120),
            ("spec.timeouts.reply", |given| &mut given.reply, 120),
            ("spec.timeouts.first_frame", |given| &mut given.first_frame, 3600),
            ("spec.timeouts.idle", |given| &mut given.idle, 3600),
        ];
        for (field, place, most) in places {
            for wrong in
                [span(0, 0), span(0, 999_999_999), span(-1, 0), span(1, -1), span(most, 1), span(i64::MAX, 0)]
            {
                let mut given = v1::Timeouts::default();
                *place(&mut given) = wrong;
                let told = check_timeouts(given).unwrap_err().to_string();
                let advice = format!("{field}: out of range: from 1 to {most} seconds");
                assert!(told.starts_with(&advice), "{wrong:?}: {told}");
            }
        }
        let none = v1::RetryPolicy::default();
        for wrong in [span(0, 0), span(24 * 3600, 1)] {
            assert!(complaint(v1::RetryPolicy { initial: wrong, ..none }).contains("1 to 86400 seconds"));
            assert!(complaint(v1::RetryPolicy { max: wrong, ..none }).contains("1 to 86400 seconds"));
        }
        for multiplier in [0, 11, u32::MAX] {
            let told = complaint(v1::RetryPolicy { multiplier: Some(multiplier), ..none });
            assert!(told.starts_with("spec.retry.multiplier: out of range: from 1 to 10"), "{told}");
        }
        let told = complaint(v1::RetryPolicy { jitter_percent: Some(51), ..none });
        assert!(told.starts_with("spec.retry.jitter_percent: out of range: from 0 to 50"), "{told}");
        let told = complaint(v1::RetryPolicy { initial: span(6, 0), max: span(5, 0), ..none });
        assert!(told.starts_with("spec.retry.max: it is shorter than initial"), "{told}");
    }
}
