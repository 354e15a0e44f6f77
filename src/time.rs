//! Points in time as plain values.
//!
//! Nothing here reads a clock. The shard does, once a turn, and hands the result down as [`Now`]; every
//! deadline, age and stamp below it is arithmetic on that value, so a test of a 30 s back-off takes no seconds.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on `CLOCK_MONOTONIC`, in nanoseconds since boot. Comparable between processes of one machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    /// Saturates at the end of time (584 years after boot), so a configured "forever" is harmless.
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Mono {
    type Output = Duration;

    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

/// A wall-clock time: nanoseconds since 1970-01-01T00:00:00Z, leap seconds not counted. Negative before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNanos(pub i64);

/// What the shard's clocks said at the start of the turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_MONOTONIC`: deadlines, ages, latencies.
    pub mono: Mono,
    /// `CLOCK_REALTIME`: what a person reads; may step.
    pub wall: UnixNanos,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Mono(5).since(Mono(9)), Duration::ZERO);
        assert_eq!(Mono(u64::MAX - 1) + Duration::from_secs(1), Mono(u64::MAX));
        assert_eq!(Mono(1_000) - Mono(400), Duration::from_nanos(600));
    }
}
