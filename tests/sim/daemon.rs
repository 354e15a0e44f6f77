//! The daemon's side of one stream: the real state machine and the real publisher, joined as a shard's stream joins them.
//!
//! What is added looks, and does nothing: at the order of calls into the sink, at the memory that the two hold, at how often they
//! want to be called.

use std::alloc::System;
use std::net::SocketAddr;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use vms_media::codec::{
    AccessUnit, AccessUnitSink, AppendError, CommitError, ConfigError, ConfigId, ParameterSets,
};
use vms_media::ids::StreamUid;
use vms_media::ingest::{Camera, CameraConfig, Output, Status};
use vms_media::publish::{Bells, Publisher, StreamState};
use vms_media::time::{Mono, Now};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes of a stream's arena: the least that there is, so that it is lapped soon and a unit too large is small.
const ARENA_LEN: usize = 64 * 1024;
/// Heap of one stream, whatever its camera does: the longest message (64 KiB of head, 256 KiB of body), which may have half of its
/// memory to grow into, and what a stream needs.
const HEAP_MAX: i64 = 800 * 1024;
/// Heap of one stream whose camera is as it should be.
const HEAP_USUAL: i64 = 48 * 1024;
/// Calls in a row at one point in time: the end of a TEARDOWN, of a wait that ended before, of an attempt that fails at once.
const CALLS_AT_ONCE_MAX: u32 = 4;
/// Deadlines a second, in the long run: keepalives come each second at most, reports and watches each five.
const DEADLINES_PER_SECOND_MAX: u64 = 4;

/// What the stream asks of its surroundings.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Resolve { host: String, attempt: u64 },
    Connect(SocketAddr),
    Send(Vec<u8>),
    Close,
    Status(Status),
    Stopped,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) camera: Camera,
    pub(crate) sink: Sink,
    /// Bytes on the heap that came with calls and did not go.
    heap: i64,
    pub(crate) heap_most: i64,
    called_at: (Mono, u32),
    deadlines: u64,
    started_at: Mono,
    pub(crate) is_connected: bool,
    pub(crate) is_over: bool,
}

/// The publisher, and whether calls to it come in the order of [`AccessUnitSink`].
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) publisher: Publisher,
    is_open: bool,
}

impl Daemon {
    pub(crate) fn new(uid: u64, config: CameraConfig, seed: u64, now: Now) -> Self {
        let publisher = Publisher::create(StreamUid(uid), seed, ARENA_LEN).unwrap();
        let before = heap();
        let camera = Camera::new(config, seed, now);
        Self {
            camera,
            sink: Sink { publisher, is_open: false },
            heap: heap() - before,
            heap_most: 0,
            called_at: (now.mono, 0),
            deadlines: 0,
            started_at: now.mono,
            is_connected: false,
            is_over: false,
        }
    }

    /// Calls into the camera and gives what it asks for, in order.
    pub(crate) fn call(&mut self, now: Now, call: impl FnOnce(&mut Camera, &mut Sink)) -> Vec<Wish> {
        let before = heap();
        self.sink.publisher.set_now(now.mono);
        call(&mut self.camera, &mut self.sink);
        self.heap += heap() - before;
        self.check_heap();
        let mut wishes = Vec::new();
        loop {
            let before = heap();
            let output = self.camera.poll_output();
            // What is sent is lent from a buffer of the camera's that stays.
            self.heap += heap() - before;
            let Some(output) = output else { break };
            wishes.push(match output {
                Output::Resolve { host, attempt, .. } => Wish::Resolve { host: host.to_owned(), attempt },
                Output::Connect(address) => Wish::Connect(address),
                Output::Send(bytes) => Wish::Send(bytes.to_vec()),
                Output::Close => Wish::Close,
                Output::StatusChanged => Wish::Status(self.camera.status().clone()),
                Output::Stopped => Wish::Stopped,
            });
        }
        wishes
    }

    /// What is due, if anything is.
    pub(crate) fn handle_timeout(&mut self, now: Now) -> Vec<Wish> {
        let is_due = self.camera.poll_timeout().is_some_and(|due| due <= now.mono);
        if is_due {
            self.deadlines += 1;
            self.called_at =
                if self.called_at.0 == now.mono { (now.mono, self.called_at.1 + 1) } else { (now.mono, 1) };
            assert!(self.called_at.1 <= CALLS_AT_ONCE_MAX, "it wants to be called again and again");
        }
        self.call(now, |camera, sink| camera.handle_timeout(now, sink))
    }

    /// What must hold between two calls.
    pub(crate) fn check(&self, now: Mono, is_well_behaved: bool) {
        assert!(!self.sink.is_open || self.is_connected, "a unit is open without a connection");
        if self.camera.is_unit_open() {
            assert!(self.sink.is_open, "it says that a unit is open");
        }
        let lived_s = now.since(self.started_at).as_secs();
        assert!(
            self.deadlines <= 20 + lived_s * DEADLINES_PER_SECOND_MAX,
            "{} calls in {lived_s} s",
            self.deadlines
        );
        if is_well_behaved {
            assert!(self.heap <= HEAP_USUAL, "{} bytes on the heap", self.heap);
        }
    }

    fn check_heap(&mut self) {
        self.heap_most = self.heap_most.max(self.heap);
        assert!(self.heap <= HEAP_MAX, "{} bytes on the heap", self.heap);
    }

    /// The end of the stream's turn: readers get what they have room for, and their bells are rung.
    pub(crate) fn feed(&mut self, now: Now, bells: &mut Bells) {
        self.sink.publisher.set_now(now.mono);
        self.sink.publisher.feed();
        self.sink.publisher.take_touched(bells);
        bells.ring(now.mono, |_| true);
    }

    /// When it wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Mono> {
        [self.camera.poll_timeout(), self.sink.publisher.poll_timeout()].into_iter().flatten().min()
    }

    /// Tells readers of the stream's state.
    pub(crate) fn show(&mut self, state: StreamState, status: &Status) {
        self.sink.publisher.set_state(state, status.reason.number());
    }
}

impl AccessUnitSink for Sink {
    fn begin(&mut self) {
        assert!(!self.is_open, "a unit is begun while one is open");
        self.is_open = true;
        self.publisher.begin();
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        assert!(
            self.is_open && !bytes.is_empty(),
            "{} bytes are appended, open: {}",
            bytes.len(),
            self.is_open
        );
        self.publisher.append(bytes)
    }

    fn commit(&mut self, unit: &AccessUnit<'_>) -> Result<(), CommitError> {
        assert!(self.is_open, "nothing is committed");
        self.is_open = false;
        self.publisher.commit(unit)
    }

    fn abort(&mut self) {
        self.is_open = false;
        self.publisher.abort();
    }

    fn configure(&mut self, sets: &ParameterSets<'_>) -> Result<ConfigId, ConfigError> {
        self.publisher.configure(sets)
    }
}

/// Bytes that are allocated now, by this process: runs take turns.
fn heap() -> i64 {
    let stats = ALLOCATOR.stats();
    i64::try_from(stats.bytes_allocated).unwrap() - i64::try_from(stats.bytes_deallocated).unwrap()
}
