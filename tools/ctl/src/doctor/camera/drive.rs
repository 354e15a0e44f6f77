//! Drives the daemon's state machine of one camera by the daemon's own sockets, from the first look-up to TEARDOWN.
//!
//! Everything is bounded: each step by the daemon's time-outs, all of them together by [`BOUND`].

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use vms_media::ingest::{Camera, CameraConfig, CameraStats, Output, PeerClose, Policy, State, Status};
use vms_media::io::{Backend, BackendKind, Completion, Config, ConnectError, Token};
use vms_media::rtsp::Method;
use vms_media::shard::{connect_failure, peer_close};
use vms_media::time::{Mono, Now, UnixNanos};

use super::Target;
use super::exchange::Exchange;
use super::video::Video;

/// How long a look-up may take, as in the daemon.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long all steps to the first picture may take together: some addresses, redirects, and no answer at each.
const BOUND: Duration = Duration::from_secs(90);
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(3);

/// What was seen of a camera.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Host name and its addresses, when there was one to look up.
    pub(super) name: Option<(String, Vec<SocketAddr>)>,
    /// Connections that were tried: how long it took, or why it did not come up.
    pub(super) connections: Vec<(SocketAddr, Result<Duration, String>)>,
    pub(super) exchange: Exchange,
    /// The request that keeps the session alive, and how often.
    pub(super) keepalive: Option<(Method, Duration)>,
    pub(super) video: Video,
    pub(super) stats: CameraStats,
    /// From the first step to the first picture.
    pub(super) first_picture: Option<Duration>,
    /// What the daemon would say of the stream; `None` when nothing came of it within [`BOUND`].
    pub(super) status: Option<Status>,
    /// How long the daemon would wait before it tries again.
    pub(super) retry_after: Option<Duration>,
    pub(super) has_credentials: bool,
}

/// Watches a camera for `span` from its first picture on; for twice as long when no second key frame comes.
///
/// # Errors
/// The machine gives no socket; in words.
pub(super) fn watch(target: Target, span: Duration) -> Result<Seen, String> {
    let sizes = Config { buffers: 16, sockets_max: 4, ..Config::default() };
    let io = Backend::new(BackendKind::Epoll, sizes).map_err(|error| error.to_string())?;
    let Target { url, credentials } = target;
    let has_credentials = credentials.is_some();
    let config = CameraConfig { url, credentials, policy: Policy { login_tries: 1, ..Policy::default() } };
    let start = now();
    let mut drive = Drive {
        io,
        camera: Camera::new(config, random(), start),
        connection: None,
        connecting: None,
        seen: Seen { has_credentials, ..Seen::default() },
        is_stopped: false,
    };
    drive.camera.start(start, &mut drive.seen.video);
    drive.run(start, span).map_err(|error| error.to_string())?;
    drive.seen.stats = *drive.camera.stats();
    let first = drive.seen.video.began();
    drive.seen.first_picture = first.map(|first| first.since(start.mono));
    drive.leave().map_err(|error| error.to_string())?;
    Ok(drive.seen)
}

struct Drive {
    io: Backend,
    camera: Camera,
    connection: Option<Token>,
    /// Where to, and since when.
    connecting: Option<(SocketAddr, Mono)>,
    seen: Seen,
    is_stopped: bool,
}

impl Drive {
    /// Until the attempt has failed, or enough was seen.
    fn run(&mut self, start: Now, span: Duration) -> Result<(), vms_media::io::WaitError> {
        self.do_outputs();
        loop {
            let is_over = self.seen.status.as_ref().is_some_and(|status| has_failed(status.state));
            let end = self.end(start.mono, span);
            if is_over || now().mono >= end {
                return Ok(());
            }
            self.turn(end)?;
        }
    }

    /// When enough was seen.
    fn end(&self, start: Mono, span: Duration) -> Mono {
        match self.seen.video.began() {
            None => start + BOUND,
            Some(first) if self.seen.video.gop.is_some() => first + span,
            Some(first) => first + span * 2,
        }
    }

    /// Says goodbye, so that the camera holds no session for us.
    fn leave(&mut self) -> Result<(), vms_media::io::WaitError> {
        let end = now().mono + GOODBYE;
        let last = self.seen.status.take();
        self.camera.stop(now(), &mut self.seen.video);
        self.do_outputs();
        while !self.is_stopped && now().mono < end {
            self.turn(end)?;
        }
        self.seen.status = last;
        Ok(())
    }

    /// Waits for the next thing that happens, at the latest until `end`.
    fn turn(&mut self, end: Mono) -> Result<(), vms_media::io::WaitError> {
        let until = self.camera.poll_timeout().map_or(end, |due| due.min(end));
        self.io.wait(Some(until.since(now().mono)), Duration::ZERO)?;
        while let Some(completion) = self.io.next_completion() {
            self.take(completion);
            self.do_outputs();
        }
        self.camera.handle_timeout(now(), &mut self.seen.video);
        self.do_outputs();
        Ok(())
    }

    fn take(&mut self, completion: Completion) {
        let now = now();
        match completion {
            Completion::Connected(token) if self.connection == Some(token) => {
                self.seen.exchange.begin();
                if let Some((address, since)) = self.connecting.take() {
                    self.seen.connections.push((address, Ok(now.mono.since(since))));
                }
                self.camera.on_connected(now);
            }
            Completion::ConnectFailed(token, error) if self.connection == Some(token) => {
                self.connection = None;
                self.not_connected(error);
            }
            Completion::Received(token, bytes) if self.connection == Some(token) => {
                self.seen.exchange.received(now.mono, &bytes);
                self.camera.on_bytes(now, &bytes, &mut self.seen.video);
            }
            Completion::Closed(token, reason) if self.connection == Some(token) => {
                self.connection = None;
                self.camera.on_closed(now, peer_close(reason), &mut self.seen.video);
            }
            // Of a connection that was left.
            Completion::Connected(_)
            | Completion::ConnectFailed(..)
            | Completion::Received(..)
            | Completion::Closed(..)
            | Completion::HandedOut(..)
            | Completion::Woken => {}
        }
    }

    fn not_connected(&mut self, error: ConnectError) {
        if let Some((address, _)) = self.connecting.take() {
            self.seen.connections.push((address, Err(error.to_string())));
        }
        self.camera.on_connect_failed(now(), connect_failure(error));
    }

    fn do_outputs(&mut self) {
        while let Some(output) = self.camera.poll_output() {
            match output {
                Output::Send(bytes) => {
                    self.seen.exchange.sent(now().mono, bytes);
                    let refused = self.connection.and_then(|token| self.io.send(token, bytes).err());
                    if let Some(refused) = refused {
                        self.disconnect();
                        let how = PeerClose::Broken(refused.to_string());
                        self.camera.on_closed(now(), how, &mut self.seen.video);
                    }
                }
                Output::Resolve { host, port, attempt } => {
                    let (host, answer) = (host.to_owned(), look_up(host, port));
                    self.seen.name = Some((host, answer.clone().unwrap_or_default()));
                    self.camera.on_resolved(now(), attempt, answer);
                }
                Output::Connect(address) => self.connect(address),
                Output::Close => {
                    if let Some((address, _)) = self.connecting.take() {
                        self.seen.connections.push((address, Err("no answer in time".to_owned())));
                    }
                    self.disconnect();
                }
                Output::StatusChanged => self.note_status(),
                Output::Stopped => self.is_stopped = true,
            }
        }
    }

    fn connect(&mut self, address: SocketAddr) {
        self.disconnect();
        self.connecting = Some((address, now().mono));
        match self.io.connect(address) {
            Ok(token) => self.connection = Some(token),
            Err(error) => self.not_connected(error),
        }
    }

    fn disconnect(&mut self) {
        if let Some(token) = self.connection.take() {
            self.io.close(token);
        }
    }

    /// The first failure is the last word: the probe makes one attempt.
    fn note_status(&mut self) {
        let status = self.camera.status();
        if self.seen.status.as_ref().is_some_and(|before| has_failed(before.state)) {
            return;
        }
        match status.state {
            State::Streaming | State::Stalled => {
                self.seen.keepalive = self.camera.session().map(vms_media::rtsp::Session::keepalive);
                self.seen.status = Some(status.clone());
            }
            State::Backoff | State::AuthFailed | State::Unsupported => {
                self.seen.retry_after = status.next_attempt.map(|at| at.since(now().mono));
                self.seen.status = Some(status.clone());
            }
            State::Pending | State::Connecting | State::Stopping => {}
        }
    }
}

fn has_failed(state: State) -> bool {
    matches!(state, State::Backoff | State::AuthFailed | State::Unsupported)
}

/// Addresses of a host, on a thread of its own, because the system's resolver cannot be called off.
fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let (answer, answered) = channel();
    let host = host.to_owned();
    std::thread::spawn(move || {
        let addresses = (host.as_str(), port).to_socket_addrs();
        // Who asked may have gone.
        let _ = answer.send(addresses.map(Iterator::collect).map_err(|error| error.to_string()));
    });
    let late = |_| Err(format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs()));
    answered.recv_timeout(LOOKUP_TIMEOUT).unwrap_or_else(late)
}

fn now() -> Now {
    let nanos = |time: Timespec| time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
    let mono = nanos(clock_gettime(ClockId::Monotonic)).unsigned_abs();
    Now { mono: Mono(mono), wall: UnixNanos(nanos(clock_gettime(ClockId::Realtime))) }
}

/// A number that nobody foresees, for Digest's client nonces.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
