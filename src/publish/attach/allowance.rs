//! How often something may still happen: a [`Rate`] with its history.

use std::time::Duration;

use crate::limits::Rate;
use crate::time::Mono;

/// Allows what a [`Rate`] allows.
///
/// Invariant: as if each time used had taken the rate's interval, all of them would be over at `used_until`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    rate: Rate,
    used_until: Mono,
}

impl Allowance {
    /// All of `rate`, unused.
    pub(crate) const fn new(rate: Rate) -> Self {
        Self { rate, used_until: Mono(0) }
    }

    /// Uses one time.
    ///
    /// # Errors
    /// When there is none left: when there will be.
    pub(crate) fn take(&mut self, now: Mono) -> Result<(), Mono> {
        let Rate { burst, interval } = self.rate;
        let used_until = self.used_until.max(now) + interval;
        let over = used_until.since(now).saturating_sub(interval * burst.max(1));
        if over > Duration::ZERO {
            return Err(now + over);
        }
        self.used_until = used_until;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_then_a_burst_again() {
        let mut allowance = Allowance::new(Rate::per_second(3, 10));
        let mut now = Mono(1_000_000_000);
        for _ in 0..2 {
            assert_eq!([(); 3].map(|()| allowance.take(now)), [Ok(()); 3]);
            for _ in 0..5 {
                let later = allowance.take(now).unwrap_err();
                assert_eq!(later - now, Duration::from_millis(100));
                now = later;
                assert_eq!(allowance.take(now), Ok(()));
            }
            now = now + Duration::from_secs(3600);
        }
    }
}
