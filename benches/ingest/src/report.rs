//! The line that is printed once a second.

use std::io::{Write, stdout};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::time::Mono;

/// How often.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Prints `facts`; whoever runs us reads them from a pipe or a file, so they leave at once.
pub(crate) fn print(facts: &Value) -> std::io::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{facts}")?;
    out.flush()
}

/// `CLOCK_MONOTONIC`.
pub(crate) fn now() -> Mono {
    let now = clock_gettime(ClockId::Monotonic);
    // The clock counts from boot, so neither part is negative.
    Mono(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
}
