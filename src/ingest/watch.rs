//! Watches that video flows once PLAY was accepted. Only completed access units count: a camera that answers
//! keepalives, sends reports, or sends fragments of a unit that never ends, delivers nothing.

use std::time::Duration;

use super::policy::Policy;
use crate::time::Mono;

/// What the watch found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The first unit came, or the first after a stall.
    Flowing,
    /// Units have flowed for long enough to forget earlier failures.
    Stable,
    /// None for the idle time-out.
    Stalled,
    /// The first unit never came.
    NeverBegan,
    /// None for twice the idle time-out.
    Dead,
}

/// The watch over one connection's video.
#[derive(Debug)]
pub(super) struct Watch {
    flow: Flow,
    /// Units completed so far.
    units: u64,
    deadline: Mono,
    stable_at: Option<Mono>,
    idle_timeout: Duration,
    stable_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Awaited,
    Flowing,
    Stalled,
}

impl Watch {
    /// PLAY was accepted at `now`; units that came before its answer count.
    pub(super) fn begin(now: Mono, policy: &Policy) -> Self {
        Self {
            flow: Flow::Awaited,
            units: 0,
            deadline: now + policy.first_frame_timeout,
            stable_at: None,
            idle_timeout: policy.idle_timeout,
            stable_after: policy.stable_after,
        }
    }

    /// From the next unit on, silence may last for this long.
    pub(super) const fn set_idle_timeout(&mut self, idle_timeout: Duration) {
        self.idle_timeout = idle_timeout;
    }

    /// `units` have been completed on this connection so far, the newest of them at `newest`.
    pub(super) fn note_units(&mut self, now: Mono, units: u64, newest: Mono) -> Option<Finding> {
        if units == self.units {
            return None;
        }
        self.units = units;
        self.deadline = newest + self.idle_timeout;
        if self.flow == Flow::Flowing {
            self.stable_at.take_if(|at| *at <= now).map(|_| Finding::Stable)
        } else {
            self.flow = Flow::Flowing;
            self.stable_at = Some(now + self.stable_after);
            Some(Finding::Flowing)
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(super) const fn poll_timeout(&self) -> Mono {
        self.deadline
    }

    pub(super) fn handle_timeout(&mut self, now: Mono) -> Option<Finding> {
        if now < self.deadline {
            return None;
        }
        self.deadline = now + self.idle_timeout;
        match self.flow {
            Flow::Awaited => Some(Finding::NeverBegan),
            Flow::Flowing => {
                self.flow = Flow::Stalled;
                Some(Finding::Stalled)
            }
            Flow::Stalled => Some(Finding::Dead),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn a_first_unit_that_never_comes() {
        let mut watch = Watch::begin(at(0), &Policy::default());
        assert_eq!(watch.poll_timeout(), at(10));
        assert_eq!(watch.handle_timeout(at(9)), None);
        assert_eq!(watch.handle_timeout(at(10)), Some(Finding::NeverBegan));
    }

    #[test]
    fn a_stall_ends_with_the_next_unit_or_the_session() {
        let mut watch = Watch::begin(at(0), &Policy::default());
        assert_eq!(watch.note_units(at(1), 0, at(0)), None);
        assert_eq!(watch.note_units(at(1), 1, at(1)), Some(Finding::Flowing));
        assert_eq!(watch.note_units(at(2), 2, at(2)), None);
        assert_eq!(watch.handle_timeout(at(7)), Some(Finding::Stalled));
        assert_eq!(watch.note_units(at(8), 3, at(8)), Some(Finding::Flowing));
        assert_eq!(watch.handle_timeout(at(13)), Some(Finding::Stalled));
        assert_eq!(watch.note_units(at(14), 3, at(8)), None);
        assert_eq!(watch.handle_timeout(at(18)), Some(Finding::Dead));
    }

    #[test]
    fn another_patience_holds_from_the_next_unit_on() {
        let mut watch = Watch::begin(at(0), &Policy::default());
        watch.note_units(at(1), 1, at(1));
        watch.set_idle_timeout(Duration::from_secs(60));
        assert_eq!(watch.poll_timeout(), at(6));
        watch.note_units(at(2), 2, at(2));
        assert_eq!(watch.poll_timeout(), at(62));
    }

    #[test]
    fn steady_video_is_stable_once() {
        let mut watch = Watch::begin(at(0), &Policy::default());
        watch.note_units(at(1), 1, at(1));
        let findings: Vec<_> =
            (2..30).filter_map(|second| watch.note_units(at(second), second, at(second))).collect();
        assert_eq!(findings, [Finding::Stable]);
    }

    #[test]
    fn a_unit_that_came_before_plays_answer_is_as_old_as_it_is() {
        let mut watch = Watch::begin(at(4), &Policy::default());
        assert_eq!(watch.note_units(at(4), 1, at(1)), Some(Finding::Flowing));
        assert_eq!(watch.poll_timeout(), at(6));
        assert_eq!(watch.handle_timeout(at(6)), Some(Finding::Stalled));
    }
}
