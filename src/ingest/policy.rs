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
