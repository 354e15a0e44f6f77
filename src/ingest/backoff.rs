//! How long to wait before the next attempt.

use std::time::Duration;

use super::policy::{Series, Wait};

/// Counts failures in a row and turns them into waits. The jitter comes from a seed, so a run can be repeated,
/// while cameras that failed together do not come back together.
///
/// Each [`Series`] counts for itself, so that the first failure of a kind is followed by the first wait of its kind:
/// a camera that refused some connections while it started, and then has no session left, is tried again after
/// seconds. A series begins anew when another kind of failure came between, except that of refused logins: a camera
/// that now refuses the login and now the connection counts every login, and locks out who tries too often.
#[derive(Debug)]
pub(crate) struct Backoff {
    /// Failures of the kind that came last, other than refused logins.
    failures: u32,
    /// Refused logins.
    refused_logins: u32,
    last: Option<Series>,
    random: SplitMix64,
}

impl Backoff {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { failures: 0, refused_logins: 0, last: None, random: SplitMix64(seed) }
    }

    /// Notes a failure of `series`, whose waits are `wait`, and gives the wait that follows it.
    pub(crate) fn next_wait(&mut self, series: Series, wait: &Wait) -> Duration {
        if self.last.replace(series) != Some(series) {
            self.failures = 0;
        }
        let failures = if series == Series::Login { &mut self.refused_logins } else { &mut self.failures };
        let factor = wait.multiplier.max(1).saturating_pow(*failures);
        *failures = failures.saturating_add(1);
        let base = wait.initial.saturating_mul(factor).min(wait.max);
        let jitter = base.saturating_mul(wait.jitter_percent.min(100)) / 100;
        let span_ns = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX / 2).saturating_mul(2);
        let offset = Duration::from_nanos(self.random.below(span_ns.saturating_add(1)));
        // A refused login is never repeated earlier than was promised: cameras count.
        let earliest = if series == Series::Login { base } else { base.saturating_sub(jitter) };
        earliest.saturating_add(offset)
    }

    /// Whether the last failure was an ordinary one: the camera did not refuse anything.
    pub(crate) fn is_ordinary(&self) -> bool {
        self.last == Some(Series::Ordinary)
    }

    /// Forgets earlier failures: the next wait is the first of its series.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
        self.refused_logins = 0;
        self.last = None;
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
    use crate::ingest::policy::Policy;

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
                let wait = backoff.next_wait(Series::Ordinary, &WAIT).as_secs_f64();
                assert!(
                    wait >= expected_s * 0.8 - 1e-6 && wait <= expected_s * 1.2 + 1e-6,
                    "{wait} {expected_s}"
                );
            }
            backoff.reset();
            assert!(backoff.next_wait(Series::Ordinary, &WAIT) <= Duration::from_millis(1200));
        }
    }

    /// The waits in seconds after these failures, without their jitter.
    fn waits(failures: &[Series]) -> Vec<u64> {
        let mut backoff = Backoff::new(1);
        let policy = Policy::default();
        let exact = |series: &Series| {
            let wait = Wait { jitter_percent: 0, ..*policy.wait(*series) };
            backoff.next_wait(*series, &wait).as_secs()
        };
        failures.iter().map(exact).collect()
    }

    #[test]
    fn each_kind_of_failure_begins_with_its_own_first_wait() {
        use Series::{Busy, Login, Ordinary, Unsupported};
        for (other, first) in [(Login, 300), (Busy, 15), (Unsupported, 300)] {
            let after_a_reboot = waits(&[Ordinary, Ordinary, Ordinary, other, other, Ordinary]);
            assert_eq!(after_a_reboot[..4], [1, 2, 4, first], "{other:?}");
            assert_eq!(after_a_reboot[4], (2 * first), "{other:?}");
            assert_eq!(after_a_reboot[5], 1, "{other:?}");
        }
        assert_eq!(waits(&[Busy, Ordinary, Busy, Unsupported, Busy]), [15, 1, 15, 300, 15]);
    }

    #[test]
    fn failures_between_refused_logins_do_not_make_logins_more_frequent() {
        use Series::{Busy, Login, Ordinary};
        assert_eq!(
            waits(&[Login, Ordinary, Login, Busy, Ordinary, Login, Ordinary, Login, Ordinary, Login]),
            [300, 1, 600, 15, 1, 1200, 1, 2400, 1, 3600]
        );
    }

    #[test]
    fn no_login_is_repeated_before_its_time() {
        let policy = Policy::default();
        for seed in 0..200 {
            let mut backoff = Backoff::new(seed);
            for promised_s in [300.0, 600.0, 1200.0, 2400.0, 3600.0, 3600.0] {
                let wait = backoff.next_wait(Series::Login, &policy.retry_auth).as_secs_f64();
                assert!((promised_s..=promised_s * 1.2).contains(&wait), "{wait} {promised_s}");
            }
        }
    }

    #[test]
    fn a_fixed_wait_can_be_asked_for() {
        let five = Duration::from_secs(5);
        let fixed = Wait { initial: five, max: five, multiplier: 1, jitter_percent: 0 };
        let mut backoff = Backoff::new(7);
        assert!((0..20).all(|_| backoff.next_wait(Series::Ordinary, &fixed) == five));
    }

    #[test]
    fn cameras_that_fail_together_come_back_apart() {
        let first = |seed| Backoff::new(seed).next_wait(Series::Ordinary, &WAIT).as_millis();
        let waits: Vec<u128> = (0..100).map(first).collect();
        let distinct: std::collections::BTreeSet<_> = waits.iter().collect();
        assert!(distinct.len() > 60, "{distinct:?}");
    }

    #[test]
    fn no_setting_overflows() {
        let forever =
            Wait { initial: Duration::MAX, max: Duration::MAX, multiplier: u32::MAX, jitter_percent: 100 };
        let mut backoff = Backoff::new(1);
        for _ in 0..100 {
            let wait = Wait { max: Duration::from_secs(u64::MAX / 4), ..forever };
            backoff.next_wait(Series::Ordinary, &wait);
        }
    }
}
