//! The control plane's one state: the registry, and the engine that carries what stands in it.
//!
//! Everything here runs on the control thread. The mutex is there because tonic's handlers must be `Send`; it is
//! never contended and never held across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::{info, warn};
use vms_proto::v1;

use super::clock;
use super::engine::{Engine, Event};
use super::error::ApiError;
use super::feed::Watch;
use super::registry::{Page, Place, Registry};
use super::show;
use super::spec::StreamSpec;
use crate::ids::{StreamId, StreamUid};
use crate::ingest::{State, Status};
use crate::limits::STREAMS_MAX;
use crate::time::UnixNanos;

/// The state behind its lock.
#[derive(Clone)]
pub(crate) struct SharedPlane {
    plane: Arc<Mutex<Plane>>,
    idle: Arc<Notify>,
}

/// Registry and engine.
pub(crate) struct Plane {
    registry: Registry,
    engine: Engine,
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
}

/// What came of a batch of events.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Names to look up.
    pub(crate) lookups: Vec<Lookup>,
    /// Whether there may be more events.
    pub(crate) more: bool,
}

/// Facts for `GetServerInfo`.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Streams now.
    pub(crate) streams: usize,
    /// Revision now.
    pub(crate) revision: u64,
    /// Shards.
    pub(crate) shards: usize,
    /// Their back end.
    pub(crate) io_backend: &'static str,
    /// When this daemon started.
    pub(crate) start: UnixNanos,
}

impl SharedPlane {
    /// An empty registry before `engine`.
    pub(crate) fn new(engine: Engine) -> Self {
        let start = clock::now().wall;
        let registry = Registry::new(start);
        let plane = Plane { registry, engine, next_uid: 1, draining: false, start };
        Self { plane: Arc::new(Mutex::new(plane)), idle: Arc::new(Notify::new()) }
    }

    /// The state. A panic in a handler left it whole: each change of the registry is one call.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Plane> {
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up to `limit` events of `shard`.
    pub(crate) fn take_events(&self, shard: usize, limit: usize) -> Batch {
        let mut plane = self.lock();
        let batch = plane.take_events(shard, limit);
        if plane.engine.live() == 0 {
            self.idle.notify_one();
        }
        batch
    }

    /// Removes everything and waits until the shards have let go of it.
    pub(crate) async fn drain(&self) {
        self.lock().drain();
        while self.lock().engine.live() > 0 {
            self.idle.notified().await;
        }
    }
}

impl Plane {
    /// Registers and starts a stream; the flag tells whether it is new.
    pub(crate) fn setup(&mut self, id: StreamId, spec: StreamSpec) -> Result<(v1::Stream, bool), ApiError> {
        if self.draining {
            return Err(ApiError::Draining);
        }
        if let Some(stream) = self.registry.lookup(&id, &spec)? {
            return Ok((stream, false));
        }
        // Counted at the engine: a stream that is being torn down holds its memory until the camera has said goodbye.
        if self.engine.live() >= STREAMS_MAX {
            return Err(ApiError::StreamLimit { limit: STREAMS_MAX });
        }
        let place = Place { uid: StreamUid(self.next_uid), shard: self.engine.place() };
        self.next_uid += 1;
        self.engine.add(place, &id, &spec)?;
        info!(stream = %id, shard = place.shard, "stream set up");
        Ok((self.registry.insert(id, place, spec, clock::now()), true))
    }

    /// Takes a stream away; false when it was not there.
    pub(crate) fn teardown(&mut self, id: &StreamId) -> bool {
        let Some(place) = self.registry.remove(id) else { return false };
        self.engine.remove(place);
        info!(stream = %id, "stream torn down");
        true
    }

    /// One stream.
    pub(crate) fn stream(&self, id: &StreamId) -> Result<v1::Stream, ApiError> {
        self.registry.stream(id)
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
            shards: self.engine.shards(),
            io_backend: self.engine.io_backend(),
            start: self.start,
        }
    }

    /// Hands a look-up's result to the stream that asked.
    pub(crate) fn resolved(&self, uid: StreamUid, addresses: Result<Vec<std::net::IpAddr>, String>) {
        self.engine.resolved(uid, addresses);
    }

    fn take_events(&mut self, shard: usize, limit: usize) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..limit {
            let Some(event) = self.engine.next_event(shard) else { return batch };
            batch.lookups.extend(self.take_event(event));
        }
        batch.more = true;
        batch
    }

    fn take_event(&mut self, event: Event) -> Option<Lookup> {
        let now = clock::now();
        match event {
            Event::Status { uid, status } => {
                if let Some(id) = self.registry.status(uid, &status, now) {
                    log_status(id, &status);
                }
            }
            Event::Tracks { uid, tracks } => {
                self.registry.tracks(uid, &tracks);
            }
            Event::Counters { uid, counters } => self.registry.counters(uid, &counters, now),
            Event::Resolve { uid, host, port } => return Some(Lookup { uid, host, port }),
            Event::Removed { uid: _ } => {}
        }
        None
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

fn log_status(id: &StreamId, status: &Status) {
    let Status { state, reason, .. } = status;
    let detail = show::detail(&status.detail);
    match state {
        State::Backoff | State::AuthFailed | State::Unsupported | State::Stalled => {
            warn!(stream = %id, ?state, ?reason, "{detail}");
        }
        State::Pending | State::Connecting | State::Streaming | State::Stopping => {
            info!(stream = %id, ?state, ?reason, "{detail}");
        }
    }
}
