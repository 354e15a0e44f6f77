//! Sockets and receive buffers: all that the daemon asks of the kernel on the data path.
//!
//! ```text
//!            connect · send · pause · resume · close          wait
//!  shard ───────────────────────────────────────────▶ back end ───▶ kernel
//!    ▲                                                   │
//!    └──── Connected · Received(RecvBuf) · Closed ◀──────┘  next_completion, until `None`
//! ```
//! A [`Backend`] belongs to one thread. There are two, [io_uring and epoll](BackendKind), and both keep this:
//!
//! - A connection is named by a [`Token`]. A token is never used twice: after [`Completion::Closed`],
//!   [`Completion::ConnectFailed`] or a call of `close`, no completion carries it and calls with it do nothing.
//! - The bytes of one connection come in order and none are lost while it lives, however few buffers are free.
//! - A connection can go from one back end to another of the same kind: what was received is told before
//!   [`Completion::HandedOut`], the rest is in the socket or comes along.
//! - Received bytes stay in the back end's buffer, a [`RecvBuf`], until that is dropped; dropping gives it back.
//! - `send` copies into a bounded outbox and never blocks. `wait` is the only call that may sleep.
//! - Nothing here reads a clock: `wait` is told how long it may sleep.
//!
//! [`probe`] says whether this machine lets a program use io_uring, and if not, what to do about it.

mod backend;
mod buffer;
mod epoll;
mod outbox;
mod probe;
mod socket;
mod uring;
mod waker;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;

use outbox::Outbox;

pub use backend::{Backend, BackendKind};
pub use buffer::RecvBuf;
pub use probe::{Features, ProbeError, probe};
pub use rustix::io::Errno;
pub(crate) use waker::pair as wake_pair;
pub use waker::{WakeSource, Waker};

#[cfg(test)]
pub(crate) use tests::on_both;

/// Completions handed out between two waits. What is left comes after the next, which does not sleep.
const COMPLETIONS_PER_TURN: usize = 1024;

/// How large a back end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Receive buffers; a power of two, at most 32768. Few and hot is fast: 64, which no receive
    /// found empty at 200 cameras.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_len: usize,
    /// Connections at one time, from 1.
    pub sockets_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { buffers: 64, buffer_len: 32 * 1024, sockets_max: 1024 }
    }
}

/// Why a back end could not be made: the step that failed, and what the kernel said.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// a size in [`Config`] is out of its range
    #[error("the number of buffers must be a power of two up to 32768, sockets at least one")]
    Config,
    /// `io_uring_setup(2)`
    #[error("the kernel gave no io_uring")]
    Ring(#[source] io::Error),
    /// `IORING_REGISTER_PBUF_RING`
    #[error("the kernel took no ring of receive buffers")]
    Buffers(#[source] io::Error),
    /// `epoll_create1(2)` or `epoll_ctl(2)`
    #[error("the kernel gave no epoll instance")]
    Epoll(#[source] Errno),
    /// `eventfd(2)`
    #[error("no eventfd to be woken by")]
    Waker(#[source] Errno),
}

/// Names one connection of one back end; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// Which slot, from 0. Slots are reused, so a table by index holds at most [`Config::sockets_max`] entries.
    pub index: u32,
    /// Which use of the slot.
    pub generation: u32,
}

/// Something happened.
#[derive(Debug)]
pub enum Completion {
    /// The connection is up; bytes may follow.
    Connected(Token),
    /// The connection did not come up. The token is dead.
    ConnectFailed(Token, ConnectError),
    /// Bytes came, at least one.
    Received(Token, RecvBuf),
    /// The connection ended from outside. The token is dead.
    Closed(Token, CloseReason),
    /// The connection was handed out, as [`Backend::hand_out`] asked. The token is dead.
    HandedOut(Token, Handover),
    /// Somebody called [`Waker::wake`].
    Woken,
}

impl Completion {
    /// Whether it is about this connection.
    fn is_of(&self, connection: Token) -> bool {
        match self {
            Self::Connected(token)
            | Self::ConnectFailed(token, _)
            | Self::Received(token, _)
            | Self::Closed(token, _)
            | Self::HandedOut(token, _) => *token == connection,
            Self::Woken => false,
        }
    }
}

/// A connection that no back end has: on its way to another thread's.
#[derive(Debug)]
pub struct Handover {
    socket: OwnedFd,
    /// What was to be sent and is not yet. No send is in flight.
    outbox: Outbox,
}

impl Handover {
    /// As [`Backend::send`]: to be sent by whoever takes the connection over.
    ///
    /// # Errors
    /// [`SendError::OutboxFull`]; none of `bytes` was taken.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.outbox.push(bytes)
    }
}

/// Why a connection did not come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// the host refused the connection
    #[error("the host refused the connection")]
    Refused,
    /// the host did not answer
    #[error("the host did not answer")]
    TimedOut,
    /// the network refused: no route, denied, reset while connecting
    #[error("the network refused: {0}")]
    Network(Errno),
    /// all of the back end's slots are taken
    #[error("all {sockets_max} sockets of this shard are in use")]
    SocketsExhausted {
        /// How many there are.
        sockets_max: u32,
    },
    /// the machine gave no socket
    #[error("no socket could be opened: {0}")]
    Socket(Errno),
}

impl ConnectError {
    /// What the kernel's answer to `connect(2)` means.
    const fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::CONNREFUSED => Self::Refused,
            Errno::TIMEDOUT => Self::TimedOut,
            other => Self::Network(other),
        }
    }
}

/// Why a connection ended, when we did not end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// the peer closed the connection
    #[error("the peer closed the connection")]
    Ended,
    /// the peer reset the connection
    #[error("the peer reset the connection")]
    Reset,
    /// the peer no longer acknowledges what was sent
    #[error("the peer no longer answers")]
    TimedOut,
    /// the connection broke
    #[error("the connection broke: {0}")]
    Broken(Errno),
}

impl CloseReason {
    /// What a failed receive or send means.
    const fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::CONNRESET | Errno::PIPE => Self::Reset,
            Errno::TIMEDOUT => Self::TimedOut,
            other => Self::Broken(other),
        }
    }
}

/// Why bytes were not taken for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// more would wait for the peer than [`OUTBOX_LEN_MAX`](crate::limits::OUTBOX_LEN_MAX)
    #[error("the peer does not read: {waiting} bytes wait to be sent")]
    OutboxFull {
        /// Bytes that wait already.
        waiting: usize,
    },
    /// the token is dead, or its connection is not up yet
    #[error("the connection is not open")]
    NotOpen,
}

/// Why waiting failed. The back end is beyond repair: a bug of ours, or the kernel is out of memory.
#[derive(Debug, thiserror::Error)]
#[error("waiting for the kernel failed")]
pub struct WaitError(#[source] pub io::Error);

/// What a back end has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of `wait`.
    pub turns: u64,
    /// Calls of `wait` that were allowed to sleep: each ended with a wake-up.
    pub sleeps: u64,
    /// System calls on the data path.
    pub enters: u64,
    /// Completions taken from the kernel, with those that concern nobody but the back end.
    pub completions: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Receives that found no free buffer. Their bytes stayed in the socket.
    pub out_of_buffers: u64,
    /// Receives armed again after they had ended for whatever reason; io_uring only.
    pub rearms: u64,
    /// Waiters that were woken without a system call of their own.
    pub wakes: u64,
    /// Wake-ups by a [`Waker`].
    pub wakeups: u64,
    /// Completions of an earlier use of their slot. Always 0, or the slot was reused too early.
    pub stale: u64,
}
