//! Clocks, cores and naps.

use std::io;
use std::time::Duration;

use rustix::event::{Timespec, poll};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// The core of whoever produces.
pub(crate) const PRODUCER_CORE: usize = 0;
/// The core of all readers.
pub(crate) const READER_CORE: usize = 1;

/// `CLOCK_MONOTONIC`, ns: the same in all processes.
pub(crate) fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Processor time of this thread, ns.
pub(crate) fn thread_cpu_ns() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Keeps the calling thread, and children that it starts from now on, on one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Asks to run before other programs of the machine, children included; whether that was granted (it takes privileges).
pub(crate) fn go_first() -> bool {
    rustix::process::setpriority_process(None, -15).is_ok()
}

/// Burns time until `end_ns`: a producer that sleeps would be measured with a cold cache.
pub(crate) fn spin_until(end_ns: u64) {
    while now_ns() < end_ns {
        std::hint::spin_loop();
    }
}

/// Gives the core away for a moment; for waits that are not measured.
pub(crate) fn nap(time: Duration) {
    let time = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
    // Nothing to wait for, so every outcome is the end of the nap.
    let _ = poll(&mut [], Some(&time));
}
