//! What a wake-up costs on this machine: the part of every receiver's time that no program can save but by waking less often.
//!
//! A thread that sleeps on one core is woken from another, a thousand times a second, as a reader is by a shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::thread::{CpuSet, futex, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::latency::Latency;
use crate::report;

const WAKES: u32 = 2000;
const PERIOD: Duration = Duration::from_millis(1);
/// The word when the sleeper is to end.
const END: u32 = u32::MAX;

/// Prints what waking a thread on core `other` costs a thread on core `own`, and what it costs to sleep and be woken by a timer,
/// in microseconds of processor time: means; and how long two wake-ups in a row take: `twice`, percentiles.
pub(crate) fn run(own: usize, other: usize) -> anyhow::Result<()> {
    pin(own)?;
    let word = Arc::new(AtomicU32::new(0));
    let sleeper = std::thread::spawn({
        let word = Arc::clone(&word);
        move || sleep(&word, other)
    });
    let with_wakes = cycles(|| {
        change(&word);
    });
    end(&word)?;
    let woken = sleeper.join().ok().context("the sleeper's thread failed")??;
    ensure!(woken >= WAKES / 2, "it slept {woken} times only");
    let without = cycles(|| {});
    let twice = pass_on(own, other)?.percentiles();
    report::print(&json!({ "wake_us": with_wakes - without, "sleep_us": without, "twice": twice }))?;
    Ok(())
}

/// How long a word takes from a thread on core `other` by one on core `own` to a third one, on `other` again, when all sleep: the
/// way of a unit from the simulator by the shard to a reader, without anything to do on it.
fn pass_on(own: usize, other: usize) -> anyhow::Result<Latency> {
    let words: [Arc<AtomicU32>; 2] = Default::default();
    let sent = Arc::new(AtomicU64::new(0));
    let shard = std::thread::spawn({
        let [word, next] = words.clone();
        move || {
            serve(&word, own, || {
                change(&next);
            })
        }
    });
    let reader = std::thread::spawn({
        let ([_, word], sent) = (words.clone(), Arc::clone(&sent));
        move || {
            let mut latency = Latency::new();
            serve(&word, other, || {
                latency.record(report::now().0.saturating_sub(sent.swap(0, Ordering::Relaxed)));
            })
            .map(|_| latency)
        }
    });
    pin(other)?;
    let [first, second] = &words;
    cycles(|| {
        // The one before is still on its way.
        if sent.load(Ordering::Relaxed) != 0 {
            return;
        }
        sent.store(report::now().0, Ordering::Relaxed);
        change(first);
    });
    // Those that wake one another end in that order.
    end(first)?;
    shard.join().ok().context("a thread failed")??;
    end(second)?;
    reader.join().ok().context("a thread failed")?
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

fn change(word: &AtomicU32) {
    word.fetch_add(1, Ordering::Release);
    // There is one waiter at most; that there is none happens when it has not slept yet.
    let _ = futex::wake(word, futex::Flags::empty(), 1);
}

fn end(word: &AtomicU32) -> anyhow::Result<()> {
    word.store(END, Ordering::Release);
    futex::wake(word, futex::Flags::empty(), 1).map(drop).context("cannot wake")
}

/// Sleeps until the word is [`END`]; returns how often it was woken.
fn sleep(word: &AtomicU32, core: usize) -> anyhow::Result<u32> {
    serve(word, core, || {})
}

/// Does `act` each time the word has changed, until it is [`END`]; returns how often.
fn serve(word: &AtomicU32, core: usize, mut act: impl FnMut()) -> anyhow::Result<u32> {
    pin(core)?;
    let (mut seen, mut woken) = (0, 0);
    loop {
        // Every outcome means the same: look again.
        let _ = futex::wait(word, futex::Flags::empty(), seen, None);
        let now = word.load(Ordering::Acquire);
        if now == END {
            return Ok(woken);
        }
        if now != seen {
            seen = now;
            woken += 1;
            act();
        }
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
