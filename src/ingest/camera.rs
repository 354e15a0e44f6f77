//! One camera: from "start" to "stop", through every connection, failure and wait between them.
//!
//! ```text
//!          ┌─────────────────────────── wait ends ───────────────────────────┐
//!          ▼                                                                 │
//!  Idle ▶ Resolving ▶ Connecting ▶ Connected (Negotiating ▶ Playing) ──▶ Waiting ──▶ …
//!                                     │                      failure ▲ ▲
//!                                     │ stop, or a failure that      │ │ any failure of any phase
//!                                     ▼ the camera can be told       │
//!                                  Leaving (TEARDOWN) ───────────────┴─▶ Stopped
//! ```
//! This file is the coordinator: it moves between phases and keeps the [`Status`] true. What happens on a
//! connection is [`Connection`]'s, what a failure means is [`Failure`]'s.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::backoff::Backoff;
use super::connection::{Connection, Progress};
use super::failure::{ConnectFailure, Failure, PeerClose};
use super::policy::Policy;
use super::state::{Reason, State, Status};
use super::stats::CameraStats;
use super::throttle::Throttle;
use crate::codec::AccessUnitSink;
use crate::limits::{ADDRESSES_MAX, REDIRECTS_MAX};
use crate::rtp::MediaClock;
use crate::rtsp::{CameraUrl, Credentials, Leftover, Scheme, Session, SessionError};
use crate::time::{Mono, Now};

/// What a camera is and how it is treated.
#[derive(Debug)]
pub struct CameraConfig {
    /// Where it is.
    pub url: CameraUrl,
    /// Who we are to it.
    pub credentials: Option<Credentials>,
    /// Time-outs and waits.
    pub policy: Policy,
}

/// What the camera asks of its surroundings.
#[derive(Debug, PartialEq, Eq)]
pub enum Output<'a> {
    /// Resolve a host name and answer with [`Camera::on_resolved`] and the same `attempt`.
    Resolve {
        /// The name.
        host: &'a str,
        /// The port of the addresses.
        port: u16,
        /// To be given back.
        attempt: u64,
    },
    /// Open a TCP connection and answer with [`Camera::on_connected`] or [`Camera::on_connect_failed`].
    Connect(SocketAddr),
    /// Send these bytes on the connection.
    Send(&'a [u8]),
    /// Close the connection, or give up opening it. No answer is expected, nor understood.
    Close,
    /// [`Camera::status`] has changed.
    StatusChanged,
    /// After [`Camera::stop`]: the camera is done and may be dropped.
    Stopped,
}

/// One camera's state machine. See the module for its shape.
///
/// Calls that do not fit the phase (a late answer, say) do nothing.
#[derive(Debug)]
pub struct Camera {
    config: CameraConfig,
    /// Where the camera is now: the configured URL, or where it redirected us to.
    target: CameraUrl,
    phase: Phase,
    status: Status,
    /// Why the last attempt failed, until video flows again.
    trouble: String,
    backoff: Backoff,
    attempt: u64,
    redirects: usize,
    /// Whether `target` may be told our credentials: not after a redirect to another host.
    may_log_in: bool,
    /// What the connection before may have left at the camera, and at which.
    leftover: Option<(CameraUrl, Leftover)>,
    sessions: u64,
    /// Goes on over all connections, so that timelines are numbered through.
    clock: MediaClock,
    stats: CameraStats,
    /// Goes on over all connections, so that nothing is gained by hanging up.
    throttle: Throttle,
    requests: VecDeque<Request>,
    /// Bytes that [`Output::Send`] lends; swapped with the connection's outbox.
    sending: Vec<u8>,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Resolving {
        until: Mono,
    },
    Connecting {
        until: Mono,
        others: VecDeque<SocketAddr>,
    },
    Connected(Box<Connection>),
    /// TEARDOWN is on its way: a camera that holds a session for us may have none left for the next attempt.
    Leaving {
        connection: Box<Connection>,
        then: Then,
    },
    Waiting {
        until: Mono,
    },
    Stopped,
}

/// What follows when the camera has been left.
#[derive(Clone, Copy, Debug)]
enum Then {
    Wait { until: Mono },
    Begin,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Resolve,
    Connect(SocketAddr),
    Close,
    StatusChanged,
    Stopped,
}

impl Camera {
    /// A camera that has not been started. `seed` spreads its retries and feeds its client nonces.
    pub fn new(config: CameraConfig, seed: u64, now: Now) -> Self {
        Self {
            target: config.url.clone(),
            throttle: Throttle::new(config.policy.max_mbit_s),
            config,
            phase: Phase::Idle,
            status: Status {
                state: State::Pending,
                reason: Reason::None,
                detail: String::new(),
                since: now.wall,
                next_attempt: None,
            },
            trouble: String::new(),
            backoff: Backoff::new(seed),
            attempt: 0,
            redirects: 0,
            may_log_in: true,
            leftover: None,
            sessions: 0,
            clock: MediaClock::new(),
            stats: CameraStats::default(),
            requests: VecDeque::with_capacity(8),
            sending: Vec::new(),
        }
    }

    /// Begins the first attempt, or the next one at once: the operator's "restart". A camera that holds a session for us is told
    /// first that it ends, and has the policy's `teardown_timeout` to answer: it may have none left for the next attempt.
    pub fn start(&mut self, now: Now, sink: &mut impl AccessUnitSink) {
        self.backoff.reset();
        if let Phase::Connected(connection) = &mut self.phase {
            connection.end_media(now, &mut self.stats, sink);
        }
        if let Phase::Leaving { then, .. } = &mut self.phase {
            *then = Then::Begin;
            self.say_leaving(now);
        } else if let Some(connection) = self.take_session() {
            self.say_leaving(now);
            self.leave(now, connection, Then::Begin);
        } else {
            self.left(now, Then::Begin);
        }
    }

    /// There is reason to think that the camera is back: if the next attempt waits for an ordinary failure's time, it is
    /// due now. Waits after refusals stay: the camera asked for them.
    pub fn hasten(&mut self, now: Now) {
        if let Phase::Waiting { until } = &mut self.phase
            && *until > now.mono
            && self.backoff.is_ordinary()
        {
            *until = now.mono;
            self.status.next_attempt = Some(now.mono);
            self.tell_status();
        }
    }

    /// Changes how patient this is with its camera. What is being waited for keeps its end: the idle time-out holds from the next
    /// access unit on, that of replies from the next connection on, the others from the next wait of their kind on.
    pub fn set_policy(&mut self, now: Now, policy: Policy) {
        if let Phase::Connected(connection) = &mut self.phase {
            connection.set_policy(&policy);
        }
        self.throttle.set_rate(now.mono, policy.max_mbit_s);
        self.config.policy = policy;
    }

    /// Ends the session politely; [`Output::Stopped`] follows within the policy's `teardown_timeout`.
    pub fn stop(&mut self, now: Now, sink: &mut impl AccessUnitSink) {
        self.enter_state(
            now,
            State::Stopping,
            Reason::Requested,
            "the stream is being torn down".to_owned(),
            None,
        );
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Connected(mut connection) => {
                connection.end_media(now, &mut self.stats, sink);
                self.leave(now, connection, Then::Stop);
            }
            Phase::Leaving { connection, .. } => self.phase = Phase::Leaving { connection, then: Then::Stop },
            phase @ (Phase::Idle
            | Phase::Resolving { .. }
            | Phase::Connecting { .. }
            | Phase::Waiting { .. }
            | Phase::Stopped) => {
                self.phase = phase;
                self.finish(now);
            }
        }
    }

    /// Addresses for the name that [`Output::Resolve`] gave, or why there are none.
    pub fn on_resolved(&mut self, now: Now, attempt: u64, answer: Result<Vec<SocketAddr>, String>) {
        if attempt != self.attempt || !matches!(self.phase, Phase::Resolving { .. }) {
            return;
        }
        match answer {
            Ok(addresses) => self.connect(now, addresses.into_iter().take(ADDRESSES_MAX).collect(), None),
            Err(why) => self.fail(now, Failure::Resolve { why }),
        }
    }

    /// The connection that [`Output::Connect`] asked for is up.
    pub fn on_connected(&mut self, now: Now) {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        let clock = std::mem::take(&mut self.clock);
        let seed = self.backoff.draw();
        let credentials = self.config.credentials.as_ref().filter(|_| self.may_log_in);
        let mut connection =
            Connection::open(now, &self.target, credentials, &self.config.policy, clock, seed);
        // Half a key to a session: not for another host.
        let leftover = self.leftover.take_if(|(url, _)| url.is_same_host(&self.target));
        leftover.into_iter().for_each(|(_, leftover)| connection.set_leftover(leftover));
        self.phase = Phase::Connected(Box::new(connection));
        self.settle(now);
    }

    /// The connection that [`Output::Connect`] asked for did not come up. The next address is tried, if any.
    pub fn on_connect_failed(&mut self, now: Now, failure: ConnectFailure) {
        if let Phase::Connecting { others, .. } = &mut self.phase {
            let others = std::mem::take(others);
            // There is no connection that could be closed.
            self.phase = Phase::Idle;
            self.connect(now, others, Some(Failure::Connect(failure)));
        }
    }

    /// Bytes from the camera, in any portions. See [`Self::is_throttled`].
    pub fn on_bytes(&mut self, now: Now, bytes: &[u8], sink: &mut impl AccessUnitSink) {
        self.stats.throttled += u64::from(self.throttle.note(now.mono, bytes.len()));
        if let Phase::Connected(connection) | Phase::Leaving { connection, .. } = &mut self.phase {
            connection.receive(now, bytes, &mut self.stats, sink);
            self.settle(now);
        }
    }

    /// The connection ended from outside.
    pub fn on_closed(&mut self, now: Now, how: PeerClose, sink: &mut impl AccessUnitSink) {
        if let Phase::Connected(connection) | Phase::Leaving { connection, .. } = &mut self.phase {
            connection.peer_closed(now, how, &mut self.stats, sink);
            self.settle(now);
        }
    }

    /// Something in the daemon went wrong at this camera, and was caught: the stream starts anew. The caller aborts
    /// the open unit.
    pub fn on_internal_error(&mut self, now: Now) {
        self.fail(now, Failure::Internal);
    }

    /// Whether no more is to be read from the connection, until a [`Self::handle_timeout`] that [`Self::poll_timeout`] asks for:
    /// the camera has sent more than it may. Bytes that were read already are still taken.
    pub const fn is_throttled(&self) -> bool {
        self.throttle.opens_at().is_some()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Mono> {
        [self.phase_timeout(), self.throttle.opens_at()].into_iter().flatten().min()
    }

    fn phase_timeout(&self) -> Option<Mono> {
        match &self.phase {
            Phase::Idle | Phase::Stopped => None,
            Phase::Resolving { until } | Phase::Connecting { until, .. } | Phase::Waiting { until } => {
                Some(*until)
            }
            Phase::Connected(connection) | Phase::Leaving { connection, .. } => connection.poll_timeout(),
        }
    }

    /// Does what is due at `now`; nothing if nothing is.
    pub fn handle_timeout(&mut self, now: Now, sink: &mut impl AccessUnitSink) {
        self.throttle.open_if_due(now.mono);
        if self.phase_timeout().is_none_or(|due| now.mono < due) {
            return;
        }
        match &mut self.phase {
            Phase::Idle | Phase::Stopped => {}
            Phase::Resolving { .. } => self.fail(now, Failure::ResolveTimeout),
            Phase::Connecting { others, .. } => {
                let others = std::mem::take(others);
                self.disconnect(now);
                self.connect(now, others, Some(Failure::Connect(ConnectFailure::TimedOut)));
            }
            Phase::Waiting { .. } => self.begin_attempt(now),
            Phase::Connected(connection) | Phase::Leaving { connection, .. } => {
                connection.handle_timeout(now, &mut self.stats, sink);
                self.settle(now);
            }
        }
    }

    /// What to do next, until `None`.
    pub fn poll_output(&mut self) -> Option<Output<'_>> {
        match self.requests.pop_front() {
            Some(Request::Resolve) => Some(Output::Resolve {
                host: self.target.host(),
                port: self.target.port(),
                attempt: self.attempt,
            }),
            Some(Request::Connect(address)) => Some(Output::Connect(address)),
            Some(Request::Close) => Some(Output::Close),
            Some(Request::StatusChanged) => Some(Output::StatusChanged),
            Some(Request::Stopped) => Some(Output::Stopped),
            None => {
                let (Phase::Connected(connection) | Phase::Leaving { connection, .. }) = &mut self.phase
                else {
                    return None;
                };
                self.sending.clear();
                connection.take_transmit(&mut self.sending);
                (!self.sending.is_empty()).then_some(Output::Send(&self.sending))
            }
        }
    }

    /// The state, with its reason.
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// Counters since the camera was made.
    pub const fn stats(&self) -> &CameraStats {
        &self.stats
    }

    /// Whether the next call ([`Self::start`] for a new camera, [`Self::handle_timeout`] otherwise) begins an attempt.
    pub fn is_about_to_begin(&self, now: Now) -> bool {
        match self.phase {
            Phase::Idle => true,
            Phase::Waiting { until } => until <= now.mono,
            Phase::Resolving { .. }
            | Phase::Connecting { .. }
            | Phase::Connected(_)
            | Phase::Leaving { .. }
            | Phase::Stopped => false,
        }
    }

    /// Whether the camera has never been started.
    pub const fn is_new(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// Whether an attempt is under way that has brought no video yet.
    pub const fn is_attempting(&self) -> bool {
        match self.phase {
            Phase::Resolving { .. } | Phase::Connecting { .. } => true,
            Phase::Connected(_) | Phase::Leaving { then: Then::Begin, .. } => {
                matches!(self.status.state, State::Connecting)
            }
            Phase::Idle | Phase::Waiting { .. } | Phase::Leaving { .. } | Phase::Stopped => false,
        }
    }

    /// What was agreed with the camera, while there is a connection.
    pub fn session(&self) -> Option<&Session> {
        match &self.phase {
            Phase::Connected(connection) | Phase::Leaving { connection, .. } => Some(connection.session()),
            Phase::Idle
            | Phase::Resolving { .. }
            | Phase::Connecting { .. }
            | Phase::Waiting { .. }
            | Phase::Stopped => None,
        }
    }

    /// Whether an access unit is incomplete: more of it is about to come.
    pub fn is_unit_open(&self) -> bool {
        matches!(&self.phase, Phase::Connected(connection) if connection.is_unit_open())
    }

    fn begin_attempt(&mut self, now: Now) {
        self.attempt += 1;
        let detail = self.connecting_words();
        self.enter_state(now, State::Connecting, self.status.reason, detail, None);
        if self.target.scheme() == Scheme::Rtsps {
            return self.fail(now, Failure::TlsNotAvailable);
        }
        match self.target.host().parse::<IpAddr>() {
            Ok(ip) => {
                let address = SocketAddr::new(ip, self.target.port());
                self.connect(now, VecDeque::from([address]), None);
            }
            Err(_) => {
                self.phase = Phase::Resolving { until: now.mono + self.config.policy.resolve_timeout };
                self.requests.push_back(Request::Resolve);
            }
        }
    }

    fn connecting_words(&self) -> String {
        let (host, port) = (self.target.host(), self.target.port());
        if self.trouble.is_empty() {
            format!("connecting to {host}:{port}")
        } else {
            format!("connecting to {host}:{port} again; before: {}", self.trouble)
        }
    }

    /// Tries the first of `addresses`; when there is none, the attempt ends with `last`, the latest failure.
    fn connect(&mut self, now: Now, mut addresses: VecDeque<SocketAddr>, last: Option<Failure>) {
        let Some(address) = addresses.pop_front() else {
            return self.fail(now, last.unwrap_or(Failure::NoAddress));
        };
        self.phase =
            Phase::Connecting { until: now.mono + self.config.policy.connect_timeout, others: addresses };
        self.requests.push_back(Request::Connect(address));
    }

    /// Draws the consequences of what happened on the connection.
    fn settle(&mut self, now: Now) {
        while let Phase::Connected(connection) | Phase::Leaving { connection, .. } = &mut self.phase {
            let Some(progress) = connection.poll_progress() else { break };
            if let Phase::Leaving { then, .. } = self.phase {
                // Whatever came, answer or failure: the camera has been told.
                self.left(now, then);
                continue;
            }
            match progress {
                Progress::Streaming => self.streaming(now),
                Progress::Stalled(why) => self.stalled(now, &why),
                Progress::Stable => self.backoff.reset(),
                Progress::Redirected { url, keep_credentials } => self.redirect(now, url, keep_credentials),
                Progress::Failed(Failure::Session(SessionError::AuthRefused {
                    credentials_set: false,
                    ..
                })) if !self.may_log_in => {
                    self.fail(now, Failure::LoginAtAnotherHost);
                }
                Progress::Failed(failure) => self.fail(now, failure),
                Progress::Left => self.finish(now),
            }
        }
    }

    /// Says goodbye on a connection whose media have been ended.
    fn leave(&mut self, now: Now, mut connection: Box<Connection>, then: Then) {
        connection.leave(now);
        self.phase = Phase::Leaving { connection, then };
        self.settle(now);
    }

    fn say_leaving(&mut self, now: Now) {
        let words = "the session before is ended first".to_owned();
        self.enter_state(now, State::Connecting, self.status.reason, words, None);
    }

    fn left(&mut self, now: Now, then: Then) {
        match then {
            Then::Stop => self.finish(now),
            Then::Begin => {
                self.disconnect(now);
                self.forget_redirects();
                self.begin_attempt(now);
            }
            Then::Wait { until } => {
                self.disconnect(now);
                self.phase = Phase::Waiting { until };
            }
        }
    }

    fn streaming(&mut self, now: Now) {
        if self.status.state == State::Connecting {
            self.stats.reconnects = self.sessions;
            self.sessions += 1;
        }
        self.trouble.clear();
        self.enter_state(now, State::Streaming, Reason::None, String::new(), None);
    }

    fn stalled(&mut self, now: Now, why: &Failure) {
        let words = why.words(&self.target, &self.config.policy);
        self.enter_state(now, State::Stalled, why.reason(), words, None);
    }

    fn redirect(&mut self, now: Now, url: CameraUrl, keep_credentials: bool) {
        self.redirects += 1;
        if self.redirects > REDIRECTS_MAX {
            return self.fail(now, Failure::TooManyRedirects);
        }
        self.disconnect(now);
        self.target = url;
        self.may_log_in &= keep_credentials;
        self.begin_attempt(now);
    }

    /// Ends the attempt: the connection goes, the status says why, and the next attempt gets its time.
    fn fail(&mut self, now: Now, failure: Failure) {
        if self.status.state == State::Stopping {
            return self.finish(now);
        }
        self.stats.failures += 1;
        self.stats.failures_by_reason.note(failure.reason());
        let series = failure.series();
        let until = now.mono + self.backoff.next_wait(series, self.config.policy.wait(series));
        let words = failure.words(&self.target, &self.config.policy);
        self.trouble.clone_from(&words);
        self.enter_state(now, failure.state(), failure.reason(), words, Some(until));
        self.forget_redirects();
        if failure.leaves_a_listener()
            && let Some(connection) = self.take_session()
        {
            self.leave(now, connection, Then::Wait { until });
        } else {
            self.left(now, Then::Wait { until });
        }
    }

    /// The connection, if the camera holds a session on it.
    fn take_session(&mut self) -> Option<Box<Connection>> {
        if !matches!(&self.phase, Phase::Connected(connection) if connection.is_set_up()) {
            return None;
        }
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Connected(connection) => Some(connection),
            Phase::Idle
            | Phase::Resolving { .. }
            | Phase::Connecting { .. }
            | Phase::Leaving { .. }
            | Phase::Waiting { .. }
            | Phase::Stopped => None,
        }
    }

    fn forget_redirects(&mut self) {
        self.target = self.config.url.clone();
        self.redirects = 0;
        self.may_log_in = true;
    }

    fn finish(&mut self, now: Now) {
        self.disconnect(now);
        self.phase = Phase::Stopped;
        self.requests.push_back(Request::Stopped);
    }

    /// Leaves whatever connection there is, without a word to the camera. Its media have been ended.
    fn disconnect(&mut self, now: Now) {
        let before = std::mem::replace(&mut self.phase, Phase::Idle);
        self.requests.retain(|request| !matches!(request, Request::Resolve | Request::Connect(_)));
        match before {
            Phase::Connected(connection) | Phase::Leaving { connection, .. } => {
                if let Some(leftover) = connection.session().leftover(now.mono) {
                    self.leftover = Some((self.target.clone(), leftover));
                }
                self.clock = connection.into_clock();
                self.requests.push_back(Request::Close);
            }
            Phase::Connecting { .. } => self.requests.push_back(Request::Close),
            Phase::Idle | Phase::Resolving { .. } | Phase::Waiting { .. } | Phase::Stopped => {}
        }
    }

    fn enter_state(&mut self, now: Now, state: State, reason: Reason, detail: String, next: Option<Mono>) {
        self.status = Status { state, reason, detail, since: now.wall, next_attempt: next };
        self.tell_status();
    }

    fn tell_status(&mut self) {
        if !self.requests.contains(&Request::StatusChanged) {
            self.requests.push_back(Request::StatusChanged);
        }
    }
}
