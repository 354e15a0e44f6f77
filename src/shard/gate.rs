//! How many cameras are being connected to at once.
//!
//! After a power cut, or a start of the daemon, hundreds of cameras are to be set up in the same second. Connections,
//! logins and the first pictures of all of them at once are what network switches, recorders with one address for many
//! cameras, and cameras themselves answer with refusals. So attempts stand in line, first come first served, over all shards
//! ([`Connects`]). A gate keeps those of one shard.
//!
//! An attempt counts from its beginning until it streams or has failed, yet no longer than [`COUNTS_FOR`]: cameras
//! that are dead take seconds to say so, and must not hold up those that are not. One that did not stand in line, because
//! somebody asked for it, counts too; one that goes to another shard goes on counting there.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::connects::{Connects, Turn};
use super::line::Line;
use crate::time::Mono;

/// How long an attempt counts that neither streams nor fails.
pub(super) const COUNTS_FOR: Duration = Duration::from_secs(2);
/// How often a gate looks whether attempts of other shards have ended, while somebody waits for that.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The attempts under way, and those that wait, by their streams' places in the shard.
#[derive(Debug)]
pub(super) struct Gate {
    connects: Connects,
    /// Those that count.
    attempts: HashMap<usize, Attempt>,
    /// When they stop to, soonest first. An entry whose attempt is over is left over and skipped.
    order: VecDeque<(Mono, usize)>,
    waiting: Line,
    /// The numbers of those that wait.
    turns: HashMap<usize, Turn>,
}

/// An attempt that counts.
#[derive(Debug)]
pub(super) struct Attempt {
    /// When it stops to.
    until: Mono,
    /// Until it is dropped.
    _turn: Turn,
}

impl Gate {
    /// A shard's gate.
    pub(super) fn new(connects: Connects) -> Self {
        Self {
            connects,
            attempts: HashMap::new(),
            order: VecDeque::new(),
            waiting: Line::default(),
            turns: HashMap::new(),
        }
    }

    /// The stream at `place` would begin an attempt. It gets its turn by [`next`](Self::next).
    pub(super) fn ask(&mut self, place: usize) {
        self.turns.entry(place).or_insert_with(|| self.connects.draw());
        self.waiting.push(place);
    }

    /// The next stream that may begin; from now on its attempt counts.
    pub(super) fn next(&mut self, now: Mono) -> Option<usize> {
        self.forget_late(now);
        if !self.is_open() {
            return None;
        }
        let place = self.waiting.pop()?;
        if let Some(turn) = self.turns.remove(&place) {
            self.enter(place, Attempt { until: now + COUNTS_FOR, _turn: turn });
        }
        Some(place)
    }

    /// The stream at `place` has begun an attempt without a turn.
    pub(super) fn count(&mut self, place: usize, now: Mono) {
        if !self.attempts.contains_key(&place) {
            self.enter(place, Attempt { until: now + COUNTS_FOR, _turn: self.connects.draw() });
        }
    }

    /// The stream that is at `place` now came with an attempt that counts.
    pub(super) fn enter(&mut self, place: usize, attempt: Attempt) {
        let behind = self.order.partition_point(|(until, _)| *until <= attempt.until);
        self.order.insert(behind, (attempt.until, place));
        self.attempts.insert(place, attempt);
    }

    /// The attempt of the stream at `place`, if it had one, counts no longer here, and nowhere once it is dropped.
    pub(super) fn leave(&mut self, place: usize) -> Option<Attempt> {
        self.attempts.remove(&place)
    }

    /// Whether somebody waits who has a turn.
    pub(super) fn is_open(&self) -> bool {
        self.waiting.first().and_then(|place| self.turns.get(&place)).is_some_and(Turn::has_come)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When to look whether somebody who waits has got a turn.
    pub(super) fn poll_timeout(&mut self, now: Mono) -> Option<Mono> {
        self.skip_left_over();
        if self.waiting.is_empty() {
            return None;
        }
        let look = now + LOOK_INTERVAL;
        Some(self.order.front().map_or(look, |(until, _)| look.min(*until)))
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
            && self.attempts.get(place).map(|attempt| attempt.until) != Some(*until)
        {
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn gates<const N: usize>(at_once: usize) -> [Gate; N] {
        let connects = Connects::new(NonZeroUsize::new(at_once).unwrap());
        std::array::from_fn(|_| Gate::new(connects.clone()))
    }

    fn gate(at_once: usize, waiting: std::ops::Range<usize>) -> Gate {
        let [mut gate] = gates(at_once);
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
        assert_eq!((gate.waiting(), gate.poll_timeout(at(2))), (0, None));
    }

    #[test]
    fn the_dead_do_not_hold_up_the_living() {
        let mut gate = gate(2, 0..6);
        admitted(&mut gate, at(0));
        gate.leave(0);
        assert_eq!(admitted(&mut gate, at(500)), [2]);
        assert_eq!(gate.poll_timeout(at(1995)), Some(at(2000)), "the first is through, the second is not");
        assert_eq!(admitted(&mut gate, at(1999)), []);
        assert_eq!(admitted(&mut gate, at(2000)), [3]);
        assert_eq!(admitted(&mut gate, at(2500)), [4]);
        // Late, but it was counted out before.
        gate.leave(1);
        assert_eq!(admitted(&mut gate, at(2600)), []);
        assert_eq!(admitted(&mut gate, at(4000)), [5]);
    }

    #[test]
    fn a_place_that_is_used_again_counts_for_itself() {
        let mut gate = gate(1, 0..1);
        admitted(&mut gate, at(0));
        gate.leave(0);
        gate.ask(0);
        gate.ask(0);
        gate.ask(7);
        assert_eq!(admitted(&mut gate, at(1500)), [0]);
        assert_eq!(admitted(&mut gate, at(2000)), [], "that was the end of its first attempt");
        assert_eq!(admitted(&mut gate, at(3500)), [7]);
    }

    #[test]
    fn what_may_be_under_way_is_shared_by_all_shards_and_none_is_starved() {
        let [mut quick, mut slow] = gates(1);
        (0..3).for_each(|place| quick.ask(place));
        slow.ask(0);
        quick.ask(3);
        assert_eq!((admitted(&mut quick, at(0)), admitted(&mut slow, at(0))), (vec![0], vec![]));
        for place in 0..3 {
            assert_eq!(slow.poll_timeout(at(0)), Some(at(0) + LOOK_INTERVAL), "nobody would wake it");
            quick.leave(place);
            assert_eq!(admitted(&mut quick, at(1)), if place < 2 { vec![place + 1] } else { vec![] });
        }
        assert_eq!(admitted(&mut slow, at(2)), [0], "it came before the quick one's fourth");
        assert_eq!(admitted(&mut quick, at(2)), []);
        slow.leave(0);
        assert_eq!(admitted(&mut quick, at(2)), [3]);
    }

    #[test]
    fn an_attempt_that_goes_to_another_shard_goes_on_counting_there() {
        let [mut here, mut there] = gates(1);
        here.ask(0);
        here.ask(1);
        assert_eq!(admitted(&mut here, at(0)), [0]);
        let attempt = here.leave(0).unwrap();
        assert_eq!(admitted(&mut here, at(1)), []);
        there.enter(5, attempt);
        there.ask(6);
        assert_eq!((admitted(&mut here, at(1)), admitted(&mut there, at(1))), (vec![], vec![]));
        assert_eq!(there.poll_timeout(at(1999)), Some(at(2000)), "and no longer than it would have here");
        assert_eq!((admitted(&mut there, at(2000)), admitted(&mut here, at(2000))), (vec![], vec![1]));
        here.leave(1);
        assert_eq!(admitted(&mut there, at(2001)), [6]);
    }

    #[test]
    fn who_did_not_wait_counts_all_the_same() {
        let mut gate = gate(1, 0..0);
        gate.count(3, at(0));
        gate.count(3, at(0));
        gate.ask(4);
        assert_eq!(admitted(&mut gate, at(1)), []);
        gate.leave(3);
        assert_eq!(admitted(&mut gate, at(1)), [4]);
    }
}
