//! How patient a camera's state machine is: time-outs and back-off, with the defaults.

use std::time::Duration;

use crate::limits::CAMERA_MBIT_S_DEFAULT;

/// Time-outs and waits of one camera. All of them are configurable; the defaults suit cameras on a LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// For the host name to be resolved.
    pub resolve_timeout: Duration,
    /// For the TCP connection to one address.
    pub connect_timeout: Duration,
    /// For the answer to one RTSP request.
    pub reply_timeout: Duration,
    /// From PLAY's answer to the first video packet.
    pub first_frame_timeout: Duration,
    /// Without video before the stream counts as stalled; after the same time again the session is replaced.
    /// Only video counts: a camera that answers keepalives and sends none is stalled.
    pub idle_timeout: Duration,
    /// How often a camera may refuse the credentials in one attempt; from 1. The second allows for a nonce that ran out without the
    /// camera saying so.
    pub login_tries: u32,
    /// For TEARDOWN's answer, when the daemon ends a session.
    pub teardown_timeout: Duration,
    /// Between RTCP receiver reports, which some cameras need as a keepalive.
    pub report_interval: Duration,
    /// Megabits a second that the camera may send in the long run, at least 1. More is read later, and TCP makes the camera wait.
    pub max_mbit_s: u32,
    /// Streaming for this long forgets earlier failures.
    pub stable_after: Duration,
    /// Waits after an ordinary failure.
    pub retry: Wait,
    /// Waits after the camera refused the credentials or what they may see: long, because cameras lock an address out.
    pub retry_auth: Wait,
    /// Waits after the camera said that it has no session left (453, 503).
    pub retry_busy: Wait,
    /// Waits after the camera offered nothing that can be carried.
    pub retry_unsupported: Wait,
}

/// What one stream has otherwise than the daemon's [`Policy`]. What is absent is as there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyChanges {
    /// How long its camera is waited for.
    pub timeouts: TimeoutChanges,
    /// Its [`Policy::retry`]. The other waits are not a stream's to change: the camera asked for them.
    pub retry: WaitChanges,
}

/// Time-outs of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutChanges {
    /// [`Policy::connect_timeout`].
    pub connect: Option<Duration>,
    /// [`Policy::reply_timeout`].
    pub reply: Option<Duration>,
    /// [`Policy::first_frame_timeout`].
    pub first_frame: Option<Duration>,
    /// [`Policy::idle_timeout`].
    pub idle: Option<Duration>,
}

/// A series of waits of one stream. If both ends are given, `initial` is not above `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitChanges {
    /// [`Wait::initial`].
    pub initial: Option<Duration>,
    /// [`Wait::max`].
    pub max: Option<Duration>,
    /// [`Wait::multiplier`].
    pub multiplier: Option<u32>,
    /// [`Wait::jitter_percent`].
    pub jitter_percent: Option<u32>,
}

/// The kinds of failure that have waits of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Series {
    /// [`Policy::retry`].
    Ordinary,
    /// [`Policy::retry_auth`].
    Login,
    /// [`Policy::retry_busy`].
    Busy,
    /// [`Policy::retry_unsupported`].
    Unsupported,
}

impl Policy {
    /// The policy of a stream that has this otherwise.
    pub fn with(&self, changes: &PolicyChanges) -> Self {
        let TimeoutChanges { connect, reply, first_frame, idle } = changes.timeouts;
        Self {
            connect_timeout: connect.unwrap_or(self.connect_timeout),
            reply_timeout: reply.unwrap_or(self.reply_timeout),
            first_frame_timeout: first_frame.unwrap_or(self.first_frame_timeout),
            idle_timeout: idle.unwrap_or(self.idle_timeout),
            retry: self.retry.with(&changes.retry),
            ..self.clone()
        }
    }

    /// The waits of a kind of failure.
    pub(crate) const fn wait(&self, series: Series) -> &Wait {
        match series {
            Series::Ordinary => &self.retry,
            Series::Login => &self.retry_auth,
            Series::Busy => &self.retry_busy,
            Series::Unsupported => &self.retry_unsupported,
        }
    }
}

/// A series of waits: `initial`, `initial × multiplier`, … up to `max`, each moved by up to ± `jitter_percent`
/// (after a refused login: by up to twice that, later only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The first wait.
    pub initial: Duration,
    /// No wait is longer, jitter aside.
    pub max: Duration,
    /// Factor from one wait to the next.
    pub multiplier: u32,
    /// Half-width of the random part, in percent of the wait. After a refused login the random part only adds.
    pub jitter_percent: u32,
}

impl Wait {
    /// The waits of a stream that has this otherwise. An end that it has moves the other along: `max` of 5 s alone, where waits begin
    /// with 15 s, means 5 s. So a change that was good stays good whatever the daemon's own waits become.
    pub(crate) fn with(self, changes: &WaitChanges) -> Self {
        let WaitChanges { initial, max, multiplier, jitter_percent } = *changes;
        Self {
            initial: initial.unwrap_or_else(|| max.map_or(self.initial, |max| max.min(self.initial))),
            max: max.unwrap_or_else(|| initial.map_or(self.max, |initial| initial.max(self.max))),
            multiplier: multiplier.unwrap_or(self.multiplier),
            jitter_percent: jitter_percent.unwrap_or(self.jitter_percent),
        }
    }

    const fn doubling(initial_s: u64, max_s: u64) -> Self {
        Self {
            initial: Duration::from_secs(initial_s),
            max: Duration::from_secs(max_s),
            multiplier: 2,
            jitter_percent: 20,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            resolve_timeout: Duration::from_secs(6),
            connect_timeout: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(5),
            first_frame_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(5),
            login_tries: 2,
            teardown_timeout: Duration::from_secs(1),
            report_interval: Duration::from_secs(5),
            max_mbit_s: CAMERA_MBIT_S_DEFAULT,
            stable_after: Duration::from_secs(10),
            retry: Wait::doubling(1, 30),
            retry_auth: Wait { jitter_percent: 10, ..Wait::doubling(300, 3600) },
            retry_busy: Wait::doubling(15, 60),
            retry_unsupported: Wait::doubling(300, 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_stream_that_has_nothing_otherwise_has_the_daemons_policy() {
        let policy = Policy { idle_timeout: s(77), ..Policy::default() };
        assert_eq!(policy.with(&PolicyChanges::default()), policy);
    }

    #[test]
    fn each_change_changes_its_own_and_nothing_else() {
        let timeouts = TimeoutChanges {
            connect: Some(s(11)),
            reply: Some(s(12)),
            first_frame: Some(s(13)),
            idle: Some(s(14)),
        };
        let retry = WaitChanges {
            initial: Some(s(5)),
            max: Some(s(6)),
            multiplier: Some(1),
            jitter_percent: Some(0),
        };
        let expected = Policy {
            connect_timeout: s(11),
            reply_timeout: s(12),
            first_frame_timeout: s(13),
            idle_timeout: s(14),
            retry: Wait { initial: s(5), max: s(6), multiplier: 1, jitter_percent: 0 },
            ..Policy::default()
        };
        assert_eq!(Policy::default().with(&PolicyChanges { timeouts, retry }), expected);
    }

    #[test]
    fn an_end_of_the_waits_moves_the_other_along() {
        let ends = |initial: Option<u64>, max: Option<u64>| {
            let changes = WaitChanges { initial: initial.map(s), max: max.map(s), ..WaitChanges::default() };
            let wait = Wait::doubling(15, 60).with(&changes);
            (wait.initial.as_secs(), wait.max.as_secs())
        };
        assert_eq!(ends(None, None), (15, 60));
        assert_eq!((ends(Some(5), None), ends(None, Some(90))), ((5, 60), (15, 90)));
        assert_eq!((ends(Some(90), None), ends(None, Some(5))), ((90, 90), (5, 5)));
        assert_eq!(ends(Some(5), Some(5)), (5, 5));
    }
}
