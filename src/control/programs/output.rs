//! What a reader program says, line by line, into the daemon's log.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tracing::{info, warn};

use crate::limits::{PROGRAM_LINE_LEN_MAX, PROGRAM_LINES};
use crate::publish::attach::Allowance;
use crate::time::{Mono, Now};

/// Passes on what `program` says until it says no more, as far as there are lines left of those that it may have.
pub(super) async fn pass_on(
    program: String,
    output: impl AsyncRead + Unpin,
    lines: SharedLines,
    now: impl Fn() -> Now,
) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        // Bounded: the rest of a longer line is another one.
        match (&mut output).take(PROGRAM_LINE_LEN_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let verdict = lines.note(now().mono);
        match verdict {
            Verdict::Tell { untold: 0 } => {}
            Verdict::Tell { untold } => warn!(program, untold, "lines of a reader program were left out"),
            Verdict::LeaveOut => continue,
        }
        let text = String::from_utf8_lossy(&line);
        info!(program, "{}", text.trim_end().escape_debug());
    }
}

/// How many lines a program may put into the log, by all of its outputs, and however often it is started.
#[derive(Clone, Debug)]
pub(super) struct SharedLines(Arc<Mutex<Lines>>);

impl SharedLines {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Lines::new())))
    }

    fn note(&self, now: Mono) -> Verdict {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).note(now)
    }
}

/// The same for one that asks.
#[derive(Debug)]
struct Lines {
    allowance: Allowance,
    untold: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// After so many that were left out.
    Tell {
        untold: u64,
    },
    LeaveOut,
}

impl Lines {
    const fn new() -> Self {
        Self { allowance: Allowance::new(PROGRAM_LINES), untold: 0 }
    }

    fn note(&mut self, now: Mono) -> Verdict {
        if self.allowance.take(now).is_ok() {
            Verdict::Tell { untold: std::mem::take(&mut self.untold) }
        } else {
            self.untold += 1;
            Verdict::LeaveOut
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_chatterbox_is_counted_and_heard_again_later() {
        let start = Mono(7);
        let mut lines = Lines::new();
        let told = (0..1000).filter(|_| lines.note(start) != Verdict::LeaveOut).count();
        assert_eq!(told, PROGRAM_LINES.burst as usize);
        let later = start + Duration::from_secs(1);
        assert_eq!(lines.note(later), Verdict::Tell { untold: 1000 - u64::from(PROGRAM_LINES.burst) });
        let told = 1 + (0..1000).filter(|_| lines.note(later) != Verdict::LeaveOut).count();
        assert_eq!(told as u128, Duration::from_secs(1).as_nanos() / PROGRAM_LINES.interval.as_nanos());
        let much_later = later + Duration::from_secs(10_000);
        assert!(matches!(lines.note(much_later), Verdict::Tell { untold } if untold > 900));
        let told = 1 + (0..1000).filter(|_| lines.note(much_later) != Verdict::LeaveOut).count();
        assert_eq!(told, PROGRAM_LINES.burst as usize);
    }
}
