//! How long after their sending units were seen, from when that is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGUSR1;

use crate::latency::{Latency, Percentiles};
use crate::report;

/// Latencies since the process was last sent SIGUSR1, as `vms-tap` counts them.
#[derive(Debug)]
pub(crate) struct Seen {
    latency: Latency,
    /// What was seen so far does not count.
    forget: Arc<AtomicBool>,
}

impl Seen {
    /// Catches the signal from here on.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let forget = Arc::default();
        signal_hook::flag::register(SIGUSR1, Arc::clone(&forget))?;
        Ok(Self { latency: Latency::new(), forget })
    }

    /// Looks for a stamp in all of `bytes`, and at the clock if there is one.
    pub(crate) fn look(&mut self, bytes: &[u8]) {
        if self.forget.swap(false, Ordering::Relaxed) {
            self.latency = Latency::new();
        }
        if let Some(sent) = vms_stamp::sent_at(bytes) {
            self.latency.record(report::now().0.saturating_sub(sent));
        }
    }

    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        self.latency.percentiles()
    }
}
