//! The bells that a shard rings at the end of a turn: one a session that it wrote for, whatever the number of streams.

use std::sync::Arc;

use ring_abi::producer::Session;

use crate::time::Mono;

/// Collects the sessions of a turn, then rings them. A reader that asked for a bell interval is woken at most once in that
/// time; its bell is rung all the same.
#[derive(Debug, Default)]
pub struct Bells {
    /// To be rung, in the order of first touch. A daemon has a handful, so a scan beats a map.
    touched: Vec<Arc<Session>>,
    /// Sessions with an interval that were woken less than that ago.
    resting: Vec<Resting>,
}

#[derive(Debug)]
struct Resting {
    session: Arc<Session>,
    until: Mono,
    /// The reader slept when the bell was rung meanwhile.
    is_due: bool,
}

impl Bells {
    /// No session.
    pub const fn new() -> Self {
        Self { touched: Vec::new(), resting: Vec::new() }
    }

    /// Adds `session` to those of this turn, unless it is there.
    pub fn touch(&mut self, session: &Arc<Session>) {
        if !self.touched.iter().any(|known| known.number() == session.number()) {
            self.touched.push(Arc::clone(session));
        }
    }

    /// Whether no session is to be rung or woken.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.resting.is_empty()
    }

    /// Rings the bells of this turn and wakes the readers that sleep and are to be woken: through `wake_waiter`, given the
    /// bell's address, or by a system call where that says no. Returns how many system calls it took.
    pub fn ring(&mut self, now: Mono, mut wake_waiter: impl FnMut(*const u32) -> bool) -> usize {
        let mut calls = 0;
        let mut wake = |session: &Session| {
            if !session.bell_address().is_some_and(&mut wake_waiter) {
                calls += 1;
                session.wake();
            }
        };
        self.resting.retain_mut(|resting| {
            if resting.until > now {
                return true;
            }
            resting.until = now + resting.session.bell_interval();
            let is_due = std::mem::take(&mut resting.is_due);
            if is_due {
                wake(&resting.session);
            }
            is_due
        });
        for session in self.touched.drain(..) {
            if !session.ring_bell() {
                continue;
            }
            if let Some(resting) = self.resting.iter_mut().find(|it| it.session.number() == session.number())
            {
                resting.is_due = true;
                continue;
            }
            wake(&session);
            let interval = session.bell_interval();
            if !interval.is_zero() {
                self.resting.push(Resting { session, until: now + interval, is_due: false });
            }
        }
        calls
    }

    /// When [`Bells::ring`] is to be called next, though no session be touched.
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.resting.iter().filter(|resting| resting.is_due).map(|resting| resting.until).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(10);

    #[test]
    fn a_session_is_rung_once_a_turn() {
        let session = Session::create(7, 1, 4).unwrap();
        let mut bells = Bells::new();
        bells.touch(&session);
        bells.touch(&Arc::clone(&session));
        assert_eq!(Arc::strong_count(&session), 2);
        assert_eq!(bells.ring(Mono(1), |_| panic!("nobody sleeps")), 0);
        assert!(bells.is_empty() && bells.poll_timeout().is_none());
    }

    #[test]
    fn a_sleeper_is_woken_each_turn_or_by_a_system_call() {
        let session = sleeper(Duration::ZERO);
        let mut bells = Bells::new();
        for (can_wake, calls) in [(true, 0), (false, 1), (true, 0)] {
            bells.touch(&session);
            let mut asked = 0;
            let count = |_| {
                asked += 1;
                can_wake
            };
            assert_eq!(bells.ring(Mono(1), count), calls);
            assert!(asked == 1 && bells.is_empty());
        }
    }

    #[test]
    fn a_sleeper_with_an_interval_is_woken_at_its_end_and_its_bell_is_never_held_back() {
        let session = sleeper(INTERVAL);
        let mut bells = Bells::new();
        let at = |ms: u64| Mono(1) + Duration::from_millis(ms);
        let mut wakes = Vec::new();
        // A turn each millisecond with something for it, then none.
        for ms in 0..60 {
            if ms < 25 {
                bells.touch(&session);
            } else if bells.poll_timeout().is_none_or(|due| due > at(ms)) {
                continue;
            }
            bells.ring(at(ms), |_| {
                wakes.push(ms);
                true
            });
            assert!(bells.touched.is_empty());
        }
        assert_eq!(wakes, [0, 10, 20, 30], "and the last unit is told of");
        assert_eq!(bells.poll_timeout(), None);
        bells.ring(at(100), |_| panic!("nothing was written"));
        assert!(bells.is_empty() && Arc::strong_count(&session) == 1, "it is let go of");
        bells.touch(&session);
        bells.ring(at(101), |_| {
            wakes.push(101);
            true
        });
        assert_eq!(wakes.last(), Some(&101), "who was not woken for long is woken at once");
    }

    /// A session whose reader has said that it sleeps.
    fn sleeper(interval: Duration) -> Arc<Session> {
        let session = Session::with_features(7, 1, 4, 0, interval).unwrap();
        let [_, cursor] = session.fds();
        rustix::io::pwrite(cursor, &1_u32.to_le_bytes(), 128).unwrap();
        session
    }
}
