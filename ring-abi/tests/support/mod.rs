//! A producer with a socket, in this process: what readers that we did not write are tested against.
//!
//! One thread answers readers; the test commits units itself, through [`Server::with`]. All of it is behind one lock, so an
//! ATTACH is answered at once and nothing races but the reader.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use ring_abi::handshake::{Attach, Encoded, MESSAGE_LEN_MAX, RefusalCode};
use ring_abi::layout::Flags;
use ring_abi::producer::{Producer, ReaderRing, RingId, Session, TrackSpec, Unit};
use ring_abi::server::{Connection, Received, Request};
use ring_abi::socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::{ClockId, clock_gettime};

/// Longest that a test waits for anything.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// A producer of streams that listens at a socket of its own.
pub(crate) struct Server {
    path: PathBuf,
    shared: Arc<Shared>,
    waker: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    world: Mutex<World>,
    /// A reader attached or detached.
    changed: Condvar,
}

#[derive(Default)]
struct World {
    streams: BTreeMap<String, Producer>,
    /// Segments that were rotated away, with readers that still read them.
    frozen: Vec<Producer>,
    attached: usize,
    detached: usize,
    stop: bool,
}

struct Peer {
    socket: OwnedFd,
    protocol: Connection,
    number: u64,
    rings: BTreeMap<u32, RingId>,
}

impl Server {
    /// Listens at `path` with these streams: names and the bytes of their arenas.
    pub(crate) fn start(path: &Path, streams: &[(&str, u64)]) -> Self {
        // A file that is left over from an earlier run of the same process id.
        let _ = fs::remove_file(path);
        let listener = listener(path).unwrap();
        let world = World { streams: (1..).zip(streams).map(stream).collect(), ..World::default() };
        let shared = Arc::new(Shared { world: Mutex::new(world), changed: Condvar::new() });
        let (woken, waker) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let served = Arc::clone(&shared);
        let thread = Some(std::thread::spawn(move || serve(&listener, &woken, &served)));
        Self { path: path.to_owned(), shared, waker, thread }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Does something with a stream and then wakes its readers.
    pub(crate) fn with<T>(&self, id: &str, act: impl FnOnce(&mut Producer) -> T) -> T {
        let mut world = self.shared.world();
        let producer = world.streams.get_mut(id).unwrap();
        let done = act(producer);
        ring(producer);
        drop(world);
        self.wake();
        done
    }

    /// Commits `count` units of `len` bytes and wakes the readers once. Every 25th unit of a stream is a keyframe.
    pub(crate) fn publish(&self, id: &str, count: usize, len: usize) {
        self.with(id, |producer| {
            for _ in 0..count {
                let key = if producer.last_seq().is_multiple_of(25) { Flags::KEY } else { Flags(0) };
                commit_as(producer, len, key, 0);
            }
        });
    }

    /// Goes on with a stream in another segment.
    pub(crate) fn rotate(&self, id: &str, arena_len: u64) {
        let mut world = self.shared.world();
        let producer = world.streams.get_mut(id).unwrap();
        let spec = TrackSpec::video(arena_len);
        let fresh = Producer::create(producer.uid(), producer.epoch(), &[spec]).unwrap();
        let mut old = producer.rotate(fresh, now_ns()).unwrap();
        ring(&mut old);
        world.frozen.push(old);
        drop(world);
        self.wake();
    }

    /// Takes a stream away as if it were rotated: readers would follow, and are refused.
    pub(crate) fn rotate_away(&self, id: &str) {
        let mut world = self.shared.world();
        let mut producer = world.streams.remove(id).unwrap();
        let spec = TrackSpec::video(64 * 1024);
        let fresh = Producer::create(producer.uid(), producer.epoch(), &[spec]).unwrap();
        let mut old = producer.rotate(fresh, now_ns()).unwrap();
        ring(&mut old);
        world.frozen.push(old);
        drop(world);
        self.wake();
    }

    /// Waits until readers have attached this often since the start.
    pub(crate) fn wait_for_attached(&self, count: usize) {
        self.wait_until(|world| world.attached >= count);
    }

    /// Waits until readers have let go this often since the start.
    pub(crate) fn wait_for_detached(&self, count: usize) {
        self.wait_until(|world| world.detached >= count);
    }

    /// Waits until `done` is true of a stream; looked at whenever its readers were fed or answered.
    pub(crate) fn wait_until_read(&self, id: &str, done: impl Fn(&Producer) -> bool) {
        self.wait_until(|world| world.streams.get(id).is_some_and(&done));
    }

    fn wait_until(&self, mut done: impl FnMut(&World) -> bool) {
        let world = self.shared.world();
        let (_world, outcome) =
            self.shared.changed.wait_timeout_while(world, BOUND, |world| !done(world)).unwrap();
        assert!(!outcome.timed_out(), "nothing came within {BOUND:?}");
    }

    fn wake(&self) {
        // Full: the thread has not read what was written before, and will wake by that.
        let _ = rustix::io::write(&self.waker, &[1]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.world().stop = true;
        self.wake();
        if let Some(thread) = self.thread.take() {
            // Its panic was reported when it happened.
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

impl Shared {
    /// The lock. A test that failed while it held it has said so.
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A listening attach socket.
pub(crate) fn listener(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, 16)?;
    Ok(socket)
}

/// The next reader that connects.
pub(crate) fn accept(listening: &OwnedFd) -> OwnedFd {
    let bound = Timespec::try_from(BOUND).unwrap();
    let ready = poll(&mut [poll_in(listening)], Some(&bound)).unwrap();
    assert_eq!(ready, 1, "nobody connected within {BOUND:?}");
    accept_with(listening, SocketFlags::CLOEXEC).unwrap()
}

/// The path of a socket that no other test has.
pub(crate) fn socket_path(name: &str) -> PathBuf {
    // Socket paths are short: the build's own directory might not fit.
    std::env::temp_dir().join(format!("vms-ring-{}-{name}.sock", std::process::id()))
}

/// Commits a unit whose bytes follow from its sequence number.
pub(crate) fn commit_as(producer: &mut Producer, len: usize, flags: Flags, config_id: u32) -> u64 {
    let seq = producer.last_seq() + 1;
    producer.begin(0);
    producer.append(0, &payload(seq, len)).unwrap();
    let ends = [u32::try_from(len / 2).unwrap(), u32::try_from(len).unwrap()];
    let unit = Unit {
        flags,
        config_id,
        media_ticks: i64::try_from(seq).unwrap() * 3600 - 7200,
        recv_mono_ns: seq * 40_000_000,
        wall_utc_ns: 1_700_000_000_000_000_000 + i64::try_from(seq).unwrap(),
        rtp_ts: u32::MAX - 1000,
        ..Unit::default()
    };
    producer.commit(0, &unit, &ends, now_ns()).unwrap()
}

/// Bytes that tell which unit they belong to.
pub(crate) fn payload(seq: u64, len: usize) -> Vec<u8> {
    let word = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    word.iter().copied().cycle().take(len).collect()
}

pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

fn stream((uid, (id, arena_len)): (u64, &(&str, u64))) -> (String, Producer) {
    let spec = TrackSpec::video(*arena_len);
    ((*id).to_owned(), Producer::create(uid, 0xe90c_0000 + uid, &[spec]).unwrap())
}

fn ring(producer: &mut Producer) {
    producer.take_touched(|session| {
        if session.ring_bell() {
            session.wake();
        }
    });
}

fn serve(listener: &OwnedFd, woken: &OwnedFd, shared: &Shared) {
    let mut peers: Vec<Peer> = Vec::new();
    for number in 1.. {
        let nap = feed(shared).unwrap_or(BOUND);
        let nap = Timespec::try_from(nap).unwrap();
        let mut fds = vec![poll_in(woken), poll_in(listener)];
        fds.extend(peers.iter().map(|peer| poll_in(&peer.socket)));
        poll(&mut fds, Some(&nap)).unwrap();
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let _ = rustix::io::read(woken, &mut [0; 64]);
        if shared.world().stop {
            return;
        }
        let mut at = 2;
        peers.retain_mut(|peer| {
            at += 1;
            !ready[at - 1] || serve_peer(peer, shared)
        });
        if ready[1] {
            let socket = accept_with(listener, SocketFlags::CLOEXEC).unwrap();
            peers.push(Peer { socket, protocol: Connection::new(), number, rings: BTreeMap::new() });
        }
    }
}

fn poll_in(fd: &OwnedFd) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::IN)
}

/// Feeds readers with a backlog; when that is due again.
fn feed(shared: &Shared) -> Option<Duration> {
    let now = now_ns();
    let mut world = shared.world();
    let World { streams, frozen, .. } = &mut *world;
    let due = streams.values_mut().chain(frozen).filter_map(|producer| {
        let due = producer.feed(now);
        ring(producer);
        due
    });
    let due = due.min();
    drop(world);
    shared.changed.notify_all();
    due.map(|due| Duration::from_nanos(due.saturating_sub(now)))
}

/// Answers one packet; false when the reader has gone.
fn serve_peer(peer: &mut Peer, shared: &Shared) -> bool {
    let mut buffer = [0; MESSAGE_LEN_MAX];
    let packet = socket::receive(&peer.socket, &mut buffer, true).map(|packet| packet.len).unwrap_or(0);
    let mut world = shared.world();
    let goes_on = match peer.protocol.receive(&buffer[..packet]) {
        _ if packet == 0 => false,
        Received::Reply(reply) => peer.send(&reply, &[]),
        Received::Violation(reply) => {
            peer.send(&reply, &[]);
            false
        }
        Received::Request(Request::Bye) => false,
        Received::Request(Request::Hello(hello)) => {
            let slots = hello.slots.clamp(1, 64);
            let interval = Duration::from_micros(hello.bell_interval_us.into());
            let session = Session::with_features(peer.number, 7, slots, hello.features, interval).unwrap();
            let reply = peer.protocol.welcome(Arc::clone(&session), 7);
            let fds: Vec<_> = session.fds().into_iter().chain(session.notify_fd()).collect();
            peer.send(&reply, &fds)
        }
        Received::Request(Request::Attach { slot, attach }) => world.attach(peer, slot, &attach),
        Received::Request(Request::Detach { slot }) => {
            world.detach(peer, slot);
            let reply = peer.protocol.detached(slot).unwrap();
            peer.send(&reply, &[])
        }
    };
    if !goes_on {
        for slot in peer.rings.keys().copied().collect::<Vec<_>>() {
            world.detach(peer, slot);
        }
    }
    drop(world);
    shared.changed.notify_all();
    goes_on
}

impl World {
    fn attach(&mut self, peer: &mut Peer, slot: u32, attach: &Attach) -> bool {
        let id = attach.stream.as_str();
        let Some(producer) = self.streams.get_mut(id) else {
            let reply = peer.protocol.refused(slot, RefusalCode::UnknownStream, "no stream «has» this id");
            return reply.is_some_and(|reply| peer.send(&reply, &[]));
        };
        let session = Arc::clone(peer.protocol.session().unwrap());
        let (uid, epoch) = (producer.uid(), producer.epoch());
        let (ring, ring_fd) = ReaderRing::create(uid, epoch, &attach.join, &session, slot).unwrap();
        peer.rings.insert(slot, ring.id());
        let joined = producer.attach(ring, now_ns());
        let reply = peer.protocol.attached(slot, uid, epoch, joined).unwrap();
        let stream_fd = producer.fd();
        self.attached += 1;
        peer.send(&reply, &[stream_fd.as_fd(), ring_fd.as_fd()])
    }

    fn detach(&mut self, peer: &mut Peer, slot: u32) {
        let Some(id) = peer.rings.remove(&slot) else { return };
        let Self { streams, frozen, .. } = self;
        streams.values_mut().chain(frozen).find_map(|producer| producer.detach(id));
        self.detached += 1;
    }
}

impl Peer {
    fn send(&self, packet: &Encoded, fds: &[BorrowedFd<'_>]) -> bool {
        socket::send(&self.socket, packet.as_bytes(), fds, false).is_ok()
    }
}
