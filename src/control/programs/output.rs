//! What a reader program says, line by line, into the daemon's log.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tracing::{info, warn};

use crate::limits::{PROGRAM_LINE_LEN_MAX, PROGRAM_LINES};
use crate::time::{Mono, Now};

/// Passes on what `program` says until it says no more.
pub(super) async fn pass_on(program: String, output: impl AsyncRead + Unpin, now: impl Fn() -> Now) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    let mut lines = Lines::new(now().mono);
    loop {
        line.clear();
        // Bounded: the rest of a longer line is another one.
        match (&mut output).take(PROGRAM_LINE_LEN_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        match lines.note(now().mono) {
            Verdict::Tell { untold: 0 } => {}
            Verdict::Tell { untold } => warn!(program, untold, "lines of a reader program were left out"),
            Verdict::LeaveOut => continue,
        }
        let text = String::from_utf8_lossy(&line);
        info!(program, "{}", text.trim_end().escape_debug());
    }
}

/// How many lines a program may put into the log.
#[derive(Debug)]
struct Lines {
    left: u32,
    since: Mono,
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
    const fn new(now: Mono) -> Self {
        Self { left: PROGRAM_LINES.burst, since: now, untold: 0 }
    }

    fn note(&mut self, now: Mono) -> Verdict {
        let seconds = u32::try_from((now - self.since).as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            let more = seconds.saturating_mul(PROGRAM_LINES.per_second);
            self.left = self.left.saturating_add(more).min(PROGRAM_LINES.burst);
            self.since = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Verdict::Tell { untold: std::mem::take(&mut self.untold) }
            }
            None => {
                self.untold += 1;
                Verdict::LeaveOut
            }
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
        let mut lines = Lines::new(start);
        let told = (0..1000).filter(|_| lines.note(start) != Verdict::LeaveOut).count();
        assert_eq!(told, PROGRAM_LINES.burst as usize);
        let later = start + Duration::from_secs(1);
        assert_eq!(lines.note(later), Verdict::Tell { untold: 1000 - u64::from(PROGRAM_LINES.burst) });
        let told = 1 + (0..1000).filter(|_| lines.note(later) != Verdict::LeaveOut).count();
        assert_eq!(told, PROGRAM_LINES.per_second as usize);
        let much_later = later + Duration::from_secs(10_000);
        assert!(matches!(lines.note(much_later), Verdict::Tell { untold } if untold > 900));
        assert_eq!(lines.left, PROGRAM_LINES.burst - 1);
    }
}
