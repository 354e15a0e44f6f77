//! How many cameras are being connected to at once.
//!
//! After a power cut, or a start of the daemon, hundreds of cameras are to be set up in the same second. Connections,
//! logins and the first pictures of all of them at once are what network switches, recorders with one address for many
//! cameras, and cameras themselves answer with refusals. So attempts stand in line, first come first served.
//!
//! An attempt counts from its beginning until it streams or has failed, yet no longer than [`COUNTS_FOR`]: cameras
//! that are dead take seconds to say so, and must not hold up those that are not.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::line::Line;
use crate::time::Mono;

/// How long an attempt counts that neither streams nor fails.
pub(super) const COUNTS_FOR: Duration = Duration::from_secs(2);

/// The attempts under way, and those that wait, by their streams' places in the shard.
#[derive(Debug)]
pub(super) struct Gate {
    at_once: NonZeroUsize,
    /// When each attempt that counts stops to.
    attempts: HashMap<usize, Mono>,
    /// The same, in the order in which they began. An entry whose attempt is over is left over and skipped.
    order: VecDeque<(Mono, usize)>,
    waiting: Line,
}

impl Gate {
    /// A gate for `at_once` attempts.
    pub(super) fn new(at_once: NonZeroUsize) -> Self {
        Self { at_once, attempts: HashMap::new(), order: VecDeque::new(), waiting: Line::default() }
    }

    /// The stream at `place` would begin an attempt. It gets its turn by [`next`](Self::next).
    pub(super) fn ask(&mut self, place: usize) {
        self.waiting.push(place);
    }

    /// The next stream that may begin; from now on its attempt counts.
    pub(super) fn next(&mut self, now: Mono) -> Option<usize> {
        self.forget_late(now);
        if self.attempts.len() >= self.at_once.get() {
            return None;
        }
        let place = self.waiting.pop()?;
        let until = now + COUNTS_FOR;
        self.attempts.insert(place, until);
        self.order.push_back((until, place));
        Some(place)
    }

    /// The attempt of the stream at `place`, if it had one, is over.
    pub(super) fn leave(&mut self, place: usize) {
        self.attempts.remove(&place);
    }

    /// Whether somebody waits who has a turn.
    pub(super) fn is_open(&self) -> bool {
        !self.waiting.is_empty() && self.attempts.len() < self.at_once.get()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When somebody who waits gets a turn because an attempt stops to count.
    pub(super) fn poll_timeout(&mut self) -> Option<Mono> {
        self.skip_left_over();
        if self.waiting.is_empty() { None } else { self.order.front().map(|(until, _)| *until) }
    }

    fn forget_late(&mut self, now: Mono) {
        self.skip_left_over();
        while let Some((until, place)) = self.order.front().copied()
            && until <= now
        {
            self.attempts.remove(&place);
            self.order.pop_front();
            self.skip_left_over();
        }
    }

    fn skip_left_over(&mut self) {
        while let Some((until, place)) = self.order.front()
            && self.attempts.get(place) != Some(until)
        {
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn gate(at_once: usize, waiting: std::ops::Range<usize>) -> Gate {
        let mut gate = Gate::new(NonZeroUsize::new(at_once).unwrap());
        waiting.for_each(|place| gate.ask(place));
        gate
    }

    fn admitted(gate: &mut Gate, now: Mono) -> Vec<usize> {
        std::iter::from_fn(|| gate.next(now)).collect()
    }

    #[test]
    fn as_many_as_may_and_the_next_when_one_is_through() {
        let mut gate = gate(2, 0..5);
        assert_eq!(admitted(&mut gate, at(0)), [0, 1]);
        gate.leave(1);
        gate.leave(1);
        assert_eq!(admitted(&mut gate, at(1)), [2]);
        gate.leave(4);
        assert_eq!(admitted(&mut gate, at(1)), [], "who only waits has nothing to give back");
        gate.leave(0);
        gate.leave(2);
        assert_eq!(admitted(&mut gate, at(2)), [3, 4]);
        assert_eq!((gate.waiting(), gate.poll_timeout()), (0, None));
    }

    #[test]
    fn the_dead_do_not_hold_up_the_living() {
        let mut gate = gate(2, 0..6);
        admitted(&mut gate, at(0));
        gate.leave(0);
        assert_eq!(admitted(&mut gate, at(500)), [2]);
        assert_eq!(gate.poll_timeout(), Some(at(2000)), "the first is through, the second is not");
        assert_eq!(admitted(&mut gate, at(1999)), []);
        assert_eq!(admitted(&mut gate, at(2000)), [3]);
        assert_eq!(admitted(&mut gate, at(2500)), [4]);
        // Late, but it was counted out before.
        gate.leave(1);
        assert_eq!(admitted(&mut gate, at(2600)), []);
        assert_eq!(gate.poll_timeout(), Some(at(4000)));
    }

    #[test]
    fn a_place_that_is_used_again_counts_for_itself() {
        let mut gate = gate(1, 0..1);
        admitted(&mut gate, at(0));
        gate.leave(0);
        gate.ask(0);
        gate.ask(7);
        assert_eq!(admitted(&mut gate, at(1500)), [0]);
        assert_eq!(admitted(&mut gate, at(2000)), [], "that was the end of its first attempt");
        assert_eq!(admitted(&mut gate, at(3500)), [7]);
    }
}
