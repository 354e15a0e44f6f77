//! The one interface to the kernel that a shard sees, and the choice of what stands behind it.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::epoll::Epoll;
use super::uring::{INDEX_MAX, Uring};
use super::{
    Completion, Config, ConnectError, Counters, Handover, SendError, SetupError, Token, WaitError, Waker,
};

/// Which interface of the kernel carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// io_uring with multishot receive: the fewest system calls. Linux 6.1.
    Uring,
    /// epoll, for machines and containers that forbid io_uring.
    Epoll,
}

impl BackendKind {
    /// As on the command line, in the log and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A back end. Belongs to the thread that made it.
///
/// What each promises is said in the [module](super); where the two differ, it is said here.
#[derive(Debug)]
pub struct Backend(Kernel);

#[derive(Debug)]
enum Kernel {
    Uring(Box<Uring>),
    Epoll(Box<Epoll>),
}

/// Calls the same method of whichever it is.
macro_rules! either {
    ($backend:expr, $kernel:ident => $call:expr) => {
        match $backend {
            Kernel::Uring($kernel) => $call,
            Kernel::Epoll($kernel) => $call,
        }
    };
}

impl Backend {
    /// Makes a back end of this kind, its buffers and its table.
    ///
    /// # Errors
    /// [`SetupError`]; [`probe`](super::probe()) explains the usual ones.
    pub fn new(kind: BackendKind, config: Config) -> Result<Self, SetupError> {
        let Config { buffers, buffer_len, sockets_max } = config;
        let sizes = (1..=1 << 15).contains(&buffers) && buffers.is_power_of_two() && buffer_len > 0;
        if !sizes || !(1..=INDEX_MAX).contains(&sockets_max) {
            return Err(SetupError::Config);
        }
        Ok(Self(match kind {
            BackendKind::Uring => Kernel::Uring(Box::new(Uring::new(config)?)),
            BackendKind::Epoll => Kernel::Epoll(Box::new(Epoll::new(config)?)),
        }))
    }

    /// Wakes this back end's [`wait`](Self::wait) from any thread.
    pub fn waker(&self) -> Waker {
        either!(&self.0, kernel => kernel.waker())
    }

    /// What was done so far.
    pub fn counters(&self) -> Counters {
        either!(&self.0, kernel => kernel.counters())
    }

    /// Begins to connect to `peer`. [`Completion::Connected`] or [`Completion::ConnectFailed`] follows; the kernel
    /// gives up after 10 s.
    ///
    /// # Errors
    /// [`ConnectError::SocketsExhausted`] and [`ConnectError::Socket`]: nothing was begun.
    pub fn connect(&mut self, peer: SocketAddr) -> Result<Token, ConnectError> {
        either!(&mut self.0, kernel => kernel.connect(peer))
    }

    /// Takes a connected stream socket in, as if [`connect`](Self::connect) had made it. The socket must be in
    /// blocking mode, or io_uring's receives end when there is nothing to read.
    ///
    /// # Errors
    /// [`ConnectError::SocketsExhausted`] and [`ConnectError::Socket`]; the socket is closed.
    pub fn adopt(&mut self, socket: OwnedFd) -> Result<Token, ConnectError> {
        either!(&mut self.0, kernel => kernel.adopt(socket))
    }

    /// Copies `bytes` into the connection's outbox; they leave with the next [`wait`](Self::wait).
    ///
    /// # Errors
    /// [`SendError`]; none of `bytes` was taken.
    pub fn send(&mut self, token: Token, bytes: &[u8]) -> Result<(), SendError> {
        either!(&mut self.0, kernel => kernel.send(token, bytes))
    }

    /// Ends the connection. What is in the outbox leaves if the socket takes it at once. Nothing more is heard of
    /// the token.
    pub fn close(&mut self, token: Token) {
        either!(&mut self.0, kernel => kernel.close(token));
    }

    /// Gives the connection away. [`Completion::HandedOut`] follows behind all that was received, or
    /// [`Completion::Closed`] when it ended before.
    ///
    /// # Errors
    /// [`SendError::NotOpen`]: it is not up, or is being handed out already.
    pub fn hand_out(&mut self, token: Token) -> Result<(), SendError> {
        either!(&mut self.0, kernel => kernel.hand_out(token))
    }

    /// Takes over what another back end of this kind has handed out.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt).
    pub fn take_over(&mut self, handover: Handover) -> Result<Token, ConnectError> {
        let Handover { socket, mut outbox } = handover;
        let token = self.adopt(socket)?;
        let unsent = outbox.take();
        if !unsent.is_empty() {
            // The new outbox is empty and has the same limit.
            let _ = self.send(token, &unsent);
        }
        Ok(token)
    }

    /// Stops receiving; what the kernel has already taken from the socket still comes.
    pub fn pause(&mut self, token: Token) {
        either!(&mut self.0, kernel => kernel.pause(token));
    }

    /// Receives again, behind all others that wait for a buffer.
    pub fn resume(&mut self, token: Token) {
        either!(&mut self.0, kernel => kernel.resume(token));
    }

    /// Submits everything and sleeps until something happened or `timeout` has passed (`None`: no bound; zero: do
    /// not sleep). Call [`next_completion`](Self::next_completion) until `None` after it.
    ///
    /// `hold` above zero gathers: for so long, and `timeout` at most, it sleeps although something happened; after it, the first
    /// thing that happens ends the sleep. io_uring ends it early when half of the free buffers are full; epoll, which leaves the
    /// bytes in the sockets, does not. Rounded down to microseconds.
    ///
    /// # Errors
    /// [`WaitError`] when the back end is beyond repair.
    pub fn wait(&mut self, timeout: Option<Duration>, hold: Duration) -> Result<(), WaitError> {
        either!(&mut self.0, kernel => kernel.wait(timeout, hold))
    }

    /// Wakes one thread, of any process, that waits on the futex `word` (32 bits, not private): with the next
    /// [`wait`](Self::wait), which costs no system call of its own. False when this back end cannot, epoll for one.
    ///
    /// `word` is a name to the kernel and is not accessed.
    #[must_use]
    pub fn wake_waiter(&mut self, word: *const u32) -> bool {
        match &mut self.0 {
            Kernel::Uring(uring) => uring.wake_waiter(word),
            Kernel::Epoll(_) => false,
        }
    }

    /// The next thing that happened; `None` when all was told, or enough for one turn.
    pub fn next_completion(&mut self) -> Option<Completion> {
        either!(&mut self.0, kernel => kernel.next_completion())
    }

    /// What tests look at.
    #[cfg(test)]
    pub(super) fn inspect(&mut self) -> super::tests::Inside {
        either!(&mut self.0, kernel => kernel.inspect())
    }
}
