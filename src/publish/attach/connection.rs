//! One reader's connection: its socket, the protocol's state, and which stream each slot reads.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ring_abi::handshake::{Attach, Encoded, Hello, MESSAGE_LEN_MAX, RefusalCode};
use ring_abi::producer::{RingId, Session};
use ring_abi::server::{self, Received};
use ring_abi::socket;

use rustix::process::Pid;

use super::allowance::Allowance;
use super::{Completion, Limits, PendingAttach, Request};
use crate::ids::{StreamId, StreamUid};
use crate::publish::Peer;
use crate::time::Mono;

/// What a guest is told whose processes hold all that they may.
pub(super) const TOO_MUCH_MEMORY: &str =
    "this user's readers were given as much memory as they may have: end one";

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Ended,
}

/// What a connection needs to know when a packet comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings {
    pub(super) limits: Limits,
    pub(super) daemon_epoch: u64,
    pub(super) now: Mono,
}

#[derive(Debug)]
pub(super) struct Connection {
    number: u64,
    peer: Peer,
    pid: Pid,
    /// `None` once the reader has gone; slots may still wait for their shards.
    socket: Option<OwnedFd>,
    protocol: server::Connection,
    streams: BTreeMap<u32, StreamUid>,
    hello_until: Mono,
    attaches: Allowance,
}

impl Connection {
    /// A connection that was just accepted. `number` is never used again.
    pub(super) fn new(number: u64, (peer, pid): (Peer, Pid), socket: OwnedFd, around: &Surroundings) -> Self {
        Self {
            number,
            peer,
            pid,
            socket: Some(socket),
            protocol: server::Connection::new(),
            streams: BTreeMap::new(),
            hello_until: around.now + around.limits.hello_timeout,
            attaches: Allowance::new(around.limits.attaches),
        }
    }

    /// Who reads.
    pub(super) const fn peer(&self) -> Peer {
        self.peer
    }

    /// The process that connected.
    pub(super) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether nothing of it is left: the reader has gone and every shard let go.
    pub(super) fn is_over(&self) -> bool {
        self.socket.is_none() && self.protocol.occupied().next().is_none()
    }

    /// When it is to be ended, unless HELLO comes before.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let is_silent = self.socket.is_some() && self.protocol.session().is_none();
        is_silent.then_some(self.hello_until)
    }

    /// Takes one packet from the socket; requests for the control layer go to `out`, descriptors that came with it to `given`.
    /// `may_take` says whether the reader may be given so many bytes for a session.
    pub(super) fn readable(
        &mut self,
        around: &Surroundings,
        may_take: impl FnOnce(u64) -> bool,
        out: &mut Vec<Request>,
        given: &mut Vec<OwnedFd>,
    ) -> Fate {
        let Some(socket) = &self.socket else { return Fate::Ended };
        let mut buffer = [0u8; MESSAGE_LEN_MAX];
        let len = match socket::receive_any(socket, &mut buffer, false) {
            Ok(packet) => {
                given.extend(packet.fds);
                if packet.is_cut { 0 } else { packet.len }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Fate::Open,
            Err(_) => 0,
        };
        if len == 0 {
            return Fate::Ended;
        }
        match self.protocol.receive(buffer.get(..len).unwrap_or(&[])) {
            Received::Reply(reply) => self.send(&reply, &[]),
            Received::Violation(reply) => {
                self.send(&reply, &[]);
                Fate::Ended
            }
            Received::Request(server::Request::Bye) => Fate::Ended,
            Received::Request(server::Request::Hello(hello)) => self.hello(&hello, around, may_take),
            Received::Request(server::Request::Attach { slot, attach }) => {
                self.attach(slot, &attach, around.now, out)
            }
            Received::Request(server::Request::Detach { slot }) => self.detach(slot, out),
        }
    }

    /// The reader has gone: what it still has is to be detached. Gives the socket, to be closed.
    pub(super) fn end(&mut self, out: &mut Vec<Request>) -> Option<OwnedFd> {
        self.protocol.abandon();
        out.extend(
            self.streams.iter().map(|(&slot, &stream)| Request::Detach { ring: self.ring(slot), stream }),
        );
        // A slot without a stream still waits for its attach; `complete` detaches it when the answer comes.
        self.streams.clear();
        self.socket.take()
    }

    /// Passes the control layer's answer on to the reader, if it is still there.
    pub(super) fn complete(&mut self, completion: Completion, out: &mut Vec<Request>) -> Fate {
        match completion {
            Completion::Attached { ring, stream, epoch, joined, stream_fd, ring_fd } => {
                let reply = self.protocol.attached(ring.slot, stream.0, epoch, joined);
                if self.socket.is_none() || reply.is_none() {
                    out.push(Request::Detach { ring, stream });
                    return Fate::Open;
                }
                self.streams.insert(ring.slot, stream);
                reply.map_or(Fate::Open, |reply| self.send(&reply, &[stream_fd.as_fd(), ring_fd.as_fd()]))
            }
            Completion::Refused { ring, code, text } => self.refuse(ring.slot, code, &text),
            Completion::Detached { ring } => {
                let reply = self.protocol.detached(ring.slot);
                reply.map_or(Fate::Open, |reply| self.send(&reply, &[]))
            }
        }
    }

    fn hello(&mut self, hello: &Hello, around: &Surroundings, may_take: impl FnOnce(u64) -> bool) -> Fate {
        let Surroundings { limits, daemon_epoch, .. } = *around;
        let slots = hello.slots.clamp(1, limits.slots_max);
        if !may_take(Session::segments_len(slots)) {
            let reply = self.protocol.refuse_session(RefusalCode::Limit, TOO_MUCH_MEMORY);
            self.send(&reply, &[]);
            return Fate::Ended;
        }
        let interval = Duration::from_micros(hello.bell_interval_us.into());
        let Ok(session) = Session::with_features(self.number, daemon_epoch, slots, hello.features, interval)
        else {
            let reply =
                self.protocol.refuse_session(RefusalCode::Unavailable, "out of memory or descriptors");
            self.send(&reply, &[]);
            return Fate::Ended;
        };
        let reply = self.protocol.welcome(Arc::clone(&session), daemon_epoch);
        let fds: Vec<_> = session.fds().into_iter().chain(session.notify_fd()).collect();
        self.send(&reply, &fds)
    }

    fn attach(&mut self, slot: u32, attach: &Attach, now: Mono, out: &mut Vec<Request>) -> Fate {
        if self.attaches.take(now).is_err() {
            return self.refuse(slot, RefusalCode::Limit, "too many streams were attached in a short time");
        }
        let (Ok(stream), Some(session)) = (StreamId::new(attach.stream.as_str()), self.protocol.session())
        else {
            return self.refuse(slot, RefusalCode::UnknownStream, "no stream has such an id");
        };
        let session = Arc::clone(session);
        out.push(Request::Attach(PendingAttach {
            ring: self.ring(slot),
            stream,
            peer: self.peer,
            join: attach.join,
            session,
        }));
        Fate::Open
    }

    fn refuse(&mut self, slot: u32, code: RefusalCode, text: &str) -> Fate {
        let reply = self.protocol.refused(slot, code, text);
        reply.map_or(Fate::Open, |reply| self.send(&reply, &[]))
    }

    fn detach(&mut self, slot: u32, out: &mut Vec<Request>) -> Fate {
        if let Some(stream) = self.streams.remove(&slot) {
            out.push(Request::Detach { ring: self.ring(slot), stream });
        }
        Fate::Open
    }

    fn ring(&self, slot: u32) -> RingId {
        RingId { session: self.number, slot }
    }

    /// Sends without waiting: a reader that does not read its answers is given up.
    fn send(&self, packet: &Encoded, fds: &[BorrowedFd<'_>]) -> Fate {
        let Some(socket) = &self.socket else { return Fate::Open };
        match socket::send(socket, packet.as_bytes(), fds, false) {
            Ok(()) => Fate::Open,
            Err(_) => Fate::Ended,
        }
    }
}
