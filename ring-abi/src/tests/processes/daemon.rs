//! As much of a daemon as a stream's readers need: a listening socket and the handshake.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};

use crate::handshake::MESSAGE_LEN_MAX;
use crate::producer::{Producer, ReaderRing, RingId, Session};
use crate::server::{Connection, Received, Request};
use crate::socket::{receive, send};

/// How long anything may take that another process must do.
pub(in crate::tests) const PATIENCE_MS: u64 = 10_000;

/// A socket that readers connect to; its path goes with it.
pub(in crate::tests) struct Listener {
    path: PathBuf,
    pub(in crate::tests) socket: OwnedFd,
}

impl Listener {
    pub(in crate::tests) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("vms-ring-abi-{}-{number}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&socket, 4).unwrap();
        Self { path, socket }
    }

    pub(in crate::tests) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// An attached reader, seen from the producer.
pub(in crate::tests) struct Guest {
    socket: OwnedFd,
    connection: Connection,
    ring: RingId,
}

/// Takes the next reader in and attaches it to the stream. `number` is its session's.
pub(in crate::tests) fn admit(
    listener: &OwnedFd,
    producer: &mut Producer,
    number: u64,
    now_ns: u64,
) -> Guest {
    assert!(wait(listener, PollFlags::IN, PATIENCE_MS), "no reader came");
    let socket = accept_with(listener, SocketFlags::CLOEXEC).unwrap();
    let mut guest =
        Guest { socket, connection: Connection::new(), ring: RingId { session: number, slot: 0 } };
    guest.ring = guest.attach_next(producer, now_ns);
    guest
}

impl Guest {
    /// Serves the reader until it has attached one more stream: this one.
    pub(in crate::tests) fn attach_next(&mut self, producer: &mut Producer, now_ns: u64) -> RingId {
        let Self { socket, connection, ring } = self;
        let mut buffer = [0; MESSAGE_LEN_MAX];
        loop {
            assert!(wait(&*socket, PollFlags::IN, PATIENCE_MS), "the reader said nothing");
            let packet = receive(&*socket, &mut buffer, true).unwrap();
            match connection.receive(&buffer[..packet.len]) {
                Received::Request(Request::Hello(_)) => {
                    let session = Session::create(ring.session, 7, 8).unwrap();
                    let answer = connection.welcome(Arc::clone(&session), 7);
                    send(&*socket, answer.as_bytes(), &session.fds(), true).unwrap();
                }
                Received::Request(Request::Attach { slot, attach }) => {
                    let session = Arc::clone(connection.session().unwrap());
                    let (uid, epoch) = (producer.uid(), producer.epoch());
                    let (ring, fd) = ReaderRing::create(uid, epoch, &attach.join, &session, slot).unwrap();
                    let id = ring.id();
                    let joined = producer.attach(ring, now_ns);
                    let answer = connection.attached(slot, uid, epoch, joined).unwrap();
                    let fds = [producer.fd(), Arc::new(fd)];
                    let fds = [fds[0].as_fd(), fds[1].as_fd()];
                    send(&*socket, answer.as_bytes(), &fds, true).unwrap();
                    return id;
                }
                other @ (Received::Request(Request::Detach { .. } | Request::Bye)
                | Received::Reply(_)
                | Received::Violation(_)) => panic!("a reader that only attaches came to {other:?}"),
            }
        }
    }

    /// Whether the reader's end of the socket is closed, or closes within `timeout_ms`.
    pub(super) fn has_gone(&self, timeout_ms: u64) -> bool {
        wait(&self.socket, PollFlags::HUP, timeout_ms)
    }

    /// What a daemon does when a reader has gone: every slot is detached and free again.
    pub(super) fn bury(mut self, producer: &mut Producer) {
        self.connection.abandon();
        for slot in self.connection.occupied().collect::<Vec<_>>() {
            producer.detach(RingId { slot, ..self.ring }).unwrap();
            self.connection.detached(slot).unwrap();
        }
        assert_eq!(self.connection.occupied().count(), 0);
    }
}

/// The end of a producer's turn.
pub(in crate::tests) fn ring_bells(producer: &mut Producer) {
    producer.take_touched(|session| {
        if session.ring_bell() {
            session.wake();
        }
    });
}

/// Waits for `what` on `fd`; false when it did not come in time.
pub(in crate::tests) fn wait(fd: impl AsFd, what: PollFlags, timeout_ms: u64) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout_ms / 1000).unwrap(),
        tv_nsec: i64::try_from(timeout_ms % 1000 * 1_000_000).unwrap(),
    };
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), what)];
    loop {
        match poll(&mut fds, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return ready.unwrap() > 0,
        }
    }
}
