//! The sessions that cameras hold, also for clients that went away without TEARDOWN: what a session limit counts.

/// Who holds which session.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Vec<Held>);

#[derive(Debug, Clone)]
struct Held {
    camera: usize,
    connection: u64,
    id: String,
    /// When the camera forgets it; `None`: its connection is open.
    until_ns: Option<u64>,
}

impl Sessions {
    /// How many sessions of `camera` others than `connection` hold.
    pub(crate) fn others(&mut self, camera: usize, connection: u64, now_ns: u64) -> u64 {
        self.0.retain(|held| held.until_ns.is_none_or(|until_ns| until_ns > now_ns));
        self.0.iter().filter(|held| held.camera == camera && held.connection != connection).count() as u64
    }

    /// SETUP was granted, as session `id`.
    pub(crate) fn begin(&mut self, camera: usize, connection: u64, id: &str) {
        self.end(connection);
        self.0.push(Held { camera, connection, id: id.to_owned(), until_ns: None });
    }

    /// TEARDOWN came on another connection than that of session `id`. False when there is no session whose connection is gone.
    pub(crate) fn end_orphan(&mut self, id: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|held| held.until_ns.is_none() || held.id != id);
        self.0.len() < before
    }

    /// TEARDOWN was granted.
    pub(crate) fn end(&mut self, connection: u64) {
        self.0.retain(|held| held.connection != connection);
    }

    /// The connection is gone: what it holds is forgotten at `until_ns`.
    pub(crate) fn orphan(&mut self, connection: u64, until_ns: u64) {
        let held = self.0.iter_mut().filter(|held| held.connection == connection);
        held.for_each(|held| held.until_ns = Some(until_ns));
    }

    /// The camera has restarted and remembers nothing.
    pub(crate) fn forget(&mut self, camera: usize) {
        self.0.retain(|held| held.camera != camera);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_teardown_or_by_time() {
        let mut sessions = Sessions::default();
        sessions.begin(0, 1, "a");
        sessions.begin(0, 1, "b");
        sessions.begin(1, 2, "c");
        assert_eq!((sessions.others(0, 1, 0), sessions.others(0, 9, 0)), (0, 1));
        sessions.orphan(1, 100);
        assert_eq!(sessions.others(0, 9, 99), 1);
        assert!(!sessions.end_orphan("a") && !sessions.end_orphan("c") && sessions.end_orphan("b"));
        assert_eq!(sessions.others(0, 9, 99), 0);
        sessions.begin(0, 3, "d");
        sessions.orphan(3, 100);
        assert_eq!((sessions.others(0, 9, 99), sessions.others(0, 9, 100)), (1, 0));
        assert!(!sessions.end_orphan("d"));
        sessions.end(2);
        assert_eq!(sessions.others(1, 9, 0), 0);
    }
}
