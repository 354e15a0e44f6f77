//! What a wake-up costs on this machine: the part of every receiver's time that no program can save but by waking less often.
//!
//! A thread that sleeps on one core is woken from another, a thousand times a second, as a reader is by a shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::thread::{CpuSet, futex, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::report;

const WAKES: u32 = 2000;
const PERIOD: Duration = Duration::from_millis(1);
/// The word when the sleeper is to end.
const END: u32 = u32::MAX;

/// Prints what waking a thread on core `other` costs a thread on core `own`, and what it costs to sleep and be woken by a timer,
/// in microseconds of processor time: means.
pub(crate) fn run(own: usize, other: usize) -> anyhow::Result<()> {
    pin(own)?;
    let word = Arc::new(AtomicU32::new(0));
    let sleeper = std::thread::spawn({
        let word = Arc::clone(&word);
        move || sleep(&word, other)
    });
    let with_wakes = cycles(|| {
        word.fetch_add(1, Ordering::Release);
        // There is one waiter at most; that there is none yet happens once, at the start.
        let _ = futex::wake(&word, futex::Flags::empty(), 1);
    });
    word.store(END, Ordering::Release);
    futex::wake(&word, futex::Flags::empty(), 1)?;
    let woken = sleeper.join().ok().context("the sleeper's thread failed")??;
    ensure!(woken >= WAKES / 2, "it slept {woken} times only");
    let without = cycles(|| {});
    report::print(&json!({ "wake_us": with_wakes - without, "sleep_us": without }))?;
    Ok(())
}

/// Processor time of a sleep of [`PERIOD`] and of `act` after it, in microseconds.
fn cycles(act: impl Fn()) -> f64 {
    let before = cpu();
    for _ in 0..WAKES {
        #[expect(clippy::disallowed_methods, reason = "sleeping is what is measured")]
        std::thread::sleep(PERIOD);
        act();
    }
    (cpu() - before).as_secs_f64() * 1e6 / f64::from(WAKES)
}

/// Sleeps until the word is [`END`]; returns how often it was woken.
fn sleep(word: &AtomicU32, core: usize) -> anyhow::Result<u32> {
    pin(core)?;
    let mut woken = 0;
    loop {
        let seen = word.load(Ordering::Acquire);
        if seen == END {
            return Ok(woken);
        }
        // Every outcome means the same: look again.
        let _ = futex::wait(word, futex::Flags::empty(), seen, None);
        woken += 1;
    }
}

fn pin(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).context("cannot be pinned")
}

fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    // Neither part is negative.
    Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap_or(0))
}
