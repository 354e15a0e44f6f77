//! The control thread's clock. It stamps what is shown to people; media never meets it.

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::time::{Mono, Now, UnixNanos};

/// Both clocks, now.
pub(crate) fn now() -> Now {
    let mono = nanos(clock_gettime(ClockId::Monotonic));
    Now {
        mono: Mono(u64::try_from(mono).unwrap_or(0)),
        wall: UnixNanos(nanos(clock_gettime(ClockId::Realtime))),
    }
}

fn nanos(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}
