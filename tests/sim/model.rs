//! The reference model of a camera's life: which states follow which, for which reasons, and when.

use std::time::Duration;

use vms_media::ingest::{Policy, Reason, State, Status, Wait};
use vms_media::time::{Mono, Now};

use crate::conduct::Blame;
use crate::server::PASSWORD;

/// Longest that an attempt may take, of which the camera draws out each step: addresses, requests, logins, redirects.
const ATTEMPT_MAX: Duration = Duration::from_secs(240);

/// What must hold of one camera's states.
#[derive(Debug)]
pub(crate) struct Model {
    policy: Policy,
    /// How late its calls may come.
    lateness: Duration,
    state: State,
    reason: Reason,
    since: Mono,
    next_attempt: Option<Mono>,
    waits: Waits,
    /// When the newest unit came.
    flowing_at: Mono,
    stop_at: Option<Mono>,
    is_stopped: bool,
    /// The operator asked for what comes now.
    is_asked: bool,
}

/// Failures in a row, by the series that their waits are of.
#[derive(Debug, Default)]
struct Waits {
    last: Option<Series>,
    in_a_row: u32,
    logins: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Series {
    Ordinary,
    Login,
    Busy,
    Unsupported,
}

/// An attempt that failed, for who keeps count over many runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// The wait, in percent of its base.
    pub(crate) wait_percent: f64,
}

impl Model {
    pub(crate) fn new(policy: Policy, lateness: Duration, now: Mono) -> Self {
        Self {
            policy,
            lateness,
            state: State::Pending,
            reason: Reason::None,
            since: now,
            next_attempt: None,
            waits: Waits::default(),
            flowing_at: now,
            stop_at: None,
            is_stopped: false,
            is_asked: false,
        }
    }

    pub(crate) const fn state(&self) -> State {
        self.state
    }

    /// The operator starts it, or starts it again.
    pub(crate) fn start(&mut self) {
        self.waits = Waits::default();
        self.is_asked = true;
    }

    /// The operator ends it.
    pub(crate) fn stop(&mut self, now: Mono) {
        self.stop_at = Some(now);
        self.is_asked = true;
    }

    /// What the operator asked for has been done.
    pub(crate) fn asked_is_done(&mut self) {
        self.is_asked = false;
    }

    /// Units were published.
    pub(crate) fn units_came(&mut self, now: Mono) {
        self.flowing_at = now;
        if self.state == State::Streaming && now >= self.since + self.policy.stable_after {
            self.waits = Waits::default();
        }
    }

    /// The camera is done for good.
    pub(crate) fn stopped(&mut self, now: Mono) {
        let stop_at = self.stop_at.expect("nobody asked it to stop");
        assert!(!self.is_stopped, "it says twice that it has stopped");
        let took = now.since(stop_at);
        assert!(took <= self.policy.teardown_timeout + self.lateness, "it took {took:?} to stop");
        self.is_stopped = true;
    }

    /// The status has changed. `blame` has what was done to the attempt that ended, if one did.
    pub(crate) fn changed(&mut self, now: Now, status: &Status, blame: Blame) -> Option<Failure> {
        let (from, to) = (self.state, status.state);
        let asked = if self.is_asked { " when asked" } else { "" };
        assert!(self.is_legal(from, to), "{from:?} to {to:?}{asked}: {status:?}");
        assert_eq!(status.since, now.wall, "{status:?}");
        let word = format!("{status:?}");
        assert!(!word.contains(PASSWORD), "a secret in {word}");
        self.check_reason(from, status);
        let failure = match to {
            State::Backoff | State::AuthFailed | State::Unsupported => {
                Some(self.failed(now.mono, status, blame))
            }
            State::Connecting => {
                if from != State::Connecting && !self.is_asked {
                    self.check_attempt_begins(from, now.mono);
                }
                None
            }
            State::Stalled => {
                let quiet = now.mono.since(self.flowing_at);
                let bound = self.policy.idle_timeout..=self.policy.idle_timeout + self.lateness;
                assert!(bound.contains(&quiet), "stalled after {quiet:?} without video");
                assert!(blame.allows(status.reason), "nothing was done that explains {status:?}");
                None
            }
            State::Pending | State::Streaming | State::Stopping => None,
        };
        if from != to || self.is_asked {
            self.since = now.mono;
        }
        (self.state, self.reason, self.next_attempt) = (to, status.reason, status.next_attempt);
        failure
    }

    /// What must hold whenever nothing is due.
    pub(crate) fn check(&self, now: Mono) {
        let lasts = now.since(self.since);
        match self.state {
            State::Streaming => {
                let quiet = now.since(self.flowing_at);
                let most = self.policy.idle_timeout + self.lateness;
                assert!(quiet <= most, "called streaming, and no video for {quiet:?}");
            }
            State::Stalled => {
                assert!(lasts <= self.policy.idle_timeout + self.lateness, "stalled for {lasts:?}");
            }
            State::Connecting => assert!(lasts <= ATTEMPT_MAX, "connecting for {lasts:?}"),
            State::Backoff | State::AuthFailed | State::Unsupported => {
                let due = self.next_attempt.unwrap() + self.policy.teardown_timeout + self.lateness;
                assert!(now <= due, "the next attempt was due at {due:?}");
            }
            State::Stopping => {
                let most = self.policy.teardown_timeout + self.lateness;
                assert!(self.is_stopped || lasts <= most, "stopping for {lasts:?}");
            }
            State::Pending => {}
        }
    }

    fn is_legal(&self, from: State, to: State) -> bool {
        use State::{AuthFailed, Backoff, Connecting, Pending, Stalled, Stopping, Streaming, Unsupported};
        match (from, to) {
            (Stopping, _) | (_, Pending) => false,
            (_, Stopping) => self.is_asked,
            (Connecting, Connecting) => true,
            (Pending | Streaming | Stalled, Connecting) => self.is_asked,
            (Backoff | AuthFailed | Unsupported, Connecting) => true,
            (Connecting | Stalled, Streaming) => true,
            (Connecting, Backoff | AuthFailed | Unsupported) => true,
            (Streaming | Stalled, Backoff) | (Streaming, Stalled) => true,
            (Pending | Streaming | Stalled | Backoff | AuthFailed | Unsupported, _)
            | (Connecting, Stalled) => false,
        }
    }

    /// The reason belongs to the state, and words say what it means.
    fn check_reason(&self, from: State, status: &Status) {
        use Reason::{
            AuthRefused, LimitExceeded, NoVideo, NoVideoData, None, Requested, UnsupportedCodec,
            UnsupportedTransport,
        };
        let reason = status.reason;
        let fits = match status.state {
            State::Pending | State::Streaming => reason == None,
            State::Connecting => reason == if self.is_asked { reason } else { self.reason },
            State::Stalled => matches!(reason, NoVideoData | LimitExceeded),
            State::AuthFailed => reason == AuthRefused,
            State::Unsupported => matches!(reason, NoVideo | UnsupportedCodec | UnsupportedTransport),
            State::Stopping => reason == Requested,
            State::Backoff => !matches!(
                reason,
                None | Requested | AuthRefused | NoVideo | UnsupportedCodec | UnsupportedTransport
            ),
        };
        assert!(fits, "{from:?} to {status:?}");
        let has_words = !status.detail.is_empty();
        assert_eq!(has_words, status.state != State::Streaming, "{status:?}");
        let is_planned = matches!(status.state, State::Backoff | State::AuthFailed | State::Unsupported);
        assert_eq!(status.next_attempt.is_some(), is_planned, "{status:?}");
    }

    fn failed(&mut self, now: Mono, status: &Status, blame: Blame) -> Failure {
        assert!(blame.allows(status.reason), "nothing was done that explains {status:?}");
        if self.state == State::Stalled && status.reason == Reason::NoVideoData {
            let lasted = now.since(self.since);
            let bound = self.policy.idle_timeout..=self.policy.idle_timeout + self.lateness;
            assert!(bound.contains(&lasted), "given up {lasted:?} after the stall");
        }
        let (base, jitter) = self.waits.next(status.reason, &self.policy);
        let wait = status.next_attempt.unwrap().since(now);
        let slack = Duration::from_nanos(1);
        // A refused login is never repeated early: there the random part only adds.
        let is_login = matches!(status.reason, Reason::AuthRefused | Reason::Forbidden);
        let bound =
            if is_login { base..=base + 2 * jitter + slack } else { base - jitter..=base + jitter + slack };
        assert!(bound.contains(&wait), "a wait of {wait:?} where {base:?} are due: {:?}", self.waits);
        let wait_percent = 100.0 * wait.as_secs_f64() / base.as_secs_f64();
        Failure { wait_percent }
    }

    /// By itself, a camera is tried again when its wait is over: not before, and not long after.
    fn check_attempt_begins(&self, from: State, now: Mono) {
        let due = self.next_attempt.unwrap_or_else(|| panic!("no attempt was planned in {from:?}"));
        assert!(now >= due, "tried again {:?} early", due.since(now));
        // Where the last word to the camera took longer than the wait.
        let most = due + self.policy.teardown_timeout + self.lateness + self.lateness;
        assert!(now <= most, "tried again {:?} late", now.since(due));
    }
}

impl Waits {
    /// The wait that follows a failure, and how far it may be off.
    fn next(&mut self, reason: Reason, policy: &Policy) -> (Duration, Duration) {
        let series = match reason {
            Reason::AuthRefused | Reason::Forbidden => Series::Login,
            Reason::SessionLimit | Reason::ServiceUnavailable => Series::Busy,
            Reason::NoVideo | Reason::UnsupportedCodec | Reason::UnsupportedTransport => Series::Unsupported,
            Reason::None
            | Reason::ResolveFailed
            | Reason::ConnectRefused
            | Reason::ConnectTimeout
            | Reason::ConnectFailed
            | Reason::NotRtsp
            | Reason::ReplyTimeout
            | Reason::NotFound
            | Reason::RequestRefused
            | Reason::BadSdp
            | Reason::LimitExceeded
            | Reason::NoFirstFrame
            | Reason::NoVideoData
            | Reason::ConnectionClosed
            | Reason::ConnectionLost
            | Reason::InternalError
            | Reason::Requested => Series::Ordinary,
        };
        self.in_a_row = if self.last == Some(series) { self.in_a_row + 1 } else { 0 };
        self.last = Some(series);
        let before = if series == Series::Login { self.logins } else { self.in_a_row };
        self.logins += u32::from(series == Series::Login);
        let wait: &Wait = match series {
            Series::Ordinary => &policy.retry,
            Series::Login => &policy.retry_auth,
            Series::Busy => &policy.retry_busy,
            Series::Unsupported => &policy.retry_unsupported,
        };
        let base = (0..before).fold(wait.initial, |base, _| wait.max.min(base * wait.multiplier));
        (base, base * wait.jitter_percent / 100)
    }
}
