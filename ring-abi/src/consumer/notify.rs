//! The reader's end of a notify socket: a descriptor that becomes readable when there may be something new.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// There may be something new.
    Bell,
    /// The producer has gone.
    Gone,
    /// Nothing came.
    Not,
}

#[derive(Debug)]
pub(super) struct NotifyEnd {
    socket: OwnedFd,
}

impl NotifyEnd {
    pub(super) const fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Waits at most `nap`, then empties the socket. A signal ends the wait as a time-out does: the caller looks again.
    pub(super) fn wait(&self, nap: Duration) -> Woken {
        let nap = Timespec::try_from(nap).ok();
        let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN)];
        match poll(&mut fds, nap.as_ref()) {
            Ok(1..) => self.drain(),
            Ok(0) | Err(_) => Woken::Not,
        }
    }

    /// Empties the socket.
    pub(super) fn drain(&self) -> Woken {
        let mut woken = Woken::Not;
        let mut bytes = [0u8; 8];
        loop {
            match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((1.., _)) => woken = Woken::Bell,
                Ok((0, _)) => return Woken::Gone,
                Err(_) => return woken,
            }
        }
    }
}

impl AsFd for NotifyEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
