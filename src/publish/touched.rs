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

    /// Rings each bell and wakes sleeping readers by system calls; how many were woken. Empty after.
    pub fn ring(&mut self) -> usize {
        self.ring_with(|session| session.wake())
    }

    /// Rings each bell and hands the sessions whose reader sleeps to `wake`; how many. Empty after.
    pub fn ring_with(&mut self, mut wake: impl FnMut(&Arc<Session>)) -> usize {
        let mut woken = 0;
        for session in self.sessions.drain(..) {
            if session.ring_bell() {
                woken += 1;
                wake(&session);
            }
        }
        woken
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
        assert_eq!(touched.ring(), 0, "nobody sleeps");
        assert!(touched.is_empty());
    }
}
