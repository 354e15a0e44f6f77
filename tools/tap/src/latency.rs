//! A histogram of durations in bounded memory.

use serde::Serialize;

/// Counts durations in buckets that are at most 1/32 wide: percentiles are that exact, the maximum is exact.
#[derive(Debug, Clone)]
pub(crate) struct Latency {
    buckets: Vec<u64>,
    count: u64,
    max_ns: u64,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Latency {
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max_ns: 0 }
    }

    pub(crate) fn record(&mut self, ns: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket(ns)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// Takes over what `other` has recorded.
    pub(crate) fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(count, more)| *count += more);
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// `None` while nothing was recorded.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        (self.count > 0).then(|| Percentiles {
            p50_us: microseconds(self.quantile(500)),
            p99_us: microseconds(self.quantile(990)),
            p999_us: microseconds(self.quantile(999)),
            max_us: microseconds(self.max_ns),
        })
    }

    /// The smallest bucket limit that `per_mille` of all durations do not exceed.
    fn quantile(&self, per_mille: u64) -> u64 {
        let rank = (self.count * per_mille).div_ceil(1000);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        bucket.map_or(self.max_ns, |bucket| upper_limit(bucket).min(self.max_ns))
    }
}

/// Below 32 ns a bucket a nanosecond, above it 32 buckets an octave.
fn bucket(ns: u64) -> usize {
    let octave = ns.max(1).ilog2().saturating_sub(STEP_BITS);
    let step = usize::try_from(ns >> octave).unwrap_or(usize::MAX);
    octave as usize * STEPS + step
}

/// Largest duration in a bucket.
fn upper_limit(bucket: usize) -> u64 {
    let octave = (bucket / STEPS).saturating_sub(1);
    let step = (bucket - octave * STEPS) as u64;
    (step << octave) + ((1 << octave) - 1)
}

#[expect(clippy::cast_precision_loss, reason = "a latency of more than 2^53 ns is 104 days")]
fn microseconds(ns: u64) -> f64 {
    (ns / 100) as f64 / 10.0
}

const STEP_BITS: u32 = 5;
const STEPS: usize = 1 << STEP_BITS;
/// The highest octave starts at bit 63.
const BUCKETS: usize = (64 - STEP_BITS as usize + 1) * STEPS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for ns in (0..1000).chain((10..64).map(|bit| 1 << bit)).chain([u64::MAX]) {
            let bucket = bucket(ns);
            assert!(bucket >= last && bucket < BUCKETS);
            assert!(upper_limit(bucket) >= ns && upper_limit(bucket) - ns <= ns / 32, "{ns}");
            last = bucket;
        }
    }

    #[test]
    fn percentiles_of_a_ramp() {
        let mut latency = Latency::new();
        assert_eq!(latency.percentiles(), None);
        (1..=1000).for_each(|us| latency.record(us * 1000));
        let found = latency.percentiles().unwrap();
        assert!(
            (490.0..520.0).contains(&found.p50_us) && (980.0..=1000.0).contains(&found.p99_us),
            "{found:?}"
        );
        assert_eq!(found.max_us, 1000.0);
    }

    #[test]
    fn a_few_that_are_late_show_in_the_last_per_mille() {
        let mut latency = Latency::new();
        (0..1000).for_each(|unit| latency.record(if unit < 997 { 1_000 } else { 100_000 }));
        let found = latency.percentiles().unwrap();
        assert!(found.p99_us < 2.0 && found.p999_us > 99.0, "{found:?}");
    }

    #[test]
    fn two_added_are_as_one() {
        let (mut both, mut one, mut other) = (Latency::new(), Latency::new(), Latency::new());
        (1..=1000).for_each(|us| both.record(us * 1000));
        (1..=400).for_each(|us| one.record(us * 1000));
        (401..=1000).for_each(|us| other.record(us * 1000));
        one.add(&other);
        assert_eq!(one.percentiles(), both.percentiles());
    }
}
