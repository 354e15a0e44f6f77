//! The signals that end the daemon.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM, and SIGHUP: a terminal that goes away must not leave sessions at the cameras.
pub(crate) struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
    /// `None` when whoever started the daemon has it ignored, as `nohup` does.
    hangup: Option<Signal>,
    /// What was received is to be told once more.
    again: bool,
}

impl StopSignal {
    /// From now on none of them kills.
    pub(crate) fn new() -> io::Result<Self> {
        let hangup = SignalKind::hangup();
        let is_ignored = is_ignored(&std::fs::read_to_string("/proc/self/status")?, hangup);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if is_ignored { None } else { Some(signal(hangup)?) },
            again: false,
        })
    }

    /// Tells the last one again: it came too early to be followed.
    pub(crate) const fn again(&mut self) {
        self.again = true;
    }

    /// The next one.
    pub(crate) async fn received(&mut self) {
        if std::mem::take(&mut self.again) {
            return;
        }
        let Self { interrupt, terminate, hangup, again: _ } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hung_up => {}
        }
    }
}

/// Whether `status`, the text of `/proc/PID/status`, has `kind` among the ignored signals.
fn is_ignored(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_seen_in_the_status() {
        let of = |mask| format!("SigBlk:\tffffffffffffffff\nSigIgn:\t{mask}\nSigCgt:\tffffffffffffffff\n");
        assert!(is_ignored(&of("0000000000001001"), SignalKind::hangup()));
        assert!(!is_ignored(&of("0000000000001000"), SignalKind::hangup()));
        assert!(is_ignored(&of("0000000000004000"), SignalKind::terminate()));
        assert!(!is_ignored("", SignalKind::hangup()));
    }
}
