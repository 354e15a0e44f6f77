//! Whose turn it is to connect to a camera, over all shards: first come, first served.
//!
//! Each attempt draws a number, as at a counter. With `at_once` at the counter from the beginning and one more number called for
//! each attempt that ends, never are more under way than `at_once`, and no shard waits for ever because another is quicker. Two
//! numbers that grow are all that shards share; none waits for another.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counter, shared by all shards.
#[derive(Clone, Debug)]
pub struct Connects(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    at_once: u64,
    /// Numbers drawn.
    drawn: AtomicU64,
    /// Numbers whose attempt is over, or was never begun.
    over: AtomicU64,
}

/// A number that was drawn; dropping it lets the next one come.
#[derive(Debug)]
pub(super) struct Turn {
    number: u64,
    connects: Connects,
}

impl Connects {
    /// A counter for `at_once` attempts.
    pub fn new(at_once: NonZeroUsize) -> Self {
        Self(Arc::new(Counter {
            at_once: at_once.get() as u64,
            drawn: AtomicU64::new(0),
            over: AtomicU64::new(0),
        }))
    }

    /// Draws a number.
    pub(super) fn draw(&self) -> Turn {
        Turn { number: self.0.drawn.fetch_add(1, Ordering::Relaxed), connects: self.clone() }
    }
}

impl Turn {
    /// Whether the number has been called.
    pub(super) fn has_come(&self) -> bool {
        let counter = &self.connects.0;
        self.number < counter.at_once.saturating_add(counter.over.load(Ordering::Relaxed))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.connects.0.over.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_may_in_the_order_in_which_they_came() {
        let connects = Connects::new(NonZeroUsize::new(2).unwrap());
        let mut turns: Vec<Turn> = (0..5).map(|_| connects.draw()).collect();
        let called = |turns: &[Turn]| turns.iter().filter(|turn| turn.has_come()).count();
        assert_eq!(called(&turns), 2);
        turns.remove(1);
        assert!(turns[1].has_come() && !turns[2].has_come(), "the third instead of the second");
        turns.drain(..2);
        assert_eq!((called(&turns), turns.len()), (2, 2));
        turns.clear();
        turns.extend((0..3).map(|_| connects.draw()));
        assert_eq!(called(&turns), 2);
    }
}
