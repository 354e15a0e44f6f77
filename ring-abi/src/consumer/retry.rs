//! When to try again. Pure.

use std::time::Duration;

/// Waits between attempts to attach, or to connect: 100 ms, then twice as long each time, up to 2 s. Short, because asking a
/// socket of the same machine costs little, and a recorder that comes late has lost what was not retained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    failures: u32,
}

impl Retry {
    /// Notes a failure; how long to wait until the next attempt.
    pub fn wait(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(SHIFT_MAX)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Notes a success: the next wait is the first again.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// More would overflow, and is longer than the longest.
const SHIFT_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_two_seconds_and_begin_anew_after_a_success() {
        let mut retry = Retry::default();
        let waits = [(); 7].map(|()| retry.wait().as_millis());
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
        (0..100).for_each(|_| assert_eq!(retry.wait(), LONGEST));
        retry.succeeded();
        assert_eq!(retry.wait(), FIRST);
    }
}
