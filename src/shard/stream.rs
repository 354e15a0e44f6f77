//! One stream in its shard: a camera, a publisher, at most one connection, and the boundary between this stream's
//! mistakes and everybody else.
//!
//! All calls into the camera and the publisher are made here. Each that works on what came from outside is caught when
//! it panics: the stream starts anew, and if even that panics, it stays down until it is removed. What only looks at
//! a field (a deadline, a counter), or lets a reader go, is not wrapped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::command::{Event, NewStream, StreamStats};
use super::events::EventSender;
use super::inbox::{HoldBack, Inbox};
use crate::codec::{AccessUnitSink, VideoFormat};
use crate::ids::{StreamId, StreamUid};
use crate::ingest::{Camera, ConnectFailure, Output, PeerClose, Policy, Reason, State, Status};
use crate::io::{Backend, CloseReason, ConnectError, RecvBuf, SendError, Token};
use crate::publish::{Bells, Joined, Publisher, ReaderRing, RingId, StreamState, Successor};
use crate::time::{Mono, Now};

mod departure;

use departure::Departure;
pub use departure::MovingStream;

/// How long the readers of an ended stream may go on with what is retained.
const READERS_LINGER: Duration = Duration::from_secs(1);

/// A bug, planted for tests: a camera that sends this makes its machine panic.
#[cfg(test)]
pub(super) const PLANTED: &[u8] = b"a bug, on purpose";

/// What a stream acts upon during a call.
pub(super) struct Surroundings<'a> {
    /// Sockets.
    pub(super) io: &'a mut Backend,
    /// The way to the control thread.
    pub(super) events: &'a mut EventSender,
    /// The turn's time.
    pub(super) now: Now,
    /// The turn's number.
    pub(super) turn: u64,
}

/// A stream and what waits for it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) uid: StreamUid,
    pub(super) id: StreamId,
    camera: Camera,
    publisher: Box<Publisher>,
    connection: Option<Token>,
    /// On its way to another shard.
    departure: Departure,
    /// The format that the control thread knows of.
    told_format: Option<VideoFormat>,
    inbox: Inbox,
    /// It would begin an attempt, and waits for its turn.
    is_at_gate: bool,
    /// It was told to end, and is not to be started again.
    is_stopping: bool,
    /// The camera has said its last word.
    is_over: bool,
    /// Then: when the readers are ended, if they have not had everything by then.
    linger_until: Option<Mono>,
    /// Starting anew after a panic failed too.
    is_broken: bool,
}

impl Stream {
    /// A stream that has not begun.
    pub(super) fn new(new: NewStream, now: Now) -> Self {
        let camera = Camera::new(new.camera, new.seed, now);
        Self::without_connection(new.uid, new.id, camera, new.publisher)
    }

    /// A stream that this shard has done nothing for.
    fn without_connection(uid: StreamUid, id: StreamId, camera: Camera, publisher: Box<Publisher>) -> Self {
        Self {
            uid,
            id,
            camera,
            publisher,
            connection: None,
            departure: Departure::None,
            told_format: None,
            inbox: Inbox::default(),
            is_at_gate: false,
            is_stopping: false,
            is_over: false,
            linger_until: None,
            is_broken: false,
        }
    }

    /// Whether the stream would begin an attempt now. It does nothing else then until [`begin`](Self::begin).
    pub(super) fn waits_to_begin(&mut self, now: Now) -> bool {
        let is_bound = self.is_stopping || self.is_broken;
        self.is_at_gate = !is_bound && self.camera.is_about_to_begin(now);
        self.is_at_gate
    }

    /// It is the stream's turn to begin an attempt.
    pub(super) fn begin(&mut self, around: &mut Surroundings<'_>) {
        if std::mem::take(&mut self.is_at_gate) {
            self.call(around, |camera, publisher, now| {
                if camera.is_new() {
                    camera.start(now, publisher)
                } else {
                    camera.handle_timeout(now, publisher)
                }
            });
        }
    }

    /// Whether an attempt is under way that has brought no video yet.
    pub(super) const fn is_attempting(&self) -> bool {
        self.camera.is_attempting() && !self.is_broken
    }

    /// Begins anew at once, whoever else waits: somebody asked for it.
    pub(super) fn start(&mut self, around: &mut Surroundings<'_>) {
        if !self.is_stopping {
            self.is_at_gate = false;
            self.call(around, |camera, publisher, now| camera.start(now, publisher));
        }
    }

    /// The camera may be back: its next attempt begins when it is its turn.
    pub(super) fn hasten(&mut self, around: &mut Surroundings<'_>) {
        self.call(around, |camera, _, now| camera.hasten(now));
    }

    /// Changes how patient this is with the camera.
    pub(super) fn set_policy(&mut self, policy: Policy, around: &mut Surroundings<'_>) {
        self.call(around, |camera, _, now| camera.set_policy(now, policy));
    }

    /// Ends politely; [`is_done`](Self::is_done) becomes true.
    pub(super) fn stop(&mut self, around: &mut Surroundings<'_>) {
        if std::mem::replace(&mut self.is_stopping, true) {
            return;
        }
        self.is_at_gate = false;
        self.stay(around);
        self.call(around, |camera, publisher, now| camera.stop(now, publisher));
        self.is_over |= self.is_broken;
    }

    /// A look-up has an answer.
    pub(super) fn on_resolved(
        &mut self,
        attempt: u64,
        answer: Result<Vec<std::net::SocketAddr>, String>,
        around: &mut Surroundings<'_>,
    ) {
        self.call(around, |camera, _, now| camera.on_resolved(now, attempt, answer));
    }

    /// The connection is up.
    pub(super) fn on_connected(&mut self, token: Token, around: &mut Surroundings<'_>) {
        if self.connection == Some(token) {
            self.call(around, |camera, _, now| camera.on_connected(now));
        }
    }

    /// The connection did not come up.
    pub(super) fn on_connect_failed(
        &mut self,
        token: Token,
        error: ConnectError,
        around: &mut Surroundings<'_>,
    ) {
        if self.connection == Some(token) {
            self.connection = None;
            self.call(around, |camera, _, now| camera.on_connect_failed(now, connect_failure(error)));
        }
    }

    /// Bytes came. They are worked on at once, while they are in the cache, unless the stream has had its share.
    ///
    /// Returns whether something is left for the next turn.
    pub(super) fn on_received(
        &mut self,
        token: Token,
        buffer: RecvBuf,
        around: &mut Surroundings<'_>,
    ) -> bool {
        if self.connection != Some(token) {
            return false;
        }
        self.inbox.push(buffer);
        self.work(around);
        self.hold_back(around);
        self.inbox.is_waiting()
    }

    /// The connection ended from outside. Bytes that came before go first.
    ///
    /// Returns whether something is left for the next turn.
    pub(super) fn on_closed(
        &mut self,
        token: Token,
        reason: CloseReason,
        around: &mut Surroundings<'_>,
    ) -> bool {
        if self.connection != Some(token) {
            return false;
        }
        self.inbox.end(reason);
        self.work(around);
        self.inbox.is_waiting()
    }

    /// In a new turn: goes on with what was left.
    ///
    /// Returns whether something is left again.
    pub(super) fn go_on(&mut self, around: &mut Surroundings<'_>) -> bool {
        self.work(around);
        self.hold_back(around);
        self.inbox.is_waiting()
    }

    /// What is due at this time.
    pub(super) fn handle_timeout(&mut self, around: &mut Surroundings<'_>) {
        self.call(around, |camera, publisher, now| camera.handle_timeout(now, publisher));
        self.hold_back(around);
    }

    /// A reader comes.
    pub(super) fn attach(&mut self, ring: Box<ReaderRing>, around: &mut Surroundings<'_>) {
        self.attach_by(ring, Publisher::attach, around);
    }

    /// Each ring that comes gets one answer, also when taking it in panics: its slot would wait for ever.
    fn attach_by(
        &mut self,
        ring: Box<ReaderRing>,
        attach: impl FnOnce(&mut Publisher, ReaderRing) -> Joined,
        around: &mut Surroundings<'_>,
    ) {
        let (uid, id) = (self.uid, ring.id());
        if self.is_over || self.is_broken {
            return around.events.answer(Event::NotAttached { uid, id, ring: Some(ring) });
        }
        let mut joined = None;
        self.call(around, |_, publisher, _| joined = Some(attach(publisher, *ring)));
        around.events.answer(match joined {
            Some(joined) => Event::Attached { uid, ring: id, joined, segment: self.publisher.fd() },
            None => Event::NotAttached { uid, id, ring: self.publisher.detach(id).map(Box::new) },
        });
    }

    /// A reader goes.
    pub(super) fn detach(&mut self, id: RingId, around: &mut Surroundings<'_>) {
        let ring = self.publisher.detach(id).map(Box::new);
        around.events.answer(Event::Detached { uid: self.uid, id, ring });
    }

    /// The stream is to go on in another segment.
    pub(super) fn rotate(
        &mut self,
        successor: Successor,
        linger_max: Duration,
        around: &mut Surroundings<'_>,
    ) {
        if self.is_over || self.is_broken {
            return around.events.answer(Event::NotMoved { uid: self.uid, memory: successor });
        }
        let mut surplus = None;
        self.call(around, |_, publisher, _| surplus = publisher.rotate(successor, linger_max).err());
        if let Some(memory) = surplus {
            around.events.answer(Event::NotMoved { uid: self.uid, memory });
        }
    }

    /// The end of the stream's turn: gives readers what they have room for, and notes whose bell is to be rung.
    pub(super) fn feed(&mut self, bells: &mut Bells, around: &mut Surroundings<'_>) {
        if self.is_over && self.linger_until.is_none() {
            self.linger_until = Some(around.now.mono + READERS_LINGER);
            self.call(around, |camera, publisher, _| publisher.close(camera.status().reason.number()));
        }
        self.call(around, |_, publisher, _| {
            publisher.feed();
            publisher.take_touched(bells);
        });
        // In this order: what is released may be what was left just now.
        if self.publisher.take_moved() {
            around.events.answer(Event::Moved { uid: self.uid });
        }
        if let Some(memory) = self.publisher.take_released() {
            around.events.answer(Event::Released { uid: self.uid, memory });
        }
        self.tell_format(around);
    }

    fn tell_format(&mut self, around: &mut Surroundings<'_>) {
        let format = self.publisher.format();
        if format != self.told_format {
            self.told_format = format;
            format.into_iter().for_each(|format| around.events.format(self.uid, format));
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`feed`](Self::feed) wants to be called.
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        let live = [self.camera.poll_timeout().filter(|_| !self.is_at_gate), self.publisher.poll_timeout()];
        let live = live.into_iter().flatten().filter(|_| !self.is_broken);
        live.chain(self.linger_until).min()
    }

    /// Whether the stream can be dropped at `now`: its camera is done, and its readers are, or had their time.
    pub(super) fn is_done(&self, now: Now) -> bool {
        let is_late = self.linger_until.is_some_and(|until| until <= now.mono);
        self.is_over && (self.is_broken || is_late || self.publisher.is_drained())
    }

    /// What remains of a stream that is done.
    pub(super) fn into_publisher(self) -> Box<Publisher> {
        self.publisher
    }

    /// Counters, and a sign of life for the readers.
    pub(super) fn tell_stats(&mut self, around: &mut Surroundings<'_>) {
        if self.linger_until.is_none() {
            self.call(around, |camera, publisher, _| show_state(publisher, camera.status()));
        }
        let stats = StreamStats { camera: *self.camera.stats(), published: self.publisher.counters() };
        around.events.stats(self.uid, stats, self.publisher.readers().collect());
    }

    /// Whether the rest of an access unit is on its way.
    pub(super) fn is_unit_open(&self) -> bool {
        self.camera.is_unit_open()
    }

    /// The connection, for the shard's table.
    pub(super) const fn connection(&self) -> Option<Token> {
        self.connection
    }

    /// Works on the inbox until it is empty or the share is used up, then tells of the connection's end.
    fn work(&mut self, around: &mut Surroundings<'_>) {
        let connection = (self.connection, self.is_in_hand());
        self.inbox.renew_share(around.turn);
        while let Some((buffer, range)) = self.inbox.take() {
            if let Some(bytes) = buffer.get(range.clone()) {
                self.call(around, |camera, publisher, now| {
                    #[cfg(test)]
                    assert!(!bytes.ends_with(PLANTED), "a bug, on purpose");
                    camera.on_bytes(now, bytes, publisher);
                });
            }
            // The camera may have left the connection upon these bytes, even for another one; the rest is void then.
            if (self.connection, self.is_in_hand()) == connection {
                self.inbox.put_back(buffer, range.end);
            }
        }
        if let Some(reason) = self.inbox.take_end() {
            self.connection = None;
            self.call(around, |camera, publisher, now| camera.on_closed(now, peer_close(reason), publisher));
        }
    }

    /// Stops receiving while too many buffers wait here, which others need, and while the camera has sent more than it may.
    fn hold_back(&mut self, around: &mut Surroundings<'_>) {
        let Some(token) = self.connection else { return };
        match self.inbox.hold_back(self.camera.is_throttled()) {
            Some(HoldBack::Pause) => around.io.pause(token),
            Some(HoldBack::Resume) => around.io.resume(token),
            None => {}
        }
    }

    /// Calls into the camera and does what it asks for, up to its last wish.
    fn call(&mut self, around: &mut Surroundings<'_>, call: impl FnOnce(&mut Camera, &mut Publisher, Now)) {
        if self.is_broken {
            return;
        }
        let now = around.now;
        let guarded = AssertUnwindSafe(|| {
            self.publisher.set_now(now.mono);
            call(&mut self.camera, &mut self.publisher, now);
            self.do_outputs(around);
        });
        if catch_unwind(guarded).is_err() {
            tracing::error!(stream = %self.id, "a bug was caught at this stream; it starts anew");
            self.start_anew(around);
        }
    }

    /// After a panic. The camera drops its connection, so whatever state that was in goes with it.
    fn start_anew(&mut self, around: &mut Surroundings<'_>) {
        let now = around.now;
        let guarded = AssertUnwindSafe(|| {
            self.publisher.abort();
            self.camera.on_internal_error(now);
            self.do_outputs(around);
        });
        if catch_unwind(guarded).is_err() {
            tracing::error!(stream = %self.id, "starting anew failed too; the stream stays down until it is removed");
            self.is_broken = true;
            self.disconnect(around);
            self.stay(around);
            around.events.status(self.uid, broken(now));
        }
    }

    fn do_outputs(&mut self, around: &mut Surroundings<'_>) {
        loop {
            let refused = match self.camera.poll_output() {
                None => return,
                Some(Output::Send(bytes)) => match (self.connection, &mut self.departure) {
                    // A connection that is no longer open has ended, and that is told behind what it has brought.
                    (Some(token), _) => {
                        around.io.send(token, bytes).err().filter(|refused| *refused != SendError::NotOpen)
                    }
                    (None, Departure::InHand(handover)) => handover.send(bytes).err(),
                    (None, Departure::None | Departure::Begun) => None,
                },
                Some(Output::Resolve { host, port, attempt }) => {
                    around.events.resolve(self.uid, host.to_owned(), port, attempt);
                    None
                }
                Some(Output::Connect(address)) => {
                    self.connect(address, around);
                    None
                }
                Some(Output::Close) => {
                    self.disconnect(around);
                    None
                }
                Some(Output::StatusChanged) => {
                    show_state(&mut self.publisher, self.camera.status());
                    around.events.status(self.uid, self.camera.status().clone());
                    None
                }
                Some(Output::Stopped) => {
                    self.is_over = true;
                    None
                }
            };
            if let Some(refused) = refused {
                self.disconnect(around);
                let how = PeerClose::Broken(refused.to_string());
                self.camera.on_closed(around.now, how, &mut *self.publisher);
            }
        }
    }

    fn connect(&mut self, address: std::net::SocketAddr, around: &mut Surroundings<'_>) {
        self.disconnect(around);
        // A connection that is not up yet cannot go along.
        self.stay(around);
        match around.io.connect(address) {
            Ok(token) => self.connection = Some(token),
            Err(error) => self.camera.on_connect_failed(around.now, connect_failure(error)),
        }
    }

    /// Leaves the connection and what it has brought.
    fn disconnect(&mut self, around: &mut Surroundings<'_>) {
        if let Some(token) = self.connection.take() {
            around.io.close(token);
        }
        if let Departure::InHand(_) = self.departure {
            self.departure = Departure::Begun;
        }
        self.inbox.clear();
    }
}

/// Tells the readers what state the stream is in.
fn show_state(publisher: &mut Publisher, status: &Status) {
    let state = match status.state {
        State::Streaming => StreamState::Live,
        _ if publisher.counters().units == 0 => StreamState::Pending,
        State::Pending
        | State::Connecting
        | State::Stalled
        | State::Backoff
        | State::AuthFailed
        | State::Unsupported
        | State::Stopping => StreamState::Stalled,
    };
    publisher.set_state(state, status.reason.number());
}

/// What it means to a camera that its connection did not come up.
pub fn connect_failure(error: ConnectError) -> ConnectFailure {
    match error {
        ConnectError::Refused => ConnectFailure::Refused,
        ConnectError::TimedOut => ConnectFailure::TimedOut,
        ConnectError::Network(_) | ConnectError::SocketsExhausted { .. } | ConnectError::Socket(_) => {
            ConnectFailure::Network(error.to_string())
        }
    }
}

/// What it means to a camera that its connection has ended.
pub fn peer_close(reason: CloseReason) -> PeerClose {
    match reason {
        CloseReason::Ended => PeerClose::Closed,
        CloseReason::Reset => PeerClose::Reset,
        CloseReason::TimedOut => PeerClose::TimedOut,
        CloseReason::Broken(_) => PeerClose::Broken(reason.to_string()),
    }
}

fn broken(now: Now) -> Status {
    Status {
        state: State::Backoff,
        reason: Reason::InternalError,
        detail: "a bug of the daemon keeps this stream down; set it up again, and report the log".to_owned(),
        since: now.wall,
        next_attempt: None,
    }
}

#[cfg(test)]
mod tests;
