//! How long a turn may gather before it is worth waking for: the trade of latency for processor time.
//!
//! - Few wake-ups: none. A byte that comes is worked on at once.
//! - A unit is incomplete: up to 200 µs, because the rest of it is on its way and nobody can use the half.
//! - More than 2,000 wake-ups a second: a window that an integral controller widens until they are fewer, at most
//!   the configured latency. Who allows more than 500 µs wants fewer: one wake-up in the time that was allowed.

use std::time::Duration;

use crate::time::Mono;

/// Longest hold for the rest of a unit.
const UNIT_HOLD: Duration = Duration::from_micros(200);
/// Mean time between wake-ups that the window steers to, unless more latency is allowed.
const INTERVAL: Duration = Duration::from_micros(500);
/// Wake-ups between two corrections of the window.
const WAKEUPS: u32 = 32;

/// The window and what it is steered by.
#[derive(Debug)]
pub(super) struct Pacing {
    latency: Duration,
    /// Mean time between wake-ups to steer to.
    interval: Duration,
    window: Duration,
    wakeups: u32,
    since: Option<Mono>,
}

impl Pacing {
    /// Gathers for `latency` at most; zero: never.
    pub(super) const fn new(latency: Duration) -> Self {
        let interval = if latency.as_nanos() > INTERVAL.as_nanos() { latency } else { INTERVAL };
        Self { latency, interval, window: Duration::ZERO, wakeups: 0, since: None }
    }

    /// How long to gather in the wait that ends the turn begun at `now`.
    pub(super) fn hold(&mut self, now: Mono, is_unit_open: bool) -> Duration {
        self.count(now);
        let unit = if is_unit_open { UNIT_HOLD } else { Duration::ZERO };
        self.window.max(unit).min(self.latency)
    }

    fn count(&mut self, now: Mono) {
        let since = *self.since.get_or_insert(now);
        self.wakeups += 1;
        if self.wakeups > WAKEUPS {
            self.correct(now.since(since) / WAKEUPS);
            self.wakeups = 1;
            self.since = Some(now);
        }
    }

    /// A quarter of the error, so that it settles within a tenth of a second and does not swing.
    fn correct(&mut self, mean: Duration) {
        self.window = (self.window + self.interval / 4).saturating_sub(mean / 4).min(self.latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wake-ups every `gap` or, when held longer, as often as the hold lets through. Returns the last hold.
    fn run(pacing: &mut Pacing, gap_us: u64, wakeups: u32) -> Duration {
        let mut now = pacing.since.unwrap_or(Mono(1));
        let mut hold = Duration::ZERO;
        for _ in 0..wakeups {
            now = now + hold + Duration::from_micros(gap_us);
            hold = pacing.hold(now, false);
        }
        hold
    }

    #[test]
    fn a_quiet_shard_never_holds() {
        let mut pacing = Pacing::new(Duration::from_micros(500));
        assert_eq!(run(&mut pacing, 1000, 1000), Duration::ZERO);
    }

    #[test]
    fn a_busy_shard_settles_at_the_interval_and_lets_go_again() {
        for (latency_us, expected) in
            [(500, 350..=450), (1000, 850..=950), (5000, 4850..=4950), (200, 200..=200)]
        {
            let mut pacing = Pacing::new(Duration::from_micros(latency_us));
            let hold = run(&mut pacing, 100, 4000);
            assert!(expected.contains(&hold.as_micros()), "{latency_us}: {hold:?}");
            assert_eq!(run(&mut pacing, 20_000, 400), Duration::ZERO);
        }
    }

    #[test]
    fn the_configured_latency_bounds_every_hold() {
        let mut pacing = Pacing::new(Duration::from_micros(50));
        assert_eq!(run(&mut pacing, 1, 2000), Duration::from_micros(50));
        assert_eq!(pacing.hold(Mono(1 << 40), true), Duration::from_micros(50));
        assert_eq!(Pacing::new(Duration::ZERO).hold(Mono(1), true), Duration::ZERO);
        assert_eq!(Pacing::new(Duration::from_millis(1)).hold(Mono(1), true), UNIT_HOLD);
    }
}
