//! How long to wait before the next attempt.

use std::time::Duration;

use super::policy::Wait;

/// Counts failures in a row and turns them into waits. The jitter comes from a seed, so a run can be repeated,
/// while cameras that failed together do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    random: SplitMix64,
}

impl Backoff {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { failures: 0, random: SplitMix64(seed) }
    }

    /// Notes a failure and gives the wait that follows it.
    pub(crate) fn next_wait(&mut self, wait: &Wait) -> Duration {
        let factor = wait.multiplier.max(1).saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let base = wait.initial.saturating_mul(factor).min(wait.max);
        let jitter = base.saturating_mul(wait.jitter_percent.min(100)) / 100;
        let span_ns = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX / 2).saturating_mul(2);
        let offset = Duration::from_nanos(self.random.below(span_ns.saturating_add(1)));
        base.saturating_sub(jitter) + offset
    }

    /// Forgets earlier failures: the next wait is the first of its series.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// A number for things that want one but are no secret, such as a digest's client nonce.
    pub(crate) const fn draw(&mut self) -> u64 {
        self.random.next()
    }
}

/// Steele, Lea and Flood's SplitMix64: good enough to spread retries, and the same on every machine.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; `bound` of 0 gives 0.
    const fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: a bias of bound / 2^64 does not matter to a wait.
        let product = self.next() as u128 * bound as u128;
        (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Wait = Wait {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(30),
        multiplier: 2,
        jitter_percent: 20,
    };

    #[test]
    fn waits_double_to_the_maximum_within_the_jitter() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            for expected_s in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] {
                let wait = backoff.next_wait(&WAIT).as_secs_f64();
                assert!(
                    wait >= expected_s * 0.8 - 1e-6 && wait <= expected_s * 1.2 + 1e-6,
                    "{wait} {expected_s}"
                );
            }
            backoff.reset();
            assert!(backoff.next_wait(&WAIT) <= Duration::from_millis(1200));
        }
    }

    #[test]
    fn cameras_that_fail_together_come_back_apart() {
        let waits: Vec<u128> = (0..100).map(|seed| Backoff::new(seed).next_wait(&WAIT).as_millis()).collect();
        let distinct: std::collections::BTreeSet<_> = waits.iter().collect();
        assert!(distinct.len() > 60, "{distinct:?}");
    }

    #[test]
    fn no_setting_overflows() {
        let forever =
            Wait { initial: Duration::MAX, max: Duration::MAX, multiplier: u32::MAX, jitter_percent: 100 };
        let mut backoff = Backoff::new(1);
        for _ in 0..100 {
            backoff.next_wait(&Wait { max: Duration::from_secs(u64::MAX / 4), ..forever });
        }
    }
}
