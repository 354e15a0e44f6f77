//! When each stream wants to be called, and which is due.
//!
//! A stream's deadline usually moves later with every access unit (the idle watch). Moving it in the heap each time
//! would cost more than it saves: a deadline that moved later stays where it is, comes up early, finds nothing due
//! in the stream and is set again. At the usual time-outs that is one needless call in some seconds.
//!
//! Invariant: a stream with a deadline has an entry at that time or earlier, and `armed` holds the entry's time. An
//! entry whose time is not the one in `armed` is left over and is skipped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Mono;

/// Deadlines by a stream's place in the shard's table.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Mono, usize)>>,
    armed: Vec<Option<Mono>>,
}

impl Deadlines {
    /// The stream at `place` wants to be called at `at`; `None`: not at all, for now.
    pub(super) fn set(&mut self, place: usize, at: Option<Mono>) {
        if self.armed.len() <= place {
            self.armed.resize(place + 1, None);
        }
        let Some(armed) = self.armed.get_mut(place) else { return };
        let Some(at) = at else { return };
        if armed.is_none_or(|armed| at < armed) {
            *armed = Some(at);
            self.heap.push(Reverse((at, place)));
        }
    }

    /// A stream whose time may have come. Its deadline is to be set anew.
    pub(super) fn pop_due(&mut self, now: Mono) -> Option<usize> {
        self.skip_left_over();
        let &Reverse((at, place)) = self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        *self.armed.get_mut(place)? = None;
        Some(place)
    }

    /// The earliest deadline.
    pub(super) fn next(&mut self) -> Option<Mono> {
        self.skip_left_over();
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    fn skip_left_over(&mut self) {
        while let Some(Reverse((at, place))) = self.heap.peek()
            && self.armed.get(*place) != Some(&Some(*at))
        {
            self.heap.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn due_streams_come_in_order_of_time() {
        let mut deadlines = Deadlines::default();
        deadlines.set(7, Some(Mono(30)));
        deadlines.set(1, Some(Mono(10)));
        deadlines.set(2, None);
        assert_eq!(deadlines.next(), Some(Mono(10)));
        assert_eq!(deadlines.pop_due(Mono(9)), None);
        assert_eq!(deadlines.pop_due(Mono(30)), Some(1));
        assert_eq!(deadlines.pop_due(Mono(30)), Some(7));
        assert_eq!((deadlines.pop_due(Mono(30)), deadlines.next()), (None, None));
    }

    #[test]
    fn an_earlier_deadline_replaces_a_later_one() {
        let mut deadlines = Deadlines::default();
        deadlines.set(0, Some(Mono(50)));
        deadlines.set(0, Some(Mono(20)));
        assert_eq!(deadlines.pop_due(Mono(20)), Some(0));
        assert_eq!(deadlines.pop_due(Mono(99)), None, "the entry at 50 is left over");
    }

    #[test]
    fn moving_a_deadline_later_does_not_grow_the_heap() {
        let mut deadlines = Deadlines::default();
        (0..10_000).for_each(|n| deadlines.set(0, Some(Mono(100 + n))));
        assert_eq!(deadlines.heap.len(), 1);
    }

    proptest! {
        /// Never late: what the plain model says is due has been called by then, if callers set deadlines anew.
        #[test]
        fn no_stream_is_called_late(steps in prop::collection::vec((0_usize..4, 0_u64..50, 0_u64..10), 1..200)) {
            let mut deadlines = Deadlines::default();
            let mut model = [None; 4];
            let mut now = 0;
            for (place, wait, pass) in steps {
                model[place] = Some(Mono(now + wait));
                deadlines.set(place, model[place]);
                now += pass;
                while let Some(due) = deadlines.pop_due(Mono(now)) {
                    model[due] = model[due].filter(|at| *at > Mono(now));
                    deadlines.set(due, model[due]);
                }
                prop_assert!(model.iter().flatten().all(|at| *at > Mono(now)), "{model:?} at {now}");
                let next = model.iter().flatten().min().copied();
                prop_assert!(next.is_none_or(|at| deadlines.next().is_some_and(|armed| armed <= at)));
            }
        }
    }
}
