//! The control plane's one state: the registry, and the engine that carries what stands in it.
//!
//! Everything here runs on the control thread, but for making a stream's memory, which takes milliseconds. The mutex
//! is there because tonic's handlers must be `Send`; it is never contended and never held across an await.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring_abi::layout::{ABI_MAJOR, ABI_MINOR};
use tokio::sync::{Notify, Semaphore};
use tracing::{debug, info, warn};
use vms_proto::v1;

use super::attach::{Attachments, Taken};
use super::balance::{self, Balancer, StreamLoad};
use super::budget::Budget;
use super::configured::{Origin, Owned};
use super::engine::{self, Engine, Io};
use super::error::ApiError;
use super::feed::Watch;
use super::log_gate::{LogGate, Verdict};
use super::outage::Outages;
use super::programs::{Board, Program};
use super::registry::{Change, Page, Place, Registry};
use super::setups::{self, Claim, Gone, Setups};
use super::spec::StreamSpec;
use super::state::{SavedStream, Store};
use super::withdrawals::Withdrawals;
use super::{huge_pages, show};
use crate::clock;
use crate::ids::{StreamId, StreamUid};
use crate::ingest::{Reason, State, Status};
use crate::limits::{ENDED_STREAMS_HELD_MAX, SEGMENTS_MADE_MAX, STREAMS_MAX};
use crate::metrics::{self, Snapshot};
use crate::publish::attach::{Handle, PendingAttach, Request};
use crate::publish::{Joined, Publisher, RefusalCode, RingId};
use crate::shard::{Event, ShardStats};
use crate::time::{Mono, UnixNanos};

mod access;
mod durable;
mod relocation;

use relocation::Relocations;

/// How long a set-up may wait for its memory. Then it is given up, and the caller is told to come again.
pub(crate) const SETUP_TIMEOUT: Duration = Duration::from_secs(4);

/// The state behind its lock.
#[derive(Clone)]
pub(crate) struct SharedPlane {
    plane: Arc<Mutex<Plane>>,
    idle: Arc<Notify>,
    /// The plane's own, to be waited for without its lock.
    setups: Setups,
    /// One for each stream that may look for other memory at once.
    movers: Arc<Semaphore>,
}

/// What a request to set a stream up found.
enum Found {
    /// The same stream.
    Same(Box<v1::Stream>),
    /// Nothing, and the id is being set up.
    Busy,
    /// Nothing. This is the new stream's incarnation, and its right to the id.
    Free(StreamUid, Claim),
}

/// A stream that is about to be registered.
struct New {
    uid: StreamUid,
    stream: SavedStream,
    origin: Origin,
    publisher: Box<Publisher>,
}

/// Registry, engine and readers.
pub(crate) struct Plane {
    registry: Registry,
    engine: Engine,
    attachments: Attachments,
    budget: Budget,
    store: Option<Store>,
    /// Streams that are the configuration file's.
    owned: Owned,
    setups: Setups,
    withdrawals: Withdrawals,
    relocations: Relocations,
    balancer: Balancer,
    outages: Outages,
    programs: Board,
    log_gate: LogGate,
    next_uid: u64,
    draining: bool,
    start: UnixNanos,
}

/// A host name that a stream needs looked up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    /// For whom.
    pub(crate) uid: StreamUid,
    /// The name.
    pub(crate) host: String,
    /// The port, which the answer carries along.
    pub(crate) port: u16,
    /// The question's number, which goes back with the answer.
    pub(crate) attempt: u64,
}

/// What came of a batch of events.
#[derive(Default)]
pub(crate) struct Batch {
    /// Names to look up.
    pub(crate) lookups: Vec<Lookup>,
    /// What is left of streams that are gone, to be dropped on another thread.
    pub(crate) gone: Vec<Gone>,
    /// Streams that are to move to other memory.
    moves: Vec<StreamUid>,
    /// Whether there may be more events.
    pub(crate) more: bool,
    /// The shard's thread has ended.
    pub(crate) is_over: bool,
}

/// Facts for `GetServerInfo`.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Streams now.
    pub(crate) streams: usize,
    /// Revision now.
    pub(crate) revision: u64,
    /// What each shard has done.
    pub(crate) shards: Vec<ShardStats>,
    /// Reader programs of this daemon's.
    pub(crate) programs: Vec<Program>,
    /// How they do input and output.
    pub(crate) io: Io,
    /// Bytes that the streams' memory may take.
    pub(crate) stream_memory_max: u64,
    /// When this daemon started.
    pub(crate) start: UnixNanos,
}

impl SharedPlane {
    /// An empty registry before `engine`, whose streams keep within `budget`; readers come through `door`. What is to outlive
    /// the daemon goes to `store`; what is the file's, callers may not change.
    pub(crate) fn new(
        engine: Engine,
        door: Handle,
        budget: Budget,
        store: Option<Store>,
        owned: Owned,
    ) -> Self {
        let start = clock::now().wall;
        let registry = Registry::new(start);
        let attachments = Attachments::new(door);
        let setups = Setups::new();
        let own = setups.clone();
        let plane = Plane {
            registry,
            engine,
            attachments,
            budget,
            store,
            owned,
            setups: own,
            withdrawals: Withdrawals::default(),
            relocations: Relocations::default(),
            balancer: Balancer::default(),
            outages: Outages::default(),
            programs: Board::default(),
            log_gate: LogGate::default(),
            next_uid: 1,
            draining: false,
            start,
        };
        let movers = Arc::new(Semaphore::new(SEGMENTS_MADE_MAX));
        Self { plane: Arc::new(Mutex::new(plane)), idle: Arc::default(), setups, movers }
    }

    /// Registers and starts a stream; the flag tells whether it is new.
    ///
    /// Of two calls with one id the second finds what the first made. A caller that goes away before its stream is
    /// registered, or that waited too long, leaves nothing behind.
    ///
    /// # Errors
    /// `Overloaded` after [`SETUP_TIMEOUT`]; else what [`ApiError`] says.
    pub(crate) async fn setup(&self, id: StreamId, spec: StreamSpec) -> Result<(v1::Stream, bool), ApiError> {
        let (created, store) = (clock::now().wall, self.lock().store.clone());
        let stream = SavedStream { id, spec, created };
        setups::in_time(SETUP_TIMEOUT, self.set_up(stream, Origin::Api, store)).await
    }

    /// Sets a stream up, and saves it before in `store` if there is one.
    async fn set_up(
        &self,
        stream: SavedStream,
        origin: Origin,
        store: Option<Store>,
    ) -> Result<(v1::Stream, bool), ApiError> {
        let (uid, claim) = loop {
            let ended = self.setups.ended();
            let found = self.lock().find(&stream.id, &stream.spec, origin)?;
            match found {
                Found::Same(stream) => return Ok((*stream, false)),
                Found::Busy => ended.await,
                Found::Free(uid, claim) => break (uid, claim),
            }
        };
        let made = claim.make(move || engine::make_publisher(uid)).await;
        let (publisher, claim) = made.map_err(|why| ApiError::MemoryLimit { why })?;
        let new = New { uid, stream, origin, publisher: publisher? };
        let stream = match store {
            Some(store) => self.save_and_register(new, claim, store).await?,
            None => self.lock().register(new)?,
        };
        Ok((stream, true))
    }

    /// The state. A panic in a handler left it whole: each change of the registry is one call.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Plane> {
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up to `limit` events of `shard`.
    pub(crate) fn take_events(&self, shard: usize, limit: usize) -> Batch {
        let mut plane = self.lock();
        let mut batch = plane.take_events(shard, limit);
        if plane.engine.live() == 0 {
            self.idle.notify_one();
        }
        drop(plane);
        batch.moves.drain(..).for_each(|uid| self.spawn_move(uid));
        batch
    }

    /// Removes everything and waits until the shards have let go of it.
    pub(crate) async fn drain(&self) {
        self.lock().drain();
        while self.lock().engine.live() > 0 {
            self.idle.notified().await;
        }
    }

    /// Tells of these reader programs too.
    pub(crate) fn show_programs(&self, programs: Board) {
        self.lock().programs = programs;
    }

    /// Ends the shards.
    pub(crate) fn stop(&self) {
        self.lock().engine.stop();
    }
}

impl Plane {
    /// Looks whether a stream may be set up, and claims its id and room for it if so.
    fn find(&mut self, id: &StreamId, spec: &StreamSpec, origin: Origin) -> Result<Found, ApiError> {
        if self.draining {
            return Err(ApiError::Draining);
        }
        let there = self.registry.lookup(id, spec);
        if let Ok(Some(stream)) = there {
            return Ok(Found::Same(Box::new(stream)));
        }
        // Also one that could not be carried: with a caller's spec it would be another after the next start.
        if origin == Origin::Api {
            self.owned.refuse(id)?;
        }
        there?;
        // Counted at the engine: a stream that is being torn down holds its memory until the camera has said goodbye.
        let others = self.segments();
        let Some(claim) = self.setups.claim(id) else { return Ok(Found::Busy) };
        self.budget.one_more(others)?;
        let uid = StreamUid(self.next_uid);
        self.next_uid += 1;
        Ok(Found::Free(uid, claim))
    }

    /// Segments that take room, also those that only readers still hold.
    fn segments(&self) -> usize {
        self.engine.live() + self.setups.rooms() + self.withdrawals.segments() + self.held_by(None)
    }

    /// Streams that no shard has any more, but readers of the user `uid` (or of any) hold.
    fn held_by(&self, uid: Option<u32>) -> usize {
        self.attachments.held_by(uid, |stream| self.engine.segment(stream).is_some())
    }

    /// Registers and starts a stream whose id is free.
    fn register(&mut self, new: New) -> Result<v1::Stream, ApiError> {
        let New { uid, stream, origin, publisher } = new;
        // The stop may have begun while the memory was made.
        if self.draining {
            return Err(ApiError::Draining);
        }
        let place = Place { uid, shard: balance::place(self.engine.shards(), self.registry.loads()) };
        self.engine.add(place, &stream.id, &stream.spec, publisher)?;
        info!(stream = %stream.id, shard = place.shard, "stream set up");
        let stream = self.registry.insert(stream, origin, place, clock::now());
        self.attachments.set_guests(self.registry.guests());
        Ok(stream)
    }

    /// Takes a stream away; false when it was not there.
    fn teardown(&mut self, id: &StreamId) -> bool {
        let Some(place) = self.registry.remove(id) else { return false };
        self.engine.remove(place);
        self.attachments.set_guests(self.registry.guests());
        info!(stream = %id, "stream torn down");
        true
    }

    /// Has a stream's camera tried anew at once; the stream as it was.
    pub(crate) fn restart(&mut self, id: &StreamId) -> Result<v1::Stream, ApiError> {
        if self.draining {
            return Err(ApiError::Draining);
        }
        let place = self.registry.place(id, "")?;
        self.engine.restart(place.uid);
        info!(stream = %id, "stream restarted");
        self.registry.stream(id)
    }

    /// One stream, with its readers: those whose end the shard has not told yet may have gone.
    pub(crate) fn stream(&self, id: &StreamId) -> Result<v1::Stream, ApiError> {
        let mut stream = self.registry.stream(id)?;
        let readers = self.registry.readers(id).iter();
        let there =
            readers.filter_map(|stats| Some(show::reader(stats, self.attachments.peer(stats.ring)?.uid)));
        stream.readers = there.collect();
        Ok(stream)
    }

    /// A page of streams, with the revision it shows.
    pub(crate) fn page(&self, after: Option<&StreamId>, size: usize) -> (Page, u64) {
        (self.registry.page(after, size), self.registry.revision())
    }

    /// A watch.
    pub(crate) fn watch(&mut self, from: u64) -> Result<Watch, ApiError> {
        if self.draining { Err(ApiError::Draining) } else { Ok(self.registry.watch(from)) }
    }

    /// Why a watch ended that the watcher did not end.
    pub(crate) const fn watch_end(&self) -> ApiError {
        if self.draining { ApiError::Draining } else { ApiError::SlowWatcher }
    }

    /// Facts about the daemon.
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            streams: self.registry.len(),
            revision: self.registry.revision(),
            shards: self.engine.stats(),
            io: self.engine.io().clone(),
            stream_memory_max: self.budget.bytes_max(),
            programs: self.programs.programs(),
            start: self.start,
        }
    }

    /// Whether the daemon is stopping.
    pub(crate) const fn is_draining(&self) -> bool {
        self.draining
    }

    /// What metrics tell.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let io = self.engine.io();
        let daemon = metrics::Daemon {
            version: env!("CARGO_PKG_VERSION"),
            io_backend: io.backend.name(),
            is_fallback: io.why_not_uring.is_some(),
            abi: (ABI_MAJOR.into(), ABI_MINOR.into()),
            start: show::timestamp(self.start),
            streams_max: STREAMS_MAX,
            stream_memory_bytes: self.budget.bytes_of(self.segments()),
            stream_memory_max_bytes: self.budget.bytes_max(),
            arena_page_bytes: huge_pages::arena_page_len(),
            attachments: self.attachments.len(),
        };
        let programs = self.programs.programs().into_iter().map(|Program { name, pid, starts, .. }| {
            metrics::Program { name, is_running: pid.is_some(), starts }
        });
        Snapshot {
            daemon,
            shards: self.engine.stats(),
            programs: programs.collect(),
            streams: self.registry.metrics().collect(),
        }
    }

    /// Does what the attach thread asks for.
    pub(crate) fn serve_reader(&mut self, request: Request) {
        match request {
            Request::Attach(reader) => self.attach(&reader),
            Request::Detach { ring, stream } => {
                if !self.engine.detach(stream, ring) {
                    self.attachments.detached(ring);
                }
            }
        }
    }

    fn attach(&mut self, reader: &PendingAttach) {
        if self.draining {
            let text = "the daemon is stopping".to_owned();
            self.attachments.refuse(reader.ring, RefusalCode::Unavailable, text);
            return;
        }
        let allowed = match self.registry.access(&reader.stream) {
            Some(access) => access.allows(reader.peer),
            // Whoever is not an owner does not learn which streams there are.
            None => reader.peer.is_owner,
        };
        if !allowed {
            self.attachments.forbid(reader.ring);
            return;
        }
        let segment = self.registry.uid(&reader.stream).and_then(|uid| self.engine.segment(uid));
        let Some(segment) = segment else {
            let text = format!("there is no stream {}", reader.stream);
            self.attachments.refuse(reader.ring, RefusalCode::UnknownStream, text);
            return;
        };
        if self.held_by(Some(reader.peer.uid)) >= ENDED_STREAMS_HELD_MAX {
            let text = format!(
                "readers of this user hold the memory of {ENDED_STREAMS_HELD_MAX} streams that have ended: detach them"
            );
            self.attachments.refuse(reader.ring, RefusalCode::Limit, text);
            return;
        }
        let uid = segment.uid;
        if let Some(ring) = self.attachments.begin(reader, segment) {
            self.engine.attach(uid, ring);
        }
    }

    /// A shard took a ring in.
    fn attached(&mut self, uid: StreamUid, ring: RingId, joined: Joined, memory: &Arc<OwnedFd>) {
        let access = self.registry.access_of(uid);
        match self.attachments.attached(ring, joined, Arc::clone(memory), access) {
            Taken::Sent(peer) => self.withdrawals.give(uid, peer, memory),
            Taken::TurnedAway if !self.engine.detach(uid, ring) => self.attachments.detached(ring),
            Taken::TurnedAway | Taken::Unknown => {}
        }
    }

    /// Hands a look-up's result to the stream that asked.
    pub(crate) fn resolved(&mut self, lookup: &Lookup, answer: Result<Vec<SocketAddr>, String>) {
        self.engine.resolved(lookup.uid, lookup.attempt, answer);
    }

    fn take_events(&mut self, shard: usize, limit: usize) -> Batch {
        let mut batch = Batch::default();
        self.engine.clear_bell(shard);
        for _ in 0..limit {
            let Some(event) = self.engine.next_event(shard) else {
                batch.is_over = self.engine.is_over(shard);
                return batch;
            };
            self.take_event(shard, event, &mut batch);
        }
        batch.more = true;
        batch
    }

    fn take_event(&mut self, shard: usize, event: Event, batch: &mut Batch) {
        let now = clock::now();
        match event {
            Event::Status { uid, status } => {
                if let Some(change) = self.registry.status(uid, &status, now) {
                    log_status(&change, &status, |state, reason| {
                        self.log_gate.admit(uid, state, reason, now.mono)
                    });
                }
                for lost_with_it in self.outages.note(uid, &status, now.mono) {
                    self.engine.hasten(lost_with_it);
                }
            }
            Event::Departed { uid, stream } => self.engine.departed(uid, stream),
            Event::Stayed { uid } => {
                self.engine.stayed(uid);
                self.relocations.stayed(uid);
            }
            Event::Arrived { uid } => {
                self.registry.set_shard(uid, shard);
                self.balancer.moved(uid, now.mono);
                self.relocations.arrived(uid);
            }
            Event::Format { uid, format } => self.registry.format(uid, format),
            Event::ShardStats(stats) => {
                self.engine.note_stats(shard, stats);
                self.balance(now.mono);
            }
            Event::Stats { uid, stats, readers } => {
                if self.registry.stats(uid, &stats, readers, now) {
                    self.tell_throttled(uid, now.mono);
                }
                self.tell_untold(uid, now.mono);
            }
            Event::Resolve { uid, host, port, attempt } => {
                batch.lookups.push(Lookup { uid, host, port, attempt });
            }
            Event::Attached { uid, ring, joined, segment } => self.attached(uid, ring, joined, &segment),
            // Rings are dropped here, because a shard has no time for it.
            Event::NotAttached { uid: _, id, ring: _ } => self.attachments.not_attached(id),
            Event::Detached { uid: _, id, ring: _ } => self.attachments.detached(id),
            // The engine counts; the registry has forgotten it when its removal was asked for.
            Event::Moved { uid } => {
                self.withdrawals.moved(uid);
                batch.moves.extend(self.move_is_over(uid).then_some(uid));
            }
            Event::NotMoved { uid, memory } => {
                batch.gone.push(self.setups.leave(memory));
                batch.moves.extend(self.move_is_over(uid).then_some(uid));
            }
            Event::Released { uid, memory } => {
                self.withdrawals.released(uid);
                batch.gone.push(self.setups.leave(memory));
            }
            Event::Removed { uid, publisher } => {
                self.withdrawals.forget(uid);
                self.outages.forget(uid);
                self.log_gate.forget(uid);
                self.relocations.stayed(uid);
                batch.gone.push(self.setups.leave(*publisher));
            }
        }
    }

    /// Tells how many lines a stream was not given, when it may have one again.
    fn tell_untold(&mut self, uid: StreamUid, now: Mono) {
        if let Some(untold) = self.log_gate.take_untold(uid, now)
            && let Some(id) = self.registry.name(uid)
        {
            warn!(stream = %id, untold, "its state changed more often than is told here: see `vms-ctl watch`, or VMS_LOG=debug");
        }
    }

    /// Names a camera that sends more than it may.
    fn tell_throttled(&mut self, uid: StreamUid, now: Mono) {
        if self.log_gate.admit_throttled(uid, now)
            && let Some(id) = self.registry.name(uid)
        {
            warn!(stream = %id, "the camera sends more than it may, and is read later: see `max_mbit_s` of the configuration");
        }
    }

    /// Moves a stream when one shard has clearly more to do than another.
    fn balance(&mut self, now: Mono) {
        if self.draining || !self.balancer.is_due(now) {
            return;
        }
        let streams: Vec<StreamLoad> = self.registry.loads().collect();
        let Some((uid, to)) = self.balancer.next_move(now, self.engine.shards(), &streams) else {
            return;
        };
        if self.engine.begin_move(uid, to)
            && let Some(id) = self.registry.name(uid)
        {
            info!(stream = %id, shard = to, "goes to a shard that has less to do");
        }
    }

    /// Watchers are told that the daemon stops, not that the streams were removed: nobody asked for that.
    fn drain(&mut self) {
        self.draining = true;
        self.registry.close();
        for place in self.registry.places() {
            self.engine.remove(place);
        }
    }
}

/// A camera that stays down is told once and not at each attempt: five hundred of them would drown everything else. Neither may
/// one that comes and goes: `gate` says whether its line is one too many.
fn log_status(change: &Change<'_>, status: &Status, gate: impl FnOnce(State, Reason) -> Verdict) {
    let Status { state, reason, .. } = status;
    let (id, detail) = (change.id, show::detail(&status.detail));
    let is_news = match state {
        State::Backoff | State::AuthFailed | State::Unsupported | State::Stalled => change.is_new_reason,
        State::Streaming => true,
        State::Pending | State::Connecting | State::Stopping => false,
    };
    match is_news.then(|| gate(*state, *reason)) {
        Some(Verdict::Told { untold: 0 }) if *state == State::Streaming => info!(stream = %id, "streaming"),
        Some(Verdict::Told { untold }) if *state == State::Streaming => {
            info!(stream = %id, untold, "streaming")
        }
        Some(Verdict::Told { untold: 0 }) => warn!(stream = %id, ?state, ?reason, "{detail}"),
        Some(Verdict::Told { untold }) => warn!(stream = %id, ?state, ?reason, untold, "{detail}"),
        Some(Verdict::Untold) | None => debug!(stream = %id, ?state, ?reason, "{detail}"),
    }
}
