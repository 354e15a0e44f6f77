//! How many lines of the log one stream may take: a camera that flaps must not drown what is said of the others.
//!
//! ```text
//!  state change ─▶ new reason? ─yes──────────────────────▶ told
//!                      └─no─▶ a line left? ──yes─▶ told, with how many were not
//!                                 └─no─▶ counted ── a line is there again ──▶ "so many more"
//! ```
//! Pure: time is an argument. What is not told is still in the log at level debug, in the API and in the metrics.

use std::collections::HashMap;

use crate::ids::StreamUid;
use crate::ingest::{Reason, State};
use crate::limits::{LOG_LINES, LOG_NEWS_INTERVAL};
use crate::publish::attach::Allowance;
use crate::time::Mono;

/// The gate of all streams.
#[derive(Debug, Default)]
pub(crate) struct LogGate {
    streams: HashMap<StreamUid, Gate>,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is told. So many were not since the last one that was.
    Told {
        /// How many.
        untold: u64,
    },
    /// It is one too many.
    Untold,
}

/// One stream's.
#[derive(Debug)]
struct Gate {
    lines: Allowance,
    /// When a state was last told for its reason. Bounded: there are that many of either.
    told: Vec<(State, Reason, Mono)>,
    untold: u64,
    /// When it was last told that the camera is throttled.
    throttled_at: Option<Mono>,
}

impl LogGate {
    /// A stream came into a state that is worth a line.
    pub(crate) fn admit(&mut self, uid: StreamUid, state: State, reason: Reason, now: Mono) -> Verdict {
        self.streams.entry(uid).or_insert_with(Gate::new).admit(state, reason, now)
    }

    /// How many lines of a stream were not told, once one may be told again; asked for now and then.
    pub(crate) fn take_untold(&mut self, uid: StreamUid, now: Mono) -> Option<u64> {
        self.streams.get_mut(&uid)?.take_untold(now)
    }

    /// The stream's camera is throttled: whether that is news.
    pub(crate) fn admit_throttled(&mut self, uid: StreamUid, now: Mono) -> bool {
        let gate = self.streams.entry(uid).or_insert_with(Gate::new);
        let is_news = gate.throttled_at.is_none_or(|told| now.since(told) >= LOG_NEWS_INTERVAL);
        if is_news {
            gate.throttled_at = Some(now);
        }
        is_news
    }

    /// The stream is gone.
    pub(crate) fn forget(&mut self, uid: StreamUid) {
        self.streams.remove(&uid);
    }
}

impl Gate {
    const fn new() -> Self {
        Self { lines: Allowance::new(LOG_LINES), told: Vec::new(), untold: 0, throttled_at: None }
    }

    fn admit(&mut self, state: State, reason: Reason, now: Mono) -> Verdict {
        let is_news = self.is_news(state, reason, now);
        let has_line = self.lines.take(now).is_ok();
        if is_news || has_line {
            Verdict::Told { untold: std::mem::take(&mut self.untold) }
        } else {
            self.untold = self.untold.saturating_add(1);
            Verdict::Untold
        }
    }

    /// Whether this has not been told for long.
    fn is_news(&mut self, state: State, reason: Reason, now: Mono) -> bool {
        let before = self.told.iter_mut().find(|(told, why, _)| (*told, *why) == (state, reason));
        match before {
            Some((.., at)) if now.since(*at) < LOG_NEWS_INTERVAL => false,
            Some((.., at)) => {
                *at = now;
                true
            }
            None => {
                self.told.push((state, reason, now));
                true
            }
        }
    }

    fn take_untold(&mut self, now: Mono) -> Option<u64> {
        if self.untold == 0 || self.lines.take(now).is_err() {
            return None;
        }
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAPPER: StreamUid = StreamUid(1);

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn is_told(verdict: Verdict) -> bool {
        verdict != Verdict::Untold
    }

    #[test]
    fn a_camera_that_flaps_a_hundred_times_a_second_writes_few_lines_and_all_are_accounted_for() {
        let mut gate = LogGate::default();
        let states = [(State::Streaming, Reason::None), (State::Backoff, Reason::ConnectionClosed)];
        let (mut lines, mut untold, mut all) = (0, 0, 0);
        for ms in (0..600_000).step_by(5) {
            let (state, reason) = states[usize::from(ms % 10 == 0)];
            all += 1;
            if let Verdict::Told { untold: before } = gate.admit(FLAPPER, state, reason, at(ms)) {
                lines += 1;
                untold += before;
            }
            if ms % 1000 == 0 {
                let more = gate.take_untold(FLAPPER, at(ms));
                untold += more.unwrap_or(0);
            }
        }
        // Ten minutes: the burst, one each ten seconds, and each of the two states anew each ten minutes.
        assert!(lines <= 8 + 60 + 4, "{lines}");
        assert_eq!(lines + untold + gate.streams[&FLAPPER].untold, all, "none is forgotten");
    }

    #[test]
    fn a_camera_that_sends_too_much_is_named_now_and_then() {
        let mut gate = LogGate::default();
        assert_eq!(
            [0, 1, 599_999, 600_000].map(|ms| gate.admit_throttled(FLAPPER, at(ms))),
            [true, false, false, true]
        );
    }

    #[test]
    fn a_new_reason_is_told_however_much_was_said_before() {
        let mut gate = LogGate::default();
        for ms in 0..1000 {
            gate.admit(FLAPPER, State::Backoff, Reason::ConnectRefused, at(ms));
        }
        assert!(!is_told(gate.admit(FLAPPER, State::Backoff, Reason::ConnectRefused, at(1000))));
        let other = gate.admit(FLAPPER, State::AuthFailed, Reason::AuthRefused, at(1001));
        assert!(matches!(other, Verdict::Told { untold: 1.. }), "{other:?}");
        assert!(!is_told(gate.admit(FLAPPER, State::AuthFailed, Reason::AuthRefused, at(1002))));
        let later = at(1001) + LOG_NEWS_INTERVAL;
        assert!(is_told(gate.admit(FLAPPER, State::AuthFailed, Reason::AuthRefused, later)));
    }

    #[test]
    fn one_stream_takes_no_lines_from_another() {
        let mut gate = LogGate::default();
        for ms in 0..1000 {
            gate.admit(FLAPPER, State::Backoff, Reason::ConnectRefused, at(ms));
        }
        for line in 0..u64::from(LOG_LINES.burst) {
            assert!(is_told(gate.admit(
                StreamUid(2),
                State::Backoff,
                Reason::ConnectRefused,
                at(1000 + line)
            )));
        }
    }

    #[test]
    fn what_was_not_told_is_told_when_there_is_room_and_a_stream_that_is_gone_takes_none() {
        let mut gate = LogGate::default();
        for ms in 0..100 {
            gate.admit(FLAPPER, State::Streaming, Reason::None, at(ms));
        }
        assert_eq!(gate.take_untold(FLAPPER, at(200)), None);
        let untold = 100 - u64::from(LOG_LINES.burst);
        assert_eq!(gate.take_untold(FLAPPER, at(100) + LOG_LINES.interval), Some(untold));
        assert_eq!(gate.take_untold(FLAPPER, at(100) + LOG_LINES.interval * 3), None, "told once");
        gate.forget(FLAPPER);
        assert!(gate.streams.is_empty());
    }
}
