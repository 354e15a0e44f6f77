//! The sessions that a shard wrote for in one turn, each once.

use std::sync::Arc;

use ring_abi::producer::Session;

/// Collects sessions, then rings their bells: one bump and at most one wake a session and turn, whatever the number of streams.
#[derive(Debug, Default)]
pub struct TouchedSessions {
    /// In the order of first touch. A daemon has a handful, so a scan beats a map.
    sessions: Vec<Arc<Session>>,
}

impl TouchedSessions {
    /// An empty collection.
    pub const fn new() -> Self {
        Self { sessions: Vec::new() }
    }

    /// Adds `session` unless it is there.
    pub fn insert(&mut self, session: &Arc<Session>) {
        if !self.sessions.iter().any(|known| known.number() == session.number()) {
            self.sessions.push(Arc::clone(session));
        }
    }

    /// Whether no session was touched.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Rings each bell and wakes the sleeping readers: through `wake_waiter`, given the bell's address, or by a system call
    /// where that says no. Returns how many system calls it took. Empty after.
    pub fn ring(&mut self, mut wake_waiter: impl FnMut(*const u32) -> bool) -> usize {
        let mut calls = 0;
        for session in self.sessions.drain(..) {
            if session.ring_bell() && !session.bell_address().is_some_and(&mut wake_waiter) {
                calls += 1;
                session.wake();
            }
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_rung_once_a_turn() {
        let session = Session::create(7, 1, 4).unwrap();
        let mut touched = TouchedSessions::new();
        touched.insert(&session);
        touched.insert(&Arc::clone(&session));
        assert_eq!(Arc::strong_count(&session), 2);
        assert_eq!(touched.ring(|_| panic!("nobody sleeps")), 0);
        assert!(touched.is_empty());
    }
}
