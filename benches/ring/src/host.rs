//! A producer process of the ring ABI without a daemon: streams, and the attach socket served by the same thread.
//!
//! It does what `vms-media` does with the same crate, but for its threads: a daemon hands rings from the thread of the socket to the
//! thread that produces.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use ring_abi::handshake::{Attach, Hello, MESSAGE_LEN_MAX, RefusalCode};
use ring_abi::layout::Flags;
use ring_abi::producer::{Producer, ReaderRing, RingId, Session, TrackSpec, Unit};
use ring_abi::server::{self, Received, Request};
use ring_abi::socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};

use crate::machine::now_ns;
use crate::peer::{Shape, Writer};

const EPOCH: u64 = 0x656e_6368;

/// Streams `s0`, `s1` … and their readers.
#[derive(Debug)]
pub(crate) struct Host {
    path: PathBuf,
    listener: OwnedFd,
    connections: BTreeMap<u64, Connection>,
    last_number: u64,
    producers: Vec<Producer>,
    touched: Vec<Arc<Session>>,
    now_ns: u64,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    protocol: server::Connection,
    /// Stream of each slot.
    streams: BTreeMap<u32, usize>,
}

impl Host {
    pub(crate) fn create(path: &Path, shape: Shape) -> Result<Self> {
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        bind(&listener, &SocketAddrUnix::new(path)?)?;
        listen(&listener, 64)?;
        let track = TrackSpec::video(shape.arena_len as u64);
        let producers = (0..shape.streams)
            .map(|n| Producer::create(n as u64 + 1, EPOCH, &[track]))
            .collect::<Result<_, _>>()
            .context("making the streams")?;
        Ok(Self {
            path: path.into(),
            listener,
            connections: BTreeMap::new(),
            last_number: 0,
            producers,
            touched: Vec::new(),
            now_ns: now_ns(),
        })
    }

    /// Publishes to stream `s<stream>`.
    pub(crate) fn publish_to(&mut self, stream: usize, payload: &[u8]) -> Result<()> {
        let producer = self.producers.get_mut(stream).context("no such stream")?;
        let end = [u32::try_from(payload.len())?];
        // An empty payload is the bare descriptor; a unit of a camera has at least one NAL unit.
        let ends = if payload.is_empty() { &[][..] } else { &end[..] };
        let unit = Unit { flags: Flags::KEY, recv_mono_ns: self.now_ns, ..Unit::default() };
        producer.begin(0);
        producer.append(0, payload)?;
        producer.commit(0, &unit, ends, self.now_ns)?;
        Ok(())
    }

    /// Rings the bell of each touched session once, as a shard does at a turn's end.
    pub(crate) fn end_turn(&mut self) {
        let Self { producers, touched, .. } = self;
        for producer in producers {
            producer.take_touched(|session| {
                if !touched.iter().any(|known| known.number() == session.number()) {
                    touched.push(Arc::clone(session));
                }
            });
        }
        for session in self.touched.drain(..) {
            if session.ring_bell() {
                session.wake();
            }
        }
    }

    /// Rings and wakes for one stream: what a design without turns does a unit. `always` wakes those too who do not sleep.
    pub(crate) fn ring_for(&mut self, stream: usize, always: bool) {
        let Some(producer) = self.producers.get_mut(stream) else { return };
        producer.take_touched(|session| {
            if session.ring_bell() || always {
                session.wake();
            }
        });
    }

    /// The producer of the first stream.
    pub(crate) fn producer(&mut self) -> &mut Producer {
        &mut self.producers[0]
    }

    /// Reads the clock; feeds readers that are behind.
    pub(crate) fn read_clock(&mut self) {
        self.now_ns = now_ns();
        for producer in &mut self.producers {
            producer.feed(self.now_ns);
        }
    }

    /// Serves the attach socket for one round of `poll`, waiting at most `wait_ns`.
    pub(crate) fn serve(&mut self, wait_ns: u64) -> Result<()> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(wait_ns)? };
        let sockets = self.connections.values().map(|c| c.socket.as_fd());
        let mut fds: Vec<_> = std::iter::once(self.listener.as_fd())
            .chain(sockets)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        poll(&mut fds, Some(&timeout))?;
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for (number, _) in numbers.iter().zip(&ready[1..]).filter(|(_, ready)| **ready) {
            self.readable(*number)?;
        }
        if ready[0] {
            let socket = accept_with(&self.listener, SocketFlags::CLOEXEC)?;
            self.last_number += 1;
            let (protocol, streams) = (server::Connection::new(), BTreeMap::new());
            self.connections.insert(self.last_number, Connection { socket, protocol, streams });
        }
        Ok(())
    }

    fn readable(&mut self, number: u64) -> Result<()> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        let mut buffer = [0; MESSAGE_LEN_MAX];
        let len = socket::receive(&connection.socket, &mut buffer, false).map_or(0, |packet| packet.len);
        if len == 0 {
            self.hang_up(number);
            return Ok(());
        }
        match connection.protocol.receive(&buffer[..len]) {
            Received::Reply(reply) => Ok(socket::send(&connection.socket, reply.as_bytes(), &[], true)?),
            Received::Violation(_) | Received::Request(Request::Bye) => {
                self.hang_up(number);
                Ok(())
            }
            Received::Request(Request::Hello(hello)) => connection.welcome(number, &hello),
            Received::Request(Request::Attach { slot, attach }) => self.attach(number, slot, &attach),
            Received::Request(Request::Detach { slot }) => self.detach(number, slot),
        }
    }

    fn attach(&mut self, number: u64, slot: u32, attach: &Attach) -> Result<()> {
        let connection = self.connections.get_mut(&number).context("no such connection")?;
        let at = attach.stream.as_str().strip_prefix('s').and_then(|n| n.parse::<usize>().ok());
        let found = at.and_then(|at| Some((at, self.producers.get_mut(at)?)));
        let (Some((at, producer)), Some(session)) = (found, connection.protocol.session()) else {
            let reply = connection.protocol.refused(slot, RefusalCode::UnknownStream, "no such stream");
            return reply.map_or(Ok(()), |r| Ok(socket::send(&connection.socket, r.as_bytes(), &[], true)?));
        };
        let (uid, epoch) = (producer.uid(), producer.epoch());
        let (ring, ring_fd) = ReaderRing::create(uid, epoch, &attach.join, session, slot)?;
        let joined = producer.attach(ring, self.now_ns);
        connection.streams.insert(slot, at);
        let reply = connection.protocol.attached(slot, uid, epoch, joined).context("nobody waits")?;
        let stream_fd = producer.fd();
        socket::send(&connection.socket, reply.as_bytes(), &[stream_fd.as_fd(), ring_fd.as_fd()], true)?;
        self.end_turn();
        Ok(())
    }

    fn detach(&mut self, number: u64, slot: u32) -> Result<()> {
        let connection = self.connections.get_mut(&number).context("no such connection")?;
        if let Some(producer) =
            connection.streams.remove(&slot).and_then(|stream| self.producers.get_mut(stream))
        {
            producer.detach(RingId { session: number, slot });
        }
        let reply = connection.protocol.detached(slot);
        reply.map_or(Ok(()), |r| Ok(socket::send(&connection.socket, r.as_bytes(), &[], true)?))
    }

    fn hang_up(&mut self, number: u64) {
        let Some(connection) = self.connections.remove(&number) else { return };
        for (slot, stream) in connection.streams {
            if let Some(producer) = self.producers.get_mut(stream) {
                producer.detach(RingId { session: number, slot });
            }
        }
    }
}

impl Connection {
    fn welcome(&mut self, number: u64, hello: &Hello) -> Result<()> {
        let session =
            Session::with_features(number, EPOCH, hello.slots, hello.features, std::time::Duration::ZERO)?;
        let reply = self.protocol.welcome(Arc::clone(&session), EPOCH);
        let fds: Vec<_> = session.fds().into_iter().chain(session.notify_fd()).collect();
        Ok(socket::send(&self.socket, reply.as_bytes(), &fds, true)?)
    }
}

impl Writer for Host {
    fn publish(&mut self, payload: &[u8]) -> Result<()> {
        self.publish_to(0, payload)
    }

    fn wake(&mut self) -> Result<()> {
        self.end_turn();
        Ok(())
    }

    fn tick(&mut self) -> Result<()> {
        self.read_clock();
        self.serve(0)
    }

    fn admit(&mut self, done: &mut dyn FnMut() -> bool) -> Result<()> {
        while !done() {
            self.serve(1_000_000)?;
        }
        Ok(())
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}
