//! When a reader program that ended is started again.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(30);
/// A program that ran for this long was well: its next wait is the first one again.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// Counts ends in a row, and turns them into waits: 1, 2, 4 … 30 s.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    in_a_row: u32,
}

impl Restarts {
    /// The wait after an end, `ran` after the start.
    pub(super) fn next_wait(&mut self, ran: Duration) -> Duration {
        if ran >= WELL_AFTER {
            self.in_a_row = 0;
        }
        let wait = FIRST.saturating_mul(1_u32.checked_shl(self.in_a_row).unwrap_or(u32::MAX)).min(LONGEST);
        self.in_a_row = self.in_a_row.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_a_program_stays() {
        let mut restarts = Restarts::default();
        let waits: Vec<u64> = (0..7).map(|_| restarts.next_wait(Duration::ZERO).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(restarts.next_wait(WELL_AFTER).as_secs(), 1);
        assert_eq!(restarts.next_wait(WELL_AFTER - Duration::from_secs(1)).as_secs(), 2);
        for _ in 0..100 {
            assert!(restarts.next_wait(Duration::ZERO) <= LONGEST);
        }
    }
}
