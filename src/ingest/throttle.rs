//! How much a camera may send in the long run: a camera without measure must not take the time of the others.
//!
//! ```text
//!                      ┌── limits::CAMERA_BURST_LEN in time ──┐
//!  ────────────────────●──────────────────────────────────────●────────▶ time
//!                     now: open as long as this           paid_at: when all that came would have come at the rate
//! ```
//! A bucket in terms of time (the generic cell rate algorithm, ITU-T I.371): one point moves on with each byte. Pure.

use std::time::Duration;

use crate::limits::CAMERA_BURST_LEN;
use crate::time::Mono;

/// What may come once it is open again, in time: as little as is worth being woken for, so that what comes at once is worked on
/// before others have waited for long.
const PORTION: Duration = Duration::from_millis(20);

/// One camera's, over all its connections.
#[derive(Debug)]
pub(super) struct Throttle {
    /// What a second may bring, in bytes.
    rate: u64,
    /// When everything that came would have come at the rate.
    paid_at: Mono,
    /// Closed until then.
    until: Option<Mono>,
}

impl Throttle {
    /// Open, for a camera that may send `mbit_s` megabits a second, at least 1.
    pub(super) fn new(mbit_s: u32) -> Self {
        Self { rate: rate(mbit_s), paid_at: Mono(0), until: None }
    }

    /// From `now` on the camera may send so many megabits a second. What it owes, it owes in bytes.
    pub(super) fn set_rate(&mut self, now: Mono, mbit_s: u32) {
        let owed = self.bytes(self.paid_at.since(now));
        self.rate = rate(mbit_s);
        self.paid_at = now + self.span(owed);
        self.until = self.until.map(|_| now + self.opens_in(now));
    }

    /// So many bytes came. Returns whether the throttle closes by that.
    pub(super) fn note(&mut self, now: Mono, bytes: usize) -> bool {
        self.paid_at = self.paid_at.max(now) + self.span(bytes);
        let is_over = self.paid_at.since(now) > self.span(CAMERA_BURST_LEN);
        is_over && self.until.replace(now + self.opens_in(now)).is_none()
    }

    /// When it opens, if it is closed.
    pub(super) const fn opens_at(&self) -> Option<Mono> {
        self.until
    }

    /// Opens it, if it is time.
    pub(super) fn open_if_due(&mut self, now: Mono) {
        if self.until.is_some_and(|until| until <= now) {
            self.until = None;
        }
    }

    /// How long it stays closed, if it is.
    fn opens_in(&self, now: Mono) -> Duration {
        (self.paid_at.since(now) + PORTION).saturating_sub(self.span(CAMERA_BURST_LEN))
    }

    /// How many bytes come in so long a time at the rate.
    fn bytes(&self, span: Duration) -> usize {
        usize::try_from(span.as_nanos() * u128::from(self.rate) / 1_000_000_000).unwrap_or(usize::MAX)
    }

    /// How long so many bytes take at the rate.
    fn span(&self, bytes: usize) -> Duration {
        Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / self.rate)
    }
}

/// Bytes a second.
fn rate(mbit_s: u32) -> u64 {
    u64::from(mbit_s.max(1)) * 1_000_000 / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono(1_000_000_000_000);

    /// A flood that is read whenever that is allowed, `portion` bytes at a time: bytes in `of`, and how often it was held back.
    fn flooded(throttle: &mut Throttle, portion: usize, of: Duration) -> (usize, usize) {
        let (mut now, mut bytes, mut closed) = (START, 0, 0);
        while now.since(START) < of {
            throttle.open_if_due(now);
            match throttle.opens_at() {
                Some(until) => now = until,
                None => {
                    bytes += portion;
                    closed += usize::from(throttle.note(now, portion));
                    now = now + Duration::from_micros(10);
                }
            }
        }
        (bytes, closed)
    }

    #[test]
    fn a_flood_gets_the_burst_and_then_the_rate() {
        for portion in [20, 1448, 64 * 1024] {
            let (bytes, closed) = flooded(&mut Throttle::new(100), portion, Duration::from_secs(60));
            let allowed = CAMERA_BURST_LEN + 60 * 12_500_000;
            assert!(
                bytes <= allowed + portion && (portion < 1000 || bytes > allowed - 1_000_000),
                "{portion}: {bytes}"
            );
            assert!(closed <= 60 * 50, "{portion}: {closed} times");
        }
    }

    #[test]
    fn what_keeps_to_the_rate_is_never_held_back_whatever_its_bursts() {
        let mut throttle = Throttle::new(4);
        for second in 0..600 {
            let now = START + Duration::from_secs(second);
            // A whole second's at once, and every minute a backlog.
            let bytes = if second % 60 == 0 { 4_000_000 } else { 250_000 };
            assert!(!throttle.note(now, bytes), "second {second}");
            assert_eq!(throttle.opens_at(), None);
        }
    }

    #[test]
    fn a_debt_is_one_of_bytes_also_at_another_rate() {
        // Closed for the burst at a megabit a second: half a minute.
        let mut throttle = Throttle::new(1);
        assert!(throttle.note(START, CAMERA_BURST_LEN + 12_500));
        throttle.set_rate(START, 100);
        // The 12,500 bytes beyond the burst take 1 ms now.
        let opens_at = START + Duration::from_millis(1) + PORTION;
        assert_eq!(throttle.opens_at(), Some(opens_at));
        // As often as the same is said again.
        (0..1000).for_each(|n| throttle.set_rate(START + Duration::from_micros(n), 100));
        let late = throttle.opens_at().unwrap().since(opens_at);
        assert!(late < Duration::from_millis(1), "{late:?}");

        // And with a lower rate nothing is forgiven.
        let mut throttle = Throttle::new(100);
        assert!(!throttle.note(START, CAMERA_BURST_LEN));
        throttle.set_rate(START, 1);
        let later = START + Duration::from_secs(1);
        assert!(!throttle.note(later, 120_000));
        assert!(throttle.note(later, 10_000), "a second brought 125,000 bytes");
    }

    #[test]
    fn nothing_is_owed_for_a_pause() {
        let mut throttle = Throttle::new(1);
        throttle.note(START, CAMERA_BURST_LEN);
        let later = START + Duration::from_secs(3600);
        assert!(!throttle.note(later, CAMERA_BURST_LEN));
        assert!(throttle.note(later, 1_000));
        // It is told once.
        assert!(!throttle.note(later, 1));
        let opens_at = throttle.opens_at().unwrap();
        throttle.open_if_due(Mono(opens_at.0 - 1));
        assert!(throttle.opens_at().is_some());
        throttle.open_if_due(opens_at);
        assert_eq!(throttle.opens_at(), None);
    }
}
