//! The socket that readers attach to: one thread of its own, `vms-attach`.
//!
//! ```text
//!  readers ◀─ SOCK_SEQPACKET ─▶ thread (epoll) ── Request ──▶ control ── command ──▶ shard
//!                                   ▲── Completion (channel + eventfd) ──┘◀── event ──┘
//! ```
//! A thread and not a task: connecting, sending descriptors and making sessions (memfds, page faults) may take a millisecond,
//! and neither the gRPC server nor a shard should wait for it. The thread decides nothing about streams.
//!
//! A slot is reused only after the shard confirmed that it let go of the old ring ([`Completion::Detached`]), also when
//! the reader has died meanwhile.

mod allowance;
mod closing;
mod connection;
mod guests;
mod listener;
mod thread;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ring_abi::handshake::RefusalCode;
use ring_abi::join::Join;
use ring_abi::producer::{Joined, ReaderRing, RingId, Session};

use super::Peer;
use crate::ids::{StreamId, StreamUid};
use crate::limits::{ATTACH_RATE, CONNECT_RATE, HELLO_TIMEOUT, READER_SLOTS_MAX, READERS_MAX, Rate};

pub(crate) use allowance::Allowance;
pub use listener::Listener;
pub use thread::{Handle, spawn};

/// What bounds the readers. The defaults are those of [`limits`](crate::limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. One more is closed at once. Other users than the daemon's and root may have half of them.
    pub sessions_max: usize,
    /// Streams a session may attach at once.
    pub slots_max: u32,
    /// How long a connection may stay without HELLO.
    pub hello_timeout: Duration,
    /// Connections taken. The others wait in the socket's queue.
    pub connects: Rate,
    /// Streams a session attaches. More are refused.
    pub attaches: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: READERS_MAX,
            slots_max: READER_SLOTS_MAX,
            hello_timeout: HELLO_TIMEOUT,
            connects: CONNECT_RATE,
            attaches: ATTACH_RATE,
        }
    }
}

const _: () = assert!(READER_SLOTS_MAX <= ring_abi::layout::SESSION_SLOTS_MAX);

/// What the control layer is to do for a reader. Each is answered by exactly one [`Completion`].
#[derive(Debug)]
pub enum Request {
    /// A reader wants a stream: [`Completion::Attached`] or [`Completion::Refused`].
    Attach(PendingAttach),
    /// A reader gave a stream up, or has gone: [`Completion::Detached`], also when the stream has gone meanwhile.
    Detach {
        /// The ring.
        ring: RingId,
        /// The stream it was attached to.
        stream: StreamUid,
    },
}

/// A reader that waits for a stream.
#[derive(Debug)]
pub struct PendingAttach {
    /// The name that its ring will have.
    pub ring: RingId,
    /// The stream it asks for.
    pub stream: StreamId,
    /// Who it is.
    pub peer: Peer,
    /// Where it wants to enter, and how.
    pub join: Join,
    session: Arc<Session>,
}

impl PendingAttach {
    /// Makes the reader's ring, to be handed to the stream's shard. Takes tens of microseconds.
    ///
    /// # Errors
    /// What the system says; the answer is then [`Completion::Refused`].
    pub fn make_ring(&self, stream: StreamUid, epoch: u64) -> std::io::Result<(ReaderRing, OwnedFd)> {
        ReaderRing::create(stream.0, epoch, &self.join, &self.session, self.ring.slot)
    }
}

/// The answer to a [`Request`].
#[derive(Debug)]
pub enum Completion {
    /// The shard took the ring in.
    Attached {
        /// The ring.
        ring: RingId,
        /// Its stream.
        stream: StreamUid,
        /// The stream's epoch.
        epoch: u64,
        /// Where the reader stands.
        joined: Joined,
        /// `Publisher::fd`.
        stream_fd: Arc<OwnedFd>,
        /// `ReaderRing::fd`.
        ring_fd: OwnedFd,
    },
    /// The reader does not get the stream.
    Refused {
        /// The ring that was not made or not taken in.
        ring: RingId,
        /// For programs.
        code: RefusalCode,
        /// For people.
        text: String,
    },
    /// No shard touches the ring any more.
    Detached {
        /// The ring.
        ring: RingId,
    },
}

impl Completion {
    /// The ring it is about.
    pub fn ring(&self) -> RingId {
        match self {
            Self::Attached { ring, .. } | Self::Refused { ring, .. } | Self::Detached { ring } => *ring,
        }
    }
}
