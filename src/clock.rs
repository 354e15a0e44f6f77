//! What the machine's clocks say. For the shell: each shard reads them once a turn, the threads that speak with people
//! and readers when something happens. Pure modules get the result as an argument.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::time::{Mono, Now, UnixNanos};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// What both clocks say. Neither is a system call (vDSO).
pub(crate) fn now() -> Now {
    let mono = nanos(clock_gettime(ClockId::Monotonic));
    // Monotonic time counts from boot and is never negative.
    Now { mono: Mono(mono.unsigned_abs()), wall: UnixNanos(nanos(clock_gettime(ClockId::Realtime))) }
}

/// Processor time that the calling thread has used. A system call.
pub(crate) fn thread_cpu() -> Duration {
    Duration::from_nanos(nanos(clock_gettime(ClockId::ThreadCPUTime)).unsigned_abs())
}

const fn nanos(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(NANOS_PER_SECOND).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on() {
        let (first, second) = (now(), now());
        assert!(first.mono <= second.mono && thread_cpu() <= thread_cpu());
        assert!(first.wall.0 > 1_700_000_000 * NANOS_PER_SECOND);
    }
}
