//! The shards, as the control thread sees them: who carries what, commands in, events out.
//!
//! Commands that must arrive (a removal, a look-up's answer) wait here when a shard's queue is full, and are sent in
//! their order after its next events. A new stream does not wait: it is refused, and the caller tries again. So what
//! waits is bounded by the streams that there are.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{error, info, warn};

use super::attach::Segment;
use super::error::ApiError;
use super::registry::Place;
use super::spec::StreamSpec;
use crate::config::{Config, IoBackend};
use crate::ids::{StreamId, StreamUid};
use crate::ingest::{CameraConfig, Policy, PolicyChanges};
use crate::limits::{ARENA_LEN_DEFAULT, STREAMS_MAX};
use crate::publish::{Publisher, ReaderRing, RingId, Successor};
use crate::shard::{
    self, BackendKind, Command, CommandSender, Connects, Event, EventReceiver, MovingStream, NewStream,
    ProbeError, Refused, SetupError, ShardConfig, ShardStats,
};

/// All shards.
#[derive(Debug)]
pub(crate) struct Engine {
    shards: Vec<Shard>,
    io: Io,
    /// Patience with cameras whose streams do not say otherwise.
    policy: Policy,
    /// Streams that a shard still holds.
    live: HashMap<StreamUid, Live>,
}

/// How the shards do input and output.
#[derive(Clone, Debug)]
pub(crate) struct Io {
    pub(crate) backend: BackendKind,
    /// Why it is not io_uring, when that was tried.
    pub(crate) why_not_uring: Option<String>,
}

impl Io {
    /// Tells the log.
    fn tell(&self) {
        let io = self.backend;
        match (io, &self.why_not_uring) {
            (BackendKind::Uring, _) => info!(%io, "shards use io_uring"),
            (BackendKind::Epoll, None) => info!(%io, "shards use epoll, as asked for"),
            (BackendKind::Epoll, Some(why)) => {
                warn!(%io, error = why, "shards use epoll, which takes more system calls");
            }
        }
    }
}

#[derive(Debug)]
struct Live {
    shard: usize,
    segment: Segment,
    /// On its way to another shard: which, and what it is to be told once it is there.
    moving: Option<(usize, VecDeque<Command>)>,
}

#[derive(Debug)]
struct Shard {
    commands: CommandSender,
    events: EventReceiver,
    /// Commands that found the queue full.
    waiting: VecDeque<Command>,
    streams: usize,
    /// As of a second ago.
    stats: ShardStats,
    thread: JoinHandle<()>,
}

/// Rings when a shard has something to tell.
#[derive(Debug)]
pub(crate) struct Bell(AsyncFd<OwnedFd>);

/// Why the shards did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine does not allow what shards need. The text says what to do.
    #[error(transparent)]
    NotAllowed(#[from] ProbeError),
    /// One did not start.
    #[error("shard {index} did not start")]
    Shard {
        /// Which, from 0.
        index: usize,
        /// Why.
        source: shard::StartError,
    },
    /// Its events cannot be waited for.
    #[error("the events of shard {index} cannot be waited for")]
    Bell {
        /// Which, from 0.
        index: usize,
        /// Why.
        source: io::Error,
    },
}

/// io_uring where it works, unless something was asked for.
///
/// # Errors
/// [`ProbeError`]: io_uring was asked for, and this machine does not allow it.
fn choose<T>(wanted: IoBackend, probe: impl FnOnce() -> Result<T, ProbeError>) -> Result<Io, ProbeError> {
    if wanted == IoBackend::Epoll {
        return Ok(Io { backend: BackendKind::Epoll, why_not_uring: None });
    }
    match probe() {
        Ok(_) => Ok(Io { backend: BackendKind::Uring, why_not_uring: None }),
        Err(error) if wanted == IoBackend::Uring => Err(error),
        Err(error) => Ok(Io { backend: BackendKind::Epoll, why_not_uring: Some(error.to_string()) }),
    }
}

/// Starts shards by `start`, on epoll if those on io_uring cannot be had: what is tried first is smaller than a shard's, whose memory
/// the kernel or the container may refuse. All have the same, or streams could not move from one to another.
///
/// # Errors
/// [`StartError`]: also when it was io_uring that was asked for.
fn start_shards<T>(
    wanted: IoBackend,
    io: Io,
    mut start: impl FnMut(BackendKind) -> Result<Vec<T>, StartError>,
) -> Result<(Io, Vec<T>), StartError> {
    match start(io.backend) {
        Ok(shards) => Ok((io, shards)),
        Err(StartError::Shard { index, source: shard::StartError::Io(error) })
            if wanted == IoBackend::Auto && io.backend == BackendKind::Uring =>
        {
            let io = Io { backend: BackendKind::Epoll, why_not_uring: Some(no_room(index, &error)) };
            start(io.backend).map(|shards| (io, shards))
        }
        Err(error) => Err(error),
    }
}

/// What the kernel said to a shard's io_uring, and what to do about it.
fn no_room(index: usize, error: &SetupError) -> String {
    let cause = error.source().map_or(String::new(), |cause| format!(" ({cause})"));
    format!(
        "io_uring works here, but not in the size that shard {index} needs: {error}{cause}; see that the memory that may be \
         locked (ulimit -l), the container's memory, or fewer shards allow it"
    )
}

impl Engine {
    /// Starts the shards, each on a core of its own as far as there are cores. To be called within the runtime.
    ///
    /// # Errors
    /// [`StartError`]; those that had started end.
    pub(crate) fn start(config: &Config) -> Result<(Self, Vec<Bell>), StartError> {
        let io = choose(config.io, shard::probe)?;
        let (io, shards) = start_shards(config.io, io, |backend| Shard::start_all(config, backend))?;
        io.tell();
        let mut bells = Vec::new();
        for (index, shard) in shards.iter().enumerate() {
            bells.push(shard.bell().map_err(|source| StartError::Bell { index, source })?);
        }
        let policy = config.policy.clone();
        Ok((Self { shards, io, policy, live: HashMap::new() }, bells))
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// What each shard has done.
    pub(crate) fn stats(&self) -> Vec<ShardStats> {
        self.shards.iter().map(|shard| ShardStats { streams: shard.streams, ..shard.stats }).collect()
    }

    /// A shard's counters are now these.
    pub(crate) fn note_stats(&mut self, shard: usize, stats: ShardStats) {
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.stats = stats;
        }
    }

    /// How they do input and output.
    pub(crate) const fn io(&self) -> &Io {
        &self.io
    }

    /// Streams that a shard still holds, also when their removal was asked for.
    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    /// Hands a stream to its shard.
    ///
    /// # Errors
    /// `Overloaded` when the shard has too many commands waiting.
    pub(crate) fn add(
        &mut self,
        place: Place,
        id: &StreamId,
        spec: &StreamSpec,
        publisher: Box<Publisher>,
    ) -> Result<(), ApiError> {
        let shard = self.shards.get_mut(place.shard).ok_or(ApiError::Overloaded)?;
        if !shard.waiting.is_empty() {
            return Err(ApiError::Overloaded);
        }
        let camera = CameraConfig {
            url: spec.url.clone(),
            credentials: spec.credentials.clone(),
            policy: self.policy.with(&spec.patience),
        };
        let segment = Segment { uid: place.uid, epoch: publisher.epoch() };
        let new = NewStream { uid: place.uid, id: id.clone(), camera, seed: random(), publisher };
        shard.commands.send(Command::Add(Box::new(new))).map_err(|Refused(_)| ApiError::Overloaded)?;
        shard.streams += 1;
        self.live.insert(place.uid, Live { shard: place.shard, segment, moving: None });
        Ok(())
    }

    /// Asks a stream's shard to end it politely; [`Event::Removed`] follows.
    pub(crate) fn remove(&mut self, place: Place) {
        self.deliver(place.uid, Command::Remove { uid: place.uid });
    }

    /// Asks a stream's shard to end its session and to begin anew.
    pub(crate) fn restart(&mut self, uid: StreamUid) {
        self.deliver(uid, Command::Restart { uid });
    }

    /// Asks a stream's shard to try its camera soon, if that was out of reach.
    pub(crate) fn hasten(&mut self, uid: StreamUid) {
        self.deliver(uid, Command::Hasten { uid });
    }

    /// Has a stream's shard be this patient with its camera, and as the daemon otherwise.
    pub(crate) fn set_patience(&mut self, uid: StreamUid, patience: &PolicyChanges) {
        let policy = Box::new(self.policy.with(patience));
        self.deliver(uid, Command::SetPolicy { uid, policy });
    }

    /// Answers an [`Event::Resolve`].
    pub(crate) fn resolved(&mut self, uid: StreamUid, attempt: u64, answer: Result<Vec<SocketAddr>, String>) {
        self.deliver(uid, Command::Resolved { uid, attempt, answer });
    }

    /// What its readers need to know of a stream.
    pub(crate) fn segment(&self, uid: StreamUid) -> Option<Segment> {
        self.live.get(&uid).map(|live| live.segment.clone())
    }

    /// Lets a stream go on in other memory, and readers that are behind read on in the memory before for `linger_max` at most.
    /// [`Event::Moved`] or [`Event::NotMoved`] follows. False when no shard holds the stream.
    pub(crate) fn rotate(&mut self, uid: StreamUid, successor: Successor, linger_max: Duration) -> bool {
        self.deliver(uid, Command::Rotate { uid, successor, linger_max })
    }

    /// Hands a reader's ring to its stream; [`Event::Attached`] or [`Event::NotAttached`] follows.
    pub(crate) fn attach(&mut self, uid: StreamUid, ring: Box<ReaderRing>) {
        self.deliver(uid, Command::Attach { uid, ring });
    }

    /// Takes a reader's ring back; false when no shard has it, else [`Event::Detached`] follows.
    pub(crate) fn detach(&mut self, uid: StreamUid, ring: RingId) -> bool {
        self.deliver(uid, Command::Detach { uid, ring })
    }

    /// Takes note of a shard's bell, before its events are taken.
    pub(crate) fn clear_bell(&self, shard: usize) {
        if let Some(shard) = self.shards.get(shard) {
            shard.events.clear_bell();
        }
    }

    /// The next event of a shard. When there is none, commands that waited are sent.
    pub(crate) fn next_event(&mut self, shard: usize) -> Option<Event> {
        let shard = self.shards.get_mut(shard)?;
        let Some(event) = shard.events.next_event() else {
            shard.send_waiting();
            return None;
        };
        if let Event::Removed { uid, .. } = &event
            && let Some(live) = self.live.remove(uid)
        {
            shard.streams -= 1;
            // Answered by the shard as what comes too late.
            shard.waiting.extend(live.moving.into_iter().flat_map(|(_, held)| held));
            shard.send_waiting();
        }
        Some(event)
    }

    /// Whether a shard's thread has ended. It never should while the daemon runs.
    pub(crate) fn is_over(&self, shard: usize) -> bool {
        self.shards.get(shard).is_none_or(|shard| shard.events.is_over())
    }

    /// Ends the shards. Waits for their threads only when they carry nothing: then it is a matter of one turn.
    pub(crate) fn stop(&mut self) {
        for Shard { mut commands, thread, .. } in self.shards.drain(..) {
            // A full queue or an ended thread: dropping the sender ends the shard too.
            drop(commands.send(Command::Shutdown));
            drop(commands);
            if self.live.is_empty() && thread.join().is_err() {
                error!("a shard had panicked");
            }
        }
    }

    /// Begins to move a stream to another shard; [`Event::Arrived`] or [`Event::Stayed`] follows. False when there is no such
    /// stream or shard, it is there, or is on its way somewhere.
    pub(crate) fn begin_move(&mut self, uid: StreamUid, to: usize) -> bool {
        let is_shard = to < self.shards.len();
        let Some(live) = self.live.get_mut(&uid) else { return false };
        if !is_shard || live.shard == to || live.moving.is_some() {
            return false;
        }
        let from = live.shard;
        live.moving = Some((to, VecDeque::new()));
        self.send(from, Command::Depart { uid })
    }

    /// Whether the stream is on its way to another shard.
    pub(crate) fn is_moving(&self, uid: StreamUid) -> bool {
        self.live.get(&uid).is_some_and(|live| live.moving.is_some())
    }

    /// A stream has left its shard: it is sent on, and told what it was to be told meanwhile.
    pub(crate) fn departed(&mut self, uid: StreamUid, stream: Box<MovingStream>) {
        let Some(live) = self.live.get_mut(&uid) else { return };
        let Some((to, held)) = live.moving.take() else { return };
        let from = std::mem::replace(&mut live.shard, to);
        if let Some(shard) = self.shards.get_mut(from) {
            shard.streams -= 1;
        }
        if let Some(shard) = self.shards.get_mut(to) {
            shard.streams += 1;
        }
        self.send(to, Command::Arrive(stream));
        for command in held {
            self.send(to, command);
        }
    }

    /// A stream has not left its shard.
    pub(crate) fn stayed(&mut self, uid: StreamUid) {
        let Some(live) = self.live.get_mut(&uid) else { return };
        let Some((_, held)) = live.moving.take() else { return };
        let shard = live.shard;
        for command in held {
            self.send(shard, command);
        }
    }

    /// Whether there is a shard to take the command.
    fn deliver(&mut self, uid: StreamUid, command: Command) -> bool {
        let Some(live) = self.live.get_mut(&uid) else { return false };
        match &mut live.moving {
            // As many as the control thread sent meanwhile, which is milliseconds.
            Some((_, held)) => held.push_back(command),
            None => {
                let shard = live.shard;
                return self.send(shard, command);
            }
        }
        true
    }

    fn send(&mut self, shard: usize, command: Command) -> bool {
        let Some(shard) = self.shards.get_mut(shard) else { return false };
        shard.waiting.push_back(command);
        shard.send_waiting();
        true
    }
}

impl Shard {
    /// Starts as many as are asked for, each on a core of its own as far as there are cores.
    ///
    /// # Errors
    /// [`StartError`]; those that had started end.
    fn start_all(config: &Config, backend: BackendKind) -> Result<Vec<Self>, StartError> {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let connects_at_once = NonZeroUsize::new(config.connects_at_once.into()).unwrap_or(NonZeroUsize::MIN);
        let connects = Connects::new(connects_at_once);
        let start = |index| {
            let mut shard_config = ShardConfig {
                index,
                core: cores.get(index).copied(),
                latency: config.latency,
                connects: connects.clone(),
                backend,
                io: Default::default(),
            };
            shard_config.io.sockets_max = u32::try_from(STREAMS_MAX).unwrap_or(u32::MAX);
            Self::start(shard_config).map_err(|source| StartError::Shard { index, source })
        };
        (0..config.shards.get()).map(start).collect()
    }

    fn start(config: ShardConfig) -> Result<Self, shard::StartError> {
        let shard::ShardHandle { commands, events, thread } = shard::spawn(config)?;
        Ok(Self {
            commands,
            events,
            waiting: VecDeque::new(),
            streams: 0,
            stats: ShardStats::default(),
            thread,
        })
    }

    #[expect(
        deprecated,
        reason = "unsound only for types that may give up their descriptor; an OwnedFd keeps its own, and safe code has no other door"
    )]
    fn bell(&self) -> io::Result<Bell> {
        AsyncFd::with_interest(self.events.as_fd().try_clone_to_owned()?, Interest::READABLE).map(Bell)
    }

    fn send_waiting(&mut self) {
        while let Some(command) = self.waiting.pop_front() {
            if let Err(Refused(command)) = self.commands.send(command) {
                self.waiting.push_front(command);
                return;
            }
        }
    }
}

impl Bell {
    /// Returns when the shard has rung since the last call.
    ///
    /// # Errors
    /// The runtime is ending.
    pub(crate) async fn rung(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

/// Makes a stream's memory. Takes milliseconds, because every page of it is touched.
///
/// # Errors
/// `MemoryLimit` when there is no arena.
pub(crate) fn make_publisher(uid: StreamUid) -> Result<Box<Publisher>, ApiError> {
    let publisher = Publisher::create(uid, random(), ARENA_LEN_DEFAULT);
    publisher.map(Box::new).map_err(|error| ApiError::MemoryLimit { why: error.to_string() })
}

/// Makes other memory for a stream to go on in. Takes as long.
///
/// # Errors
/// `MemoryLimit` when there is no arena.
pub(crate) fn make_successor(segment: &Segment) -> Result<Successor, ApiError> {
    let successor = Successor::create(segment.uid, segment.epoch, ARENA_LEN_DEFAULT);
    successor.map_err(|error| ApiError::MemoryLimit { why: error.to_string() })
}

/// A number that nobody foresees: the hash of nothing, by the standard library's random keys.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIED: Io = Io { backend: BackendKind::Uring, why_not_uring: None };

    fn refused(index: usize) -> StartError {
        let error = io::Error::from_raw_os_error(12);
        StartError::Shard { index, source: shard::StartError::Io(SetupError::Buffers(error)) }
    }

    /// How they are served, and the shards' numbers.
    type Started = Result<(Io, Vec<usize>), StartError>;

    /// Of three shards, the last gets no io_uring. Which back ends were tried, and what came of it.
    fn start_three(wanted: IoBackend, io: Io) -> (Vec<BackendKind>, Started) {
        let mut tried = Vec::new();
        let outcome = start_shards(wanted, io, |backend| {
            tried.push(backend);
            let start = |index| match backend {
                BackendKind::Uring if index == 2 => Err(refused(index)),
                BackendKind::Uring | BackendKind::Epoll => Ok(index),
            };
            (0..3).map(start).collect()
        });
        (tried, outcome)
    }

    #[test]
    fn shards_that_get_no_io_uring_are_all_served_by_epoll_and_it_is_told_why() {
        let (tried, outcome) = start_three(IoBackend::Auto, TRIED);
        let (io, shards) = outcome.unwrap();
        assert_eq!((tried, shards), (vec![BackendKind::Uring, BackendKind::Epoll], vec![0, 1, 2]));
        assert_eq!(io.backend, BackendKind::Epoll);
        let why = io.why_not_uring.unwrap();
        assert!(
            why.contains("shard 2") && why.contains("Cannot allocate memory") && why.contains("ulimit -l"),
            "{why}"
        );
    }

    #[test]
    fn who_insists_on_io_uring_is_told_which_shard_got_none() {
        let (tried, outcome) = start_three(IoBackend::Uring, TRIED);
        assert_eq!(tried, [BackendKind::Uring]);
        assert!(matches!(outcome, Err(StartError::Shard { index: 2, .. })));
    }

    #[test]
    fn what_epoll_does_not_mend_is_not_tried_on_epoll() {
        let mut tried = 0;
        let outcome = start_shards(IoBackend::Auto, TRIED, |_| {
            tried += 1;
            Err::<Vec<()>, _>(StartError::Shard { index: 0, source: shard::StartError::Ended })
        });
        assert!(outcome.is_err() && tried == 1);
    }
}
