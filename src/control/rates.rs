//! Rates out of counters: how much came over the last seconds.

use std::collections::VecDeque;

use crate::time::Mono;

/// Samples kept, at about one a second.
const SAMPLES: usize = 6;

/// A window over two growing counters.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    samples: VecDeque<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Mono,
    units: u64,
    bytes: u64,
}

impl Rates {
    /// Takes the counters as they were at `at`. Counters that went back begin a new window.
    pub(crate) fn sample(&mut self, at: Mono, units: u64, bytes: u64) {
        if self.samples.back().is_some_and(|last| units < last.units || bytes < last.bytes || at < last.at) {
            self.samples.clear();
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at, units, bytes });
    }

    /// Whether there are two samples.
    pub(crate) fn is_measured(&self) -> bool {
        self.samples.len() > 1
    }

    /// Units a second and bits a second over the window; zero until there are two samples.
    pub(crate) fn per_second(&self) -> (f64, u64) {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else { return (0.0, 0) };
        let micros = last.at.since(first.at).as_micros();
        if micros == 0 {
            return (0.0, 0);
        }
        let units = u32::try_from(last.units - first.units).unwrap_or(u32::MAX);
        let bits = u128::from(last.bytes - first.bytes) * 8 * 1_000_000 / micros;
        (f64::from(units) / last.at.since(first.at).as_secs_f64(), u64::try_from(bits).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn rates_follow_the_last_seconds() {
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(), (0.0, 0));
        for second in 0..60 {
            rates.sample(Mono(second * SECOND), second * 25, second * 500_000);
        }
        assert_eq!(rates.per_second(), (25.0, 4_000_000));
        for second in 60..66 {
            rates.sample(Mono(second * SECOND), 60 * 25, 60 * 500_000);
        }
        assert_eq!(rates.per_second(), (0.0, 0));
        rates.sample(Mono(66 * SECOND), 0, 0);
        assert_eq!(rates.per_second(), (0.0, 0), "a counter that went back is no rate");
    }
}
