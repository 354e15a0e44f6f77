//! A camera's state machine with the shell around it: does what it asks for, and holds it to what it promises.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use vms_pure::codec::AccessUnitSink;
use vms_pure::ingest::{
    Camera, CameraConfig, CameraStats, ConnectFailure, Output, PeerClose, Policy, Reason, State, Status,
};
use vms_pure::limits::OUTBOX_LEN_MAX;
use vms_pure::rtsp::{CameraUrl, Credentials};
use vms_pure::time::{Mono, Now, UnixNanos};

use crate::dialogue::{self, Asked, Sent};
use crate::sink::{Seen, Sink};

/// Bytes of a unit that the sink takes: few, so that a picture without end is soon too large.
const UNIT_LIMIT: usize = 200_000;

/// What happens to a camera.
#[derive(Clone, Debug)]
pub enum Action {
    Start,
    Stop,
    Resolved(Result<Vec<SocketAddr>, String>),
    Connected,
    ConnectFailed(ConnectFailure),
    Bytes(Vec<u8>),
    Closed(PeerClose),
    InternalError,
    /// There is reason to think that the camera is back.
    Hasten,
    /// Time passes, and deadlines are met, perhaps late.
    Pass(Duration),
    /// Somebody sets the machine's clock.
    SetClock(UnixNanos),
}

/// Where the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Down,
    Resolving { attempt: u64 },
    Opening(SocketAddr),
    Open(SocketAddr),
}

/// The machine, what it has asked for, and what it has told.
#[derive(Debug)]
pub struct Machine {
    camera: Camera,
    sink: Sink,
    now: Now,
    link: Link,
    home: String,
    has_login: bool,
    /// The connection goes to the configured host.
    is_home: bool,
    /// The connection has ended, and only its closing is left to be asked for.
    is_dead: bool,
    /// Requests that the camera has not answered.
    pub asked: VecDeque<Asked>,
    /// Hash of all that was sent.
    sent: u64,
    /// The status as it was told last.
    told: Status,
    is_started: bool,
    is_stopping: bool,
    is_stopped: bool,
    /// Another machine looks at what is sent and said, which is the same.
    is_twin: bool,
    /// Memory for what the machine shows of itself.
    shown: String,
}

/// All that can be seen of a machine.
#[derive(Debug, PartialEq)]
pub struct View<'a> {
    status: &'a Status,
    stats: CameraStats,
    seen: &'a Seen,
    link: Link,
    due: Option<Mono>,
    sent: u64,
}

impl Machine {
    /// A camera that was not started.
    pub fn new(url: &str, is_twin: bool) -> Self {
        let (url, credentials): (CameraUrl, Option<Credentials>) = CameraUrl::parse(url).unwrap();
        let now = Now { mono: Mono(1 << 40), wall: UnixNanos(1_767_225_600_000_000_000) };
        let (home, has_login) = (url.host().to_owned(), credentials.is_some());
        let camera = Camera::new(CameraConfig { url, credentials, policy: Policy::default() }, 7, now);
        let told = camera.status().clone();
        assert_eq!((told.state, camera.poll_timeout()), (State::Pending, None));
        Self {
            camera,
            sink: Sink::new(UNIT_LIMIT),
            now,
            link: Link::Down,
            home,
            has_login,
            is_home: false,
            is_dead: false,
            asked: VecDeque::new(),
            sent: 0,
            told,
            is_started: false,
            is_stopping: false,
            is_stopped: false,
            is_twin,
            shown: String::new(),
        }
    }

    /// All that can be seen.
    pub fn view(&self) -> View<'_> {
        View {
            status: self.camera.status(),
            // A search that is given up is told as far as the portions went.
            stats: CameraStats { skipped_bytes: 0, ..*self.camera.stats() },
            seen: &self.sink.seen,
            link: self.link,
            due: self.camera.poll_timeout(),
            sent: self.sent,
        }
    }

    /// The state.
    pub const fn state(&self) -> State {
        self.camera.status().state
    }

    /// Where the connection is.
    pub const fn link(&self) -> Link {
        self.link
    }

    /// Units that came out.
    pub const fn units(&self) -> u64 {
        self.sink.seen.units
    }

    /// Whether it was told to stop.
    pub const fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Whether it has stopped.
    pub const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// How long it may still go on so that time does not end: 292 years from the start.
    pub const fn until_late(&self) -> Duration {
        Mono(u64::MAX / 2).since(self.now.mono)
    }

    /// How long until something is due.
    pub fn until_due(&self) -> Duration {
        self.camera.poll_timeout().map_or(Duration::ZERO, |due| due.since(self.now.mono))
    }

    /// Bytes on the heap that are not the machine's.
    pub fn held_beside(&self) -> usize {
        self.sink.held() + self.asked.len() * 1024 + self.shown.capacity()
    }

    /// Lets it happen; bytes come in `portions`.
    pub fn act(&mut self, action: &Action, portions: &[&[u8]]) {
        match action {
            Action::Start => {
                self.is_started = true;
                self.camera.start(self.now, &mut self.sink);
            }
            Action::Stop => {
                self.is_stopping = true;
                self.camera.stop(self.now, &mut self.sink);
            }
            Action::Resolved(answer) => {
                let Link::Resolving { attempt } = self.link else { return };
                // An answer to another attempt comes late.
                self.camera.on_resolved(self.now, attempt.wrapping_sub(1), Ok(Vec::new()));
                assert!(self.camera.poll_output().is_none());
                self.link = Link::Down;
                self.camera.on_resolved(self.now, attempt, answer.clone());
            }
            Action::Connected => {
                let Link::Opening(address) = self.link else { return };
                self.link = Link::Open(address);
                self.is_dead = false;
                self.asked.clear();
                self.camera.on_connected(self.now);
            }
            Action::ConnectFailed(why) => {
                let Link::Opening(_) = self.link else { return };
                self.link = Link::Down;
                self.camera.on_connect_failed(self.now, why.clone());
            }
            Action::Bytes(_) => {
                let (Link::Open(_), false) = (self.link, self.is_dead) else { return };
                self.receive(portions);
            }
            Action::Closed(how) => {
                let (Link::Open(_), false) = (self.link, self.is_dead) else { return };
                self.is_dead = true;
                self.camera.on_closed(self.now, how.clone(), &mut self.sink);
            }
            Action::InternalError => {
                if self.sink.is_open() {
                    self.sink.abort();
                }
                self.camera.on_internal_error(self.now);
            }
            Action::Hasten => return self.hasten(),
            Action::Pass(time) => return self.pass(*time),
            Action::SetClock(wall) => self.now.wall = *wall,
        }
        self.settle(matches!(action, Action::Start));
    }

    /// What fails in the middle of some bytes does not look at the rest of them. Portions behind it are another matter:
    /// they come to a connection that is being left. So that the two can be compared they do not come here.
    fn receive(&mut self, portions: &[&[u8]]) {
        let was_up = is_up(self.state());
        for piece in portions.iter().filter(|piece| !piece.is_empty()) {
            self.camera.on_bytes(self.now, piece, &mut self.sink);
            if was_up && !is_up(self.state()) {
                break;
            }
        }
    }

    /// Ends no wait but one that follows an ordinary failure, and changes nothing else.
    fn hasten(&mut self) {
        let before = self.camera.status().clone();
        self.camera.hasten(self.now);
        if *self.camera.status() != before {
            assert!(before.state == State::Backoff && !is_refusal(before.reason), "{before:?}");
            assert!(before.next_attempt > Some(self.now.mono));
            self.told = Status { next_attempt: Some(self.now.mono), ..before };
            assert_eq!(*self.camera.status(), self.told);
            assert_eq!(self.camera.poll_timeout(), self.told.next_attempt);
            assert_eq!(self.camera.poll_output(), Some(Output::StatusChanged));
        }
        assert_eq!(self.camera.poll_output(), None);
    }

    fn pass(&mut self, time: Duration) {
        if self.camera.poll_timeout().is_some_and(|due| self.now.mono < due) {
            self.camera.handle_timeout(self.now, &mut self.sink);
            assert_eq!(*self.camera.status(), self.told, "nothing was due");
            assert!(self.camera.poll_output().is_none(), "nothing was due");
        }
        self.now.mono = self.now.mono + time;
        self.now.wall.0 = self.now.wall.0.saturating_add(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
        for _ in 0..16 {
            if self.camera.poll_timeout().is_none_or(|due| self.now.mono < due) {
                return self.is_true();
            }
            self.camera.handle_timeout(self.now, &mut self.sink);
            self.settle(false);
        }
        panic!("something is due again and again");
    }

    /// Nothing is due: the state is what it says.
    fn is_true(&self) {
        let Some(last) = self.camera.stats().last_unit else {
            return assert!(!matches!(self.state(), State::Streaming | State::Stalled));
        };
        let age = self.now.mono.since(last);
        let idle = Policy::default().idle_timeout;
        if self.state() == State::Streaming {
            assert!(age < idle, "streaming without a unit for {age:?}");
        }
    }

    /// Does what the machine asks for.
    fn settle(&mut self, is_start: bool) {
        let mut sent = Vec::new();
        let mut is_told = false;
        let mut outputs = 0;
        let is_to_wait = !is_start && self.is_to_wait();
        while let Some(output) = self.camera.poll_output() {
            outputs += 1;
            assert!(outputs < 32, "it asks without end");
            assert!(!self.is_stopped || matches!(output, Output::StatusChanged), "{output:?} after the end");
            match output {
                Output::Resolve { host, port, attempt } => {
                    assert!(!is_to_wait, "{:?} is not over", self.told);
                    assert!(matches!(self.link, Link::Down | Link::Resolving { .. }));
                    assert!(port != 0 && !host.is_empty());
                    self.link = Link::Resolving { attempt };
                }
                Output::Connect(address) => {
                    assert!(!is_to_wait, "{:?} is not over", self.told);
                    if let Link::Resolving { attempt } = self.link {
                        assert!(is_start, "only a new start does not wait for the answer");
                        // It comes late, and means nothing.
                        self.camera.on_resolved(self.now, attempt, Ok(Vec::new()));
                        self.link = Link::Down;
                    }
                    assert_eq!(self.link, Link::Down, "one connection at a time");
                    self.link = Link::Opening(address);
                    let home = format!("connecting to {}:", self.home);
                    self.is_home = self.camera.status().detail.starts_with(&home);
                }
                Output::Send(bytes) => {
                    assert!(matches!(self.link, Link::Open(_)) && !self.is_dead && !bytes.is_empty());
                    assert!(bytes.len() <= 2 * OUTBOX_LEN_MAX);
                    let mut hasher = DefaultHasher::new();
                    (self.sent, bytes).hash(&mut hasher);
                    self.sent = hasher.finish();
                    if !self.is_twin {
                        sent.extend(dialogue::read(bytes));
                    }
                }
                Output::Close => {
                    assert!(matches!(self.link, Link::Opening(_) | Link::Open(_)), "nothing is to be closed");
                    (self.link, self.is_dead) = (Link::Down, false);
                }
                Output::StatusChanged => is_told = true,
                Output::Stopped => {
                    assert!(self.is_stopping);
                    self.is_stopped = true;
                }
            }
        }
        for asked in sent {
            self.note(asked);
        }
        assert!(!self.is_dead, "a connection that has ended is not closed");
        self.check(is_start, is_told);
    }

    /// Whether an attempt has been promised for later.
    fn is_to_wait(&self) -> bool {
        self.told.next_attempt.is_some_and(|next| self.now.mono < next)
    }

    fn note(&mut self, sent: Sent) {
        match sent {
            Sent::Asked(asked) => {
                if asked.authorization.is_some() {
                    assert!(self.has_login && self.is_home, "somebody else is told the login");
                }
                self.asked.push_back(asked);
            }
            Sent::Answered(status) => assert!(matches!(status, 200 | 501)),
            Sent::Reported(_) => {}
        }
    }

    fn check(&mut self, is_start: bool, is_told: bool) {
        let status = self.camera.status();
        if *status != self.told {
            assert!(is_told, "a change is not told");
            let status = status.clone();
            self.check_change(&status, is_start);
            self.told = status;
        }
        self.check_state();
    }

    fn check_change(&mut self, status: &Status, is_start: bool) {
        assert!(may_follow(self.told.state, status.state, is_start), "{:?} to {status:?}", self.told);
        assert_eq!(status.detail.is_empty(), status.state == State::Streaming, "{status:?}");
        assert!(status.state != State::Streaming || status.reason == Reason::None);
        let waits = matches!(status.state, State::Backoff | State::AuthFailed | State::Unsupported);
        assert_eq!(status.next_attempt.is_some(), waits);
        if status.next_attempt != self.told.next_attempt {
            self.check_wait(status);
        }
        if !self.is_twin {
            assert!(!status.detail.contains("CANARY"), "{}", status.detail);
            self.shown.clear();
            write!(self.shown, "{:?}", self.camera).unwrap();
            assert!(!self.shown.contains("CANARY"));
        }
    }

    /// What is true of a state at any time.
    fn check_state(&mut self) {
        assert_eq!(self.sink.is_open(), self.camera.is_unit_open());
        assert!(!self.sink.is_open() || matches!(self.link, Link::Open(_)), "a unit is left open");
        self.check_stats();
        let due = self.camera.poll_timeout();
        let status = self.camera.status();
        if matches!(self.link, Link::Resolving { .. }) && status.state != State::Connecting {
            // Its answer will mean nothing.
            self.link = Link::Down;
        }
        match status.state {
            State::Pending => assert!(!self.is_started && due.is_none()),
            State::Connecting => assert!(self.link != Link::Down && due.is_some()),
            State::Streaming | State::Stalled => {
                assert!(matches!(self.link, Link::Open(_)) && due.is_some());
            }
            State::Backoff | State::AuthFailed | State::Unsupported => {
                assert!(matches!(self.link, Link::Open(_) | Link::Down) && due.is_some());
                assert!(self.link != Link::Down || due == status.next_attempt);
            }
            State::Stopping => {
                assert!(self.is_stopping && self.is_stopped == (self.link == Link::Down));
                assert_eq!(due.is_none(), self.is_stopped);
            }
        }
    }

    /// What is counted is what came out.
    fn check_stats(&self) {
        let (stats, seen) = (self.camera.stats(), &self.sink.seen);
        let counted = (stats.units, stats.key_units, stats.unit_bytes, stats.damaged_units);
        assert_eq!(counted, (seen.units, seen.key_units, seen.bytes, seen.damaged_units));
        let failures: u32 = stats.failures_by_reason.iter().map(|(_, count)| count).sum();
        assert_eq!(stats.failures, failures.into());
    }

    /// A wait is one of its series, give or take the jitter.
    fn check_wait(&self, status: &Status) {
        let Some(next) = status.next_attempt else { return };
        let policy = Policy::default();
        let series = match (status.state, status.reason) {
            (State::AuthFailed, _) | (_, Reason::Forbidden) => &policy.retry_auth,
            (State::Unsupported, _) => &policy.retry_unsupported,
            (_, Reason::SessionLimit | Reason::ServiceUnavailable) => &policy.retry_busy,
            _ => &policy.retry,
        };
        let wait = next.since(self.now.mono);
        assert!(wait >= series.initial * 79 / 100 && wait <= series.max * 121 / 100, "{wait:?} {status:?}");
    }
}

/// Whether a camera that answers so counts how often it is asked.
const fn is_refusal(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::AuthRefused | Reason::Forbidden | Reason::SessionLimit | Reason::ServiceUnavailable
    )
}

/// Whether a connection is wanted.
const fn is_up(state: State) -> bool {
    matches!(state, State::Connecting | State::Streaming | State::Stalled)
}

/// Whether one call may lead from a state to another, by way of others.
fn may_follow(before: State, after: State, is_start: bool) -> bool {
    use State::{AuthFailed, Backoff, Connecting, Pending, Stalled, Stopping, Streaming, Unsupported};
    match (before, after) {
        (Stopping, after) => after == Stopping,
        (_, Stopping) => true,
        (_, Connecting | Unsupported) if is_start => true,
        (before, after) if before == after => true,
        // A bug of ours may be caught anywhere.
        (_, Backoff) => true,
        (Pending, _) | (_, Pending) => false,
        (Connecting, Streaming | AuthFailed | Unsupported) => true,
        (Streaming, Stalled) | (Stalled, Streaming) => true,
        (Backoff | AuthFailed | Unsupported, Connecting | Unsupported) => true,
        _ => false,
    }
}
