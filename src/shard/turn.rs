//! The turn: the same things in the same order, as often as something happens.
//!
//! ```text
//!  clock ▶ commands ▶ what was left ▶ completions ▶ deadlines ▶ readers ▶ events ▶ submit and wait
//! ```
//! No logic of its own: what a stream does is [`Stream`]'s, how long to gather is [`Pacing`]'s.

use std::collections::HashMap;
use std::time::Duration;

use ringbuf::HeapCons;
use ringbuf::traits::{Consumer, Observer};

use super::command::{Command, Event, NewStream, ShardStats};
use super::deadlines::Deadlines;
use super::events::EventSender;
use super::gate::Gate;
use super::line::Line;
use super::pacing::Pacing;
use super::stream::{Stream, Surroundings};
use crate::clock;
use crate::ids::StreamUid;
use crate::io::{Backend, Completion, Token, WaitError};
use crate::limits::COMMANDS_PER_TURN;
use crate::publish::Bells;
use crate::time::{Mono, Now};

/// How often counters are told.
const STATS_INTERVAL: Duration = Duration::from_secs(1);
/// How soon events that found the queue full are tried again.
const EVENTS_RETRY: Duration = Duration::from_millis(10);

/// One thread's streams and what they share.
pub(super) struct Shard {
    pub(super) io: Backend,
    pub(super) events: EventSender,
    pub(super) commands: HeapCons<Command>,
    pub(super) pacing: Pacing,
    pub(super) gate: Gate,
    streams: Streams,
    deadlines: Deadlines,
    /// Reader sessions whose bell is to be rung at the end of the turn, or who are to be woken later.
    bells: Bells,
    stats_at: Mono,
    /// Turns so far.
    turns: u64,
    /// System calls made to wake readers.
    bell_calls: u64,
    /// Times that a stream had more than its share of a turn.
    overruns: u64,
    /// Somebody called during this turn: there may be commands that it has not seen.
    is_called: bool,
    is_ending: bool,
}

/// The streams, found by name, by socket and by place.
#[derive(Default)]
struct Streams {
    places: Vec<Option<Stream>>,
    free: Vec<usize>,
    by_uid: HashMap<StreamUid, usize>,
    /// By a token's index.
    by_socket: Vec<usize>,
    /// Places to be looked after at the end of the turn.
    touched: Line,
    /// Places with something left for the next turn.
    left: Line,
}

impl Shard {
    /// A shard without streams.
    pub(super) fn new(
        io: Backend,
        events: EventSender,
        commands: HeapCons<Command>,
        pacing: Pacing,
        gate: Gate,
    ) -> Self {
        Self {
            io,
            events,
            commands,
            pacing,
            gate,
            streams: Streams::default(),
            deadlines: Deadlines::default(),
            bells: Bells::new(),
            stats_at: Mono(0),
            turns: 0,
            bell_calls: 0,
            overruns: 0,
            is_called: false,
            is_ending: false,
        }
    }

    /// Turns until it was told to end, the last stream is gone and all was told.
    ///
    /// # Errors
    /// [`WaitError`]: the kernel no longer serves this ring.
    pub(super) fn run(&mut self) -> Result<(), WaitError> {
        while !self.is_done() {
            self.turn()?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let all_told = self.events.is_empty() || !self.events.is_heard();
        self.is_ending && self.streams.by_uid.is_empty() && all_told
    }

    /// One turn.
    ///
    /// # Errors
    /// [`WaitError`]: the kernel no longer serves this ring.
    pub(super) fn turn(&mut self) -> Result<(), WaitError> {
        let now = clock::now();
        self.turns += 1;
        let all_commands = self.take_commands(now);
        self.go_on(now);
        self.take_completions(now);
        self.fire_deadlines(now);
        self.begin_attempts(now);
        self.tell_stats(now);
        let is_unit_open = self.look_after(now);
        self.ring_bells(now.mono);
        self.events.flush();
        let is_called = std::mem::take(&mut self.is_called);
        let has_work = is_called || !all_commands || !self.streams.left.is_empty() || self.gate.is_open();
        let timeout = if has_work { Some(Duration::ZERO) } else { self.timeout() };
        self.io.wait(timeout, self.pacing.hold(now.mono, is_unit_open))
    }

    /// Whether all were taken.
    fn take_commands(&mut self, now: Now) -> bool {
        for _ in 0..COMMANDS_PER_TURN {
            // In this order: what was sent before the sender was dropped is seen.
            let is_held = self.commands.write_is_held();
            match self.commands.try_pop() {
                Some(command) => self.obey(command, now),
                None if is_held || self.is_ending => return true,
                None => self.obey(Command::Shutdown, now),
            }
        }
        self.commands.is_empty()
    }

    fn obey(&mut self, command: Command, now: Now) {
        match command {
            Command::Add(new) if self.is_ending => self.events.removed(new.uid, new.publisher),
            Command::Add(new) => self.add(*new, now),
            Command::Remove { uid } => self.with_uid(uid, now, Stream::stop),
            Command::Restart { uid } => {
                self.with_uid(uid, now, Stream::start);
                self.count_attempt(uid, now);
            }
            Command::Hasten { uid } => self.with_uid(uid, now, Stream::hasten),
            Command::SetPolicy { uid, policy } => {
                self.with_uid(uid, now, |stream, around| stream.set_policy(*policy, around));
            }
            Command::Depart { uid } => self.with_uid(uid, now, Stream::depart),
            Command::Arrive(stream) if self.is_ending => {
                self.events.removed(stream.uid(), stream.into_publisher())
            }
            Command::Arrive(stream) => {
                let (stream, handover, attempt) = Stream::arrived(*stream);
                let place = self.streams.insert(stream);
                attempt.into_iter().for_each(|attempt| self.gate.enter(place, attempt));
                self.with(place, now, |stream, around| stream.settle(handover, around));
            }
            Command::Resolved { uid, attempt, answer } => {
                self.with_uid(uid, now, |stream, around| stream.on_resolved(attempt, answer, around));
            }
            Command::Attach { uid, ring } => match self.streams.by_uid.get(&uid) {
                Some(&place) => self.with(place, now, |stream, around| stream.attach(ring, around)),
                None => self.events.answer(Event::NotAttached { uid, id: ring.id(), ring: Some(ring) }),
            },
            Command::Detach { uid, ring: id } => match self.streams.by_uid.get(&uid) {
                Some(&place) => self.with(place, now, |stream, around| stream.detach(id, around)),
                None => self.events.answer(Event::Detached { uid, id, ring: None }),
            },
            Command::Rotate { uid, successor, linger_max } => match self.streams.by_uid.get(&uid) {
                Some(&place) => {
                    self.with(place, now, |stream, around| stream.rotate(successor, linger_max, around));
                }
                None => self.events.answer(Event::NotMoved { uid, memory: successor }),
            },
            Command::Shutdown => {
                self.is_ending = true;
                for place in 0..self.streams.places.len() {
                    self.with(place, now, Stream::stop);
                }
            }
        }
    }

    fn add(&mut self, new: NewStream, now: Now) {
        let place = self.streams.insert(Stream::new(new, now));
        self.with(place, now, |_, _| {});
        self.ask_to_begin(place, now);
    }

    /// Streams that had more than their share go on with it.
    fn go_on(&mut self, now: Now) {
        // Those that have something left again stand behind these, for the next turn.
        for _ in 0..self.streams.left.len() {
            if let Some(place) = self.streams.left.pop() {
                self.with_rest(place, now, Stream::go_on);
            }
        }
    }

    fn take_completions(&mut self, now: Now) {
        while let Some(completion) = self.io.next_completion() {
            match completion {
                Completion::Connected(token) => {
                    self.with_token(token, now, |stream, around| {
                        stream.on_connected(token, around);
                        false
                    });
                }
                Completion::ConnectFailed(token, error) => {
                    self.with_token(token, now, |stream, around| {
                        stream.on_connect_failed(token, error, around);
                        false
                    });
                }
                Completion::Received(token, buffer) => {
                    self.with_token(token, now, |stream, around| stream.on_received(token, buffer, around));
                }
                Completion::Closed(token, reason) => {
                    self.with_token(token, now, |stream, around| stream.on_closed(token, reason, around));
                }
                Completion::HandedOut(token, handover) => {
                    self.with_token(token, now, |stream, around| {
                        stream.on_handed_out(token, handover, around)
                    });
                }
                Completion::Woken => self.is_called = true,
            }
        }
    }

    fn fire_deadlines(&mut self, now: Now) {
        while let Some(place) = self.deadlines.pop_due(now.mono) {
            if !self.ask_to_begin(place, now) {
                self.with(place, now, Stream::handle_timeout);
            }
        }
    }

    /// If the stream at `place` would begin an attempt, it stands in line for that.
    fn ask_to_begin(&mut self, place: usize, now: Now) -> bool {
        let Some(stream) = self.streams.places.get_mut(place).and_then(Option::as_mut) else { return false };
        let waits = stream.waits_to_begin(now);
        if waits {
            self.gate.ask(place);
            // Its readers' deadline is still to be kept.
            self.streams.touched.push(place);
        }
        waits
    }

    fn begin_attempts(&mut self, now: Now) {
        while let Some(place) = self.gate.next(now.mono) {
            self.with(place, now, Stream::begin);
            if !self.is_attempting(place) {
                self.gate.leave(place);
            }
        }
    }

    /// An attempt that did not stand in line counts, too.
    fn count_attempt(&mut self, uid: StreamUid, now: Now) {
        if let Some(&place) = self.streams.by_uid.get(&uid)
            && self.is_attempting(place)
        {
            self.gate.count(place, now.mono);
        }
    }

    fn is_attempting(&self, place: usize) -> bool {
        self.streams.places.get(place).and_then(Option::as_ref).is_some_and(Stream::is_attempting)
    }

    fn tell_stats(&mut self, now: Now) {
        if now.mono < self.stats_at {
            return;
        }
        self.stats_at = now.mono + STATS_INTERVAL;
        self.events.shard_stats(self.stats());
        for place in 0..self.streams.places.len() {
            self.with(place, now, Stream::tell_stats);
        }
    }

    /// What the shard has done so far.
    fn stats(&self) -> ShardStats {
        let io = self.io.counters();
        ShardStats {
            streams: self.streams.by_uid.len(),
            cpu: clock::thread_cpu(),
            turns: self.turns,
            wake_ups: io.sleeps,
            system_calls: io.enters + self.bell_calls,
            completions: io.completions,
            received_bytes: io.received_bytes,
            reader_wakes: io.wakes + self.bell_calls,
            out_of_buffers: io.out_of_buffers,
            rearms: io.rearms,
            overruns: self.overruns,
            waiting_connects: self.gate.waiting(),
        }
    }

    /// Feeds the readers of each touched stream once, sets its deadline, drops it when it is done.
    ///
    /// Returns whether a unit is incomplete: the rest of it is on its way.
    fn look_after(&mut self, now: Now) -> bool {
        let mut is_unit_open = false;
        while let Some(place) = self.streams.touched.pop() {
            let Some(stream) = self.streams.places.get_mut(place).and_then(Option::as_mut) else { continue };
            let turn = self.turns;
            let around = &mut Surroundings { io: &mut self.io, events: &mut self.events, now, turn };
            stream.feed(&mut self.bells, around);
            is_unit_open |= stream.is_unit_open();
            self.deadlines.set(place, stream.poll_timeout());
            if !stream.is_attempting() {
                self.gate.leave(place);
            }
            let (is_done, is_departing) = (stream.is_done(now), stream.is_ready_to_depart());
            let connection = stream.connection();
            self.streams.bind(place, connection);
            if is_done && let Some(stream) = self.streams.remove(place) {
                self.gate.leave(place);
                self.events.removed(stream.uid, stream.into_publisher());
            } else if is_departing && let Some(stream) = self.streams.remove(place) {
                let attempt = self.gate.leave(place);
                self.events.departed(stream.uid, Box::new(stream.into_moving(attempt)));
            }
        }
        is_unit_open
    }

    /// Readers that sleep are woken by the submit that ends the turn, where the kernel can do that.
    fn ring_bells(&mut self, now: Mono) {
        let calls = self.bells.ring(now, |bell| self.io.wake_waiter(bell));
        self.bell_calls += calls as u64;
    }

    /// How long nothing is due.
    fn timeout(&mut self) -> Option<Duration> {
        let stats = (!self.streams.by_uid.is_empty()).then_some(self.stats_at);
        // Only the sleep is measured from here; no stream sees this time.
        let now = clock::now().mono;
        let retry = (!self.events.is_empty()).then_some(now + EVENTS_RETRY);
        let next =
            [self.deadlines.next(), self.bells.poll_timeout(), self.gate.poll_timeout(now), stats, retry];
        next.into_iter().flatten().min().map(|at| at.since(now))
    }

    fn with_uid(&mut self, uid: StreamUid, now: Now, act: impl FnOnce(&mut Stream, &mut Surroundings<'_>)) {
        if let Some(&place) = self.streams.by_uid.get(&uid) {
            self.with(place, now, act);
        }
    }

    fn with_token(
        &mut self,
        token: Token,
        now: Now,
        act: impl FnOnce(&mut Stream, &mut Surroundings<'_>) -> bool,
    ) {
        // The entry may be another stream's by now. It compares the token.
        if let Some(&place) = self.streams.by_socket.get(token.index as usize) {
            self.with_rest(place, now, act);
        }
    }

    fn with(&mut self, place: usize, now: Now, act: impl FnOnce(&mut Stream, &mut Surroundings<'_>)) {
        self.with_rest(place, now, |stream, around| {
            act(stream, around);
            false
        });
    }

    /// Lets the stream at `place` act; `act` tells whether something is left for the next turn.
    fn with_rest(
        &mut self,
        place: usize,
        now: Now,
        act: impl FnOnce(&mut Stream, &mut Surroundings<'_>) -> bool,
    ) {
        let Some(stream) = self.streams.places.get_mut(place).and_then(Option::as_mut) else { return };
        let turn = self.turns;
        let around = &mut Surroundings { io: &mut self.io, events: &mut self.events, now, turn };
        let has_rest = act(stream, around);
        let connection = stream.connection();
        self.streams.touched.push(place);
        if has_rest {
            self.overruns += 1;
            self.streams.left.push(place);
        }
        self.streams.bind(place, connection);
    }
}

impl Streams {
    fn insert(&mut self, stream: Stream) -> usize {
        let place = self.free.pop().unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(None);
        }
        self.by_uid.insert(stream.uid, place);
        if let Some(free) = self.places.get_mut(place) {
            *free = Some(stream);
        }
        place
    }

    fn remove(&mut self, place: usize) -> Option<Stream> {
        let stream = self.places.get_mut(place).and_then(Option::take)?;
        self.by_uid.remove(&stream.uid);
        self.free.push(place);
        Some(stream)
    }

    /// Completions of `connection` are for the stream at `place`.
    fn bind(&mut self, place: usize, connection: Option<Token>) {
        if let Some(token) = connection {
            let index = token.index as usize;
            if self.by_socket.len() <= index {
                self.by_socket.resize(index + 1, usize::MAX);
            }
            if let Some(entry) = self.by_socket.get_mut(index) {
                *entry = place;
            }
        }
    }
}
