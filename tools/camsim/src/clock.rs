//! The two clocks of the simulator; the server reads them and hands the numbers on.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(crate) fn mono_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Nanoseconds since 1970-01-01 UTC.
pub(crate) fn utc_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    // Both clocks count from a past date, so neither part is negative.
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds * NS_PER_SECOND + nanos
}

pub(crate) const NS_PER_SECOND: u64 = 1_000_000_000;
