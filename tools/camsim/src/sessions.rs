//! The sessions that cameras hold, also for clients that went away without TEARDOWN: what a session limit counts.

/// Who holds which session.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Vec<Held>);

#[derive(Debug, Clone, Copy)]
struct Held {
    camera: usize,
    connection: u64,
    /// When the camera forgets it; `None`: its connection is open.
    until_ns: Option<u64>,
}

impl Sessions {
    /// How many sessions of `camera` others than `connection` hold.
    pub(crate) fn others(&mut self, camera: usize, connection: u64, now_ns: u64) -> u64 {
        self.0.retain(|held| held.until_ns.is_none_or(|until_ns| until_ns > now_ns));
        self.0.iter().filter(|held| held.camera == camera && held.connection != connection).count() as u64
    }

    /// SETUP was granted.
    pub(crate) fn begin(&mut self, camera: usize, connection: u64) {
        self.end(connection);
        self.0.push(Held { camera, connection, until_ns: None });
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
        sessions.begin(0, 1);
        sessions.begin(0, 1);
        sessions.begin(1, 2);
        assert_eq!((sessions.others(0, 1, 0), sessions.others(0, 9, 0)), (0, 1));
        sessions.orphan(1, 100);
        assert_eq!((sessions.others(0, 9, 99), sessions.others(0, 9, 100)), (1, 0));
        sessions.end(2);
        assert_eq!(sessions.others(1, 9, 0), 0);
    }
}
