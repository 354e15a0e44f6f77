//! What the measuring process and one reader process tell each other: which mode, how far, how long.
//!
//! A page of words, one line pair each, then room for samples. The reader sleeps on `mode` while it is [`Mode::Idle`], so that
//! only the peer whose turn it is uses the readers' core.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::thread::futex;

use crate::machine::nap;
use crate::shared::Region;

/// What a reader does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Mode {
    /// It sleeps on this word.
    Idle = 1,
    /// It takes what comes, without ever sleeping.
    Poll = 2,
    /// As `Poll`, and notes how old each unit is.
    PollLatency = 3,
    /// It sleeps until the producer wakes it, and notes how old each unit is.
    WaitLatency = 4,
    /// It takes `order` units at once when told, and notes how long that took.
    Drain = 5,
    /// It ends.
    Exit = 6,
}

/// Samples a board has room for.
pub(crate) const SAMPLES_MAX: usize = 1 << 17;

const MODE: usize = 0;
const ENTERED: usize = 128;
const TAKEN: usize = 256;
const ORDER: usize = 384;
const DRAINED_NS: usize = 512;
const CPU_NS: usize = 640;
const SAMPLE_COUNT: usize = 768;
const SAMPLES: usize = 4096;

/// The shared page.
#[derive(Debug)]
pub(crate) struct Board {
    region: Region,
}

impl Board {
    /// A board for a reader that is to be started.
    pub(crate) fn create() -> io::Result<Self> {
        let region = Region::create(SAMPLES + SAMPLES_MAX * 8)?;
        region.word32(MODE).store(Mode::Idle as u32, Ordering::Release);
        Ok(Self { region })
    }

    /// The board at `path`.
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        Ok(Self { region: Region::open(path)? })
    }

    /// What to give to [`Self::open`].
    pub(crate) fn path(&self) -> PathBuf {
        self.region.path()
    }

    /// Tells the reader what to do, and waits until it does.
    pub(crate) fn set_mode(&self, mode: Mode) -> Result<()> {
        self.region.word32(MODE).store(mode as u32, Ordering::Release);
        futex::wake(self.region.word32(MODE), futex::Flags::empty(), 1)?;
        self.wait_entered(mode)
    }

    /// Whether the reader is in `mode`.
    pub(crate) fn has_entered(&self, mode: Mode) -> bool {
        self.region.word32(ENTERED).load(Ordering::Acquire) == mode as u32
    }

    /// Waits until the reader is in `mode`.
    pub(crate) fn wait_entered(&self, mode: Mode) -> Result<()> {
        for _ in 0..50_000 {
            if self.has_entered(mode) {
                return Ok(());
            }
            nap(Duration::from_micros(200));
        }
        bail!("a reader did not begin {mode:?} within 10 s");
    }

    /// Reader: whether it is to go on in `mode`.
    pub(crate) fn is(&self, mode: Mode) -> bool {
        self.region.word32(MODE).load(Ordering::Relaxed) == mode as u32
    }

    /// Reader: the mode it is told, now begun.
    pub(crate) fn enter(&self) -> Mode {
        let word = self.region.word32(MODE).load(Ordering::Acquire);
        let all = [Mode::Idle, Mode::Poll, Mode::PollLatency, Mode::WaitLatency, Mode::Drain];
        let mode = all.into_iter().find(|mode| *mode as u32 == word).unwrap_or(Mode::Exit);
        self.region.word32(ENTERED).store(mode as u32, Ordering::Release);
        mode
    }

    /// Reader: sleeps while it is told to be idle.
    pub(crate) fn sleep(&self) {
        while self.is(Mode::Idle) {
            // Every outcome means: look again.
            let _ = futex::wait(self.region.word32(MODE), futex::Flags::empty(), Mode::Idle as u32, None);
        }
    }

    /// Units that the reader has taken since it began.
    pub(crate) fn taken(&self) -> u64 {
        self.region.word(TAKEN).load(Ordering::Acquire)
    }

    /// Reader: says how many it has taken.
    pub(crate) fn set_taken(&self, count: u64) {
        self.region.word(TAKEN).store(count, Ordering::Release);
    }

    /// Waits, burning time, until the reader has taken `count` units.
    pub(crate) fn wait_taken(&self, count: u64) -> Result<()> {
        let end = crate::machine::now_ns() + 5_000_000_000;
        loop {
            for _ in 0..1000 {
                if self.taken() >= count {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
            if crate::machine::now_ns() > end {
                bail!("a reader took {} of {count} units and then none for 5 s", self.taken());
            }
        }
    }

    /// [`Mode::Drain`]: the reader is to have taken `count` units in all.
    pub(crate) fn order(&self, count: u64) {
        self.region.word(ORDER).store(count, Ordering::Release);
    }

    /// Reader: what was ordered.
    pub(crate) fn ordered(&self) -> u64 {
        self.region.word(ORDER).load(Ordering::Acquire)
    }

    /// Time that draining took, ns, in all.
    pub(crate) fn drained_ns(&self) -> u64 {
        self.region.word(DRAINED_NS).load(Ordering::Acquire)
    }

    /// Reader: adds to that time. Before [`Self::set_taken`].
    pub(crate) fn add_drained_ns(&self, ns: u64) {
        self.region.word(DRAINED_NS).fetch_add(ns, Ordering::Release);
    }

    /// Processor time of the reader, ns: as of the last end of a mode.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.region.word(CPU_NS).load(Ordering::Acquire)
    }

    /// Reader: says it.
    pub(crate) fn set_cpu_ns(&self, ns: u64) {
        self.region.word(CPU_NS).store(ns, Ordering::Release);
    }

    /// Reader: notes a sample; beyond [`SAMPLES_MAX`] none is kept.
    pub(crate) fn note(&self, sample: u64) {
        let count = self.region.word(SAMPLE_COUNT).load(Ordering::Relaxed);
        if (count as usize) < SAMPLES_MAX {
            self.region.word(SAMPLES + count as usize * 8).store(sample, Ordering::Relaxed);
            self.region.word(SAMPLE_COUNT).store(count + 1, Ordering::Release);
        }
    }

    /// Takes the samples away. The reader is idle.
    pub(crate) fn take_samples(&self) -> Vec<f64> {
        let count = self.region.word(SAMPLE_COUNT).swap(0, Ordering::AcqRel) as usize;
        (0..count).map(|n| self.region.word(SAMPLES + n * 8).load(Ordering::Relaxed) as f64).collect()
    }
}
